"""Where copies land when no fixed layout lines up: found by execution.

A channel shuffle sends every channel its own way. Scale all axes of a space alike, run the
student's data movements on indices and join positions that hold the same value into
wires. A student wire may copy any teacher wire that visits the same tensors; every teacher
wire must be copied at least once. This solves chains of Reshape, Transpose, Concat and
Split whose channels no label per axis can describe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from onnx_net2net.coupling.index_flow import Side, groups_of, involved, side_of, signatures
from onnx_net2net.coupling.space import Axis, Space
from onnx_net2net.graph.model import Node
from onnx_net2net.growth.widen.copy_layout import Joint, Layout
from onnx_net2net.growth.widen.units import Row, Units
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.keyed_random import below
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.notation import Entry
from onnx_net2net.operators.spec import Grown, Site
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array


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


def _student_sites(
    analysis: Analysis, space: Space, stretched: Mapping[Axis, Array]
) -> dict[int, Site]:
    """The nodes with scaled sizes, their operands as the rows want them."""
    sites = {}
    for index, use in space.passages:
        if use is not None:
            continue
        node = analysis.model.nodes[index]
        site = analysis.first.site(node)
        ins, outs = _sources(node, stretched)
        values = list(site.values)
        attributes = dict(node.attributes)
        for slot in TABLE[node.op].slots:
            want = slot.want(Grown(site, ins, outs))
            if want is None:
                continue
            given = slot.input is not None and site.has(slot.input)
            if given or not slot.attribute or node.version >= slot.since:
                values += [None] * (int(slot.input or 0) + 1 - len(values))
                old = values[int(slot.input or 0)]
                array = np.asarray(want)
                same = old is not None and old.size == array.size
                values[int(slot.input or 0)] = array.reshape(old.shape) if same else array  # type: ignore[union-attr]
            else:
                attributes[slot.attribute] = want
        shown = Node(**{k: getattr(node, k) for k in node.__dataclass_fields__})
        shown.__dict__["attributes"] = attributes
        sites[index] = Site(
            shown,
            tuple(_resized(s, k, ins) for k, s in enumerate(site.shapes)),
            tuple(_resized(s, k, outs) for k, s in enumerate(site.outs)),
            tuple(values),
        )
    return sites


def _resized(
    shape: tuple[int | None, ...] | None, slot: int, sources: Mapping[Entry, Array]
) -> tuple[int | None, ...] | None:
    if shape is None:
        return None
    return tuple(len(sources[slot, k]) if (slot, k) in sources else d for k, d in enumerate(shape))


def _sources(
    node: Node, stretched: Mapping[Axis, Array]
) -> tuple[dict[Entry, Array], dict[Entry, Array]]:
    ins: dict[Entry, Array] = {}
    outs: dict[Entry, Array] = {}
    for (tensor, use, dim), s in stretched.items():
        if use is None:
            ins.update({(k, dim): s for k, t in enumerate(node.inputs) if t == tensor})
            outs.update({(k, dim): s for k, t in enumerate(node.outputs) if t == tensor})
    return ins, outs


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
            shapes = {t: tuple(d or 0 for d in analysis.first.shapes[t] or ()) for t in dims}
            sites = {
                i: analysis.first.site(analysis.model.nodes[i])
                for i, use in space.passages
                if use is None
            }
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
        long: dict[Axis, Array] = {}
        for axis, labels in self.space.labels.items():
            stretched = _stretched(labels, ratio)
            if stretched is None:
                return None
            long[axis] = stretched
        shapes = {t: tuple(d or 0 for d in self.analysis.first.shapes[t] or ()) for t in self.dims}
        for (t, use, dim), s in long.items():
            if use is None:
                shapes[t] = (*shapes[t][:dim], len(s), *shapes[t][dim + 1 :])
        try:
            sites = _student_sites(self.analysis, self.space, long)
            student = side_of(self.analysis, self.space, self.dims, sites, shapes)
        except (LookupError, ValueError):
            return None
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
        known = _known(student, joint, long, free)
        grouped: dict[Axis, tuple[Array, Array]] = {}
        if not _spread(self.analysis, self.space, known, long, grouped):
            return None
        layout = Layout(
            {a: s for a, (s, _) in known.items()},
            {a: u for a, (_, u) in known.items()},
            joint,
            grouped,
        )
        return layout, Units.copies(np.zeros(len(free), np.int64), Row.FREE)

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


def _spread(
    analysis: Analysis, space: Space, known: dict[Axis, tuple[Array, Array]],
    long: Mapping[Axis, Array], grouped: dict[Axis, tuple[Array, Array]],
) -> bool:  # fmt: skip
    """Give constants the sources of the axes that they share factors with; whether all got one.

    Axes that hold a channel's place only together with others keep the scaled order; only
    their length counts, the joint proof looks at the rest.
    """
    while True:
        before = len(known)
        for (index, use), carried in space.passages.items():
            node = analysis.model.nodes[index]
            for f in carried:
                axes = _alike(analysis, node, use, f)
                for alike in axes.values():
                    _share(alike, known)
                whole = axes.pop(np.arange(f.size).tobytes(), [])
                parts = [a for alike in axes.values() for a in alike]
                if use is None and f.role == "sum" and parts and parts[0] in known:
                    _per_group(analysis, node, f, known[parts[0]], whole, known, long, grouped)
        if len(known) == before:
            return known.keys() >= space.labels.keys()


def _alike(
    analysis: Analysis, node: Node, use: tuple[int, int] | None, f: Factor
) -> dict[bytes, list[Axis]]:
    """The axes of a factor, those together that it labels alike."""
    axes: dict[bytes, list[Axis]] = {}
    for (slot, dim), labels in f.at.items():
        tensor = node.tensor(slot)
        constant = tensor in analysis.model.constant
        axis = (tensor, (use or (node.index, slot)) if constant else None, dim)
        axes.setdefault(labels.tobytes(), []).append(axis)
    return axes


def _share(alike: list[Axis], known: dict[Axis, tuple[Array, Array]]) -> None:
    """Give axes the source that one of them has, a computed tensor's rather than a constant's."""
    given = sorted((a for a in alike if a in known), key=lambda a: a[1] is not None)
    for a in alike if given else ():
        known.setdefault(a, known[given[0]])


def _per_group(
    analysis: Analysis, node: Node, f: Factor, given: tuple[Array, Array], whole: list[Axis],
    known: dict[Axis, tuple[Array, Array]], long: Mapping[Axis, Array],
    grouped: dict[Axis, tuple[Array, Array]],
) -> None:  # fmt: skip
    """A grouped convolution's weight: each group of rows reads its own inputs."""
    count = groups_of(analysis, node, f)
    if count is None:
        return
    source, unit = (v.reshape(count, -1) for v in given)
    for a in whole:
        if a not in known and a[1] is not None:
            known[a] = long[a], np.full(len(long[a]), -1)
            grouped[a] = source - f.size * np.arange(count)[:, None], unit
