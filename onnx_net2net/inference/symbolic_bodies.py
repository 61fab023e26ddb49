"""Open sizes into and out of the bodies of If, Loop, Scan and SequenceMap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnx_net2net.graph.model import Node
from onnx_net2net.graph.subgraphs import Tie
from onnx_net2net.inference import expressions as ex
from onnx_net2net.inference.expressions import Dim, Expr
from onnx_net2net.inference.size_rules import (
    Described,
    Dims,
    Sized,
    is_open,
    objects,
    over_elements,
)

if TYPE_CHECKING:
    from onnx_net2net.inference.symbolic import Pass


class Bodies:
    """What a pass does where a body begins and where it ends."""

    def __init__(self, walk: Pass) -> None:
        self._pass, self._sizes, self._model = walk, walk.sizes, walk.model
        self._done: set[str] = set()

    def enter(self, scope: str) -> None:
        """Give the formal inputs of a body the sizes of what its owner gives them."""
        for s in reversed([s for s in self._model.within(scope) if s not in self._done]):
            self._done.add(s)
            owner = self._model.owners[s]
            for tie, name in _formals(owner):
                given = owner.inputs[tie.input] if tie.input is not None else ""
                dims = self._sizes.shape(given) if given else None
                if dims is not None and is_open(dims):
                    self._put(name, _without(dims, tie.outer), owner)

    def _put(self, name: str, dims: Dims, owner: Node) -> None:
        here = self._sizes.facts.shapes.get(name)
        if here is None or len(here) != len(dims) or any(d is None for d in here):
            return
        kept = [
            self._any(owner, size or 0) if self._sizes.at(d) not in (None, size) else d
            for d, size in zip(dims, here, strict=True)
        ]
        if is_open(kept):
            self._sizes.shapes[name] = tuple(kept)

    def _any(self, owner: Node, size: int) -> Expr:
        """A size of which nothing is known, not even in another model."""
        return self._pass.opaque(owner.op, "body", (self._pass.unique(),), size, True)

    def leave(self, owner: Node) -> None:
        """The outputs of a node with bodies, whose bodies have been gone through."""
        for o in owner.outputs:
            self._sizes.shapes.pop(o, None)
            self._sizes.values.pop(o, None)
        if _chooses(owner):
            self._branches(owner)
            return
        self._settle(owner)
        for tie in owner.ties():
            name = owner.outputs[tie.output] if tie.output is not None else ""
            if not name or tie.end is None:
                continue
            end = self._sizes.shape(owner.ends[tie.end])
            dims = None if end is None else self._collected(owner, tie, end)
            here = self._sizes.facts.shapes.get(name)
            if here is None or any(d is None for d in here):
                continue
            if dims is None or len(dims) != len(here):
                dims = tuple(self._any(owner, d or 0) for d in here)
            self._put(name, dims, owner)

    def _settle(self, owner: Node) -> None:
        """States that a body hands on in other sizes: any size, and once more through it."""
        for _ in range(8):
            changed = False
            for tie, name in _formals(owner):
                if not tie.carried or tie.end is None or name in owner.inputs:
                    continue
                now, end = self._sizes.shape(name), self._sizes.shape(owner.ends[tie.end])
                if now is None or end is None or len(now) != len(end) or now == end:
                    continue
                self._sizes.shapes[name] = tuple(
                    a if a == b else self._any(owner, self._sizes.at(a) or 0)
                    for a, b in zip(now, end, strict=True)
                )
                changed = True
            if not changed:
                return
            for node in self._model.nodes[: owner.index]:
                if any(self._model.owners[s] is owner for s in self._model.within(node.scope)):
                    self.leave(node) if node.bodies else self._pass.step(node)

    def _collected(self, owner: Node, tie: Tie, end: Dims) -> Dims:
        """An end's shape with the dimensions along which rounds are laid side by side."""
        dims = list(end)
        rank = len(dims) + len(tie.outer)
        for a in sorted(a % rank for a in tie.outer):
            dims.insert(a, self._rounds(owner))
        return tuple(dims)

    def _rounds(self, owner: Node) -> Dim:
        """How often a body runs, where that is known before."""
        for tie in owner.ties():
            if tie.outer and tie.input is not None:
                given = self._sizes.shape(owner.inputs[tie.input])
                if given is not None:
                    return given[tie.outer[0] % len(given)]
        value = self._sizes.value(owner.inputs[0]) if owner.inputs else None
        if value is None or isinstance(value, Described):
            return self._any(owner, -1)
        turns = value.reshape(-1)[0]
        return ex.maximum(0, turns if isinstance(turns, Expr) else int(turns))

    def _branches(self, owner: Node) -> None:
        condition = self._sizes.value(owner.inputs[0])
        sized = owner.inputs[0] in self._sizes.values
        chosen: Dim | None = None
        if condition is not None and not isinstance(condition, Described):
            first = condition.reshape(-1)[0]
            chosen = first if isinstance(first, Expr) else int(first)
        count = len(owner.ends) // len(owner.bodies)
        then, other = (list(owner.bodies).index(b) * count for b in ("then_branch", "else_branch"))
        for k, name in enumerate(owner.outputs):
            if name:
                pair = owner.ends[then + k], owner.ends[other + k]
                self._either(owner, name, pair, chosen, sized)

    def _either(
        self, owner: Node, name: str, pair: Sequence[str], chosen: Dim | None, sized: bool
    ) -> None:
        here = self._sizes.facts.shapes.get(name)
        a, b = (self._sizes.shape(t) for t in pair)
        if chosen is not None and not isinstance(chosen, Expr):
            a = b = a if chosen else b
        if here is not None and None not in here:
            dims: list[Dim] = []
            for k, size in enumerate(here):
                one, two = (x[k] if x is not None and len(x) == len(here) else None for x in (a, b))
                if one is None or two is None:
                    dims.append(self._any(owner, size or 0))
                elif chosen is None and one != two:
                    dims.append(self._one_of(owner, one, two, size or 0))
                else:
                    dims.append(ex.where(1 if chosen is None else chosen, one, two))
            if sized or is_open(dims):
                self._put(name, tuple(dims), owner)
        if name in self._sizes.facts.values:
            self._value(owner, name, pair, chosen)

    def _one_of(self, owner: Node, one: Dim, two: Dim, size: int) -> Dim:
        """A size that is decided at run time, by a condition that others may share."""
        owners = (self._model.owners[s] for s in self._model.within(owner.scope))
        if not all(map(_chooses, owners)):
            return self._any(owner, size)
        self._sizes.choices.add(owner.inputs[0])
        return self._pass.opaque("If", "at run time", (owner.inputs[0], one, two), size, True)

    def _value(self, owner: Node, name: str, pair: Sequence[str], chosen: Dim | None) -> None:
        """What an If gives that is known: what the branch gives that is taken."""
        values = [self._sizes.value(t) for t in pair]
        if chosen is not None and not isinstance(chosen, Expr):
            found: Sized | None = values[0 if chosen else 1]
        elif chosen is None or any(v is None or isinstance(v, Described) for v in values):
            found = None
        else:
            a, b = (np.asarray(v) for v in values)
            same = a.shape == b.shape and {a.dtype.kind, b.dtype.kind} <= set("iubO")
            found = (
                over_elements(lambda x, y: ex.where(chosen, x, y), objects(a), objects(b))
                if same
                else None
            )
        if found is None:
            here = tuple(np.asarray(self._sizes.facts.values[name]).shape)
            self._sizes.values[name] = Described(ex.named("if", self._pass.unique()), here)
            self._sizes.shapes[name] = tuple(self._any(owner, d) for d in here)
        elif isinstance(found, Described) or any(isinstance(v, Expr) for v in found.reshape(-1)):
            self._sizes.values[name] = found
            if isinstance(found, Described) and is_open(found.shape):
                self._sizes.shapes[name] = found.shape


def _formals(owner: Node) -> list[tuple[Tie, str]]:
    """The ties of a node with the formal inputs of each of its bodies."""
    by_formal = {t.formal: t for t in owner.ties() if t.formal is not None}
    count = len(owner.formals) // max(len(owner.bodies), 1)
    return [
        (by_formal[k % count], name)
        for k, name in enumerate(owner.formals)
        if count and k % count in by_formal and name not in owner.inputs
    ]


def _without(dims: Dims, axes: Sequence[int]) -> Dims:
    gone = {a % len(dims) for a in axes} if dims else set()
    return tuple(d for k, d in enumerate(dims) if k not in gone)


def _chooses(owner: Node) -> bool:
    """Whether one of its bodies runs, once."""
    return "then_branch" in owner.bodies


__all__ = ["Bodies"]
