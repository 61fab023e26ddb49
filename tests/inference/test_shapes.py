"""Shapes and values without weights, against onnx's own inference of the whole model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnx_net2net.errors import ModelError
from onnx_net2net.files.reader import read
from onnx_net2net.graph.model import Model
from onnx_net2net.inference import onnx_inference
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.inference.input_sizes import declared_of
from onnx_net2net.inference.onnx_inference import shape_of, tensor_type
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.verification.sides import Side
from support.same_function import MODELS, NAMES, session
from tools.samples.graph_builder import Net


def analysed(name: str) -> Analysis:
    return Analysis(read(str(MODELS / f"{name}.onnx")))


def bound(name: str, facts: Facts) -> onnx.ModelProto:
    """The model with the input sizes of a probe, and nothing declared inside."""
    model = onnx.load(MODELS / f"{name}.onnx")
    del model.graph.value_info[:]
    held = {t.name for t in model.graph.initializer}
    for info in model.graph.input:
        if info.name not in held:
            kind = info.type.tensor_type.elem_type
            info.type.CopyFrom(tensor_type(kind, facts.shapes[info.name]))
    for info in model.graph.output:
        info.type.tensor_type.ClearField("shape")
    return model


@pytest.mark.parametrize("name", [n for n in NAMES if n != "unsorted_nodes"])
def test_as_onnx_infers_them(name: str) -> None:
    checked = 0
    for facts in analysed(name).facts:
        inferred = onnx.shape_inference.infer_shapes(bound(name, facts), data_prop=True)
        for info in (*inferred.graph.value_info, *inferred.graph.output):
            theirs, ours = shape_of(info.type), facts.shapes[info.name]
            if theirs is not None and None not in theirs:
                assert ours == theirs, info.name
                assert facts.dtype(info.name) == info.type.tensor_type.elem_type
                checked += 1
    assert checked >= 2


@pytest.mark.parametrize("name", NAMES)
def test_every_shape_is_known_and_no_node_fails(name: str) -> None:
    analysis = analysed(name)
    for facts in analysis.facts:
        assert not facts.failed
        for node in analysis.model.nodes:
            for tensor in filter(None, node.outputs):
                shape = facts.shapes[tensor]
                assert shape is not None, tensor
                assert None not in shape, tensor


@pytest.mark.parametrize("name", ["computed_shapes", "unet", "nhwc_tf", "conv3d", "matmul_right"])
def test_as_onnxruntime_computes_them(name: str) -> None:
    """Every inner tensor's shape and every folded value, at the first probe's sizes."""
    facts = analysed(name).first
    model = bound(name, facts)
    wanted = [o for n in model.graph.node for o in n.output if o and n.op_type != "Constant"]
    kept = {o.name for o in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(o) for o in wanted if o not in kept
    )
    run = session(model)
    feed = {
        i.name: np.random.default_rng(0).standard_normal(i.shape).astype(np.float32)
        for i in run.get_inputs()
    }
    names = [o.name for o in run.get_outputs()]
    for tensor, array in zip(names, run.run(names, feed), strict=True):
        assert facts.shapes[tensor] == array.shape, tensor
        if tensor in facts.values:
            np.testing.assert_allclose(facts.values[tensor], array, rtol=1e-6)
            assert facts.values[tensor].dtype == array.dtype


def test_two_probes_tell_what_varies() -> None:
    first, second = analysed("computed_shapes").facts
    assert first.shapes["x"] != second.shapes["x"]
    fixed = analysed("fixed_batch").facts
    assert fixed[0].shapes == fixed[1].shapes


def test_symbols_of_one_name_get_one_size() -> None:
    net = Net("g")
    a, b = net.input("a", "N", "T", 4), net.input("b", "N", "T", 4)
    facts = Analysis(read(net.output("y", net.op("Add", a, b), "N", "T", 4).model())).facts
    for f in facts:
        assert f.shapes["a"] == f.shapes["b"]
        assert (f.shapes["a"] or ())[2] == 4


def test_expressions_of_symbols() -> None:
    net = Net("g")
    past, new = net.input("past", "N", "P", 4), net.input("new", "N", "S", 4)
    mask = net.input("mask", "N", "P + S", 4)
    joined = net.op("Concat", past, new, axis=1)
    model = net.output("y", net.op("Mul", joined, mask), "N", "P + S", 4).model()
    for f in Analysis(read(model)).facts:
        assert not f.failed
        assert f.shapes["/Mul_output_0"] == f.shapes["mask"]


def unshaped() -> onnx.ModelProto:
    net = Net("g")
    model = net.head(net.conv(net.input("x", "N", 3, "H", "W"), "a", 3, 4), 4).model()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    return model


def test_sizes_that_the_user_gives() -> None:
    facts = Analysis(read(unshaped()), {"x": (1, 3, 20, 30)}).facts
    assert (
        facts[0].shapes["/a/Conv_output_0"] == facts[1].shapes["/a/Conv_output_0"] == (1, 4, 20, 30)
    )


def test_an_input_without_a_shape_asks_for_one() -> None:
    with pytest.raises(ModelError, match="--shape x="):
        _ = Analysis(read(unshaped())).facts
    with pytest.raises(ValueError, match="no input 'z'"):
        _ = Analysis(read(unshaped()), {"z": (1, 3, 8, 8)}).facts


def resized(*factors: float) -> onnx.ModelProto:
    """A Resize for each factor, side by side, and two normalizations with other weights."""
    net = Net("g", opset=17)
    x = net.input("x", 1, 3, 8, 8)
    for k, f in enumerate(factors):
        scales = net.const(f"scales{k}", [1.0, 1.0, f, f], np.float32)
        net.output(f"y{k}", net.op("Resize", x, "", scales), 1, 3, int(8 * f), int(8 * f))
    for k in range(2):
        weights = [net.draw(f"bn{k}.{n}", 3, low=0.5, high=1.0) for n in "wbmv"]
        net.output(f"n{k}", net.op("BatchNormalization", x, *weights), 1, 3, 8, 8)
    return net.model()


def test_values_of_floats_count_where_they_say_a_size() -> None:
    facts = Analysis(read(resized(2.0, 3.0))).first
    assert [facts.shapes[f"y{k}"] for k in range(2)] == [(1, 3, 16, 16), (1, 3, 24, 24)]


def test_nodes_that_differ_in_weights_are_asked_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = onnx.shape_inference.infer_node_outputs

    def counted(schema: onnx.defs.OpSchema, *rest: object, **more: object) -> object:
        asked.append(schema.name)
        return ask(schema, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(onnx.shape_inference, "infer_node_outputs", counted)
    onnx_inference._forget()
    assert Analysis(read(resized(2.0, 3.0))).facts
    assert asked.count("BatchNormalization") == 1
    assert asked.count("Resize") == 3  # without the factors, and with each


def test_a_model_that_was_read_is_indexed_once() -> None:
    source = read(str(MODELS / "digits_cnn.onnx"))
    one, two = Analysis(source), Analysis(source)
    assert one.model is two.model is Side.of(source).model
    assert one.facts is two.facts
    assert Analysis(source, {"images": (3, 1, 8, 8)}).facts is not one.facts


@pytest.mark.parametrize(
    ("node", "weights", "fixed"),
    [
        ("Conv", [(5, 2, 3)], ("N", 4, None)),
        ("Gemm", [(7, 5)], ("N", 7)),
        ("MatMul", [(7, 5)], ("N", 7)),
        ("LSTM", [(1, 16, 6), (1, 16, 4)], ("N", "M", 6)),
        ("Add", [(5,)], ("N", "M")),
    ],
)
def test_sizes_that_the_weights_fix(
    node: str, weights: list[tuple[int, ...]], fixed: tuple[int | str | None, ...]
) -> None:
    """Where an index is summed over a weight; what broadcasts may be 1 as well."""
    net = Net(node)
    dims = {2: ("N", "M"), 3: ("N", "M", None)}[len(fixed)]
    x = net.input("x", *dims)
    attributes = {"Conv": {"group": 2}, "LSTM": {"hidden_size": 4}}.get(node, {})
    held = [net.draw(f"w{k}", *shape) for k, shape in enumerate(weights)]
    source = read(net.output("y", net.op(node, net.op("Relu", x), *held, **attributes)).model())
    assert declared_of(source, Model(source.proto)) == {"x": fixed}
