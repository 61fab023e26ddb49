"""export-weights: what stands in the safetensors file, as the safetensors library reads it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_net2net.checkpoint.export import export_weights
from support.command_line import MODELS, Workplace, call, work

__all__ = ["work"]  # a fixture

safetensors = pytest.importorskip("safetensors", reason="needs the safetensors library")
from safetensors.numpy import load_file  # noqa: E402

pytestmark = pytest.mark.torch


def read_header(path: Path) -> dict[str, dict[str, object]]:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def test_holds_every_weight(work: Workplace) -> None:
    found = call("export-weights", work.bring("digits_cnn"), "-o", "w.safetensors")
    assert (found.code, found.err) == (0, "")
    loaded = load_file(work.folder / "w.safetensors")
    model = onnx.load(MODELS / "digits_cnn.onnx")
    assert loaded.keys() == {t.name for t in model.graph.initializer}
    for t in model.graph.initializer:
        np.testing.assert_array_equal(loaded[t.name], numpy_helper.to_array(t))


def test_constant_nodes_that_hold_weights_come_along(tmp_path: Path) -> None:
    made = export_weights(MODELS / "constant_nodes.onnx", tmp_path / "w.safetensors")
    model = onnx.load(MODELS / "constant_nodes.onnx")
    weights = [
        n.output[0]
        for n in model.graph.node
        if n.op_type == "Constant" and n.attribute[0].t.data_type == TensorProto.FLOAT
    ]
    assert weights
    assert made.tensors.keys() >= set(weights)
    load_file(tmp_path / "w.safetensors")


def test_bfloat16_keeps_its_bits(tmp_path: Path) -> None:
    export_weights(MODELS / "cnn_bfloat16.onnx", tmp_path / "w.safetensors")
    header = read_header(tmp_path / "w.safetensors")
    data = (tmp_path / "w.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    seen = 0
    for t in onnx.load(MODELS / "cnn_bfloat16.onnx").graph.initializer:
        entry = header[t.name]
        a, b = entry["data_offsets"]  # type: ignore[misc]
        if entry["dtype"] == "BF16":
            seen += 1
            assert data[start + a : start + b] == numpy_helper.to_array(t).tobytes()
    assert seen


def every_type() -> onnx.ModelProto:
    kinds = ["float32", "float64", "float16", "int64", "int32", "int8", "uint8", "bool"]
    weights = [numpy_helper.from_array(np.ones((3,), k), k) for k in kinds]
    weights.append(helper.make_tensor("typed", TensorProto.FLOAT, [2], [1.5, -2.0]))
    weights.append(helper.make_tensor("scalar", TensorProto.FLOAT, [], [7.0]))
    weights.append(numpy_helper.from_array(np.zeros((0, 4), np.float32), "empty"))
    weights.append(helper.make_tensor("words", TensorProto.STRING, [1], [b"a"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "float32"], ["y"])], "g", [x], [y], weights
    )
    return helper.make_model(graph)


def weight(name: str) -> TensorProto:
    return next(t for t in every_type().graph.initializer if t.name == name)


def test_every_type_and_storage(work: Workplace) -> None:
    onnx.save(every_type(), work.folder / "m.onnx")
    found = call("export-weights", "m.onnx", "--json")
    assert found.code == 0
    assert found.json["schema"] == "onnx-net2net/export-weights/1"
    assert found.json["left_out"] == ["words"]
    for name, entry in read_header(work.folder / "m.safetensors").items():
        if name != "__metadata__" and name != "empty":
            size = numpy_helper.to_array(weight(name)).dtype.itemsize
            assert entry["data_offsets"][0] % size == 0, name  # type: ignore[index]
    loaded = load_file(work.folder / "m.safetensors")
    for t in every_type().graph.initializer:
        if t.name != "words":
            np.testing.assert_array_equal(loaded[t.name], numpy_helper.to_array(t))
            assert loaded[t.name].dtype == numpy_helper.to_array(t).dtype


def test_external_data(work: Workplace) -> None:
    model = onnx.load(MODELS / "digits_cnn.onnx")
    onnx.save(model, work.folder / "m.onnx", save_as_external_data=True, size_threshold=0)
    assert call("export-weights", "m.onnx").code == 0
    loaded = load_file(work.folder / "m.safetensors")
    wanted = onnx.load(MODELS / "digits_cnn.onnx").graph.initializer
    assert all(np.array_equal(loaded[t.name], numpy_helper.to_array(t)) for t in wanted)


def test_refuses_to_overwrite(work: Workplace) -> None:
    name = work.bring("mlp_gemm")
    (work.folder / "w.safetensors").write_bytes(b"mine")
    found = call("export-weights", name, "-o", "w.safetensors")
    assert found.code == 2
    assert (work.folder / "w.safetensors").read_bytes() == b"mine"
    assert call("export-weights", name, "-o", "w.safetensors", "--force").code == 0
    before = (work.folder / name).read_bytes()
    assert call("export-weights", name, "-o", name, "--force").code == 2
    assert (work.folder / name).read_bytes() == before


def test_bad_input(work: Workplace) -> None:
    (work.folder / "no.onnx").write_bytes(b"nothing")
    assert call("export-weights", "no.onnx").code == 3
    assert call("export-weights", "absent.onnx").code == 3
