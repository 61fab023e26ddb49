"""Plans: a recipe's steps, what they change and what they cost, and the student."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_net2net.errors import ModelError, NotEquivalentError, UsageError
from onnx_net2net.files import writer
from onnx_net2net.files.external_data import inlined
from onnx_net2net.files.output_form import OutputForm, form_of
from onnx_net2net.files.patch import Pieces, apply
from onnx_net2net.files.reader import read
from onnx_net2net.files.source import Source
from onnx_net2net.growth.result import Result, Shapes
from onnx_net2net.growth.student import Student
from onnx_net2net.inference import validity
from onnx_net2net.inference.analysis import Analysis, parameters
from onnx_net2net.inference.shapes import FLOATS
from onnx_net2net.plans import provenance
from onnx_net2net.plans.execution import Taken, do
from onnx_net2net.plans.recipe import Recipe, load
from onnx_net2net.plans.recipe_data import Data, resolved

COMMON = ("split", "init", "noise", "seed")
"""Settings that `plan` takes for all steps; they come before a recipe's."""


@dataclass
class Plan:
    """What growing would do; nothing is written until `apply`.

    `steps`: what was done, one result for each place; `parameters`: before and after;
    `source`: the teacher; `pieces`: the student, not yet read or written; `preserving`:
    whether the student computes the teacher's function; `warnings`: what a user should know;
    `taken`: the recipe's steps, each with what it selected and its results.
    """

    source: Source
    pieces: Pieces
    steps: list[Result]
    parameters: tuple[int, int]
    preserving: bool = True
    shapes: Shapes | None = None
    warnings: list[str] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)

    @property
    def changes(self) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
        """Constant -> its shape in the teacher and in the student."""
        found: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        for tensor in (t for step in self.steps for t in step.record()["tensors"]):
            name, before = tensor["teacher"], tuple(tensor["before"])
            found[name] = (found[name][0] if name in found else before, tuple(tensor["after"]))
        return found

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of teacher and student, external data included; raises ModelError without it."""
        found = (self.source, read(self.pieces))
        before, after = (
            inlined(f.rope, f.directory).size if f.externals else f.size for f in found
        )
        return before, after

    @property
    def mapping(self) -> dict[str, list[dict[str, object]]]:
        """Constant -> how each of its axes grew, step by step: axis, source, split, shares."""
        found: dict[str, list[dict[str, object]]] = {}
        for tensor in (t for step in self.steps for t in step.record()["tensors"]):
            for axis in tensor.get("axes", ()):
                shares = axis["shares"] or {"split": None, "nominal": None}
                said = {"axis": axis["axis"], "source": axis["source"], "split": shares["split"]}
                found.setdefault(tensor["teacher"], []).append(
                    {**said, "shares": shares["nominal"]}
                )
        return found

    @property
    def new_parameters(self) -> tuple[str, ...]:
        """Constants that the teacher does not have, to freeze the others or to train these faster.

        What is new inside the teacher's own constants is in `new_rows`.
        """
        known = {t.name for t in self.source.proto.graph.initializer}
        found = [n for step in self.steps for n in step.parameters]
        student = read(self.pieces).proto.graph.initializer
        found += [t.name for t in student if t.data_type in FLOATS]
        return tuple(n for n in dict.fromkeys(found) if n not in known)

    @property
    def new_rows(self) -> dict[str, dict[int, list[int]]]:
        """Constant -> {axis: positions that are new}: `weight.take(positions, axis)`.

        Everything else of the constant is the teacher's, but for the division among copies.
        """
        from onnx_net2net.growth.record import new_rows, steps_of

        return new_rows(steps_of(self.described()))

    def described(self) -> dict[str, Any]:
        """The mapping in full, as `save_mapping` writes it; see docs/checkpoints.md."""
        from onnx_net2net.growth.record import described

        return described(self.source, read(self.pieces), self.steps)

    def save_mapping(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write down how every constant changed, for `onnx_net2net.torch`; JSON.

        Raises:
            FileExistsError: `path` exists (without `force`), or is the teacher.
        """
        from onnx_net2net.growth.record import save

        writer.check(Path(path), self.source.files, force=force)
        save(self.described(), path, force=force)

    def check(
        self,
        verify: str = "auto",
        sizes: str | Iterable[str] | None = None,
        require: str | None = None,
    ) -> Any:
        """Verify the student; None for `verify="off"` or a student that is not to preserve.

        Args:
            verify: `auto`, `certificate`, `full` or `off`.
            sizes, require: which claims count; see `onnx_net2net.verify`.

        Raises:
            NotEquivalentError: the student is not equivalent, or that is undecided.
        """
        if verify == "off" or not self.preserving:
            return None
        from onnx_net2net.verification.verify import verify as compare

        verdict = compare(
            self.source, read(self.pieces),
            shapes=self.shapes, layers=verify, sizes=sizes, require=require,
        )  # fmt: skip
        if not verdict:
            state = "is not equivalent" if verdict.equivalent is False else "may not be equivalent"
            raise NotEquivalentError(f"the student {state} to the teacher", verdict)
        return verdict

    def apply(
        self,
        output: str | os.PathLike[str] | OutputForm | None = None,
        *,
        force: bool = False,
        verify: str = "auto",
        sizes: str | Iterable[str] | None = None,
        require: str | None = None,
    ) -> Any:
        """The student: a self-contained ModelProto, or where it was written.

        Args:
            output: a path, a form (`files/output_form.py`), or None for a ModelProto.
            force: with a path: replace a file that is there.
            verify, sizes, require: see `check`.

        Returns:
            What the form gives: of files the path, without `output` a ModelProto.

        Raises:
            NotEquivalentError: verification failed or is undecided; nothing is written.
            FileExistsError: the output is there (without `force`) or is the teacher.
        """
        form = form_of(output, force)
        form.check(self.source)
        self.check(verify, sizes, require)
        return self.pieces.write(form)


def plan(
    teacher: Any,
    steps: Any,
    *,
    ratio: float = 1.5,
    split: str | None = None,
    init: str | None = None,
    noise: float | None = None,
    seed: int | None = None,
    shapes: Shapes | None = None,
    calibrate: Sequence[Data] = (),
) -> Plan:
    """Plan one or several steps without writing anything.

    Args:
        teacher: a path, an `onnx.ModelProto` or a `gs.Graph`; not changed.
        steps: a list of mappings of `widen` arguments (`{"node": "conv1", "width": 96}`); one
            with the key `verb` may also be `deepen` or `grow-kernel`, with their arguments.
            Or a recipe: a YAML file, its text, or a mapping with `steps` (docs/recipes.md).
            Or a student (an .onnx file) whose provenance is replayed. Or "everywhere": every
            width that can grow, by `ratio`, at once.
        split, init, noise, seed: see `widen`; they come before a recipe's, a step's own first.
        shapes: input name -> sizes, for inputs that declare none.
        calibrate: data that a provenance names by its hash, each input name -> array.

    Raises:
        RefusalError, AmbiguousError, UsageError, ModelError: see `widen`; what is wrong in a
            file begins with its name and line.
    """
    source = read(teacher)
    asked = {"split": split, "init": init, "noise": noise, "seed": seed}
    given = {k: v for k, v in asked.items() if v is not None}
    if provenance.is_student(steps):
        if given:
            raise UsageError(
                "a student is replayed with its own settings", f"leave out {', '.join(given)}"
            )
        return _replayed(source, steps, shapes, calibrate)
    whole = isinstance(steps, str) and steps == "everywhere"
    recipe = load([{"everywhere": True, "ratio": ratio}] if whole else steps)
    common = {**recipe.common, **given}
    recipe = resolved(Recipe(recipe.steps, common, recipe.folder), calibrate)
    return _planned(source, recipe, shapes, some=not whole)


def _planned(source: Source, recipe: Recipe, shapes: Shapes | None, *, some: bool = True) -> Plan:
    analysis = Analysis(source, shapes)
    validity.checked(source, analysis.model, shapes)
    before = parameters(analysis)
    student = Student(analysis, apply(source, []), shapes)
    taken = [do(student, step, recipe.common, before, some=some) for step in recipe.steps]
    preserving = all(r.preserving for r in student.results)
    pieces = student.pieces
    warnings = [w for r in student.results for w in _warnings(r)]
    if student.results:
        settings = {"shapes": {k: list(v) for k, v in (shapes or {}).items()}}
        made = provenance.record(source, recipe, settings, preserving)
        try:
            found = provenance.records(source)
        except ModelError as why:
            found, warnings = [], [*warnings, f"{why}; the student's begins anew"]
        pieces = provenance.stamped(pieces, [*found, made])
    sizes = before, parameters(student.analysis)
    return Plan(source, pieces, student.results, sizes, preserving, shapes, warnings, taken)


def _replayed(source: Source, student: Any, shapes: Shapes | None, data: Sequence[Data]) -> Plan:
    """What a student's provenance says, from this teacher on."""
    grown = read(student)
    name = str(grown.path or "the student")
    todo = provenance.remaining(provenance.records(grown), source, name)
    parts: list[Plan] = []
    for number, record in enumerate(todo, 1):
        teacher = read(parts[-1].pieces) if parts else source
        if parts and provenance.identity(teacher) != record["teacher"]:
            raise ModelError(
                f"'{name}' was grown in {len(todo)} runs, and what run {number} began with is not "
                "what the runs before it give (trained or changed in between?)",
                "give that model",
            )
        recipe, sizes = _run(record, name, data)
        parts.append(_planned(teacher, recipe, sizes or shapes))
    warnings = [w for p in parts for w in p.warnings]
    last = parts[-1]
    if provenance.identity(read(last.pieces)) != provenance.identity(grown):
        warnings.append(f"this is not what '{name}' holds now: {provenance.why_not(todo)}")
    return Plan(
        source, last.pieces, [r for p in parts for r in p.steps],
        (parts[0].parameters[0], last.parameters[1]), all(p.preserving for p in parts), shapes,
        warnings, [t for p in parts for t in p.taken],
    )  # fmt: skip


def _run(record: dict[str, Any], name: str, data: Sequence[Data]) -> tuple[Recipe, Shapes]:
    """The recipe and the sizes of one run."""
    try:
        recipe = resolved(load(provenance.recipe(record)), data)
        return recipe, {k: tuple(v) for k, v in record.get("shapes", {}).items()}
    except (TypeError, AttributeError) as why:
        raise ModelError(f"the provenance of '{name}' cannot be replayed: {why}") from None


def _warnings(result: Result) -> list[str]:
    if result.preserving or result.warnings:
        return list(result.warnings)
    return ["the student does not compute the teacher's function, as was asked for"]
