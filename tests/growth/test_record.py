"""The mapping file says enough to make the student's tensors again from the teacher's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnx_net2net as n2n
from onnx_net2net.growth.record import load, steps_of
from onnx_net2net.growth.widen.changes import Change, nominal
from onnx_net2net.growth.widen.shares import divided
from onnx_net2net.growth.widen.units import Row
from support.command_line import MODELS, Workplace, call, work

__all__ = ["work"]  # a fixture


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    found = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for n in model.graph.node:
        if n.op_type == "Constant" and n.attribute[0].name == "value":
            found[n.output[0]] = numpy_helper.to_array(n.attribute[0].t)
    return found


def replayed(teacher: onnx.ModelProto, mapping: Any) -> dict[str, np.ndarray]:
    """The teacher's tensors taken through the steps, as the file says them."""
    arrays = weights(teacher)
    for step in steps_of(json.loads(json.dumps(load(mapping)))):
        made = {r.student: r.grown(arrays[r.teacher]) for r in step.tensors}
        arrays |= made | dict(step.inserted)
    return arrays


PLANS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "cnn": ("digits_cnn", [{"node": "conv1", "ratio": 1.5}, {"node": "conv2", "width": 30}]),
    "all verbs": ("digits_cnn", [
        {"verb": "deepen", "after": "conv2", "batchnorm": True},
        {"verb": "deepen", "after": "conv1", "kind": "residual"},
        {"node": "conv2", "ratio": 1.3},
        {"verb": "grow-kernel", "node": "conv1", "size": 5},
    ]),
    "shared": ("identity_bias", [{"node": "conv1", "ratio": 1.5}]),
    "grouped": ("channel_shuffle", [{"node": "grouped1", "ratio": 1.5}]),
    "fresh": ("digits_cnn", [{"node": "conv1", "ratio": 1.5, "init": "fresh"}]),
    "twin": ("digits_cnn", [{"node": "conv1", "ratio": 1.5, "init": "twin"}]),
    "random-pad": ("digits_cnn", [{"node": "conv1", "ratio": 1.5, "init": "random-pad"}]),
    "noise": ("digits_cnn", [{"node": "conv1", "width": 24, "split": "uneven", "noise": 0.01}]),
    "uniform": ("transformer_block", [{"node": "embed", "ratio": 2}]),
    "constants": ("constant_nodes", [{"node": "conv1", "ratio": 1.5}]),
    "half": ("cnn_bfloat16", [{"node": "conv1", "ratio": 1.5, "split": "even"}]),
    "one-hot": ("mlp_gemm", [{"node": "fc1", "ratio": 1.5, "split": "one-hot", "seed": 3}]),
}  # fmt: skip


def first_layer(model: Path, step: dict[str, Any]) -> dict[str, Any]:
    """The step, or one on a layer that the model has."""
    try:
        n2n.plan(model, [step])
    except n2n.AmbiguousError:
        step = {k: v for k, v in step.items() if k != "node"}
        step["space"] = n2n.inspect(model).spaces[0].name
    return step


@pytest.mark.parametrize("name", PLANS)
def test_replays_to_the_students_bytes(name: str) -> None:
    file, steps = PLANS[name]
    path = MODELS / f"{file}.onnx"
    if len(steps) == 1:
        steps = [first_layer(path, steps[0])]
    plan = n2n.plan(path, steps)
    got = replayed(onnx.load(path), plan)
    student = weights(plan.apply(verify="off"))
    changed = {r["student"] for s in plan.described()["steps"] for r in s["tensors"]}
    changed |= set(plan.new_parameters)
    assert changed
    for tensor in changed & student.keys():
        assert student[tensor].dtype == got[tensor].dtype
        assert student[tensor].tobytes() == got[tensor].tobytes(), tensor
        assert student[tensor].shape == got[tensor].shape
    missing = changed - student.keys()
    assert not missing


def test_what_it_says() -> None:
    path = MODELS / "digits_cnn.onnx"
    plan = n2n.plan(path, [{"node": "conv1", "width": 18, "mapping": [2, 2]}])
    said = plan.described()
    assert said["schema"] == "onnx-net2net/mapping/1"
    assert said["tool"].startswith("onnx-net2net ")
    assert said["teacher"]["file"] == "digits_cnn.onnx"
    assert said["teacher"]["bytes"] == path.stat().st_size
    assert said["student"]["structure"] != said["teacher"]["structure"]
    (step,) = said["steps"]
    conv1, conv2 = (t for t in step["tensors"] if t["teacher"] in ("conv1.weight", "conv2.weight"))
    assert (conv1["before"][0], conv1["after"][0]) == (16, 18)
    (axis,) = conv1["axes"]
    assert axis["source"] == [*range(16), 2, 2]
    assert axis["new"] == {16: "copy", 17: "copy"}
    assert axis["shares"] is None
    (axis,) = conv2["axes"]
    assert axis["shares"]["split"] == "zero-sum"
    key = axis["shares"]["key"]
    weight, source = weights(onnx.load(path))["conv2.weight"], np.array(axis["source"])
    drawn = divided(weight, source, axis["axis"], "zero-sum", None, 0, *key)
    np.testing.assert_array_equal(weights(plan.apply(verify="off"))["conv2.weight"], drawn)
    shares = axis["shares"]["nominal"]
    assert shares[2] == shares[16] == shares[17] == pytest.approx(1 / 3)
    assert shares[0] == 1
    assert plan.mapping["conv2.weight"][0]["shares"] == shares
    assert plan.mapping["conv1.weight"][0]["shares"] is None


@pytest.mark.parametrize(
    ("split", "wanted"),
    [("even", [0.5, 1, 0, 0.5]), ("one-hot", [1, 1, 0, 0]), ("zero-sum", [0.5, 1, 0, 0.5])],
)
def test_nominal_shares(split: str, wanted: list[float]) -> None:
    change = Change({1: np.array([0, 1, 1, 0])}, {1: np.array([-1, -1, 1, 0])}, (1,))
    assert nominal(change, 1, (Row.COPY, Row.ZERO), split == "one-hot") == wanted


def test_command_line(work: Workplace) -> None:
    name = work.bring("digits_cnn")
    for line in (
        ("widen", name, "--node", "conv1", "--ratio", "1.5"),
        ("deepen", name, "--after", "conv1"),
        ("grow-kernel", name, "--node", "conv1", "--size", "5"),
    ):
        found = call(*line, "--save-mapping", "map.json", "--force")
        assert found.code == 0, found.err
        written = json.loads(Path("map.json").read_text())
        (step,) = written["steps"]
        assert step["verb"] == line[0]
    assert call(*line, "--save-mapping", "absent/map.json", "--force").code == 2
    assert call(*line, "--save-mapping", "plan.json", "--plan").code == 0
    assert not Path("plan.json").exists()


def test_the_teacher_is_never_written_to(work: Workplace) -> None:
    name = work.bring("digits_cnn")
    before = Path(name).read_bytes()
    found = call(
        "widen", name, "--node", "conv1", "--width", "20", "--save-mapping", name, "--force"
    )
    assert (found.code, Path(name).read_bytes() == before) == (2, True)
    assert "never written to" in found.err
    with pytest.raises(FileExistsError, match="never written to"):
        n2n.plan(name, [{"node": "conv1", "width": 20}]).save_mapping(name, force=True)
    assert Path(name).read_bytes() == before


@pytest.mark.parametrize("place", ["student.onnx", "folder", "absent/map.json", ""])
def test_a_mapping_without_a_place_leaves_no_student(work: Workplace, place: str) -> None:
    name = work.bring("digits_cnn")
    Path("folder").mkdir()
    line = ("widen", name, "--node", "conv1", "--width", "20", "-o", "student.onnx")
    for force in ((), ("--force",)):
        found = call(*line, "--save-mapping", place, *force)
        assert found.code == 2, found.err
        assert not Path("student.onnx").exists()


def test_an_empty_output_is_no_default(work: Workplace) -> None:
    name = work.bring("digits_cnn")
    for line in (("widen", name, "--node", "conv1", "--width", "20"), ("export-weights", name)):
        assert call(*line, "-o", "").code == 2
    assert [path.name for path in Path().iterdir()] == [name]


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"schema": "something/1"}')
    (tmp_path / "b.json").write_text("not json")
    with pytest.raises(ValueError, match="something/1"):
        load(tmp_path / "a.json")
    with pytest.raises(ValueError, match="--save-mapping"):
        load(tmp_path / "b.json")


def test_torch_is_imported_only_when_asked_for() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import onnx_net2net as n2n\n"
        "n2n.plan\n"
        "try: n2n.torch\n"
        "except ImportError as why: assert 'onnx-net2net[torch]' in str(why), why\n"
        "else: raise SystemExit('no error')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
