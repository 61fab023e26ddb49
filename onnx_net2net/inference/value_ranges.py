"""The range of values that a tensor can take, derived from the graph.

Bounds hold in floating point too: results that are rounded are widened a little, except at
zero, where rounding never changes the sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnx_net2net.graph.model import Node
from onnx_net2net.inference.activation_patterns import recognise
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.activations import Activation

_SLACK = 2.0**-7  # a bfloat16 result is off by 2^-8 at most
_MOST_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class Range:
    """All values lie in [low, high]."""

    low: float = -math.inf
    high: float = math.inf

    def __or__(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))

    def __str__(self) -> str:
        low = "(-inf" if self.low == -math.inf else f"[{self.low:g}"
        high = "inf)" if self.high == math.inf else f"{self.high:g}]"
        return f"{low}, {high}"


ANY = Range()
ZERO = Range(0.0, 0.0)
POSITIVE = Range(0.0, math.inf)
Derive = Callable[[Node, "list[Range]", Analysis], Range]


def _rounded(low: float, high: float) -> Range:
    """Widened for rounding."""
    low, high = (-math.inf if math.isnan(low) else low), (math.inf if math.isnan(high) else high)
    return Range(low - abs(low) * _SLACK, high + abs(high) * _SLACK)


def _fixed(low: float, high: float) -> Derive:
    return lambda node, ranges, analysis: Range(low, high)


def _first(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    return ranges[0]


def _any_of(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    total = ranges[0]
    for r in ranges[1:]:
        total |= r
    return total


def _mean(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    padded = ranges[0] | ZERO if node.attr("count_include_pad", 0) else ranges[0]
    return _rounded(padded.low, padded.high)


def _sum(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    return _rounded(sum(r.low for r in ranges), sum(r.high for r in ranges))


def _difference(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    a, b = ranges
    return _rounded(a.low - b.high, a.high - b.low)


def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def _product(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    a, b = ranges
    ends = [_times(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    if node.inputs[0] == node.inputs[1]:
        return POSITIVE
    return _rounded(min(ends), max(ends))


def _inverse(r: Range) -> Range:
    """1/r where r is on one side of zero; 1/0 is an infinity of that side."""
    if r.low >= 0:
        return Range(0.0 if r.high == math.inf else 1 / r.high if r.high else math.inf,
                     1 / r.low if r.low else math.inf)  # fmt: skip
    return ANY


def _quotient(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    return _product(node, [ranges[0], _inverse(ranges[1])], analysis) if _distinct(node) else ANY


def _distinct(node: Node) -> bool:
    return node.inputs[0] != node.inputs[1]


def _power(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    exponent = analysis.first.values.get(node.inputs[1])
    if ranges[0].low >= 0:
        return POSITIVE
    even = exponent is not None and bool(np.all(np.asarray(exponent) % 2 == 0))
    return POSITIVE if even else ANY


def _maximum(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    return Range(max(r.low for r in ranges), max(r.high for r in ranges))


def _minimum(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    return Range(min(r.low for r in ranges), min(r.high for r in ranges))


def _where(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    return ranges[1] | ranges[2]


def _padded(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    if node.attr("mode", "constant") != "constant":
        return ranges[0]
    value = node.attr("value", 0.0)
    if len(node.inputs) > 2 and node.inputs[2]:
        return ranges[0] | ranges[2]
    return ranges[0] | Range(value, value)


def _scattered(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    return ranges[0] | ranges[2] if node.attr("reduction", "none") == "none" else ANY


def _resized(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    """Nearest and linear take weighted means; cubic overshoots."""
    if node.attr("mode", "nearest") not in ("nearest", "linear"):
        return ANY
    if node.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return ANY
    return _rounded(ranges[0].low, ranges[0].high)


def _negative(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    return Range(-ranges[0].high, -ranges[0].low)


def _reciprocal(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    r = _inverse(ranges[0])
    return _rounded(r.low, r.high)


def _total(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    r = ranges[0]
    return POSITIVE if r.low >= 0 else Range(-math.inf, 0.0) if r.high <= 0 else ANY


def _cast(node: Node, ranges: list[Range], analysis: Analysis) -> Range:
    """Integers are cut towards zero, truth values are 0 and 1."""
    both = ranges[0] | ZERO
    return Range(0.0, 1.0) if node.attr("to") == TensorProto.BOOL else _rounded(both.low, both.high)


_MOVES = (
    "Identity Dropout MaxPool GlobalMaxPool Transpose Reshape Flatten Squeeze Unsqueeze Slice "
    "Gather GatherElements GatherND Expand Tile DepthToSpace SpaceToDepth Split ReduceMax "
    "ReduceMin TopK Compress ReverseSequence"
)
_TABLE: dict[str, Derive] = {
    **dict.fromkeys(_MOVES.split(), _first),
    **dict.fromkeys("AveragePool GlobalAveragePool ReduceMean Mean".split(), _mean),
    **dict.fromkeys("Exp Sqrt ReduceL1 ReduceL2 ReduceSumSquare LpPool GlobalLpPool".split(),
                    _fixed(0.0, math.inf)),
    **dict.fromkeys("Sin Cos Erf".split(), _fixed(-1.0, 1.0)),
    **dict.fromkeys("Add Sum".split(), _sum),
    "Softmax": _fixed(0.0, 1.0 + _SLACK),
    "Hardmax": _fixed(0.0, 1.0),
    "LogSoftmax": _fixed(-math.inf, _SLACK),
    "Sub": _difference,
    "Mul": _product,
    "Div": _quotient,
    "Pow": _power,
    "Neg": _negative,
    "Reciprocal": _reciprocal,
    "Max": _maximum,
    "Min": _minimum,
    "Concat": _any_of,
    "Where": _where,
    "Pad": _padded,
    "ScatterND": _scattered,
    "ScatterElements": _scattered,
    "Trilu": lambda node, ranges, analysis: ranges[0] | ZERO,
    "Resize": _resized,
    "Upsample": _resized,
    "ReduceSum": _total,
    "Cast": _cast,
}  # fmt: skip
_MONOTONE = frozenset("Relu LeakyRelu Clip Elu Celu Selu Softplus Sigmoid HardSigmoid Tanh".split())
_EXACT = frozenset("Relu Clip".split())
_HIGHEST = {"Sigmoid": 1.0, "HardSigmoid": 1.0, "Tanh": 1.0, "Softsign": 1.0, "LogSigmoid": 0.0}


def value_range(analysis: Analysis, tensor: str) -> Range:
    """The values that a float tensor can take, (-inf, inf) where nothing is known.

    Source: growth-operators.md section 0, point 6.
    """
    known: dict[str, Range] = {"": ANY}
    stack = [tensor]
    while stack:
        name = stack[-1]
        node = analysis.model.producer.get(name)
        if name in known or node is None:
            known.setdefault(name, _leaf(analysis, name))
            stack.pop()
            continue
        found = recognise(analysis, name)
        derive = _TABLE.get(node.op)
        wanted = [found.source] if found else list(node.inputs)
        if found is None and (derive is None or (name != node.outputs[0] and node.op != "Split")):
            known[name] = ANY
        elif missing := [t for t in wanted if t not in known]:
            stack += missing
        elif found is not None:
            known[name] = _image(found.activation, known[found.source])
        elif derive is not None:
            known[name] = derive(node, [known[t] for t in wanted], analysis)
    return known[tensor]


def _image(activation: Activation, inside: Range) -> Range:
    """What an activation makes of a range: itself, its ends' values, or the function's bounds."""
    if activation.row.scale == 1 and activation.is_identity_on(inside.low, inside.high):
        return inside
    high = activation.values["max"] if activation.name == "Clip" else math.inf
    bound = Range(activation.lowest, _HIGHEST.get(activation.name, high))
    rising = np.all(np.asarray(activation.values.get("alpha", 0.0)) >= 0)
    if activation.name not in _MONOTONE or not rising:
        return bound
    with np.errstate(all="ignore"):
        low, high = activation(np.array([inside.low, inside.high])).tolist()
    image = Range(low, high) if activation.name in _EXACT else _rounded(low, high)
    return Range(max(image.low, bound.low), min(image.high, bound.high))


def _leaf(analysis: Analysis, name: str) -> Range:
    leaf = analysis.model.leaves.get(name)
    if leaf is None or leaf.also_input is not None:
        return ANY
    count = int(np.prod(leaf.shape)) if leaf.shape else 1
    value = analysis.inference.leaf_values.get(name)
    if value is None and leaf.tensor is not None and 0 < count <= _MOST_ELEMENTS:
        value = analysis.source.array(leaf.tensor)
    if value is None or not value.size or value.dtype.kind not in "fiubV":
        return ANY
    numbers = np.asarray(value, np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    return ANY if math.isnan(low) or math.isnan(high) else Range(low, high)
