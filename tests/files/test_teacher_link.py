"""Students that refer to their teacher's bytes: small, the same function, and told apart."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_net2net.errors import ModelError
from onnx_net2net.files import teacher_link
from onnx_net2net.files.output_form import ExternalData, LinkedToTeacher, SingleFile
from onnx_net2net.files.patch import Pieces, Splice, apply
from onnx_net2net.files.reader import read
from onnx_net2net.plans.plan import plan
from onnx_net2net.verification.verify import verify
from support.command_line import call

DRAW = np.random.default_rng(0)


def dense(count: int = 6, width: int = 64) -> onnx.ModelProto:
    nodes, weights, x = [], [], "x"
    for k in range(count):
        array = DRAW.standard_normal((width, width)).astype(np.float32) / 8
        weights.append(numpy_helper.from_array(array, f"w{k}"))
        y = "y" if k == count - 1 else f"h{k}"
        nodes += [helper.make_node("MatMul", [x, f"w{k}"], [f"m{k}"], name=f"fc{k}")]
        nodes += [helper.make_node("Relu", [f"m{k}"], [y], name=f"relu{k}")]
        x = y
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", width]) for n in "xy"]
    graph = helper.make_graph(nodes, "dense", ends[:1], ends[1:], weights)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


@pytest.fixture(params=["whole", "outside"])
def teacher(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "teacher.onnx"
    form = {"whole": SingleFile, "outside": ExternalData}[request.param]
    apply(read(dense()), []).write(form(path))
    return path


def student_of(teacher: Path, name: str = "student.onnx", node: str = "fc2") -> Path:
    grown = plan(teacher, [{"node": node, "ratio": 1.25}])
    output = teacher.with_name(name)
    grown.apply(LinkedToTeacher(output, grown.source), verify="certificate")
    return output


def test_only_what_changed_is_written_and_it_runs(teacher: Path) -> None:
    import onnxruntime as ort

    student = student_of(teacher)
    changed = 2 * 64 * 80 * 4
    assert student.stat().st_size < 1.1 * changed + 5000
    onnx.checker.check_model(student, full_check=True)
    assert verify(teacher, student)
    assert verify(teacher, student, layers="certificate", full_hash=True)
    x = DRAW.standard_normal((3, 64)).astype(np.float32)
    found = [
        ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for path in (teacher, student)
    ]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


def links_of(path: Path) -> list[str]:
    """What a model says of a teacher whose bytes it refers to."""
    return [p.value for p in read(path).proto.metadata_props if p.key == teacher_link.KEY]


def test_a_student_of_a_linked_student(teacher: Path) -> None:
    first = student_of(teacher)
    second = student_of(first, "second.onnx", "fc4")
    assert verify(teacher, second, layers="certificate")
    (entry,) = links_of(second)
    assert json.loads(entry)["file"] == "student.onnx"


def test_written_whole_again_it_says_nothing_of_a_teacher(teacher: Path) -> None:
    pieces = apply(read(student_of(teacher)), [])
    alone = teacher.with_name("alone.onnx")
    for form in (SingleFile, ExternalData):
        pieces.write(form(alone, force=True))
        assert not links_of(alone)
        assert not {"teacher.onnx"} & read(alone).locations
    assert not [p for p in pieces.to_proto().metadata_props if p.key == teacher_link.KEY]
    assert verify(teacher, alone, layers="certificate")


def test_a_teacher_that_changed_is_told_apart(teacher: Path) -> None:
    student = student_of(teacher)
    data = teacher.read_bytes()
    weights = next(iter(teacher.parent.glob("*.data")), teacher)
    kept = weights.read_bytes()
    read(student)
    os.utime(teacher)
    read(student)  # a copy with another date is the same teacher
    at = read(teacher).payloads[0][0] if weights == teacher else 0
    weights.write_bytes(kept[:at] + bytes(8) + kept[at + 8 :])
    with pytest.raises(ModelError, match="has changed since"):
        read(student)
    weights.write_bytes(kept)
    for other in (data + b"\x08\x08", data[:-1] + bytes([data[-1] ^ 1])):
        teacher.write_bytes(other)
        with pytest.raises(ModelError):
            read(student)
    teacher.unlink()
    with pytest.raises(ModelError, match="is missing"):
        read(student)
    teacher.write_bytes(data)
    assert verify(teacher, student, layers="certificate")


def test_a_change_that_samples_miss_is_found_byte_by_byte(tmp_path: Path) -> None:
    teacher, copy = tmp_path / "teacher.onnx", tmp_path / "copy" / "teacher.onnx"
    apply(read(dense()), []).write(teacher)
    student = student_of(teacher)
    copy.parent.mkdir()
    data = bytearray(teacher.read_bytes())
    start, end = read(teacher).payloads[0]
    data[(start + end) // 8 * 4 + start % 4 + 3] ^= 0x40  # an exponent's highest bit
    copy.write_bytes(data)
    assert teacher_link.identity(read(copy)) == teacher_link.identity(read(teacher))
    assert not verify(copy, student, layers="certificate", full_hash=True)
    assert not verify(copy, student, layers="certificate")  # other files are always compared


@pytest.mark.parametrize(
    "entry",
    ["", "[]", "{}", '{"file": "../x.onnx", "size": 1, "sha256": ""}',
     '{"file": "m.onnx", "size": 1, "sha256": ""}', '{"file": "", "size": 1, "sha256": ""}'],
)  # fmt: skip
def test_a_forged_entry_is_one_clear_line(entry: str, tmp_path: Path) -> None:
    model = dense()
    model.metadata_props.add(key=teacher_link.KEY, value=entry)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="metadata"):
        read(path)


def test_where_linking_makes_no_sense(teacher: Path, tmp_path: Path) -> None:
    source = read(teacher)
    pieces: Pieces = apply(source, [Splice(("graph", "node", 0))])
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ValueError, match="same folder"):
        pieces.write(LinkedToTeacher(tmp_path / "elsewhere" / "s.onnx", source))
    with pytest.raises(ValueError, match="in memory"):
        pieces.write(LinkedToTeacher(tmp_path / "s.onnx", read(dense())))
    os.symlink(teacher, tmp_path / "link.onnx")
    with pytest.raises(ValueError, match="symbolic link"):
        pieces.write(LinkedToTeacher(tmp_path / "s.onnx", read(tmp_path / "link.onnx")))
    with pytest.raises(FileExistsError, match="never written"):
        pieces.write(LinkedToTeacher(teacher, source, force=True))
    assert not (tmp_path / "s.onnx").exists()


def test_on_the_command_line(teacher: Path) -> None:
    student = teacher.with_name("teacher.widened.onnx")
    grow = ["widen", str(teacher), "--node", "fc1", "--ratio", "1.5", "--verify", "certificate"]
    assert call(*grow, "--link-teacher", "--external-data").code == 2
    assert call(*grow, "--link-teacher").code == 0
    assert student.stat().st_size < 80_000
    check = ["verify", str(teacher), str(student), "--layers", "certificate", "--full-hash"]
    assert call(*check).code == 0
    assert call(*grow, "--external-data", "--force").code == 0
    assert len([*teacher.parent.glob("teacher.widened-*.data")]) == 1
