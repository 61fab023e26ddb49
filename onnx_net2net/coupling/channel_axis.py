"""Which axis of a tensor holds its channels: the one that weights make or contract.

The rank says nothing: [N, C, L] and [N, T, C] look alike. So axes are followed through the
factors of the nodes around, nearest first, until one meets a weight.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from onnx_net2net.errors import Reason, Refusal, RefusalError
from onnx_net2net.graph.model import Node
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.factors import Factor, beside_weights, pointwise
from onnx_net2net.operators.notation import Entry
from onnx_net2net.operators.table import row_of

_PRODUCT, _VECTOR, _MOST_STEPS = 40, 60, 6000


@dataclass(frozen=True)
class Channels:
    """The channel axis of a tensor, how many channels, the node whose weights tell, the rank.

    Where only the weights tell the shape, the rank may be unknown; the axis is then -1.
    """

    axis: int
    size: int
    node: Node
    rank: int | None


def channels(analysis: Analysis, tensor: str) -> Channels:
    """The channel axis of a tensor.

    Args:
        tensor: any tensor with a known rank.

    Returns:
        The axis that the nearest weights make or contract. An axis that is part of a
        product there (heads, columns) counts as farther away; of equals the innermost wins.

    Raises:
        RefusalError: no weights tell, or its rank is not known.
    """
    shape = analysis.first.shapes.get(tensor)
    if shape is not None:
        fixed = [k for k in range(len(shape)) if _static(analysis, tensor, k)]
        found = _nearest(analysis, tensor, fixed)
        if found is not None:
            axis, node = found
            return Channels(axis, shape[axis] or 0, node, len(shape))
    told = _unranked(analysis, tensor)
    if told is not None:
        return (
            told if shape is None else replace(told, axis=told.axis % len(shape), rank=len(shape))
        )
    if shape is None:
        detail, hint = "its rank is not known", "give the inputs' sizes with --shape"
        raise RefusalError(Refusal(Reason.UNKNOWN_SHAPE, tensor, None, detail, hint))
    detail = "no weights make or read one of its axes"
    hint = "choose a tensor that a layer with weights makes or reads"
    raise RefusalError(Refusal(Reason.NO_AXIS, tensor, None, detail, hint))


def _unranked(analysis: Analysis, tensor: str) -> Channels | None:
    """What the weights around a tensor of unknown shape say about it."""
    model = analysis.model
    for reader, slot in model.readers.get(tensor, ()):
        told = _told(analysis, reader, 0) if slot == 0 else None
        if told is not None:
            return told
    node = model.producer.get(tensor)
    while node is not None:
        told = _told(analysis, node, 1)
        if told is not None:
            return told
        live = [t for t in node.inputs if t and t not in model.constant]
        fixed = [analysis.first.shapes.get(t) for t in node.inputs if t in model.constant]
        vectors = all(s is not None and sum((d or 0) > 1 for d in s) < 2 for s in fixed)
        row = row_of(node.op)
        passes = row.same_shape or pointwise(row, analysis.first.site(node))
        if len(live) != 1 or not vectors or not passes:
            return None
        node = model.producer.get(live[0])
    return None


def _told(analysis: Analysis, node: Node, side: int) -> Channels | None:
    """The channels on the input (0) or output (1) side of a layer with constant weights."""
    weights = node.tensor(1)
    shape = analysis.first.shapes.get(weights)
    if weights not in analysis.model.constant or shape is None or len(shape) < 2:
        return None
    try:
        axes, found = beside_weights(row_of(node.op), analysis.first.site(node), side)
    except LookupError:
        return None
    if len(found) != 1:
        return None
    ((axis, size),) = found.items()
    if "..." in axes:
        return Channels(axis - len(axes) * ("..." in axes[:axis]), size, node, None)
    return Channels(axis, size, node, len(axes) + ("*" in axes) * (len(shape) - 3))


def _static(analysis: Analysis, tensor: str, dim: int) -> bool:
    sizes = [s[dim] for f in analysis.facts if (s := f.shapes.get(tensor)) and len(s) > dim]
    return bool(sizes) and sizes[0] not in (None, 0) and len(set(sizes)) == 1


def _nearest(analysis: Analysis, tensor: str, dims: list[int]) -> tuple[int, Node] | None:
    """Cheapest path first; a path's cost is its length, more where an axis is a product."""
    queue: list[tuple[int, int, str, int]] = [(0, -d, tensor, d) for d in dims]
    seen: set[tuple[str, int, int]] = set()
    # evidence found at a cost waits until no path is cheaper
    waiting: list[tuple[int, int, int]] = []
    heapq.heapify(queue)
    while queue and len(seen) < _MOST_STEPS:
        cost, origin, name, dim = heapq.heappop(queue)
        if waiting and waiting[0][0] <= cost:
            break
        if (name, dim, origin) in seen:
            continue
        seen.add((name, dim, origin))
        for node, other, f, step in _beside(analysis, name, dim):
            target = node.tensor(other[0])
            if target not in analysis.model.constant:
                heapq.heappush(queue, (cost + step, origin, target, other[1]))
            elif (strength := _evidence(analysis, node, other[0], f)) is not None:
                heapq.heappush(waiting, (cost + strength, origin, node.index))
    if not waiting:
        return None
    _, origin, index = waiting[0]
    return -origin, analysis.model.nodes[index]


def _beside(analysis: Analysis, name: str, dim: int) -> Iterator[tuple[Node, Entry, Factor, int]]:
    """The axes that share a factor with one: node, place, factor and how far it is there."""
    for node, entry, f in _factors_of(analysis, name, dim):
        for other in f.at:
            if other != entry and node.tensor(other[0]):
                yield node, other, f, 1 if _whole(f, entry) and _whole(f, other) else _PRODUCT


def _factors_of(analysis: Analysis, name: str, dim: int) -> Iterator[tuple[Node, Entry, Factor]]:
    model = analysis.model
    around = [*model.readers.get(name, ()), *model.crossings.get(name, ())]
    if name in model.producer:
        node = model.producer[name]
        around.insert(0, (node, -1 - node.outputs.index(name)))
    for node, slot in around:
        for f in analysis.known_factors(node):
            if f.role != "size" and (slot, dim) in f.at:
                yield node, (slot, dim), f


def _whole(f: Factor, entry: Entry) -> bool:
    """Whether the factor is the axis itself rather than one of a product."""
    labels = f.at[entry]
    inside = labels[labels >= 0]
    return len(np.unique(inside)) == len(inside)


def _evidence(analysis: Analysis, node: Node, slot: int, f: Factor) -> int | None:
    """How far away a constant operand counts as channel weights; None if it is none.

    Matrices, kernels and the parameters of normalizations are at once; a vector that is
    broadcast (a bias, a scale) only where nothing better is found.
    """
    shape = analysis.first.shapes.get(node.inputs[slot]) if slot >= 0 else None
    if shape is None or f.size < 1:
        return None
    broadcast = f.name.startswith(".")
    if slot in analysis.weights(node) and not broadcast:
        return 0
    if sum((d or 0) > 1 for d in shape) > 1:
        return None
    return _VECTOR if broadcast or f.name[:1].isdigit() else 0
