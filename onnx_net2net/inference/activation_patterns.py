"""Activations in a graph, whether one node or an exported chain of them.

A chain (Div Erf Add Mul Mul, Sigmoid Mul, Add Clip Div Mul, ...) is recognised by what it
computes: it is evaluated on a grid and compared with the rows of the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from onnx_net2net.graph.model import Node
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.activations import TABLE, Activation
from onnx_net2net.typing import Array

_LONGEST = 16
_GRID = np.concatenate([np.linspace(-9.0, 9.0, 73), [-0.1, 0.1, 0.77]])
_TOLERANCE: dict[int, float] = {TensorProto.FLOAT16: 3e-3, TensorProto.BFLOAT16: 2e-2}


@dataclass(frozen=True)
class Found:
    """An activation in the graph: it reads `source`, its last node writes `end`."""

    activation: Activation
    source: str
    end: str
    nodes: tuple[Node, ...]


Read = Callable[[Node, Analysis], "Activation | None"]


def _attributes(name: str, *names: str) -> Read:
    def read(node: Node, analysis: Analysis) -> Activation:
        given = {n: node.attr(n) for n in names if node.attr(n) is not None}
        return Activation(name, given)

    return read


def _clip(node: Node, analysis: Analysis) -> Activation | None:
    bounds = {"min": node.attr("min"), "max": node.attr("max")}
    for slot, name in ((1, "min"), (2, "max")):
        if slot < len(node.inputs) and node.inputs[slot]:
            value = analysis.first.values.get(node.inputs[slot])
            if value is None:
                return None
            bounds[name] = value.reshape(-1)[0]
    # exporters write the largest float for "no bound"
    known = {n: float(v) for n, v in bounds.items() if v is not None and abs(v) < 3.4e38}
    return Activation("Clip", known)


def _prelu(node: Node, analysis: Analysis) -> Activation | None:
    leaf = analysis.model.leaves.get(node.inputs[1])
    if leaf is None or leaf.tensor is None:
        return None
    slope = np.asarray(analysis.source.array(leaf.tensor), np.float64).reshape(-1)
    return Activation("PRelu", {"alpha": slope if len(slope) > 1 else float(slope[0])})


def _fused(node: Node, analysis: Analysis) -> Activation | None:
    name = node.attr("activation", "")
    given = list(node.attr("activation_params", []))
    names = {"Clip": ("min", "max"), "HardSigmoid": ("alpha", "beta")}.get(name, ("alpha",))
    if name not in TABLE:
        return None
    taken = {"alpha": node.attr("activation_alpha")} if node.attr("activation_alpha") else {}
    return Activation(name, taken | dict(zip(names, given, strict=False)))


_WITH_ALPHA = ("LeakyRelu", "Elu", "Celu", "ThresholdedRelu", "Swish")
_READERS: dict[str, Read] = {
    **{name: _attributes(name) for name in TABLE},
    **{name: _attributes(name, "alpha") for name in _WITH_ALPHA},
    "Selu": _attributes("Selu", "alpha", "gamma"),
    "HardSigmoid": _attributes("HardSigmoid", "alpha", "beta"),
    "Gelu": _attributes("Gelu", "approximate"),
    "Clip": _clip,
    "PRelu": _prelu,
    "com.microsoft.Gelu": _attributes("Gelu"),
    "com.microsoft.BiasGelu": _attributes("Gelu"),
    "com.microsoft.FastGelu": lambda n, a: Activation("Gelu", {"approximate": "tanh"}),
    "com.microsoft.QuickGelu": lambda n, a: Activation("Swish", {"alpha": n.attr("alpha", 1.702)}),
    "com.microsoft.FusedConv": _fused,
    "com.microsoft.FusedGemm": _fused,
}  # fmt: skip

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Neg": np.negative,
    "Exp": np.exp,
    "Log": np.log,
    "Sqrt": np.sqrt,
    "Tanh": np.tanh,
    "Reciprocal": np.reciprocal,
    "Erf": np.vectorize(math.erf, otypes=[np.float64]),
    "Max": lambda *v: np.maximum.reduce(np.broadcast_arrays(*v)),
    "Min": lambda *v: np.minimum.reduce(np.broadcast_arrays(*v)),
    "Sum": lambda *v: np.add.reduce(np.broadcast_arrays(*v)),
    "Identity": lambda x: x,
    "Cast": lambda x: x,
}
_ENDS = frozenset("Mul Div Add Sub Neg Log Min Max".split())
_CHAINED = ("Gelu", "Swish", "HardSwish", "Mish", "Softplus", "LogSigmoid", "Sigmoid", "Clip")
_INNER = frozenset("Sigmoid HardSigmoid Softplus Relu Clip Softsign HardSwish Gelu".split())


def recognise(analysis: Analysis, tensor: str) -> Found | None:
    """The activation that a tensor is the result of; None if it is no activation's.

    The reader of a fused node (FusedConv with an activation) has no source of its own.
    """
    node = analysis.model.producer.get(tensor)
    if node is None or tensor != node.outputs[0]:
        return None
    read = _READERS.get(node.op)
    if read is not None:
        activation = read(node, analysis)
        fused = node.op.startswith("com.microsoft.Fused")
        if activation is None or node.inputs[0] in analysis.model.constant:
            return None
        return Found(activation, "" if fused else node.inputs[0], tensor, (node,))
    return _chain(analysis, tensor) if node.op in _ENDS else None


def after(analysis: Analysis, tensor: str) -> Found | None:
    """The activation that alone reads a tensor, if one does."""
    model = analysis.model
    readers = {n.index for n, _ in model.readers.get(tensor, ())}
    todo, seen = [tensor], set[str]()
    while todo and len(seen) < _LONGEST:
        for node, _ in model.readers.get(todo.pop(0), ()):
            end = node.outputs[0] if node.outputs else ""
            if not end or end in seen:
                continue
            seen.add(end)
            found = recognise(analysis, end)
            if found is not None and found.source == tensor:
                inside = {n.index for n in found.nodes}
                between = (o for n in found.nodes for o in n.outputs if o and o != end)
                read = (r.index for o in between for r, _ in model.readers.get(o, ()))
                if readers <= inside and inside.issuperset(read):
                    return found
            if node.op in _OPERATIONS or node.op in _INNER:
                todo.append(end)
    return None


def _chain(analysis: Analysis, end: str) -> Found | None:
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
        if len(frontier) == 1 and len(nodes) > 1:
            (source,) = frontier
            activation = _matched(analysis, source, end, nodes)
            if activation is not None:
                return Found(activation, source, end, tuple(nodes))
    return None


def _opens(analysis: Analysis, node: Node) -> bool:
    """Whether a node can be evaluated on single values."""
    if len(node.outputs) > 1 or not (node.op in _OPERATIONS or node.op in _INNER):
        return False
    if node.op == "Cast" and node.attr("to") not in (1, 10, 11, 16):
        return False
    return all(
        t not in analysis.model.constant or _single(analysis, t) is not None
        for t in node.inputs
        if t
    )


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


def _evaluated(analysis: Analysis, node: Node, known: list[Any]) -> Any:
    if node.op in _OPERATIONS:
        return _OPERATIONS[node.op](*known)
    read = _READERS[node.op]
    activation = read(node, analysis)
    return activation(known[0]) if activation is not None else np.full(_GRID.shape, np.nan)


def _candidates(result: Array) -> list[Activation]:
    """Rows of the table with the parameters that the values suggest."""
    at = dict(zip(_GRID.tolist(), result.tolist(), strict=True))
    fitted: Mapping[str, list[dict[str, Any]]] = {
        "Gelu": [{"approximate": "none"}, {"approximate": "tanh"}],
        "Swish": [{"alpha": math.log(at[1.0] / (1 - at[1.0]))}] if 0.5 < at[1.0] < 1 else [],
        "Clip": [{"min": at[-9.0], "max": at[9.0]}] if -9 < at[-9.0] < at[9.0] < 9 else [],
    }
    return [Activation(name, p) for name in _CHAINED for p in fitted.get(name, [{}])]
