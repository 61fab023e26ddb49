"""Channel spaces: the axes that must grow together, closed under all factors from a seed.

Every axis of a space carries labels: the class of each position, -1 where a position does
not belong. Positions of one class are copied equally often. A label that is finer than
every factor of a node must coarsen; the ways to do so are tried in turn (a grouped
convolution: channels per group, else whole groups).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from onnx_net2net.coupling.space import Axis, Instance, Space, axis_of
from onnx_net2net.errors import Reason, Refusal
from onnx_net2net.graph.model import Node
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.notation import Entry
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array

"""(tensor, use, dimension); `use` is the reader (node, slot) of a constant, None otherwise,
so that constants which exporters shared are seen apart."""
"""A node (index), in the case of a constant one for a certain use."""

_MOST_ATTEMPTS = 64
_ELSEWHERE = "choose a layer whose channels do not pass through this node"
INSIDE = "name a layer inside, or --allow-interface"


class _BlockedError(Exception):
    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


class _ConflictError(Exception):
    """A label is finer than every factor: `ways` are the factors it may coarsen to."""

    def __init__(self, axis: Axis, ways: list[Array], node: Node) -> None:
        self.axis, self.ways, self.node = axis, ways, node


class _Closure:
    """Labels being closed; copied where there is a choice."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.parent: list[int] = []
        self.labels: dict[Axis, Array] = {}
        self.taken: dict[Instance, list[Factor]] = {}
        self.chosen: dict[tuple[Instance, Entry], list[Factor]] = {}
        self.uniform: str | None = None
        self.choices: list[str] = []
        self.todo: list[Axis] = []
        self._table: Array | None = None

    def copy(self) -> _Closure:
        other = _Closure(self.analysis)
        other.parent = list(self.parent)
        other.labels = dict(self.labels)
        other.taken = {k: list(v) for k, v in self.taken.items()}
        other.chosen = dict(self.chosen)
        other.uniform, other.choices = self.uniform, list(self.choices)
        other.todo = list(self.todo)
        return other

    def fresh(self, count: int) -> Array:
        start = len(self.parent)
        self._table = None
        self.parent += range(start, start + count)
        return np.arange(start, start + count)

    def root(self, c: int) -> int:
        while self.parent[c] != c:
            self.parent[c] = self.parent[self.parent[c]]
            c = self.parent[c]
        return c

    def resolved(self, labels: Array) -> Array:
        """Labels with merged classes replaced by their representative."""
        if self._table is None:
            self._table = np.array([self.root(c) for c in range(len(self.parent))] + [-1])
        return self._table[labels]

    def merge(self, a: Array, b: Array) -> None:
        """Make classes equal, position by position."""
        self._table = None
        for x, y in {(int(x), int(y)) for x, y in zip(a, b, strict=True)}:
            rx, ry = self.root(x), self.root(y)
            self.parent[max(rx, ry)] = min(rx, ry)

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

    def run(self) -> None:
        """Follow labels until nothing changes."""
        while self.todo:
            axis = self.todo.pop()
            for instance, entry in _around(self.analysis, axis):
                self.visit(instance, entry, axis)

    def visit(self, instance: Instance, entry: Entry, axis: Axis) -> None:
        """Carry an axis' labels through one node."""
        node = self.analysis.model.nodes[instance[0]]
        fs = self.analysis.factors(node)
        if isinstance(fs, Refusal):
            raise _BlockedError(_at(fs, axis))
        labels = self.resolved(self.labels[axis])
        labelled = labels >= 0
        covered = self.analysis.dropped(node).get(entry, np.zeros(len(labels), bool)).copy()
        fitting: list[tuple[Factor, Array]] = []
        ways: list[tuple[Factor, Array]] = []
        for f in fs:
            index = f.at.get(entry)
            if index is None:
                continue
            here = labelled & (index >= 0)
            if not here.any():
                continue
            phi = np.full(f.size, -1)
            phi[index[here]] = labels[here]
            fits = bool((phi[index[here]] == labels[here]).all())
            (fitting if fits else ways).append((f, phi if fits else index))
        before = self.chosen.get((instance, entry), [])
        fitting.sort(key=lambda c: (not any(c[0] is b for b in before), -c[0].inner, -c[0].size))
        carry: list[tuple[Factor, Array]] = []
        for f, phi in fitting:
            reach = f.at[entry] >= 0
            if (labelled & reach & ~covered).any():
                carry.append((f, phi))
                covered |= reach
        open_ = labelled & ~covered
        if open_.any():
            options = [(f, i) for f, i in ways if f.role != "across" and (open_ & (i >= 0)).any()]
            if not options:
                raise _BlockedError(_uncovered(node, axis, [f for f, _ in ways], fs, entry))
            options.sort(key=lambda c: (-c[0].inner, -self._classes(labels, c[1])))
            raise _ConflictError(axis, [i for _, i in options], node)
        self.chosen[instance, entry] = [f for f, _ in carry]
        for f, phi in carry:
            self.carry(instance, f, phi, axis)

    def _classes(self, labels: Array, way: Array) -> int:
        """How many classes remain if labels coarsen to a factor (an upper bound)."""
        return len(np.unique(way[(labels >= 0) & (way >= 0)]))

    def carry(self, instance: Instance, f: Factor, phi: Array, axis: Axis) -> None:
        """Put a factor's labels on all of its axes."""
        node = self.analysis.model.nodes[instance[0]]
        if f.role == "across":
            raise _BlockedError(Refusal(Reason.ACROSS, node.name, axis[::2], node.op, _ELSEWHERE))
        if f.role == "mean":
            if self.uniform is None:
                self.uniform = node.name
            if (phi < 0).any():
                phi = phi.copy()
                phi[phi < 0] = self.fresh(int((phi < 0).sum()))
        known = self.taken.setdefault(instance, [])
        if not any(f is k for k in known):
            known.append(f)
        for entry, index in f.at.items():
            new = np.where(index >= 0, phi[index], -1)
            self.set(axis_of(self.analysis, instance, entry), new)


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
    open_ = analysis.interface_may_grow
    if tensor in model.inputs and not open_:
        raise _BlockedError(
            Refusal(
                Reason.GRAPH_INPUT, tensor, (tensor, dim),
                hint=f"this width is the model's input; {INSIDE}",
            )
        )  # fmt: skip
    if tensor in model.outputs and not open_:
        raise _BlockedError(
            Refusal(
                Reason.GRAPH_OUTPUT, tensor, (tensor, dim),
                hint=f"this width is the model's output; {INSIDE}",
            )
        )  # fmt: skip


def _at(refusal: Refusal, axis: Axis) -> Refusal:
    return Refusal(refusal.reason, refusal.node, axis[::2], refusal.detail, refusal.hint)


def _uncovered(
    node: Node, axis: Axis, ways: list[Factor], fs: list[Factor], entry: Entry
) -> Refusal:
    broadcast = any(entry[1] == e[1] and e[0] != entry[0] for f in fs for e in f.at)
    if ways or not broadcast:
        return Refusal(
            Reason.ACROSS, node.name, axis[::2], node.op,
            _ELSEWHERE,
        )  # fmt: skip
    return Refusal(
        Reason.BROADCAST, node.name, axis[::2], node.op,
        "one channel is broadcast over many here; it must stay one",
    )  # fmt: skip


def close(analysis: Analysis, seeds: Iterable[tuple[str, int]]) -> Space | Refusal:
    """The smallest set of axes that contains the seed axes and is closed under all factors.

    Where a product of factors leaves a choice, the one that is taken by default.

    Args:
        seeds: (tensor, dimension) pairs; every position starts as a class of its own.
    """
    found = closures(analysis, seeds)
    return found if isinstance(found, Refusal) else next(found, None) or found.refusal


def closures(analysis: Analysis, seeds: Iterable[tuple[str, int]]) -> Closures | Refusal:
    """All spaces of the seed axes: one, or one for each factor of a product; default first."""
    start = _Closure(analysis)
    seed: Axis | None = None
    for tensor, dim in seeds:
        shape = analysis.first.shapes.get(tensor)
        size = shape[dim] if shape else None
        if size is None:
            return Refusal(Reason.UNKNOWN_SHAPE, tensor, (tensor, dim))
        assert shape is not None
        static = all((f.shapes.get(tensor) or shape)[dim] == size for f in analysis.facts)
        if not static:
            return Refusal(Reason.GRAPH_INPUT, tensor, (tensor, dim), "it follows the input's size")
        seed = seed or (tensor, None, dim)
        start.set((tensor, None, dim), start.fresh(size))
    if seed is None:
        raise ValueError("no seed axis")
    return Closures(analysis, start, seed)


class Closures(Iterator[Space]):
    """Spaces as they are asked for; `refusal`: why there is none."""

    def __init__(self, analysis: Analysis, start: _Closure, seed: Axis) -> None:
        self._model, self._seed, self._attempts = analysis.model, seed, 0
        self.refusal = Refusal(Reason.MIXED, seed[0], seed[::2])
        self._first = True
        self._found = self._explore(start)

    def __next__(self) -> Space:
        return next(self._found)

    def _explore(self, state: _Closure) -> Iterator[Space]:
        self._attempts += 1
        if self._attempts > _MOST_ATTEMPTS:
            return
        try:
            state.run()
        except _BlockedError as blocked:
            if self._first:
                self.refusal, self._first = blocked.refusal, False
        except _ConflictError as conflict:
            row = TABLE[conflict.node.op]
            for way in conflict.ways:
                other = state.copy()
                other.choices.append(conflict.node.name)
                other.coarsen(conflict.axis, way)
                some = False
                for space in self._explore(other):
                    some = True
                    yield space
                # a product of the operator's own: its default, unless it offers each of its names
                if some and row.movement is None and not row.offers:
                    return
        else:
            yield _finished(state, self._seed)


def _finished(state: _Closure, seed: Axis) -> Space:
    """Classes renumbered in the order in which they stand on the seed axis."""
    roots = [state.root(c) for c in range(len(state.parent))]
    order = list(dict.fromkeys([roots[c] for c in state.labels[seed] if c >= 0] + roots))
    seen = np.unique(np.concatenate(list(state.labels.values())))
    live = {roots[c] for c in seen.tolist() if c >= 0}
    index = {r: k for k, r in enumerate(o for o in order if o in live)}
    table = np.array([index.get(r, -1) for r in roots] + [-1])
    labels = {axis: table[v] for axis, v in state.labels.items()}
    return Space(seed, len(index), labels, state.taken, state.uniform, state.choices)
