"""Data movement: no rules, only where each output element comes from, as index tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnx_net2net.model import Node
from onnx_net2net.operators.rule import (
    ELSEWHERE,
    MADE,
    Array,
    Block,
    Grown,
    Operands,
    Site,
    Slot,
    rule,
)

_INT_MAX = 2**31 - 1
_LARGEST_TABLE = 1 << 22


def _size(d: int | None) -> int:
    if d is None:
        raise LookupError("a dimension is known only at run time")
    return d


def _same(pairs: Mapping[int, int], before: Sequence[int | None]) -> list[Block]:
    """Blocks for axes that keep their positions: output dimension -> input dimension."""
    sizes = {o: before[i] or 0 for o, i in pairs.items()}
    return [Block(((0, i),), ((0, o),), np.arange(sizes[o])) for o, i in pairs.items() if sizes[o]]


def _transpose(site: Site) -> list[Block]:
    before = site.dims(0)
    perm = site.attr("perm", list(range(len(before)))[::-1])
    return _same(dict(enumerate(perm)), before)


rule(
    "Transpose",
    movement=_transpose,
    fold=lambda node, args: [np.transpose(args[0], node.attr("perm"))],
    linear=True,
    zero=(),
)


def _axes(node: Node, args: list[Any]) -> Any:
    given = args[1] if len(args) > 1 and args[1] is not None else node.attr("axes")
    return None if given is None else tuple(int(a) for a in np.atleast_1d(given))


def _squeezed(site: Site) -> list[Block]:
    """Squeeze and Unsqueeze: the axes longer than 1 keep their order; so do kept 1s."""
    before, after = site.dims(0), site.out_dims(0)
    few, many = (before, after) if len(before) < len(after) else (after, before)
    axes = site.ints(1, "axes")
    if axes is None:
        gone = {k for k, d in enumerate(many) if d == 1}
    else:
        gone = {a % len(many) for a in axes} if many else set()
    kept = [k for k in range(len(many)) if k not in gone]
    pairs = dict(zip(range(len(few)), kept, strict=False))
    if few is before:
        pairs = {o: i for i, o in pairs.items()}
    return _same(pairs, before)


def _squeeze(node: Node, args: list[Any]) -> list[Any]:
    return [np.squeeze(args[0], _axes(node, args))]


def _unsqueeze(node: Node, args: list[Any]) -> list[Any]:
    return [np.expand_dims(args[0], _axes(node, args))]


rule("Squeeze", movement=_squeezed, fold=_squeeze, linear=True, zero=())
rule("Unsqueeze", movement=_squeezed, fold=_unsqueeze, linear=True, zero=())


def _cut(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Smallest groups of consecutive dimensions with equal products."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        ins, outs, a, b = [i], [j], before[i], after[j]
        i, j = i + 1, j + 1
        if a != b and min(a, b) == 1:  # an axis of one position belongs to no product
            if a == 1:
                j -= 1
            else:
                i -= 1
            continue
        while a != b:
            if a < b and i < len(before):
                a, i = a * before[i], i + 1
                ins.append(i - 1)
            elif b < a and j < len(after):
                b, j = b * after[j], j + 1
                outs.append(j - 1)
            else:
                raise LookupError(f"{list(before)} does not reshape into {list(after)}")
        groups.append((ins, outs))
    return groups


def _reshape(site: Site) -> list[Block]:
    before = [_size(d) for d in site.dims(0)]
    after = [_size(d) for d in site.out_dims(0)]
    blocks = []
    for ins, outs in _cut(before, after):
        count = math.prod(before[k] for k in ins)
        if count > _LARGEST_TABLE:
            raise LookupError(f"a reshape of {count} positions")
        blocks.append(
            Block(
                tuple((0, k) for k in ins),
                tuple((0, k) for k in outs),
                np.arange(count).reshape([after[k] for k in outs]),
                contiguous=True,
            )
        )
    return blocks


def _target(g: Grown) -> list[int] | None:
    """A Reshape's shape: 0 and -1 stay, the rest follows the output."""
    given = g.teacher.ints(1, "shape")
    return given and [v if v in (0, -1) else _size(g.out_size(0, k)) for k, v in enumerate(given)]


def _reshaped(node: Node, args: list[Any]) -> list[Any]:
    shape = args[1] if len(args) > 1 else np.asarray(node.attr("shape"))
    kept = [
        args[0].shape[k] if d == 0 and not node.attr("allowzero", 0) else int(d)
        for k, d in enumerate(shape)
    ]
    return [np.reshape(args[0], kept)]


def _flattened(node: Node, args: list[Any]) -> list[Any]:
    axis = int(node.attr("axis", 1))
    return [np.reshape(args[0], (math.prod(args[0].shape[:axis]), -1))]


rule(
    "Reshape",
    movement=_reshape,
    slots=(Slot(_target, input=1, attribute="shape", since=5),),
    fold=_reshaped,
    linear=True,
    zero=(),
)
rule("Flatten", movement=_reshape, fold=_flattened, linear=True, zero=())


def _expand(site: Site) -> list[Block]:
    before, after = site.dims(0), site.out_dims(0)
    blocks = []
    for o, d in enumerate(after):
        i = o - (len(after) - len(before))
        if d is None or (i >= 0 and before[i] is None):
            continue
        if i >= 0 and before[i] == d:
            blocks.append(Block(((0, i),), ((0, o),), np.arange(d)))
        else:
            blocks.append(Block((), ((0, o),), np.full(d, MADE)))
    return blocks


def _expanded(g: Grown) -> list[int] | None:
    given = g.teacher.ints(1)
    if given is None:
        return None
    lead = len(g.teacher.out_dims(0)) - len(given)
    return [v if v == 1 else _size(g.out_size(0, k + lead)) for k, v in enumerate(given)]


rule(
    "Expand",
    movement=_expand,
    slots=(Slot(_expanded, input=1),),
    fold=lambda node, args: [
        np.broadcast_to(args[0], np.broadcast_shapes(args[0].shape, tuple(map(int, args[1]))))
    ],
    linear=True,
    zero=(),
)


def _tile(site: Site) -> list[Block]:
    blocks = []
    for k, (d, times) in enumerate(zip(site.dims(0), site.ints(1) or (), strict=True)):
        if d == 1 and times > 1:
            blocks.append(Block((), ((0, k),), np.full(times, MADE)))
        elif d is not None:
            blocks.append(Block(((0, k),), ((0, k),), np.tile(np.arange(d), times)))
    return blocks


def _repeats(g: Grown) -> list[int] | None:
    given = g.teacher.ints(1)
    before = g.teacher.dims(0)
    return given and [
        _size(g.out_size(0, k)) if before[k] == 1 and v > 1 else v for k, v in enumerate(given)
    ]


rule(
    "Tile",
    movement=_tile,
    slots=(Slot(_repeats, input=1),),
    fold=lambda node, args: [np.tile(args[0], args[1])],
    linear=True,
    zero=(),
)


def _concat(site: Site) -> list[Block]:
    after = site.out_dims(0)
    axis = int(site.attr("axis", 0)) % len(after)
    operands = range(len(site.shapes))
    blocks = [
        Block(tuple((k, d) for k in operands), ((0, d),), np.arange(size), aligned=True)
        for d, size in enumerate(after)
        if d != axis and size is not None
    ]
    lengths = [_size(site.dims(k)[axis]) for k in operands]
    start = 0
    for k, n in enumerate(lengths):
        table = np.full(sum(lengths), ELSEWHERE)
        table[start : start + n] = np.arange(n)
        blocks.append(Block(((k, axis),), ((0, axis),), table))
        start += n
    return blocks


rule(
    "Concat",
    movement=_concat,
    fold=lambda node, args: [np.concatenate([np.atleast_1d(a) for a in args], node.attr("axis"))],
    zero=(),
)


def _split(site: Site) -> list[Block]:
    before = site.dims(0)
    axis = int(site.attr("axis", 0)) % len(before)
    results = range(len(site.outs))
    blocks = [
        Block(((0, d),), tuple((k, d) for k in results), np.arange(size), aligned=True)
        for d, size in enumerate(before)
        if d != axis and size is not None
    ]
    start = 0
    for k in results:
        n = _size(site.out_dims(k)[axis])
        blocks.append(Block(((0, axis),), ((k, axis),), np.arange(start, start + n)))
        start += n
    if start != before[axis]:
        raise LookupError(f"parts of {start} together, of an axis of {before[axis]}")
    return blocks


def _parts(g: Grown) -> list[int] | None:
    axis = int(g.teacher.attr("axis", 0)) % len(g.teacher.dims(0))
    sizes = [_size(g.out_size(k, axis)) for k in range(len(g.teacher.outs))]
    if g.teacher.ints(1, "split") is None and len(set(sizes)) == 1:
        return None
    return sizes


def _splitted(node: Node, args: list[Any]) -> list[Any]:
    sizes = args[1] if len(args) > 1 and args[1] is not None else node.attr("split")
    axis = int(node.attr("axis", 0))
    if sizes is None:
        each = -(-args[0].shape[axis] // len(node.outputs))
        sizes = [each] * len(node.outputs)
    return np.split(args[0], np.cumsum(sizes)[:-1], axis)


rule(
    "Split",
    movement=_split,
    slots=(Slot(_parts, input=1, attribute="split", since=13, replaces="num_outputs"),),
    fold=_splitted,
    zero=(),
)


def _bounds(site: Site) -> list[tuple[int, int, int, int]]:
    """(axis, start, end, step) of a Slice as given, for each axis that it cuts."""
    starts, ends = site.ints(1, "starts"), site.ints(2, "ends")
    if starts is None or ends is None:
        raise LookupError("a Slice without bounds")
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
        size = _size(g.teacher.dims(0)[axis])
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
        raise LookupError("indices computed at run time")
    axis, extra = _gather_axis(site), picked.ndim - 1
    n = _size(before[axis])
    blocks = _same(
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
    n = _size(g.teacher.dims(0)[axis])
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


rule(
    "Pad",
    movement=_pad,
    slots=(Slot(_padded, input=1, attribute="pads", since=11),),
    zero=_pad_zero,
)
