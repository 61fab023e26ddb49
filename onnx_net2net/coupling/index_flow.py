"""Following channels through data movements by execution: which positions hold one value.

A wire is a set of positions, over all tensors of a space, that hold the same channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_net2net.graph.model import Node
from onnx_net2net.graph.union_find import components
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.keyed_random import words
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.spec import Block, Site
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array
from .space import Space

_MOST_POSITIONS = 1 << 20


@dataclass
class Side:
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


def _together(analysis: Analysis, space: Space) -> Iterator[list[tuple[str, int]]]:
    """The axes, (tensor, dimension), that one block of a movement mixes."""
    for index, use in space.passages:
        node = analysis.model.nodes[index]
        row = TABLE[node.op]
        if use is not None or row.movement is None:
            continue
        for b in row.movement(analysis.first.site(node)):
            places = [(node.inputs[s], k) for s, k in b.ins]
            yield places + [(node.outputs[s], k) for s, k in b.outs if node.outputs[s]]


def involved(analysis: Analysis, space: Space) -> dict[str, tuple[int, ...]] | None:
    """Tensor -> the dimensions that hold a channel's place, together."""
    dims: dict[str, set[int]] = {}
    for tensor, use, dim in space.labels:
        if use is None:
            dims.setdefault(tensor, set()).add(dim)
    together = list(_together(analysis, space))
    grown = True
    while grown:
        before = sum(map(len, dims.values()))
        for places in together:
            if any(k in dims.get(t, ()) for t, k in places):
                for t, k in places:
                    dims.setdefault(t, set()).add(k)
        grown = sum(map(len, dims.values())) > before
    if any(t in analysis.model.constant for t in dims):
        return None
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
            if any(i == s for i, _ in b.ins):
                known, where = _through(b, site, (s, out), at, count)
                valid &= known
                found.update(where)
        if any(k not in found for k in wanted):
            raise LookupError(f"where '{tensor}' goes in '{node.name}'")
        sizes = [site.dims(s)[k] or 0 for k in wanted]
        flat = np.ravel_multi_index([found[k] for k in wanted], sizes, mode="clip")
        slot[valid], place[valid] = s, flat[valid]
    return slot, place


def _through(
    b: Block, site: Site, slots: tuple[int, int], at: Mapping[int, Array], count: int
) -> tuple[Array | bool, dict[int, Array]]:
    """Which positions of an output a block takes from an input, and their index on its dimensions.

    Args:
        b: the block.
        site: the node.
        slots: of the input and of the output.
        at: dimension of the output -> the index of each position.
        count: how many positions.
    """
    slot, out = slots
    if b.aligned:  # one index over all operands and results
        here = [k for o, k in b.outs if o == out and k in at]
        return True, {k: at[here[0]] for i, k in b.ins if i == slot and here}
    if not all(o == out and k in at for o, k in b.outs):
        return True, {}
    sizes = [site.out_dims(out)[k] or 0 for _, k in b.outs]
    flat = np.ravel_multi_index([at[k] for _, k in b.outs], sizes) if b.outs else 0
    source = np.broadcast_to(b.table.reshape(-1)[flat], count)
    into = [site.dims(slot)[k] or 0 for _, k in b.ins]
    where = np.unravel_index(np.maximum(source, 0), into)
    return source >= 0, {k: w for (_, k), w in zip(b.ins, where, strict=True)}


def _join(count: int, edges: list[tuple[Array, Array]]) -> Array:
    """Connected components: the smallest position of each."""
    none = np.zeros(0, int)
    return components(count, *(np.concatenate([none, *(e[k] for e in edges)]) for k in (0, 1)))


def side_of(
    analysis: Analysis, space: Space, dims: Mapping[str, tuple[int, ...]],
    sites: Mapping[int, Site], shapes: Mapping[str, tuple[int, ...]],
) -> Side | None:  # fmt: skip
    """The wires of one side; None where channels move in ways that wires do not tell.

    Args:
        analysis: of the teacher.
        space: what grows.
        dims: tensor -> its dimensions that hold a channel's place, see `involved`.
        sites: node -> its site on this side.
        shapes: tensor -> its shape on this side.
    """
    sizes = {t: tuple(shapes[t][k] for k in d) for t, d in dims.items()}
    offset, total = {}, 0
    for t, size in sizes.items():
        offset[t] = total
        total += int(np.prod(size))
    if total > _MOST_POSITIONS:
        return None
    side = Side(sizes, offset, np.arange(total), {})
    edges: list[tuple[Array, Array]] = []
    for (index, use), carried in space.passages.items():
        node = analysis.model.nodes[index]
        if use is not None:
            continue
        if TABLE[node.op].movement is not None:
            edges += _moved(side, sites[index], dims)
            continue
        for f in carried:
            found = _passed(analysis, side, node, f, dims)
            if found is None:
                return None
            edges += found
    side.wire = _join(total, edges)
    return side


def _moved(
    side: Side, site: Site, dims: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[Array, Array]]:
    """Positions before and after a movement that hold one value."""
    row, node = TABLE[site.node.op], site.node
    blocks = row.movement(site) if row.movement is not None else ()
    for out, tensor in enumerate(node.outputs):
        if tensor not in dims:
            continue
        slot, place = came_from(site, blocks, dims, out)
        for s in np.unique(slot[slot >= 0]):
            here = np.flatnonzero(slot == s)
            yield side.offset[tensor] + here, side.offset[node.inputs[s]] + place[here]


def _passed(
    analysis: Analysis, side: Side, node: Node, f: Factor, dims: Mapping[str, tuple[int, ...]]
) -> list[tuple[Array, Array]] | None:
    """Positions of a computing node that hold one channel; None where that cannot be told."""
    tensors = [node.tensor(s) for s, _ in f.at]
    moving = [t for t in dict.fromkeys(tensors) if t in dims]
    jointly = any(len(dims[t]) > 1 for t in moving)
    if jointly and not _alone(analysis, node, f, dims):
        return None
    if not all(np.array_equal(i, np.arange(f.size)) for i in f.at.values()):
        count = groups_of(analysis, node, f)
        return _cut(side, moving, count) if count and not jointly else None
    alike = {(side.sizes[t], dims[t] if jointly else ()) for t in moving}
    return _paired(side, moving) if len(alike) <= 1 else None


def _paired(side: Side, tensors: list[str]) -> list[tuple[Array, Array]]:
    """The positions of tensors that are alike, of the first with each other's."""
    at = [side.offset[t] + np.arange(int(np.prod(side.sizes[t]))) for t in tensors]
    return [(at[0], other) for other in at[1:]]


def _cut(side: Side, tensors: list[str], count: int) -> list[tuple[Array, Array]] | None:
    """Mark the groups that the one axis of one tensor is cut into."""
    if len(tensors) != 1:
        return None
    (length,) = side.sizes[tensors[0]]
    side.cells.setdefault(tensors[0], []).append(np.arange(length) * count // length)
    return []


def _alone(analysis: Analysis, node: Node, f: Factor, dims: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a node treats each joint position alone: no constant, no window, no sum."""
    fs = analysis.factors(node)
    at = {e: node.tensor(e[0]) for o in fs for e in o.at}
    passing = {
        e for o in fs if o.role == "parallel" and all(at[e] in dims for e in o.at) for e in o.at
    }
    return all((e[0], k) in passing for e in f.at for k in dims.get(at[e], (-1,)))


def groups_of(analysis: Analysis, node: Node, f: Factor) -> int | None:
    """How many groups an axis is cut into, where a factor stands inside a product `(g i)`.

    Args:
        analysis: of the model.
        node: that has the factor.
        f: the factor.
    """
    fs = analysis.factors(node)
    inside = [e for e, i in f.at.items() if not np.array_equal(i, np.arange(f.size))]
    outer = {id(o): o for o in fs for e in inside if e in o.at and o is not f}
    if len(outer) != 1:
        return None
    (g,) = outer.values()
    whole = all(np.array_equal(g.at[e], np.arange(len(g.at[e])) // f.size) for e in inside)
    return g.size if whole else None


def signatures(side: Side, fixed: Mapping[str, Array]) -> dict[int, list[int]]:
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
