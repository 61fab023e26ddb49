"""Which axis of a tensor holds its channels: the one that weights make or contract.

The rank says nothing: [N, C, L] and [N, T, C] look alike. So axes are followed through the
factors of the nodes around, nearest first, until one meets a weight.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnx_net2net.analysis import Analysis
from onnx_net2net.errors import Reason, Refusal
from onnx_net2net.factors import Entry, Factor
from onnx_net2net.model import Node
from onnx_net2net.operators import TABLE

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


def channels(analysis: Analysis, tensor: str) -> Channels | Refusal:
    """The channel axis of a tensor.

    Args:
        tensor: any tensor with a known rank.

    Returns:
        The axis that the nearest weights make or contract. An axis that is part of a
        product there (heads, columns) counts as farther away; of equals the innermost wins.
    """
    shape = analysis.first.shapes.get(tensor)
    if shape is None:
        return _unranked(analysis, tensor) or Refusal(
            Reason.UNKNOWN_SHAPE, tensor, None, "its rank is not known",
            "give the inputs' sizes with --shape",
        )  # fmt: skip
    fixed = [k for k in range(len(shape)) if _static(analysis, tensor, k)]
    found = _nearest(analysis, tensor, fixed)
    if found is None:
        return Refusal(
            Reason.NO_AXIS, tensor, None, "no weights make or read one of its axes",
            "choose a tensor that a layer with weights makes or reads",
        )  # fmt: skip
    axis, node = found
    return Channels(axis, shape[axis] or 0, node, len(shape))


def _unranked(analysis: Analysis, tensor: str) -> Channels | None:
    """What the weights that make a tensor of unknown shape say about it."""
    node = analysis.model.producer.get(tensor)
    for _ in range(_MOST_STEPS):
        if node is None:
            return None
        live = [t for t in node.inputs if t and t not in analysis.model.constant]
        shapes = [analysis.first.shapes.get(t) or () for t in node.inputs]
        if node.op in ("Conv", "Gemm", "MatMul"):
            if len(live) != 1 or live[0] != node.inputs[0] or len(shapes[1]) < 2:
                return None
            if node.op == "Conv":
                return Channels(1, shapes[1][0] or 0, node, len(shapes[1]))
            size = shapes[1][0 if node.attr("transB", 0) else -1] or 0
            plain = node.op == "Gemm" or len(shapes[1]) == 2
            rank = 2 if node.op == "Gemm" else None
            return Channels(1 if rank else -1, size, node, rank) if plain and size else None
        row = TABLE.get(node.op)
        single = row is not None and row.notation in ("... -> ...", "..., ... -> ...")
        if not single or len(live) != 1 or any(len(s) > 1 for s in shapes if s):
            return None
        node = analysis.model.producer.get(live[0])
    return None


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
        for target in _branches(analysis, name):
            heapq.heappush(queue, (cost + 1, origin, target, dim))
        for node, entry, f in _factors_of(analysis, name, dim):
            for other in f.at:
                if other == entry:
                    continue
                slot = other[0]
                target = node.inputs[slot] if slot >= 0 else node.outputs[-1 - slot]
                step = 1 if _whole(f, entry) and _whole(f, other) else _PRODUCT
                if target in analysis.model.constant:
                    strength = _evidence(analysis, node, slot, f)
                    if strength is not None:
                        heapq.heappush(waiting, (cost + strength, origin, node.index))
                elif target:
                    heapq.heappush(queue, (cost + step, origin, target, other[1]))
    if not waiting:
        return None
    _, origin, index = waiting[0]
    return -origin, analysis.model.nodes[index]


def _factors_of(analysis: Analysis, name: str, dim: int) -> Iterator[tuple[Node, Entry, Factor]]:
    model = analysis.model
    around: list[tuple[Node, int]] = list(model.readers.get(name, ()))
    if name in model.producer:
        node = model.producer[name]
        around.insert(0, (node, -1 - node.outputs.index(name)))
    for node, slot in around:
        fs = analysis.factors(node)
        if isinstance(fs, Refusal):
            continue
        for f in fs:
            if f.role != "size" and (slot, dim) in f.at:
                yield node, (slot, dim), f


def _branches(analysis: Analysis, name: str) -> list[str]:
    """What the branches of an If return for one of its outputs."""
    node = analysis.model.producer.get(name)
    if node is None or node.op != "If":
        return []
    k = node.outputs.index(name)
    return [analysis.model.scopes[s].outputs[k] for s in node.bodies.values()]


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


__all__ = ["Channels", "channels"]
