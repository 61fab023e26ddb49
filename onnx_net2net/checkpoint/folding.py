"""BatchNormalization that an exporter folded into the layer before it, found again.

W = c * V for each output channel, c = gamma / sqrt(variance + epsilon), and
b = (bias - mean) * c + beta; V, gamma, beta, mean, variance and bias are parameters.
Checkpoints do not say epsilon: it is what makes c the same on all channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from onnx_net2net.typing import Array

STATISTICS = ("running_mean", "running_var")
_MOST_EPSILON = 0.1
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Norm:
    """A BatchNormalization's parameters: role (`weight`, `running_mean`, ...) -> name."""

    prefix: str
    names: Mapping[str, str]


def norms(parameters: Mapping[str, Array]) -> Iterator[Norm]:
    """The BatchNormalizations of a checkpoint: whatever has running statistics."""
    for name in parameters:
        prefix, dot, role = name.rpartition(".")
        if role == "running_var" and prefix + dot + "running_mean" in parameters:
            roles = ("weight", "bias", *STATISTICS)
            yield Norm(
                prefix, {r: prefix + dot + r for r in roles if prefix + dot + r in parameters}
            )


def factor(leaf: Array, weight: Array, axis: int) -> Array | None:
    """c with leaf = c * weight along an axis; NaN where the weight is zero; None if none is.

    Args:
        leaf: the constant of the file.
        weight: the checkpoint's, of the same shape.
        axis: along which c has a number each.
    """
    if leaf.shape != weight.shape:
        return None
    rows = np.moveaxis(leaf, axis, 0).reshape(leaf.shape[axis], -1).astype(np.float64)
    base = np.moveaxis(weight, axis, 0).reshape(rows.shape).astype(np.float64)
    square = (base * base).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        c = (rows * base).sum(1) / square
    away = np.abs(rows - np.nan_to_num(c)[:, None] * base).max(1, initial=0)
    size = np.abs(rows).max(1, initial=0)
    return c if (away <= _ROUNDING * np.maximum(size, 1e-12)).all() else None


def explains(
    norm: Norm, parameters: Mapping[str, Array], c: Array, bias: Array, own: Array | None
) -> bool:
    """Whether a BatchNormalization makes this factor and this bias.

    Args:
        bias: of the file; own: the layer's bias in the checkpoint, if it has one.
    """
    values = {r: parameters[n].astype(np.float64) for r, n in norm.names.items()}
    mean, variance = values["running_mean"], values["running_var"]
    if mean.shape != c.shape or bias.shape != c.shape:
        return False
    gamma = values.get("weight", np.ones_like(mean))
    beta = values.get("bias", np.zeros_like(mean))
    known = np.isfinite(c) & (c != 0)
    if not known.any():
        return False
    spread = (gamma[known] / c[known]) ** 2
    epsilon = float(np.median(spread - variance[known]))
    if not -_ROUNDING * float(np.median(spread)) <= epsilon <= _MOST_EPSILON:
        return False
    wanted = gamma / np.sqrt(np.maximum(variance + max(epsilon, 0.0), 1e-30))
    if not np.allclose(np.where(known, c, wanted), wanted, rtol=1e-3, atol=1e-7):
        return False
    said = (-mean if own is None else own.astype(np.float64) - mean) * wanted + beta
    scale = np.abs(mean * wanted) + np.abs(beta) + np.abs(said) + 1e-6
    return bool((np.abs(said - bias) <= 1e-3 * scale).all())
