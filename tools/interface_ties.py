"""Ties between axes: which pieces of two tensors' axes hold the same channels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import NamedTuple

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Axis = tuple[str, int]


class Tie(NamedTuple):
    """`length` elements from `a_start` on axis a are those from `b_start` on b; -1: all of both."""

    a: Axis
    b: Axis
    a_start: int = 0
    b_start: int = 0
    length: int = -1


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
    left, right = x[:0], y[:0]
    while x and y:
        left, right = [x.pop(0)], [y.pop(0)]
        while (p := prod(d for _, d in left)) != (q := prod(d for _, d in right)):
            side, rest = (left, x) if p < q else (right, y)
            if not rest:
                return
            side.append(rest.pop(0))
        exact = len(left) == len(right) == 1
        for i, _ in left:
            for j, _ in right:
                yield Tie((a, i), (b, j), 0, 0, left[0][1] if exact else -1)
    # Axes of length 1 left over on one side belong to the run before them.
    yield from (Tie((a, i), (b, j)) for i, _ in x for j, _ in right)
    yield from (Tie((a, i), (b, j)) for i, _ in left for j, _ in y)


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
