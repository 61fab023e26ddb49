"""What onnxruntime says of a pair, beside what the tool says of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

import onnx_net2net as n2n
from tools.coverage.runtime import Teacher
from tools.coverage.time_limit import OutOfTime, within
from tools.fuzzing.faults import FAULTS, seeded
from tools.fuzzing.programs import Program, build, feeds

SIZES = (
    {"N": 2, "S": 5, "H": 6, "W": 6},
    {"N": 3, "S": 7, "H": 9, "W": 8},
    {"N": 1, "S": 12, "H": 7, "W": 11},
)
BAD = ("wrong", "invalid", "crashed", "hung", "falsely proved", "false alarm")
# what new units are made of; only copies have shares
UNITS: list[dict[str, str]] = [{"init": "fresh"}, {"init": "twin"}]
UNITS += [{"split": how} for how in ("zero-sum", "even", "one-hot", "uneven")]


@dataclass(frozen=True)
class Finding:
    """What one step came to: a word (some of them `BAD`), what it was, and both models."""

    word: str
    what: str
    teacher: onnx.ModelProto
    student: onnx.ModelProto | None = None

    @property
    def bad(self) -> bool:
        """Whether it must not happen."""
        return self.word in BAD


class Runs:
    """A model at a few sizes, and whether another one computes the same there."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.at = [self._learned(k, sizes) for k, sizes in enumerate(SIZES)]

    def _learned(self, seed: int, sizes: dict[str, int]) -> Teacher:
        teacher = Teacher(self.model, None)
        teacher.learn([feeds(self.model, seed, sizes)])
        return teacher

    @property
    def finite(self) -> bool:
        """Whether no output overflows."""
        return all(np.isfinite(y).all() for t in self.at for ys in t.outputs for y in ys)

    def same(self, student: onnx.ModelProto) -> bool:
        """Whether the outputs differ by rounding at most.

        Where a Floor or a Sign stands, one rounding can move an output far, at rare inputs: a
        difference counts that is seen again at two of four other inputs of that size.
        """
        for sizes, teacher in zip(SIZES, self.at, strict=True):
            if teacher.judge(student).right:
                continue
            again = [self._learned(100 + k, sizes).judge(student).right for k in range(4)]
            if again.count(False) >= 2:
                return False
        return True


def examined(program: Program, seconds: int = 60) -> list[Finding]:
    """Grow the program's model in some ways and judge each student, and some damaged ones."""
    model = build(program)
    try:
        teacher = Runs(model)
    except Exception as why:
        return [Finding("teacher does not run", str(why)[:100], model)]
    if not teacher.finite:
        return [Finding("teacher overflows", "", model)]
    rng = random.Random(f"growth {program.seed}")
    found: list[Finding] = []
    for step in _steps(model, rng):
        found += _one(teacher, step, rng, seconds)
    return found


def _steps(model: onnx.ModelProto, rng: random.Random) -> list[dict[str, Any]]:
    report = n2n.inspect(model)
    names = [s.name for s in report.spaces]
    steps: list[dict[str, Any]] = [
        {"space": name, "ratio": rng.choice([1.2, 1.5, 2.0]), **rng.choice(UNITS)}
        for name in rng.sample(names, min(2, len(names)))
    ]
    layers = [node for s in report.spaces for node in s.nodes]
    if layers:
        steps.append({"verb": "deepen", "after": rng.choice(layers)})
    return [*steps, {"everywhere": True}]


def _one(teacher: Runs, step: dict[str, Any], rng: random.Random, seconds: int) -> list[Finding]:
    model, what = teacher.model, str(step)
    try:
        with within(seconds):
            student = _grown(model, step, rng.randrange(100))
    except n2n.RefusalError as why:
        return [Finding("refused", f"{what}: {why.reason}", model)]
    except ValueError as why:
        usage = type(why) is not ValueError
        return [Finding("refused" if usage else "crashed", f"{what}: {why!r}", model)]
    except OutOfTime:
        return [Finding("hung", what, model)]
    except Exception as why:
        return [Finding("crashed", f"{what}: {type(why).__name__}: {why}"[:200], model)]
    found = [judged(teacher, student, what, seconds)]
    if not found[0].bad:
        kind = rng.choice([k for k, f in FAULTS.items() if not f.harmless])
        damaged = seeded(student, kind, rng.randrange(1 << 20))
        if damaged is not None:
            found += [f for f in [judged_damaged(teacher, damaged, kind, seconds)] if f]
    return found


def _grown(model: onnx.ModelProto, step: dict[str, Any], seed: int) -> onnx.ModelProto:
    if "everywhere" in step:
        plan = n2n.plan(model, "everywhere", ratio=1.5, seed=seed)
    else:
        plan = n2n.plan(model, [step], seed=seed)
    student: onnx.ModelProto = plan.apply(verify="off")
    return student


def judged(teacher: Runs, student: onnx.ModelProto, what: str, seconds: int) -> Finding:
    """The engine's student: valid, equal in runs, and what the certificate says."""
    model = teacher.model
    try:
        onnx.checker.check_model(student, full_check=True)
        right = teacher.same(student)
    except Exception as why:
        return Finding("invalid", f"{what}: {str(why)[:200]}", model, student)
    equivalent = _certified(model, student, seconds)
    if isinstance(equivalent, str):
        return Finding(equivalent, f"{what}: certificate", model, student)
    if not right:
        word = "falsely proved" if equivalent else "wrong"
    else:
        word = {True: "proved", None: "right, no proof", False: "false alarm"}[equivalent]
    return Finding(word, what, model, student)


def judged_damaged(
    teacher: Runs, damaged: onnx.ModelProto, kind: str, seconds: int
) -> Finding | None:
    """A damaged student; None where the damage is not valid or not seen in runs."""
    try:
        onnx.checker.check_model(damaged, full_check=True)
        if teacher.same(damaged):
            return None
    except Exception:
        return None
    equivalent = _certified(teacher.model, damaged, seconds)
    if isinstance(equivalent, str):
        return Finding(equivalent, f"damage {kind}", teacher.model, damaged)
    word = "falsely proved" if equivalent else "damage not proved"
    return Finding(word, f"damage {kind}", teacher.model, damaged)


def _certified(model: onnx.ModelProto, student: onnx.ModelProto, seconds: int) -> Any:
    """True, False or None as the certificate says; or "crashed", "hung"."""
    try:
        with within(seconds):
            return n2n.verify(model, student, layers="certificate").equivalent
    except OutOfTime:
        return "hung"
    except Exception:
        return "crashed"


__all__ = ["BAD", "Finding", "Runs", "examined", "judged", "judged_damaged"]
