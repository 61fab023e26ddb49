"""Operators whose result jumps where an operand moves by a rounding, however small.

Two models that differ by rounding need not agree behind them, so nothing is proved there.
"""

from __future__ import annotations

from onnx_net2net.graph.model import Node
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.verification.sides import FLOATS

_JUMPS = frozenset(
    "ArgMax ArgMin Ceil Compress Equal Floor Greater GreaterOrEqual Hardmax IsInf IsNaN Less "
    "LessOrEqual Mod NonMaxSuppression NonZero Round Sign TopK Unique If "
    "com.microsoft.Unique".split()
)
_CASTS = frozenset("BitCast Cast CastLike".split())


def jumps(node: Node, facts: Facts) -> bool:
    """Whether a node's outputs may move by more than its operands do, times a number."""
    if node.op in _CASTS:
        return facts.dtype(node.outputs[0]) not in FLOATS
    return node.op in _JUMPS
