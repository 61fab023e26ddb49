"""Small models around fused operators, and how many widths each of them has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

MS = "com.microsoft"
M, H, D, V, F = 16, 4, 6, 8, 20
"""Widths of the stream, heads, a query's head, a value's head, the feed-forward layer."""


class Net:
    """Nodes and weights in running order; ends in a layer, so that the stream is inside."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(7)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def w(self, *shape: int, dtype: str = "f4", scale: float = 1.0) -> str:
        """A weight's name."""
        a = self.rng.standard_normal(shape) * scale / np.sqrt(shape[-2] if len(shape) > 1 else 2)
        if np.dtype(dtype).kind in "iu":
            info = np.iinfo(dtype)
            a = self.rng.integers(int(scale * info.min), int(scale * info.max), shape)
        return self.constant(a.astype(dtype))

    def constant(self, value: Any) -> str:
        """A constant's name."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """The first output of a new node."""
        domain, _, op = op.rpartition(".")
        k = len(self.nodes)
        outs = [f"{op}{k}"] + [f"{op}{k}_{j}" for j in range(1, outputs)]
        node = helper.make_node(op, inputs, outs, name=f"n{k}", domain=domain, **attributes)
        self.nodes.append(node)
        return outs[0]

    def linear(self, x: str, n: int, m: int) -> str:
        """x @ W."""
        return self.op("MatMul", x, self.w(n, m))

    def model(self, out: str, ids: bool = False, shape: Sequence[int | str] = (2, 5, 3)) -> Any:
        """The model with input x."""
        kind = onnx.TensorProto.INT32 if ids else onnx.TensorProto.FLOAT
        x = helper.make_tensor_value_info("x", kind, shape)
        y = helper.make_empty_tensor_value_info(out)
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.weights)
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid(MS, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _attention(shared: int, rotary: bool) -> onnx.ModelProto:
    net = Net()
    x = net.linear("x", 3, M)
    q, k = net.linear(x, M, H * D), net.linear(x, M, shared * D)
    v = net.linear(x, M, shared * V)
    if rotary:
        tables = [net.w(9, D // 2), net.w(9, D // 2)]
        at = net.constant(np.arange(5)[None].repeat(2, 0))
        q = net.op("RotaryEmbedding", q, *tables, at, num_heads=H)
        k = net.op("RotaryEmbedding", k, *tables, at, num_heads=shared)
    y = net.op("Attention", q, k, v, q_num_heads=H, kv_num_heads=shared, is_causal=1)
    y = net.op("Add", net.linear(y, H * V, M), x)
    return net.model(net.linear(y, M, 3))


def _multi_head(bias: bool) -> onnx.ModelProto:
    net = Net()
    x = net.linear("x", 3, M)
    q, k, v = net.linear(x, M, H * D), net.linear(x, M, H * D), net.linear(x, M, H * V)
    more = [net.w(2 * H * D + H * V)] if bias else []
    y = net.op(f"{MS}.MultiHeadAttention", q, k, v, *more, num_heads=H)
    return net.model(net.linear(net.op("Add", net.linear(y, H * V, M), x), M, 3))


def _bert() -> onnx.ModelProto:
    net = Net()
    table, places = net.w(11, M), net.w(9, M)
    norm = [net.w(M), net.w(M)]
    x = net.op(f"{MS}.EmbedLayerNormalization", "x", "", table, places, "", *norm, outputs=2)
    width = 2 * H * D + H * V
    y = net.op(f"{MS}.Attention", x, net.w(M, width), net.w(width), num_heads=H,
               qkv_hidden_sizes=[H * D, H * D, H * V])  # fmt: skip
    y = net.op(f"{MS}.SkipLayerNormalization", net.linear(y, H * V, M), x, *norm, net.w(M))
    z = net.op(f"{MS}.BiasGelu", net.linear(y, M, F), net.w(F))
    z = net.op(f"{MS}.SkipLayerNormalization", net.linear(z, F, M), y, *norm)
    return net.model(net.linear(z, M, 3), ids=True, shape=(2, 5))


def _grouped() -> onnx.ModelProto:
    net = Net()
    x, d = net.linear("x", 3, M), 16
    q, k, v = net.linear(x, M, H * d), net.linear(x, M, 2 * d), net.linear(x, M, 2 * d)
    lengths = [net.constant(np.array([4, 4], "i4")), net.constant(np.array(5, "i4"))]
    y = net.op(f"{MS}.GroupQueryAttention", q, k, v, "", "", *lengths, num_heads=H, kv_num_heads=2,
               outputs=3)  # fmt: skip
    y = net.op(f"{MS}.SkipSimplifiedLayerNormalization", net.linear(y, H * d, M), x, net.w(M))
    return net.model(net.linear(y, M, 3))


def _n_bits() -> onnx.ModelProto:
    net, k, n = Net(), 64, 96
    x = net.linear("x", 3, k)

    def layer(x: str, k: int, n: int) -> str:
        parts = net.w(n, k // 32, 16, dtype="u1"), net.w(n, k // 32, scale=0.02)
        return net.op(f"{MS}.MatMulNBits", x, *parts, K=k, N=n, bits=4, block_size=32)

    y = layer(net.op("Relu", layer(x, k, n)), n, k)
    return net.model(net.linear(net.op("Add", x, y), k, 3))


def _experts(act: str, fused: int) -> onnx.ModelProto:
    net, e = Net(), 4
    x = net.op("Reshape", net.linear("x", 3, M), net.constant(np.array([-1, M])))
    router = net.linear(x, M, e)
    wide = F * (2 if fused else 1)
    weights = [net.w(e, wide, M), net.w(e, wide), net.w(e, M, F), net.w(e, M)]
    y = net.op(f"{MS}.MoE", x, router, *weights, k=2, activation_type=act, swiglu_fusion=fused)
    return net.model(net.linear(net.op("Add", x, y), M, 3))


def quantised_lstm(scale: float) -> onnx.ModelProto:
    """DynamicQuantizeLSTM with weights in this part of int8's range."""
    net, h = Net(), 7
    x = net.linear("x", 3, M)
    w, r = (net.w(1, n, 4 * h, dtype="i1", scale=scale) for n in (M, h))
    step, zero = net.constant(np.array([0.01], "f4")), net.constant(np.array([0], "i1"))
    y = net.op(f"{MS}.DynamicQuantizeLSTM", x, w, r, net.w(1, 8 * h), "", "", "", "", step, zero,
               step, zero, hidden_size=h)  # fmt: skip
    y = net.op("Squeeze", y, net.constant(np.array([1])))
    return net.model(net.linear(y, h, 3))


def _packed_table() -> onnx.ModelProto:
    net, m = Net(), 96
    table = [net.w(11, m // 2, dtype="u1"), net.w(11, m // 32, scale=0.02)]
    y = net.op(f"{MS}.GatherBlockQuantized", table[0], "x", table[1], bits=4, block_size=32)
    return net.model(net.linear(y, m, 3), ids=True, shape=(2, 5))


CASES: dict[str, tuple[Callable[[], onnx.ModelProto], int]] = {
    "attention": (lambda: _attention(H, False), 4),
    "grouped attention": (lambda: _attention(2, False), 5),
    "rotary": (lambda: _attention(2, True), 5),
    "MultiHeadAttention": (lambda: _multi_head(False), 4),
    "MultiHeadAttention with bias": (lambda: _multi_head(True), 3),
    "bert": (_bert, 4),
    "GroupQueryAttention": (_grouped, 3),
    "MatMulNBits": (_n_bits, 2),
    "MoE": (lambda: _experts("relu", 0), 1),
    "MoE, gated": (lambda: _experts("swiglu", 1), 1),
    # On a CPU without VNNI onnxruntime adds pairs of products in 16 bits. They saturate at weights
    # of more than 7 bits, so that the teacher itself computes something else than it should.
    "DynamicQuantizeLSTM": (lambda: quantised_lstm(0.5), 2),
    "GatherBlockQuantized": (_packed_table, 1),
}


def run(model: onnx.ModelProto) -> Any:
    """The output on a fixed input."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    given = session.get_inputs()[0]
    rng = np.random.default_rng(1)
    x = rng.integers(0, 9, given.shape) if "int" in given.type else rng.normal(size=given.shape)
    return session.run(None, {"x": x.astype("i4" if "int" in given.type else "f4")})[0]
