"""Sizes that windows leave: convolutions, pools, and what resamples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from onnx_net2net.inference import expressions as ex
from onnx_net2net.inference.expressions import Dim, Expr
from onnx_net2net.inference.size_rules import Dims, Open, shapes


def _many(at: Open, name: str, default: int, count: int) -> list[int]:
    given = at.attr(name)
    return [int(v) for v in given] if given is not None else [default] * count


@shapes("Conv com.microsoft.FusedConv ConvInteger")
def _convolution(at: Open) -> Sequence[Dims | None]:
    return _convolved(at, at.shape(1))


@shapes("QLinearConv")
def _quantised_convolution(at: Open) -> Sequence[Dims | None]:
    return _convolved(at, at.shape(3))


def _convolved(at: Open, weight: Dims) -> Sequence[Dims | None]:
    return [(at.shape()[0], weight[0], *windows(at, weight[2:]))]


@shapes("MaxPool AveragePool LpPool")
def _pool(at: Open) -> Sequence[Dims | None]:
    kernel = tuple(int(v) for v in at.attr("kernel_shape"))
    return [(*at.shape()[:2], *windows(at, kernel))] * len(at.node.outputs)


def windows(at: Open, kernel: Sequence[Dim]) -> list[Dim]:
    """The size of each spatial axis behind windows of a kernel."""
    sizes = at.shape()[2:]
    n = len(sizes)
    strides, dilations = (_many(at, a, 1, n) for a in ("strides", "dilations"))
    how, pads = at.attr("auto_pad", "NOTSET"), _many(at, "pads", 0, 2 * n)
    found: list[Dim] = []
    for k, size in enumerate(sizes):
        if how in ("SAME_UPPER", "SAME_LOWER"):
            if at.attr("ceil_mode", 0):
                raise LookupError("rounded up twice")
            found.append(ex.ceil_div(size, strides[k]))
            continue
        around = pads[k] + pads[k + n] if how != "VALID" else 0
        rest = size + around - ((kernel[k] - 1) * dilations[k] + 1)
        if at.attr("ceil_mode", 0):
            found.append(_ceiled(rest, strides[k], size, pads[k], at))
        else:
            found.append(ex.floor_div(rest, strides[k]) + 1)
    return found


def _ceiled(rest: Dim, stride: int, size: Dim, before: int, at: Open) -> Dim:
    """With `ceil_mode`; a last window that starts in the padding is a matter of versions."""
    if not isinstance(rest, Expr):
        raise LookupError("left to onnx's inference")
    if before:
        return ex.opaque("ceil mode", str(at.node.version), (rest, stride, size, before), True)
    return ex.opaque("ceil mode", "", (rest, stride, size), True)


@shapes("ConvTranspose")
def _transposed(at: Open) -> Sequence[Dims | None]:
    sizes, weight = at.shape()[2:], at.shape(1)
    n = len(sizes)
    strides, dilations = (_many(at, a, 1, n) for a in ("strides", "dilations"))
    extra, pads = _many(at, "output_padding", 0, n), _many(at, "pads", 0, 2 * n)
    how, said = at.attr("auto_pad", "NOTSET"), at.attr("output_shape")
    found: list[Dim] = []
    for k, size in enumerate(sizes):
        if said is not None:
            found.append(int(said[len(said) - n + k]))
        elif how in ("SAME_UPPER", "SAME_LOWER"):
            found.append(size * strides[k])
        else:
            around = 0 if how == "VALID" else pads[k] + pads[k + n]
            reach = (weight[2 + k] - 1) * dilations[k] + 1
            found.append(strides[k] * (size - 1) + extra[k] + reach - around)
    return [(at.shape()[0], weight[1] * int(at.attr("group", 1)), *found)]


@shapes("Resize Upsample")
def _resize(at: Open) -> Sequence[Dims | None]:
    dims = list(at.shape())
    axes = [int(a) % len(dims) for a in at.attr("axes", range(len(dims)))]
    if at.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise LookupError("sizes that keep a ratio")
    if at.attr("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise LookupError("it crops")
    if at.has(3):
        sizes = at.ints(3) or []
        for a, d in zip(axes, sizes, strict=True):
            dims[a] = d
        return [tuple(dims)]
    said = None if at.has(1) else at.attr("scales")  # as Upsample had them once
    scales: Any = at.array(2 if at.has(2) else 1).reshape(-1) if said is None else said
    for a, s in zip(axes, scales, strict=True):
        dims[a] = scaled(dims[a], s)
    return [tuple(dims)]


def scaled(size: Dim, factor: Any) -> Dim:
    """A size times a float, rounded down.

    >>> scaled(ex.symbol("s"), 2.0), scaled(ex.symbol("s"), 0.5)
    (2*s, floor(s / 2))
    """
    if isinstance(factor, Expr):
        return ex.opaque("scaled", "", (size, factor), natural=True)
    number = float(factor)
    if not isinstance(size, Expr):
        return math.floor(size * number)
    if number == int(number):
        return size * int(number)
    if math.frexp(number)[0] == 0.5 and number < 1:
        return ex.floor_div(size, int(1 / number))
    return ex.opaque("scaled", "", (size, number.hex()), natural=True)


__all__ = ["scaled", "windows"]
