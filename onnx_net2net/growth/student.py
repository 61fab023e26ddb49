"""The student as it grows, and the step that is being done to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from onnx_net2net.errors import AmbiguousError, RefusalError, UsageError
from onnx_net2net.files.patch import Pieces, apply
from onnx_net2net.files.reader import read
from onnx_net2net.graph.messages import metadata_edit
from onnx_net2net.growth.result import Result, Shapes
from onnx_net2net.growth.selectors import places
from onnx_net2net.growth.verb import Verb
from onnx_net2net.inference.analysis import Analysis

PRESERVING = "onnx_net2net.preserving"
V = TypeVar("V", bound=Verb)


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
        if not result.preserving:
            patch.append(metadata_edit(self.analysis.model.proto, PRESERVING, "false"))
        self.pieces = apply(self.analysis.source, patch)
        self.shapes = result.sizes(self.shapes)
        self.analysis = Analysis(read(self.pieces), self.shapes)
        self.results.append(result)

    def copy(self) -> Student:
        """The same student, to try something."""
        return replace(self, results=list(self.results))

    def become(self, other: Student) -> None:
        """Take over what was tried on a copy."""
        self.analysis, self.pieces, self.results = other.analysis, other.pieces, other.results


@dataclass
class Task(Generic[V]):
    """A step, and what it left out so far.

    `start`: the seed of the first thing grown; `teacher`: how many parameters the teacher has.
    """

    asked: V
    start: int
    teacher: int
    left_out: dict[str, RefusalError | UsageError] = field(default_factory=dict)

    def seeded(self, student: Student) -> V:
        """The step with the seed of the next result."""
        seed = self.asked.seed
        return replace(self.asked, seed=self.start + len(student.results) if seed is None else seed)

    def grow(self, student: Student, where: dict[str, str]) -> None:
        """Do the step at one place."""
        with self.trying(*where.values()):
            student.take(self.seeded(student).at(**where).grow(student.analysis))

    def grow_all(self, student: Student) -> list[str]:
        """Do the step at every place that it names; these places."""
        found = places(student.analysis, self.asked)
        for where in found:
            self.grow(student, where)
        return [name for where in found for name in where.values()]

    @contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Leave out what cannot be, where the step allows that."""
        try:
            yield
        except (RefusalError, UsageError) as error:
            if not self.asked.lenient or isinstance(error, AmbiguousError):
                raise
            self.left_out[name] = error
