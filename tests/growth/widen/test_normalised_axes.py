"""Normalised streams at any width: pads of means or zeros, and where there can be none."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

import onnx_net2net as n2n
from onnx_net2net.checkpoint.edits import literals
from onnx_net2net.errors import RefusalError
from onnx_net2net.growth.record import steps_of
from support.command_line import Workplace, call, work
from support.normed_streams import WIDTH, arrays, stream
from support.same_function import MODELS, Teacher, teacher
from tools.samples.graph_builder import Net

__all__ = ["work"]  # a fixture
WIDTHS = (WIDTH + 3, 2 * WIDTH + 5)
STREAMS = {"transformer_block": "embed", "prenorm_layernorm": "stem", "prenorm_rms": "embed"}


def grown(model: Any, node: str, **how: Any) -> onnx.ModelProto:
    found = n2n.widen(model, node=node, verify="off", **how)
    assert isinstance(found, onnx.ModelProto)
    return found


def held(model: onnx.ModelProto, op: str, attribute: str) -> list[float]:
    nodes = [n for n in model.graph.node if n.op_type == op]
    return [a.f for n in nodes for a in n.attribute if a.name == attribute]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("norm", ["LayerNormalization", "RMSNormalization"])
def test_a_fused_norm_allows_for_its_pads(norm: str, width: int) -> None:
    model = stream(norm)
    student = grown(model, "stem", width=width)
    assert Teacher(model).deviation(student) < 1e-6
    part = width // WIDTH * WIDTH / width
    assert held(student, norm, "epsilon") == pytest.approx([1e-3 * part] * 2, rel=1e-6)
    before, after = arrays(model), arrays(student)
    scale = after["norm1.weight"][:WIDTH] / before["norm1.weight"]
    assert scale == pytest.approx(np.sqrt(part), rel=1e-6)
    pads = after["stem.weight"][:, width // WIDTH * WIDTH :]
    mean = before["stem.weight"].mean(1, keepdims=True) if norm[0] == "L" else 0 * pads
    assert np.allclose(pads, mean, atol=1e-7)
    if norm[0] == "L":
        assert not after["norm1.bias"][width // WIDTH * WIDTH :].any()
    assert after["ff1.weight"][width // WIDTH * WIDTH :].all()  # it meets zeros, and can train


@pytest.mark.parametrize("width", [15, 29])
@pytest.mark.parametrize("name", STREAMS)
def test_files_at_any_width(name: str, width: int) -> None:
    student = grown(str(MODELS / f"{name}.onnx"), STREAMS[name], width=width + 4)
    assert teacher(name).deviation(student) < 1e-6


def test_one_average_in_steps_is_multiplied() -> None:
    student = grown(str(MODELS / "prenorm_layernorm.onnx"), "stem", width=18)
    added = [n for n in student.graph.node if "rescaled" in n.name]
    assert [n.op_type for n in added] == ["Mul", "Mul"]  # of squares, not the mean itself
    assert [float(v) for k, v in arrays(student).items() if "_pads" in k] == [1.5, 1.5]


def test_a_tied_embedding_stays_tied() -> None:
    student = grown(str(MODELS / "prenorm_rms.onnx"), "embed", width=17)
    assert arrays(student)["embed.weight"].shape == (20, 17)
    readers = [n.op_type for n in student.graph.node if "embed.weight" in n.input]
    assert readers == ["Gather", "Transpose"]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_other_types(dtype: Any) -> None:
    model = stream(dtype=dtype)
    student = grown(model, "stem", width=19)
    precision = float(ml_dtypes.finfo(dtype).eps)
    assert Teacher(model).deviation(student) < 8 * precision
    verdict = n2n.verify(model, student, layers="certificate")
    assert verdict, str(verdict)


@pytest.mark.parametrize("norm", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize("again", [17, 33])
def test_what_was_padded_grows_again(norm: str, again: int) -> None:
    model = stream(norm)
    once = grown(model, "stem", width=15)
    twice = grown(once, "stem", width=again)
    assert n2n.verify(once, twice, layers="certificate")
    assert n2n.verify(model, twice, layers="certificate")


def test_a_stream_without_a_last_norm_is_read_with_zeros() -> None:
    model = stream(last=False)
    student = grown(model, "stem", width=15)
    assert not arrays(student)["head.weight"][WIDTH:].any()
    assert n2n.verify(model, student, layers="certificate")


def test_an_epsilon_in_float32_is_not_exact_in_float64() -> None:
    model = stream(dtype=np.float64)
    with pytest.raises(RefusalError, match="not exact among float64"):
        grown(model, "stem", width=19)
    student = grown(model, "stem", ratio=1.55)
    assert arrays(student)["stem.weight"].shape == (6, 24)


class TestWholeMultiplesOnly:
    """Where a norm stands behind the sum its output would have to be a mean and zero at once."""

    def test_another_width_is_refused_with_the_reason(self) -> None:
        with pytest.raises(ValueError, match=r"width 15; the nearest is 24 \('.*norm.*': "):
            grown(stream(post=True), "stem", width=15)

    def test_a_ratio_falls_back(self) -> None:
        model = stream(post=True)
        student = grown(model, "stem", ratio=1.2)
        assert arrays(student)["stem.weight"].shape == (6, 24)
        assert n2n.verify(model, student, layers="certificate")

    @pytest.mark.parametrize("between", ["Relu", "Exp", "Tanh"])
    def test_what_is_not_linear_between(self, between: str) -> None:
        with pytest.raises(ValueError, match=f"{between}.*; only whole multiples"):
            grown(stream(between=between), "stem", width=15)

    def test_an_rms_norm_needs_zeros_only(self) -> None:
        model = stream("RMSNormalization", between="Relu")
        student = grown(model, "stem", width=15)
        assert n2n.verify(model, student, layers="certificate")

    def test_the_command_line(self, work: Workplace) -> None:
        onnx.save(stream(post=True), work.folder / "post.onnx")
        ran = call("widen", "post.onnx", "--node", "stem", "--width", "15")
        assert ran.code == 2
        assert "the nearest is 24" in ran.err

    def test_inspect(self) -> None:
        (plain, *_) = n2n.inspect(stream()).spaces
        (post, *_) = n2n.inspect(stream(post=True)).spaces
        assert (plain.step, plain.uniform) == (1, None)
        assert post.step == WIDTH
        assert post.uniform is not None


def test_several_spaces_at_once() -> None:
    model = stream()
    steps = [{"node": "stem", "width": 16}, {"node": "ff1", "width": 23}]
    student = n2n.plan(model, steps).apply(verify="off")
    assert n2n.verify(model, student, layers="certificate")


def test_the_same_bytes_again() -> None:
    first, second = (grown(stream(), "stem", width=15).SerializeToString() for _ in range(2))
    assert first == second


def test_a_mapping_file_replays_pads_and_scales() -> None:
    model = stream()
    made = n2n.plan(model, [{"node": "stem", "width": 15}])
    student = made.apply(verify="off")
    assert isinstance(student, onnx.ModelProto)
    written = json.loads(json.dumps(made.described()))
    before, after = arrays(model), arrays(student)
    (step,) = steps_of(written)
    assert step.tensors
    for t in step.tensors:
        assert np.array_equal(t.grown(before[t.teacher]), after[t.student]), t.teacher


def test_a_checkpoint_is_told_of_the_epsilon() -> None:
    made = n2n.plan(stream(), [{"node": "stem", "width": 15}])
    said = literals(steps_of(made.described()))
    assert sum("norm" in line and "epsilon" in line for line in said) == 2


def test_pads_of_zero_are_zero_bits_where_their_inputs_are_split() -> None:
    """Shares of zero that cancel are zero up to rounding only: a Floor makes -1 of that."""
    net = Net("floor", opset=17)
    x = net.input("x", 2, 3, 5, 5)
    y = net.conv(net.conv(x, "conv1", 3, 8, 1), "conv2", 8, 4, 1, bias=False)
    gate = net.op("Sigmoid", net.op("ReduceMean", y, axes=[1], keepdims=1))
    y = net.conv(net.op("Floor", net.op("Mul", y, gate)), "conv3", 4, 3, 1)
    model = net.output("y", y, 2, 3, 5, 5).model()
    student = n2n.plan(model, "everywhere", ratio=1.5).apply(verify="off")
    after = arrays(student)["conv2.weight"]
    assert after.shape == (6, 12, 1, 1)
    assert [bool(row.any()) for row in after] == [True] * 4 + [False] * 2
    assert Teacher(model).deviation(student) < 1e-5
