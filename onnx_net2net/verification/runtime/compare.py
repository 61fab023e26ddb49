"""Both models in onnxruntime, the deviation in multiples of the teacher's own noise floor."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import onnx

from onnx_net2net.errors import UsageError
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.typing import Array
from onnx_net2net.verification.runtime import inputs as feeds
from onnx_net2net.verification.runtime.inputs import Feed, Sizes
from onnx_net2net.verification.runtime.judgement import Run, Seen, judged
from onnx_net2net.verification.runtime.noise import Ghosts, floors
from onnx_net2net.verification.runtime.process import DiedError, RunError, Runtime
from onnx_net2net.verification.runtime.run_sizes import Comparison, OpenSizes, Wanted
from onnx_net2net.verification.runtime.sessions import Session
from onnx_net2net.verification.runtime.worker import free_memory
from onnx_net2net.verification.sides import Sides
from onnx_net2net.verification.verdict import Layer, Status

_PATIENCE = 60.0  # seconds for all runs
_FURTHER = 15.0  # after which no further sizes are taken up, unless all is to be run
_MOST = 300  # characters of a message of onnxruntime's
_KINDS = ("normal", "uniform", "wide")
_HINT = "give sizes at which it runs (--shape NAME=1x16) or data (--inputs)"


@dataclass
class Plan:
    """What to run.

    Attributes:
        compared: what the models compare sizes with.
        wanted: the sizes that count.
        fixed: the facts are at the sizes that the caller gave.
        proved: whether a proof covers some inputs.
        cap: of deviations where none does; None for that of an output's type.
    """

    provider: str = "cpu"
    seeds: int = 3
    thorough: bool = False
    given: Sequence[Feed] = ()
    facts: Sequence[Facts] = ()
    compared: Sequence[Comparison] = ()
    wanted: Wanted = field(default_factory=dict)
    fixed: bool = False
    proved: Callable[[Feed], bool] = lambda feed: False
    cap: float | None = None


class _StopError(Exception):
    """The layer ends here with this status and reason."""

    def __init__(self, status: Status, detail: str, hint: str = "") -> None:
        self.status, self.detail, self.hint = status, detail, hint
        super().__init__(detail)


def compare(sides: Sides, plan: Plan, runtime: Runtime) -> tuple[Layer, Seen]:
    """Run both models on everything that the plan asks for.

    Raises:
        ProviderError: the provider is not usable here.
        UsageError: the teacher does not run on the user's own data.
    """
    seen = Seen(names=list(sides.teacher.model.outputs))
    try:
        _fits_memory(sides)
        teacher, student = _loaded(sides, plan.provider, runtime)
        ghosts = Ghosts(sides, runtime, plan.provider)
        _run_all(sides, plan, (teacher, student), ghosts, seen)
        status, detail, figures = judged(seen, ghosts.explain, plan.proved, plan.cap)
    except _StopError as stop:
        found = {"hint": stop.hint, "notes": seen.notes}
        status, detail = stop.status, stop.detail
        figures = {k: v for k, v in found.items() if v}
    if seen.notes:
        figures["notes"] = seen.notes
        detail += f"; {seen.notes[0]}"
    if seen.wrong is not None:
        figures["ruled_out"] = plan.proved(seen.wrong)
    return Layer("runtime", status, detail, figures=figures), seen


def _run_all(
    sides: Sides, plan: Plan, pair: tuple[Session, Session], ghosts: Ghosts, seen: Seen
) -> None:
    teacher, student = pair
    started = time.monotonic()
    for k, (feed, before) in enumerate(_teacher_runs(sides, plan, teacher, seen)):
        seen.runs.append(Run(feed, before, _answer(student, feed, seen)))
        moved = ghosts.run(feed, k % 2)
        seen.measured |= bool(moved)
        seen.floors = floors(before, moved, seen.floors)
        if time.monotonic() - started > _PATIENCE and len(seen.runs) > 1:
            break


def _answer(student: Session, feed: Feed, seen: Seen) -> list[Array]:
    """The student's outputs; no answer where the teacher has one is a difference."""
    try:
        return student.run(feed.values)
    except RunError as why:
        what = brief(why)
    except MemoryError as why:
        raise _StopError(Status.UNDECIDED, f"too little memory for the student: {why}") from None
    except DiedError as why:
        what = f"onnxruntime {why}"
        if not why.crashed:
            raise _StopError(Status.UNDECIDED, f"the student on {feed.label}: {what}") from None
    seen.wrong = feed
    raise _StopError(Status.FAILED, f"the student does not run on {feed.label}: {what}")


def _fits_memory(sides: Sides) -> None:
    free = free_memory()
    need = 4 * (sides.teacher.size + sides.student.size)
    if free is not None and need > free:
        raise _StopError(
            Status.SKIPPED, f"too large to run here: {need >> 20} MiB wanted, {free >> 20} free"
        )


def _loaded(sides: Sides, provider: str, runtime: Runtime) -> tuple[Session, Session]:
    try:
        teacher = Session(runtime, sides.teacher, provider)
    except (RunError, MemoryError) as why:
        raise _StopError(Status.SKIPPED, f"onnxruntime cannot run it: {brief(why)}") from None
    except DiedError as why:
        raise _StopError(Status.SKIPPED, f"onnxruntime {why} loading the teacher") from None
    try:
        return teacher, Session(runtime, sides.student, provider)
    except (RunError, DiedError) as why:
        said = f"onnxruntime does not load the student: {brief(why)}"
        alien = _alien(sides)
        if alien:
            raise _StopError(Status.SKIPPED, f"{said}; {alien}") from None
        if isinstance(why, DiedError) and not why.crashed:
            raise _StopError(Status.SKIPPED, said) from None
        raise _StopError(Status.FAILED, said) from None
    except MemoryError as why:
        raise _StopError(Status.SKIPPED, f"too little memory for the student: {why}") from None


def _alien(sides: Sides) -> str:
    """What of the student this onnxruntime, which loads the teacher, may lack; "" if nothing."""
    teacher, student = sides.teacher.model, sides.student.model
    for domain, version in student.opsets.items():
        if teacher.opsets.get(domain) != version:
            return f"its opset is {domain or 'ai.onnx'} {version}, which the teacher's is not"
    if student.proto.ir_version > teacher.proto.ir_version:
        return f"its IR version is {student.proto.ir_version}, which the teacher's is not"
    new = {n.op for n in student.nodes if "." in n.op or onnx.defs.has(n.op, n.version)}
    new -= {n.op for n in teacher.nodes}
    return f"the teacher has no {', '.join(sorted(new)[:3])}" if new else ""


def _teacher_runs(
    sides: Sides, plan: Plan, teacher: Session, seen: Seen
) -> Iterator[tuple[Feed, list[Array]]]:
    for feed in plan.given:
        try:
            yield feed, teacher.run(feed.values)
        except (RunError, DiedError, MemoryError) as why:
            said = f"the teacher does not run on {feed.label}: {brief(why)}"
            raise UsageError(said, "give data that it runs on") from None
    trying = _Trying(sides, plan, teacher, seen)
    yield from trying.runs()
    if not plan.given and not trying.ran:
        raise _StopError(Status.SKIPPED, f"the teacher did not run: {trying.why_not}", _HINT)


class _Trying:
    """Random inputs at sizes at which the teacher runs."""

    def __init__(self, sides: Sides, plan: Plan, teacher: Session, seen: Seen) -> None:
        self._model, self._plan, self._teacher, self._seen = (
            sides.teacher.model, plan, teacher, seen,
        )  # fmt: skip
        self._numbers = feeds.integer_numbers(self._model, plan.facts[0]) if plan.facts else [{}]
        self._started = time.monotonic()
        self.ran, self.why_not = False, ""

    def runs(self) -> Iterator[tuple[Feed, list[Array]]]:
        """Every kind and seed at the first sizes, one of each elsewhere."""
        plan = self._plan
        try:
            sizes = OpenSizes(self._model, plan.facts, plan.wanted, plan.fixed)
        except LookupError as why:
            self.why_not = str(why)
            return
        for fitting in sizes.fittings():
            for stage in fitting.stages():
                yield from self._first(stage, plan.thorough or not self.ran)
                if not self.ran:
                    break
            if self.ran:
                yield from self._telling(fitting)
            if self.ran or time.monotonic() - self._started > _FURTHER:
                return

    def _telling(self, sizes: OpenSizes) -> Iterator[tuple[Feed, list[Array]]]:
        for stage in sizes.telling(self._plan.compared):
            if time.monotonic() - self._started > _FURTHER and not self._plan.thorough:
                return
            yield from self._first(stage, self._plan.thorough)

    def _first(self, stage: Sequence[Sizes], every: bool) -> Iterator[tuple[Feed, list[Array]]]:
        """Runs at the first sizes of a stage at which the teacher runs."""
        for sizes in stage:
            ran = False
            for found in self._at(sizes, every):
                ran = True
                yield found
            if ran:
                return

    def _at(self, sizes: Sizes, every: bool) -> Iterator[tuple[Feed, list[Array]]]:
        """Runs at some sizes, until the teacher does not run there."""
        for seed in range(self._plan.seeds if every else 1):
            all_kinds = self._plan.thorough or (every and seed == 0)
            for kind in _KINDS if all_kinds else (_KINDS[seed % 2],):
                found = self._run(sizes, kind, seed)
                if found is None:
                    return
                yield found

    def _run(self, sizes: Sizes, kind: str, seed: int) -> tuple[Feed, list[Array]] | None:
        turn = seed % len(self._numbers[:-1] or [{}])
        for numbers in (*self._numbers[turn:], *self._numbers[:turn]):
            try:
                feed = feeds.random_feed(self._model, sizes, kind, seed, numbers)
                outcome = self._teacher.run(feed.values)
            except (LookupError, RunError, MemoryError) as why:
                self.why_not = self.why_not or brief(why)
            except DiedError as why:
                self.why_not = f"onnxruntime {why} running the teacher at {feed.sizes}"
                self._seen.notes.append(self.why_not)
                return None
            else:
                self.ran = True
                return feed, outcome
        return None


def brief(why: BaseException) -> str:
    """What onnxruntime says, on one line that is not too long."""
    text = " ".join(str(why).split())
    return textwrap.shorten(text, _MOST, placeholder=" ...") if len(text) > _MOST else text
