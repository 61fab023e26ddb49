"""New weights drawn at random, as large as those that stand beside them."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_net2net.errors import UsageError
from onnx_net2net.keyed_random import below, uniform
from onnx_net2net.typing import Array


def spread(w: Array) -> float:
    """Standard deviation; of equal numbers their size, of zeros 1/16.

    Eight bits of it, so that no machine's rounding shows.
    """
    wide = w.astype(np.float64)
    wide = wide[np.isfinite(wide)]
    most = float(np.abs(wide).max(initial=0.0))
    if not most:
        return 2.0**-4
    size = float((wide / most).std()) * most
    mantissa, exponent = np.frexp(size if size > 2.0**-40 * most else most)
    return float(np.ldexp(np.rint(mantissa * 256), int(exponent) - 8))


def _bell(shape: tuple[int, ...], *key: Any) -> Array:
    """Numbers of deviation 1, none beyond 3: sums of three uniforms."""
    unit = uniform((3, *shape), *key)
    return np.asarray(unit[0] + unit[1] + unit[2])


def drawn(shape: tuple[int, ...], like: Array, *key: Any) -> Array:
    """Random weights of the spread and type of `like`; integers are picked among its own."""
    if like.dtype.kind in "iu":
        return like.reshape(-1)[below(like.size, int(np.prod(shape)), *key)].reshape(shape)
    return (_bell(shape, *key) * spread(like)).astype(like.dtype)


def jittered(w: Array, like: Array, size: float, *key: Any) -> Array:
    """Weights with noise of `size` times the standard deviation of `like`.

    Args:
        w: the weights.
        like: the tensor that they belong to.
        size: of the noise.
        key: of the draw.

    Raises:
        UsageError: they would leave the type's range.
    """
    step = _bell(w.shape, *key) * spread(like) * size
    if w.dtype.kind in "iu":
        info = np.iinfo(w.dtype)
        return np.clip(np.rint(w + step), info.min, info.max).astype(w.dtype)
    with np.errstate(over="ignore"):
        found = (w.astype(np.float64) + step).astype(w.dtype)
    if (np.isfinite(w.astype(np.float64)) & ~np.isfinite(found.astype(np.float64))).any():
        raise UsageError(f"noise {size:g} does not fit the weights' type {w.dtype}", "give less")
    return found


def noise(w: Array, *key: Any) -> Array:
    """Random weights of w's shape, dtype and spread: bell-shaped, sums of four uniforms."""
    form = np.sqrt(np.mean(np.square(w.astype(np.float64)))) if w.size else 0.0
    scale = np.ldexp(1.0, int(np.frexp(form)[1]) - 1) if form else 2.0**-4
    return (uniform((4, *w.shape), *key).sum(0) * scale).astype(w.dtype)
