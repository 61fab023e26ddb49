"""The walk that says which output axes are a model's own interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tools.coverage.interface_walk import InterfaceWalk
from tools.coverage.onnx_reading import Constants, shapes_of
from tools.coverage.weight_nodes import weight_nodes
from tools.samples.graph_builder import Net

FOLDER = Path(__file__).resolve().parents[2] / "models"


def interface_of(model: onnx.ModelProto, size: int = 8) -> dict[str, bool]:
    """Weight-bearing node -> is its output axis interface?"""
    feed = {}
    for info in model.graph.input:
        dims = [d.dim_value or size for d in info.type.tensor_type.shape.dim]
        feed[info.name] = np.zeros([2 if d.dim_param == "N" else n for d, n in _zip(info, dims)])
    walk = InterfaceWalk(model, shapes_of(model, feed))
    nodes = weight_nodes(model, Constants(model))
    return {n.name: walk.is_interface(n.output, n.axis) for n in nodes}


def _zip(info: onnx.ValueInfoProto, dims: list[int]) -> list[tuple]:
    return list(zip(info.type.tensor_type.shape.dim, dims, strict=True))


# What a person says of each file; a name is enough of the node's name to know it.
ANSWERS = {
    "mlp_gemm": {"fc5"},
    "mlp_tied_transpose": {"decoder"},
    "matmul_right": {"fc2"},
    "matmul_left": {"mix2"},
    "gemm_weight_left": {"fc2"},
    "conv_depthwise": {"fc/"},
    "conv_transpose": {"to_rgb"},
    "channel_shuffle": {"fc/"},
    "unet": {"head"},
    "channel_split": {"fc/"},
    "nhwc_tf": {"MatMul_1"},
    "computed_shapes": {"fc/"},
    "expand_tile": {"fc/"},
    "siamese": {"score"},
    "recurrent_conv": {"fc/"},
    "residual_stage": {"fc/"},
    "dense_block": {"fc/"},
    "two_outputs": {"/conv2/", "fc/"},
    "if_captured": {"fc/"},
    "weights_behind_nodes": {"fc/"},
    "concat_zeros": {"fc/"},
    "channel_pad": {"fc/"},
    "depth_to_space": {"fc/"},
    "squeeze_excite": {"fc/"},
    "pools_and_reduces": {"fc/"},
    "transformer_block": {"head"},
    "digits_cnn": {"/fc/"},
}


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_sample_models(name: str) -> None:
    found = interface_of(onnx.load(FOLDER / f"{name}.onnx"), size=16)
    wrong = {
        node: said for node, said in found.items() if said != any(k in node for k in ANSWERS[name])
    }
    assert len(found) > 1
    assert not wrong


def test_sum_with_a_graph_input_is_interface() -> None:
    net = Net("onto_input")
    x = net.input("x", "N", 6, "H", "W")
    h = net.op("Relu", net.conv(x, "conv1", 6, 9))
    h = net.op("Add", x, net.conv(h, "conv2", 9, 6))
    found = interface_of(net.head(h, 6).model())
    assert found == {"/conv1/Conv": False, "/conv2/Conv": True, "/fc/Gemm": True}


def test_concat_with_a_graph_input_ties_no_neighbour() -> None:
    net = Net("beside_input")
    x = net.input("x", "N", 3, "H", "W")
    h = net.op("Concat", net.conv(x, "conv1", 3, 5), x, axis=1)
    found = interface_of(net.head(net.conv(h, "conv2", 8, 6), 6).model())
    assert found == {"/conv1/Conv": False, "/conv2/Conv": False, "/fc/Gemm": True}


def test_a_tie_goes_back_through_an_add_to_another_output() -> None:
    net = Net("side")
    x = net.input("x", "N", 3, "H", "W")
    a, b = net.conv(x, "conv_a", 3, 6), net.conv(x, "conv_b", 3, 6)
    net.output("side", b, "N", 6, "H", "W")
    found = interface_of(net.head(net.op("Add", a, net.op("Relu", b)), 6).model())
    assert found == {"/conv_a/Conv": True, "/conv_b/Conv": True, "/fc/Gemm": True}


def test_split_off_half_is_interface_and_so_is_the_layer() -> None:
    net = Net("halves")
    x = net.input("x", "N", 4, "H", "W")
    a, b = net.op("Split", net.conv(x, "conv", 4, 8), net.const("sizes", [3, 5]), n=2, axis=1)
    net.output("half", b, "N", 5, "H", "W")
    found = interface_of(net.head(net.conv(a, "after", 3, 6), 6).model())
    assert found == {"/conv/Conv": True, "/after/Conv": False, "/fc/Gemm": True}


def test_index_of_the_largest_shows_the_axis() -> None:
    net = Net("argmax")
    x = net.input("x", "N", 4)
    h = net.op("Relu", net.gemm(x, "fc1", 4, 7))
    y = net.op("ArgMax", net.gemm(h, "fc2", 7, 5), axis=1, keepdims=0)
    net.output("label", y, "N", kind=onnx.TensorProto.INT64)
    assert interface_of(net.model()) == {"/fc1/Gemm": False, "/fc2/Gemm": True}


def test_one_output_squeezed_away() -> None:
    net = Net("score")
    h = net.op("Tanh", net.gemm(net.input("x", "N", 4), "fc1", 4, 7))
    y = net.op("Squeeze", net.gemm(h, "fc2", 7, 1), net.const("last", [1]))
    net.output("score", y, "N")
    assert interface_of(net.model()) == {"/fc1/Gemm": False, "/fc2/Gemm": True}
