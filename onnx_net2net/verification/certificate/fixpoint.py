"""Loop and Scan in the algebra of the certificate: a proof by induction over the iterations.

The positions of a state are sorted into classes: those that start alike and that the body
makes alike out of classes. When no round of the body tells more apart, positions of one class
hold one value at every iteration. The classes are the teacher's; the student's positions must
fall into the same ones with the same body.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_net2net.graph.model import Node
from onnx_net2net.graph.subgraphs import Tie
from onnx_net2net.inference.size_rules import Dims
from onnx_net2net.typing import Shape
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.names import (
    Labels,
    constant_label,
    digest,
    key,
    mix,
    positions,
    repeats,
    rows_along,
)
from onnx_net2net.verification.certificate.open_axes import name_of
from onnx_net2net.verification.certificate.registry import Registry

LOOPS = frozenset(("Loop", "Scan"))
ROUND = LOOPS | {"SequenceMap"}
"""Operators whose body runs several times."""
_MOST_ROUNDS = 8


@dataclass
class Body:
    """A loop as one model has it, to be gone round.

    Attributes:
        name: what the operator does, without its operands.
        depth: how many loops stand around it.
        evaluate: the ends of the body, given terms for some of its formal inputs.
        shapes: of the node's outputs.
        given: shapes of its inputs as expressions.
    """

    node: Node
    args: Sequence[Term | None]
    name: int
    depth: int
    evaluate: Callable[[dict[str, Term]], list[Term]]
    shapes: Sequence[Shape | None]
    given: Sequence[Dims | None]
    registry: Registry

    def states(self) -> list[Tie]:
        """What goes round and does not stay as it is."""
        ties = [t for t in self.node.ties() if t.carried and t.input is not None]
        return [t for t in ties if not self._same(t)]

    def _same(self, tie: Tie) -> bool:
        assert tie.formal is not None
        return self.node.formals[tie.formal] in self.node.inputs

    def results(self) -> list[Term]:
        """The node's outputs.

        Raises:
            UnknownError: the student's states fall into other classes, or none are found.
        """
        if any(t.carried and t.outer for t in self.node.ties()):
            raise UnknownError("a Scan over batches")
        states = self.states()
        begun = [self._begun(t) for t in states]
        scanned = self._scanned()
        scope = next(iter(self.node.bodies.values()))
        classes = [
            [self._sorted((scope, -1, j, a), v) for a, v in enumerate(labels)]
            for j, (_, labels) in enumerate(begun)
        ]
        limit = self.registry.rounds.get(scope, _MOST_ROUNDS)
        if self.registry.teaching:
            limit = _MOST_ROUNDS
        for k in range(limit):
            before = len(self.registry.losses)
            given = dict(scanned)
            for j, tie in enumerate(states):
                name = self.node.formals[tie.formal or 0]
                tag = key("state", self.depth, tie.formal, k)
                given[name] = Value(tag, tuple(classes[j]))
            ends = self.evaluate(given)
            finer = [
                self._finer((scope, k, j), begun[j][1], classes[j], ends[tie.end or 0])
                for j, tie in enumerate(states)
            ]
            pairs = zip(classes, finer, strict=True)
            settled = all(all(map(np.array_equal, a, b)) for a, b in pairs)
            if settled and (self.registry.teaching or k == limit - 1):
                self.registry.rounds[scope] = k + 1
                starts = [name for name, _ in begun]
                return self._named(states, starts, classes, ends, scope, k)
            del self.registry.losses[before:]
            classes = finer
        raise UnknownError("the states do not fall into the teacher's classes")

    def _begun(self, tie: Tie) -> tuple[int, tuple[Labels, ...]]:
        """How a state starts: a name, and labels for its axes."""
        term = self.args[tie.input] if tie.input is not None else None
        if term is None:
            return key("absent"), ()
        start = valued(term)
        return start.tag, start.axes

    def _scanned(self) -> dict[str, Term]:
        """What the body reads at each iteration of the inputs that are scanned."""
        found: dict[str, Term] = {}
        for tie in self.node.ties():
            if tie.carried or tie.input is None or tie.formal is None:
                continue
            term = self.args[tie.input]
            if term is None or isinstance(term, Const):
                raise UnknownError("a constant is scanned")
            x = term.settled()
            along = {a % len(x.axes) for a in tie.outer}
            fixed = [(a, digest(x.axes[a])) for a in sorted(along)]
            kept = tuple(v for a, v in enumerate(x.axes) if a not in along)
            tag = key("scanned", self.depth, x.tag, fixed)
            found[self.node.formals[tie.formal]] = Value(tag, kept)
        return found

    def _sorted(self, place: tuple[str, int, int, int], labels: Labels) -> Labels:
        """The class of each position: the first of the teacher's positions with its label."""
        kinds, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
        if self.registry.teaching:
            self.registry.states[place] = (kinds, first.astype(np.uint64))
            return first.astype(np.uint64)[inverse.reshape(-1)]
        known, where = self.registry.states.get(place, (kinds[:0], kinds[:0]))
        at = np.minimum(np.searchsorted(known, kinds), max(len(known) - 1, 0))
        hit = known[at] == kinds if len(known) else np.zeros(len(kinds), bool)
        own = mix(key("new class"), first.astype(np.uint64))
        classes = np.where(hit, where[at], own) if len(known) else own
        return classes[inverse.reshape(-1)]

    def _finer(
        self, place: tuple[str, int, int], begun: tuple[Labels, ...], classes: list[Labels],
        end: Term,
    ) -> list[Labels]:  # fmt: skip
        if not begun and not classes:
            return []
        if isinstance(end, Const):
            raise UnknownError("a state becomes a constant")
        axes = end.settled().axes
        if [len(v) for v in axes] != [len(v) for v in classes]:
            raise UnknownError("a state changes its shape")
        parts = zip(begun, classes, axes, strict=True)
        return [self._sorted((*place, a), mix(*part)) for a, part in enumerate(parts)]

    def _named(
        self, states: list[Tie], starts: list[int], classes: list[list[Labels]],
        ends: list[Term], scope: str, last: int,
    ) -> list[Term]:  # fmt: skip
        """The outputs, named by how the states start and what each class becomes."""
        node = self.node
        system = []
        for j, tie in enumerate(states):
            end = ends[tie.end or 0]
            tag = end.settled().tag if isinstance(end, Value) else end.key
            kinds = [self.registry.states[scope, last, j, a] for a in range(len(classes[j]))]
            system.append((tie.formal, starts[j], tag, [tuple(map(digest, k)) for k in kinds]))
        inside = {t.input for t in node.ties() if t in states or t.output is not None}
        scanned = {t.input: t.outer for t in node.ties() if t.formal is not None and not t.carried}
        rest: list[object] = []
        for k, a in enumerate(self.args):
            if k in scanned and isinstance(a, Value):  # how often the body runs
                dims = self.given[k] or a.shape
                rest.append([(len(a.axes[o]), name_of(dims[o])) for o in scanned[k]])
            elif k not in inside:
                rest.append(a.whole if a is not None else None)
        name = key("loop", self.name, rest, system)
        found: list[Term] = [Value(key("nothing"), None)] * len(node.outputs)
        for tie in node.ties():
            if tie.output is None or tie.end is None:
                continue
            if tie.carried:
                term = self.args[tie.input] if tie.input is not None else None
                if tie not in states and term is not None:
                    found[tie.output] = term
                    continue
                j = states.index(tie)
                found[tie.output] = Value(key(name, "last", j), tuple(classes[j]))
                continue
            found[tie.output] = self._stacked(tie, ends[tie.end], key(name, "every", tie.end))
        return found

    def _stacked(self, tie: Tie, end: Term, name: int) -> Value:
        """One end of every iteration, laid side by side."""
        shape = self.shapes[tie.output or 0]
        if isinstance(end, Const):
            raise UnknownError("a constant is collected")
        if shape is None or any(d is None for d in shape):
            raise UnknownError("how often the body runs is not known")
        labels = list(end.settled().axes)
        for a in sorted(a % len(shape) for a in tie.outer):
            labels.insert(a, positions(shape[a] or 0))
        return Value(key(name, end.settled().tag), tuple(labels))


def valued(term: Term) -> Value:
    """A term by its axes; a constant by what stands at each position of its one long axis."""
    if isinstance(term, Value):
        return term.settled()
    array = term.array()
    if array.size and repeats(array.reshape(-1), 0):
        label = constant_label(array.reshape(-1)[0])
        same = tuple(np.full(d, label, np.uint64) for d in array.shape)
        return Value(key("all one value", str(array.dtype), int(label), array.ndim), same)
    long = [k for k, d in enumerate(array.shape) if d > 1]
    if len(long) > 1:
        raise UnknownError("a constant of several axes goes into a body or comes out of one")
    labels = [
        rows_along(array, k) if k in long else positions(d) for k, d in enumerate(array.shape)
    ]
    return Value(key("rows", str(array.dtype), long), tuple(labels))
