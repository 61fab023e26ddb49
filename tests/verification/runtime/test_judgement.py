"""What counts as a difference, as noise, and as a near tie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_net2net.verification.runtime.inputs import Feed
from onnx_net2net.verification.runtime.judgement import Run, Seen, judged
from onnx_net2net.verification.runtime.noise import floors
from onnx_net2net.verification.verdict import Claim, Status
from onnx_net2net.verification.verify import verify
from tools.samples.graph_builder import Net

LOGITS = np.linspace(-1, 1, 200, dtype=np.float32)


def status(
    before: Any, after: Any, ghosts: Sequence[Any] = (), proved: bool = False,
    cap: float | None = None,
) -> Status:  # fmt: skip
    a, moved = np.asarray(before), [[np.asarray(g)] for g in ghosts]
    seen = Seen([Run(Feed("", {}), [a], [np.asarray(after)])], measured=bool(moved))
    seen.floors = floors([a], moved[:1], {})
    return judged(seen, lambda feed: moved, lambda feed: proved, cap)[0]


def changed(values: Any, at: int, by: float) -> Any:
    other = np.array(values)
    other[at] += np.asarray(by, other.dtype)
    return other


@pytest.mark.parametrize("proved", [False, True])
def test_one_logit_of_many_is_a_difference(proved: bool) -> None:
    quiet = LOGITS * np.float32(1 + 1e-7)
    assert status(LOGITS, changed(LOGITS, 7, 1.0), [quiet], proved) is Status.FAILED
    assert status(LOGITS, quiet, [quiet], proved) is Status.PASSED


@pytest.mark.parametrize("proved", [False, True])
def test_integers_strings_and_shapes_differ(proved: bool) -> None:
    whole = np.arange(9)
    for a, b in [
        (whole, changed(whole, 3, 1)),
        (whole, whole.astype(np.int32)),
        (np.array(["a", "b"], object), np.array(["a", "c"], object)),
        (LOGITS, LOGITS[1:]),
        (LOGITS, LOGITS.astype(np.float64)),
    ]:
        assert status(a, b, [a], proved) is Status.FAILED
        assert status(a, a.copy(), [a], proved) is Status.PASSED


def test_a_near_tie_is_where_the_nudged_teacher_flips() -> None:
    whole = np.arange(9)
    here, there = changed(whole, 3, 1), changed(whole, 4, 1)
    assert status(whole, here, [whole, here]) is Status.UNDECIDED
    assert status(whole, here, [whole, here], proved=True) is Status.PASSED
    assert status(whole, here, [whole, there], proved=True) is Status.FAILED


def test_how_many_there_are_may_be_a_near_tie() -> None:
    assert status(LOGITS, LOGITS[1:], [LOGITS, LOGITS[2:]], proved=True) is Status.PASSED
    assert status(LOGITS, LOGITS[1:], [LOGITS, LOGITS[2:]]) is Status.UNDECIDED


def test_a_jump_excuses_only_itself() -> None:
    """An element that flips when nudged makes no floor for the others."""
    flips = changed(LOGITS, 3, 1.0)
    assert status(LOGITS, changed(LOGITS, 3, 1.0), [flips], proved=True) is Status.PASSED
    assert status(LOGITS, changed(LOGITS, 4, 1.0), [flips], proved=True) is Status.FAILED


def test_a_floor_is_capped_where_runs_alone_decide() -> None:
    """A model whose noise is as large as its outputs tells nothing."""
    loud, other = -LOGITS, LOGITS[::-1].copy()
    assert status(LOGITS, other, [loud]) is Status.UNDECIDED
    assert status(LOGITS, other, [loud], proved=True) is Status.PASSED
    assert status(LOGITS, other, [loud], cap=3.0) is Status.PASSED


def test_a_loud_model_is_called_one() -> None:
    seen = Seen([Run(Feed("", {}), [LOGITS], [LOGITS])], floors={0: 0.25}, measured=True)
    found, text, figures = judged(seen, lambda feed: [], lambda feed: True, None)
    assert found is Status.PASSED
    assert "one ulp of the teacher's weights moves its outputs by 0.25" in text
    assert figures["amplification"] == 0.25 / np.finfo(np.float32).eps


def test_sixteen_bits_are_capped_later() -> None:
    half = LOGITS.astype(np.float16)
    ghost = half * np.float16(1.02)
    assert status(half, half * np.float16(1.02), [ghost]) is Status.PASSED
    wide = half.astype(np.float32)
    assert status(wide, wide * np.float32(1.02), [wide * np.float32(1.02)]) is Status.UNDECIDED


def test_what_was_not_measured_decides_nothing() -> None:
    assert status(LOGITS, LOGITS * np.float32(1.01)) is Status.UNDECIDED


def test_infinities_stand_in_the_same_places() -> None:
    assert status(LOGITS, changed(LOGITS, 3, np.inf), [LOGITS]) is Status.FAILED
    both = changed(LOGITS, 3, np.inf)
    assert status(both, both.copy(), [both]) is Status.PASSED


def test_a_missing_output_is_a_difference() -> None:
    seen = Seen([Run(Feed("", {}), [LOGITS, LOGITS], [LOGITS])], measured=True)
    found, text, _ = judged(seen, lambda feed: [], lambda feed: True, None)
    assert found is Status.FAILED
    assert "output '1'" in text


@pytest.mark.parametrize("proved", [False, True])
def test_a_nudge_that_breaks_the_teacher_explains_nothing(proved: bool) -> None:
    quiet, broken = LOGITS * np.float32(1 + 1e-7), np.full_like(LOGITS, np.nan)
    assert status(LOGITS, changed(LOGITS, 7, 1.0), [quiet, broken], proved) is Status.FAILED
    assert status(LOGITS, changed(LOGITS, 7, np.nan), [quiet, broken], True) is Status.PASSED


def test_an_exponent_is_not_nudged() -> None:
    """Beside 2, a power of a negative number is none: every difference would be explained."""
    net = Net("rms", opset=17)
    x = net.input("x", "N", 6)
    y = net.op("MatMul", x, net.weight("w", 6, 6, fan_in=6))
    square = net.op("Pow", y, net.const("two", 2.0, np.float32))
    root = net.op("Sqrt", net.op("ReduceMean", square, axes=[1], keepdims=1))
    y = net.op("MatMul", net.op("Div", y, root), net.weight("v", 6, 6, fan_in=6))
    teacher = net.output("y", y, "N", 6).model()
    student = onnx.ModelProto.FromString(teacher.SerializeToString())
    (v,) = (t for t in student.graph.initializer if t.name == "v")
    v.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(v)[::-1].copy(), "v"))
    assert verify(teacher, student).claim is Claim.DIFFERENT
