"""The certificate's rules for fused operators: right students are proved, wrong ones are not."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from test_fused_models import CASES, Net, run

import onnx_net2net as n2n
from onnx_net2net.coupling.catalogue import space_name, spaces
from onnx_net2net.files.reader import read
from onnx_net2net.inference.analysis import Analysis

# the certificate has no rule for these
OPEN = ("MoE", "MoE, gated")


def _masked() -> onnx.ModelProto:
    """A mask for each head, keys from a fused product."""
    net, h, d = Net(), 4, 6
    x = net.linear("x", 3, 16)
    q, v = net.linear(x, 16, h * d), net.linear(x, 16, h * d)
    k = net.op("com.microsoft.FusedMatMul", x, net.w(h * d, 16), transB=1, alpha=0.5)
    mask = net.w(1, h, 5, 5)
    y = net.op("Attention", q, k, v, mask, q_num_heads=h, kv_num_heads=h, softcap=2.0)
    return net.model(net.linear(y, h * d, 3))


def _packed_rotary() -> onnx.ModelProto:
    """Queries, keys and values in one tensor, turned inside the operator."""
    net, h, d = Net(), 4, 16
    x = net.linear(net.linear("x", 3, 16), 16, (h + 4) * d)
    lengths = [net.constant(np.array([4, 4], "i4")), net.constant(np.array(5, "i4"))]
    y = net.op("com.microsoft.GroupQueryAttention", x, "", "", "", "", *lengths, net.w(9, d // 2),
               net.w(9, d // 2), num_heads=h, kv_num_heads=2, do_rotary=1, outputs=3)  # fmt: skip
    return net.model(net.linear(y, h * d, 3))


MORE = {"a mask by head": _masked, "packed and turned": _packed_rotary}


@cache
def teacher(name: str) -> onnx.ModelProto:
    return MORE[name]() if name in MORE else CASES[name][0]()


def names(model: onnx.ModelProto) -> list[str]:
    return [space_name(s, nodes[0]) for s, _, nodes in spaces(Analysis(read(model)))[0]]


def proved(a: onnx.ModelProto, b: onnx.ModelProto) -> bool:
    return bool(n2n.verify(a, b, layers="certificate"))


STUDENTS = [
    (name, space) for name in (*CASES, *MORE) if name not in OPEN for space in names(teacher(name))
]


@cache
def student(name: str, space: str) -> onnx.ModelProto:
    return n2n.widen(teacher(name), space=space, ratio=1.5, verify="off", seed=3)


@pytest.mark.parametrize(("name", "space"), STUDENTS)
def test_every_space_is_proved(name: str, space: str) -> None:
    assert proved(teacher(name), student(name, space))


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    found = onnx.ModelProto()
    found.CopyFrom(model)
    return found


def damaged(model: onnx.ModelProto, before: onnx.ModelProto) -> Iterator[tuple[str, object]]:
    """One fault each: in weights, attributes, and nodes that growing put in."""
    rng = np.random.default_rng(5)
    old = {t.name: t.raw_data for t in before.graph.initializer}
    for k, t in enumerate(model.graph.initializer):
        values = numpy_helper.to_array(t)
        if values.size < 2 or (t.name not in old and values.dtype.kind != "f"):
            continue
        wrong = [("one entry", values.copy())]
        at = int(rng.integers(values.size))
        flat = wrong[0][1].reshape(-1)
        flat[at] = flat[at] * 1.01 + 0.01 if values.dtype.kind == "f" else flat[at] ^ 1
        for axis in range(values.ndim):
            n = values.shape[axis]
            wrong.append((f"rolled {axis}", np.roll(values, 1, axis)))
            wrong.append((f"rolled by half {axis}", np.roll(values, n // 2, axis)))
            swapped = values.copy().swapaxes(0, axis)
            swapped[[0, n - 1]] = swapped[[n - 1, 0]]
            wrong.append((f"ends swapped {axis}", swapped.swapaxes(0, axis)))
        for what, array in wrong:
            if not np.array_equal(array, values):
                found = copied(model)
                found.graph.initializer[k].CopyFrom(numpy_helper.from_array(array, t.name))
                yield f"{t.name} {what}", found
    for k, node in enumerate(model.graph.node):
        for j, a in enumerate(node.attribute):
            for value in (a.f * 1.01, a.f * 2) if a.f else (a.i * 2, a.i // 2, 1 - a.i):
                found = copied(model)
                spot = found.graph.node[k].attribute[j]
                if a.type == a.FLOAT:
                    spot.f = value
                elif a.type == a.INT:
                    spot.i = max(0, int(value))
                elif a.type == a.STRING:
                    spot.s = b"forward" if a.s == b"reverse" else b"reverse"
                else:
                    spot.ints[0], spot.ints[-1] = spot.ints[-1], spot.ints[0]
                if found != model:
                    yield f"{node.name}.{a.name} {value}", found
        if node.op_type in ("Mul", "Sub", "Div") and len(node.input) == 2:
            found = copied(model)
            del found.graph.node[k].input[:]
            found.graph.node[k].input.extend(node.input[:1])
            found.graph.node[k].op_type = "Identity"
            yield f"{node.name} left out", found


def same(a: onnx.ModelProto, b: object) -> bool:
    want, got = run(a), run(b)  # type: ignore[arg-type]
    return want.shape == got.shape and np.abs(want - got).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize(("name", "space"), STUDENTS)
def test_no_fault_is_proved(name: str, space: str) -> None:
    good, count = student(name, space), 0
    for fault, wrong in damaged(good, teacher(name)):
        try:
            found = proved(teacher(name), wrong)  # type: ignore[arg-type]
        except n2n.ModelError:
            continue
        count += 1
        # what is not read, as rows of a table behind the last position, is no fault
        assert not found or same(teacher(name), wrong), fault
    assert count > 20
