"""Layers around fused operators: every space of each model grows and computes the same."""

from __future__ import annotations

import numpy as np
import pytest

import onnx_net2net as n2n
from onnx_net2net.coupling.catalogue import space_name, spaces
from onnx_net2net.files.reader import read
from onnx_net2net.inference.analysis import Analysis
from support import quantised_lstm as reference
from support.fused_models import CASES, D, quantised_lstm, run


@pytest.mark.parametrize("name", CASES)
def test_every_space(name: str) -> None:
    build, count = CASES[name]
    model = build()
    want = run(model)
    names = [space_name(s, nodes[0]) for s, _, nodes in spaces(Analysis(read(model)))[0]]
    assert len(names) == count, names
    for space in names:
        student = n2n.widen(model, space=space, ratio=1.4, verify="off")
        assert student.ByteSize() > model.ByteSize()
        np.testing.assert_allclose(run(student), want, rtol=0, atol=2e-6 * np.abs(want).max())


@pytest.mark.parametrize("space", ["n0", "n1"])
def test_quantised_recurrence_by_its_definition(space: str) -> None:
    """Weights of all 8 bits, which onnxruntime's kernels of some CPUs cannot sum exactly."""
    feed = {"x": np.random.default_rng(1).normal(size=(2, 5, 3)).astype("f4")}
    model = quantised_lstm(1.0)
    student = n2n.widen(model, space=space, ratio=1.4, verify="off")
    want = reference.run(model, feed)
    np.testing.assert_allclose(reference.run(student, feed), want, rtol=0, atol=1e-6)
    # and where onnxruntime can sum them, the definition is what it computes
    narrow = quantised_lstm(0.5)
    np.testing.assert_allclose(run(narrow), reference.run(narrow, feed), rtol=0, atol=1e-3)


def test_heads_are_called_heads() -> None:
    found = spaces(Analysis(read(CASES["grouped attention"][0]())))[0]
    assert [space_name(s, nodes[0]) for s, _, nodes in found] == [
        "n0", "n1", "n1:heads", "n1:heads2", "n3",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["attention", "MultiHeadAttention"])
def test_the_default_scale_stays_the_old_heads(name: str) -> None:
    student = n2n.widen(CASES[name][0](), node="n1", ratio=1.5, verify="off")
    (fused,) = (n for n in student.graph.node if "Attention" in n.op_type)
    scale = {a.name: a.f for a in fused.attribute}["scale"]
    assert scale == np.float32(1 / np.sqrt(D))
