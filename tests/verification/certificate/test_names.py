"""Names: equal ones are looked at, and numbers are what their bits say."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_net2net as n2n
from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate import names


def model(constant: Array, *nodes: onnx.NodeProto, kind: int = TensorProto.FLOAT) -> bytes:
    """`x` [3, 2] and `w` go in, `y` comes out."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", kind, [3, 2])], [info("y", kind, None)],
        [numpy_helper.from_array(constant, "w")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def node(op: str, *inputs: str, out: str = "y", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [out], **attributes)


def proved(a: bytes, b: bytes) -> bool:
    return n2n.verify(a, b, layers="certificate").equivalent is True


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.UINT64])
@pytest.mark.parametrize("op", ["Add", "Mul", "MatMul", "Concat", "Div"])
def test_integers_are_not_read_as_floats(op: str, kind: int) -> None:
    big = np.array([[2**53, 1], [3, 2**60]], helper.tensor_dtype_to_np_dtype(kind))
    made = node(op, "x", "w", **({"axis": 0} if op == "Concat" else {}))
    one, two = (big if op == "MatMul" else big[:1], big.copy())
    two[0, 0] += 1
    two = two if op == "MatMul" else two[:1]
    assert proved(model(one, made, kind=kind), model(one, made, kind=kind))
    assert not proved(model(one, made, kind=kind), model(two, made, kind=kind))


NAN = np.array([0x7FC00000, 0x7FC00001], "u4").view("f4")


@pytest.mark.parametrize("pair", [(0.0, -0.0), (NAN[0], NAN[1])], ids=["zero", "nan"])
@pytest.mark.parametrize(
    "how",
    [
        [node("Concat", "x", "w", axis=0, out="a")],
        [node("Add", "x", "x", out="b"), node("Concat", "w", "b", axis=0, out="a")],
        [node("Max", "x", "w", out="a")],
        [node("Pad", "x", "p", "one", out="a")],
        [node("Expand", "w", "s", out="c"), node("Concat", "x", "c", axis=0, out="a")],
    ],
    ids=["last", "first", "max", "pad", "expanded"],
)
def test_signs_of_zeros_and_payloads_count(
    how: list[onnx.NodeProto], pair: tuple[float, float]
) -> None:
    def made(value: float) -> bytes:
        proto = onnx.ModelProto.FromString(
            model(np.full((1, 2), value, "f4"), *how, node("Reciprocal", "a"))
        )
        for name, array in (
            ("p", np.array([0, 0, 1, 0])), ("s", np.array([2, 2])), ("one", np.array(value, "f4")),
        ):  # fmt: skip
            proto.graph.initializer.append(numpy_helper.from_array(array, name))
        return proto.SerializeToString()

    assert proved(made(pair[0]), made(pair[0]))
    assert not proved(made(pair[0]), made(pair[1]))


def test_labels_are_keyed_and_audited() -> None:
    with names.audited() as book:
        found = names.mix(names.key("a"), names.positions(4))
        book.audit()
        book.note(found[:1], np.zeros(1, np.uint64))  # another name with a label that is taken
        with pytest.raises(names.CollisionError):
            book.audit()


def test_two_names_of_one_label_are_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels of one bit: soon two names share one, and nothing is proved."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((2, 9)).astype("f4")
    good = model(w, node("MatMul", "x", "w", out="a"), node("Relu", "a"))
    assert proved(good, good)
    monkeypatch.setattr(names, "_ONE", np.uint64(63))
    found = n2n.verify(good, good, layers="certificate")
    assert found.equivalent is None
    assert "one label" in str(found)


def test_rows_of_one_name_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rows go by their first bytes alone, the bits behind the names are seen to differ."""
    hashed = names._hashed
    monkeypatch.setattr(names, "_hashed", lambda prefix, row: hashed(prefix, row[:4]))
    rng = np.random.default_rng(0)
    w = rng.standard_normal((2, 9)).astype("f4")
    w[0] = 1.0
    found = n2n.verify(
        model(w, node("MatMul", "x", "w")), model(w * 2 - w * 1, node("MatMul", "x", "w")),
        layers="certificate",
    )  # fmt: skip
    assert found.equivalent is True
    other = w.copy()
    other[1] = w[1, ::-1]
    found = n2n.verify(
        model(w, node("MatMul", "x", "w")), model(other, node("MatMul", "x", "w")),
        layers="certificate",
    )  # fmt: skip
    assert found.equivalent is not True
