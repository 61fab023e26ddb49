"""Ties between axes: which pieces of two tensors' axes hold the same channels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import NamedTuple

import numpy as np

from tools.coverage.onnx_reading import Array

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Axis = tuple[str, int]

# Reshapes of more elements are not followed piece by piece.
LARGEST = 2**22


class Block(NamedTuple):
    """A Reshape of some axes: their lengths before and after, and which ones are tied."""

    before: Shape
    at: int
    after: Shape
    to: int


class Tie(NamedTuple):
    """`length` elements from `a_start` on axis a are those from `b_start` on b.

    With a block the one axis goes into the other by a Reshape; with neither length nor block it
    does so in a way that is not followed.
    """

    a: Axis
    b: Axis
    a_start: int = 0
    b_start: int = 0
    length: int = -1
    block: Block | None = None

    def turned(self) -> Tie:
        """The same tie from b to a."""
        k = self.block
        block = Block(k.after, k.to, k.before, k.at) if k else None
        return Tie(self.b, self.a, self.b_start, self.a_start, self.length, block)

    def follow(self, labels: Array, length: int) -> Array | None:
        """Labels on axis b (of this length) for those on axis a; None if b is not touched.

        A label says which channel of the walk's first axis an index holds, -1 none of them.
        """
        if self.length >= 0:
            there = np.full(length, -1, np.int32)
            piece = labels[self.a_start : self.a_start + self.length]
            there[self.b_start : self.b_start + self.length] = piece
            return there if there.max(initial=-1) >= 0 else None
        whole = np.arange(length, dtype=np.int32)
        k = self.block
        if not length or not len(labels):
            return None
        if k is None or len(labels) == 1 or prod(k.before) > LARGEST:
            return whole
        line = labels.reshape([-1 if axis == k.at else 1 for axis in range(len(k.before))])
        moved = np.broadcast_to(line, k.before).reshape(k.after)
        rows = np.moveaxis(moved, k.to, 0).reshape(length, -1)
        if (rows == rows[0]).all():
            return None
        return rows[:, 0].copy() if (rows == rows[:, :1]).all() else whole


def ready(shapes: Shapes, *names: str) -> bool:
    """Whether all these tensors have known shapes."""
    return all(name in shapes for name in names)


def aligned(a: str, b: str, shapes: Shapes) -> Iterator[Tie]:
    """Axes that agree when shapes are written flush right, as in broadcasting."""
    for k in range(1, min(len(shapes[a]), len(shapes[b])) + 1):
        i, j = len(shapes[a]) - k, len(shapes[b]) - k
        if shapes[a][i] == shapes[b][j]:
            yield Tie((a, i), (b, j), 0, 0, shapes[a][i])


def same(a: str, b: str, pairs: list[tuple[int, int]], shapes: Shapes) -> Iterator[Tie]:
    """Given axis pairs, exact where their lengths agree, else as wholes."""
    for i, j in pairs:
        i, j = i % len(shapes[a]), j % len(shapes[b])
        exact = shapes[a][i] == shapes[b][j]
        yield Tie((a, i), (b, j), 0, 0, shapes[a][i] if exact else -1)


def blocks(a: str, b: str, shapes: Shapes) -> Iterator[Tie]:
    """Reshape: the smallest runs of axes with equal products; all axes within a run are tied."""
    x, y = list(enumerate(shapes[a])), list(enumerate(shapes[b]))
    while x and y:
        left, right = [x.pop(0)], [y.pop(0)]
        while (p := prod(d for _, d in left)) != (q := prod(d for _, d in right)):
            side, rest = (left, x) if p < q else (right, y)
            if not rest:
                return
            side.append(rest.pop(0))
        if not x or not y:
            # What is left on one side has length 1.
            left, right = left + x, right + y
            x, y = [], []
        if len(left) == len(right) == 1:
            yield Tie((a, left[0][0]), (b, right[0][0]), 0, 0, left[0][1])
            continue
        before, after = tuple(d for _, d in left), tuple(d for _, d in right)
        for m, (i, _) in enumerate(left):
            for n, (j, _) in enumerate(right):
                yield Tie((a, i), (b, j), block=Block(before, m, after, n))


def pieces(whole: str, parts: list[str], axis: int, shapes: Shapes) -> Iterator[Tie]:
    """Concat and Split: parts lie one after the other on one axis of the whole."""
    rank, start = len(shapes[whole]), 0
    axis %= rank
    for part in parts:
        if part not in shapes or len(shapes[part]) != rank:
            return
        length = shapes[part][axis]
        yield Tie((whole, axis), (part, axis), start, 0, length)
        yield from same(whole, part, [(k, k) for k in range(rank) if k != axis], shapes)
        start += length
