"""Shares: how a weight divides among the copies of a unit, exactly.

Everything random comes from raw PCG64 words keyed by (seed, what it is for), scaled by
powers of two: the same bytes on every machine and numpy version.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_net2net.keyed_random import uniform, words
from onnx_net2net.typing import Array

SPLITS = ("zero-sum", "even", "one-hot", "uneven")
_FORMATS = {"float64": (53, -1074), "float32": (24, -149), "float16": (11, -24),
            "bfloat16": (8, -133)}  # fmt: skip
"""Float formats: bits of precision and the exponent of the smallest subnormal."""


def _parts(
    whole: Array, copies: int, how: str, even: Array, reach: Any, key: tuple[Any, ...]
) -> Array:
    """Integers [copies, ...] that add up to `whole`; the last takes the remainder.

    Args:
        even: what all but the last get, unless `how` is one-hot or uneven.
        reach: how far the noise of a zero-sum split moves them, at the most.
    """
    parts = np.zeros((copies, *whole.shape), np.int64)
    if how == "one-hot":
        parts[0] = whole
        return parts
    parts[:-1] = _uneven(whole, copies, key) if how == "uneven" else even
    if how == "zero-sum" and copies > 1 and np.any(reach):
        noise = uniform((copies - 1, *whole.shape), *key) * reach
        parts[:-1] += np.rint(noise).astype(np.int64)
    parts[-1] = whole - parts[:-1].sum(0)
    return parts


def _uneven(whole: Array, copies: int, key: tuple[Any, ...]) -> Array:
    """All but the last share: one positive fraction for each copy and index of the first axis."""
    shape = (copies, *whole.shape[:1], *[1] * (whole.ndim - 1))
    raw = words(int(np.prod(shape)), *key, "uneven") >> np.uint64(57)  # 7 bits: no overflow
    part = np.maximum(raw.astype(np.int64), 16).reshape(shape)
    return np.sign(whole) * (np.abs(whole) * part[:-1] // part.sum(0))


def shares(w: Array, copies: int, how: str, *key: Any) -> Array:
    """Divide weights so that the shares add up exactly.

    Each share is an integer multiple, at most 2^precision, of the weight's own ulp, so it
    is representable; the last copy takes the remainder. Zero-sum noise is about half the
    typical |w| and is cut where a share would not fit. Uneven shares are positive fractions,
    one for each copy and index of the first axis.

    Args:
        w: weights, any shape, float16/bfloat16/float32/float64.
        copies: how many, at least 1.
        how: one of `SPLITS`.
        key: what the noise is keyed by.

    Returns:
        Array of shape (copies, *w.shape) and w's dtype; exact sum over axis 0 equals w.

    >>> s = shares(np.array([0.1, 3.0], np.float32), 3, "zero-sum", 0)
    >>> [float(x) for x in s.astype(np.float64).sum(0)] == [float(np.float32(0.1)), 3.0]
    True
    """
    precision, smallest = _FORMATS[np.dtype(w.dtype).name]
    wide = w.astype(np.float64)
    finite = np.isfinite(wide)
    wide = np.where(finite, wide, 0.0)
    mantissa, exponent = np.frexp(wide)
    nonzero = wide != 0
    typical = int(exponent[nonzero].sum() // max(int(nonzero.sum()), 1))
    exponent = np.where(nonzero, exponent, typical)
    # Halves, quarters, ... have no more digits than the weight: equal copies stay equal.
    halved = how == "even" and not copies & (copies - 1)
    halvings = copies.bit_length() - 1 if halved else 0
    ulp = np.maximum(exponent - precision - min(halvings, 8), smallest)
    whole = np.ldexp(mantissa, exponent - ulp).astype(np.int64)
    room = max((1 << precision) // copies - 2, 0)
    reach = np.minimum(np.ldexp(1.0, np.minimum(typical + 1 - ulp, 60)), room) * nonzero.any()
    parts = _parts(whole, copies, how, (2 * whole + copies) // (2 * copies), reach, key)
    result = np.ldexp(parts.astype(np.float64), ulp).astype(w.dtype)
    if halved:  # equal to the last bit, unless subnormal
        exact = exponent - precision - halvings >= smallest
        result = np.where(exact, np.ldexp(wide, -halvings).astype(w.dtype), result)
    if not finite.all():  # no share of an infinity adds up with another: the first keeps it
        result[0] = np.where(finite, result[0], w)
        result[1:] = np.where(finite, result[1:], np.zeros((), w.dtype))
    return result


def integer_shares(w: Array, copies: int, how: str, offset: int, *key: Any) -> Array:
    """Divide integer weights above their zero point, exactly.

    Args:
        offset: the zero point; the shares of w are parts of w - offset, plus offset.

    Returns:
        Array of shape (copies, *w.shape) and w's dtype, every share within its range.

    >>> s = integer_shares(np.array([100, -7], np.int8), 3, "zero-sum", 0, 0)
    >>> s.astype(int).sum(0).tolist()
    [100, -7]
    """
    whole = w.astype(np.int64) - offset
    info = np.iinfo(w.dtype)
    even = np.sign(whole) * (np.abs(whole) // copies)
    room = min(info.max - offset, offset - info.min) // copies - 1
    reach = max(min(room, int(np.abs(whole).mean()) if whole.size else 0), 0)
    parts = _parts(whole, copies, how, even, reach, key)
    return (parts + offset).astype(w.dtype)


def divided(
    w: Array, source: Array, axis: int, how: str, live: Array | None, offset: int, *key: Any
) -> Array:
    """Re-index an axis and divide each entry among the copies of its source.

    Args:
        w: weights.
        source: student position -> teacher position.
        live: student positions that take part (None: all); the others get zeros.
        offset: what stands for zero in integer weights.

    Returns:
        The student's weights: summing the copies gives `w` exactly.
    """
    flat = np.moveaxis(w, axis, 0)
    out = flat[source].copy()
    live = np.ones(len(source), bool) if live is None else live
    out[~live] = np.asarray(offset, w.dtype)
    counts = np.bincount(source[live], minlength=flat.shape[0])
    order = np.argsort(source[live], kind="stable")
    at = np.flatnonzero(live)[order]
    start = np.concatenate([[0], np.cumsum(counts)])
    for r in np.unique(counts[counts > 1]):
        of = np.flatnonzero(counts == r)
        positions = at[start[of][:, None] + np.arange(r)]  # [k, r]
        if w.dtype.kind in "iu":
            parts = integer_shares(flat[of], int(r), how, offset, *key, int(r))
        else:
            parts = shares(flat[of], int(r), how, *key, int(r))
        for j in range(int(r)):
            out[positions[:, j]] = parts[j]
    return np.ascontiguousarray(np.moveaxis(out, 0, axis))
