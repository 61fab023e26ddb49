"""Models run in a process of their own, which may die."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_net2net.verification.runtime import process
from onnx_net2net.verification.runtime.process import DiedError, RunError, running
from onnx_net2net.verification.runtime.sessions import Session
from onnx_net2net.verification.sides import Side
from onnx_net2net.verification.verify import Claim, Status, verify


def dividing(fatal: int | None, shape: list[Any] | None = None) -> ModelProto:
    """x plus a share that no int64 holds where L is `fatal`: onnxruntime dies of the division."""
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["length"]),
        helper.make_node("Sub", ["length", "fatal"], ["gap"]),
        helper.make_node("Div", ["least", "gap"], ["share"]),
        helper.make_node("Cast", ["share"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "number"], ["y"]),
    ]
    numbers = {"one": 1, "fatal": 1 + (10**6 if fatal is None else fatal), "least": -(2**63)}
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, shape or ["N", "L"])],
        [info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.int64(v), n) for n, v in numbers.items()],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def test_a_size_at_which_the_runtime_dies_is_a_fact() -> None:
    verdict = verify(dividing(12), dividing(12))
    runs = verdict.layer("runtime")
    assert runs is not None
    assert runs.status is Status.PASSED
    assert "onnxruntime died (SIGFPE) running the teacher at 3x12" in runs.detail
    assert "3x12" not in runs.figures["sizes"]
    assert verdict.claim is Claim.PROVED


def test_a_teacher_that_dies_everywhere_ran_nowhere() -> None:
    verdict = verify(dividing(8, [2, 8]), dividing(8, [2, 8]))
    runs = verdict.layer("runtime")
    assert runs is not None
    assert runs.status is Status.SKIPPED
    assert verdict.claim is Claim.PROVED
    assert "nothing was run" in str(verdict)
    assert "--shape" in str(verdict)


def test_a_student_of_which_the_runtime_dies_is_different() -> None:
    verdict = verify(dividing(None), dividing(8))
    assert verdict.claim is Claim.DIFFERENT
    assert "SIGFPE" in str(verdict)


def test_a_process_serves_again_and_is_replaced() -> None:
    x = {"x": np.ones((2, 5), np.float32)}
    with running() as first:
        Session(first, Side.of(dividing(8))).run(x)
        number = first._process._child.pid  # type: ignore[union-attr]
    with running() as second:
        session = Session(second, Side.of(dividing(8)))
        assert second._process._child.pid == number  # type: ignore[union-attr]
        with pytest.raises(RunError, match="Invalid rank"):
            session.run({"x": np.ones(5, np.float32)})
        os.kill(number, signal.SIGKILL)
        with pytest.raises(DiedError) as died:
            session.run(x)
        assert not died.value.crashed  # as for lack of memory
        assert session.run(x)[0].shape == (2, 5)


def test_an_error_ends_the_process() -> None:
    with pytest.raises(KeyError), running():
        raise KeyError
    with running():
        assert not process._idle


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_PATIENCE", 0.0)
    with running() as runtime, pytest.raises(DiedError, match="gave no answer") as died:
        Session(runtime, Side.of(dividing(8)))
    assert not died.value.crashed


def test_strings_come_back_as_they_are() -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g",
        [info("x", TensorProto.STRING, [2])], [info("y", TensorProto.STRING, [2])],
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    with running() as runtime:
        (found,) = Session(runtime, Side.of(model)).run({"x": np.array(["a", "b"], object)})
    assert found.tolist() == ["a", "b"]
