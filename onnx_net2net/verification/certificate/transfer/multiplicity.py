"""Operators along an axis whose copies were made to count as one.

Softmax of logits less log r is the teacher's, divided by r, for r copies of each; a norm of
data divided by a root of r is the teacher's. So a constant that is added is remembered beside
the sum's own name, a factor is kept with the value, and an operator that sums over the axis
counts each label by what its copies weigh together. What is added or multiplied behind it
restores the teacher's values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.names import Labels, digest, is_positions, key, positions
from onnx_net2net.verification.certificate.registry import Shifted
from onnx_net2net.verification.certificate.transfer.base import At, no_zero, rules
from onnx_net2net.verification.certificate.transfer.elementwise import elementwise, multiply
from onnx_net2net.verification.certificate.transfer.pairs import flattened, summed

_LARGEST_SHIFT, _SMALLEST_FACTOR = 16.0, 2.0**-16
"""Beyond these, what is undone behind the operator is lost to rounding."""


def _along(x: Value, c: Const) -> tuple[int, Array] | None:
    """The axis of `x` along which a constant has its numbers, and these; None if it is none."""
    rank = len(x.axes)
    along = [rank - len(c.shape) + k for k, d in enumerate(c.shape) if d > 1]
    if len(along) != 1 or len(c.shape) > rank or c.dtype.kind not in "fV":
        return None
    numbers = c.array().reshape(-1).astype(np.float64)
    fits = len(x.axes[along[0]]) == c.size and bool(np.isfinite(numbers).all())
    return (along[0], numbers) if fits else None


@rules("Add Sub")
def _shift(at: At) -> Sequence[Term]:
    """A sum with a constant along one axis; one that undoes the last gives back what was."""
    found = elementwise(at, "all")
    pairs = [(0, 1)] if at.node.op == "Sub" else [(0, 1), (1, 0)]
    for mine, other in pairs:
        x, c = at.args[mine], at.args[other]
        if not isinstance(x, Value) or not isinstance(c, Const) or x.labels is None:
            continue
        x = x.settled()
        known = _along(x, c)
        if known is None:
            break
        axis, numbers = known
        numbers = -numbers if at.node.op == "Sub" else numbers
        for base, amounts, size in _chain(at, x, axis):
            off = np.abs(amounts + numbers)
            most = np.maximum(size, np.abs(numbers))
            if (off <= at.rounding * most).all():
                _accept(at, off / np.maximum(most, np.finfo(float).tiny))
                return [base]
        if isinstance(found[0], Value) and np.abs(numbers).max() <= _LARGEST_SHIFT:
            at.registry.shifted[found[0].whole] = Shifted(x, axis, numbers)
        break
    return found


def _chain(at: At, x: Value, axis: int) -> list[tuple[Value, Array, Array]]:
    """What a value is but for constants added along an axis: (it, their sum, their sizes)."""
    found: list[tuple[Value, Array, Array]] = []
    amounts, size = np.zeros(len(x.axes[axis])), np.zeros(len(x.axes[axis]))
    while (known := at.registry.shifted.get(x.whole)) is not None and known.axis == axis:
        x, amounts, size = known.base, amounts + known.amounts, size + np.abs(known.amounts)
        found.append((x, amounts, size))
    return found


@rules("Div")
def _divide(at: At) -> Sequence[Term]:
    """A divisor for each position of one axis is kept apart, as a factor is."""
    x, c = at.args[0], at.args[1]
    if isinstance(x, Value) and isinstance(c, Const) and x.labels is not None:
        known = _along(x, c)
        if known is not None and _is_mild(known[1]) and not is_positions(x.axes[known[0]]):
            axis, numbers = known
            factors = 1 / numbers
            if x.scale is not None and x.scale[0] == axis and _is_mild(x.scale[1]):
                return [_restored(at, replace(x, scale=(axis, x.scale[1] * factors)))]
            return [replace(x.settled(), scale=(axis, factors))]
    return elementwise(at, "over")


@rules("Mul")
def _multiply(at: At) -> Sequence[Term]:
    """Factors that undo those before, to rounding, leave the value as it was."""
    (found,) = multiply(at)
    if isinstance(found, Value) and found.scale is not None:
        before = [a.scale for a in at.args[:2] if isinstance(a, Value) and a.scale is not None]
        if any(axis == found.scale[0] and _is_mild(factors) for axis, factors in before):
            return [_restored(at, found)]
    return [found]


def _is_mild(factors: Array) -> bool:
    size = np.abs(factors)
    return bool(((size >= _SMALLEST_FACTOR) & (size <= 1 / _SMALLEST_FACTOR)).all())


def _restored(at: At, x: Value) -> Value:
    """Without factors that are 1 to rounding."""
    if x.scale is None:
        return x
    axis, factors = x.scale
    off = np.abs(factors - 1)
    fine = off <= at.rounding
    if not fine.any():
        return x
    _accept(at, off[fine])
    left = np.where(fine, 1.0, factors)
    return replace(x, scale=None if fine.all() else (axis, left))


def _accept(at: At, off: Array) -> None:
    at.registry.accept(float(off.max(initial=0.0)))


def _shares(at: At, x: Value, axes: Sequence[int]) -> list[Value]:
    """Data whose copies are shifted, as those that are not, with the factors of their exp."""
    known = at.registry.shifted.get(x.whole)
    if known is None or known.axis not in axes:
        return []
    chain = _chain(at, x, known.axis)
    return [replace(base, scale=(known.axis, np.exp(a))) for base, a, _ in chain]


def _counted(at: At, x: Value, weights: Array | None, axes: Sequence[int]) -> int | None:
    """A name for what stands along some axes, each label as often as its copies weigh together.

    Args:
        weights: for each position of the axis of `x.scale`; None: ones.

    Returns:
        None where some label weighs no whole number, to rounding.
    """
    labels, each = flattened(x if weights is None else _weighed(x, weights), axes)
    kinds, totals = summed(labels, np.ones(len(labels)) if each is None else each)
    counts = np.round(totals)
    if each is not None:
        off = np.abs(totals - counts) / np.maximum(counts, 1.0)
        if (counts < 1).any() or (off > at.rounding).any() or (each < 0).any():
            return None
        _accept(at, off)
    return key("counted", digest(kinds), digest(counts))


def _weighed(x: Value, weights: Array) -> Value:
    assert x.scale is not None
    return replace(x, scale=(x.scale[0], weights))


def _with_power(at: At, x: Value, axes: Sequence[int], power: int) -> tuple[Value, int]:
    """The value as it is best named, and a name for a sum of powers of it along the axes."""
    if x.scale is not None and x.scale[0] in axes:
        factors = x.scale[1]
        name = _counted(at, x, np.abs(factors) ** power if power else factors, axes)
        if name is not None and (power or (factors > 0).all()):
            return x, name
    x = x.settled()
    name = _counted(at, x, None, axes)
    assert name is not None
    return x, name


def _exponential(at: At, x: Value, axes: Sequence[int]) -> tuple[Value, int]:
    """The same for a sum of exponentials, to which a zero adds 1."""
    for y in (*_shares(at, x, axes)[::-1], x):
        y = replace(y, labels=tuple(map(no_zero, y.axes)))
        name = _counted(at, y, None if y.scale is None else y.scale[1], axes)
        if name is not None:
            return y, name
    raise UnknownError("no sum of exponentials")


@rules("Softmax LogSoftmax LpNormalization")
def _normalized(at: At) -> Sequence[Term]:
    """Every element is divided by what stands along the axis, in whatever order."""
    term, op = at.args[0], at.node.op
    x = term if isinstance(term, Value) else at.value()
    rank = len(x.axes)
    flattening = op != "LpNormalization" and at.since < 13
    axis = int(at.node.attr("axis", 1 if flattening else -1)) % rank
    axes = list(range(axis, rank)) if flattening else [axis]
    if op == "LpNormalization":
        x, counted = _with_power(at, x, axes, int(at.node.attr("p", 2)))
    else:
        x, counted = _exponential(at, x.settled(), axes)
    labels = tuple(no_zero(v) for v in x.axes)
    found = Value(key(at.name(), x.tag, counted), labels, x.scale)
    if op != "LogSoftmax" or x.scale is None:
        return [_restored(at, found)]
    along, factors = x.scale
    base = replace(found, scale=None)
    found = replace(base, tag=key("shifted", base.tag), scale=(along, factors)).settled()
    at.registry.shifted[found.whole] = Shifted(base, along, np.log(factors))
    return [found]


_POWERS = {"ReduceL1": 1, "ReduceL2": 2, "ReduceSumSquare": 2, "ReduceLogSum": 0}


@rules("ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare")
def _reduced(at: At) -> Sequence[Term]:
    op, x = at.node.op, at.args[0]
    if not isinstance(x, Value):
        raise UnknownError("the data are constant")
    rank = len(x.axes)
    given = at.ints(1, "axes")
    if not given and at.node.attr("noop_with_empty_axes", 0):
        raise UnknownError("a reduction of no axes")
    axes = sorted({a % rank for a in given}) if given else list(range(rank))
    if op in _POWERS:
        x, counted = _with_power(at, x, axes, _POWERS[op])
    else:
        x, counted = _exponential(at, x.settled(), axes)
    keep, logs = bool(at.node.attr("keepdims", 1)), op.startswith("ReduceLog")
    labels = [
        positions(1) if k in axes else no_zero(v) if logs else v
        for k, v in enumerate(x.axes)
        if keep or k not in axes
    ]
    return [Value(key("reduce", op, x.tag, axes, counted, keep), tuple(labels))]


@rules("ArgMax ArgMin")
def _arg(at: At) -> Sequence[Term]:
    """Where the best of an axis stands; behind their first, copies are never picked."""
    x = at.value()
    axis = int(at.node.attr("axis", 0)) % len(x.axes)
    keep, along = bool(at.node.attr("keepdims", 1)), x.axes[axis]
    first: Labels = positions(len(along))
    if not at.node.attr("select_last_index", 0):
        first = np.sort(np.unique(along, return_index=True)[1]).astype(np.uint64)
    tag = key(at.name(), x.tag, digest(along[first.astype(np.int64)]), digest(first))
    labels = [positions(1) if k == axis else no_zero(v) for k, v in enumerate(x.axes)]
    return [Value(tag, tuple(v for k, v in enumerate(labels) if keep or k != axis))]
