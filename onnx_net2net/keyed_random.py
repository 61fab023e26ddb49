"""Random numbers that are the same on every machine: PCG64 words keyed by what they are for."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from onnx_net2net.typing import Array


def words(count: int, *key: Any) -> Array:
    """`count` random 64-bit words for a key; equal keys give equal words.

    >>> int(words(1, 0, "conv1")[0]) == int(words(1, 0, "conv1")[0])
    True
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    raw = np.random.PCG64(int.from_bytes(digest[:16], "little")).random_raw(count)
    return np.asarray(raw, np.uint64)


def uniform(shape: tuple[int, ...], *key: Any) -> Array:
    """Numbers in [-1, 1) for a key, 53 bits each."""
    raw = words(int(np.prod(shape, dtype=np.int64)), *key).reshape(shape)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0


def below(limit: int, count: int, *key: Any) -> Array:
    """`count` integers in [0, limit)."""
    return ((words(count, *key) >> np.uint64(32)) * np.uint64(limit) >> np.uint64(32)).astype(
        np.int64
    )


def permutation(n: int, *key: Any) -> Array:
    """A random order of n things."""
    return np.argsort(words(n, *key), kind="stable")


__all__ = ["below", "permutation", "uniform", "words"]
