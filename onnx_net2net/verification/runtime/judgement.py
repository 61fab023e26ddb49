"""Do outputs differ by more than the teacher's own noise, and would nudging explain it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np

from onnx_net2net.typing import Array
from onnx_net2net.verification.runtime.inputs import Feed
from onnx_net2net.verification.runtime.noise import (
    FLOOR_MULTIPLE,
    distances,
    is_float,
    magnitude,
    ulp,
)
from onnx_net2net.verification.verdict import Status

Nudging = Callable[[Feed], Sequence[Sequence[Array]]]
"""What the teacher, nudged in several ways, puts out."""


_LOUD = 1e-3  # of the largest output: worth a word
_NOTHING = np.zeros(0, np.void)  # in place of an output that is not there


@dataclass(frozen=True)
class Run:
    """One set of inputs and what both models make of it."""

    feed: Feed
    before: list[Array]
    after: list[Array]


@dataclass
class Seen:
    """What the runs showed.

    Attributes:
        floors: output index -> the teacher's noise, relative to the output's largest magnitude.
        measured: the floors come from a nudged teacher, and not only from the type.
        wrong: the first feed on which the models differ.
        notes: what else happened, as where the runtime died.
    """

    runs: list[Run] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    floors: dict[int, float] = field(default_factory=dict)
    measured: bool = False
    wrong: Feed | None = None
    notes: list[str] = field(default_factory=list)

    def threshold(self, k: int, before: Array) -> float:
        """How far output `k` may move before it is a difference."""
        return FLOOR_MULTIPLE * self.floors.get(k, ulp(before.dtype)) * magnitude(before)


@dataclass
class _Deviation:
    """One output of one run that is not bit for bit the same."""

    feed: Feed
    k: int
    before: Array
    after: Array
    multiple: float  # of the noise floor
    relative: float  # to the output's largest magnitude
    place: str

    @property
    def close(self) -> bool:
        """Whether the two are numbers of one type and shape."""
        a, b = self.before, self.after
        return is_float(a) and a.shape == b.shape and a.dtype == b.dtype

    @property
    def text(self) -> str:
        where = f"{self.place} on {self.feed.label}"
        if not np.isfinite(self.relative):
            return f"{where} is another"
        share = f"{self.relative:.2g} of its largest value"
        return f"{where}: {self.multiple:.3g} x the noise floor ({share})"


def judged(
    seen: Seen, nudging: Nudging, proved: Callable[[Feed], bool], cap: float | None
) -> tuple[Status, str, dict[str, Any]]:
    """What the runs say, why, and the figures.

    Args:
        nudging: asked only about runs with a deviation beyond the noise floor.
        proved: whether the function is the same in exact arithmetic at the sizes of some inputs:
            then a deviation which nudging explains is none, whatever its size; else it must also
            stay under the cap.
        cap: of deviations, relative to an output's largest magnitude; None: that of its type.
    """
    doubt, multiple, relative = "", 0.0, 0.0
    for found in _deviations(seen):
        multiple, relative = max(multiple, found.multiple), max(relative, found.relative)
        if found.multiple <= FLOOR_MULTIPLE:
            over = found.relative > capped(found.before, cap) and not proved(found.feed)
            doubt = doubt or (f"{found.text}: too much for runs alone to decide" if over else "")
        elif not seen.measured and found.close:
            doubt = doubt or f"{found.text}, but how large the floor is was not measured"
        elif not _explained(seen, found, nudging(found.feed)):
            seen.wrong = found.feed
            return Status.FAILED, found.text, _figures(seen, found.multiple, found.relative)
        elif not proved(found.feed):
            doubt = doubt or f"{found.text}; nudging the teacher's weights does the same"
    figures = _figures(seen, multiple, relative)
    if doubt:
        return Status.UNDECIDED, doubt, figures
    detail = f"{len(seen.runs)} runs; at worst {multiple:.2g} x the teacher's noise floor"
    detail += f" ({relative:.2g} of the largest output)"
    if figures["noise"] > _LOUD:
        detail += f"; one ulp of the teacher's weights moves its outputs by {figures['noise']:.2g}"
    return Status.PASSED, detail, figures


def capped(output: Array, cap: float | None) -> float:
    """How far an output may be off where no proof says that it is the same function."""
    if cap is not None:
        return cap
    return 1e-3 if is_float(output) and ulp(output.dtype) < 2.0**-12 else 1e-1


def _deviations(seen: Seen) -> Iterator[_Deviation]:
    for run in seen.runs:
        for k, (a, b) in enumerate(zip_longest(run.before, run.after, fillvalue=_NOTHING)):
            multiple, relative = _multiple(a, b, seen.floors.get(k, 0.0))
            if multiple:
                place = f"output '{_name(seen, k)}'{_place(a, b)}"
                yield _Deviation(run.feed, k, a, b, multiple, relative, place)


def _multiple(a: Array, b: Array, floor: float) -> tuple[float, float]:
    """(multiples of the floor, relative deviation) of one output."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return np.inf, np.inf
    if not is_float(a):
        return (0.0, 0.0) if np.array_equal(a, b) else (np.inf, np.inf)
    moved, scale = float(distances(a, b).max(initial=0.0)), magnitude(a)
    if moved == 0.0:
        return 0.0, 0.0
    relative = moved / scale if scale else np.inf
    return (relative / floor if floor else np.inf), relative


def _sound(output: Array) -> Array:
    return np.isfinite(output.astype(np.float64))


def _explained(seen: Seen, found: _Deviation, nudged: Sequence[Sequence[Array]]) -> bool:
    """Whether every element that is off moves likewise when the teacher is nudged."""
    k, a, b = found.k, found.before, found.after
    ghosts = [g[k] for g in nudged if k < len(g)]
    if a.dtype != b.dtype:
        return False
    if a.shape != b.shape:  # how many there are was itself decided by a near tie
        return any(g.shape != a.shape for g in ghosts)
    alike = [g for g in ghosts if g.shape == a.shape]
    if not alike:
        return bool(ghosts)
    if not is_float(a):
        return bool(np.all((a == b) | np.any([g != a for g in alike], axis=0)))
    off = distances(a, b)
    # a nudge that breaks the teacher explains only what is broken likewise
    moved = np.max([np.where(_sound(g) | ~_sound(b), distances(a, g), 0) for g in alike], axis=0)
    return bool(np.all((off <= seen.threshold(k, a)) | (off <= FLOOR_MULTIPLE * moved)))


def _figures(seen: Seen, multiple: float, relative: float) -> dict[str, Any]:
    noise = max(seen.floors.values(), default=0.0)
    types = [ulp(a.dtype) for run in seen.runs[:1] for a in run.before if is_float(a)]
    return {
        "multiple": _finite(multiple),
        "relative": _finite(relative),
        "runs": len(seen.runs),
        "sizes": list(dict.fromkeys(run.feed.sizes for run in seen.runs)),
        "noise": noise,
        "amplification": noise / max(types) if types else 0.0,
    }


def _finite(x: float) -> float | None:
    return x if np.isfinite(x) else None


def _place(a: Array, b: Array) -> str:
    """Where an output differs most: its position, channel included."""
    if a.shape != b.shape:
        return f" ({'x'.join(map(str, a.shape))}, not {'x'.join(map(str, b.shape))})"
    if not a.ndim or not a.size or (a.dtype.kind not in "iub" and not is_float(a)):
        return ""
    at = np.unravel_index(int(np.argmax(distances(a, b))), a.shape)
    return f" at {[int(i) for i in at]}"


def _name(seen: Seen, k: int) -> str:
    return seen.names[k] if k < len(seen.names) else str(k)
