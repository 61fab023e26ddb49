"""Streams that are normalised in single steps, as exporters without a norm operator write them."""

from __future__ import annotations

import numpy as np
import onnx

from tools.samples.graph_builder import Net, quirk


def _linear(net: Net, x: str, at: str, a: int, b: int) -> str:
    y = net.op("MatMul", x, net.weight(f"{at}.weight", a, b, fan_in=2 * a), at=at)
    result: str = net.op("Add", net.draw(f"{at}.bias", b), y, at=at)
    return result


def _root(net: Net, x: str, at: str) -> str:
    """x over its root mean square."""
    square = net.op("Pow", x, net.const(f"{at}.two", 2, np.float32), at=at)
    mean = net.op("ReduceMean", square, at=f"{at}_square", axes=[-1], keepdims=1)
    size = net.op("Sqrt", net.op("Add", mean, net.const(f"{at}.eps", 1e-5, np.float32), at=at))
    result: str = net.op("Div", x, size, at=at)
    return result


@quirk
def prenorm_layernorm() -> onnx.ModelProto:
    """Residual stream with LayerNormalization in single steps: ReduceMean, Sub, Pow, Sqrt, Div."""
    net = Net("prenorm_layernorm")
    x = net.input("x", "N", 6, 5)
    stem = net.weight("stem.weight", 12, 6, 1, fan_in=6)
    h = net.op("Conv", x, stem, net.draw("stem.bias", 12), at="stem")
    h = net.op("Transpose", h, perm=[0, 2, 1])
    h = net.op("Add", h, net.draw("places", 1, 5, 12))

    def norm(t: str, at: str) -> str:
        mean = net.op("ReduceMean", t, at=f"{at}_mean", axes=[-1], keepdims=1)
        y = _root(net, net.op("Sub", t, mean, at=at), at)
        y = net.op("Mul", y, net.draw(f"{at}.weight", 12, low=0.5, high=1.5), at=f"{at}_scale")
        result: str = net.op("Add", y, net.draw(f"{at}.bias", 12), at=f"{at}_bias")
        return result

    y = net.op("Relu", _linear(net, norm(h, "norm1"), "ff1", 12, 20))
    h = net.op("Add", h, _linear(net, y, "ff2", 20, 12))
    y = _linear(net, norm(h, "norm2"), "head", 12, 7)
    return net.output("y", y, "N", 5, 7).model()


@quirk
def prenorm_rms() -> onnx.ModelProto:
    """Residual stream with RMS norms in single steps; the head is the embedding, transposed."""
    net = Net("prenorm_rms")
    tokens = net.input("tokens", "N", "S", kind=onnx.TensorProto.INT64)
    table = net.draw("embed.weight", 20, 12, low=-1, high=1)
    h = net.op("Gather", table, tokens, at="embed")

    def norm(t: str, at: str) -> str:
        scale = net.draw(f"{at}.weight", 12, low=0.5, high=1.5)
        result: str = net.op("Mul", scale, _root(net, t, at), at=f"{at}_scale")
        return result

    y = net.op("Relu", _linear(net, norm(h, "norm1"), "ff1", 12, 20))
    h = net.op("Add", h, _linear(net, y, "ff2", 20, 12))
    head = net.op("Transpose", table, perm=[1, 0])
    logits = net.op("MatMul", norm(h, "norm2"), head, at="head")
    return net.output("logits", logits, "N", "S", 20).model()
