"""Data movement: labels go where their positions go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from onnx_net2net.inference.expressions import Expr
from onnx_net2net.inference.size_rules import Dims, is_open
from onnx_net2net.inference.size_shapes import bounds, extent
from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.names import (
    ZERO,
    Labels,
    digest,
    dtype_name,
    is_positions,
    key,
    label,
    mix,
    positions,
    repeats,
    row_digests,
    rows_along,
)
from onnx_net2net.verification.certificate.open_axes import (
    Opened,
    acted,
    blocks_of,
    name_of,
    open_blocks,
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


@rules("Reshape Flatten Squeeze Unsqueeze com.microsoft.ExpandDims")
def _reshape(at: At) -> Sequence[Term]:
    dims = None if at.open is None else (at.open.shape(), at.open.out())
    return [reshaped(at.value(), at.out(), at.registry, dims)]


def reshaped(
    x: Value, shape: Sequence[int], registry: Registry, dims: tuple[Dims, Dims] | None = None
) -> Value:
    """The same elements in another shape, block by block of axes that belong together.

    Args:
        dims: the shape before and after as expressions, where sizes are open.
    """
    before = x.shape
    if math.prod(before) != math.prod(shape) or 0 in before:
        raise UnknownError("a reshape of unknown or empty sizes")
    if before == tuple(shape) and (dims is None or dims[0] == dims[1]):
        return x
    labels: list[Labels] = [positions(1)] * len(shape)
    blocks, at_open = (blocks_of(before, shape), []) if dims is None else open_blocks(*dims)
    used = {i for ins, _ in blocks for i in ins}
    gone = [(k, int(v[0])) for k, v in enumerate(x.axes) if k not in used]
    tag = key("reshape", x.tag, gone, len(shape), blocks, *at_open)
    for ins, outs in blocks:
        elements = product([x.axes[i] for i in ins])
        if len(outs) == 1:
            labels[outs[0]] = elements
            continue
        split = registry.split(key(tag, outs), elements.reshape([shape[o] for o in outs]))
        for o, found in zip(outs, split, strict=True):
            labels[o] = found
    return Value(tag, tuple(labels))


def picked(x: Value, where: Mapping[int, Array], made: np.uint64 = ZERO) -> Value:
    """Positions picked along some axes; -1 is a position that is made here."""
    labels = list(x.axes)
    for axis, index in where.items():
        taken = labels[axis][np.maximum(index, 0)]
        labels[axis] = np.where(index < 0, made, taken)
    return Value(x.tag, tuple(labels))


@rules("Slice")
def _slice(at: At) -> Sequence[Term]:
    starts, ends = at.numbers(1, "starts"), at.numbers(2, "ends")
    if starts is None or ends is None:
        raise UnknownError("no bounds")
    axes = at.ints(3, "axes") or list(range(len(starts)))
    steps = at.ints(4) or [1] * len(starts)
    x = at.value() if at.open is None else _cut_open(at, at.open)
    where = {}
    for a, s, e, t in zip(axes, starts, ends, steps, strict=True):
        end = None if t < 0 and e < -_FAR // 2 else e
        where[a % len(x.axes)] = np.arange(len(x.axes[a]))[slice(s, end, t)]
    return [picked(x, where)]


def _spread(c: Const, acted_on: Sequence[int], registry: Registry) -> Value:
    """A constant that is moved along some axes, by what stands at each position of another."""
    free = [k for k, d in enumerate(c.shape) if d > 1 and k not in acted_on]
    if not free:
        return Value(key("constant", c.key), tuple(positions(d) for d in c.shape))
    carrier = free[-1]
    tag = key("spread", carrier - len(c.shape), len(c.shape), dtype_name(c.dtype))
    columns = np.moveaxis(c.array(), carrier, 0)
    labels = [positions(d) for d in c.shape]
    labels[carrier] = registry.means.put(tag, row_digests(columns), registry.means.columns(columns))
    return Value(tag, tuple(labels))


def _cut_open(at: At, o: Opened) -> Value:
    """A tensor of which a slice takes, along open axes or by open bounds, not everything."""
    try:
        cuts = bounds(o.seen)
    except LookupError as why:
        raise UnknownError(f"a slice: {why}") from None
    acts = []
    for axis, start, end, step in cuts:
        dim = o.shape()[axis]
        whole = step == 1 and start == 0 and o.kept(extent(dim, start, end, 1), dim)
        if is_open((dim, start, end)) and not whole:
            acts.append((axis, name_of(start), name_of(end), step))
    axes, c = [a for a, *_ in acts], at.args[0]
    x = _spread(c, axes, at.registry) if isinstance(c, Const) else at.value()
    return acted(x, ("slice", acts), axes, at.registry) if acts else x


@rules("Split")
def _split(at: At) -> Sequence[Term]:
    x = at.value()
    axis = int(at.node.attr("axis", 0)) % len(x.axes)
    sizes = [at.out(k)[axis] for k in range(len(at.node.outputs))]
    ends = np.cumsum(sizes)
    if ends[-1] != len(x.axes[axis]):
        raise UnknownError("sizes that do not add up")
    parts = [x] * len(sizes)
    if at.open is not None:
        dims = [at.open.out(k)[axis] for k in range(len(sizes))]
        if is_open((*dims, at.open.shape()[axis])):
            acts = [("split", axis, k, name_of(dims)) for k in range(len(sizes))]
            parts = [acted(x, a, [axis], at.registry) for a in acts]
    cuts = zip(parts, sizes, ends, strict=True)
    return [picked(part, {axis: np.arange(e - d, e)}) for part, d, e in cuts]


@rules("Pad com.microsoft.Pad")
def _pad(at: At) -> Sequence[Term]:
    x = at.value()
    rank, mode = len(x.axes), str(at.node.attr("mode", "constant"))
    pads = at.numbers(1, "pads") or at.numbers(1, "paddings")
    if pads is None or mode not in ("constant", "reflect", "edge", "wrap"):
        raise UnknownError(f"padding of mode {mode}")
    axes = [a % rank for a in at.ints(3) or range(rank)]
    fill = at.const(2) if at.has(2) else None
    given = at.node.attr("value", 0.0) if fill is None else fill.array().reshape(-1)[0]
    value = np.asarray(given, onnx.helper.tensor_dtype_to_np_dtype(at.kinds[0])).tobytes()
    open_ = {} if at.open is None else _padded_open(at.open, axes)
    if open_:
        x = acted(x, ("pad", mode, value, sorted(open_.items())), sorted(open_), at.registry)
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
    found = picked(x, {a: v for a, v in where.items() if a not in open_}, made)
    at_open = {a: v for a, v in where.items() if a in open_}
    found = picked(found, at_open, label(key("padding", value, found.tag)))
    if any((index < 0).any() for index in where.values()):  # what holds of x may not hold of these
        found = replace(found, tag=key("padded", x.tag, value))
        if made != ZERO:  # beside a zero channel stands the fill, too
            found = replace(found, labels=tuple(map(no_zero, found.axes)))
    return [found]


def _padded_open(o: Opened, axes: Sequence[int]) -> dict[int, Any]:
    """Names for what is added to each axis by a pad of or along an open size."""
    pads = o.ints(1, "pads") or o.ints(1, "paddings") or []
    pairs = {a: (pads[k], pads[k + len(axes)]) for k, a in enumerate(axes)}
    return {
        a: name_of(pair)
        for a, pair in pairs.items()
        if is_open((o.shape()[a], *pair)) and pair != (0, 0)
    }


@rules("Tile")
def _tile(at: At) -> Sequence[Term]:
    x, times, given = at.value(), at.numbers(1) or [], at.args[0]
    if at.open is not None:
        x = _spread(given, (), at.registry) if isinstance(given, Const) else x
        pairs = enumerate(zip(at.open.shape(), at.open.ints(1) or [], strict=True))
        acts = [(a, name_of(t)) for a, (d, t) in pairs if is_open((d, t)) and t != 1]
        x = acted(x, ("tile", acts), [a for a, _ in acts], at.registry) if acts else x
    sizes = enumerate(zip(x.shape, times, strict=True))
    return [picked(x, {k: np.tile(np.arange(d), t) for k, (d, t) in sizes})]


@rules("ConstantOfShape")
def _filled(at: At) -> Sequence[Term]:
    """One number everywhere, in an open shape."""
    if at.open is None:
        raise UnknownError("a shape that is computed at run time")
    return [filled(at, at.attributes.get("value"), not any(_held(at).tobytes()))]


def _held(at: At) -> Array:
    value = at.node.attr("value")
    return np.zeros(1, np.float32) if value is None else onnx.numpy_helper.to_array(value)


def filled(at: At, value: Any, zero: bool) -> Value:
    """A tensor that holds one number, by its open sizes.

    Args:
        value: a name for the number.
    """
    assert at.open is not None
    dims = at.open.out()
    labels = [
        np.full(d, ZERO if zero and not isinstance(s, Expr) else 0, np.uint64)
        for d, s in zip(at.out(), dims, strict=True)
    ]
    shape = [name_of(s) if isinstance(s, Expr) else None for s in dims]
    return Value(key("filled", at.kinds, value, zero, shape), tuple(labels))


@rules("Expand")
def _expand(at: At) -> Sequence[Term]:
    given = at.args[0]
    if isinstance(given, Const) and given.size == 1 and at.open is not None:
        return [filled(at, given.key, not any(given.array().tobytes()))]
    x, shape = at.value(), at.out()
    lead = len(shape) - len(x.axes)
    if at.open is not None:
        x = _spread(given, (), at.registry) if isinstance(given, Const) else x
        x = _expanded_open(x, at.open, lead, at.registry)
    labels = [np.zeros(d, np.uint64) for d in shape[:lead]]
    for have, want in zip(x.axes, shape[lead:], strict=True):
        labels.append(have if len(have) == want else np.repeat(have, want))
    return [Value(x.tag if not lead else key("expand", lead, x.tag), tuple(labels))]


def _expanded_open(x: Value, o: Opened, lead: int, registry: Registry) -> Value:
    """A tensor that is repeated an open number of times."""
    before, after = (1,) * lead + o.shape(), o.out()
    acts = []
    for axis, (have, want) in enumerate(zip(before, after, strict=True)):
        if have != want and have != 1:
            raise UnknownError("an open size is expanded")
        if have != want and is_open((want,)):
            acts.append((axis, name_of(want)))
    return acted(x, ("expand", lead, acts), [], registry) if acts else x


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
        own, which = values[k].axes[axis], connected(values, k, [axis])
        parts.append(np.where(own == ZERO, ZERO, mix(key(values[k].tag, which), own)))
    labels = [_zero_in_all(v, a, terms, values) for a, v in enumerate(labels)]
    labels[axis] = np.concatenate(parts)
    tag = key("concat", axis, rank, modes)
    if at.open is not None and is_open(at.open.out()[axis : axis + 1]):
        # a part that is empty or zero here need not be so at other sizes
        names = [t.key if isinstance(t, Const) else t.tag for t in terms]
        tag, labels[axis] = key(tag, names, list(map(digest, parts))), no_zero(labels[axis])
    return [Value(tag, tuple(labels))]


def connected(values: Mapping[int, Value], k: int, without: Sequence[int] = ()) -> list[int]:
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
