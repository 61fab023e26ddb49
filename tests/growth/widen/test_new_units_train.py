"""Whether new units train: a linear layer, ReLU, a linear layer, in numpy."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest

from onnx_net2net.files.patch import apply
from onnx_net2net.files.reader import read
from onnx_net2net.growth.widen.step import widen_step
from onnx_net2net.growth.widen.units import Row
from onnx_net2net.growth.widen.verb import Widen
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.plans.plan import plan
from onnx_net2net.typing import Array
from support.new_units import EXACT, arrays, names, student
from tools.samples.graph_builder import Net


@cache
def small() -> onnx.ModelProto:
    net = Net("small", opset=18)
    y = net.op("Relu", net.gemm(net.input("x", "N", 6), "a", 6, 8))
    return net.output("y", net.gemm(y, "b", 8, 3), "N", 3).model()


class Trained:
    """The model above in float64 under SGD or Adam; `steps` of the mean squared error."""

    def __init__(self, model: onnx.ModelProto, adam: bool = False) -> None:
        found = arrays(model)
        order = ("a.weight", "a.bias", "b.weight", "b.bias")
        self.p = [found[n].astype(np.float64) for n in order]
        self.adam = [(np.zeros_like(p), np.zeros_like(p)) for p in self.p] if adam else None
        rng = np.random.default_rng(0)
        self.x, self.wanted = rng.standard_normal((64, 6)), rng.standard_normal((64, 3))
        self.count = 0

    def gradients(self) -> list[Array]:
        w, b, v, c = self.p
        z = self.x @ w.T + b
        h = np.maximum(z, 0)
        out = 2 * (h @ v.T + c - self.wanted) / len(self.x)
        inner = (out @ v) * (z > 0)
        return [inner.T @ self.x, inner.sum(0), out.T @ h, out.sum(0)]

    def steps(self, n: int, rate: float = 0.05) -> Trained:
        for _ in range(n):
            self.count += 1
            for k, g in enumerate(self.gradients()):
                step = g
                if self.adam is not None:
                    m, v = self.adam[k]
                    m[:], v[:] = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
                    step = m / (1 - 0.9**self.count)
                    step = step / (np.sqrt(v / (1 - 0.999**self.count)) + 1e-8) * 0.1
                self.p[k] = self.p[k] - rate * step
        return self


def reached(model: onnx.ModelProto) -> tuple[bool, bool]:
    """Whether the new units' incoming and outgoing weights get gradients within two steps."""
    run, rows, columns = Trained(model), False, False
    for _ in range(2):
        g = run.gradients()
        rows |= bool(g[0][8:].any(1).all())
        columns |= bool(g[2][:, 8:].any(0).all())
        run.steps(1)
    return rows, columns


@pytest.mark.parametrize("how", EXACT, ids=names)
@pytest.mark.parametrize("seed", range(3))
def test_no_exact_init_is_dead(how: dict[str, Any], seed: int) -> None:
    assert reached(student(small(), "a", width=14, seed=seed, **how)) == (True, True)


def test_units_that_are_zero_in_and_out_are_dead() -> None:
    """Why zero rows are not offered; and the test above can fail."""
    step = widen_step(Analysis(read(small())), Widen(node="a", width=14), Row.ZERO)
    assert reached(apply(read(small()), step.patch).to_proto()) == (False, False)


def test_twins_get_both_gradients_at_once() -> None:
    g = Trained(student(small(), "a", width=14, init="twin")).gradients()
    assert g[0][8:].any(1).all()
    assert g[2][:, 8:].any(0).all()
    g = Trained(student(small(), "a", width=14, init="fresh")).gradients()
    assert not g[0][8:].any()


def apart(adam: bool, steps: int = 200, **how: Any) -> float:
    """How far copies are from their sources after training, relative to these."""
    made = plan(small(), [{"node": "a", "width": 14, **how}])
    found = made.apply(verify="off")
    assert isinstance(found, onnx.ModelProto)
    of = made.steps[0].units.source
    w = Trained(found, adam).steps(steps).p[0]
    return float(np.linalg.norm(w[8:] - w[of]) / np.linalg.norm(w[of]))


@pytest.mark.parametrize("adam", [False, True])
def test_even_copies_stay_equal_and_others_part(adam: bool) -> None:
    assert apart(adam, split="even", mapping=[0, 1, 2, 3, 4, 5]) < 1e-12
    assert apart(adam, split="even") < 1e-5  # one of three shares differs by an ulp
    assert apart(adam, split="zero-sum") > 0.1
    assert apart(adam, split="one-hot") > 0.1
    assert apart(adam, split="even", noise=0.05) > 0.01
    assert apart(adam, split="uneven") > 0.01


def test_adam_hardly_sees_uneven_shares() -> None:
    """It divides each gradient by its size, so a share that scales it makes no difference."""
    assert apart(True, 1, split="uneven") < 1e-4 * apart(True, 1, split="zero-sum")
    assert apart(False, 1, split="uneven") > 0.1 * apart(False, 1, split="zero-sum")
