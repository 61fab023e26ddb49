"""Output forms: what each checks and gives, and that of ARCHITECTURE.md, from outside."""

from __future__ import annotations

import gzip
from pathlib import Path

import onnx
import pytest

import onnx_net2net as n2n
from onnx_net2net.checkpoint.export import SafetensorsWeights
from onnx_net2net.errors import UsageError
from onnx_net2net.files.output_form import (
    ExternalData,
    InMemory,
    LinkedToTeacher,
    SingleFile,
)
from onnx_net2net.files.reader import read
from onnx_net2net.plans.plan import Plan
from support.recipes import followed

MODEL = Path(__file__).parents[2] / "models" / "digits_cnn.onnx"


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.onnx"
    path.write_bytes(MODEL.read_bytes())
    return path


def planned(teacher: Path) -> Plan:
    return n2n.plan(teacher, [{"node": "conv1", "ratio": 1.5}])


def test_a_form_from_outside(teacher: Path) -> None:
    made, gzipped = planned(teacher), followed("Adding an output form")["Gzipped"]
    path = teacher.with_name("student.onnx.gz")
    size = made.apply(gzipped(path), verify="off")
    data = gzip.decompress(path.read_bytes())
    assert len(data) == size
    assert onnx.ModelProto.FromString(data) == made.apply(verify="off")


def test_a_form_is_checked_before_the_work(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plan, "check", lambda *_: pytest.fail("verified first"))
    gzipped = followed("Adding an output form")["Gzipped"]
    with pytest.raises(UsageError, match=r"\.gz"):
        planned(teacher).apply(gzipped(teacher.with_name("student.onnx")))
    for form in (SingleFile, ExternalData, SafetensorsWeights):
        with pytest.raises(FileExistsError, match="never written"):
            planned(teacher).apply(form(teacher, force=True))


def test_every_form_holds_the_same_student(teacher: Path) -> None:
    made = planned(teacher)
    student = read(made.apply(InMemory(), verify="off"))
    expected = {t.name: student.raw(t) for t in student.proto.graph.initializer}
    folder = teacher.parent
    for form in (
        SingleFile(folder / "one.onnx"),
        ExternalData(folder / "outside.onnx"),
        LinkedToTeacher(folder / "linked.onnx", made.source),
    ):
        assert made.apply(form, verify="off") == form.path
        found = read(form.path)
        assert {t.name: found.raw(t) for t in found.proto.graph.initializer} == expected
    sizes = [(folder / f"{n}.onnx").stat().st_size for n in ("one", "linked", "outside")]
    assert sizes == sorted(sizes, reverse=True)


def test_force_is_said_in_the_form(teacher: Path) -> None:
    target = SingleFile(teacher.with_name("student.onnx"))
    with pytest.raises(UsageError, match="say it in the form"):
        planned(teacher).apply(target, force=True)
