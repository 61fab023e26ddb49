"""Walks over a graph, and classes of what is one."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_net2net.graph.model import Model
from onnx_net2net.graph.traversal import downstream, upstream
from onnx_net2net.graph.union_find import UnionFind, components
from tools.samples.graph_builder import Net


def diamond() -> Model:
    """x -> a -> b, x -> c; d reads b and c."""
    net = Net("g")
    a = net.op("Relu", net.input("x", "N", 4))
    b, c = net.op("Neg", a), net.op("Exp", "x")
    return Model(net.output("y", net.op("Add", b, c), "N", 4).model())


def test_what_makes_a_tensor() -> None:
    model = diamond()
    (end,) = model.outputs
    ops = [n.op for n in upstream(model, [end])]
    assert sorted(ops) == sorted(n.op for n in model.nodes)
    assert ops[-1] in ("Relu", "Exp")
    short = upstream(model, [end], through=lambda n: n.op != "Neg")
    assert "Relu" not in {n.op for n in short}
    made = {t: n.op for t, n in model.producer.items()}
    short = upstream(model, [end], past=lambda t: made.get(t) != "Exp")
    assert {n.op for n in short}.isdisjoint({"Exp"})


def test_what_reads_a_tensor() -> None:
    uses = downstream(diamond(), "x", lambda n: n.op in ("Relu", "Exp"))
    assert sorted((n.op, slot) for n, slot in uses) == [("Add", 1), ("Neg", 0)]


@pytest.mark.parametrize("seed", range(20))
def test_classes_one_by_one_and_all_at_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 30, (2, 18))
    classes: UnionFind[int] = UnionFind()
    for pair in zip(a.tolist(), b.tolist(), strict=True):
        classes.join(*sorted(map(classes.root, pair)))
    apart = classes.copy()
    assert [classes.root(k) for k in range(30)] == components(30, a, b).tolist()
    apart.join(*range(2))
    assert apart.root(0) == apart.root(1)
    assert [classes.root(k) for k in range(30)] == components(30, a, b).tolist()
