"""The certificate's rules for fused operators: right students are proved, wrong ones are not."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest

import onnx_net2net as n2n
from onnx_net2net.coupling.catalogue import space_name, spaces
from onnx_net2net.files.reader import read
from onnx_net2net.inference.analysis import Analysis
from support.faults import damaged, proved, same
from support.fused_models import CASES, Net

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


STUDENTS = [
    (name, space) for name in (*CASES, *MORE) if name not in OPEN for space in names(teacher(name))
]


@cache
def student(name: str, space: str) -> onnx.ModelProto:
    return n2n.widen(teacher(name), space=space, ratio=1.5, verify="off", seed=3)


@pytest.mark.parametrize(("name", "space"), STUDENTS)
def test_every_space_is_proved(name: str, space: str) -> None:
    assert proved(teacher(name), student(name, space))


@pytest.mark.parametrize(("name", "space"), STUDENTS)
def test_no_fault_is_proved(name: str, space: str) -> None:
    good, count = student(name, space), 0
    for fault, wrong in damaged(good, teacher(name)):
        try:
            found = proved(teacher(name), wrong)
        except n2n.ModelError:
            continue
        count += 1
        # what is not read, as rows of a table behind the last position, is no fault
        # (rounding that a quantised state amplifies is the student's own)
        assert not found or same(teacher(name), wrong) or same(good, wrong), fault
    assert count > 20
