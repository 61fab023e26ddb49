"""Small models whose own inputs and outputs can grow, each in a way of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def made(
    nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    outputs: Mapping[str, Sequence[int | str] | None], weights: Mapping[str, Sequence[int]],
    constants: Mapping[str, object] | None = None,
) -> onnx.ModelProto:  # fmt: skip
    """A model with random weights of these shapes."""
    rng = np.random.default_rng(0)
    leaves = [
        numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n)
        for n, s in weights.items()
    ]
    leaves += [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()]
    graph = helper.make_graph(
        list(nodes), "g",
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, FLOAT, s) for n, s in outputs.items()], leaves,
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    return model


def normalized_image() -> onnx.ModelProto:
    """An image that is normalised channel by channel before its first convolution."""
    node = helper.make_node
    return made(
        [
            node("Sub", ["image", "mean"], ["a"], "sub"),
            node("Div", ["a", "std"], ["b"], "div"),
            node("Conv", ["b", "w"], ["c"], "conv"),
            node("Relu", ["c"], ["d"], "relu"),
            node("GlobalAveragePool", ["d"], ["e"], "pool"),
            node("Flatten", ["e"], ["f"], "flat"),
            node("Gemm", ["f", "head.weight", "head.bias"], ["logits"], "head", transB=1),
        ],
        {"image": (FLOAT, ["n", 3, 16, 16])},
        {"logits": ["n", 5]},
        {"w": (8, 3, 3, 3), "head.weight": (5, 8), "head.bias": (5,)},
        {"mean": np.ones((1, 3, 1, 1), "f"), "std": np.full((1, 3, 1, 1), 2, "f")},
    )


def language(tied: bool) -> onnx.ModelProto:
    """Token embedding, one layer, and a head, tied to the embedding or not."""
    node = helper.make_node
    head = [node("Transpose", ["embed.weight"], ["head.weight"], "turn", perm=[1, 0])]
    return made(
        [
            node("Gather", ["embed.weight", "ids"], ["h"], "embed"),
            node("MatMul", ["h", "w"], ["a"], "layer"),
            node("Relu", ["a"], ["b"], "relu"),
            *(head if tied else []),
            node("MatMul", ["b", "head.weight"], ["logits"], "head"),
        ],
        {"ids": (INT64, ["n", "t"])},
        {"logits": ["n", "t", 11]},
        {"embed.weight": (11, 6), "w": (6, 6)} | ({} if tied else {"head.weight": (6, 11)}),
    )


def attention_with_cache(heads: int = 2, size: int = 4) -> onnx.ModelProto:
    """One attention layer whose keys and values come from, and go to, the model's interface."""
    node, width = helper.make_node, heads * size

    def split(name: str) -> list[onnx.NodeProto]:
        return [
            node("MatMul", ["x", f"{name}.weight"], [f"{name}1"], name),
            node("Reshape", [f"{name}1", "apart"], [f"{name}2"], f"{name}_reshape"),
            node("Transpose", [f"{name}2"], [f"{name}3"], f"{name}_turn", perm=[0, 2, 1, 3]),
        ]

    nodes = [
        *split("q"), *split("k"), *split("v"),
        node("Concat", ["past_key", "k3"], ["present_key"], "keys", axis=2),
        node("Concat", ["past_value", "v3"], ["present_value"], "values", axis=2),
        node("Transpose", ["present_key"], ["k4"], "k_flip", perm=[0, 1, 3, 2]),
        node("MatMul", ["q3", "k4"], ["s"], "scores"),
        node("Div", ["s", "root"], ["s1"], "scale"),
        node("Softmax", ["s1"], ["p"], "softmax", axis=-1),
        node("MatMul", ["p", "present_value"], ["o"], "mixed"),
        node("Transpose", ["o"], ["o1"], "o_turn", perm=[0, 2, 1, 3]),
        node("Reshape", ["o1", "together"], ["o2"], "o_reshape"),
        node("MatMul", ["o2", "out.weight"], ["y"], "out"),
    ]  # fmt: skip
    cache = ["n", heads, "past", size]
    return made(
        nodes,
        {"x": (FLOAT, ["n", "t", 6]), "past_key": (FLOAT, cache), "past_value": (FLOAT, cache)},
        {
            "y": ["n", "t", 6],
            "present_key": ["n", heads, "all", size],
            "present_value": ["n", heads, "all", size],
        },
        {f"{n}.weight": (6, width) for n in "qkv"} | {"out.weight": (width, 6)},
        {
            "apart": np.array([0, 0, heads, size]),
            "together": np.array([0, 0, width]),
            "root": np.float32(size**0.5),
        },
    )
