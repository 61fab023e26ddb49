"""Shapes of what moves data or makes it: expressions in, expressions out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_net2net.inference import expressions as ex
from onnx_net2net.inference.expressions import Atom, Dim, Expr
from onnx_net2net.inference.size_rules import Dims, Open, shapes

_FAR = 2**31 - 1


@shapes("Reshape")
def _reshape(at: Open) -> Sequence[Dims | None]:
    before, wanted = at.shape(), at.ints(1, "shape")
    if wanted is None:
        raise LookupError("no shape")
    found: list[Dim] = [
        before[k] if d == 0 and not at.attr("allowzero", 0) else d for k, d in enumerate(wanted)
    ]
    open_ = [k for k, d in enumerate(found) if d == -1]
    if open_:
        others = ex.product([d for d in found if d != -1])
        found[open_[0]] = ex.floor_div(ex.product(before), others)
    return [tuple(found)]


@shapes("Flatten")
def _flatten(at: Open) -> Sequence[Dims | None]:
    dims, axis = at.shape(), int(at.attr("axis", 1))
    axis = axis + len(dims) if axis < 0 else axis
    return [(ex.product(dims[:axis]), ex.product(dims[axis:]))]


def extent(size: Dim, start: Dim, end: Dim, step: int) -> Dim:
    """How many positions a slice takes.

    >>> s = ex.symbol("s")
    >>> extent(s, 0, 512, 1) == ex.minimum(512, s), extent(s, -1, -(2**63), -1)
    (True, s)
    """
    if step > 0:
        first = start if ex.least(start) >= 0 else _clamped(start, size, 0, size)
        last = _clamped(end, size, 0, size)
        return ex.maximum(0, ex.ceil_div(last - first, step))
    first = _clamped(start, size, -1, size - 1)
    last = (
        -1 if not isinstance(end, Expr) and end < -_FAR // 2 else _clamped(end, size, -1, size - 1)
    )
    return ex.maximum(0, ex.ceil_div(first - last, -step))


def _clamped(v: Dim, size: Dim, low: Dim, high: Dim) -> Dim:
    """A bound of a slice as a position from `low` to `high`."""
    if not isinstance(v, Expr):
        if v >= _FAR:
            return high
        return ex.maximum(low, v + size) if v < 0 else ex.minimum(v, high)
    if ex.least(v) >= 0:
        return ex.minimum(v, high)
    if ex.least(-1 * v - 1) >= 0:
        return ex.maximum(low, v + size)
    turned = ex.where(ex.at_least(v, 0), v, v + size)
    return ex.minimum(ex.maximum(turned, low), high)


def bounds(at: Open) -> list[tuple[int, Dim, Dim, int]]:
    """Axis, start, end and step of each axis that a Slice cuts.

    Raises:
        LookupError: they are not known one by one, or a step depends on a size.
    """
    starts, ends = at.ints(1, "starts"), at.ints(2, "ends")
    if starts is None or ends is None:
        raise LookupError("no bounds")
    axes = at.axes(3, len(starts), len(at.shape()))
    steps = at.fixed(4) or [1] * len(starts)
    return list(zip(axes, starts, ends, steps, strict=True))


@shapes("Slice")
def _slice(at: Open) -> Sequence[Dims | None]:
    found = list(at.shape())
    for axis, start, end, step in bounds(at):
        found[axis] = extent(found[axis], start, end, step)
    return [tuple(found)]


@shapes("Concat")
def _concat(at: Open) -> Sequence[Dims | None]:
    parts = [at.shape(k) for k in range(len(at.node.inputs))]
    axis = int(at.attr("axis", 0)) % len(parts[0])
    found = list(parts[0])
    for k in range(len(found)):
        fixed = [p[k] for p in parts if not isinstance(p[k], Expr)]
        found[k] = fixed[0] if fixed else found[k]
    found[axis] = 0
    for p in parts:
        found[axis] = found[axis] + p[axis]
    return [tuple(found)]


def broadcast(*operands: Dims) -> Dims:
    """The common shape; where two open sizes differ, that of whatever they are together."""
    rank = max(map(len, operands))
    found: list[Dim] = []
    for k in range(-rank, 0):
        dims = list(dict.fromkeys(o[k] for o in operands if len(o) >= -k))
        dims = [d for d in dims if d != 1] or [1]
        if len(dims) > 1:
            dims.sort(key=lambda d: d.name if isinstance(d, Expr) else str(d))
            found.append(ex.opaque("broadcast", "", dims, natural=True))
        else:
            found.append(dims[0])
    return tuple(found)


def size_that_runs(atom: Atom) -> Dim | None:
    """The one size that a broadcast can have wherever it runs, None if there may be others.

    A size and the smaller of it and another: equal, or the smaller is 1, or nothing runs.

    >>> s = ex.symbol("s")
    >>> (atom,) = broadcast((s,), (ex.minimum(s, 32),))[0].atoms
    >>> size_that_runs(atom)
    s
    """
    if atom.function != "broadcast":
        return None
    for d in atom.args:
        rest = [a for a in atom.args if a is not d]
        if all(isinstance(a, Expr) and _is_part(d, a) for a in rest):
            return d if isinstance(d, Expr) else None
    return None


def _is_part(size: Dim, of: Expr) -> bool:
    """Whether an expression is the smallest of some that a size is among."""
    atom = next(iter(of.atoms))
    return atom.function == "min" and of == ex.of_atom(atom) and size in atom.args


@shapes("Expand")
def _expand(at: Open) -> Sequence[Dims | None]:
    wanted = at.ints(1)
    if wanted is None:
        raise LookupError("no shape")
    return [broadcast(at.shape(), tuple(wanted))]


def same_shape(at: Open) -> Sequence[Dims | None]:
    """Of operators that take their operands position by position."""
    given = [at.shape(k) for k in range(len(at.node.inputs)) if at.has(k)]
    return [broadcast(*given)] * len(at.node.outputs)


@shapes("Tile")
def _tile(at: Open) -> Sequence[Dims | None]:
    times = at.ints(1)
    if times is None or len(times) != len(at.shape()):
        raise LookupError("no repeats")
    return [tuple(d * t for d, t in zip(at.shape(), times, strict=True))]


@shapes("Pad")
def _pad(at: Open) -> Sequence[Dims | None]:
    pads, found = at.ints(1, "pads"), list(at.shape())
    if pads is None:
        pads = at.ints(1, "paddings")
    if pads is None:
        raise LookupError("no pads")
    axes = at.axes(3, len(pads) // 2, len(found)) if at.has(3) else range(len(pads) // 2)
    for k, a in enumerate(axes):
        found[a] = found[a] + pads[k] + pads[k + len(pads) // 2]
    return [tuple(found)]


@shapes("Split")
def _split(at: Open) -> Sequence[Dims | None]:
    dims, count = list(at.shape()), len(at.node.outputs)
    axis, parts = int(at.attr("axis", 0)) % len(dims), at.ints(1, "split")
    if parts is None:
        each = ex.ceil_div(dims[axis], count)
        parts = [each] * (count - 1) + [dims[axis] - (count - 1) * each]
    return [(*dims[:axis], p, *dims[axis + 1 :]) for p in parts]


@shapes("DepthToSpace")
def _depth_to_space(at: Open) -> Sequence[Dims | None]:
    n, c, *spatial = at.shape()
    b = int(at.attr("blocksize", 1))
    return [(n, ex.floor_div(c, b ** len(spatial)), *(d * b for d in spatial))]


@shapes("SpaceToDepth")
def _space_to_depth(at: Open) -> Sequence[Dims | None]:
    n, c, *spatial = at.shape()
    b = int(at.attr("blocksize", 1))
    return [(n, c * b ** len(spatial), *(ex.floor_div(d, b) for d in spatial))]


@shapes("ConstantOfShape")
def _made(at: Open) -> Sequence[Dims | None]:
    return [tuple(at.ints(0) or ())]


@shapes("Range com.microsoft.Range")
def _range(at: Open) -> Sequence[Dims | None]:
    start, limit, step = (at.array(k).reshape(-1)[0] for k in range(3))
    if isinstance(step, Expr) or any(np.asarray(v).dtype.kind not in "iuO" for v in (start, limit)):
        raise LookupError("steps that depend on a size, or no integers")
    if step > 0:
        return [(ex.maximum(0, ex.ceil_div(limit - start, int(step))),)]
    return [(ex.maximum(0, ex.ceil_div(start - limit, -int(step))),)]


@shapes("OneHot")
def _one_hot(at: Open) -> Sequence[Dims | None]:
    dims, depth = list(at.shape()), at.array(1).reshape(-1)[0]
    if not isinstance(depth, Expr):
        depth = int(depth)
    axis = int(at.attr("axis", -1))
    dims.insert(axis % (len(dims) + 1), depth)
    return [tuple(dims)]


@shapes("TopK")
def _top_k(at: Open) -> Sequence[Dims | None]:
    dims, k = list(at.shape()), (at.ints(1, "k") or [0])[0]
    dims[int(at.attr("axis", -1))] = k
    return [tuple(dims)] * len(at.node.outputs)


__all__ = ["bounds", "broadcast", "extent", "same_shape", "size_that_runs"]
