"""Where copies land on each axis.

By default new units are appended at the end of their segment, as in the paper; a segment
is a set of classes that stand together on every axis of the space (so that a Concat or a
Split cuts between segments). `inline` puts copies right after their source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from onnx_net2net.coupling.segments import _pieces, _Runs, segments
from onnx_net2net.coupling.space import Axis, Space
from onnx_net2net.growth.widen.units import Units
from onnx_net2net.typing import Array


@dataclass(frozen=True)
class Joint:
    """Student position -> teacher position over several dimensions together (flat)."""

    dims: tuple[int, ...]
    source: Array


@dataclass(frozen=True)
class Layout:
    """Per grown axis: `source` (student -> teacher position) and `unit` (-1: an original).

    Three channels and a copy of the second: source [0 1 2 1], unit [-1 -1 -1 0].
    `joint`: per tensor, where channels move over several axes together; see `shuffled_layout`.
    `grouped`: a weight's input axis that each group of its rows reads in its own order:
    source and unit, [groups, positions].
    """

    source: Mapping[Axis, Array]
    unit: Mapping[Axis, Array]
    joint: Mapping[str, Joint] | None = None
    grouped: Mapping[Axis, tuple[Array, Array]] = field(default_factory=dict)


def _axis(labels: Array, units: Units, segment: Array, inline: bool) -> tuple[Array, Array]:
    runs = _Runs.of(labels)
    source: list[Array] = []
    unit: list[Array] = []
    if inline:
        pieces = [(k, k + 1) for k in range(len(runs.label))]
    else:
        pieces = _pieces(runs.label, segment)
    run_of = np.full(len(segment) + 1, -1)
    for a, b in pieces:
        here = np.arange(runs.start[a], runs.start[b - 1] + runs.length[b - 1])
        source.append(here)
        unit.append(np.full(len(here), -1))
        classes = runs.label[a:b]
        if classes[0] < 0:
            continue
        run_of[classes] = np.arange(a, b)
        which = run_of[units.source]
        picked = np.flatnonzero(which >= 0)
        if len(picked):
            r = which[picked]
            lengths = runs.length[r]
            total = int(lengths.sum())
            offset = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            source.append(np.repeat(runs.start[r], lengths) + offset)
            unit.append(np.repeat(picked, lengths))
        run_of[classes] = -1
    return np.concatenate(source), np.concatenate(unit)


def layout(space: Space, units: Units, inline: bool = False) -> Layout:
    """Place the new units on every axis of a space.

    Args:
        units: the new units, classes of `space`.
        inline: copies right after their source instead of at the end of the segment.
    """
    segment = segments(space)
    done: dict[bytes, tuple[Array, Array]] = {}
    source, unit = {}, {}
    for axis, labels in space.labels.items():
        name = labels.tobytes()
        if name not in done:
            done[name] = _axis(labels, units, segment, inline)
        source[axis], unit[axis] = done[name]
    return Layout(source, unit)
