"""Linear layers and normalizations in the form that a tensor's layout asks for.

Channels first: Conv of matching rank. Channels last: MatMul and bias, or Gemm beside a Gemm.
Channels second to last: MatMul from the left. Any other axis: between two Transposes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnx_net2net.errors import Reason, Refusal, RefusalError
from onnx_net2net.growth.random_weights import noise
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array
from .insertion import Graft
from .insertion_point import Point

EPSILON = float(np.float32(1e-5))  # as the attribute holds it, also beside float64 weights
Statistics = tuple[Array, Array]
"""Mean and variance of each channel."""


@dataclass(frozen=True)
class Form:
    """How a layer is written: `conv`, `gemm`, `right` (x W) or `left` (W x).

    `moved`: the permutation that brings the channels to where the form wants them.
    """

    kind: str
    rank: int
    moved: tuple[int, ...] | None = None

    @property
    def spatial(self) -> int:
        """How many axes a kernel slides over."""
        return self.rank - 2 if self.kind == "conv" else 0

    def per_channel(self, count: int) -> tuple[int, ...]:
        """The shape in which one number per channel broadcasts."""
        trailing = {"conv": self.rank - 2, "left": 1}.get(self.kind, 0)
        return (count, *[1] * trailing)


def form_of(point: Point, kernel: int, groups: int, normalized: bool) -> Form:
    """The form for a point.

    Args:
        kernel: window size, needs a Conv above 1; so do `groups`.
        normalized: a BatchNormalization will stand in it, which wants channels at axis 1.

    Raises:
        RefusalError: none has what is asked for at this rank.
    """
    rank, axis = point.rank or 0, point.axis
    windowed = kernel > 1 or groups > 1
    if not (windowed or normalized):
        return _plain_form(point)
    first = _permutation(rank, axis, 1)
    if rank == 2 and not windowed:
        return Form("gemm", rank, first)
    if 3 <= rank <= 5:
        return Form("conv", rank, first)
    what = "a kernel or groups" if windowed else "a BatchNormalization"
    hint = "leave it out: --kernel 1, no groups, no --batchnorm"
    at, detail = (point.tensor, axis), f"{what} at rank {rank}"
    raise RefusalError(Refusal(Reason.NO_AXIS, point.tensor, at, detail, hint))


def _plain_form(point: Point) -> Form:
    """The form of a layer without windows, groups and normalization, which every rank has."""
    rank, axis = point.rank, point.axis
    if rank is None:
        return Form("right", 0)
    # MatMul also fits where a Squeeze without axes drops a batch of one
    if rank == 2 and axis == 1 and TABLE[point.channels.node.op].rank == 2:
        return Form("gemm", rank)
    # onnxruntime has no Conv for doubles
    if axis == 1 and 3 <= rank <= 5 and point.dtype != np.float64:
        return Form("conv", rank)
    if axis == rank - 2:
        return Form("left", rank)
    return Form("right", rank, _permutation(rank, axis, rank - 1))


def _permutation(rank: int, axis: int, to: int) -> tuple[int, ...] | None:
    if rank <= to or axis == to:
        return None
    order = [k for k in range(rank) if k != axis]
    order.insert(to, axis)
    return tuple(order)


def within(graft: Graft, form: Form, x: str, body: Callable[[str], str]) -> str:
    """`body` with the channels where the form wants them; the result as `x` was.

    Args:
        graft: takes the new nodes.
        form: says where.
        x: the tensor.
        body: from a tensor to what it makes of it.
    """
    graft.slope_shape = form.per_channel(graft.point.size)
    if form.moved is None:
        return body(x)
    inside = body(graft.node("Transpose", [x], perm=list(form.moved)))
    return graft.node("Transpose", [inside], perm=np.argsort(form.moved).tolist())


def identity(size: int, groups: int = 1) -> Array:
    """Weights [size, size / groups] that return each channel.

    >>> identity(4, 2).tolist()
    [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """
    inside = size // groups
    weights = np.zeros((size, inside))
    weights[np.arange(size), np.arange(size) % inside] = 1.0
    return weights


def random(form: Form, out: int, inside: int, kernel: int, *key: object) -> Array:
    """Random weights of He's spread for a fan-in of inside x kernel positions.

    Args:
        form: has the window's axes.
        out, inside, kernel: the weights' shape is [out, inside, kernel, ...].
        key: of the draw.
    """
    window = (kernel,) * form.spatial
    spread = math.sqrt(2.0 / (inside * kernel**form.spatial))
    return noise(np.full((out, inside, *window), spread), *key)


def dense(
    graft: Graft, form: Form, x: str, weights: Array, *, bias: Array | None = None,
    kernel: int = 1, groups: int = 1, role: str = "",
) -> str:  # fmt: skip
    """A linear layer.

    Args:
        weights: [out, in / groups], put at the centre tap (growth-operators.md D2), or with
            window axes behind.
        bias: [out], zeros if None.
        role: in front of the parameters' names.
    """
    out = weights.shape[0]
    if form.kind == "conv" and weights.ndim == 2:
        rows = [(0, 0), (0, 0), *[((kernel - 1) // 2, kernel // 2)] * form.spatial]
        weights = np.pad(weights.reshape(*weights.shape, *[1] * form.spatial), rows)
    elif form.kind == "right":
        weights = weights.reshape(out, -1).T
    else:
        weights = weights.reshape(weights.shape if form.kind == "conv" else (out, -1))
    w = graft.constant(weights, f"{role}weight")
    zeros = np.zeros(out) if bias is None else bias
    shape = form.per_channel(out) if form.kind == "left" else (out,)
    b = graft.constant(zeros.reshape(shape), f"{role}bias")
    graft.slope_shape = form.per_channel(out)
    if form.kind == "conv":
        begin, end = [(kernel - 1) // 2] * form.spatial, [kernel // 2] * form.spatial
        return graft.node(
            "Conv", [x, w, b], kernel_shape=[kernel] * form.spatial, pads=begin + end,
            strides=[1] * form.spatial, dilations=[1] * form.spatial, group=groups,
        )  # fmt: skip
    if form.kind == "gemm":
        return graft.node("Gemm", [x, w, b], transB=1)
    product = [x, w] if form.kind == "right" else [w, x]
    return graft.node("Add", [graft.node("MatMul", product), b])


def batchnorm(graft: Graft, x: str, size: int, statistics: Statistics | None) -> str:
    """A BatchNormalization that is the identity in inference (growth-operators.md D3).

    Args:
        statistics: the true mean and variance of `x`; scale and shift undo them. None:
            mean 0 and variance 1 - epsilon, so that sqrt(variance + epsilon) is exactly 1.
    """
    graft.normalised.append(x)
    if statistics is None:
        mean, variance, scale = np.zeros(size), np.full(size, 1.0 - EPSILON), np.ones(size)
    else:
        mean, variance = statistics
        scale = np.sqrt(variance + EPSILON)
    held = {"weight": scale, "bias": mean, "running_mean": mean, "running_var": variance}
    names = [graft.constant(values, f"bn.{name}") for name, values in held.items()]
    return graft.node("BatchNormalization", [x, *names], epsilon=EPSILON)
