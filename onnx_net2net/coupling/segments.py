"""Maximal runs of an axis on which every label is distinct."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_net2net.typing import Array
from .space import Space


@dataclass(frozen=True)
class _Runs:
    """Maximal runs of equal labels: class (-1: not in the space), start and length."""

    label: Array
    start: Array
    length: Array

    @classmethod
    def of(cls, labels: Array) -> _Runs:
        edges = np.flatnonzero(np.diff(labels)) + 1
        start = np.concatenate([[0], edges])
        return cls(labels[start], start, np.diff(np.concatenate([start, [len(labels)]])))


def _pieces(label: Array, segment: Array) -> list[tuple[int, int]]:
    """Cut runs into stretches of distinct classes of one segment: (first, last + 1)."""
    result, begin = [], 0
    seen: set[int] = set()
    names = label.tolist()
    of = np.where(label >= 0, segment[label], -1).tolist()
    for k, c in enumerate(names):
        if k > begin and (c < 0 or c in seen or of[k] != of[k - 1]):
            result.append((begin, k))
            begin, seen = k, set()
        seen.add(c)
    result.append((begin, len(names)))
    return result


def segments(space: Space) -> Array:
    """The segment of each class: classes that share every stretch of every axis."""
    segment = np.zeros(space.size, np.int64)
    distinct = {v.tobytes(): v for v in space.labels.values()}
    runs = [_Runs.of(v) for v in distinct.values()]
    count = 1
    while True:
        for r in runs:
            known: set[bytes] = set()
            for a, b in _pieces(r.label, segment):
                inside = np.zeros(space.size, np.int64)
                inside[r.label[a:b][r.label[a:b] >= 0]] = 1
                name = inside.tobytes()
                if name in known or not inside.any() or inside.all():
                    continue
                known.add(name)
                segment = np.unique(segment * 2 + inside, return_inverse=True)[1]
        if segment.max(initial=0) + 1 == count:
            return segment
        count = int(segment.max(initial=0)) + 1
