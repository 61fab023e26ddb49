"""The init of ARCHITECTURE.md, which looks at gradients; no file of the package is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnx_net2net as n2n
from onnx_net2net.growth.record import steps_of
from onnx_net2net.growth.widen import inits
from onnx_net2net.growth.widen.scheme import Scheme
from support.command_line import Workplace, call, work
from support.recipes import followed

__all__ = ["work"]  # a fixture


@pytest.fixture(autouse=True)
def init() -> Iterator[inits.Init]:
    followed("Adding a kind of new units")
    yield inits.INITS["gradients"]
    del inits.INITS["gradients"]


def weights(model: Any) -> dict[str, np.ndarray]:
    proto = onnx.load(model) if isinstance(model, str) else model
    return {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}


def test_evidence_reaches_the_student(work: Workplace) -> None:
    model = work.bring("digits_cnn")
    old = weights(model)["conv2.weight"]
    gradient = np.random.default_rng(0).standard_normal(old.shape).astype(np.float32)
    how: dict[str, Any] = {"node": "conv1", "width": 20, "init": "gradients"}
    given = {"gradient/conv2.weight": gradient}
    plan = n2n.plan(model, [{**how, "evidence": given}])
    assert plan.check()
    student = plan.apply(verify="off")
    new = weights(student)["conv2.weight"]
    source = plan.steps[0].units.source  # type: ignore[attr-defined]
    np.testing.assert_array_equal(new[:, 16:], -gradient[:, source])
    np.testing.assert_array_equal(new[:, :16], old)
    assert not weights(student)["conv1.weight"][16:].any()

    (step,) = steps_of(json.loads(json.dumps(plan.described())))
    (replay,) = (r for r in step.tensors if r.student == "conv2.weight")
    assert replay.grown(old).tobytes() == new.tobytes()

    onnx.save(student, "student.onnx")
    with pytest.raises(n2n.UsageError, match="give the same data with --calibrate"):
        n2n.apply(model, "student.onnx")
    again = n2n.apply(model, "student.onnx", calibrate=given)
    assert again.SerializeToString() == student.SerializeToString()  # type: ignore[union-attr]


def test_as_a_command_and_from_a_file(work: Workplace) -> None:
    model = work.bring("digits_cnn")
    assert "random-pad|gradients]" in call("widen", "--help").out.replace("\n", "")
    found = call("widen", model, "--node", "conv1", "--width", "20", "--init", "gradients")
    assert found.code == 2
    assert "init 'gradients' looks at gradient of the weights; give evidence" in found.err
    np.savez("g.npz", **{"gradient/conv2.weight": np.ones((24, 16, 3, 3), np.float32)})
    step = "{node: conv1, width: 20, init: gradients, evidence: g.npz}"
    Path("r.yaml").write_text(f"steps:\n  - {step}\n")
    assert call("apply", model, "r.yaml").code == 0
    np.savez("g.npz", **{"gradient/conv2.weight": np.ones((24, 16), np.float32)})
    found = call("apply", model, "r.yaml", "--force")
    assert found.code == 2
    assert "'gradient/conv2.weight' has the shape [24, 16]" in found.err


def test_a_name_is_given_once_and_known(init: inits.Init) -> None:
    with pytest.raises(n2n.UsageError, match="there is an init 'gradients' already"):
        inits.register(init)
    with pytest.raises(n2n.UsageError, match="unknown init 'gradient'"):
        Scheme(init="gradient")
