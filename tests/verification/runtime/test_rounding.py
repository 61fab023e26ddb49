"""Rounding that a proof passes over is carried to the outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_net2net.verification.runtime.noise import shaken
from onnx_net2net.verification.sides import Side
from onnx_net2net.verification.verify import Claim, Status, verify


def amplifier(weights: Any, gain: float) -> ModelProto:
    """y = gain * (x W)[:, 1]."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("MatMul", ["h", "v"], ["y"]),
        ],
        "g", [info("x", TensorProto.FLOAT, ["N", 2])], [info("y", TensorProto.FLOAT, ["N", 1])],
        [
            numpy_helper.from_array(np.array(weights, np.float32), "w"),
            numpy_helper.from_array(np.array([[0], [gain]], np.float32), "v"),
        ],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def test_a_small_effect_is_proved_to_rounding() -> None:
    other = np.ones((2, 2), np.float32)
    other[0, 1] = np.nextafter(other[0, 1], np.float32(2))
    verdict = verify(amplifier(np.ones((2, 2)), 1.0), amplifier(other, 1.0))
    layer = verdict.layer("rounding")
    assert layer is not None
    assert (verdict.claim, layer.status) == (Claim.TO_ROUNDING, Status.PASSED)
    assert 0 < layer.figures["estimate"] < 1e-5
    assert "as estimated from" in layer.detail
    assert "bound" not in str(verdict)


def test_an_effect_over_the_cap_is_none_to_pass_over() -> None:
    """A weight of 1e-7 beside 1.0 that is lost: nothing of its column, all of the output."""
    info = helper.make_tensor_value_info

    def made(rows: Any, back: Any) -> ModelProto:
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "w"], ["h"]),
                helper.make_node("MatMul", ["h", "v"], ["k"]),
                helper.make_node("MatMul", ["k", "u"], ["y"]),
            ],
            "g", [info("x", TensorProto.FLOAT, ["N", 2])],
            [info("y", TensorProto.FLOAT, ["N", 1])],
            [
                numpy_helper.from_array(np.array(rows, np.float32), "w"),
                numpy_helper.from_array(np.array(back, np.float32), "v"),
                numpy_helper.from_array(np.array([[-1e7], [1e7]], np.float32), "u"),
            ],
        )  # fmt: skip
        return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])

    teacher = made([[1, 0], [0, 1]], [[1, 1], [0, 1e-7]])
    student = made([[1, 0, 0], [0, 1, 1]], [[1, 1], [0, 0.5], [0, -0.5]])
    verdict = verify(teacher, student)
    assert verdict.claim in (Claim.CANNOT_TELL, Claim.DIFFERENT)
    assert verify(teacher, student, layers="certificate").claim is Claim.CANNOT_TELL


def test_a_row_is_moved_by_its_largest_weight() -> None:
    side = Side.of(amplifier([[1, 1e-7], [0, 1]], 1.0))
    moved = shaken(side, ["w"], 0, 1e-3)["w"]
    assert np.abs(moved - np.array([[1, 1e-7], [0, 1]])) == pytest.approx(1e-3, rel=1e-3)
