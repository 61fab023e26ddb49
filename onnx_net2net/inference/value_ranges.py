"""The range of values that a tensor can take, derived from the graph."""

from __future__ import annotations

import math

import numpy as np

from onnx_net2net.operators.activations import Activation
from onnx_net2net.operators.intervals import ANY, Range, rounded
from onnx_net2net.operators.table import row_of
from .activation_patterns import recognise
from .analysis import Analysis

_MOST_ELEMENTS = 1 << 24


def value_range(analysis: Analysis, tensor: str) -> Range:
    """The values that a float tensor can take, (-inf, inf) where nothing is known."""
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
        row = row_of(node.op)
        wanted = [found.source] if found else list(node.inputs)
        told = name == node.outputs[0] or row.movement is not None
        if found is None and (row.range is None or not told):
            known[name] = ANY
        elif missing := [t for t in wanted if t not in known]:
            stack += missing
        elif found is not None:
            known[name] = _image(found.activation, known[found.source])
        elif row.range is not None:
            known[name] = row.range(analysis.first.site(node), [known[t] for t in wanted])
    return known[tensor]


def _image(activation: Activation, inside: Range) -> Range:
    """What an activation makes of a range: itself, its ends' values, or the function's bounds."""
    if activation.row.scale == 1 and activation.is_identity_on(inside.low, inside.high):
        return inside
    bound = Range(activation.lowest, activation.highest)
    rising = np.all(np.asarray(activation.values.get("alpha", 0.0)) >= 0)
    if not activation.row.rising or not rising:
        return bound
    with np.errstate(all="ignore"):
        low, high = activation(np.array([inside.low, inside.high])).tolist()
    image = Range(low, high) if activation.row.exact else rounded(low, high)
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
