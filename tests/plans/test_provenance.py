"""Provenance: what students say of where they come from, and that it replays byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnx_net2net as n2n
from onnx_net2net.errors import ModelError
from onnx_net2net.files.reader import read
from onnx_net2net.plans import provenance
from support.command_line import Outcome, Workplace, call, work
from support.same_function import MODELS, NAMES

__all__ = ["work"]  # a fixture

DIGITS = str(MODELS / "digits_cnn.onnx")


def records(model: Any) -> list[dict[str, Any]]:
    """What a student says."""
    return provenance.records(read(model))


def ok(*arguments: str) -> Outcome:
    found = call(*arguments)
    assert found.code == 0, found.err
    return found


COMMANDS = {
    "widen": "widen M --node conv2 --width 36",
    "widen two": "widen M --node conv2 --node conv1 --ratio 1.5 --mapping balanced --split even",
    "widen space": "widen M --space /conv3/Conv --width 40 --seed 9",
    "deepen": "deepen M --after conv1",
    "deepen every": "deepen M --every Relu --kind identity --seed 4",
    "not preserving": "deepen M --after conv1 --init random --seed 2",
    "grow-kernel": "grow-kernel M --node conv1 --size 5",
    "apply": "apply M r.yaml --seed 5",
}
RECIPE = """
split: even
steps:
  - {everywhere: true, ratio: 1.3}
  - {verb: deepen, every: Relu, ratio: 1.5}
  - {every: "layer1*", parameters: 4x, split: zero-sum, seed: 11}
  - {verb: grow-kernel, node: conv1, size: [5, 3]}
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_replays_byte_for_byte(name: str, work: Workplace) -> None:
    model = work.bring("digits_cnn")
    Path("r.yaml").write_text(RECIPE)
    line = COMMANDS[name].replace("M", model).split()
    ok(*line, "-o", "student.onnx", "--verify", "off")
    found = call("apply", model, "student.onnx", "-o", "again.onnx", "--verify", "off")
    assert found.code == 0, found.err
    assert "not what" not in found.err
    files = work.files()
    assert files["again.onnx"] == files["student.onnx"]
    (record,) = records("student.onnx")
    assert record["preserving"] == (name != "not preserving")
    assert record["version"] == n2n.__version__


@pytest.mark.parametrize("name", NAMES)
def test_every_model_replays_byte_for_byte(name: str, tmp_path: Path) -> None:
    path, out = MODELS / f"{name}.onnx", tmp_path / "s.onnx"
    plan = n2n.plan(path, "everywhere")
    if not plan.steps:
        return
    plan.apply(out, verify="off")
    again = n2n.apply(path, out, verify="off", output=tmp_path / "t.onnx")
    assert Path(str(again)).read_bytes() == out.read_bytes()


def test_what_is_recorded() -> None:
    """Steps as they were asked for, however many layers they fit; what is the default is not."""
    made = n2n.plan(DIGITS, "everywhere", ratio=1.5, seed=3).apply(verify="off")
    (found,) = records(made)
    source = read(DIGITS)
    assert found == {
        "teacher": provenance.identity(source), "version": n2n.__version__, "seed": 3,
        "split": "zero-sum", "preserving": True,
        "steps": [{"verb": "widen", "everywhere": True, "ratio": 1.5}],
    }  # fmt: skip
    assert found["teacher"]["size"] == Path(DIGITS).stat().st_size
    entry = next(p.value for p in made.metadata_props if p.key == provenance.KEY)
    assert len(entry) < 250


def test_mapping_and_shapes_are_recorded() -> None:
    sizes = {"images": tuple(np.array([2, 1, 8, 8]))}
    made = n2n.widen(DIGITS, node="conv1", width=np.int64(18), mapping=np.array([3, 3]),
                     verify="off", shapes=sizes, seed=np.int64(0))  # fmt: skip
    (found,) = records(made)
    assert found["steps"] == [{"verb": "widen", "node": "conv1", "width": 18, "mapping": [3, 3]}]
    assert (found["seed"], found["split"]) == (0, "zero-sum")
    assert found["shapes"] == {"images": [2, 1, 8, 8]}
    again = n2n.apply(DIGITS, made, verify="off")
    assert again.SerializeToString() == made.SerializeToString()


def test_nothing_grown_says_nothing(tmp_path: Path) -> None:
    assert not records(n2n.plan(DIGITS, []).apply(verify="off"))


class TestChains:
    @pytest.fixture
    def chain(self, work: Workplace) -> str:
        model = work.bring("digits_cnn")
        ok("widen", model, "--node", "conv1", "--width", "20", "-o", "a.onnx", "--verify", "off")
        ok("deepen", "a.onnx", "--after", "conv1", "-o", "b.onnx", "--seed", "3")
        ok("grow-kernel", "b.onnx", "--node", "conv1", "--size", "5", "-o", "c.onnx")
        return model

    def test_a_student_of_a_student(self, chain: str) -> None:
        found = records("c.onnx")
        assert [r["steps"][0]["verb"] for r in found] == ["widen", "deepen", "grow-kernel"]
        assert found[:2] == records("b.onnx")
        for record, teacher in zip(found, (chain, "a.onnx", "b.onnx"), strict=True):
            assert record["teacher"] == provenance.identity(read(teacher))

    @pytest.mark.parametrize("teacher", ["digits_cnn.onnx", "a.onnx", "b.onnx"])
    def test_replays_from_every_teacher_in_it(
        self, work: Workplace, chain: str, teacher: str
    ) -> None:
        ok("apply", teacher, "c.onnx", "-o", "again.onnx")
        assert work.files()["again.onnx"] == work.files()["c.onnx"]

    @pytest.mark.parametrize("form", ["--external-data", "--link-teacher"])
    def test_however_the_models_between_are_kept(self, work: Workplace, form: str) -> None:
        model = work.bring("mlp_gemm")
        ok("widen", model, "--node", "fc1", "--ratio", "3", "-o", "a.onnx", form)
        ok("widen", "a.onnx", "--node", "fc2", "--ratio", "2", "-o", "b.onnx")
        ok("apply", model, "b.onnx", "-o", "again.onnx")
        assert work.files()["again.onnx"] == work.files()["b.onnx"]

    def test_trained_in_between(self, work: Workplace, chain: str) -> None:
        trained(Path("b.onnx"), Path("trained.onnx"))
        ok("widen", "trained.onnx", "--node", "conv3", "--width", "40", "-o", "d.onnx")
        found = call("apply", chain, "d.onnx", "-o", "again.onnx")
        assert found.code == 3
        assert "3 runs, and what run 3 began with is not what" in found.err
        ok("apply", "trained.onnx", "d.onnx", "-o", "again.onnx")
        assert work.files()["again.onnx"] == work.files()["d.onnx"]

    def test_trained_since(self, chain: str) -> None:
        trained(Path("c.onnx"), Path("trained.onnx"))
        found = call("apply", chain, "trained.onnx", "--plan")
        assert found.code == 0
        assert "warning: this is not what 'trained.onnx' holds now: it was trained" in found.err


def trained(model: Path, to: Path) -> None:
    """The model with another bias."""
    proto = onnx.load(model)
    (bias,) = (t for t in proto.graph.initializer if t.name == "fc.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, bias.name))
    onnx.save(proto, to)


def test_another_teacher(work: Workplace) -> None:
    model = work.bring("digits_cnn")
    trained(Path(model), Path("other.onnx"))
    ok("widen", model, "--node", "conv1", "--width", "20", "-o", "a.onnx", "--verify", "off")
    found = call("apply", "other.onnx", "a.onnx", "--json")
    assert found.code == 3
    assert "was grown from another teacher: 90,421 bytes, hash " in found.err
    assert found.json["error"]["kind"] == "bad input"


def test_no_provenance(work: Workplace) -> None:
    model = work.bring("digits_cnn")
    found = call("apply", model, model)
    assert found.code == 3
    assert "carries no provenance" in found.err


def test_a_replay_takes_no_other_seed(work: Workplace) -> None:
    model = work.bring("digits_cnn")
    ok("widen", model, "--node", "conv1", "--width", "20", "-o", "a.onnx", "--verify", "off")
    found = call("apply", model, "a.onnx", "--seed", "0")
    assert found.code == 2
    assert "its own settings; leave out seed" in found.err


class TestCalibration:
    def test_needs_the_same_data(self, work: Workplace) -> None:
        model = work.bring("digits_cnn")
        images = np.load(MODELS / "digits_test.npz")["images"]
        np.savez("data.npz", images=images[:64])
        np.savez("other.npz", images=images[64:128])
        line = ("deepen", model, "--after", "conv1", "--batchnorm", "--calibrate", "data.npz")
        ok(*line, "-o", "a.onnx")
        step = records("a.onnx")[0]["steps"][0]
        assert step["calibrate"]["inputs"] == ["images"]
        again = ("apply", model, "a.onnx", "-o", "b.onnx")
        for more in ((), ("--calibrate", "other.npz")):
            found = call(*again, *more)
            assert found.code == 2
            assert "give the same data with --calibrate" in found.err
        ok(*again, "--calibrate", "other.npz", "--calibrate", "data.npz")
        assert work.files()["a.onnx"] == work.files()["b.onnx"]


BROKEN = ["", "{}", "[1]", '[{"teacher":{}}]', "[" * 3000, '[{"teacher":{"size":1,"sha256":2}}]']


@pytest.mark.parametrize("entry", BROKEN)
def test_a_broken_entry(entry: str, work: Workplace) -> None:
    model = onnx.load(DIGITS)
    model.metadata_props.add(key=provenance.KEY, value=entry)
    onnx.save(model, "m.onnx")
    with pytest.raises(ModelError, match="is broken"):
        records("m.onnx")
    assert "provenance: unreadable" in ok("inspect", "m.onnx").out
    assert ok("inspect", "m.onnx", "--json").json["provenance"] is None
    assert call("apply", "m.onnx", "m.onnx").code == 3
    found = ok("widen", "m.onnx", "--node", "conv1", "--width", "20", "-o", "s.onnx")
    assert "the student's begins anew" in found.err
    assert len(records("s.onnx")) == 1


@pytest.mark.parametrize(
    "change",
    [{"steps": [{"verb": "shrink"}]}, {"steps": [3]}, {"seed": "x"}, {"shapes": 3},
     {"shapes": {"images": 3}}, {"steps": [{"verb": "deepen", "after": "conv1",
      "batchnorm": True, "calibrate": {"sha256": "00"}}]}],
)  # fmt: skip
def test_a_forged_entry_is_one_clear_line(change: dict[str, Any], work: Workplace) -> None:
    model = work.bring("digits_cnn")
    ok("widen", model, "--node", "conv1", "--width", "20", "-o", "a.onnx", "--verify", "off")
    proto = onnx.load("a.onnx")
    (entry,) = (p for p in proto.metadata_props if p.key == provenance.KEY)
    entry.value = json.dumps([{**json.loads(entry.value)[0], **change}])
    onnx.save(proto, "forged.onnx")
    found = call("apply", model, "forged.onnx")
    assert found.code in (2, 3), found.err
    assert len(found.err.splitlines()) == 1


def test_inspect_shows_it(work: Workplace) -> None:
    model = work.bring("digits_cnn")
    Path("r.yaml").write_text(RECIPE)
    ok("apply", model, "r.yaml", "-o", "s.onnx", "--verify", "off")
    shown = ok("inspect", "s.onnx").out
    assert "  grown from 90,421 bytes, hash " in shown
    assert "  - widen everywhere, ratio 1.3\n" in shown
    assert "  - ... and 1 more (--json lists all)\n" in shown
    assert ok("inspect", "s.onnx", "--json").json["provenance"] == records("s.onnx")


def test_verify_ignores_it(work: Workplace) -> None:
    model = work.bring("digits_cnn")
    proto = onnx.load(model)
    proto.metadata_props.add(key=provenance.KEY, value="[]")
    onnx.save(proto, "said.onnx")
    assert ok("verify", model, "said.onnx").out.startswith("proved: ")


def test_a_mark_of_not_preserving_stands_once(work: Workplace) -> None:
    model = work.bring("digits_cnn")
    ok("deepen", model, "--after", "conv1", "--init", "random", "-o", "a.onnx")
    ok("deepen", "a.onnx", "--after", "conv2", "--init", "random", "-o", "b.onnx")
    found = [p.value for p in onnx.load("b.onnx").metadata_props
             if p.key == "onnx_net2net.preserving"]  # fmt: skip
    assert found == ["false"]
