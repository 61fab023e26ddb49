"""The paper's random units and noise: written, and declared not to preserve."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from onnx_net2net.errors import RefusalError
from onnx_net2net.files.patch import apply
from onnx_net2net.files.reader import read
from onnx_net2net.growth.widen.step import widen_step
from onnx_net2net.growth.widen.verb import Widen
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.plans.plan import Plan, plan
from support.command_line import Workplace, call, work
from support.new_units import DIGITS, all_spaces, arrays, names, student
from support.same_function import MODELS, NAMES, teacher

__all__ = ["work"]  # a fixture


@pytest.mark.parametrize("how", [{"init": "random-pad"}, {"noise": 0.05}], ids=names)
def test_declared_not_to_preserve(work: Workplace, how: dict[str, Any]) -> None:
    work.bring("digits_cnn")
    (option, value), out = next(iter(how.items())), "student.onnx"
    found = call("widen", "digits_cnn.onnx", "--node", "conv1", "--width", "24",
                 f"--{option}", str(value), "-o", out)  # fmt: skip
    assert found.code == 0
    assert "does not compute the teacher's function" in found.err
    assert str(value) in found.err
    assert str(value) in found.out
    marks = {p.key: p.value for p in onnx.load(out).metadata_props}
    assert marks["onnx_net2net.preserving"] == "false"
    assert call("verify", "digits_cnn.onnx", out).code == 1
    made = plan(DIGITS, [{"node": "conv1", "width": 24, **how}])
    assert (made.preserving, len(made.warnings)) == (False, 1)
    assert made.check() is None


@pytest.mark.parametrize("how", [{"init": "random-pad"}, {"noise": 0.05}], ids=names)
def test_declared_not_to_preserve_everywhere(how: dict[str, Any]) -> None:
    made = plan(DIGITS, "everywhere", **how)
    grown = made.apply()
    assert isinstance(grown, onnx.ModelProto)
    assert [p.value for p in grown.metadata_props if "preserving" in p.key] == ["false"]
    assert (made.preserving, len(made.warnings)) == (False, 1)
    assert teacher("digits_cnn").deviation(grown) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_random_pad_is_built_as_copies_are(name: str) -> None:
    analysis = Analysis(read(str(MODELS / f"{name}.onnx")))
    moved = []
    for space in all_spaces(name):
        how: dict[str, Any] = {"space": space, "ratio": 1.4, "seed": 3}
        try:
            copies = widen_step(analysis, Widen(**how))
        except RefusalError:
            continue
        pad = widen_step(analysis, Widen(init="random-pad", **how))
        assert [t["after"] for t in copies.record()["tensors"]] == [
            t["after"] for t in pad.record()["tensors"]
        ]
        assert pad.inserted == 0
        moved.append(teacher(name).deviation(apply(analysis.source, pad.patch).to_proto()))
    assert max(moved) > 1e-3  # a unit may be dead behind its ReLU


def test_random_pad_keeps_the_teachers_weights() -> None:
    before = arrays(onnx.load(DIGITS))
    after = arrays(student(DIGITS, "conv2", width=48, init="random-pad"))
    for name, dim in (("conv2.weight", 0), ("conv3.weight", 1)):
        kept, new = np.split(after[name], [24], axis=dim)
        np.testing.assert_array_equal(kept, before[name])
        assert abs(new.std() / before[name].std() - 1) < 0.1


def test_noise_is_on_the_copies_alone_and_has_its_size() -> None:
    plain = arrays(student(DIGITS, "conv2", width=48))
    noisy = arrays(student(DIGITS, "conv2", width=48, noise=0.05))
    differ = {n for n in plain if not np.array_equal(plain[n], noisy[n])}
    assert differ == {"conv2.weight", "layer1.0.conv2.weight"}  # they share one width
    step = noisy["conv2.weight"] - plain["conv2.weight"]
    assert not step[:24].any()
    teachers = arrays(onnx.load(DIGITS))["conv2.weight"]
    assert abs(step[24:].std() / (0.05 * teachers.std()) - 1) < 0.05


def test_no_noise_is_no_noise() -> None:
    plain, none = (plan(DIGITS, [{"node": "conv1", "width": 24, **h}]) for h in ({}, {"noise": 0}))
    assert none.preserving
    assert serialised(plain) == serialised(none)


def serialised(made: Plan) -> bytes:
    found = made.apply(verify="off")
    assert isinstance(found, onnx.ModelProto)
    return found.SerializeToString(deterministic=True)
