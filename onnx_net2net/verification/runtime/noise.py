"""A model's own noise: what moving its weights by one ulp does to its outputs."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from onnx_net2net.errors import ModelError
from onnx_net2net.typing import Array
from onnx_net2net.verification.runtime.inputs import Feed
from onnx_net2net.verification.runtime.process import DiedError, RunError, Runtime
from onnx_net2net.verification.runtime.sessions import Session
from onnx_net2net.verification.sides import Side, Sides

FLOOR_MULTIPLE = 8.0
"""How many floors a correct student may lie away from its teacher.

Splitting a unit only reorders and regroups sums, which moves an output about as far as
moving the weights by one ulp does; measured correct students reach 3, the mildest real
faults that a run can show start at 10.
"""
_MOST_BYTES = 1 << 29
# the elements that jump are few and jump far, beside those that only shake
_CALM, _FAR, _LEAST = 0.95, 32.0, 64
_ULPS = (1, 1, 1, 1, 2, 2, 4, 4)  # of the draws


def nudged(side: Side, names: Iterable[str], draw: int, ulps: int = 1) -> dict[str, Array]:
    """The named constants with every entry moved by ulps, up or down at random."""
    return {n: _nudged(a, n, draw, ulps) for n, a in _arrays(side, names)}


def shaken(side: Side, names: Iterable[str], draw: int, relative: float) -> dict[str, Array]:
    """The named constants with every entry moved by a share of the largest one of its row."""
    return {n: _shaken(a, n, draw, relative) for n, a in _arrays(side, names)}


def _arrays(side: Side, names: Iterable[str]) -> Iterable[tuple[str, Array]]:
    room = _MOST_BYTES
    for name in names:
        array = side.array(side.model.leaves[name])
        if array is not None and array.size and array.nbytes <= room and not _exact(array):
            room -= array.nbytes
            yield name, array


def _exact(array: Array) -> bool:
    """Whether it is one whole number, as an exponent: beside 2, a power of -1 is no number."""
    return array.size == 1 and bool(array.astype(np.float64) % 1 == 0)


def _signs(shape: tuple[int, ...], name: str, draw: int) -> Array:
    rng = np.random.Generator(np.random.PCG64([draw, zlib.crc32(name.encode())]))
    return rng.integers(0, 2, shape, np.int8).astype(bool)


def _nudged(array: Array, name: str, draw: int, ulps: int) -> Array:
    infinity = np.array(np.inf, array.dtype)
    aims = np.where(_signs(array.shape, name, draw), infinity, -infinity)
    moved = array
    for _ in range(ulps):
        moved = np.nextafter(moved, aims)
    # zero stands for "no connection"; a subnormal there would only cost time
    keep = (array == 0) | ~_finite(array) | ~_finite(moved)
    return np.where(keep, array, moved).astype(array.dtype)


def _shaken(array: Array, name: str, draw: int, relative: float) -> Array:
    wide = array.astype(np.float64)
    size = np.abs(np.where(np.isfinite(wide), wide, 0.0))
    if size.ndim > 1:  # a row may lie along the first axis or along the last
        inner, outer = tuple(range(1, size.ndim)), tuple(range(size.ndim - 1))
        size = np.maximum(size.max(inner, keepdims=True), size.max(outer, keepdims=True))
    moved = wide + relative * np.where(_signs(array.shape, name, draw), size, -size)
    return moved.astype(array.dtype)


def _finite(array: Array) -> Array:
    return np.isfinite(array.astype(np.float64))


class Ghosts:
    """The teacher with the weights that differ (else all; without weights, its inputs) nudged."""

    def __init__(self, sides: Sides, runtime: Runtime, provider: str) -> None:
        self._side = sides.teacher
        self._all = sides.floats(self._side)
        self._changed = sides.changed(self._side) or self._all
        self._runtime, self._provider = runtime, provider
        self._kept: dict[int, Session | None] = {}
        self._known: dict[int, list[list[Array]]] = {}

    def run(self, feed: Feed, draw: int) -> list[list[Array]]:
        """What one of the first draws puts out; nothing where it cannot be made or run."""
        if draw not in self._kept:
            self._kept[draw] = self._made(draw)
        found = self._answer(self._kept[draw], feed, draw)
        return [] if found is None else [found]

    def explain(self, feed: Feed) -> list[list[Array]]:
        """What many draws put out, in half of which every weight and input is nudged."""
        if id(feed) not in self._known:
            self._known[id(feed)] = []
            for draw in range(2 * len(_ULPS)):
                session = self._made(draw)
                found = self._answer(session, feed, draw)
                if found is not None and session is not None:
                    session.close()
                    self._known[id(feed)].append(found)
        return self._known[id(feed)]

    def _answer(self, session: Session | None, feed: Feed, draw: int) -> list[Array] | None:
        if session is None:
            return None
        values, ulps = feed.values, _ULPS[draw % len(_ULPS)]
        if not self._changed or draw >= len(_ULPS):
            values = {n: _nudged(v, n, draw, ulps) if is_float(v) else v for n, v in values.items()}
        try:
            return session.run(values)
        except (RunError, DiedError, MemoryError):
            return None

    def _made(self, draw: int) -> Session | None:
        """The session of a draw; None where the model is too large, or a nudge is rejected."""
        names = self._changed if draw < len(_ULPS) else self._all

        def changed() -> bytes:
            return self._side.with_arrays(nudged(self._side, names, draw, _ULPS[draw % len(_ULPS)]))

        try:
            data = changed if names else None
            return Session(self._runtime, self._side, self._provider, data)
        except (ModelError, RunError, DiedError, MemoryError):
            return None


def is_float(value: Any) -> bool:
    """Whether an output is a float array, bfloat16 included."""
    return isinstance(value, np.ndarray) and (
        value.dtype.kind == "f" or value.dtype.name.startswith(("bfloat", "float8"))
    )


def magnitude(value: Array) -> float:
    """The largest finite magnitude of an output; 0 if there is none."""
    wide = np.abs(value.astype(np.float64))
    wide = wide[np.isfinite(wide)]
    return float(wide.max()) if wide.size else 0.0


def distances(a: Array, b: Array) -> Array:
    """How far each element of two outputs of one shape is apart; infinite where NaN or Inf
    stand elsewhere."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        off = np.abs(x - y)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    return np.asarray(np.where(same, 0.0, np.where(np.isfinite(off), off, np.inf)))


def deviation(a: Array, b: Array) -> float:
    """The largest difference of two outputs; infinite where shapes, NaN or Inf differ."""
    return float(distances(a, b).max(initial=0.0)) if a.shape == b.shape else float("inf")


def ulp(dtype: np.dtype[Any]) -> float:
    """Spacing of a float type's numbers just above 1."""
    if dtype.name == "bfloat16":
        return 2.0**-7
    return float(np.finfo(dtype).eps) if dtype.kind == "f" else 2.0**-3


Floors = Mapping[int, float]
"""Output index -> noise floor, relative to the output's largest magnitude."""


def floors(
    before: Sequence[Any], moved: Sequence[Sequence[Any]], known: Floors
) -> dict[int, float]:
    """Raise known floors to what teacher and nudged teachers differ by.

    The floor is never below one ulp: a single run may by luck show less than there is. What
    jumps, as at a near tie, is no noise of the others.
    """
    found = dict(known)
    for k, a in enumerate(before):
        if is_float(a):
            scale = magnitude(a)
            ghosts = [g[k] for g in moved if k < len(g) and g[k].shape == a.shape]
            shake = max((_shake(distances(a, g)) for g in ghosts), default=0.0)
            found[k] = max(found.get(k, ulp(a.dtype)), shake / scale if scale else 0.0)
    return found


def _shake(off: Array) -> float:
    off = off[np.isfinite(off)]
    top = float(off.max(initial=0.0))
    if off.size < _LEAST or top == 0.0:
        return top
    calm = float(np.quantile(off, _CALM))
    return top if top <= _FAR * calm else 4 * calm
