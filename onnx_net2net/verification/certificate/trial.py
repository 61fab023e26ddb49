"""Both models evaluated at some sizes under common names, and whether their outputs match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from onnx import TypeProto

from onnx_net2net.errors import ModelError
from onnx_net2net.inference.expressions import Dim, Expr
from onnx_net2net.inference.input_sizes import declared_of, inference_of
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.inference.size_symbols import Sizes, input_dims
from onnx_net2net.inference.symbolic import symbolic
from onnx_net2net.verification.certificate.constants import Constants
from onnx_net2net.verification.certificate.domain import Const, Term
from onnx_net2net.verification.certificate.interpreter import Evaluation
from onnx_net2net.verification.certificate.registry import Registry
from onnx_net2net.verification.sides import Side, Sides

Resolved = Callable[[Dim], Dim]


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        wrong: outputs of the student that are not named as the teacher's.
    """

    before: Evaluation
    after: Evaluation
    wrong: list[str]


class ShapesError(Exception):
    """The student's shapes cannot be inferred at the teacher's sizes."""


@dataclass
class Trial:
    """Two models whose names are compared, at one set of sizes after the other.

    Args:
        known: the student's facts, as far as they were computed already.
        registry: what they have in common.
        constants: of both, where they were named before.
    """

    sides: Sides
    known: Sequence[Facts]
    registry: Registry
    constants: tuple[Constants, Constants] | None = None

    def at(self, mine: Facts, resolved: Resolved = lambda d: d) -> Outcome:
        """Evaluate both models.

        Args:
            mine: the teacher's facts at some sizes.
            resolved: what is made of expressions there.

        Raises:
            ShapesError: the student's shapes cannot be inferred.
        """
        sides, registry = self.sides, self.registry
        teacher, student = self._constants()
        registry.look_at_teacher()
        given = replace(
            input_dims(declared_of(sides.teacher.source, sides.teacher.model), mine),
            resolved=resolved,
        )
        before = _evaluated(sides.teacher, mine, teacher, registry, given)
        registry.teaching = False
        types = {n: mine.types[n] for n in sides.student.model.inputs if n in mine.types}
        embedding = sides.student.embedding
        facts = self._facts(embedding.types(types))
        after = _evaluated(sides.student, facts, student, registry, given, before)
        # it may fail where the teacher runs, or names a size by another condition
        shared = before.sizes.choices & after.sizes.choices
        comparable = not after.sizes.checks - before.sizes.checks and all(
            same(before.term(t), after.term(t)) for t in shared
        )
        wrong = [
            theirs
            for o, theirs in zip(
                sides.teacher.model.outputs, sides.student.model.outputs, strict=True
            )
            if not comparable
            or not same(before.term(o), embedding.cut_term(theirs, after.term(theirs)))
        ]
        return Outcome(before, after, wrong)

    def inputs(self, facts: Facts) -> Sizes:
        """The teacher's inputs as expressions."""
        teacher = self.sides.teacher
        return input_dims(declared_of(teacher.source, teacher.model), facts)

    def again(self, registry: Registry) -> Trial:
        """The same with other names to compare."""
        return Trial(self.sides, self.known, registry, self._constants())

    def _constants(self) -> tuple[Constants, Constants]:
        if self.constants is None:
            teacher = Constants(self.sides, self.sides.teacher)
            self.constants = teacher, Constants(self.sides, self.sides.student, teacher)
        return self.constants

    def _facts(self, types: dict[str, TypeProto]) -> Facts:
        """The student's facts at the given types of the inputs."""
        for facts in self.known:
            if all(facts.types.get(n) == t for n, t in types.items()):
                return facts
        student = self.sides.student
        try:
            return inference_of(student.source, student.model).run(types)
        except ModelError as why:
            raise ShapesError(str(why)) from None


def _evaluated(
    side: Side, facts: Facts, constants: Constants, registry: Registry, given: Sizes,
    before: Evaluation | None = None,
) -> Evaluation:  # fmt: skip
    """A model in the algebra of names.

    Args:
        given: the teacher's inputs as expressions; what has grown is as the facts have it.
        before: the teacher's evaluation, where this is the student.
    """
    here = {name: Sizes(facts).shape(name) for name in given.shapes}
    inputs = {
        name: tuple(
            d if isinstance(d, Expr) else size
            for d, size in zip(dims, here[name] or (), strict=True)
        )
        for name, dims in given.shapes.items()
        if here[name] is not None
    }
    inference = inference_of(side.source, side.model)
    sizes = symbolic(inference, facts, replace(given, shapes=inputs), given.resolved)
    return Evaluation(side, facts, constants, registry, sizes, before).run()


def same(a: Term, b: Term) -> bool:
    """Whether two tensors are the same function, position by position."""
    if isinstance(a, Const) or isinstance(b, Const):
        return isinstance(a, Const) and isinstance(b, Const) and a.key == b.key
    return a.whole == b.whole


__all__ = ["Outcome", "ShapesError", "Trial", "same"]
