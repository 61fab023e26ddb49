"""Every row at every version of its operator that opsets from 7 up have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import onnx
import pytest

import support.attention_cases
import support.fused_cases
import support.quantized_cases
import support.recurrent_cases  # noqa: F401
from support import movement_oracle
from support.movement_cases import MOVEMENTS
from support.operator_cases import CASES
from support.oracle import check
from support.single_node import Case

NEWEST = onnx.defs.onnx_opset_version()
CHANGED = {"Softmax": 13, "LogSoftmax": 13, "Hardmax": 13, "GroupNormalization": 21}
"""Operator -> the version from which the same node means something else: its cases stay."""
NOT_RUN = {("GlobalLpPool", 22), ("MaxRoiPool", 22), ("NonMaxSuppression", 10)}
"""Neither onnxruntime nor the reference has them; onnx infers no shape of the last."""


def versions(op: str) -> list[int]:
    """The versions in force at some opset from 7 up, without those that deprecate it."""
    everything = onnx.defs.get_all_schemas_with_history()
    schemas = [s for s in everything if (s.domain, s.name) == ("", op)]
    force = {max((s.since_version for s in schemas if s.since_version <= o), default=0)
             for o in range(7, NEWEST + 1)}  # fmt: skip
    return sorted(s.since_version for s in schemas if s.since_version in force and not s.deprecated)


def version_at(op: str, opset: int) -> int:
    """The version in force at an opset; 0 if none."""
    return max((v for v in versions(op) if v <= opset), default=0)


def at(case: Case, version: int) -> Case | None:
    """The case at another version of its operator; None where it is no legal node there."""
    opset = max(version, 7)
    changed = CHANGED.get(case.op, 0)
    if (case.opset < changed) != (opset < changed):
        return None
    new = replace(case, opset=opset)
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = 10, {"": opset}
    try:
        onnx.checker.check_node(new.proto.graph.node[0], context)
        if not new.refuses or new.op in MOVEMENTS:
            _ = new.teacher
    except Exception:  # the checker's, onnxruntime's and the reference's share no base
        return None
    facts = new.analysis.first  # onnx leaves a shape open where onnxruntime is more lenient
    known = all(facts.shapes.get(o) is not None for o in new.node.outputs)
    return new if new.refuses or (known and not facts.failed) else None


def _cases(op: str, version: int) -> Iterator[tuple[Case, bool]]:
    for moved, cases in ((False, CASES.get(op, [])), (True, MOVEMENTS.get(op, []))):
        for case in cases:
            same = version_at(op, case.opset) == version
            new = case if same else at(case, version)
            if new is not None:
                yield new, moved


@pytest.mark.slow
@pytest.mark.parametrize("op", sorted(o for o in {**CASES, **MOVEMENTS} if "." not in o))
def test_every_version(op: str) -> None:
    for version in versions(op):
        ran = 0
        for case, moved in _cases(op, version):
            movement_oracle.check(case) if moved else check(case)
            ran += 1
        assert ran or (op, version) in NOT_RUN, f"no case of {op} runs at version {version}"


def test_a_version_whose_meaning_changed_is_found() -> None:
    """The tables above are not a way out: Hardmax of before 13 fails as one of 13."""
    case = next(c for c in CASES["Hardmax"] if c.opset == 11 and not c.attributes)
    assert at(case, 13) is None
    with pytest.raises(AssertionError, match="expected"):
        check(replace(case, opset=13))
