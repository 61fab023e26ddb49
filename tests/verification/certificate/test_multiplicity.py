"""The certificate on operators whose copies were made to count as one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnx_net2net as n2n
from support.multiplicity_cases import CASES, network, run


def proved(a: onnx.ModelProto, b: onnx.ModelProto) -> n2n.Verdict:
    return n2n.verify(a, b, layers="certificate")


def student(teacher: onnx.ModelProto, width: int = 13, **options: object) -> onnx.ModelProto:
    return n2n.widen(teacher, node="first", width=width, verify="off", **options)


@pytest.mark.parametrize(("op", "opset", "attributes"), CASES)
@pytest.mark.parametrize("width", [9, 16, 61])
def test_it_is_proved(op: str, opset: int, attributes: dict, width: int) -> None:
    teacher = network(op, opset, **attributes)
    found = proved(teacher, student(teacher, width))
    assert found, str(found)
    assert found.figures["certificate.rounding"] < 2.0**-21


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "LpNormalization"])
def test_a_student_of_a_student(op: str) -> None:
    teacher = network(op, axis=-1)
    assert proved(teacher, student(student(teacher), 20, seed=3))


def damaged(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.ModelProto]]:
    """One fault each, in what growing put beside the operator, and in the weights."""
    for k, t in enumerate(model.graph.initializer):
        values = numpy_helper.to_array(t)
        for name, wrong in (
            ("one entry", values + np.eye(1, values.size, dtype="f4").reshape(values.shape) * 0.01),
            ("one ulp of a whole", values * np.float32(1.00001)),
            ("rolled", np.roll(values, 1, -1)),
            ("reversed", values[..., ::-1]),
            ("negative", -values),
            ("all of one", np.full_like(values, values.reshape(-1)[0])),
        ):
            if not np.array_equal(wrong, values):
                found = onnx.ModelProto()
                found.CopyFrom(model)
                found.graph.initializer[k].CopyFrom(numpy_helper.from_array(wrong, t.name))
                yield f"{t.name} {name}", found
    for k, node in enumerate(model.graph.node):
        others = {"Sub": "Add", "Add": "Sub", "Mul": "Div", "Div": "Mul"}.get(node.op_type)
        if others is None:
            continue
        for op, inputs in (("Identity", node.input[:1]), (others, node.input)):
            found = onnx.ModelProto()
            found.CopyFrom(model)
            here = found.graph.node[k]
            new = helper.make_node(op, inputs, node.output, name=node.name)
            here.CopyFrom(new)
            yield f"{node.name} as {op}", found


@pytest.mark.parametrize(("op", "opset", "attributes"), CASES)
def test_no_fault_is_proved(op: str, opset: int, attributes: dict) -> None:
    teacher = network(op, opset, **attributes)
    want, count = run(teacher), 0
    for fault, wrong in damaged(student(teacher)):
        count += 1
        got = run(wrong)
        if want.dtype.kind == "i":
            equal = want.shape == got.shape and bool((want == got).all())
        else:
            equal = bool(np.abs(want - got).max() <= 2e-6 * np.abs(want).max())
        # a norm does not see a sign; a Softmax does not see what all logits have in common
        assert equal or not proved(teacher, wrong), fault
    assert count > 5


def chain(*ops: tuple[str, np.ndarray]) -> onnx.ModelProto:
    """x, some operators with a constant each, y; a layer before and behind."""
    rng = np.random.default_rng(0)
    inits = [numpy_helper.from_array(rng.normal(size=(6, 6)).astype("f4"), n) for n in "ab"]
    nodes, last = [helper.make_node("MatMul", ["x", "a"], ["h"], name="first")], "h"
    for k, (op, value) in enumerate(ops):
        inits.append(numpy_helper.from_array(value.astype("f4"), f"c{k}"))
        nodes.append(helper.make_node(op, [last, f"c{k}"], [f"h{k}"]))
        last = f"h{k}"
    nodes.append(helper.make_node("MatMul", [last, "b"], ["y"]))
    x, y = (helper.make_tensor_value_info(n, 1, ["N", 6]) for n in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], inits)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize(("first", "second"), [("Sub", "Add"), ("Add", "Sub"), ("Div", "Mul")])
def test_what_is_undone_is_nothing_unless_it_is_lost(first: str, second: str) -> None:
    some = np.array([1, 2, 3, 1, 2, 3])
    teacher = chain()
    assert proved(teacher, chain((first, some), (second, some)))
    assert not proved(teacher, chain((first, some), (second, some[::-1])))
    assert not proved(teacher, chain((first, some), (second, some * 1.001)))
    assert not proved(teacher, chain((first, some * 1e9), (second, some * 1e9)))
