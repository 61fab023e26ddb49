"""Where inserted layers stand, what refuses them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_net2net import keyed_random
from onnx_net2net.coupling import closure
from onnx_net2net.errors import AmbiguousError, RefusalError
from onnx_net2net.files import patch
from onnx_net2net.files.reader import read
from onnx_net2net.growth.deepen.step import deepen
from onnx_net2net.growth.deepen.verb import Deepen
from onnx_net2net.growth.widen import planner, rewrite
from onnx_net2net.growth.widen.scheme import Scheme
from onnx_net2net.growth.widen.units import Units
from onnx_net2net.inference.analysis import Analysis
from support.inserted_layers import array, deepened, run, same, written
from tools.coverage.models import cases, fill, skeleton

SHARED = Path(__file__).parents[4] / "shared"


BRANCHES = written(
    """g (float[2,3,8,8] x) => (float[2,4,8,8] left, float[2,4,8,8] right) {
        [conv] h = Conv <kernel_shape = [3,3], pads = [1,1,1,1]> (x, "conv.weight")
        n = BatchNormalization (h, "bn.weight", "bn.bias", "bn.mean", "bn.var")
        a = Relu (n)
        [one] left = Conv (a, "one.weight")
        [two] t = Conv (a, "two.weight")
        [sum] right = Add (t, a)
    }""",
    **{"conv.weight": array(4, 3, 3, 3), "one.weight": array(4, 4, 1, 1),
       "two.weight": array(4, 4, 1, 1), "bn.weight": array(4), "bn.bias": array(4),
       "bn.mean": array(4), "bn.var": np.abs(array(4)) + 1},
)  # fmt: skip
X = {"x": array(2, 3, 8, 8)}


def inputs_of(model: onnx.ModelProto, node: str) -> list[str]:
    return list(next(n for n in model.graph.node if n.name == node).input)


def test_a_layer_means_behind_its_normalization_and_activation() -> None:
    for name in ("conv", "conv.weight"):
        student, made = deepened(BRANCHES, after=name)
        assert made.placed.tensor == "a"
        assert len(made.placed.passed) == 2
        same(BRANCHES, student, X)


def test_a_tensor_means_literally_there() -> None:
    student, made = deepened(BRANCHES, after="h")
    assert made.placed.tensor == "h"
    assert made.placed.passed == ()
    same(BRANCHES, student, X)


def test_all_readers_are_fed_or_the_one_that_is_named() -> None:
    student, made = deepened(BRANCHES, after="a")
    assert set(made.placed.readers) == {"one", "two", "sum"}
    assert inputs_of(student, "one")[0] == inputs_of(student, "two")[0] != "a"
    same(BRANCHES, student, X)
    student, made = deepened(BRANCHES, after="a", only_into="two")
    assert made.placed.readers == ("two",)
    assert inputs_of(student, "one")[0] == "a" != inputs_of(student, "two")[0]
    same(BRANCHES, student, X)
    with pytest.raises(AmbiguousError):
        deepened(BRANCHES, after="a", only_into="conv")


def test_graph_outputs_keep_their_names() -> None:
    for name in ("left", "right"):
        for kind in ("linear", "residual"):
            student, made = deepened(BRANCHES, after=name, kind=kind, count=2)
            assert made.placed.output
            same(BRANCHES, student, X)
            makers = [n.name for n in student.graph.node if name in n.output]
            assert makers == [made.nodes[-1]]


def test_an_output_that_is_also_read_inside() -> None:
    model = written(
        "g (float[2,4] x) => (float[2,4] a, float[2,4] y) {"
        " h = Gemm (x, w) a = Relu (h) [last] y = Gemm (a, v) }",
        w=array(4, 4), v=array(4, 4),
    )  # fmt: skip
    feed = {"x": array(2, 4)}
    student, made = deepened(model, after="a")
    same(model, student, feed)
    assert inputs_of(student, "last")[0] == "a"
    student, made = deepened(model, after="a", only_into="last")
    same(model, student, feed)
    assert not made.placed.output
    assert inputs_of(student, "last")[0] != "a"


def test_before_the_first_layer_and_before_any_other() -> None:
    for how in ({"before": "conv"}, {"before": "x"}, {"after": "x"}):
        student, made = deepened(BRANCHES, **how)
        placed = made.placed
        assert (placed.tensor, placed.producer, placed.channels) == ("x", "", 3)
        same(BRANCHES, student, X)
    assert deepened(BRANCHES, before="one")[1].placed.tensor == "a"
    with pytest.raises(AmbiguousError) as several:
        deepened(BRANCHES, before="sum")
    assert several.value.candidates == ("t", "a")


CONTROL = written(
    """g (float[2,4] x, bool c, int64 n) => (float[2,4] y, float[2,4] z) {
        h = MatMul (x, w)
        a = Relu (h)
        y = If (c) <then_branch = t () => (float[2,4] p) { q = MatMul (a, w) p = Relu (q) },
                    else_branch = e () => (float[2,4] r) { r = Add (a, a) }>
        z = Loop (n, c, x) <body = b (int64 i, bool go, float[2,4] s)
                => (bool go2, float[2,4] s3) {
            go2 = Identity (go) s2 = MatMul (s, w) s3 = Relu (s2) }>
    }""",
    w=array(4, 4),
)
CONTROL_FEED = {"x": array(2, 4), "n": np.array(2)}


@pytest.mark.parametrize("truth", [True, False])
def test_readers_inside_branches_are_fed_and_branches_hold_layers(truth: bool) -> None:
    feed = {**CONTROL_FEED, "c": np.array(truth)}
    for name in ("a", "h", "y"):
        same(CONTROL, deepened(CONTROL, after=name)[0], feed)
    inner = next(
        n.outputs[0] for n in Analysis(read(CONTROL)).model.nodes if n.scope and n.op == "Relu"
    )
    for kind in ("auto", "linear"):
        same(CONTROL, deepened(CONTROL, after=inner, kind=kind)[0], feed)


def test_loops_refuse() -> None:
    inner = [
        n.outputs[0]
        for n in Analysis(read(CONTROL)).model.nodes
        if "Loop" in n.scope or "z." in n.scope
    ]
    assert inner
    with pytest.raises(RefusalError, match="repeatedly"):
        deepened(CONTROL, after=inner[-1])


def test_what_is_no_float_or_has_no_channels_refuses() -> None:
    model = written(
        "g (int64[2,4] i, float[2,3] u, float[3,2] v) => (float[2,4,6] y, float[2,2] z) {"
        " y = Gather (w, i) z = MatMul (u, v) }",
        w=array(9, 6),
    )
    with pytest.raises(RefusalError, match="not floats"):
        deepened(model, after="i")
    with pytest.raises(RefusalError, match="no channel axis"):
        deepened(model, after="z")
    assert deepened(model, after="y")[1].placed.axis == 2
    with pytest.raises(ValueError, match="one of"):
        deepened(model)


def test_transposed_and_odd_axes() -> None:
    model = written(
        "g (float[2,5,3,4] x) => (float[5,2,3,6] y) {"
        " h = MatMul (x, w) a = Relu (h) b = Transpose <perm = [0,3,2,1]> (a)"
        " c = Transpose <perm = [3,0,2,1]> (b) y = Tanh (c) }",
        w=array(4, 6),
    )
    feed = {"x": array(2, 5, 3, 4)}
    for name, axis in (("a", 3), ("b", 1), ("c", 3)):
        for kind in ("linear", "residual", "pair"):
            for kernel in (1, 2):
                how = {"after": name, "kind": kind, "kernel": kernel, "activation": None}
                student, made = deepened(model, **how)
                assert made.placed.axis == axis
                same(model, student, feed)


@pytest.mark.parametrize("kind", ["linear", "residual"])
def test_weights_tell_the_axis_where_no_shape_is_known(kind: str) -> None:
    scaler = helper.make_node(
        "Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[0.5] * 4, scale=[2.0] * 4
    )
    layers = [
        helper.make_node("MatMul", ["s", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("MatMul", ["a", "v"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(array(4, 6), "w"), numpy_helper.from_array(array(6, 3), "v")]
    graph = helper.make_graph([scaler, *layers], "g", [x], [y], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    source = read(model)
    for name, size in (("s", 4), ("h", 6), ("a", 6), ("y", 3)):
        made = deepen(Analysis(source), Deepen(after=name, kind=kind))
        assert made.placed.channels == size
        assert made.placed.axis in (-1, 1)
        same(model, patch.apply(source, made.patch).to_proto(), {"x": array(2, 4)})


def test_a_squeeze_without_axes_may_change_the_rank() -> None:
    model = written(
        "g (float[n,4,1] x) => (float[m,k] y) {"
        " h = MatMul (w, x) s = Squeeze (h) a = Relu (s) y = MatMul (a, v) }",
        w=array(4, 4), v=array(4, 3),
    )  # fmt: skip
    model.graph.output[0].type.tensor_type.ClearField("shape")
    source = read(model)
    for kind in ("linear", "residual", "auto"):
        made = deepen(Analysis(source), Deepen(after="a", kind=kind))
        student = patch.apply(source, made.patch).to_proto()
        for batch in (1, 3):
            same(model, student, {"x": array(batch, 4, 1)})


STREAM = written(
    """g (float[2,5,8] x) => (float[2,5,8] y, float[2,5,8] z) {
        n = LayerNormalization <axis = -1> (x, "norm.weight", "norm.bias")
        [up] h = MatMul (n, "up.weight")
        hb = Add (h, "up.bias")
        a = Sigmoid (hb)
        s = Mul (a, hb)
        [down] d = MatMul (s, "down.weight")
        db = Add (d, "down.bias")
        y = Add (x, db)
        z = Relu (y)
    }""",
    **{"norm.weight": array(8), "norm.bias": array(8), "up.weight": array(8, 16),
       "up.bias": array(16), "down.weight": array(16, 8), "down.bias": array(8)},
)  # fmt: skip


def test_a_pre_norm_block_is_copied_with_silent_projections() -> None:
    student, made = deepened(STREAM, after="y", kind="residual")
    same(STREAM, student, {"x": array(2, 5, 8)})
    assert "copy of the block" in made.why
    arrays = {t.name: numpy_helper.to_array(t) for t in student.graph.initializer}
    silent = {n for n in made.parameters if not arrays[n].any()}
    assert silent == {n for n in made.parameters if "down" in n}
    assert len(silent) == 2
    copies = {n: arrays[n] for n in made.parameters if "up" in n or "norm" in n}
    for name, values in copies.items():
        np.testing.assert_array_equal(values, arrays[name.replace("_deeper", "")])
    # asked for something else, it is the plain block
    assert "copy" not in deepened(STREAM, after="y", kind="residual", inner=4)[1].why


MIXED = written(
    """g (float[2,3,8,8] x) => (float[2,5] y) {
        [c1] h1 = Conv <kernel_shape = [3,3], pads = [1,1,1,1]> (x, w1)
        a1 = Relu (h1)
        [c2] h2 = Conv <kernel_shape = [3,3], pads = [1,1,1,1]> (a1, w2)
        s = Add (h2, a1)
        a2 = Relu (s)
        p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (a2)
        f = Flatten (p)
        [d1] h3 = Gemm (f, w3)
        a3 = Sigmoid (h3)
        [d2] y = Gemm (a3, w4)
    }""",
    w1=array(4, 3, 3, 3), w2=array(4, 4, 3, 3), w3=array(64, 7), w4=array(7, 5),
)  # fmt: skip


def test_channels_are_nearer_than_the_columns_that_a_flatten_mixes_with_them() -> None:
    for name in ("a2", "p"):
        assert deepened(MIXED, after=name)[1].placed.axis == 1
    assert deepened(MIXED, after="f")[1].placed.channels == 64


def test_a_layers_bias_belongs_to_it() -> None:
    model = written(
        "g (float[2,3,4] x) => (float[2,3,6] y) {"
        " [fc] h = MatMul (x, w) b = Add (h, v) a = Relu (b) y = Tanh (a) }",
        w=array(4, 6), v=array(6),
    )  # fmt: skip
    assert deepened(model, after="fc")[1].placed.tensor == "a"
    assert deepened(model, after="h")[1].placed.tensor == "h"


@pytest.mark.parametrize("seed", range(6))
def test_random_sequences_of_widening_and_deepening_stay_equivalent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    student, grown = MIXED, 0
    for step in range(10):
        source = read(student)
        analysis = Analysis(source)
        if step % 2:
            layers = analysis.layers()
            axis = analysis.output_axis(layers[rng.integers(len(layers))])
            try:
                space = closure.close(analysis, [axis])
                count = int(rng.integers(1, 3))
                units = Units.copies(keyed_random.below(space.size, count, seed, step))
                plan = planner.grow(analysis, space, units)
            except RefusalError:
                continue
            edits = rewrite.patch_of(analysis, plan, Scheme("zero-sum", seed))[0]
        else:
            places = [
                n.outputs[0] for n in analysis.model.nodes if n.op in ("Relu", "Conv", "Gemm")
            ]
            kind = str(rng.choice(["auto", "linear", "residual", "pair"]))
            how = {"activation": "Relu"} if kind == "pair" else {}
            place = places[rng.integers(len(places))]
            edits = deepen(analysis, Deepen(after=place, kind=kind, seed=step, **how)).patch
        student = patch.apply(source, edits).to_proto()
        onnx.checker.check_model(student, full_check=True)
        grown += 1
    assert grown >= 6
    (x,), (y,) = run(MIXED, X), run(student, X)
    assert np.abs(x - y).max() <= 1e-5 * np.abs(x).max()


@pytest.mark.skipif(not (SHARED / "zoo").exists(), reason="no models beside the checkout")
@pytest.mark.parametrize(
    "name", ["hf_llama__dyn18", "hand_cnn_bn__ts17qdq", "hand_ctrl_loop__ts17"]
)
def test_places_in_models_of_the_zoo(name: str) -> None:
    case = next(c for c in cases([SHARED / "zoo"]) if c.name == name)
    model = skeleton(case)
    fill(case, model)
    analysis = Analysis(read(model))
    layers = [n for n in analysis.layers() if not n.scope][:3]
    for node in layers:
        made = deepen(analysis, Deepen(after=node.outputs[0], kind="linear"))
        student = patch.apply(analysis.source, made.patch).to_proto()
        onnx.checker.check_model(student)
        assert made.preserving
