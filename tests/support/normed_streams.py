"""Residual streams with a norm in front of each layer, for tests of pads."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from onnx_net2net.typing import Array
from tools.samples.graph_builder import Net

WIDTH = 12


def stream(
    norm: str = "LayerNormalization", dtype: Any = np.float32, post: bool = False,
    between: str = "", last: bool = True,
) -> onnx.ModelProto:  # fmt: skip
    """A writer, a block and a head.

    Args:
        norm: the norm's operator.
        post: it stands behind the sum, not in front of the layer.
        between: an operator between the writer and all norms.
        last: there is a norm in front of the head.
    """
    net = Net(f"stream_{norm}", opset=23 if norm[0] == "R" else 17, dtype=dtype)
    x = net.input("x", "N", 6)

    def linear(t: str, at: str, a: int, b: int) -> str:
        weight = net.weight(f"{at}.weight", a, b, fan_in=2 * a)
        result: str = net.op("Gemm", t, weight, net.draw(f"{at}.bias", b), at=at)
        return result

    def normed(t: str, at: str) -> str:
        given = [net.draw(f"{at}.weight", WIDTH, low=0.5, high=1.5)]
        given += [net.draw(f"{at}.bias", WIDTH)] if norm == "LayerNormalization" else []
        result: str = net.op(norm, t, *given, at=at, epsilon=1e-3)
        return result

    h = linear(x, "stem", 6, WIDTH)
    h = net.op(between, h) if between else h
    y = linear(h if post else normed(h, "norm1"), "ff1", WIDTH, 20)
    h = net.op("Add", h, linear(net.op("Relu", y), "ff2", 20, WIDTH))
    h = normed(h, "norm1") if post else h
    if post:
        y = linear(net.op("Relu", linear(h, "ff3", WIDTH, 20)), "ff4", 20, WIDTH)
        h = normed(net.op("Add", h, y), "norm2")
    elif last:
        h = normed(h, "norm2")
    return net.output("y", linear(h, "head", WIDTH, 7), "N", 7).model()


def arrays(model: onnx.ModelProto) -> dict[str, Array]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def changed(model: onnx.ModelProto, **values: Array) -> onnx.ModelProto:
    """A copy with other values in some initializers; `__` in a name stands for a dot."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    held = {t.name: t for t in found.graph.initializer}
    for name, array in values.items():
        old = held[name.replace("__", ".")]
        made = onnx.numpy_helper.from_array(array.astype(onnx.numpy_helper.to_array(old).dtype))
        made.name = old.name
        old.CopyFrom(made)
    return found
