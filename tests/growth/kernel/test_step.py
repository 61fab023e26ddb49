"""Grown kernels compute what they did, whatever the padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_net2net.errors import RefusalError
from onnx_net2net.files import patch
from onnx_net2net.files.reader import read
from onnx_net2net.growth.kernel.step import KernelGrowth, grow_kernel
from onnx_net2net.growth.kernel.verb import GrowKernel
from onnx_net2net.inference.analysis import Analysis

RNG = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / np.prod(shape[1:]) ** 0.5).astype(np.float32)


def convolution(
    op: str = "Conv", kernel: int = 3, *, spatial: int = 2, group: int = 1, ir: int = 8,
    size: Any = 11, nodes: tuple[onnx.NodeProto, ...] = (), reads: str = "x", opset: int = 17,
    extra: tuple[TensorProto, ...] = (), **attributes: Any,
) -> onnx.ModelProto:  # fmt: skip
    """x [2, 4, size...] -> `nodes` -> conv -> y, 6 output channels."""
    shape = (4, 6 // group) if op == "ConvTranspose" else (6, 4 // group)
    weights = [
        numpy_helper.from_array(array(*shape, *[kernel] * spatial), "w"),
        numpy_helper.from_array(array(6), "b"),
        *extra,
    ]
    node = helper.make_node(op, [reads, "w", "b"], ["y"], name="conv", group=group, **attributes)
    sizes = [f"s{k}" if isinstance(size, str) else size for k in range(spatial)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4, *sizes])]
    if ir < 4:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in weights]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * (spatial + 2))
    graph = helper.make_graph([*nodes, node], "g", inputs, [output], weights)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def run(model: onnx.ModelProto, size: int, spatial: int) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = model.SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal((2, 4, *[size] * spatial)).astype(np.float32)
    return np.asarray(session.run(None, {"x": x})[0])


def grown(model: onnx.ModelProto, size: Any) -> tuple[onnx.ModelProto, KernelGrowth]:
    source = read(model)
    made = grow_kernel(Analysis(source), GrowKernel(node="conv", size=size))
    student = patch.apply(source, made.patch).to_proto()
    onnx.checker.check_model(student, full_check=True)
    return student, made


def assert_same(
    model: onnx.ModelProto, student: onnx.ModelProto, sizes: tuple[int, ...] = (11,),
    spatial: int = 2,
) -> None:  # fmt: skip
    for size in sizes:
        x, y = run(model, size, spatial), run(student, size, spatial)
        assert x.shape == y.shape
        # the sum has more terms, all of them zero, so its order may change
        np.testing.assert_allclose(x, y, rtol=0, atol=2e-6)


def node_of(model: onnx.ModelProto) -> dict[str, Any]:
    node = next(n for n in model.graph.node if n.name == "conv")
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def ring_of(model: onnx.ModelProto, name: str = "w") -> np.ndarray:
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


EXPLICIT = [
    {}, {"strides": [2, 2]}, {"dilations": [2, 2]}, {"pads": [1, 0, 2, 1]}, {"group": 2},
    {"strides": [2, 1], "dilations": [1, 2], "pads": [2, 2, 1, 1], "group": 2},
    {"auto_pad": "VALID"}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
]  # fmt: skip


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("size", [4, 5, 6, (3, 5), (4, 3)])
@pytest.mark.parametrize("attributes", EXPLICIT, ids=str)
def test_explicit_padding_grows_with_the_kernel(
    attributes: dict[str, Any], size: Any, op: str
) -> None:
    model = convolution(op, **attributes)
    student, made = grown(model, size)
    assert_same(model, student)
    new = (size, size) if isinstance(size, int) else size
    assert ring_of(student).shape[2:] == new == made.kernel[1]
    assert np.count_nonzero(ring_of(student)) == np.count_nonzero(ring_of(model))


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("opset", [9, 13, 17])
def test_ranks_and_opsets(opset: int, spatial: int) -> None:
    for op in ("Conv", "ConvTranspose"):
        model = convolution(op, 1, spatial=spatial, opset=opset, size=7)
        student, made = grown(model, 3)
        assert made.pads == (1,) * 2 * spatial
        assert_same(model, student, (7,), spatial)


def test_an_even_step_grows_at_the_end_only() -> None:
    student, made = grown(convolution(), 4)
    assert made.pads == (0, 0, 1, 1)
    assert not ring_of(student)[:, :, -1].any()
    assert ring_of(student)[:, :, 0].any()


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("more", [1, 2, 3])
def test_same_padding_at_fixed_and_open_sizes(
    more: int, kernel: int, stride: int, auto: str
) -> None:
    how = {"auto_pad": auto, "strides": [stride] * 2}
    for size in (10, 11):
        model = convolution(kernel=kernel, size=size, **how)
        assert_same(model, grown(model, kernel + more)[0], (size,))
    model = convolution(kernel=kernel, size="open", **how)
    if stride > 1 and (more % 2 or kernel < stride):  # the ring's place depends on the size
        with pytest.raises(RefusalError, match="size"):
            grown(model, kernel + more)
        return
    student, _ = grown(model, kernel + more)
    assert node_of(student)["auto_pad"].decode() == auto
    assert_same(model, student, (8, 9, 10, 11, 12, 13))


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", ["open", 7])
def test_same_padding_of_transposed_convolutions(
    size: Any, stride: int, kernel: int, auto: str
) -> None:
    model = convolution("ConvTranspose", kernel, size=size, auto_pad=auto, strides=[stride] * 2)
    for new in (kernel + 1, kernel + 2):
        student, _ = grown(model, new)
        assert_same(model, student, (7,) if size == 7 else (5, 6, 7))


def test_a_given_output_shape_is_written_as_pads() -> None:
    model = convolution("ConvTranspose", 3, size=7, strides=[2, 2], output_shape=[14, 13])
    student, _ = grown(model, 5)
    assert "output_shape" not in node_of(student)
    assert_same(model, student, (7,))
    with pytest.raises(RefusalError, match="size"):
        grown(convolution("ConvTranspose", 3, size="open", output_shape=[14, 13]), 5)


def pad_node(mode: str, pads: list[int], value: float = 0.0) -> tuple[Any, Any]:
    constants = (
        numpy_helper.from_array(np.array(pads, np.int64), "pads"),
        numpy_helper.from_array(np.array(value, np.float32), "value"),
    )
    inputs = ["x", "pads"] + (["value"] if mode == "constant" else [])
    return helper.make_node("Pad", inputs, ["p"], name="pad", mode=mode), constants


PADS = [0, 0, 1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("mode", "value"), [("constant", 0.0), ("constant", 2.0), ("reflect", 0.0), ("edge", 0.0)]
)
@pytest.mark.parametrize("size", [4, 5, 7])
def test_a_pad_in_front_grows_instead_where_it_pads_with_something(
    size: int, mode: str, value: float
) -> None:
    pad, constants = pad_node(mode, PADS, value)
    model = convolution(nodes=(pad,), extra=constants, reads="p")
    student, made = grown(model, size)
    assert_same(model, student)
    zeros = (mode, value) == ("constant", 0.0)
    assert any(made.pads or ()) == zeros
    read_pads = next(n.input[1] for n in student.graph.node if n.name == "pad")
    assert (read_pads == "pads") == zeros


def test_a_pad_that_cannot_grow_leaves_it_to_the_convolution() -> None:
    pad, constants = pad_node("reflect", PADS)
    model = convolution(nodes=(pad,), extra=constants, reads="p", size=4)
    student, made = grown(model, 9)
    assert made.warnings
    assert any(made.pads or ())
    assert_same(model, student, (4,))


def test_shared_weights_are_parted() -> None:
    twin = helper.make_node("Conv", ["x", "w"], ["t"], name="twin", pads=[1, 1, 1, 1])
    back = helper.make_node("Conv", ["t", "v"], ["p"], name="back")
    extra = (numpy_helper.from_array(array(4, 6, 1, 1), "v"),)
    model = convolution(nodes=(twin, back), extra=extra, reads="p", pads=[1, 1, 1, 1])
    student, made = grown(model, 5)
    assert made.parameters == ("w_grown",)
    assert ring_of(student, "w").shape[-1] == 3
    assert_same(model, student)


def test_weights_behind_identities_and_in_old_files() -> None:
    alias = helper.make_node("Identity", ["w"], ["alias"], name="alias")
    model = convolution(nodes=(alias,))
    model.graph.node[1].input[1] = "alias"
    student, made = grown(model, 5)
    assert made.parameters == ("w",)
    assert_same(model, student)
    old = convolution(ir=3, opset=9)
    student, _ = grown(old, 5)
    declared = next(i for i in student.graph.input if i.name == "w")
    assert [d.dim_value for d in declared.type.tensor_type.shape.dim] == [6, 4, 5, 5]
    assert_same(old, student)


def test_quantized_weights_get_their_zero_point() -> None:
    codes = numpy_helper.from_array(RNG.integers(0, 255, (6, 4, 3, 3)).astype(np.uint8), "q")
    scale = numpy_helper.from_array(np.array(0.01, np.float32), "scale")
    zero = numpy_helper.from_array(np.array(128, np.uint8), "zero")
    node = helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"], name="dq")
    model = convolution(nodes=(node,), extra=(codes, scale, zero))
    model.graph.node[1].input[1] = "dq"
    student, made = grown(model, 5)
    assert made.parameters == ("q",)
    assert (ring_of(student, "q")[:, :, 0] == 128).all()
    assert_same(model, student)


def test_what_cannot_grow() -> None:
    with pytest.raises(ValueError, match="larger"):
        grown(convolution(), 3)
    with pytest.raises(ValueError, match="larger"):
        grown(convolution(), (5, 2))
    with pytest.raises(ValueError, match="spatial"):
        grown(convolution(), (5, 5, 5))
    computed = helper.make_node("Add", ["w", "w"], ["w2"], name="add")
    model = convolution(nodes=(computed,))
    model.graph.node[1].input[1] = "w2"
    with pytest.raises(RefusalError, match="computed"):
        grown(model, 5)


def test_a_wrong_ring_would_be_seen() -> None:
    model = convolution()
    student, _ = grown(model, 5)
    for t in student.graph.initializer:
        if t.name == "w":
            t.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(t), 1, 2), "w"))
    with pytest.raises(AssertionError):
        assert_same(model, student)
