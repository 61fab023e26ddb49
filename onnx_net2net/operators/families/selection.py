"""Data movement that picks or pads: Slice, Gather, Pad, as index tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_net2net.errors import Reason
from onnx_net2net.graph.model import Node
from onnx_net2net.operators.families.movement import known, same
from onnx_net2net.operators.intervals import kept, padded
from onnx_net2net.operators.spec import MADE, Block, Grown, Operands, RowError, Site, Slot, rule
from onnx_net2net.typing import Array

_INT_MAX = 2**31 - 1


def _bounds(site: Site) -> list[tuple[int, int, int, int]]:
    """(axis, start, end, step) of a Slice as given, for each axis that it cuts."""
    starts, ends = site.ints(1, "starts"), site.ints(2, "ends")
    if starts is None or ends is None:
        raise RowError("a Slice without bounds")
    rank = len(site.dims(0))
    axes = site.ints(3, "axes") or list(range(len(starts)))
    steps = site.ints(4) or [1] * len(starts)
    return [(a % rank, s, e, t) for a, s, e, t in zip(axes, starts, ends, steps, strict=True)]


def _slice(site: Site) -> list[Block]:
    before = site.dims(0)
    cut = {axis: slice(s, _far(e, t), t) for axis, s, e, t in _bounds(site)}
    return [
        Block(((0, k),), ((0, k),), np.arange(d)[cut.get(k, slice(None))])
        for k, d in enumerate(before)
        if d is not None
    ]


def _far(end: int, step: int) -> int | None:
    """A backward slice to the front has an end below -size, which Python reads otherwise."""
    return None if step < 0 and end < -_INT_MAX // 2 else end


def _moved(g: Grown, which: int) -> list[int] | None:
    """A Slice's starts (0) or ends (1) on the student's positions; kept where still right."""
    result = []
    for axis, start, end, step in _bounds(g.teacher):
        given = (start, end)[which]
        source = g.ins.get((0, axis))
        size = known(g.teacher.dims(0)[axis])
        kept = np.arange(size)[slice(start, _far(end, step), step)]
        if source is None or not len(kept):
            result.append(given)
            continue
        at = np.flatnonzero(np.isin(source, kept))
        first, last = (at[0], at[-1]) if step > 0 else (at[-1], at[0])
        if which == 0:
            now = slice(start, None, step).indices(len(source))[0]
            new, right = int(first), now == first
        else:
            now = slice(None, _far(end, step), step).indices(len(source))[1]
            new = int(last) + (1 if step > 0 else -1)
            right = 0 < (now - last) * np.sign(step) <= abs(step)
        result.append(given if right else new - (len(source) if given < 0 <= new else 0))
    return result


rule(
    "Slice",
    movement=_slice,
    slots=(
        Slot(lambda g: _moved(g, 0), input=1, attribute="starts", since=10),
        Slot(lambda g: _moved(g, 1), input=2, attribute="ends", since=10),
    ),
    fold=lambda node, args: [_sliced(node, args)],
    zero=(),
    blends=True,
    range=kept,
)


def _sliced(node: Node, args: list[Any]) -> Any:
    starts = np.atleast_1d(args[1] if len(args) > 1 else node.attr("starts"))
    ends = np.atleast_1d(args[2] if len(args) > 2 else node.attr("ends"))
    axes = args[3] if len(args) > 3 and args[3] is not None else node.attr("axes")
    axes = range(len(starts)) if axes is None else np.atleast_1d(axes)
    steps = args[4] if len(args) > 4 and args[4] is not None else np.ones(len(starts), int)
    cut = [slice(None)] * args[0].ndim
    for a, s, e, t in zip(axes, starts, ends, np.atleast_1d(steps), strict=True):
        cut[int(a)] = slice(int(s), _far(int(e), int(t)), int(t))
    return args[0][tuple(cut)]


def _gather_axis(site: Site) -> int:
    return int(site.attr("axis", 0)) % len(site.dims(0))


def _gather(site: Site) -> list[Block]:
    before, picked = site.dims(0), site.values[1]
    if picked is None:
        raise RowError("indices computed at run time", Reason.RUNTIME)
    axis, extra = _gather_axis(site), picked.ndim - 1
    n = known(before[axis])
    blocks = same(
        {d + (extra if d > axis else 0): d for d in range(len(before)) if d != axis}, before
    )
    table = np.where(picked < 0, picked + n, picked)
    outs = tuple((0, axis + k) for k in range(picked.ndim))
    return [*blocks, Block(((0, axis),), outs, table)]


def _embedding(site: Site) -> str:
    """Indices computed at run time: the axis they pick from is worked across."""
    axis, rank = _gather_axis(site), len(site.dims(0))
    data = [f"x{k}" if k == axis else f"a{k}" for k in range(rank)]
    index = [f"i{k}" for k in range(len(site.dims(1)))]
    out = data[:axis] + index + data[axis + 1 :]
    return f"{' '.join(data)}, {' '.join(index)} -> {' '.join(out)}"


def _picked(g: Grown) -> list[int] | None:
    """Constant indices in the student: each copy of an output takes its own copy of the input."""
    indices = g.teacher.values[1]
    axis = _gather_axis(g.teacher)
    source = g.ins.get((0, axis))
    grown = [g.outs.get((0, axis + k)) for k in range(indices.ndim if indices is not None else 0)]
    if indices is None or (source is None and all(s is None for s in grown)):
        return None
    n = known(g.teacher.dims(0)[axis])
    wanted: Array = np.where(indices < 0, indices + n, indices)
    for k, s in enumerate(grown):
        wanted = wanted if s is None else np.take(wanted, s, axis=k)
    where: dict[int, list[int]] = {}
    for at, of in enumerate(range(n) if source is None else source):
        where.setdefault(int(of), []).append(at)
    used: dict[int, int] = {}
    result = []
    for v in wanted.reshape(-1).tolist():
        result.append(where[v][used.get(v, 0) % len(where[v])])
        used[v] = used.get(v, 0) + 1
    if (indices < 0).all() and source is not None and indices.size == 1:
        return [result[0] - len(source)]
    return result


rule(
    "Gather",
    movement=_gather,
    notation=_embedding,
    roles={"x": "across"},
    slots=(Slot(_picked, input=1),),
    fold=lambda node, args: [np.take(args[0], args[1], axis=node.attr("axis", 0))],
    zero=(),
    blends=True,
    range=kept,
)


def _amounts(site: Site) -> dict[int, tuple[int, int]]:
    pads = site.ints(1, "pads") or site.ints(1, "paddings")
    rank = len(site.dims(0))
    axes = site.ints(3) or list(range(rank))
    if pads is None:
        return {}
    return {a % rank: (pads[k], pads[k + len(axes)]) for k, a in enumerate(axes)}


_PAD_MODES = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _pad(site: Site) -> list[Block]:
    amounts, mode = _amounts(site), site.attr("mode", "constant")
    blocks = []
    for k, d in enumerate(site.dims(0)):
        low, high = amounts.get(k, (0, 0))
        if d is None:
            continue
        table = np.arange(max(-low, 0), d - max(-high, 0))
        grow = (max(low, 0), max(high, 0))
        if mode in _PAD_MODES:
            table = np.pad(table, grow, mode=_PAD_MODES[mode])  # type: ignore[call-overload]
        else:
            table = np.pad(table, grow, constant_values=MADE)
        blocks.append(Block(((0, k),), ((0, k),), table))
    return blocks


def _padded(g: Grown) -> list[int] | None:
    pads = g.teacher.ints(1, "pads")
    amounts = _amounts(g.teacher)
    if pads is None:
        return None
    result, half = list(pads), len(pads) // 2
    for k, axis in enumerate(amounts):
        out, size = g.outs.get((0, axis)), g.teacher.out_dims(0)[axis]
        low, high = amounts[axis]
        if out is None or size is None:
            continue
        if low > 0:
            result[k] = int(np.count_nonzero(out < low))
        if high > 0:
            result[k + half] = int(np.count_nonzero(out >= size - high))
    return result


def _pad_zero(site: Site) -> Operands | None:
    value = site.values[2] if site.has(2) else site.attr("value", 0.0)
    plain = site.attr("mode", "constant") != "constant"
    return () if plain or (value is not None and not np.any(value)) else None


for _name, _like in (("Pad", ""), ("com.microsoft.Pad", "Pad")):
    rule(
        _name,
        movement=_pad,
        slots=(Slot(_padded, input=1, attribute="pads", since=11),),
        zero=_pad_zero,
        like=_like,
        borders=True,
        blends=True,
        range=padded,
    )
