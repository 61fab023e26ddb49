"""Train a small residual CNN on scikit-learn's digits with plain numpy, and write it as ONNX."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tools.samples.graph_builder import Array, Net, uniform

EPSILON = 1e-5
# name, channels in, channels out, stride; the two of layer1.0 are the residual block.
CONVS = [
    ("conv1", 1, 16, 1),
    ("conv2", 16, 24, 2),
    ("layer1.0.conv1", 24, 24, 1),
    ("layer1.0.conv2", 24, 24, 1),
    ("conv3", 24, 32, 1),
]


def split() -> tuple[Array, Array, Array, Array]:
    """Images [N,1,8,8] in 0..1 and labels: train images, labels, 450 held-out images, labels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.argsort(uniform("digits/split", (len(digits.target),), 0, 1), kind="stable")
    images = (digits.images[order] / 16).astype(np.float32)[:, None]
    labels = digits.target[order].astype(np.int64)
    return images[:-450], labels[:-450], images[-450:], labels[-450:]


def _patches(x: Array, stride: int) -> Array:
    """im2col for 3x3 with padding 1: [N,C,H,W] -> [N,H',W',C*9]."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    n, c, h, w = windows.shape[:4]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(n, h, w, c * 9)


def _scatter(columns: Array, shape: tuple[int, ...], stride: int) -> Array:
    """The transpose of `_patches`: patch gradients added back onto the image."""
    n, c, h, w = shape
    padded = np.zeros((n, c, h + 2, w + 2), np.float32)
    blocks = columns.reshape(n, columns.shape[1], columns.shape[2], c, 3, 3)
    for i in range(3):
        for j in range(3):
            rows = slice(i, i + stride * blocks.shape[1], stride)
            cols = slice(j, j + stride * blocks.shape[2], stride)
            padded[:, :, rows, cols] += blocks[..., i, j].transpose(0, 3, 1, 2)
    return padded[:, :, 1:-1, 1:-1]


class ConvBn:
    """Conv 3x3 without bias and BatchNormalization, with gradients and running statistics."""

    def __init__(self, p: dict[str, Array], name: str, stride: int) -> None:
        self.p, self.w, self.stride = p, f"{name}.weight", stride
        self.bn = name.replace("conv", "bn")

    def forward(self, x: Array, training: bool) -> Array:
        p, bn = self.p, self.bn
        self.shape, self.columns = x.shape, _patches(x, self.stride)
        y = self.columns @ p[self.w].reshape(len(p[self.w]), -1).T
        mean, var = p[f"{bn}.running_mean"], p[f"{bn}.running_var"]
        if training:
            mean, var = y.mean((0, 1, 2)), y.var((0, 1, 2))
            unbiased = var * (y[..., 0].size / (y[..., 0].size - 1))
            for key, value in (("running_mean", mean), ("running_var", unbiased)):
                p[f"{bn}.{key}"] = (0.9 * p[f"{bn}.{key}"] + 0.1 * value).astype(np.float32)
        self.inverse = 1 / np.sqrt(var + EPSILON)
        self.normal = (y - mean) * self.inverse
        return (self.normal * p[f"{bn}.weight"] + p[f"{bn}.bias"]).transpose(0, 3, 1, 2)

    def backward(self, grad: Array, grads: dict[str, Array]) -> Array:
        p, bn = self.p, self.bn
        grad = grad.transpose(0, 2, 3, 1)
        grads[f"{bn}.weight"] = (grad * self.normal).sum((0, 1, 2))
        grads[f"{bn}.bias"] = grad.sum((0, 1, 2))
        count = grad[..., 0].size
        inner = grads[f"{bn}.bias"] / count + self.normal * (grads[f"{bn}.weight"] / count)
        grad = (grad - inner) * (p[f"{bn}.weight"] * self.inverse)
        flat = grad.reshape(count, -1)
        grads[self.w] = (flat.T @ self.columns.reshape(count, -1)).reshape(p[self.w].shape)
        columns = grad @ p[self.w].reshape(len(p[self.w]), -1)
        return _scatter(columns, self.shape, self.stride)


class DigitsCnn:
    """The network: conv1, conv2, one residual block, conv3, global average pool, fc."""

    def __init__(self) -> None:
        self.p: dict[str, Array] = {}
        for name, cin, cout, _ in CONVS:
            bound, bn = np.sqrt(6 / (9 * cin)), name.replace("conv", "bn")
            self.p[f"{name}.weight"] = uniform(f"digits/{name}", (cout, cin, 3, 3), -bound, bound)
            self.p[f"{bn}.weight"], self.p[f"{bn}.bias"] = np.ones(cout), np.zeros(cout)
            self.p[f"{bn}.running_mean"], self.p[f"{bn}.running_var"] = (
                np.zeros(cout),
                np.ones(cout),
            )
        self.p["fc.weight"] = uniform("digits/fc", (10, 32), -0.2, 0.2)
        self.p["fc.bias"] = np.zeros(10)
        self.p = {key: value.astype(np.float32) for key, value in self.p.items()}
        self.layers = [ConvBn(self.p, name, stride) for name, _, _, stride in CONVS]

    def forward(self, x: Array, training: bool = False) -> Array:
        """Logits [N,10]."""
        self.kept: list[Array] = []
        for k, layer in enumerate(self.layers):
            y = layer.forward(x, training)
            if k == 3:
                y = y + self.kept[1]
            x = np.maximum(y, 0)
            self.kept.append(x)
        self.pooled = x.mean((2, 3))
        return self.pooled @ self.p["fc.weight"].T + self.p["fc.bias"]

    def backward(self, grad: Array) -> dict[str, Array]:
        """Gradients of all parameters for a gradient of the logits."""
        grads = {"fc.weight": grad.T @ self.pooled, "fc.bias": grad.sum(0)}
        size = self.kept[-1].shape[2:]
        g = (grad @ self.p["fc.weight"])[:, :, None, None] / (size[0] * size[1])
        g, skip = np.broadcast_to(g, self.kept[-1].shape), None
        for k in reversed(range(len(self.layers))):
            g = g * (self.kept[k] > 0)
            if k == 3:
                skip = g
            g = self.layers[k].backward(g, grads)
            if k == 2:
                g = g + skip
        return grads


def _batches(count: int, epoch: int) -> Iterator[Array]:
    order = np.argsort(uniform(f"digits/epoch{epoch}", (count,), 0, 1), kind="stable")
    for start in range(0, count - 63, 64):
        yield order[start : start + 64]


def train(epochs: int = 25) -> tuple[DigitsCnn, float]:
    """Adam with a falling rate; returns the network and its accuracy on the held-out part."""
    images, labels, held_out, held_out_labels = split()
    net = DigitsCnn()
    first = {k: np.zeros_like(v) for k, v in net.p.items()}
    second = {k: np.zeros_like(v) for k, v in net.p.items()}
    step, total = 0, epochs * (len(images) // 64)
    for epoch in range(epochs):
        for batch in _batches(len(images), epoch):
            logits = net.forward(images[batch], training=True)
            chance = np.exp(logits - logits.max(1, keepdims=True))
            chance /= chance.sum(1, keepdims=True)
            chance[np.arange(64), labels[batch]] -= 1
            grads = net.backward(chance / 64)
            step += 1
            rate = 3e-3 * (1 - step / total)
            for key, g in grads.items():
                first[key] += 0.1 * (g - first[key])
                second[key] += 0.001 * (g * g - second[key])
                scale = np.sqrt(second[key] / (1 - 0.999**step)) + 1e-8
                net.p[key] -= (rate / (1 - 0.9**step) * first[key] / scale).astype(np.float32)
    right = net.forward(held_out).argmax(1) == held_out_labels
    return net, float(right.mean())


def build(p: dict[str, Array], accuracy: float) -> onnx.ModelProto:
    """The ONNX graph with these parameters, BatchNormalization nodes kept."""
    net = Net("digits_cnn")

    def parameters(*names: str) -> list[str]:
        return [net.const(name, p[name], np.float32) for name in names]

    def conv_bn(x: str, k: int) -> str:
        name, _, _, stride = CONVS[k]
        bn, at = name.replace("conv", "bn"), name.replace(".", "/")
        attributes: dict[str, Any] = {
            "pads": [1] * 4,
            "strides": [stride] * 2,
            "kernel_shape": [3, 3],
        }
        y = net.op("Conv", x, *parameters(f"{name}.weight"), at=at, **attributes)
        four = parameters(*(f"{bn}.{v}" for v in ("weight", "bias", "running_mean", "running_var")))
        at = bn.replace(".", "/")
        result: str = net.op("BatchNormalization", y, *four, at=at, epsilon=EPSILON)
        return result

    x = net.op("Relu", conv_bn(net.input("images", "N", 1, 8, 8), 0), at="relu1")
    x = net.op("Relu", conv_bn(x, 1), at="relu2")
    y = net.op("Relu", conv_bn(x, 2), at="layer1/0/relu1")
    x = net.op("Relu", net.op("Add", conv_bn(y, 3), x, at="layer1/0"), at="layer1/0/relu2")
    x = net.op("Relu", conv_bn(x, 4), at="relu3")
    x = net.op("Flatten", net.op("GlobalAveragePool", x, at="pool"), at="flatten")
    x = net.op("Gemm", x, *parameters("fc.weight", "fc.bias"), at="fc", transB=1)
    model = net.output("logits", x, "N", 10).model()
    helper.set_model_props(model, {"dataset": "scikit-learn digits", "accuracy": f"{accuracy:.4f}"})
    return model
