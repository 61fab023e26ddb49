"""A step of a recipe done: what it selects, what that gives, what is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import onnx

from onnx_net2net.errors import AmbiguousError, RefusalError, UsageError
from onnx_net2net.files.patch import Insert, Pieces, apply
from onnx_net2net.files.reader import read
from onnx_net2net.growth.deepen.step import deepen
from onnx_net2net.growth.kernel.step import grow_kernel
from onnx_net2net.growth.result import Result, Shapes
from onnx_net2net.growth.widen.batch import Wish, next_round, refused, widen_alone, widen_chosen
from onnx_net2net.growth.widen.step import widen_step
from onnx_net2net.growth.widen.units import Row
from onnx_net2net.inference.analysis import Analysis, parameters
from onnx_net2net.plans.budget import SMALLEST, bisect, expecting, parameter_budget
from onnx_net2net.plans.recipe import HEADER, Step
from onnx_net2net.plans.selectors import layers, places, spread

PRESERVING = "onnx_net2net.preserving"
_LEAVE_OUT = "or leave out what cannot grow with where_possible: true"


@dataclass
class Student:
    """The model as it grows: analysed again after each result."""

    analysis: Analysis
    pieces: Pieces
    shapes: Shapes | None = None
    results: list[Result] = field(default_factory=list)

    def take(self, result: Result) -> None:
        """Make a result's changes."""
        patch = list(result.patch)
        marks = self.analysis.model.proto.metadata_props
        if not result.preserving and not any(m.key == PRESERVING for m in marks):
            mark = onnx.StringStringEntryProto(key=PRESERVING, value="false")
            patch.append(Insert(("metadata_props", len(marks)), (mark,)))
        self.pieces = apply(self.analysis.source, patch)
        self.shapes = result.sizes(self.shapes)
        self.analysis = Analysis(read(self.pieces), self.shapes)
        self.results.append(result)

    def copy(self) -> Student:
        """The same student, to try something."""
        return replace(self, results=list(self.results))


@dataclass(frozen=True)
class Taken:
    """A step that was done.

    `matched`: what its selector found; `left_out`: of that what could not grow, and why;
    `note`: what was reached; `parameters`: of the model before and after; `results`: one for
    each place, or for several that grew together.
    """

    step: Step
    matched: tuple[str, ...]
    left_out: dict[str, str]
    note: str
    parameters: tuple[int, int]
    results: tuple[Result, ...]


@dataclass
class _Task:
    """A step, what holds where it says nothing, and what was left out so far."""

    step: Step
    common: Mapping[str, Any]
    teacher: int
    left_out: dict[str, Exception] = field(default_factory=dict)

    @property
    def lenient(self) -> bool:
        """Whether what cannot grow is left out."""
        return bool(self.step.given.get("where_possible", self.step.selector == "everywhere"))

    def seed(self, student: Student) -> int:
        """The seed of the next result."""
        seed = self.common.get("seed", 0) + len(student.results)
        return int(self.step.given.get("seed", seed))

    @contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Leave out what cannot be, where the step allows that."""
        try:
            yield
        except (RefusalError, UsageError) as error:
            if not self.lenient or isinstance(error, AmbiguousError):
                raise
            self.left_out[name] = error


def do(
    student: Student, step: Step, common: Mapping[str, Any], teacher: int, *, some: bool = True
) -> Taken:
    """Do one step.

    Args:
        common: what holds where the step does not say otherwise; `seed` is the first result's.
        teacher: how many parameters the teacher has.
        some: something must grow.

    Raises:
        RefusalError, AmbiguousError, UsageError: see the verbs; the message begins with where
            the step was written.
    """
    before, count = parameters(student.analysis), len(student.results)
    task = _Task(step, common, teacher)
    try:
        matched, note = _DO[step.verb](student, task)
        if some and len(student.results) == count and task.left_out:
            raise next(iter(task.left_out.values()))
    except (RefusalError, UsageError) as error:
        if step.where:
            error.prefix(step.where)
        raise
    left_out = {
        name: str(error.refusal if isinstance(error, RefusalError) else error)
        for name, error in task.left_out.items()
    }
    sizes = before, parameters(student.analysis)
    return Taken(step, tuple(matched), left_out, note, sizes, tuple(student.results[count:]))


Done = tuple[list[str], str]


def _widen(student: Student, task: _Task) -> Done:
    step, given = task.step, task.step.given
    how = {k: v for k, v in task.common.items() if k in HEADER} | step.arguments
    how["seed"] = task.seed(student)
    if "rows" in how:
        how["rows"] = Row(how["rows"])
    name = given[step.selector]
    if isinstance(name, str) and step.selector in ("node", "space") and "parameters" not in given:
        with task.trying(name):
            student.take(widen_step(student.analysis, **{**how, step.selector: name}))
        return [name], ""
    if isinstance(how.get("mapping"), list):
        raise UsageError(
            "a mapping as a list fits one layer", "name one, or say random or balanced"
        )
    if how.get("init", "replicate") != "replicate" and "mapping" in how:
        raise UsageError(f"init '{how['init']}' makes no copies", "leave the mapping out")
    found = layers(student.analysis, step)
    cannot = refused(student.analysis, found)
    for name, refusal in cannot.items():
        hint = f"{refusal.hint}; {_LEAVE_OUT}" if refusal.hint else _LEAVE_OUT
        with task.trying(name):
            raise RefusalError(replace(refusal, hint=hint), f"'{name}'")
    todo = {n.name for n in found} - set(cannot)
    sizes = {k: how.pop(k) for k in ("width", "ratio", "multiple_of") if k in how}
    wish = Wish(**sizes, how=how)
    note = ""
    if "parameters" in given:
        note = _within(student, task, todo, wish)
    else:
        _widen_all(student, task, todo, wish)
    return [n.name for n in found], note


def _within(student: Student, task: _Task, todo: set[str], wish: Wish) -> str:
    """Widen as far as a budget allows; what was reached."""
    budget = parameter_budget(task.step.given["parameters"], task.teacher)
    tried: dict[float, tuple[Student, _Task, int]] = {}

    def fits(ratio: float) -> bool:
        trial, trying = student.copy(), replace(task, left_out=dict(task.left_out))
        _widen_all(trial, trying, set(todo), replace(wish, ratio=ratio))
        tried[ratio] = trial, trying, parameters(trial.analysis)
        return tried[ratio][2] <= budget

    expected = expecting(student.analysis, todo, wish)
    ratio = bisect(lambda r: expected(r) <= budget)
    if ratio is None or not fits(ratio):
        ratio = bisect(fits, ratio or 2.0)
    if ratio is None:
        least = min((t[2] for t in tried.values()), default=expected(SMALLEST))
        raise UsageError(
            f"the smallest growth gives {least:,} parameters and the budget is {budget:,}",
            "give a larger one, or name fewer layers",
        )
    trial, trying, reached = tried[ratio]
    student.analysis, student.pieces, student.results = trial.analysis, trial.pieces, trial.results
    task.left_out = trying.left_out
    return f"ratio {ratio:.4g}: {reached:,} of at most {budget:,} parameters"


def _widen_all(student: Student, task: _Task, todo: set[str], wish: Wish) -> None:
    """Grow disjoint spaces together, then look again for those that overlapped them."""
    while todo:
        now = next_round(student.analysis, todo, wish, task.lenient)
        if not now.seen:
            return
        task.left_out.update(now.left_out)
        todo -= now.seen
        alone = now.alone
        if now.chosen:
            step = widen_chosen(student.analysis, now.chosen, wish.scheme)
            if step is not None:
                student.take(step)
                todo -= set(step.along)
            else:  # together they do not line up: one now, the others again
                todo |= {c.layer for c in (*now.chosen[1:], *alone)}
                alone = [now.chosen[0]]
        for one in alone:
            with task.trying(one.asked[1]):
                result = widen_alone(student.analysis, one, wish)
                student.take(result)
                todo -= set(result.along)


def _deepen(student: Student, task: _Task) -> Done:
    step = task.step
    found = places(student.analysis, step)
    matched = [name for where in found for name in where.values()]

    def insert(where: Mapping[str, str]) -> None:
        with task.trying(next(iter(where.values()))):
            how = {**step.arguments, **where, "seed": task.seed(student)}
            student.take(deepen(student.analysis, **how))

    ratio = step.given.get("ratio")
    if ratio is None:
        for where in found:
            insert(where)
        return matched, ""
    if not 1 < ratio <= 100:
        raise UsageError(f"ratio {ratio} does not deepen", "give a number above 1, e.g. 1.5")
    before = len(student.analysis.layers())
    wanted = before + max(round(len(found) * (ratio - 1)), 1)
    last = -1
    while len(student.results) != last:  # again from the start, until nothing more fits
        last = len(student.results)
        for k in spread(len(found)):
            if len(student.analysis.layers()) < wanted:
                insert(found[k])
    return matched, f"{before} -> {len(student.analysis.layers())} layers"


def _grow_kernel(student: Student, task: _Task) -> Done:
    name = task.step.given[task.step.selector]
    matched = [name]
    if task.step.selector != "node" or not isinstance(name, str):
        matched = [n.name for n in layers(student.analysis, task.step)]
    for name in matched:
        with task.trying(name):
            student.take(grow_kernel(student.analysis, name, task.step.given["size"]))
    return matched, ""


_DO: dict[str, Callable[[Student, _Task], Done]] = {
    "widen": _widen, "deepen": _deepen, "grow-kernel": _grow_kernel,
}  # fmt: skip
