"""Operators that treat every element alone, and constants that take part by broadcasting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto

from onnx_net2net.graph.node import Node
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.names import (
    ZERO,
    Labels,
    is_positions,
    key,
    mix,
    positions,
)
from onnx_net2net.verification.certificate.transfer.base import At, attach, no_zero, rules


def elementwise(at: At, zeros: str) -> Sequence[Term]:
    """Unary and broadcasting operators with any number of operands.

    Args:
        zeros: how zeros pass, see `combine`.
    """
    if "broadcast" in at.attributes or "axis" in at.attributes:
        raise UnknownError("operands that are laid against each other by an attribute")
    operands = [a for a in at.args if a is not None]
    present = [a is not None for a in at.args]
    how = "" if at.kinds[:1] == (TensorProto.STRING,) else zeros
    found = combine(key(at.name(), present), operands, how)
    others = range(1, len(at.node.outputs))
    return [found, *(Value(key(found.tag, "output", k), found.labels) for k in others)]


@rules("Pow")
def _power(at: At) -> Sequence[Term]:
    """Of zero it is zero where the exponent is positive."""
    exponent = at.args[1]
    positive = isinstance(exponent, Const) and bool((exponent.array() > 0).all())
    operands = [a for a in at.args if a is not None]
    return [combine(key(at.name(), [True, True]), operands, "first" if positive else "")]


@rules(
    "QuantizeLinear DequantizeLinear com.microsoft.QuantizeLinear com.microsoft.DequantizeLinear"
)
def _quantize(at: At) -> Sequence[Term]:
    """A step and a zero point for the tensor, or for each position of one axis."""
    x, steps = at.value(), [c for c in (at.const(1), at.const(2) if at.has(2) else None) if c]
    if at.node.attr("block_size", 0):
        raise UnknownError("blocks of scales")
    if all(c.size == 1 for c in steps):
        return [combine(at.name("axis"), [x, *steps], "")]
    axis = int(at.node.attr("axis", 1)) % len(x.axes)
    return [parameters(x, at.name("axis"), steps, axis, ())]


def inactive(node: Node, args: Sequence[Term | None]) -> bool:
    """Whether a Dropout passes on what it is given: it is not, or may not be, training."""
    if node.version < 7:
        return bool(node.attr("is_test", 0))
    if node.version < 12 or len(args) < 3 or args[2] is None:
        return True
    training = args[2]
    return isinstance(training, Const) and not training.array().any()


@rules("Dropout")
def _dropout(at: At) -> Sequence[Term]:
    """Not training: what comes in, and which elements were kept, which is all of them."""
    if not inactive(at.node, at.args) or at.args[0] is None:
        raise UnknownError("it draws random numbers")
    x, found = at.value(), [at.args[0]]
    for k in range(1, len(at.node.outputs)):
        found.append(Value(key("all kept", at.kinds[k]), tuple(positions(d) for d in x.shape)))
    return found


@rules("Identity")
def _identity(at: At) -> Sequence[Term]:
    term = at.args[0]
    assert term is not None
    return [term]


@rules("CastLike")
def _cast_like(at: At) -> Sequence[Term]:
    c = at.args[0]
    if isinstance(c, Const):
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(at.kinds[0]))
        if at.attributes or dtype.kind not in "fiub" or c.dtype.kind not in "fiub":
            raise UnknownError("a cast that may saturate")
        name = key("cast", c.key, dtype.name)
        return [Const(name, c.shape, dtype, lambda: c.array().astype(dtype))]
    return [combine(key(at.name(), at.kinds), [at.value()], "first")]


def multiply(at: At) -> Sequence[Term]:
    """A factor for each position of one axis is kept apart: a contraction may absorb it."""
    for slot in (0, 1):
        x, c = at.args[slot], at.args[1 - slot]
        if isinstance(x, Value) and isinstance(c, Const) and x.labels is not None:
            scaled = _restored(x, c, at) or _scaled(x, c)
            if scaled is not None:
                return [scaled]
    return elementwise(at, "any")


def _restored(x: Value, c: Const, at: At) -> Value | None:
    """One factor for everything, as of an average that zeros have lessened, taken back."""
    if x.scale is None or x.scale[1].size != 1 or c.size != 1 or len(c.shape) > len(x.axes):
        return None
    factors = x.scale[1] * c.array().astype(np.float64).reshape(1)
    off = abs(float(factors[0]) - 1.0)
    if not off <= at.rounding:
        return Value(x.tag, x.labels, (x.scale[0], factors))
    at.registry.accept(off)
    return Value(x.tag, x.labels)


def _scaled(x: Value, c: Const) -> Value | None:
    rank = len(x.axes)
    along = [rank - len(c.shape) + k for k, d in enumerate(c.shape) if d > 1]
    if len(along) != 1 or len(c.shape) > rank or c.dtype.kind not in "fV":
        return None
    (axis,) = along
    if len(x.axes[axis]) != c.size or is_positions(x.axes[axis]):
        return None
    factors = c.array().reshape(-1).astype(np.float64)
    if x.scale is not None and x.scale[0] == axis:
        factors = factors * x.scale[1]
    elif x.scale is not None:
        x = x.settled()
    return Value(x.tag, x.labels, (axis, factors))


def combine(name: int, operands: Sequence[Term], zeros: str) -> Value:
    """The result of an elementwise operator.

    Args:
        name: what it does.
        zeros: how zeros pass: `first`, `all`, `any`, `over` or "".

    Raises:
        UnknownError: an operand's shape is unknown, or a constant differs between copies.
    """
    values = {k: v.settled() for k, v in enumerate(operands) if isinstance(v, Value)}
    if zeros == "over" and isinstance(operands[1], Const):
        zeros = "first" if operands[1].array().astype(bool).all() else ""
    shapes = [t.shape for t in operands]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise UnknownError("operands do not broadcast") from None
    rank = len(shape)
    labels: list[Labels | None] = []
    zero: list[dict[int, Labels]] = []
    modes = []
    for axis, size in enumerate(shape):
        varying, single = _along(values, axis - rank, size)
        merged, how = _merged(list(varying.values()))
        labels.append(positions(1) if merged is None and size == 1 else merged)
        zero.append(dict(varying))
        modes.append((list(varying), how, single))
    parts: list[object] = []
    for k, term in enumerate(operands):
        if isinstance(term, Value):
            parts.append(values[k].tag)
            continue
        part, own = attach(labels, term)
        parts.append(part)
        for axis, rows in own.items():
            zero[axis][k] = rows
    done = [
        _with_zeros(x, zero[a], zeros, len(operands)) for a, x in enumerate(labels) if x is not None
    ]
    if len(done) < rank:
        raise UnknownError("an axis has no labels")
    return Value(key("elementwise", name, parts, modes), tuple(done))


def _along(
    values: Mapping[int, Value], axis: int, size: int
) -> tuple[dict[int, Labels], list[tuple[int, int]]]:
    """Labels along an axis, counted from the end; apart, those of operands that broadcast."""
    varying: dict[int, Labels] = {}
    single = []
    for k, v in values.items():
        if -axis > len(v.axes):
            continue
        if len(v.axes[axis]) == size:
            varying[k] = v.axes[axis]
        else:
            single.append((k, int(v.axes[axis][0])))
    return varying, single


def _merged(varying: list[Labels]) -> tuple[Labels | None, str]:
    if not varying:
        return None, "none"
    first = varying[0]
    if all(x is first or np.array_equal(x, first) for x in varying[1:]):
        return first, "same"
    return mix(*varying), "mixed"


def _with_zeros(labels: Labels, by_operand: dict[int, Labels], how: str, count: int) -> Labels:
    masks = {k: x == ZERO for k, x in by_operand.items() if x is not positions(len(x))}
    if not any(m.any() for m in masks.values()):
        return no_zero(labels)
    masks = {k: x == ZERO for k, x in by_operand.items()}
    zero = np.zeros(len(labels), bool)
    if how == "first" and 0 in masks:
        zero = masks[0]
    elif how == "all" and len(masks) == count:
        zero = np.logical_and.reduce(list(masks.values()))
    elif how == "over" and list(masks) == [0]:
        zero = masks[0]
    elif how == "any":
        zero = np.logical_or.reduce(list(masks.values()))
    return np.where(zero, ZERO, no_zero(labels))


def parameters(
    x: Value, name: int, params: Sequence[Const], axis: int, offsets: Sequence[int]
) -> Value:
    """An operator with parameters for each position of one axis, as in a normalization.

    Args:
        offsets: which parameters must be zero for a zero position to stay zero.
    """
    labels: list[Labels | None] = list(x.axes)
    before = x.axes[axis]
    parts, still = [], before == ZERO
    for k, c in enumerate(params):
        part, own = attach(labels, c.along(len(labels) - axis))
        parts.append(part)
        if k in offsets and still.any():
            still = still & (own[axis] == ZERO if axis in own else ~np.any(c.array()))
    done = [no_zero(v) for v in labels if v is not None]
    done[axis] = np.where(still, ZERO, done[axis])
    return Value(key("parameters", name, x.tag, parts), tuple(done))
