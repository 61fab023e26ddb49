"""Activations in a graph, whether one node or an exported chain of them.

A chain (Div Erf Add Mul Mul, Sigmoid Mul, Add Clip Div Mul, ...) is recognised by what it
computes: it is evaluated on a grid and compared with the rows of the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from onnx_net2net.graph.model import Node
from onnx_net2net.operators.activations import Activation
from onnx_net2net.operators.factors import pointwise
from onnx_net2net.operators.table import TABLE, row_of
from onnx_net2net.typing import Array
from .analysis import Analysis
from .folding import folded
from .shapes import FLOATS

_LONGEST = 16
_GRID = np.concatenate([np.linspace(-9.0, 9.0, 73), [-0.1, 0.1, 0.77]])
_TOLERANCE: dict[int, float] = {TensorProto.FLOAT16: 3e-3, TensorProto.BFLOAT16: 2e-2}


@dataclass(frozen=True)
class Recognition:
    """An activation in the graph: it reads `source`, its last node writes `end`."""

    activation: Activation
    source: str
    end: str
    nodes: tuple[Node, ...]


_CHAINED = ("Gelu", "Swish", "HardSwish", "Mish", "Softplus", "LogSigmoid", "Sigmoid", "Clip")


def recognise(analysis: Analysis, tensor: str) -> Recognition | None:
    """The activation that a tensor is the result of; None if it is no activation's.

    The reader of a fused node (FusedConv with an activation) has no source of its own.
    """
    node = analysis.model.producer.get(tensor)
    if node is None or tensor != node.outputs[0]:
        return None
    row = row_of(node.op)
    if row.activation is None:
        return None if row.repeats or not _opens(analysis, node) else _chain(analysis, tensor)
    activation = _read(analysis, node)
    if activation is None or node.inputs[0] in analysis.model.constant:
        return None
    alone = pointwise(row, analysis.first.site(node))
    return Recognition(activation, node.inputs[0] if alone else "", tensor, (node,))


def _read(analysis: Analysis, node: Node) -> Activation | None:
    """The activation that a single node applies."""

    def constant(slot: int) -> Array | None:
        leaf = analysis.model.leaves.get(node.inputs[slot])
        return None if leaf is None or leaf.tensor is None else analysis.source.array(leaf.tensor)

    read = TABLE[node.op].activation
    return None if read is None else read(analysis.first.site(node), constant)


def after(analysis: Analysis, tensor: str) -> Recognition | None:
    """The activation that alone reads a tensor, if one does."""
    readers = {n.index for n, _ in analysis.model.readers.get(tensor, ())}
    todo, seen = [tensor], set[str]()
    while todo and len(seen) < _LONGEST:
        ends = [(n, n.tensor(-1)) for n, _ in analysis.model.readers.get(todo.pop(0), ())]
        for node, end in ends:
            if not end or end in seen:
                continue
            seen.add(end)
            found = recognise(analysis, end)
            if found is not None and found.source == tensor and _alone(analysis, found, readers):
                return found
            if _opens(analysis, node):
                todo.append(end)
    return None


def _alone(analysis: Analysis, found: Recognition, readers: set[int]) -> bool:
    """Whether nothing else reads what an activation reads or what it computes between."""
    inside = {n.index for n in found.nodes}
    between = (o for n in found.nodes for o in n.outputs if o and o != found.end)
    read = (r.index for o in between for r, _ in analysis.model.readers.get(o, ()))
    return readers <= inside and inside.issuperset(read)


def _chain(analysis: Analysis, end: str) -> Recognition | None:
    """Expand upwards until one tensor is left that all comes from, then compare values."""
    model = analysis.model
    frontier, nodes = {end}, list[Node]()
    while len(nodes) < _LONGEST:
        steps = [
            (p.index, t) for t in frontier if (p := model.producer.get(t)) and _opens(analysis, p)
        ]
        if not steps:
            return None
        tensor = max(steps)[1]
        node = model.producer[tensor]
        nodes.insert(0, node)
        frontier.remove(tensor)
        frontier.update(t for t in node.inputs if t and t not in model.constant)
        source = next(iter(frontier)) if len(frontier) == 1 and len(nodes) > 1 else ""
        activation = _matched(analysis, source, end, nodes) if source else None
        if activation is not None:
            return Recognition(activation, source, end, tuple(nodes))
    return None


def _opens(analysis: Analysis, node: Node) -> bool:
    """Whether a node can be evaluated on single values."""
    row, facts = row_of(node.op), analysis.first
    alone = row.activation is not None and row.notation == "... -> ..."
    if len(node.outputs) > 1 or not (row.fold or alone):
        return False
    if facts.dtype(node.outputs[0]) not in FLOATS or not pointwise(row, facts.site(node)):
        return False
    fixed = (t for t in node.inputs if t in analysis.model.constant)
    return all(_single(analysis, t) is not None for t in fixed)


def _single(analysis: Analysis, tensor: str) -> float | None:
    value = analysis.first.values.get(tensor)
    if value is None or value.size < 1 or value.dtype == object:
        return None
    flat = np.asarray(value, np.float64).reshape(-1)
    return float(flat[0]) if (flat == flat[0]).all() else None


def _matched(analysis: Analysis, source: str, end: str, nodes: list[Node]) -> Activation | None:
    values: dict[str, Any] = {source: _GRID}
    with np.errstate(all="ignore"):
        for node in nodes:
            known = [values[t] if t in values else _single(analysis, t) for t in node.inputs if t]
            values[node.outputs[0]] = _evaluated(analysis, node, known)
    result = np.broadcast_to(np.asarray(values[end], np.float64), _GRID.shape)
    tolerance = _TOLERANCE.get(analysis.first.dtype(end), 2e-5)
    for candidate in _candidates(result):
        if np.allclose(result, candidate(_GRID), rtol=tolerance, atol=tolerance):
            return candidate
    return None


def _evaluated(analysis: Analysis, node: Node, known: list[Any]) -> Array:
    row, nothing = TABLE[node.op], np.full(_GRID.shape, np.nan)
    if row.repeats:  # in whatever type
        return np.asarray(known[0])
    if row.activation is None:
        found = folded(node, [np.asarray(v, np.float64) for v in known])
        return found[0] if found else nothing
    activation = _read(analysis, node)
    return activation(known[0]) if activation is not None else nothing


def _candidates(result: Array) -> list[Activation]:
    """Rows of the table with the parameters that the values suggest."""
    at = dict(zip(_GRID.tolist(), result.tolist(), strict=True))
    fitted: Mapping[str, list[dict[str, Any]]] = {
        "Gelu": [{"approximate": "none"}, {"approximate": "tanh"}],
        "Swish": [{"alpha": math.log(at[1.0] / (1 - at[1.0]))}] if 0.5 < at[1.0] < 1 else [],
        "Clip": [{"min": at[-9.0], "max": at[9.0]}] if -9 < at[-9.0] < at[9.0] < 9 else [],
    }
    return [Activation(name, p) for name in _CHAINED for p in fitted.get(name, [{}])]
