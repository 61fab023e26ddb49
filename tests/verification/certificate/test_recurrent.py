"""The certificate on recurrent layers: grown units are proved, wrong ones are not."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_net2net as n2n
from support.faults import damaged, proved, same
from support.fused_models import Net

C, H = 4, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "RNN": ("RNN", {}),
    "GRU": ("GRU", {}),
    "GRU, late reset": ("GRU", {"linear_before_reset": 1}),
    "LSTM": ("LSTM", {}),
    "LSTM, peepholes": ("LSTM", {"peepholes": 1}),
    "LSTM, both ways": ("LSTM", {"direction": "bidirectional"}),
    "GRU, backwards": ("GRU", {"direction": "reverse"}),
}


@cache
def teacher(name: str) -> onnx.ModelProto:
    op, attributes = CASES[name]
    attributes = dict(attributes)
    net, q, peepholes = Net(), GATES[op], attributes.pop("peepholes", 0)
    d = 2 if attributes.get("direction") == "bidirectional" else 1
    x = net.linear("x", 3, C)
    more = ["", "", "", net.w(d, 3 * H)] if peepholes else []
    weights = net.w(d, q * H, C), net.w(d, q * H, H), net.w(d, 2 * q * H)
    y = net.op(op, x, *weights, *more, hidden_size=H, **attributes)
    y = net.op("Transpose", y, perm=[0, 2, 1, 3])
    y = net.op("Reshape", y, net.constant(np.array([0, 0, -1])))
    return net.model(net.linear(y, d * H, 3))


def student(name: str, **options: Any) -> onnx.ModelProto:
    op = CASES[name][0]
    node = next(n.name for n in teacher(name).graph.node if n.op_type == op)
    return n2n.widen(teacher(name), node=node, width=8, verify="off", **options)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("split", ["zero-sum", "even"])
def test_more_units(name: str, split: str) -> None:
    assert proved(teacher(name), student(name, split=split))


def test_units_of_its_own_are_no_suspects_but_damage_is() -> None:
    fresh = student("LSTM", init="fresh")
    assert not n2n.verify(teacher("LSTM"), fresh).layer("certificate").figures["suspect"]
    wrong = onnx.ModelProto()
    wrong.CopyFrom(fresh)
    lstm = next(n for n in wrong.graph.node if n.op_type == "LSTM")
    tensor = next(t for t in wrong.graph.initializer if t.name == lstm.input[1])
    weights = onnx.numpy_helper.to_array(tensor).copy()
    weights[0, 0, 0] *= 1.001  # of a unit that the teacher has
    tensor.CopyFrom(onnx.numpy_helper.from_array(weights, tensor.name))
    assert n2n.verify(teacher("LSTM"), wrong).layer("certificate").figures["suspect"]


@pytest.mark.parametrize("name", CASES)
def test_wider_data(name: str) -> None:
    assert proved(teacher(name), n2n.widen(teacher(name), node="n0", width=7, verify="off"))


def test_a_student_of_a_student() -> None:
    first = student("LSTM")
    node = next(n.name for n in first.graph.node if n.op_type == "LSTM")
    second = n2n.widen(first, node=node, width=11, verify="off", seed=4)
    assert proved(first, second)
    assert proved(teacher("LSTM"), second)


@pytest.mark.parametrize("name", CASES)
def test_no_fault_is_proved(name: str) -> None:
    count = 0
    for fault, wrong in damaged(student(name), teacher(name)):
        try:
            found = proved(teacher(name), wrong)
        except n2n.ModelError:
            continue
        count += 1
        assert not found or same(teacher(name), wrong), fault
    assert count > 15
