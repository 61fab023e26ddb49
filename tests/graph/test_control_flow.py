"""Widening through the bodies of If, Loop, Scan and SequenceMap."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnx_net2net as n2n
from onnx_net2net.files.reader import read
from onnx_net2net.graph.subgraphs import BOUNDARIES
from onnx_net2net.inference.analysis import Analysis
from support.same_function import MODELS, teacher
from support.text_models import EQUAL, RATIO, random, sizes, widened, written

SAMPLES = ["if_captured", "if_two_branches", "loop_state", "scan_rnn_cell"]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_layer_and_all_of_them_at_once(name: str) -> None:
    model = onnx.load(MODELS / f"{name}.onnx")
    report = n2n.inspect(model)
    assert {str(b.refusal.reason.value) for b in report.blocked} == {"graph output"}
    for space in report.spaces:
        for node in space.nodes:
            student = n2n.widen(model, node=node, ratio=RATIO, verify="certificate")
            onnx.checker.check_model(student, full_check=True)
            assert teacher(name).deviation(student) < EQUAL
    everything = n2n.plan(model, "everywhere", ratio=RATIO).apply(verify="certificate")
    assert teacher(name).deviation(everything) < EQUAL


def test_bodies_declare_the_new_sizes() -> None:
    model = onnx.load(MODELS / "loop_state.onnx")
    student = n2n.widen(model, node="start", ratio=RATIO)
    body = next(n for n in student.graph.node if n.op_type == "Loop").attribute[0].g
    infos = (*body.input, *body.output)
    declared = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in infos}
    assert declared["state"] == [0, 12]
    assert declared["held_weight"] == [12, 12]
    assert declared["/cell/Tanh_output_0"] == [0, 12]
    assert declared["/cell/Identity_1_output_0"] == [12, 12]
    assert sizes(student)["cell.weight"] == (12, 12)
    assert len(student.graph.initializer) == len(model.graph.initializer)


LOOPED = """g (float[N,4] x) => (float[N,3] y) {{
    h = MatMul (x, a)
    m = Constant <value = int64 {{3}}> ()
    last = Loop <body = b (int64 i, bool on, float[N,6] s) => (bool more, float[N,6] t) {{
        more = Identity (on)  p = MatMul (s, u)  {tail}
    }}> (m, , h)
    r = Relu (last)
    y = MatMul (r, c)
}}"""


def test_state_weights_read_from_outside() -> None:
    model = written(LOOPED.format(tail="t = Tanh (p)"), a=(4, 6), u=(6, 6), c=(6, 3))
    student = widened(model, "h", {"x": random(2, 4)})
    assert sizes(student) == {"a": (4, 9), "u": (9, 9), "c": (9, 3)}


def test_states_that_change_places_are_one_width() -> None:
    model = written(
        """g (float[N,4] x) => (float[N,3] y) {
        h = MatMul (x, a)  k = MatMul (x, b)
        m = Constant <value = int64 {3}> ()
        p, q = Loop <body = l (int64 i, bool on, float[N,6] s, float[N,6] t)
            => (bool more, float[N,6] v, float[N,6] w) {
            more = Identity (on)  v = Tanh (t)  w = Identity (s)
        }> (m, , h, k)
        y = MatMul (p, c)
        }""",
        a=(4, 6), b=(4, 6), c=(6, 3),
    )  # fmt: skip
    student = widened(model, "h", {"x": random(2, 4)})
    assert sizes(student) == {"a": (4, 9), "b": (4, 9), "c": (9, 3)}


def test_state_of_the_models_own_interface_is_refused() -> None:
    model = written(
        """g (float[N,4] x, float[N,6] s0) => (float[N,6] s1) {
        h = MatMul (x, a)
        m = Constant <value = int64 {3}> ()
        s1 = Loop <body = l (int64 i, bool on, float[N,6] s) => (bool more, float[N,6] t) {
            more = Identity (on)  p = MatMul (s, u)  q = Add (p, h)  t = Tanh (q)
        }> (m, , s0)
        }""",
        a=(4, 6), u=(6, 6),
    )  # fmt: skip
    with pytest.raises(n2n.RefusalError, match=r"graph (in|out)put at axis 1 of 's[01]'"):
        n2n.widen(model, node="h", ratio=RATIO)


def test_state_that_grows_while_it_runs_is_not_taken_for_constant() -> None:
    """Each turn doubles the rows."""
    model = written(
        """g (float[2,4] x) => (float[R,3] y) {
        h = MatMul (x, a)
        m = Constant <value = int64 {2}> ()
        last = Loop <body = l (int64 i, bool on, float[R,6] s) => (bool more, float[T,6] t) {
            more = Identity (on)  p = MatMul (s, u)  t = Concat <axis = 0> (p, s)
        }> (m, , h)
        y = MatMul (last, c)
        }""",
        a=(4, 6), u=(6, 6), c=(6, 3),
    )  # fmt: skip
    assert Analysis(read(model)).first.shapes["last"] == (None, 6)
    with pytest.raises(n2n.RefusalError, match="known only at run time"):
        n2n.widen(model, node="h", ratio=RATIO)


def test_state_whose_width_changes_is_refused() -> None:
    model = written(
        """g (float[N,4] x) => (float[N,1] y) {
        h = MatMul (x, a)
        m = Constant <value = int64 {2}> ()
        last = Loop <body = l (int64 i, bool on, float[N,C] s) => (bool more, float[N,D] t) {
            more = Identity (on)  t = Concat <axis = 1> (s, s)
        }> (m, , h)
        y = ReduceSum <keepdims = 1> (last, ax)
        }""",
        a=(4, 6), ax=np.array([1]),
    )  # fmt: skip
    with pytest.raises(n2n.RefusalError, match=r"works across this axis|unknown shape"):
        n2n.widen(model, node="h", ratio=RATIO)


@pytest.mark.parametrize("axes", [(0, 0), (1, 1), (2, -1)])
def test_scan_along_any_axis(axes: tuple[int, int]) -> None:
    shape = [2, 4]
    shape.insert(axes[0], 5)
    out = ["N", "3"]
    out.insert(axes[1] % 3, "T")
    model = written(
        f"""g (float[{",".join(map(str, shape))}] x) => (float[{",".join(out)}] y) {{
        z = ConstantOfShape (zs)
        last, every = Scan <num_scan_inputs = 1, scan_input_axes = [{axes[0]}],
            scan_output_axes = [{axes[1]}], body = l (float[2,6] s, float[2,4] v)
            => (float[2,6] t, float[2,3] w) {{
            p = MatMul (v, a)  q = MatMul (s, u)  r = Add (p, q)  t = Tanh (r)  w = MatMul (t, c)
        }}> (z, x)
        y = Relu (every)
        }}""",
        a=(4, 6), u=(6, 6), c=(6, 3), zs=np.array([2, 6]),
    )  # fmt: skip
    student = widened(model, "p", {"x": random(*shape)})
    assert sizes(student)["u"] == (9, 9)
    with pytest.raises(n2n.RefusalError, match="graph output"):
        n2n.widen(model, node="w", ratio=RATIO)


def test_scanned_channels_are_collected_and_read_again() -> None:
    model = written(
        """g (float[T,2,4] x) => (float[T,2,3] y) {
        h = MatMul (x, a)
        every = Scan <num_scan_inputs = 1, body = l (float[2,6] v) => (float[2,6] w) {
            w = Tanh (v)
        }> (h)
        y = MatMul (every, c)
        }""",
        a=(4, 6), c=(6, 3),
    )  # fmt: skip
    assert sizes(widened(model, "h", {"x": random(5, 2, 4)})) == {"a": (4, 9), "c": (9, 3)}


BRANCHED = """g (float[N,4] x, bool f) => (float[N,3] y) {{
    h = MatMul (x, a)
    o = If <then_branch = t () => (float[N,6] p) {{ p = Tanh (h) }},
            else_branch = e () => (float[N,6] q) {{ {other} }}> (f)
    y = MatMul (o, c)
}}"""


@pytest.mark.parametrize("truth", [True, False])
def test_both_branches_grow(truth: bool) -> None:
    model = written(BRANCHED.format(other="q = MatMul (x, b)"), a=(4, 6), b=(4, 6), c=(6, 3))
    student = widened(model, "h", {"x": random(2, 4), "f": np.array(truth)})
    assert sizes(student) == {"a": (4, 9), "b": (4, 9), "c": (9, 3)}


def test_a_branch_that_returns_a_size_pins_the_other() -> None:
    model = written(
        """g (float[N,4] x, bool f) => (float[N,3] y) {
        h = MatMul (x, a)
        o = If <then_branch = t () => (float[N,6] p) { p = Tanh (h) },
                else_branch = e () => (float[N,1] q) { q = ReduceMax <axes = [1]> (h) }> (f)
        k = Add (o, d)
        y = MatMul (k, c)
        }""",
        a=(4, 6), c=(6, 3), d=(6,),
    )  # fmt: skip
    with pytest.raises(n2n.RefusalError, match="works across this axis"):
        n2n.widen(model, node="h", ratio=RATIO)


def test_a_size_that_a_body_returns_is_refused() -> None:
    model = written(
        """g (float[N,4] x, bool f) => (float[N,3] y) {
        h = MatMul (x, a)
        s = If <then_branch = t () => (float k) {
                    z = Shape <start = 1, end = 2> (h)  w = Cast <to = 1> (z)  k = Squeeze (w) },
                else_branch = e () => (float j) { j = Constant <value = float {2.0}> () }> (f)
        y0 = MatMul (h, c)
        y = Div (y0, s)
        }""",
        a=(4, 6), c=(6, 3),
    )  # fmt: skip
    with pytest.raises(n2n.RefusalError, match="size computed at run time"):
        n2n.widen(model, node="h", ratio=RATIO)


def test_a_constant_that_a_body_returns_and_others_read() -> None:
    model = written(
        """g (float[N,4] x, bool f) => (float[N,3] y) {
        o = If <then_branch = t () => (float[1,6] z) {
                    z = Constant <value = float[1,6] {1,2,3,4,5,6}> () },
                else_branch = e () => (float[1,6] k) {
                    k = Constant <value = float[1,6] {6,5,4,3,2,1}> () }> (f)
        h = MatMul (x, a)
        q = Mul (h, o)
        y = MatMul (q, c)
        }""",
        a=(4, 6), c=(6, 3),
    )  # fmt: skip
    widened(model, "h", {"x": random(2, 4), "f": np.array(True)})


def test_a_branch_that_never_runs_does_not_bind() -> None:
    """As torch writes squeeze: the branch depends on a size that never varies."""
    model = written(
        """g (float[N,4] x) => (float[N,3] y) {
        h = MatMul (x, a)
        u = Unsqueeze (h, one)
        s = Shape (u)
        d = Gather (s, k)
        f = Equal (d, n)
        o = If <then_branch = t () => (float[N,6] p) { p = Squeeze (u, one) },
                else_branch = e () => (float[N,1,6] q) { q = Identity (u) }> (f)
        y = MatMul (o, c)
        }""",
        a=(4, 6), c=(6, 3), one=np.array([1]), k=np.array(1), n=np.array(1),
    )  # fmt: skip
    widened(model, "h", {"x": random(2, 4)})


def test_sequence_map() -> None:
    model = written(
        """g (float[N,4] x) => (float[N,3] y) {
        h = MatMul (x, a)  k = MatMul (x, b)
        s = SequenceConstruct (h, k)
        t = SequenceMap <body = l (float[N,6] v) => (float[N,6] w) { w = Tanh (v) }> (s)
        i = Constant <value = int64 {1}> ()
        e = SequenceAt (t, i)
        y = MatMul (e, c)
        }""",
        a=(4, 6), b=(4, 6), c=(6, 3),
    )  # fmt: skip
    student = widened(model, "k", {"x": random(2, 4)}, verify="auto")
    assert sizes(student) == {"a": (4, 9), "b": (4, 9), "c": (9, 3)}
    assert set(BOUNDARIES) == {"If", "Loop", "Scan", "SequenceMap"}  # all tried in this file


@pytest.mark.parametrize("name", ["loop_state", "scan_rnn_cell"])
def test_the_certificate_sees_a_wrong_weight_in_a_body(name: str) -> None:
    model = onnx.load(MODELS / f"{name}.onnx")
    student = n2n.plan(model, "everywhere", ratio=RATIO).apply(verify="off")
    assert n2n.verify(model, student).equivalent
    weight = next(t for t in student.graph.initializer if list(t.dims) == [12, 12])
    array = numpy_helper.to_array(weight).copy()
    array[3, 5] += 0.25
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    verdict = n2n.verify(model, student)
    assert not verdict.equivalent
    assert next(v for v in verdict.layers if v.name == "certificate").status.value != "passed"
