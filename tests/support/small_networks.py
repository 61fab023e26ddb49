"""A small convolutional network, and its student made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_net2net.verification.verdict import Layer
from onnx_net2net.verification.verify import Verdict

Dims = list[Any]
SHAPE: Dims = ["N", 3, 8, 8]


def weight(name: str, *shape: int, seed: int = 0) -> TensorProto:
    values = np.random.default_rng([seed, len(name)]).standard_normal(shape) / 3
    return numpy_helper.from_array(values.astype(np.float32), name)


def model(
    nodes: list[onnx.NodeProto], weights: list[TensorProto], *, inputs: Any = None,
    outputs: Any = None, opset: int = 17,
) -> ModelProto:  # fmt: skip
    info = helper.make_tensor_value_info
    inputs = inputs or [info("x", TensorProto.FLOAT, SHAPE)]
    outputs = outputs or [info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def network(width: int = 4, seed: int = 0) -> ModelProto:
    """Conv, Relu, Conv, pooling, Gemm."""
    return model(
        [
            helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="conv1", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["r"], name="relu"),
            helper.make_node("Conv", ["r", "w2"], ["b"], name="conv2"),
            helper.make_node("GlobalAveragePool", ["b"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="fc", transB=1),
        ],
        [
            weight("w1", width, 3, 3, 3, seed=seed), weight("b1", width, seed=seed),
            weight("w2", 5, width, 3, 3, seed=seed), weight("w3", 7, 5), weight("b3", 7),
        ],
    )  # fmt: skip


def put(m: ModelProto, name: str, values: Any) -> ModelProto:
    """A copy with another value for an initializer."""
    other = ModelProto()
    other.CopyFrom(m)
    at = next(t for t in other.graph.initializer if t.name == name)
    at.CopyFrom(numpy_helper.from_array(np.asarray(values), name))
    return other


def held(m: ModelProto, name: str) -> Any:
    return numpy_helper.to_array(next(t for t in m.graph.initializer if t.name == name)).copy()


def widened(m: ModelProto, source: list[int] | None = None) -> ModelProto:
    """Net2WiderNet of conv1 by hand, with even shares."""
    source = source or [0, 1, 2, 3, 0, 2, 0]
    counts = np.bincount(source)[source].astype(np.float32)
    student = put(m, "w1", held(m, "w1")[source])
    student = put(student, "b1", held(m, "b1")[source])
    return put(student, "w2", held(m, "w2")[:, source] / counts[:, None, None])


def layer(verdict: Verdict, name: str) -> Layer:
    found = verdict.layer(name)
    assert found is not None
    return found
