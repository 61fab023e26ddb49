"""Where copies land when no fixed layout lines up: found by execution.

A channel shuffle sends every channel its own way. Scale all axes of a space alike, run the
student's data movements on indices and join positions that hold the same value into
wires. A student wire may copy any teacher wire that visits the same tensors; every teacher
wire must be copied at least once. This solves chains of Reshape, Transpose, Concat and
Split whose channels no label per axis can describe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from onnx_net2net.coupling.index_flow import Side, groups_of, involved, side_of, signatures
from onnx_net2net.coupling.space import Axis, Space, axis_of
from onnx_net2net.graph.model import Node
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.keyed_random import below
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.spec import Site
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array
from .copy_layout import Joint, Layout
from .shape_operands import as_held, stands_at, student_site, wanted
from .units import Row, Units


def _stretched(labels: Array, ratio: Fraction) -> Array | None:
    """Every run of labelled positions longer by `ratio`; None where that is no whole number."""
    edges = np.flatnonzero(np.diff((labels >= 0).astype(int))) + 1
    parts = []
    for run in np.split(np.arange(len(labels)), edges):
        if labels[run[0]] < 0:
            parts.append(run)
            continue
        size = ratio * len(run)
        if size.denominator != 1:
            return None
        parts.append(run[0] + np.arange(int(size)) * ratio.denominator // ratio.numerator)
    return np.concatenate(parts)


def _student_site(site: Site, stretched: Mapping[Axis, Array]) -> Site:
    """A node with scaled sizes, its operands as its row wants them."""
    node, values, attributes = site.node, list(site.values), dict[str, Any]()
    slots = [*enumerate(node.inputs), *((-1 - k, t) for k, t in enumerate(node.outputs))]
    computed = [(tensor, dim, s) for (tensor, use, dim), s in stretched.items() if use is None]
    sources = {(k, dim): s for tensor, dim, s in computed for k, t in slots if t == tensor}
    for slot in TABLE[node.op].slots:
        want, at = wanted(site, slot, sources), stands_at(node, slot)
        if want is None:
            continue
        if at is None:
            attributes[slot.attribute] = want.tolist()
        else:
            values += [None] * (at + 1 - len(values))
            values[at] = as_held(want, values[at])
    return student_site(site, sources, values, attributes)


@dataclass
class Weaver:
    """A space and its teacher's wires; `weave` tries one width."""

    analysis: Analysis
    space: Space
    dims: dict[str, tuple[int, ...]]
    teacher: Side

    @classmethod
    def of(cls, analysis: Analysis, space: Space) -> Weaver | None:
        """The teacher's wires; None where channels move in ways that wires do not tell."""
        try:
            dims = involved(analysis, space)
            if dims is None:
                return None
            shapes, sites = _shapes(analysis, dims), _sites(analysis, space)
            teacher = side_of(analysis, space, dims, sites, shapes)
        except (LookupError, ValueError):
            return None
        return None if teacher is None else cls(analysis, space, dims, teacher)

    def weave(self, ratio: Fraction, seed: int, name: str) -> tuple[Layout, Units] | None:
        """A layout in which every axis is longer by `ratio`, or None.

        Student wires that visit what no teacher wire visits become free rows.

        Args:
            seed, name: key the draw of what the spare wires copy.
        """
        stretched = {a: _stretched(labels, ratio) for a, labels in self.space.labels.items()}
        long = {a: s for a, s in stretched.items() if s is not None}
        if len(long) < len(stretched):
            return None
        student = self._student(long)
        copies = None if student is None else self._matched(student, long, seed, name)
        if student is None or copies is None:
            return None
        joint: dict[str, Joint] = {}
        for tensor, d in self.dims.items():
            found = _positions(self.teacher, student, copies, tensor)
            if found is None:
                return None
            joint[tensor] = Joint(d, found)
        free = {w: k for k, w in enumerate(w for w, of in copies.items() if of < 0)}
        spread = _Spread(self.analysis, self.space, long, _known(student, joint, long, free))
        if not spread.reaches_all():
            return None
        source = {a: s for a, (s, _) in spread.known.items()}
        unit = {a: u for a, (_, u) in spread.known.items()}
        new = Units.copies(np.zeros(len(free), np.int64), Row.FREE)
        return Layout(source, unit, joint, spread.grouped), new

    def _student(self, long: Mapping[Axis, Array]) -> Side | None:
        """The student's wires; None where that cannot be told."""
        shapes = _shapes(self.analysis, self.dims)
        for (t, use, dim), s in long.items():
            if use is None:
                shapes[t] = (*shapes[t][:dim], len(s), *shapes[t][dim + 1 :])
        try:
            teacher = _sites(self.analysis, self.space)
            sites = {k: _student_site(site, long) for k, site in teacher.items()}
            return side_of(self.analysis, self.space, self.dims, sites, shapes)
        except (LookupError, ValueError):
            return None

    def _matched(
        self, student: Side, long: Mapping[Axis, Array], seed: int, name: str
    ) -> dict[int, int] | None:
        """Student wire -> teacher wire, -1 where it is free; every teacher wire is copied."""
        fixed_t, fixed_s = {}, {}
        for (tensor, use, dim), labels in self.space.labels.items():
            if use is None and self.dims[tensor] == (dim,) and (labels < 0).any():
                fixed_t[tensor] = np.where(labels < 0, np.arange(len(labels)), -1)
                fixed_s[tensor] = fixed_t[tensor][long[tensor, None, dim]]
        have, need = signatures(student, fixed_s), signatures(self.teacher, fixed_t)
        copies = {w: -1 for signature in have.keys() - need.keys() for w in have[signature]}
        for k, (signature, wires) in enumerate(need.items()):
            mine = have.get(signature, [])
            if len(mine) < len(wires):
                return None
            extra = below(len(wires), len(mine) - len(wires), seed, "wires", name, k).tolist()
            if self.space.uniform is not None:
                extra = [e % len(wires) for e in range(len(extra))]
            copies.update(zip(mine, wires + [wires[e] for e in extra], strict=True))
        return dict(sorted(copies.items()))


def _shapes(analysis: Analysis, tensors: Iterable[str]) -> dict[str, tuple[int, ...]]:
    return {t: tuple(d or 0 for d in analysis.first.shapes[t] or ()) for t in tensors}


def _sites(analysis: Analysis, space: Space) -> dict[int, Site]:
    inside = (analysis.model.nodes[index] for index, use in space.passages if use is None)
    return {node.index: analysis.first.site(node) for node in inside}


def _known(
    student: Side, joint: Mapping[str, Joint], long: Mapping[Axis, Array], free: Mapping[int, int]
) -> dict[Axis, tuple[Array, Array]]:
    """Source and unit of the axes of computed tensors."""
    known: dict[Axis, tuple[Array, Array]] = {}
    for tensor, j in joint.items():
        alone = len(j.dims) == 1
        for axis in [a for dim in j.dims if (a := (tensor, None, dim)) in long]:
            source, unit = long[axis], np.full(len(long[axis]), -1)
            if alone:
                unit = np.array([free.get(w, -1) for w in student.wires(tensor).tolist()])
                source = np.where(j.source >= 0, j.source, source)
            known[axis] = source, unit
    return known


def _positions(
    teacher: Side, student: Side, copies: Mapping[int, int], tensor: str
) -> Array | None:
    """Student position -> teacher position in one tensor; a wire may visit it several times."""
    where: dict[int, list[int]] = {-1: [-1] * student.wire.size}
    for place, w in enumerate(teacher.wires(tensor).tolist()):
        where.setdefault(w, []).append(place)
    used: dict[int, int] = {}
    found = []
    for w in student.wires(tensor).tolist():
        places = where[copies[w]]
        k = used.get(w, 0)
        if k >= len(places):
            return None
        used[w] = k + 1
        found.append(places[k])
    return np.asarray(found)


@dataclass
class _Spread:
    """Sources and units of axes, spread to the constants that share factors with them.

    Axes that hold a channel's place only together with others keep the scaled order `long`; only
    their length counts, the joint proof looks at the rest.
    """

    analysis: Analysis
    space: Space
    long: Mapping[Axis, Array]
    known: dict[Axis, tuple[Array, Array]]
    grouped: dict[Axis, tuple[Array, Array]] = field(default_factory=dict)

    def reaches_all(self) -> bool:
        """Whether every axis of the space gets one."""
        before = -1
        while len(self.known) > before:
            before = len(self.known)
            for (index, use), carried in self.space.passages.items():
                for f in carried:
                    self._pass(self.analysis.model.nodes[index], use, f)
        return self.known.keys() >= self.space.labels.keys()

    def _pass(self, node: Node, use: tuple[int, int] | None, f: Factor) -> None:
        """Axes that a factor labels alike have the same; a computed tensor's, if there is one."""
        axes: dict[bytes, list[Axis]] = {}
        for entry, labels in f.at.items():
            axis = axis_of(self.analysis, (node.index, use), entry)
            axes.setdefault(labels.tobytes(), []).append(axis)
        for alike in axes.values():
            given = sorted((a for a in alike if a in self.known), key=lambda a: a[1] is not None)
            for a in alike if given else ():
                self.known.setdefault(a, self.known[given[0]])
        whole = axes.pop(np.arange(f.size).tobytes(), [])
        parts = [a for alike in axes.values() for a in alike]
        if use is None and f.role == "sum" and parts and parts[0] in self.known:
            self._per_group(node, f, self.known[parts[0]], whole)

    def _per_group(
        self, node: Node, f: Factor, given: tuple[Array, Array], whole: list[Axis]
    ) -> None:
        """A grouped convolution's weight: each group of rows reads its own inputs."""
        count = groups_of(self.analysis, node, f)
        if count is None:
            return
        source, unit = (v.reshape(count, -1) for v in given)
        for a in whole:
            if a not in self.known and a[1] is not None:
                self.known[a] = self.long[a], np.full(len(self.long[a]), -1)
                self.grouped[a] = source - f.size * np.arange(count)[:, None], unit
