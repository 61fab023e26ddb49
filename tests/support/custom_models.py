"""Models with operators of a domain of their own, which no runtime here has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "my.domain"


def between_convolutions(
    operator: str = "Scale", weights: Mapping[str, Sequence[int]] | None = None, width: int = 6,
    outputs: int = 1, **attributes: Any,
) -> onnx.ModelProto:  # fmt: skip
    """Conv, an operator of `my.domain` with weights of these shapes, Conv."""
    rng = np.random.default_rng(0)
    given = {"s": (width,)} if weights is None else dict(weights)
    shapes = {"w1": (width, 3, 3, 3), "b1": (width,), **given, "w2": (4, width, 3, 3)}
    leaves = [
        numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n)
        for n, s in shapes.items()
    ]
    made = ["c", *(f"c{k}" for k in range(1, outputs))]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="conv1"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node(operator, ["b", *given], made, "custom", domain=DOMAIN, **attributes),
        helper.make_node("Conv", ["c", "w2"], ["y"], name="conv2"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 12, 12])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, None, None])
    graph = helper.make_graph(nodes, "g", [x], [y], leaves)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, ir_version=8, opset_imports=opsets)


def initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    """The weight of that name."""
    (found,) = (t for t in model.graph.initializer if t.name == name)
    return found
