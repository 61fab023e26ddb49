"""Data movement: labels go where their positions go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx

from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.names import (
    ZERO,
    Labels,
    digest,
    is_positions,
    key,
    label,
    mix,
    positions,
    repeats,
    row_digests,
    rows_along,
)
from onnx_net2net.verification.certificate.registry import Registry
from onnx_net2net.verification.certificate.transfer.base import At, no_zero, rules
from onnx_net2net.verification.certificate.transfer.pairs import product

_FAR = 2**31 - 1


@rules("Transpose")
def _transpose(at: At) -> Sequence[Term]:
    term = at.args[0]
    if not isinstance(term, Value):
        raise UnknownError("the data are constant")
    return [transposed(term, at.node.attr("perm") or range(len(term.axes))[::-1], at.registry)]


def transposed(x: Value, perm: Sequence[int], registry: Registry) -> Value:
    """Axes in another order; several transpositions are one."""
    perm = [int(p) for p in perm]
    tag, before = registry.turned.get(x.tag, (x.tag, list(range(len(perm)))))
    whole = [before[p] for p in perm]
    if whole != sorted(whole):
        base, tag = tag, key("transpose", tag, whole)
        registry.turned[tag] = (base, whole)
    scale = None if x.scale is None else (perm.index(x.scale[0]), x.scale[1])
    return Value(tag, tuple(x.axes[p] for p in perm), scale)


@rules("Reshape Flatten Squeeze Unsqueeze")
def _reshape(at: At) -> Sequence[Term]:
    return [reshaped(at.value(), at.out(), at.registry)]


def reshaped(x: Value, shape: Sequence[int], registry: Registry) -> Value:
    """The same elements in another shape, block by block of axes that belong together."""
    before = x.shape
    if math.prod(before) != math.prod(shape) or 0 in before:
        raise UnknownError("a reshape of unknown or empty sizes")
    if before == tuple(shape):
        return x
    labels: list[Labels] = [positions(1)] * len(shape)
    blocks = blocks_of(before, shape)
    used = {i for ins, _ in blocks for i in ins}
    gone = [(k, int(v[0])) for k, v in enumerate(x.axes) if k not in used]
    tag = key("reshape", x.tag, gone, len(shape), blocks)
    for ins, outs in blocks:
        elements = product([x.axes[i] for i in ins])
        if len(outs) == 1:
            labels[outs[0]] = elements
            continue
        split = registry.split(key(tag, outs), elements.reshape([shape[o] for o in outs]))
        for o, found in zip(outs, split, strict=True):
            labels[o] = found
    return Value(tag, tuple(labels))


def blocks_of(
    before: Sequence[int], after: Sequence[int]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The smallest groups of axes with equal products; axes of one position are in none.

    >>> blocks_of([2, 6, 5], [2, 2, 3, 5])
    [((0,), (0,)), ((1,), (1, 2)), ((2,), (3,))]
    """
    ins = [k for k, d in enumerate(before) if d != 1]
    outs = [k for k, d in enumerate(after) if d != 1]
    found = []
    while ins:
        a, b = [ins.pop(0)], [outs.pop(0)]
        m, n = before[a[0]], after[b[0]]
        while m != n:
            if m < n:
                a.append(ins.pop(0))
                m *= before[a[-1]]
            else:
                b.append(outs.pop(0))
                n *= after[b[-1]]
        found.append((tuple(a), tuple(b)))
    return found


def picked(x: Value, where: Mapping[int, Array], made: np.uint64 = ZERO) -> Value:
    """Positions picked along some axes; -1 is a position that is made here."""
    labels = list(x.axes)
    for axis, index in where.items():
        taken = labels[axis][np.maximum(index, 0)]
        labels[axis] = np.where(index < 0, made, taken)
    return Value(x.tag, tuple(labels))


@rules("Slice")
def _slice(at: At) -> Sequence[Term]:
    x = at.value()
    starts, ends = at.ints(1, "starts"), at.ints(2, "ends")
    if starts is None or ends is None:
        raise UnknownError("no bounds")
    axes = at.ints(3, "axes") or list(range(len(starts)))
    steps = at.ints(4) or [1] * len(starts)
    where = {}
    for a, s, e, t in zip(axes, starts, ends, steps, strict=True):
        end = None if t < 0 and e < -_FAR // 2 else e
        where[a % len(x.axes)] = np.arange(len(x.axes[a]))[slice(s, end, t)]
    return [picked(x, where)]


@rules("Split")
def _split(at: At) -> Sequence[Term]:
    x = at.value()
    axis = int(at.node.attr("axis", 0)) % len(x.axes)
    sizes = [at.out(k)[axis] for k in range(len(at.node.outputs))]
    ends = np.cumsum(sizes)
    if ends[-1] != len(x.axes[axis]):
        raise UnknownError("sizes that do not add up")
    return [picked(x, {axis: np.arange(e - d, e)}) for d, e in zip(sizes, ends, strict=True)]


@rules("Pad")
def _pad(at: At) -> Sequence[Term]:
    x = at.value()
    rank, mode = len(x.axes), str(at.node.attr("mode", "constant"))
    pads = at.ints(1, "pads") or at.ints(1, "paddings")
    if pads is None or mode not in ("constant", "reflect", "edge", "wrap"):
        raise UnknownError(f"padding of mode {mode}")
    axes = [a % rank for a in at.ints(3) or range(rank)]
    fill = at.const(2) if at.has(2) else None
    given = at.node.attr("value", 0.0) if fill is None else fill.array().reshape(-1)[0]
    value = np.asarray(given, onnx.helper.tensor_dtype_to_np_dtype(at.kinds[0])).tobytes()
    where = {}
    for k, a in enumerate(axes):
        low, high = pads[k], pads[k + len(axes)]
        d = len(x.axes[a])
        index = np.arange(max(-low, 0), d - max(-high, 0))
        grow = (max(low, 0), max(high, 0))
        if mode == "constant":
            where[a] = np.pad(index, grow, constant_values=-1)
        else:
            where[a] = np.pad(index, grow, mode=mode)  # type: ignore[call-overload]
    # the label holds the tag: what was padded before may have gone through other operators since
    made = label(key("padding", value, x.tag)) if any(value) else ZERO
    found = picked(x, where, made)
    if any((index < 0).any() for index in where.values()):  # what holds of x may not hold of these
        found = replace(found, tag=key("padded", x.tag, value))
    return [found]


@rules("Tile")
def _tile(at: At) -> Sequence[Term]:
    x, times = at.value(), at.ints(1) or []
    sizes = enumerate(zip(x.shape, times, strict=True))
    return [picked(x, {k: np.tile(np.arange(d), t) for k, (d, t) in sizes})]


@rules("Expand")
def _expand(at: At) -> Sequence[Term]:
    x, shape = at.value(), at.out()
    lead = len(shape) - len(x.axes)
    labels = [np.zeros(d, np.uint64) for d in shape[:lead]]
    for have, want in zip(x.axes, shape[lead:], strict=True):
        labels.append(have if len(have) == want else np.repeat(have, want))
    return [Value(x.tag if not lead else key("expand", lead, x.tag), tuple(labels))]


@rules("Gather")
def _gather(at: At) -> Sequence[Term]:
    data, index = at.args[0], at.args[1]
    if data is None or index is None:
        raise UnknownError("an input is missing")
    rank = len(data.shape)
    axis = int(at.node.attr("axis", 0)) % rank
    if isinstance(data, Value) and isinstance(index, Const):
        return [_gathered(data.settled(), index.array(), axis, at)]
    rows = at.value(1)
    if isinstance(data, Const):
        return [_looked_up(_old_rows(at, data, axis), rows, axis, at.registry)]
    x = data.settled()
    tag = key("gather", axis, x.tag, digest(x.axes[axis]), rows.tag)
    labels = [*x.axes[:axis], *map(no_zero, rows.axes), *x.axes[axis + 1 :]]
    return [Value(tag, tuple(labels))]


def _old_rows(at: At, table: Const, axis: int) -> Const:
    """Without rows that the student declares to be new: the teacher's inputs pick none."""
    if at.registry.teaching:
        return table
    old = at.registry.embedding.table(at.node.inputs[0], axis, table)
    at.registry.assumed |= set() if old is table else {at.node.inputs[0]}
    return old


def _gathered(x: Value, index: Array, axis: int, at: At) -> Value:
    """Constant indices pick positions; a single one takes the axis away."""
    taken = x.axes[axis][np.asarray(index.reshape(-1), np.int64)]
    rest = [*x.axes[:axis]], [*x.axes[axis + 1 :]]
    if index.ndim == 0:
        return Value(key("pick", x.tag, axis, int(taken[0])), (*rest[0], *rest[1]))
    if index.ndim == 1:
        return x.relabelled(axis, taken)
    tag = key("gather", x.tag, axis, index.ndim)
    split = at.registry.split(tag, taken.reshape(index.shape))
    return Value(tag, (*rest[0], *split, *rest[1]))


def _looked_up(table: Const, rows: Value, axis: int, registry: Registry) -> Value:
    """A table of constants: its other axes are named by what they hold."""
    tag = key("table", axis, rows.tag, str(table.dtype))
    others = [k for k in range(len(table.shape)) if k != axis]
    labels: dict[int, Labels] = {}
    if len(others) == 1:
        columns = np.moveaxis(table.array(), others[0], 0)
        names = row_digests(columns)
        pads = registry.means.columns(columns)
        labels[others[0]] = registry.means.put(tag, names, pads)
    else:
        tag = key(tag, table.key)
        labels = {k: positions(table.shape[k]) for k in others}
    before, after = ([labels[k] for k in others if (k > axis) == late] for late in (False, True))
    return Value(tag, (*before, *map(no_zero, rows.axes), *after))


@rules("Concat")
def _concat(at: At) -> Sequence[Term]:
    terms = [t for t in at.args if t is not None]
    rank = max(len(t.shape) for t in terms)
    axis = int(at.node.attr("axis", 0)) % rank
    values = {k: t.settled() for k, t in enumerate(terms) if isinstance(t, Value)}
    labels: list[Labels] = []
    modes = []
    for a in range(rank):
        if a == axis:
            labels.append(positions(0))
            continue
        shared = [v.axes[a] for v in values.values()]
        same = all(np.array_equal(v, shared[0]) for v in shared[1:])
        modes.append(same)
        labels.append(shared[0] if same else mix(*shared))
    parts = []
    for k, term in enumerate(terms):
        if isinstance(term, Const):
            parts.append(_joined_constant(term, k, axis, labels))
            continue
        own, which = values[k].axes[axis], components(values, k, [axis])
        parts.append(np.where(own == ZERO, ZERO, mix(key(values[k].tag, which), own)))
    labels = [_zero_in_all(v, a, terms, values) for a, v in enumerate(labels)]
    labels[axis] = np.concatenate(parts)
    return [Value(key("concat", axis, rank, modes), tuple(labels))]


def components(values: Mapping[int, Value], k: int, without: Sequence[int] = ()) -> list[int]:
    """Where tensors have other labels than one another: the first that has those of tensor `k`.

    A label that is mixed of several tensors' says what each has there, not whose element it is.
    """
    found = []
    for a, mine in enumerate(values[k].axes):
        theirs = [(j, v.axes[a]) for j, v in values.items()]
        if a not in without and not all(np.array_equal(v, mine) for _, v in theirs):
            found.append(next(j for j, v in theirs if np.array_equal(v, mine)))
    return found


def _zero_in_all(
    labels: Labels, axis: int, terms: Sequence[Term], values: dict[int, Value]
) -> Labels:
    """Zero in one operand is not zero in the others."""
    zero = [v.axes[axis] == ZERO for v in values.values() if len(v.axes[axis]) == len(labels)]
    if len(zero) < len(terms) or not labels.size:
        return no_zero(labels)
    return np.where(np.logical_and.reduce(zero), ZERO, no_zero(labels))


def _joined_constant(c: Const, nth: int, axis: int, labels: list[Labels]) -> Labels:
    """Labels of the positions of a constant, the `nth` operand, along the joined axis.

    Where it also differs along an axis that has labels, those take part (in place).
    """
    array = c.array()
    if not array.size:
        return np.full(array.shape[axis], ZERO)
    differs = []
    for a in range(array.ndim):
        if a == axis or array.shape[a] == 1:
            continue
        if repeats(array, a):
            array = np.take(array, [0], a)
        elif not is_positions(labels[a]):
            differs.append(a)
    if len(differs) > 1:
        raise UnknownError("a constant differs along two axes that have labels")
    for a in differs:
        labels[a] = mix(labels[a], rows_along(array, a))
        return mix(key("joined", nth, str(c.dtype)), positions(array.shape[axis]))
    return rows_along(array, axis, "joined")
