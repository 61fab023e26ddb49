"""Networks with an operator that works along the axis that grows."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper


def network(op: str, opset: int = 17, **attributes: object) -> onnx.ModelProto:
    """Gemm, the operator, and (where the axis is still there) Gemm."""
    rng = np.random.default_rng(0)
    weights = {"a": (6, 8), "b": (8,), "c": (8, 3)}
    inits = [
        numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n)
        for n, s in weights.items()
    ]
    ends = op.startswith(("Reduce", "Arg"))
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"], name="first"),
        helper.make_node(op, ["h"], ["y" if ends else "s"], name="op", **attributes),
    ]
    if not ends:
        nodes.append(helper.make_node("Gemm", ["s", "c"], ["y"], name="last"))
    shape = ["N", 3] if not ends else ["N", 1] if attributes.get("keepdims", 1) else ["N"]
    kind = TensorProto.INT64 if op.startswith("Arg") else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", kind, shape)], inits if not ends else inits[:2],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])


def run(model: onnx.ModelProto) -> np.ndarray:
    x = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    return ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


CASES = [
    ("Softmax", 17, {"axis": -1}),
    ("Softmax", 11, {}),
    ("LogSoftmax", 17, {"axis": 1}),
    ("LpNormalization", 17, {"axis": 1, "p": 2}),
    ("LpNormalization", 17, {"axis": -1, "p": 1}),
    ("ReduceL2", 17, {"axes": [1]}),
    ("ReduceL1", 17, {"axes": [1], "keepdims": 0}),
    ("ReduceSumSquare", 17, {"axes": [1]}),
    ("ReduceLogSumExp", 17, {"axes": [1]}),
]
