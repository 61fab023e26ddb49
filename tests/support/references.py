"""What onnxruntime has on other devices only, in numpy, after the operators' documentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Arrays = list[Any]
REFERENCES: dict[str, Callable[[Arrays, Mapping[str, Any]], Arrays]] = {}


def reference(*names: str) -> Callable[[Any], Any]:
    """Register a function of (operands, attributes)."""

    def add(f: Any) -> Any:
        REFERENCES.update({f"com.microsoft.{n}": f for n in names})
        return f

    return add


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _tanh_gelu(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@reference("SwiGLU")
def _swiglu(a: Arrays, given: Mapping[str, Any]) -> Arrays:
    gate, up = a if len(a) == 2 else np.split(a[0], 2, -1)
    return [gate * _sigmoid(gate) * up]


@reference("BiasAdd", "BiasDropout", "BitmaskBiasDropout", "BitmaskDropout")
def _sum(a: Arrays, given: Mapping[str, Any]) -> Arrays:
    return [sum(a[1:], a[0])]


@reference("BiasSplitGelu")
def _split_gelu(a: Arrays, given: Mapping[str, Any]) -> Arrays:
    left, right = np.split(a[0] + a[1], 2, -1)
    erf = np.vectorize(math.erf, otypes=["f4"])
    return [left * right * 0.5 * (1 + erf(right / math.sqrt(2)))]


@reference("ComplexMul")
def _complex(a: Arrays, given: Mapping[str, Any], sign: int = 1) -> Arrays:
    p, q = (v[..., 0] + 1j * v[..., 1] for v in a)
    r = p * (q if sign > 0 else np.conj(q))
    return [np.stack([r.real, r.imag], -1).astype("f4")]


@reference("ComplexMulConj")
def _conjugate(a: Arrays, given: Mapping[str, Any]) -> Arrays:
    return _complex(a, given, -1)


@reference("GroupNorm", "SkipGroupNorm")
def _group_norm(a: Arrays, given: Mapping[str, Any]) -> Arrays:
    x, gamma, beta = a[:3]
    last = given.get("channels_last", 1)
    if len(a) > 3:
        x = x + (a[3] if a[3].ndim == 4 else a[3][:, None, None])
    if len(a) > 4:
        x = x + a[4]
    y = x if last else np.moveaxis(x, 1, -1)
    parts = y.reshape(*y.shape[:-1], given["groups"], -1)
    mean, var = (f(parts, axis=(1, 2, 4), keepdims=True) for f in (np.mean, np.var))
    y = ((parts - mean) / np.sqrt(var + 1e-5)).reshape(y.shape) * gamma + beta
    y = y * _sigmoid(y) if given["activation"] else y
    return [(y if last else np.moveaxis(y, -1, 1)).astype("f4"), x]


@reference("FusedMatMulActivation")
def _matmul_relu(a: Arrays, given: Mapping[str, Any]) -> Arrays:
    return [np.maximum(a[0] @ a[1], 0)]


@reference("GemmFastGelu")
def _matmul_gelu(a: Arrays, given: Mapping[str, Any]) -> Arrays:
    return [_tanh_gelu(a[0] @ a[1] + a[2]).astype("f4")]


@reference("RelativePositionBias")
def _relative(a: Arrays, given: Mapping[str, Any]) -> Arrays:
    table, length = a[0], int(a[1])
    distance = np.arange(length)[None] - np.arange(length)[:, None]
    bucket = np.clip(-distance, 0, len(table) - 1)
    return [np.moveaxis(table[bucket], -1, 0)[None]]


@reference("TorchEmbedding")
def _embedding(a: Arrays, given: Mapping[str, Any]) -> Arrays:
    return [a[0][a[1]]]


@reference("MulInteger")
def _multiply(a: Arrays, given: Mapping[str, Any]) -> Arrays:
    p, p0, q, q0 = (v.astype("i4") for v in a)
    return [(p - p0) * (q - q0)]


@reference("ReduceSumInteger")
def _sum_integers(a: Arrays, given: Mapping[str, Any]) -> Arrays:
    return [a[0].astype("i4").sum(tuple(given["axes"]), keepdims=bool(given["keepdims"]))]


@reference("QLinearReduceMean")
def _mean_integers(a: Arrays, given: Mapping[str, Any]) -> Arrays:
    x, scale, zero, to_scale, to_zero = a
    mean = ((x.astype("f8") - zero) * scale).mean(
        tuple(given["axes"]), keepdims=bool(given["keepdims"])
    )
    return [np.clip(np.rint(mean / to_scale) + to_zero, 0, 255).astype("u1")]


@reference("GatedAdd")
def _gated(a: Arrays, given: Mapping[str, Any]) -> Arrays:
    gate = a[2] if len(a) == 3 else _sigmoid(a[2] @ a[3])
    return [(a[0] + a[1] * gate).astype("f4")]
