"""Sizes and numbers at which a teacher can run are found first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_net2net.inference import validity
from onnx_net2net.verification.runtime.inputs import integer_numbers, random_feed
from onnx_net2net.verification.sides import Side
from onnx_net2net.verification.verify import Status, verify


def cached(total: Any) -> ModelProto:
    """Cache and new values behind one another, times a mask of the total length."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Concat", ["past", "x"], ["all"], axis=1),
            helper.make_node("Cast", ["mask"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["all", "number"], ["y"]),
        ],
        "g",
        [
            info("x", TensorProto.FLOAT, ["batch", "sequence_len"]),
            info("mask", TensorProto.INT64, ["batch", total]),
            info("past", TensorProto.FLOAT, ["batch", "past_sequence_len"]),
        ],
        [info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize(
    "total",
    ["past_sequence_len + sequence_len", "past_seq_len + seq_len", "total_sequence_length", None],
)
def test_a_mask_is_as_long_as_past_and_present(total: Any) -> None:
    found = verify(cached(total), cached(total)).layer("runtime")
    assert found is not None
    assert found.status is Status.PASSED
    for sizes in found.figures["sizes"]:
        new, mask, past = (int(s.split("x")[1]) for s in _three(sizes))
        assert mask == past + new


def _three(sizes: str) -> list[str]:
    parts = sizes.split(", ")
    return parts if len(parts) == 3 else [parts[0], parts[1], parts[0]]


def test_one_length_after_the_other() -> None:
    """A window that is longer than what is tried first."""
    info = helper.make_tensor_value_info
    window = numpy_helper.from_array(np.ones((1, 1, 500), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])], "g",
        [info("x", TensorProto.FLOAT, ["N", 1, "T"])], [info("y", TensorProto.FLOAT, None)],
        [window],
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    found = verify(model, model).layer("runtime")
    assert found is not None
    assert found.status is Status.PASSED


def rated() -> ModelProto:
    """Shifts the sign where the sampling rate is 16000, and does not run where it is below 8000."""
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Equal", ["rate", "usual"], ["is"]),
        helper.make_node("Cast", ["is"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["x", "number"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [info("x", TensorProto.FLOAT, ["N", 4]), info("rate", TensorProto.INT64, [])],
        [info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.int64(16000), "usual")],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def test_integers_take_what_they_are_compared_with() -> None:
    side = Side.of(rated())
    facts = validity.checked(side.source, side.model)
    tried = integer_numbers(side.model, facts[0])
    at = {"x": (2, 4), "rate": ()}
    values = {int(random_feed(side.model, at, "normal", 1, n).values["rate"]) for n in tried}
    assert 16000 in values
    student = rated()
    student.graph.node[2].op_type = "Add"
    assert verify(rated(), student).equivalent is False


def test_something_of_a_mask_is_left() -> None:
    side = Side.of(cached(None))
    sizes = {"x": (3, 1), "mask": (3, 2), "past": (3, 1)}
    for seed in range(9):
        assert random_feed(side.model, sizes, "normal", seed, {}).values["mask"].any(1).all()
