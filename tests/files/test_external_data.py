"""The external form: one data file beside the model, named after its content."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_net2net.errors import ModelError
from onnx_net2net.files import external_data, output_form
from onnx_net2net.files.output_form import ExternalData, InMemory, SingleFile
from onnx_net2net.files.patch import Splice, apply
from onnx_net2net.files.reader import read
from support.onnx_samples import BIG, MODELS, W, model_of, plain, sparse


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.onnx"
    path.write_bytes(plain())
    return path


PATCH = [Splice(("graph", "initializer", 0), (numpy_helper.from_array(BIG * 2, "w"),))]


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("name", MODELS)
def test_external_form_and_back(name: str, tmp_path: Path) -> None:
    data = MODELS[name]()
    path, outside, back = (tmp_path / f"{part}.onnx" for part in ("teacher", "out", "back"))
    path.write_bytes(data)
    apply(read(path), []).write(ExternalData(outside))
    (data_file,) = tmp_path.glob("out-*.data")
    assert all(c in "0123456789abcdef" for c in data_file.stem[-8:])
    assert outside.stat().st_size < len(data)
    apply(read(outside), []).write(back)
    assert arrays(back) == arrays(path)
    assert apply(read(outside), []).to_proto() == ModelProto.FromString(back.read_bytes())
    with pytest.raises(FileExistsError, match="never written"):
        apply(read(outside), []).write(data_file, force=True)
    if name in ("plain", "nested", "typed_fields"):
        assert len(onnx.load(outside).graph.initializer[0].raw_data) == BIG.nbytes
        assert data_file.stat().st_size >= BIG.nbytes


def test_sparse_tensors_stay_inside_in_the_external_form(tmp_path: Path) -> None:
    """onnx looks for no external data there; what was there already comes inside."""
    model = ModelProto.FromString(sparse())
    values = model.graph.sparse_initializer[0].values
    (tmp_path / "s.bin").write_bytes(values.raw_data)
    values.ClearField("raw_data")
    values.data_location = TensorProto.EXTERNAL
    values.external_data.add(key="location", value="s.bin")
    (tmp_path / "teacher.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "out.onnx"
    for data in (tmp_path / "teacher.onnx", sparse()):
        apply(read(data), []).write(ExternalData(target, force=True))
        out = onnx.load(target)
        wanted = ModelProto.FromString(sparse())
        assert out.graph.sparse_initializer == wanted.graph.sparse_initializer


def arrays(path: Path) -> list[bytes]:
    source = read(path)
    found: list[bytes] = []

    def visit(message: Any) -> None:
        for descriptor, value in message.ListFields():
            if descriptor.message_type is not None:
                for part in value if descriptor.is_repeated else [value]:
                    if isinstance(part, TensorProto):
                        found.append(source.array(part).tobytes())
                    else:
                        visit(part)

    visit(source.proto)
    return found


def test_the_data_file_is_aligned_and_named_after_its_content(tmp_path: Path) -> None:
    weights = [np.full(300, 1.5, np.float32), np.zeros(300_000, np.float32), BIG]
    tensors = [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)]
    source = read(model_of(weights=tuple(tensors)))
    target = tmp_path / "out.onnx"
    apply(source, []).write(ExternalData(target))
    (first,) = tmp_path.glob("*.data")
    apply(source, []).write(ExternalData(target, force=True))
    assert [*tmp_path.glob("*.data")] == [first]
    entries = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in onnx.load(target, load_external_data=False).graph.initializer
    ]
    assert {entry["location"] for entry in entries} == {first.name}
    assert [int(entry["offset"]) % 64 for entry in entries] == [0, 0, 0]
    assert int(entries[1]["offset"]) == 4096
    patch = [Splice(("graph", "initializer", 2), (numpy_helper.from_array(BIG + 1, "w2"),))]
    apply(source, patch).write(ExternalData(target, force=True))
    (second,) = tmp_path.glob("*.data")
    assert second != first
    assert [*map(len, arrays(target))] == [weight.nbytes for weight in weights]


def test_the_external_form_runs(tmp_path: Path) -> None:
    import onnxruntime as ort

    value = helper.make_tensor_value_info
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(BIG, "c"))
    nodes = [constant, helper.make_node("MatMul", ["x", "w"], ["h"])]
    nodes.append(helper.make_node("Add", ["h", "c"], ["y"]))
    io = [value("x", TensorProto.FLOAT, [40, 40])], [value("y", TensorProto.FLOAT, [40, 40])]
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(helper.make_graph(nodes, "g", *io, [W]), opset_imports=opsets)
    model.ir_version = 8
    target = tmp_path / "out.onnx"
    apply(read(model), []).write(ExternalData(target))
    onnx.checker.check_model(target, full_check=True)
    session = ort.InferenceSession(target, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": BIG})
    np.testing.assert_allclose(found, BIG @ BIG + BIG, rtol=1e-4, atol=1e-4)


def test_missing_external_data_leaves_nothing_behind(teacher: Path) -> None:
    pieces = apply(read(teacher), [])
    outside, target = teacher.with_name("outside.onnx"), teacher.with_name("target.onnx")
    pieces.write(ExternalData(outside))
    (data,) = teacher.parent.glob("*.data")
    data.unlink()
    for form in (SingleFile(target), ExternalData(target), InMemory()):
        with pytest.raises(ModelError, match="missing"):
            apply(read(outside), []).write(form)
    assert names(teacher.parent) == ["outside.onnx", "teacher.onnx"]


def test_over_two_gib_goes_outside(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_form, "LIMIT", 10_000)
    pieces = apply(read(teacher), PATCH)
    with pytest.raises(ModelError, match="output="):
        pieces.to_proto()
    target = teacher.with_name("out.onnx")
    pieces.write(target)
    assert target.stat().st_size < 10_000
    assert len([*teacher.parent.glob("out-*.data")]) == 1
    monkeypatch.setattr(external_data, "LIMIT", 100)
    with pytest.raises(ModelError, match="even with"):
        pieces.write(target, force=True)
