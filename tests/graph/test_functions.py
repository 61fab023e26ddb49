"""Widening through local functions: seen once for each call, told apart where calls differ."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

import onnx_net2net as n2n
from onnx_net2net.files.reader import read
from onnx_net2net.graph.model import Model
from onnx_net2net.inference.analysis import Analysis
from support.same_function import MODELS, teacher
from support.text_models import EQUAL, RATIO, deviation, random, sizes, widened, written

OPSETS = '<domain: "l", opset_import: ["" : 17, "l" : 1]>'


def calls(model: onnx.ModelProto) -> Counter[str]:
    return Counter(n.op_type for n in model.graph.node)


def names(model: onnx.ModelProto) -> list[str]:
    return [f.name for f in model.functions]


def test_every_layer_of_the_sample() -> None:
    model = onnx.load(MODELS / "function_calls.onnx")
    report = n2n.inspect(model)
    layers = [n for s in report.spaces for n in s.nodes]
    assert layers == [
        "/block1/block/conv",
        "/mix1/mixed/mix",
        "/mix2/mixed/mix",
        "/block2/block/conv",
    ]
    for node in layers:
        student = n2n.widen(model, node=node, ratio=RATIO, verify="certificate")
        onnx.checker.check_model(student, full_check=True)
        assert teacher("function_calls").deviation(student) < EQUAL
    everything = n2n.plan(model, "everywhere", ratio=RATIO).apply(verify="certificate")
    assert teacher("function_calls").deviation(everything) < EQUAL


def test_weights_passed_in_leave_the_functions_as_they_are() -> None:
    """As PyTorch's exporter writes them: elementwise bodies, weights as inputs."""
    model = written(
        f"""g (float[N,4] x) => (float[N,3] y) {{
        h = l.linear (x, a, b)
        k = l.act (h)
        y = l.linear (k, c, d)
        }}
        {OPSETS} linear (u, w, v) => (o) {{ p = MatMul (u, w)  o = Add (p, v) }}
        {OPSETS} act (u) => (o) {{ t = Sigmoid (u)  o = Mul (t, u) }}""",
        a=(4, 6), b=(6,), c=(6, 3), d=(3,),
    )  # fmt: skip
    student = widened(model, "h", {"x": random(2, 4)})
    assert sizes(student) == {"a": (4, 9), "b": (9,), "c": (9, 3), "d": (3,)}
    assert student.functions == model.functions
    assert student.graph.node == model.graph.node


def shared(readers: str) -> onnx.ModelProto:
    """A function that owns a weight, called as the text says."""
    return written(
        f"""g (float[N,4] x) => (float[N,3] y) {{
        h = MatMul (x, a)
        {readers}
        }}
        {OPSETS} own (u) => (o) {{
            w = Constant <value = float[3,1] {{1.0, -2.0, 0.5}}> ()
            t = Transpose <perm = [1, 0]> (w)
            s = Tile (t, r)  o = Mul (u, s)
        }}""".replace("s = Tile (t, r)  o = Mul (u, s)", "o = Mul (u, t)"),
        a=(4, 3), c=(3, 3),
    )  # fmt: skip


def test_one_call_alone_is_edited_in_its_place() -> None:
    model = shared("k = l.own (h)  y = MatMul (k, c)")
    student = widened(model, "h", {"x": random(2, 4)})
    assert names(student) == ["own"]
    assert student.graph.node == model.graph.node
    assert student.functions != model.functions


def test_calls_that_change_alike_share_the_function() -> None:
    model = shared("k = l.own (h)  j = Relu (k)  i = l.own (j)  y = MatMul (i, c)")
    student = widened(model, "h", {"x": random(2, 4)})
    assert names(student) == ["own"]
    assert calls(student)["own"] == 2


def test_a_call_that_stays_keeps_the_function() -> None:
    model = shared("k = l.own (h)  i = MatMul (k, c)  y = l.own (i)")
    student = widened(model, "h", {"x": random(2, 4)})
    assert names(student) == ["own", "own_grown"]
    assert calls(student)["own"] == calls(student)["own_grown"] == 1
    assert student.functions[0] == model.functions[0]
    again = widened(student, "h", {"x": random(2, 4)})
    assert calls(again)["own_grown"] == 1


def test_nested_calls_and_attributes() -> None:
    model = written(
        """g (float[N,4] x) => (float[N,3] y) {
        h = MatMul (x, a)
        k = l.outer <s = 0.25> (h)
        j = MatMul (k, b)
        i = l.outer (j)
        y = MatMul (i, c)
        }
        <domain: "l", opset_import: ["" : 17, "l" : 1]> outer <s: float = 0.5> (u) => (o) {
            p = l.inner <s: float = @s> (u)  m = Constant <value = float[6] {1,2,3,4,5,6}> ()
            o = Add (p, m)
        }
        <domain: "l", opset_import: ["" : 17, "l" : 1]> inner <s> (u) => (o) {
            k = Constant <value_floats = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]> ()
            q = Mul (u, k)  o = LeakyRelu <alpha: float = @s> (q)
        }""",
        a=(4, 6), b=(6, 6), c=(6, 3),
    )  # fmt: skip
    for node in ("h", "j"):
        student = widened(model, node, {"x": random(2, 4)})
        assert len(student.functions) == 4
    both = n2n.plan(model, "everywhere", ratio=RATIO).apply(verify="certificate")
    assert deviation(model, both, {"x": random(2, 4)}) < EQUAL
    onnx.checker.check_model(both, full_check=True)


def test_calls_inside_bodies_and_bodies_inside_functions() -> None:
    model = written(
        f"""g (float[N,4] x, bool f) => (float[N,3] y) {{
        h = MatMul (x, a)
        o = If <then_branch = t () => (float[N,6] p) {{ p = l.pick (f, h) }},
                else_branch = e () => (float[N,6] q) {{ q = Tanh (h) }}> (f)
        y = MatMul (o, c)
        }}
        {OPSETS} pick (g, u) => (o) {{
            o = If <then_branch = t () => (p) {{
                        k = Constant <value = float[6] {{1,2,3,4,5,6}}> ()  p = Mul (u, k) }},
                    else_branch = e () => (q) {{ q = Relu (u) }}> (g)
        }}""",
        a=(4, 6), c=(6, 3),
    )  # fmt: skip
    for truth in (True, False):
        student = widened(model, "h", {"x": random(2, 4), "f": np.array(truth)})
        assert names(student) == ["pick"]


def test_a_size_written_in_a_function() -> None:
    """A Reshape whose literal is in the body: rewritten there, or beside it for one call."""
    model = written(
        f"""g (float[N,4] x) => (float[N,3] y) {{
        h = MatMul (x, a)
        k = l.fold (h)
        j = MatMul (k, b)
        i = l.fold (j)
        y = MatMul (i, c)
        }}
        {OPSETS} fold (u) => (o) {{
            s = Constant <value = int64[3] {{0, 2, 3}}> ()  p = Reshape (u, s)  r = Relu (p)
            t = Constant <value = int64[2] {{0, 6}}> ()  o = Reshape (r, t)
        }}""",
        a=(4, 6), b=(6, 6), c=(6, 3),
    )  # fmt: skip
    student: onnx.ModelProto = n2n.widen(model, node="h", width=8, verify="certificate")
    assert names(student) == ["fold", "fold_grown"]
    assert deviation(model, student, {"x": random(2, 4)}) < EQUAL


def test_a_mul_that_divides_is_put_inside() -> None:
    """q.k has no weight to divide: a factor goes in front, in the function of that call."""
    model = written(
        f"""g (float[N,4] x) => (float[N,N] y, float[N,N] z) {{
        q = MatMul (x, a)  k = MatMul (x, b)  y = l.scores (q, k)
        z = l.scores (x, x)
        }}
        {OPSETS} scores (q, k) => (o) {{
            t = Transpose <perm = [1, 0]> (k)  a = Abs (t)  o = MatMul (q, a)
        }}""",
        a=(4, 6), b=(4, 6),
    )  # fmt: skip
    student: onnx.ModelProto = n2n.widen(model, node="q", ratio=RATIO, verify="auto")
    onnx.checker.check_model(student, full_check=True)
    assert names(student) == ["scores", "scores_grown"]
    assert deviation(model, student, {"x": random(2, 4)}) < EQUAL
    assert all(t.name in {"a", "b"} for t in student.graph.initializer)


def test_nodes_in_functions_have_names_that_find_them() -> None:
    model = onnx.load(MODELS / "function_calls.onnx")
    analysis = Analysis(read(model))
    from onnx_net2net.coupling.lookup import find

    assert find(analysis, "/block1/block/conv").name == "/block1/block/conv"
    assert find(analysis, "block2.weight").name == "/block2/block/conv"
    assert find(analysis, "/block2/block").name == "/block2/block/conv"
    with pytest.raises(n2n.AmbiguousError):
        find(analysis, "mix")


def test_declared_shapes_in_a_function_do_not_go_stale() -> None:
    model = written(
        f"""g (float[N,4] x) => (float[N,3] y) {{
        h = MatMul (x, a)  k = l.act (h)  y = MatMul (k, c)
        }}
        {OPSETS} act (u) => (o) {{ t = Sigmoid (u)  o = Mul (t, u) }}""",
        a=(4, 6), c=(6, 3),
    )  # fmt: skip
    model.ir_version = 10
    info = onnx.helper.make_tensor_value_info("t", 1, ["N", 6])
    model.functions[0].value_info.append(info)
    student = widened(model, "h", {"x": random(2, 4)})
    assert not student.functions[0].value_info


def test_layers_go_between_calls_but_not_into_functions() -> None:
    model = onnx.load(MODELS / "function_calls.onnx")
    tensor = next(n.output[0] for n in model.graph.node if n.op_type == "act")
    student = n2n.deepen(model, after=tensor)
    onnx.checker.check_model(student, full_check=True)
    assert teacher("function_calls").deviation(student) < EQUAL
    inner = next(
        n.outputs[0] for n in Model(model).nodes if n.called and n.name == "/block1/block/conv"
    )
    with pytest.raises(n2n.RefusalError, match="inside a function"):
        n2n.deepen(model, after=inner)


def test_kernels_of_functions_grow_for_the_call() -> None:
    model = onnx.load(MODELS / "function_calls.onnx")
    student = n2n.grow_kernel(model, node="/block1/block/conv", size=5)
    onnx.checker.check_model(student, full_check=True)
    assert teacher("function_calls").deviation(student) < EQUAL
    assert calls(student)["block"] == 1
