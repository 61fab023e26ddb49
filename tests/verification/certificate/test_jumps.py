"""What is right only up to rounding proves nothing behind an operator that jumps."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from support.certificate_samples import certificate


def model(weight: np.ndarray, *ops: tuple[str, dict[str, int]]) -> ModelProto:
    """x [n, 4] times a weight, and operators one behind the other."""
    nodes, last = [helper.make_node("MatMul", ["x", "w"], ["t0"])], "t0"
    for k, (op, attributes) in enumerate(ops):
        nodes.append(helper.make_node(op, [last], [f"t{k + 1}"], **attributes))
        last = f"t{k + 1}"
    kind = TensorProto.FLOAT if ops[-1][0] != "ArgMax" else TensorProto.INT64
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info(last, kind, None)
    graph = helper.make_graph([*nodes], "g", [x], [y], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


CHAINS = [
    [("Floor", {})],
    [("Sign", {})],
    [("Relu", {}), ("Round", {})],
    [("Cast", {"to": TensorProto.INT32}), ("Cast", {"to": TensorProto.FLOAT})],
    [("ArgMax", {"axis": 1})],
]


@pytest.mark.parametrize("ops", CHAINS, ids=lambda c: c[0][0])
def test_an_ulp_before_a_jump_is_no_rounding(ops: list[tuple[str, dict[str, int]]]) -> None:
    weight = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    moved = weight.copy()
    moved[1, 2] = np.nextafter(moved[1, 2], np.float32(9))
    smooth = ("Relu", {})
    assert certificate(model(weight, smooth), model(moved, smooth)).figures["certificate.rounding"]
    assert certificate(model(weight, *ops), model(weight.copy(), *ops))
    assert not certificate(model(weight, *ops), model(moved, *ops))
