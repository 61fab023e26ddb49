"""Where copies land when no fixed layout lines up: found by execution.

A channel shuffle sends every channel its own way. Scale all axes of a space alike, run the
student's data movements on indices and join positions that hold the same value into
wires. A student wire may copy any teacher wire that visits the same tensors; every teacher
wire must be copied at least once. This solves chains of Reshape, Transpose, Concat and
Split whose channels no label per axis can describe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from onnx_net2net.analysis import Analysis
from onnx_net2net.errors import Refusal
from onnx_net2net.factors import Entry, Factor
from onnx_net2net.layout import Joint, Layout
from onnx_net2net.mapping import Row, Units, below, words
from onnx_net2net.model import Node
from onnx_net2net.operators import TABLE, Array, Block, Grown, Site
from onnx_net2net.spaces import Axis, Space

_MOST_POSITIONS = 1 << 20


@dataclass
class _Side:
    """Teacher or student: sizes of the involved axes and the wire at each joint position.

    `cells`: where a tensor is cut into groups, the group of each position.
    """

    sizes: dict[str, tuple[int, ...]]
    offset: dict[str, int]
    wire: Array
    cells: dict[str, list[Array]]

    def wires(self, tensor: str) -> Array:
        count = int(np.prod(self.sizes[tensor]))
        return self.wire[self.offset[tensor] : self.offset[tensor] + count]


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


def _movements(analysis: Analysis, space: Space) -> Iterator[tuple[Node, Sequence[Block]]]:
    for index, use in space.passages:
        node = analysis.model.nodes[index]
        row = TABLE[node.op]
        if use is None and row.movement is not None:
            yield node, row.movement(analysis.first.site(node))


def _involved(analysis: Analysis, space: Space) -> dict[str, tuple[int, ...]] | None:
    """Tensor -> the dimensions that hold a channel's place, together."""
    dims: dict[str, set[int]] = {}
    for tensor, use, dim in space.labels:
        if use is None:
            dims.setdefault(tensor, set()).add(dim)
    moves = list(_movements(analysis, space))
    while True:
        before = {t: len(d) for t, d in dims.items()}
        for node, blocks in moves:
            for b in blocks:
                places = [(node.inputs[s], k) for s, k in b.ins]
                places += [(node.outputs[s], k) for s, k in b.outs if node.outputs[s]]
                if any(k in dims.get(t, ()) for t, k in places):
                    for t, k in places:
                        if t in analysis.model.constant:
                            return None
                        dims.setdefault(t, set()).add(k)
        if before == {t: len(d) for t, d in dims.items()}:
            return {t: tuple(sorted(d)) for t, d in dims.items()}


def came_from(
    site: Site, blocks: Sequence[Block], dims: Mapping[str, tuple[int, ...]], out: int
) -> tuple[Array, Array]:
    """For every joint position of an output: the input slot (-1: made here) and its position.

    Args:
        dims: tensor -> the dimensions that count, in order.
    """
    node = site.node
    mine = dims[node.outputs[out]]
    shape = [site.out_dims(out)[k] or 0 for k in mine]
    at = dict(zip(mine, np.indices(shape).reshape(len(shape), -1), strict=True))
    count = int(np.prod(shape))
    slot, place = np.full(count, -1), np.full(count, -1)
    for s, tensor in enumerate(node.inputs):
        if tensor not in dims or site.shapes[s] is None:
            continue
        wanted = dims[tensor]
        found: dict[int, Array] = {}
        valid = np.ones(count, bool)
        for b in blocks:
            if not any(i == s for i, _ in b.ins) or not all(o == out and k in at for o, k in b.outs):
                continue
            if b.aligned:
                found.update({k: at[b.outs[0][1]] for i, k in b.ins if i == s})
                continue
            if not b.outs:
                continue
            sizes = [site.out_dims(out)[k] or 0 for _, k in b.outs]
            flat = np.ravel_multi_index([at[k] for _, k in b.outs], sizes)
            source = b.table.reshape(-1)[flat]
            valid &= source >= 0
            into = [site.dims(s)[k] or 0 for _, k in b.ins]
            where = np.unravel_index(np.maximum(source, 0), into)
            found.update({k: w for (_, k), w in zip(b.ins, where, strict=True)})
        if any(k not in found for k in wanted):
            continue
        sizes = [site.dims(s)[k] or 0 for k in wanted]
        flat = np.ravel_multi_index([found[k] for k in wanted], sizes, mode="clip")
        slot[valid], place[valid] = s, flat[valid]
    return slot, place


def _join(count: int, edges: list[tuple[Array, Array]]) -> Array:
    """Connected components: the smallest position of each."""
    a = np.concatenate([e[0] for e in edges]) if edges else np.zeros(0, int)
    b = np.concatenate([e[1] for e in edges]) if edges else np.zeros(0, int)
    root = np.arange(count)
    while True:
        low = np.minimum(root[a], root[b])
        new = root.copy()
        np.minimum.at(new, a, low)
        np.minimum.at(new, b, low)
        new = new[new]
        if (new == root).all():
            return root
        root = new


def _side(
    analysis: Analysis, space: Space, dims: Mapping[str, tuple[int, ...]],
    sites: Mapping[int, Site], shapes: Mapping[str, tuple[int, ...]],
) -> _Side | None:  # fmt: skip
    sizes = {t: tuple(shapes[t][k] for k in d) for t, d in dims.items()}
    offset, total = {}, 0
    for t, size in sizes.items():
        offset[t] = total
        total += int(np.prod(size))
    if total > _MOST_POSITIONS:
        return None
    edges: list[tuple[Array, Array]] = []
    cells: dict[str, list[Array]] = {}
    for (index, use), carried in space.passages.items():
        if use is not None:
            continue
        node = analysis.model.nodes[index]
        site = sites[index]
        row = TABLE[node.op]
        if row.movement is not None:
            blocks = row.movement(site)
            for out, tensor in enumerate(node.outputs):
                if tensor not in dims:
                    continue
                slot, place = came_from(site, blocks, dims, out)
                for s in np.unique(slot[slot >= 0]):
                    here = np.flatnonzero(slot == s)
                    edges.append((offset[tensor] + here, offset[node.inputs[s]] + place[here]))
            continue
        for f in carried:
            tensors = [
                node.inputs[s] if s >= 0 else node.outputs[-1 - s] for s, _ in f.at
            ]
            moving = [t for t in dict.fromkeys(tensors) if t in dims]
            if any(not np.array_equal(i, np.arange(f.size)) for i in f.at.values()):
                count = _groups(analysis, node, f)
                if count is None or len(moving) != 1 or len(dims[moving[0]]) != 1:
                    return None
                size = sizes[moving[0]][0]
                cells.setdefault(moving[0], []).append(np.arange(size) * count // size)
                continue
            if len({sizes[t] for t in moving}) > 1:
                return None
            first = np.arange(int(np.prod(sizes[moving[0]]))) if moving else np.zeros(0, int)
            if len({dims[t] for t in moving}) > 1 and any(len(dims[t]) > 1 for t in moving):
                return None
            edges += [(offset[moving[0]] + first, offset[t] + first) for t in moving[1:]]
    return _Side(sizes, offset, _join(total, edges), cells)


def _groups(analysis: Analysis, node: Node, f: Factor) -> int | None:
    """How many groups an axis is cut into, where a factor stands inside a product `(g i)`."""
    fs = analysis.factors(node)
    if isinstance(fs, Refusal):
        return None
    inside = [e for e, i in f.at.items() if not np.array_equal(i, np.arange(f.size))]
    outer = {id(o): o for o in fs for e in inside if e in o.at and o is not f}
    if len(outer) != 1:
        return None
    (g,) = outer.values()
    whole = all(np.array_equal(g.at[e], np.arange(len(g.at[e])) // f.size) for e in inside)
    return g.size if whole else None


def _signatures(side: _Side, fixed: Mapping[str, Array]) -> dict[int, list[int]]:
    """What a wire visits (as a hash) -> the wires that visit just that, in order."""
    total = np.zeros(len(side.wire), np.uint64)
    for tensor in side.sizes:
        wires = side.wires(tensor)
        weight = np.full(len(wires), words(1, "tensor", tensor)[0])
        if tensor in fixed:
            salt = words(int(fixed[tensor].max(initial=0)) + 1, "place", tensor)
            weight = np.where(fixed[tensor] >= 0, salt[fixed[tensor]], weight)
        np.add.at(total, wires, weight)
        for k, cell in enumerate(side.cells.get(tensor, [])):
            np.add.at(total, wires, words(int(cell.max()) + 1, "cell", tensor, k)[cell])
    found: dict[int, list[int]] = {}
    for w in np.unique(side.wire).tolist():
        found.setdefault(int(total[w]), []).append(w)
    return found


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
    teacher: _Side

    @classmethod
    def of(cls, analysis: Analysis, space: Space) -> Weaver | None:
        """The teacher's wires; None where channels move in ways that wires do not tell."""
        try:
            dims = _involved(analysis, space)
            if dims is None:
                return None
            shapes = {t: tuple(d or 0 for d in analysis.first.shapes[t] or ()) for t in dims}
            sites = {
                i: analysis.first.site(analysis.model.nodes[i])
                for i, use in space.passages
                if use is None
            }
            teacher = _side(analysis, space, dims, sites, shapes)
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
            student = _side(self.analysis, self.space, self.dims, sites, shapes)
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
        known: dict[Axis, tuple[Array, Array]] = {}
        for tensor, j in joint.items():
            for dim in j.dims:
                axis = (tensor, None, dim)
                if axis not in long:
                    continue
                unit = np.full(len(long[axis]), -1)
                source = long[axis]
                if len(j.dims) == 1:
                    unit = np.array([free.get(w, -1) for w in student.wires(tensor).tolist()])
                    source = np.where(j.source >= 0, j.source, source)
                known[axis] = source, unit
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
        self, student: _Side, long: Mapping[Axis, Array], seed: int, name: str
    ) -> dict[int, int] | None:
        """Student wire -> teacher wire, -1 where it is free; every teacher wire is copied."""
        fixed_t, fixed_s = {}, {}
        for (tensor, use, dim), labels in self.space.labels.items():
            if use is None and self.dims[tensor] == (dim,) and (labels < 0).any():
                fixed_t[tensor] = np.where(labels < 0, np.arange(len(labels)), -1)
                fixed_s[tensor] = fixed_t[tensor][long[tensor, None, dim]]
        have, need = _signatures(student, fixed_s), _signatures(self.teacher, fixed_t)
        copies = {w: -1 for signature in have.keys() - need.keys() for w in have[signature]}
        for k, (signature, wires) in enumerate(need.items()):
            mine = have.get(signature, [])
            if len(mine) < len(wires):
                return None
            extra = below(len(wires), len(mine) - len(wires), seed, "wires", name, k).tolist()
            copies.update(zip(mine, wires + [wires[e] for e in extra], strict=True))
        return dict(sorted(copies.items()))


def _positions(
    teacher: _Side, student: _Side, copies: Mapping[int, int], tensor: str
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
                axes: dict[bytes, list[Axis]] = {}
                for (s, dim), labels in f.at.items():
                    t = node.inputs[s] if s >= 0 else node.outputs[-1 - s]
                    constant = t in analysis.model.constant
                    axis = (t, (use or (index, s)) if constant else None, dim)
                    axes.setdefault(labels.tobytes(), []).append(axis)
                for alike in axes.values():
                    given = next((known[a] for a in alike if a in known and a[1] is None), None)
                    if given is None:
                        given = next((known[a] for a in alike if a in known), None)
                    for a in alike if given is not None else ():
                        known.setdefault(a, given)
                whole = axes.get(np.arange(f.size).tobytes(), [])
                parts = [a for alike in axes.values() for a in alike if a not in whole]
                if use is None and f.role == "sum" and parts and parts[0] in known:
                    _per_group(analysis, node, f, known[parts[0]], whole, known, long, grouped)
        if len(known) == before:
            return known.keys() >= space.labels.keys()


def _per_group(
    analysis: Analysis, node: Node, f: Factor, given: tuple[Array, Array], whole: list[Axis],
    known: dict[Axis, tuple[Array, Array]], long: Mapping[Axis, Array],
    grouped: dict[Axis, tuple[Array, Array]],
) -> None:  # fmt: skip
    """A grouped convolution's weight: each group of rows reads its own inputs."""
    count = _groups(analysis, node, f)
    if count is None:
        return
    source, unit = (v.reshape(count, -1) for v in given)
    for a in whole:
        if a not in known and a[1] is not None:
            known[a] = long[a], np.full(len(long[a]), -1)
            grouped[a] = source - f.size * np.arange(count)[:, None], unit
