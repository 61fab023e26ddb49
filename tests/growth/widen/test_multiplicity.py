"""Operators that work along a grown axis: copies are made to count as one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

import onnx_net2net as n2n
from onnx_net2net.operators.table import TABLE
from support.multiplicity_cases import CASES, network, run


@pytest.mark.parametrize(("op", "opset", "attributes"), CASES)
@pytest.mark.parametrize("split", ["zero-sum", "even"])
def test_a_width_behind_it_grows(op: str, opset: int, attributes: dict, split: str) -> None:
    teacher = network(op, opset, **attributes)
    student = n2n.widen(teacher, node="first", width=13, split=split, verify="off")
    onnx.checker.check_model(student, full_check=True)
    assert n2n.verify(teacher, student).equivalent is not False
    np.testing.assert_allclose(run(teacher), run(student), rtol=2e-5, atol=1e-6)


def test_a_softmax_in_a_whole_network_is_written() -> None:
    teacher = network("Softmax", axis=-1)
    assert n2n.verify(teacher, n2n.widen(teacher, node="first", width=16, seed=1)).equivalent


def test_without_the_correction_it_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE, "Softmax", replace(TABLE["Softmax"], evens={}))
    with pytest.raises(n2n.NotEquivalentError):
        n2n.widen(network("Softmax", axis=-1), node="first", width=13)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
def test_one_of_equals_is_refused(op: str, last: int) -> None:
    """A copy may be larger by a rounding than its original, and its position would come out."""
    teacher = network(op, axis=1, select_last_index=last)
    with pytest.raises(n2n.RefusalError, match="works across this axis"):
        n2n.widen(teacher, node="first", width=13)


def test_new_units_of_other_kinds_do_not_pass() -> None:
    with pytest.raises(n2n.RefusalError, match="do not pass Softmax"):
        n2n.widen(network("Softmax", axis=-1), node="first", width=13, init="fresh")
