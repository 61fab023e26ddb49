"""Channel spaces: the axes that must grow together, closed under all factors from a seed.

Every axis of a space carries labels: the class of each position, -1 where a position does
not belong. Positions of one class are copied equally often. A label that is finer than
every factor of a node must coarsen; the ways to do so are tried in turn (a grouped
convolution: channels per group, else whole groups).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from onnx_net2net.errors import ANOTHER_LAYER, Reason, Refusal, RefusalError
from onnx_net2net.graph.model import Node
from onnx_net2net.graph.union_find import UnionFind
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.notation import Entry
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array
from .space import Axis, Instance, Space, axis_of

_MOST_ATTEMPTS = 64
INSIDE = "name a layer inside, or --allow-interface"


@dataclass(frozen=True)
class _Choice:
    """A label is finer than every factor of a node: `ways` are those it may coarsen to."""

    axis: Axis
    ways: list[Array]
    node: Node


class _Closure:
    """Labels being closed; copied where there is a choice."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.count = 0
        self.classes: UnionFind[int] = UnionFind()
        self.labels: dict[Axis, Array] = {}
        self.taken: dict[Instance, list[Factor]] = {}
        self.chosen: dict[tuple[Instance, Entry], list[Factor]] = {}
        self.uniform: str | None = None
        self.choices: list[str] = []
        self.todo: list[Axis] = []
        self._table: Array | None = None

    def copy(self) -> _Closure:
        other = copy(self)
        other.classes, other.labels = self.classes.copy(), dict(self.labels)
        other.taken = {k: list(v) for k, v in self.taken.items()}
        other.chosen, other.choices = dict(self.chosen), list(self.choices)
        other.todo = list(self.todo)
        return other

    def fresh(self, count: int) -> Array:
        self._table = None
        self.count += count
        return np.arange(self.count - count, self.count)

    def roots(self) -> list[int]:
        """The representative of each class."""
        return [self.classes.root(c) for c in range(self.count)]

    def resolved(self, labels: Array) -> Array:
        """Labels with merged classes replaced by their representative."""
        if self._table is None:
            self._table = np.array([*self.roots(), -1])
        return self._table[labels]

    def merge(self, a: Array, b: Array) -> None:
        """Make classes equal, position by position."""
        self._table = None
        for x, y in {(int(x), int(y)) for x, y in zip(a, b, strict=True)}:
            self.classes.join(*sorted((self.classes.root(x), self.classes.root(y))))

    def set(self, axis: Axis, new: Array) -> None:
        """Add labels to an axis; where it has others already, the classes become one."""
        old = self.labels.get(axis)
        if old is None:
            self.labels[axis] = new
            self.todo.append(axis)
            return
        both = (old >= 0) & (new >= 0) & (old != new)
        if both.any():
            self.merge(old[both], new[both])
        added = (old < 0) & (new >= 0)
        if added.any():
            self.labels[axis] = np.where(added, new, old)
            self.todo.append(axis)

    def coarsen(self, axis: Axis, way: Array) -> None:
        """Merge the classes that share a value of a factor, and look at the axis again."""
        labels = self.labels[axis]
        for value in np.unique(way[way >= 0]):
            here = labels[(way == value) & (labels >= 0)]
            if len(here) > 1:
                self.merge(here[:-1], here[1:])
        self.todo.append(axis)

    def run(self) -> _Choice | None:
        """Follow labels until nothing changes (None), or there is a choice.

        Raises:
            RefusalError: a node blocks an axis.
        """
        while self.todo:
            axis = self.todo.pop()
            for instance, entry in _around(self.analysis, axis):
                choice = self.visit(instance, entry, axis)
                if choice is not None:
                    return choice
        return None

    def visit(self, instance: Instance, entry: Entry, axis: Axis) -> _Choice | None:
        """Carry an axis' labels through one node."""
        node = self.analysis.model.nodes[instance[0]]
        try:
            fs = self.analysis.factors(node)
        except RefusalError as why:
            raise RefusalError(replace(why.refusal, axis=axis[::2])) from None
        labels = self.resolved(self.labels[axis])
        met = [*_met(fs, entry, labels)]
        before = self.chosen.get((instance, entry), [])
        fitting = [(f, phi) for f, phi in met if phi is not None]
        fitting.sort(key=lambda c: (c[0] not in before, -c[0].inner, -c[0].size))
        # what is dropped here needs no factor
        open_ = (labels >= 0) & ~self.analysis.dropped(node).get(entry, np.zeros(len(labels), bool))
        carry: list[tuple[Factor, Array]] = []
        for f, phi in fitting:
            if (open_ & (f.at[entry] >= 0)).any():
                carry.append((f, phi))
                open_ &= f.at[entry] < 0
        if open_.any():
            ways = [f for f, phi in met if phi is None]
            options = [f for f in ways if f.role != "across" and (open_ & (f.at[entry] >= 0)).any()]
            if not options:
                raise RefusalError(_uncovered(node, axis, ways, fs, entry))
            options.sort(key=lambda f: (-f.inner, -_remaining(labels, f.at[entry])))
            return _Choice(axis, [f.at[entry] for f in options], node)
        self.chosen[instance, entry] = [f for f, _ in carry]
        for f, phi in carry:
            self.carry(instance, f, phi, axis)
        return None

    def carry(self, instance: Instance, f: Factor, phi: Array, axis: Axis) -> None:
        """Put a factor's labels on all of its axes."""
        node = self.analysis.model.nodes[instance[0]]
        if f.role == "across":
            raise RefusalError(Refusal(Reason.ACROSS, node.name, axis[::2], node.op, ANOTHER_LAYER))
        if f.role == "mean":
            self.uniform = self.uniform or node.name
            phi = phi.copy()
            phi[phi < 0] = self.fresh(int((phi < 0).sum()))
        known = self.taken.setdefault(instance, [])
        if f not in known:
            known.append(f)
        for entry, index in f.at.items():
            new = np.where(index >= 0, phi[index], -1)
            self.set(axis_of(self.analysis, instance, entry), new)


def _met(
    fs: Iterable[Factor], entry: Entry, labels: Array
) -> Iterator[tuple[Factor, Array | None]]:
    """The factors that an axis' labels meet, with the label of each value; None: they are finer."""
    for f in fs:
        index = f.at.get(entry)
        here = None if index is None else (labels >= 0) & (index >= 0)
        if index is None or here is None or not here.any():
            continue
        phi = np.full(f.size, -1)
        phi[index[here]] = labels[here]
        yield f, phi if (phi[index[here]] == labels[here]).all() else None


def _remaining(labels: Array, way: Array) -> int:
    """How many classes remain if labels coarsen to a factor (an upper bound)."""
    return len(np.unique(way[(labels >= 0) & (way >= 0)]))


def _around(analysis: Analysis, axis: Axis) -> Iterator[tuple[Instance, Entry]]:
    """The nodes that make or read an axis, with the place where they have it."""
    tensor, use, dim = axis
    model = analysis.model
    if use is None:
        _interface(analysis, axis)
        if tensor in model.producer:
            node = model.producer[tensor]
            yield (node.index, None), (-1 - node.outputs.index(tensor), dim)
        for node, slot in (*model.readers.get(tensor, ()), *model.crossings.get(tensor, ())):
            yield (node.index, None), (slot, dim)
        return
    if tensor in model.producer:
        node = model.producer[tensor]
        yield (node.index, use), (-1 - node.outputs.index(tensor), dim)
    cone = analysis.cone(use)
    for node, slot in model.uses(tensor):
        if (node.index, slot) == use:
            yield (node.index, None), (slot, dim)
        elif any(o in cone for o in node.outputs):
            yield (node.index, use), (slot, dim)


def _interface(analysis: Analysis, axis: Axis) -> None:
    tensor, _, dim = axis
    model = analysis.model
    if analysis.interface_may_grow:
        return
    for names, reason, what in (
        (model.inputs, Reason.GRAPH_INPUT, "input"), (model.outputs, Reason.GRAPH_OUTPUT, "output"),
    ):  # fmt: skip
        if tensor in names:
            hint = f"this width is the model's {what}; {INSIDE}"
            raise RefusalError(Refusal(reason, tensor, (tensor, dim), hint=hint))


def _uncovered(
    node: Node, axis: Axis, ways: list[Factor], fs: list[Factor], entry: Entry
) -> Refusal:
    broadcast = any(entry[1] == e[1] and e[0] != entry[0] for f in fs for e in f.at)
    if ways or not broadcast:
        return Refusal(Reason.ACROSS, node.name, axis[::2], node.op, ANOTHER_LAYER)
    hint = "one channel is broadcast over many here; it must stay one"
    return Refusal(Reason.BROADCAST, node.name, axis[::2], node.op, hint)


def close(analysis: Analysis, seeds: Iterable[tuple[str, int]]) -> Space:
    """The smallest set of axes that contains the seed axes and is closed under all factors.

    Where a product of factors leaves a choice, the one that is taken by default.

    Args:
        seeds: (tensor, dimension) pairs; every position starts as a class of its own.

    Raises:
        RefusalError: there is none.
    """
    return next(closures(analysis, seeds))


def closures(analysis: Analysis, seeds: Iterable[tuple[str, int]]) -> Iterator[Space]:
    """All spaces of the seed axes: one, or one for each factor of a product; default first.

    Raises:
        RefusalError: there is none; why the first way that was tried is blocked.
    """
    start = _Closure(analysis)
    seed: Axis | None = None
    for tensor, dim in seeds:
        shape = analysis.first.shapes.get(tensor)
        size = shape[dim] if shape else None
        if size is None:
            hint = "give the sizes of the inputs with --shape"
            raise RefusalError(Refusal(Reason.UNKNOWN_SHAPE, tensor, (tensor, dim), hint=hint))
        assert shape is not None
        static = all((f.shapes.get(tensor) or shape)[dim] == size for f in analysis.facts)
        if not static:
            detail, hint = "it follows the input's size", "name an axis that weights make or read"
            raise RefusalError(Refusal(Reason.GRAPH_INPUT, tensor, (tensor, dim), detail, hint))
        seed = seed or (tensor, None, dim)
        start.set((tensor, None, dim), start.fresh(size))
    assert seed is not None, "no seed axis"
    refusals: list[Refusal] = []
    found = _explored(start, seed, refusals, itertools.count(1))
    first = next(found, None)
    if first is None:
        mixed = Refusal(Reason.MIXED, seed[0], seed[::2], hint="choose a layer before or after it")
        raise RefusalError(next(iter(refusals), mixed))
    yield first
    yield from found


def _explored(
    state: _Closure, seed: Axis, refusals: list[Refusal], attempts: Iterator[int]
) -> Iterator[Space]:
    """The spaces that a state closes to; what blocks the others goes to `refusals`."""
    if next(attempts) > _MOST_ATTEMPTS:
        return
    try:
        choice = state.run()
    except RefusalError as blocked:
        refusals.append(blocked.refusal)
        return
    if choice is None:
        yield _finished(state, seed)
        return
    row = TABLE[choice.node.op]
    for way in choice.ways:
        other = state.copy()
        other.choices.append(choice.node.name)
        other.coarsen(choice.axis, way)
        some = False
        for space in _explored(other, seed, refusals, attempts):
            some = True
            yield space
        # a product of the operator's own: its default, unless it offers each of its names
        if some and row.movement is None and not row.offers:
            return


def _finished(state: _Closure, seed: Axis) -> Space:
    """Classes renumbered in the order in which they stand on the seed axis."""
    roots = state.roots()
    order = list(dict.fromkeys([roots[c] for c in state.labels[seed] if c >= 0] + roots))
    seen = np.unique(np.concatenate(list(state.labels.values())))
    live = {roots[c] for c in seen.tolist() if c >= 0}
    index = {r: k for k, r in enumerate(o for o in order if o in live)}
    table = np.array([index.get(r, -1) for r in roots] + [-1])
    labels = {axis: table[v] for axis, v in state.labels.items()}
    return Space(seed, len(index), labels, state.taken, state.uniform, state.choices)
