"""Data movement: no rules, only where each output element comes from, as index tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnx_net2net.errors import Reason
from onnx_net2net.graph.model import Node
from onnx_net2net.operators.intervals import any_of, kept
from onnx_net2net.operators.spec import (
    ALL,
    ELSEWHERE,
    MADE,
    Block,
    Grown,
    RowError,
    Site,
    Slot,
    rule,
)

_LARGEST_TABLE = 1 << 22
_SAME: dict[str, Any] = {"linear": True, "zero": (), "blends": True, "range": kept}
"""What all have in common whose result holds the numbers of input 0, each at least once."""


def known(d: int | None) -> int:
    """A dimension; raises RowError where only the run tells it."""
    if d is None:
        raise RowError("a dimension is known only at run time", Reason.RUNTIME)
    return d


def same(pairs: Mapping[int, int], before: Sequence[int | None]) -> list[Block]:
    """Blocks for axes that keep their positions: output dimension -> input dimension."""
    sizes = {o: before[i] or 0 for o, i in pairs.items()}
    return [Block(((0, i),), ((0, o),), np.arange(sizes[o])) for o, i in pairs.items() if sizes[o]]


def _transpose(site: Site) -> list[Block]:
    before = site.dims(0)
    perm = site.attr("perm", list(range(len(before)))[::-1])
    return same(dict(enumerate(perm)), before)


rule(
    "Transpose",
    movement=_transpose,
    fold=lambda node, args: [np.transpose(args[0], node.attr("perm"))],
    **_SAME,
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
        axes = [k for k, d in enumerate(many) if d == 1]
    gone = {a % len(many) for a in axes if many}
    kept = [k for k in range(len(many)) if k not in gone]
    pairs = dict(zip(range(len(few)), kept, strict=False))
    if few is before:
        pairs = {o: i for i, o in pairs.items()}
    return same(pairs, before)


def _squeeze(node: Node, args: list[Any]) -> list[Any]:
    return [np.squeeze(args[0], _axes(node, args))]


def _unsqueeze(node: Node, args: list[Any]) -> list[Any]:
    return [np.expand_dims(args[0], _axes(node, args))]


rule("Squeeze", movement=_squeezed, fold=_squeeze, **_SAME)
rule("Unsqueeze", movement=_squeezed, fold=_unsqueeze, **_SAME)


def _cut(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Smallest groups of consecutive dimensions with equal products."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        a, b = before[i], after[j]
        if a != b and min(a, b) == 1:  # an axis of one position belongs to no product
            i, j = i + (a == 1), j + (b == 1)
            continue
        ins, outs = [i], [j]
        while a != b:
            if a < b and ins[-1] + 1 < len(before):
                ins.append(ins[-1] + 1)
                a *= before[ins[-1]]
            elif b < a and outs[-1] + 1 < len(after):
                outs.append(outs[-1] + 1)
                b *= after[outs[-1]]
            else:
                raise RowError(
                    f"{list(before)} does not reshape into {list(after)}", Reason.UNKNOWN_SHAPE
                )
        i, j = ins[-1] + 1, outs[-1] + 1
        groups.append((ins, outs))
    return groups


def _reshape(site: Site) -> list[Block]:
    before = [known(d) for d in site.dims(0)]
    after = [known(d) for d in site.out_dims(0)]
    blocks = []
    for ins, outs in _cut(before, after):
        count = math.prod(before[k] for k in ins)
        if count > _LARGEST_TABLE:
            raise RowError(f"a reshape of {count} positions")
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
    return given and [v if v in (0, -1) else known(g.out_size(0, k)) for k, v in enumerate(given)]


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
    **_SAME,
)
rule("Flatten", movement=_reshape, fold=_flattened, **_SAME)


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
    return [v if v == 1 else known(g.out_size(0, k + lead)) for k, v in enumerate(given)]


rule(
    "Expand",
    movement=_expand,
    slots=(Slot(_expanded, input=1),),
    fold=lambda node, args: [
        np.broadcast_to(args[0], np.broadcast_shapes(args[0].shape, tuple(map(int, args[1]))))
    ],
    **_SAME,
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
        known(g.out_size(0, k)) if before[k] == 1 and v > 1 else v for k, v in enumerate(given)
    ]


rule(
    "Tile",
    movement=_tile,
    slots=(Slot(_repeats, input=1),),
    fold=lambda node, args: [np.tile(args[0], args[1])],
    **_SAME,
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
    lengths = [known(site.dims(k)[axis]) for k in operands]
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
    moved=ALL,
    fold=lambda node, args: [np.concatenate([np.atleast_1d(a) for a in args], node.attr("axis"))],
    zero=(),
    blends=True,
    range=any_of,
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
        n = known(site.out_dims(k)[axis])
        blocks.append(Block(((0, axis),), ((k, axis),), np.arange(start, start + n)))
        start += n
    if start != before[axis]:
        raise RowError(f"parts of {start} together, of an axis of {before[axis]}")
    return blocks


def _parts(g: Grown) -> list[int] | None:
    axis = int(g.teacher.attr("axis", 0)) % len(g.teacher.dims(0))
    sizes = [known(g.out_size(k, axis)) for k in range(len(g.teacher.outs))]
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
    blends=True,
    range=kept,
)
