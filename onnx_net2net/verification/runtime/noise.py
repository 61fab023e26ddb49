"""A model's own noise floor: what moving its weights by one ulp does to its outputs."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from onnx_net2net.typing import Array
from onnx_net2net.verification.sides import Side

FLOOR_MULTIPLE = 8.0
"""How many floors a correct student may lie away from its teacher.

Splitting a unit only reorders and regroups sums, which moves an output about as far as
moving the weights by one ulp does; measured correct students reach 3, the mildest real
faults that a run can show start at 10.
"""
_MOST_BYTES = 1 << 29


def nudged(side: Side, names: Iterable[str], draw: int) -> dict[str, Array]:
    """The named constants with every entry moved by one ulp, up or down at random."""
    found: dict[str, Array] = {}
    room = _MOST_BYTES
    for name in names:
        array = side.array(side.model.leaves[name])
        if array is None or array.size == 0 or array.nbytes > room:
            continue
        room -= array.nbytes
        rng = np.random.Generator(np.random.PCG64([draw, zlib.crc32(name.encode())]))
        up = rng.integers(0, 2, array.shape, np.int8).astype(bool)
        infinity = np.array(np.inf, array.dtype)
        moved = np.nextafter(array, np.where(up, infinity, -infinity))
        # zero stands for "no connection"; a subnormal there would only cost time
        keep = (
            (array == 0)
            | ~np.isfinite(array.astype(np.float64))
            | ~np.isfinite(moved.astype(np.float64))
        )
        found[name] = np.where(keep, array, moved).astype(array.dtype)
    return found


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


def deviation(a: Array, b: Array) -> float:
    """The largest difference of two outputs; infinite where NaN or Inf stand elsewhere."""
    if a.shape != b.shape:
        return float("inf")
    x, y = a.astype(np.float64), b.astype(np.float64)
    fine = np.isfinite(x) & np.isfinite(y)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    if not (fine | same).all():
        return float("inf")
    both = np.abs(x[fine] - y[fine])
    return float(both.max()) if both.size else 0.0


def ulp(dtype: np.dtype[Any]) -> float:
    """Spacing of a float type's numbers just above 1."""
    if dtype.name == "bfloat16":
        return 2.0**-7
    return float(np.finfo(dtype).eps) if dtype.kind == "f" else 2.0**-3


Floors = Mapping[int, float]
"""Output index -> noise floor, relative to the output's largest magnitude."""


def floors(pairs: Iterable[tuple[list[Any], list[Any]]], known: Floors) -> dict[int, float]:
    """Raise known floors to what teacher and nudged teacher differ by.

    The floor is never below one ulp: a single run may by luck show less than there is.
    """
    found = dict(known)
    for before, after in pairs:
        for k, (a, b) in enumerate(zip(before, after, strict=True)):
            if not is_float(a):
                continue
            scale = magnitude(a)
            moved = deviation(a, b) / scale if scale else 0.0
            least = ulp(a.dtype)
            found[k] = max(found.get(k, least), moved if np.isfinite(moved) else 0.0)
    return found
