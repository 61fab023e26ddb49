"""Where a contraction's weights divide among the copies that it reads."""

from __future__ import annotations

from dataclasses import replace

from onnx_net2net.coupling.space import Axis
from onnx_net2net.errors import Reason, Refusal, RefusalError
from onnx_net2net.graph.model import Node
from onnx_net2net.growth.widen.changes import Division, Growth
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.notation import Entry
from onnx_net2net.operators.table import TABLE


def divide_among_copies(analysis: Analysis, growth: Growth) -> None:
    """Find, for every contraction, the constant that divides among the copies."""
    for (index, tag), carried in growth.space.passages.items():
        node = analysis.model.nodes[index]
        for f in carried if tag is None else ():
            fed_back = [e for e in TABLE[node.op].divides if e in f.at]
            for entry in fed_back:
                if _absorbed(analysis, growth, node, [entry]):
                    continue
                axis = (node.inputs[entry[0]], entry[1])
                hint = "the weights that read the state are computed at run time"
                raise RefusalError(Refusal(Reason.UNSPLITTABLE, node.name, axis, node.op, hint))
            if f.role != "sum":
                continue
            entries = [e for e in f.at if e[0] >= 0]
            if not _absorbed(analysis, growth, node, entries):
                _divide(analysis, growth, node, entries[-1])


def _absorbed(analysis: Analysis, growth: Growth, node: Node, entries: list[Entry]) -> bool:
    """Let the first constant that can divide among the copies do so."""
    found = next((a for e in entries if (a := _absorbs(analysis, growth, node, e))), None)
    if found is None:
        return False
    (leaf, use, dim), offset = found
    assert use is not None
    change = growth.constants[leaf, use]
    split = tuple(sorted({*change.split, dim}))
    growth.constants[leaf, use] = replace(change, split=split, offset=offset)
    return True


def _absorbs(
    analysis: Analysis, growth: Growth, node: Node, entry: Entry
) -> tuple[Axis, int] | None:
    tensor = node.inputs[entry[0]]
    if tensor not in analysis.model.constant:
        return None
    use = (node.index, entry[0])
    offset = _zero_point(analysis, node, entry[0])
    if offset is None:
        return None
    return _leaf_axis(analysis, growth, (tensor, use, entry[1]), offset)


def _zero_point(analysis: Analysis, node: Node, slot: int) -> int | None:
    """Zero point of a quantised operand: 0 where it has none, None where it has several."""
    at = TABLE[node.op].offsets.get(slot)
    if at is None or at >= len(node.inputs) or not node.inputs[at]:
        return 0
    values = analysis.first.values.get(node.inputs[at])
    if values is None or not values.size or (values != values.flat[0]).any():
        return None
    return int(values.flat[0])


def _leaf_axis(
    analysis: Analysis, growth: Growth, axis: Axis, offset: int
) -> tuple[Axis, int] | None:
    """Follow an axis of a computed constant up to the leaf, through linear nodes only."""
    tensor, use, dim = axis
    leaf = analysis.model.leaves.get(tensor)
    if leaf is not None:
        return (axis, offset) if growth.constants.get((tensor, use or (0, 0))) else None
    node = analysis.model.producer.get(tensor)
    if node is None or not TABLE[node.op].linear:
        return None
    entry = (-1 - node.outputs.index(tensor), dim)
    for f in growth.space.passages.get((node.index, use), []):
        for e in f.at if entry in f.at else ():
            if e[0] >= 0:
                zero = _zero_point(analysis, node, e[0])
                if zero is None:
                    continue
                found = _leaf_axis(analysis, growth, (node.inputs[e[0]], use, e[1]), offset + zero)
                if found is not None:
                    return found
    return None


def _divide(analysis: Analysis, growth: Growth, node: Node, entry: Entry) -> None:
    slot, dim = entry
    tensor = node.inputs[slot]
    use = (node.index, slot) if tensor in analysis.model.constant else None
    dtype = analysis.first.dtype(tensor)
    if dtype not in (1, 10, 11, 16):
        hint = "its operands are integers that are computed at run time"
        raise RefusalError(Refusal(Reason.UNSPLITTABLE, node.name, (tensor, dim), node.op, hint))
    axis = (tensor, use, dim)
    rank = len(analysis.first.shapes[tensor] or ())
    growth.divisions.append(
        Division(
            node.index, slot, dim, rank, growth.layout.source[axis], growth.layout.unit[axis], dtype
        )
    )
