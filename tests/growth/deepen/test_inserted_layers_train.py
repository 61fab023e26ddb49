"""Every parameter of an inserted layer gets a gradient."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from support.inserted_layers import array, deepened, written


def gradients(
    student: onnx.ModelProto, names: tuple[str, ...], feed: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Central differences of a random functional of the outputs, for each parameter."""
    fed = onnx.ModelProto()
    fed.CopyFrom(student)
    values = {t.name: numpy_helper.to_array(t) for t in fed.graph.initializer if t.name in names}
    for name, v in values.items():
        fed.graph.input.append(helper.make_tensor_value_info(name, TensorProto.DOUBLE, v.shape))
    session = ort.InferenceSession(fed.SerializeToString(), providers=["CPUExecutionProvider"])
    readout = np.random.default_rng(5).standard_normal(
        session.run(None, {**feed, **values})[0].shape
    )
    found = {}
    for name, v in values.items():
        slope = np.zeros_like(v)
        for at in np.ndindex(v.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = v.copy()
                moved[at] += step
                ends.append((session.run(None, {**feed, **values, name: moved})[0] * readout).sum())
            slope[at] = (ends[0] - ends[1]) / 2e-5
        found[name] = slope
    return found


DOUBLE = written(
    "g (double[6,3,4] x) => (double[6,3,4] y) {"
    " h = MatMul (x, w) a = Relu (h) [last] o = MatMul (a, v) y = Tanh (o) }",
    w=array(4, 4, dtype=np.float64), v=array(4, 4, dtype=np.float64),
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "activation"),
    [("identity", None), ("linear", None), ("pair", "Relu"), ("pair", "silu"), ("shift", None),
     ("residual", "Tanh"), ("residual", "Relu")],
)  # fmt: skip
def test_every_new_parameter_gets_a_gradient_or_the_summary_says_when(
    kind: str, activation: str | None
) -> None:
    student, made = deepened(DOUBLE, after="a", kind=kind, activation=activation)
    feed = {"x": array(6, 3, 4, dtype=np.float64)}
    trained = tuple(n for n in made.parameters if not n.endswith("constant"))
    found = gradients(student, trained, feed)
    still = {n for n, g in found.items() if not np.abs(g).max() > 1e-6}
    if kind != "residual":
        assert not still
        return
    assert still == {n for n in trained if "_0_" in n}
    assert still
    assert any("second" in w for w in made.warnings)
    for t in student.graph.initializer:  # one step of gradient descent
        if t.name in found:
            t.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(t) - 0.1 * found[t.name], t.name)
            )
    after = gradients(student, trained, feed)
    assert all(np.abs(g).max() > 1e-6 for g in after.values())
