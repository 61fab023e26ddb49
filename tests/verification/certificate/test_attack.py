"""Every fact and rule under attack: what is named alike is computed alike.

`ATTACK_DRAWS=400` draws more pairs of each operator than CI has time for, `ATTACK_SEED` others.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import replace

import numpy as np
import pytest

import support.attention_cases
import support.fused_cases
import support.quantized_cases
import support.recurrent_cases  # noqa: F401  they fill in cases
from onnx_net2net.operators.table import TABLE
from onnx_net2net.verification.certificate.facts.lines import FACTS, WITHOUT, Fact, fact
from onnx_net2net.verification.certificate.fixpoint import ROUND
from onnx_net2net.verification.certificate.sequences import LISTS, TAKING
from onnx_net2net.verification.certificate.transfer import base
from onnx_net2net.verification.certificate.transfer.table import RULES
from support.attack import Found, attack, folded
from support.movement_cases import MOVEMENTS
from support.operator_cases import CASES

DRAWS, SEED = (int(os.environ.get(n, d)) for n, d in (("ATTACK_DRAWS", 8), ("ATTACK_SEED", 0)))
ALL = {op: CASES.get(op, []) + MOVEMENTS.get(op, []) for op in {**CASES, **MOVEMENTS}}
RANDOM = {op for op, why in WITHOUT.items() if "random" in why}
ATTACKED = sorted(op for op in ALL if op in RULES or op in FACTS)
CLASSICAL = "ai.onnx.ml."


def attacked(op: str, draws: int, seed: int = 0) -> Found:
    """All cases of an operator, each as often as needed."""
    rng = np.random.default_rng(zlib.crc32(op.encode()) + seed)
    total, each = Found(), -(-draws // len(ALL[op]))
    for case in ALL[op]:
        if case.refuses == "draws at run time":
            continue
        found = attack(case, rng, each)
        total.draws += found.draws
        total.equal += found.equal
        total.wrong += found.wrong
    return total


@pytest.mark.parametrize("op", ATTACKED)
def test_what_is_named_alike_is_alike(op: str) -> None:
    found = attacked(op, DRAWS, SEED)
    assert not found.wrong


@pytest.mark.parametrize("op", sorted(set(ALL) - RANDOM - {"Dropout"}))
def test_constants_are_folded_to_what_is_computed(op: str) -> None:
    rng = np.random.default_rng(zlib.crc32(op.encode()) + SEED)
    for case in ALL[op]:
        assert not folded(case, rng, max(2, DRAWS // len(ALL[op])))


WRONG = {
    "Softplus": Fact("Softplus", "... -> ...", "first"),
    "Clip": Fact("Clip", "... -> ...", "first"),
    "com.microsoft.FastGelu": Fact("com.microsoft.FastGelu", "... -> ...", "first"),
    "LRN": Fact("LRN", "n c ... -> n c ..."),
    "CumProd": Fact("CumProd", "... , 1 -> ..."),
    "Trilu": Fact("Trilu", "... x y, 1 -> ... x y"),
    "Det": Fact("Det", "... x y -> ...", roles={"x": "max", "y": "max"}),
    "DynamicQuantizeLinear": Fact("DynamicQuantizeLinear", "... -> ..., , "),
    "com.microsoft.CDist": Fact("com.microsoft.CDist", "m k, n k -> m n", roles={"k": "max"}),
    "com.microsoft.QLinearSoftmax": Fact("com.microsoft.QLinearSoftmax", "..., 1, 1, 1, 1 -> ..."),
}


@pytest.mark.parametrize("op", WRONG)
def test_a_wrong_fact_is_found(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FACTS, op, WRONG[op])
    assert any(attacked(op, 40, seed).wrong for seed in range(5))


def test_a_wrong_rule_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hardmax of its first axes, a Softmax that does nothing."""
    monkeypatch.setitem(RULES, "Hardmax", lambda at: [base.passing(at, at.value(), {0: 0}, 1)])
    monkeypatch.setitem(RULES, "Softmax", lambda at: [replace(at.value(), tag=at.value().tag + 1)])
    for op in ("Hardmax", "Softmax"):
        assert any(attacked(op, 40, seed).wrong for seed in range(5)), op


def test_every_operator_has_a_rule_a_fact_or_a_reason() -> None:
    """Of ai.onnx and com.microsoft."""
    known = {*RULES, *FACTS, *WITHOUT, *LISTS, *TAKING, *ROUND, "If"}
    assert {op for op in TABLE if not op.startswith(CLASSICAL)} <= known
    assert known <= set(TABLE) | {"SequenceMap"}


def test_two_facts_about_an_operator_are_an_error() -> None:
    with pytest.raises(ValueError, match="two facts about Relu"):
        fact("Relu", "... -> ...")
    with pytest.raises(ValueError, match="two rules for Conv"):
        base.rules("Conv")(lambda at: [])
