"""Which rows of a student's constants are new, after any number of steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from onnx_net2net.typing import Array


def new_rows(steps: Iterable[Any]) -> dict[str, dict[int, list[int]]]:
    """Constant -> {axis: positions that are new}, in the numbering after the last step.

    Args:
        steps: results of widening and of growing kernels; others add whole constants.
    """
    found: dict[str, dict[int, Array]] = {}
    for step in steps:
        for grown in getattr(step, "grown", ()):
            before = found.get(grown.source, {})
            after = found.setdefault(grown.name, dict(before))
            for axis, source in grown.change.source.items():
                old = before.get(axis, np.zeros(int(source.max(initial=0)) + 1, bool))
                after[axis] = (grown.change.unit[axis] >= 0) | old[source]
        if hasattr(step, "kernel"):
            (name,) = step.parameters
            _ring(found.setdefault(name, {}), *step.kernel)
    return {
        name: {axis: np.flatnonzero(new).tolist() for axis, new in sorted(axes.items())}
        for name, axes in found.items()
    }


def _ring(axes: dict[int, Array], before: tuple[int, ...], after: tuple[int, ...]) -> None:
    """The ring of zeros around a kernel; it begins at axis 2."""
    for axis, (old, new) in enumerate(zip(before, after, strict=True), 2):
        if new == old:
            continue
        ring = np.ones(new, bool)
        start = (new - old) // 2
        ring[start : start + old] = axes.get(axis, np.zeros(old, bool))
        axes[axis] = ring
