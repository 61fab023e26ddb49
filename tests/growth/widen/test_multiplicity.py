"""Operators that work along a grown axis: copies are made to count as one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_net2net as n2n
from onnx_net2net.operators.table import TABLE


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


@pytest.mark.parametrize(("op", "opset", "attributes"), CASES)
@pytest.mark.parametrize("split", ["zero-sum", "even"])
def test_a_width_behind_it_grows(op: str, opset: int, attributes: dict, split: str) -> None:
    teacher = network(op, opset, **attributes)
    student = n2n.widen(teacher, node="first", width=13, split=split, verify="off")
    onnx.checker.check_model(student, full_check=True)
    assert n2n.verify(teacher, student).equivalent is not False
    np.testing.assert_allclose(run(teacher), run(student), rtol=2e-5, atol=1e-6)


def test_a_softmax_in_a_whole_network_is_written() -> None:
    teacher = network("Softmax", axis=-1)
    assert n2n.verify(teacher, n2n.widen(teacher, node="first", width=16, seed=1)).equivalent


def test_without_the_correction_it_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE, "Softmax", replace(TABLE["Softmax"], evens={}))
    with pytest.raises(n2n.NotEquivalentError):
        n2n.widen(network("Softmax", axis=-1), node="first", width=13)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
def test_one_of_equals_is_refused(op: str, last: int) -> None:
    """A copy may be larger by a rounding than its original, and its position would come out."""
    teacher = network(op, axis=1, select_last_index=last)
    with pytest.raises(n2n.RefusalError, match="works across this axis"):
        n2n.widen(teacher, node="first", width=13)


def test_new_units_of_other_kinds_do_not_pass() -> None:
    with pytest.raises(n2n.RefusalError, match="do not pass Softmax"):
        n2n.widen(network("Softmax", axis=-1), node="first", width=13, init="fresh")
