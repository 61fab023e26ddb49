"""Which axes grow together, in which classes, and what stops them."""

from __future__ import annotations

import onnx
import pytest

from onnx_net2net.coupling.catalogue import layer_space
from onnx_net2net.coupling.closure import close
from onnx_net2net.coupling.lookup import find
from onnx_net2net.coupling.space import Space
from onnx_net2net.errors import Reason, Refusal, RefusalError
from onnx_net2net.files.reader import read
from onnx_net2net.inference.analysis import Analysis
from support.same_function import MODELS
from tools.samples.graph_builder import Net


def analysed(model: onnx.ModelProto | str) -> Analysis:
    """A graph, or a file of models/ by name."""
    return Analysis(read(str(MODELS / f"{model}.onnx") if isinstance(model, str) else model))


def space(analysis: Analysis, layer: str) -> Space:
    return layer_space(analysis, find(analysis, layer))[0]


def refusal(analysis: Analysis, layer: str) -> Refusal:
    with pytest.raises(RefusalError) as found:
        layer_space(analysis, find(analysis, layer))
    return found.value.refusal


def classes(s: Space) -> dict[str, list[int]]:
    """Constant and dimension -> the class of each position; uses of one constant agree."""
    found: dict[str, list[int]] = {}
    for (tensor, use, dim), labels in sorted(s.labels.items(), key=str):
        if use is not None:
            said = found.setdefault(f"{tensor}:{dim}", labels.tolist())
            assert said == labels.tolist()
    return found


def net(*, opset: int = 18) -> tuple[Net, str]:
    n = Net("g", opset=opset)
    return n, n.conv(n.input("x", "N", 3, 8, 8), "a", 3, 6)


def test_a_chain() -> None:
    n, y = net()
    s = space(analysed(n.head(n.conv(n.op("Relu", y), "b", 6, 4), 4).model()), "a")
    six = list(range(6))
    assert classes(s) == {"a.bias:0": six, "a.weight:0": six, "b.weight:1": six}
    assert (s.size, s.uniform, s.choices) == (6, None, [])


def test_a_residual_stage_is_one_width() -> None:
    n, y = net()
    z = n.op("Add", y, n.conv(n.op("Relu", y), "b", 6, 6))
    z = n.op("Add", z, n.conv(z, "c", 6, 6))
    a = analysed(n.head(z, 6).model())
    assert classes(space(a, "a")) == classes(space(a, "c")) == classes(space(a, "b"))
    assert set(classes(space(a, "a"))) == {
        "a.weight:0", "a.bias:0", "b.weight:0", "b.weight:1", "b.bias:0", "c.weight:0",
        "c.weight:1", "c.bias:0", "fc.weight:1",
    }  # fmt: skip


def test_concat_keeps_branches_apart() -> None:
    n, y = net()
    z = n.op("Concat", n.conv(y, "b", 6, 4), n.conv(y, "c", 6, 5), axis=1)
    a = analysed(n.head(z, 9).model())
    no = [-1]
    assert classes(space(a, "b"))["fc.weight:1"] == [0, 1, 2, 3] + no * 5
    assert classes(space(a, "c"))["fc.weight:1"] == no * 4 + [0, 1, 2, 3, 4]


def test_c2f() -> None:
    """Split in halves, one half goes on, all is joined: halves are spaces of their own."""
    n, y = net()
    left, right = n.op("Split", y, n.const("halves", [3, 3]), n=2, axis=1)
    z = n.op("Concat", left, right, n.op("Add", right, n.conv(right, "b", 3, 3)), axis=1)
    a = analysed(n.head(z, 9).model())
    assert classes(space(a, "b")) == {
        "a.weight:0": [-1, -1, -1, 0, 1, 2], "a.bias:0": [-1, -1, -1, 0, 1, 2],
        "b.weight:0": [0, 1, 2], "b.weight:1": [0, 1, 2], "b.bias:0": [0, 1, 2],
        "fc.weight:1": [-1, -1, -1, 0, 1, 2, 0, 1, 2],
    }  # fmt: skip
    assert space(a, "a").size == 6


def test_grouped_convolutions_grow_inside_their_groups() -> None:
    n, y = net()
    a = analysed(n.head(n.conv(y, "b", 6, 4, group=2), 4).model())
    first, second = space(a, "a"), space(a, "b")
    assert classes(first) == {
        "a.weight:0": [0, 1, 2] * 2, "a.bias:0": [0, 1, 2] * 2, "b.weight:1": [0, 1, 2],
    }  # fmt: skip
    assert classes(second)["b.weight:0"] == [0, 1, 0, 1]
    assert first.choices == second.choices == ["/b/Conv"]


def test_depthwise_convolutions_pass_channels_on() -> None:
    n, y = net()
    a = analysed(n.head(n.conv(y, "b", 6, 12, group=6), 12).model())
    s = space(a, "a")
    assert classes(s)["b.weight:0"] == [c for c in range(6) for _ in range(2)]
    assert classes(s)["fc.weight:1"] == classes(s)["b.weight:0"]
    assert "b.weight:1" not in classes(s)


def test_flatten_repeats_a_class_over_its_pixels() -> None:
    n, y = net()
    y = n.gemm(n.op("Flatten", n.conv(y, "b", 6, 2)), "fc", 128, 5)
    s = space(analysed(n.output("y", y, "N", 5).model()), "b")
    assert classes(s)["fc.weight:1"] == [0] * 64 + [1] * 64


def test_a_gate_grows_with_what_it_gates() -> None:
    a = analysed("squeeze_excite")
    s = space(a, "stem")
    assert {"se1.fc2.weight:0", "se1.fc1.weight:1", "conv2.weight:1"} <= set(classes(s))
    assert set(classes(space(a, "se1.fc1"))) == {
        "se1.fc1.weight:0", "se1.fc1.bias:0", "se1.fc2.weight:1",
    }  # fmt: skip


def test_a_channel_shuffle_ties_what_it_mixes() -> None:
    a = analysed("channel_shuffle")
    assert [space(a, n).size for n in ("stem", "grouped1", "grouped2", "mix")] == [4, 1, 2, 8]


def test_shared_weights_are_seen_apart() -> None:
    a = analysed("siamese")
    s = space(a, "/conv1/Conv")
    uses = {use for tensor, use, _ in s.labels if tensor == "conv1.weight"}
    assert len(uses) == 1
    joined = space(a, "/embed/Gemm")
    assert len({use for tensor, use, _ in joined.labels if tensor == "embed.weight"}) == 2


def test_a_weight_fed_back_to_itself_grows_on_both_axes() -> None:
    s = space(analysed("recurrent_conv"), "stem")
    assert classes(s)["cell.weight:0"] == classes(s)["cell.weight:1"] == list(range(8))


def test_a_tied_weight_grows_where_each_use_has_the_axis() -> None:
    assert classes(space(analysed("mlp_tied_transpose"), "encoder")) == {
        "encoder.weight:0": list(range(18)), "encoder.bias:0": list(range(18)),
    }  # fmt: skip


def test_a_norm_asks_for_equal_counts() -> None:
    uniform = space(analysed("transformer_block"), "ff2").uniform
    assert uniform is not None
    assert uniform.endswith("LayerNormalization")


def test_several_seeds_make_one_space() -> None:
    n, y = net()
    z = n.op("Concat", n.conv(y, "b", 6, 4), n.conv(y, "c", 6, 5), axis=1)
    a = analysed(n.head(z, 9).model())
    s = close(a, [("/b/Conv_output_0", 1), ("/c/Conv_output_0", 1)])
    assert isinstance(s, Space)
    assert classes(s)["fc.weight:1"] == list(range(9))


def _hardmax(n: Net, y: str) -> onnx.ModelProto:
    return n.head(n.op("Hardmax", y, axis=1), 6).model()


def _top(n: Net, y: str) -> onnx.ModelProto:
    values, _ = n.op("TopK", y, n.const("k", [3]), n=2, axis=1)
    return n.head(values, 3).model()


def _unknown(n: Net, y: str) -> onnx.ModelProto:
    n.nodes.append(onnx.helper.make_node("Twist", [y], ["t"], name="/twist", domain="mine"))
    n.nodes.append(onnx.helper.make_node("Relu", ["t"], ["u"]))
    model = n.head("u", 6).model()
    model.opset_import.append(onnx.helper.make_opsetid("mine", 1))
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("t", 1, ["N", 6, 8, 8]))
    return model


def _output(n: Net, y: str) -> onnx.ModelProto:
    return n.output("y", y, "N", 6, 8, 8).model()


def _input(n: Net, y: str) -> onnx.ModelProto:
    y = n.op("Add", y, n.input("z", "N", 6, 8, 8))
    return n.head(y, 6).model()


def _runtime(n: Net, y: str) -> onnx.ModelProto:
    index = n.input("index", "K", kind=onnx.TensorProto.INT64)
    return n.output("y", n.op("Gather", y, index, axis=1), "N", "K", 8, 8).model()


def _broadcast(n: Net, y: str) -> onnx.ModelProto:
    one = n.conv(y, "one", 6, 1)
    return n.head(n.op("Mul", y, one), 6).model()


@pytest.mark.parametrize(
    ("make", "layer", "reason", "at", "words"),
    [
        (_hardmax, "a", Reason.ACROSS, "/Hardmax", "works across this axis at axis 1"),
        (_top, "a", Reason.ACROSS, "/TopK", "(TopK)"),
        (_unknown, "a", Reason.NO_RULE, "/twist", "no rule for operator at axis 1"),
        (_output, "a", Reason.GRAPH_OUTPUT, "y", "graph output at axis 1 of 'y'"),
        (_input, "a", Reason.GRAPH_INPUT, "z", "graph input at axis 1 of 'z'"),
        (_runtime, "a", Reason.ACROSS, "/Gather", "works across this axis"),
        (_broadcast, "one", Reason.BROADCAST, "/Mul", "axis is broadcast"),
    ],
)
def test_refusals(make: object, layer: str, reason: Reason, at: str, words: str) -> None:
    n, y = net()
    assert callable(make)
    r = refusal(analysed(make(n, y)), layer)
    assert (r.reason, r.node) == (reason, at)
    assert words in str(r)
    assert r.axis is not None
    assert r.hint


def test_an_axis_that_follows_the_input_is_refused() -> None:
    n, y = net()
    a = analysed(n.head(y, 6).model())
    with pytest.raises(RefusalError, match="follows the input"):
        close(a, [("x", 0)])
