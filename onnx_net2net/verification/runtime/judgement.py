"""Do outputs differ by more than the teacher's own noise? And is it perhaps a near tie?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnx_net2net.typing import Array
from onnx_net2net.verification.runtime.inputs import Feed
from onnx_net2net.verification.runtime.noise import (
    FLOOR_MULTIPLE,
    deviation,
    is_float,
    magnitude,
)
from onnx_net2net.verification.verdict import Status

# elements that fall on the other side of a jump are few; a wrong weight moves most of them
_FEW = 0.05


@dataclass
class Seen:
    """What the runs showed; `wrong` is the first feed on which the models differ."""

    feeds: list[tuple[Feed, list[Array]]] = field(default_factory=list)
    floors: dict[int, float] = field(default_factory=dict)
    scales: dict[int, float] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    wrong: Feed | None = None

    def threshold(self, k: int) -> float:
        """How far output `k` may move before it is a difference."""
        return FLOOR_MULTIPLE * self.floors.get(k, 0.0) * self.scales.get(k, 0.0)


def judged(
    rows: list[tuple[Feed, list[Array], list[Array]]], seen: Seen, jumping: set[int], sure: bool
) -> tuple[Status, str, dict[str, Any]]:
    worst, absolute, doubts = 0.0, 0.0, []
    for feed, before, after in rows:
        for k, (a, b) in enumerate(zip(before, after, strict=False)):
            multiple, moved = _multiple(a, b, seen.floors.get(k, 0.0))
            worst, absolute = max(worst, multiple), max(absolute, moved)
            if multiple <= FLOOR_MULTIPLE:
                continue
            where = f"output '{_name(seen, k)}'{_place(a, b)} on {feed.label}"
            text = f"{where}: {multiple:.3g} x the noise floor ({moved:.2g} of its largest value)"
            near_tie = k in jumping and _share(a, b, seen.floors.get(k, 0.0)) < _FEW
            if sure and not near_tie:
                seen.wrong = feed
                figures = {"multiple": _finite(multiple), "relative": _finite(moved)}
                return Status.FAILED, text, figures | _noise(seen, rows)
            doubts.append(f"{text}; it may be a near tie" if near_tie else text)
        if len(before) != len(after):
            seen.wrong = feed
            return Status.FAILED, f"{len(after)} outputs, not {len(before)}", {}
    figures = {"multiple": _finite(worst), "relative": _finite(absolute)} | _noise(seen, rows)
    if doubts:
        return Status.UNDECIDED, doubts[0], figures
    detail = f"{len(rows)} runs; at worst {worst:.2g} x the teacher's noise floor"
    return Status.PASSED, f"{detail} ({absolute:.2g} of the largest output)", figures


def _noise(seen: Seen, rows: Sequence[Any]) -> dict[str, Any]:
    return {"runs": len(rows), "noise": max(seen.floors.values(), default=0.0)}


def _finite(x: float) -> float | None:
    return x if np.isfinite(x) else None


def _multiple(a: Array, b: Array, floor: float) -> tuple[float, float]:
    """(multiples of the floor, relative deviation) of one output."""
    if not is_float(a):
        same = a.shape == b.shape and a.dtype == b.dtype and bool(np.array_equal(a, b))
        return (0.0, 0.0) if same else (np.inf, np.inf)
    if a.dtype != b.dtype:
        return np.inf, np.inf
    moved, scale = deviation(a, b), magnitude(a)
    if moved == 0.0:
        return 0.0, 0.0
    relative = moved / scale if scale else np.inf
    return (relative / floor if floor else np.inf), relative


def _share(a: Array, b: Array, floor: float) -> float:
    """The share of an output's elements that differ by more than noise."""
    if a.shape != b.shape:
        return 0.0  # how many there are was itself decided at a jump
    if not is_float(a):
        return float(np.mean(a != b)) if a.size else 0.0
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        off = ~(np.abs(x - y) <= FLOOR_MULTIPLE * floor * magnitude(a)) & ~(x == y)
    return float(np.mean(off & ~(np.isnan(x) & np.isnan(y))))


def _place(a: Array, b: Array) -> str:
    """Where an output differs most: its position, channel included."""
    if a.shape != b.shape:
        return f" ({'x'.join(map(str, a.shape))}, not {'x'.join(map(str, b.shape))})"
    if not a.ndim or not a.size or a.dtype.kind not in "fiub":
        return ""
    off = np.abs(a.astype(np.float64) - b.astype(np.float64))
    at = np.unravel_index(int(np.argmax(np.where(np.isnan(off), np.inf, off))), a.shape)
    return f" at {[int(i) for i in at]}"


def _name(seen: Seen, k: int) -> str:
    return seen.names[k] if k < len(seen.names) else str(k)
