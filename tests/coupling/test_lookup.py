"""Finding the layer that a name means."""

from __future__ import annotations

import pytest

from onnx_net2net.coupling.lookup import find, nearest, words
from onnx_net2net.errors import AmbiguousError
from onnx_net2net.files.reader import read
from onnx_net2net.inference.analysis import Analysis
from support.same_function import MODELS
from tools.samples.graph_builder import Net


def analysed(name: str) -> Analysis:
    return Analysis(read(str(MODELS / f"{name}.onnx")))


RESIDUAL = analysed("residual_stage")


@pytest.mark.parametrize(
    "name",
    [
        "/stem/conv/Conv", "/stem/conv/Conv_output_0", "stem.conv.weight", "stem/conv", "stem.conv",
        "stem", "/stem/conv",
    ],
)  # fmt: skip
def test_ways_to_name_a_layer(name: str) -> None:
    assert find(RESIDUAL, name).name == "/stem/conv/Conv"


def test_other_nodes_by_their_exact_name() -> None:
    node = next(n for n in RESIDUAL.model.nodes if n.op == "Relu")
    assert find(RESIDUAL, node.name) is node
    assert find(RESIDUAL, node.outputs[0]) is node
    bn = next(n for n in RESIDUAL.model.nodes if n.op == "BatchNormalization")
    assert find(RESIDUAL, bn.proto.input[1]) is bn


def test_a_part_that_several_have() -> None:
    with pytest.raises(AmbiguousError, match="'layer1' fits 4 layers") as caught:
        find(RESIDUAL, "layer1")
    assert "/layer1/0/a/conv/Conv" in caught.value.candidates
    assert len(caught.value.candidates) == 4
    assert isinstance(caught.value, ValueError)


def test_a_mistyped_name_gets_the_nearest() -> None:
    with pytest.raises(AmbiguousError, match=r"did you mean .*/stem/conv/Conv") as caught:
        find(RESIDUAL, "/stem/konv/Conv")
    assert caught.value.candidates[0] == "/stem/conv/Conv"


@pytest.mark.parametrize("name", ["", "/", "no such thing at all"])
def test_names_that_fit_nothing(name: str) -> None:
    with pytest.raises(AmbiguousError, match="is named"):
        find(RESIDUAL, name)


def test_parts_are_whole_words() -> None:
    with pytest.raises(AmbiguousError):
        find(RESIDUAL, "ste")


def test_a_module_of_that_name_comes_before_deeper_ones() -> None:
    net = Net("g")
    y = net.conv(net.input("x", "N", 3, 8, 8), "conv1", 3, 4)
    model = net.head(net.conv(y, "layer1.0.conv1", 4, 4), 4).model()
    assert find(Analysis(read(model)), "conv1").name == "/conv1/Conv"


def test_a_layer_comes_before_another_that_shares_its_weight() -> None:
    tied = analysed("mlp_tied_transpose")
    assert find(tied, "encoder").name == "/encoder/Gemm"
    assert find(tied, "decoder").name == "/decoder/Gemm"
    with pytest.raises(AmbiguousError) as caught:
        find(tied, "encoder.weight")
    assert caught.value.candidates == ("/encoder/Gemm", "/decoder/Gemm")


def test_nodes_without_names_go_by_their_outputs() -> None:
    bare = analysed("unnamed_nodes")
    layer = bare.layers()[0]
    assert find(bare, layer.outputs[0]) is layer
    assert find(bare, layer.inputs[1]) is layer


def test_odd_names_are_found_as_they_are() -> None:
    odd = analysed("odd_names")
    for node in odd.layers():
        assert find(odd, node.name) is node
        assert find(odd, node.outputs[0]) is node


def test_weights_behind_other_nodes_name_their_reader() -> None:
    behind = analysed("weights_behind_nodes")
    for node in behind.layers():
        leaf = node.inputs[1]
        while leaf in behind.model.producer:
            leaf = behind.model.producer[leaf].inputs[0]
        assert find(behind, leaf) is node


def test_two_nodes_of_one_name() -> None:
    net = Net("g")
    y = net.conv(net.input("x", "N", 3, 8, 8), "a", 3, 4)
    model = net.head(net.conv(y, "b", 4, 4), 4).model()
    for node in model.graph.node[:2]:
        node.name = "same"
    with pytest.raises(AmbiguousError, match="2 nodes are named 'same'") as caught:
        find(Analysis(read(model)), "same")
    assert caught.value.candidates == ("/a/Conv_output_0", "/b/Conv_output_0")


def test_words_and_nearest() -> None:
    assert words("/layer1/layer1.0/conv1/Conv:0") == ("layer1", "layer1", "0", "conv1", "Conv", "0")
    assert nearest("con1", ["conv1", "fc", "conv1"])[0] == "conv1"
    assert nearest("zz", ["conv1"]) == []
