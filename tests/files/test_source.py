"""Reading models: skeletons, lazy arrays, external data, and everything that is no model."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnx_net2net.errors import ModelError
from onnx_net2net.files.protobuf import varint
from onnx_net2net.files.reader import read
from onnx_net2net.files.tensor_data import MARKER, is_cut

RNG = np.random.default_rng(0)
BIG = RNG.standard_normal((40, 40)).astype(np.float32)
FIELDS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def model_of(*initializers: TensorProto, nodes: tuple[onnx.NodeProto, ...] = ()) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph(nodes, "g", [], [], list(initializers)))


def typed(name: str, data_type: int, values: np.ndarray) -> TensorProto:
    """A tensor whose values stand in the typed field."""
    return helper.make_tensor(name, data_type, values.shape, values.flatten().tolist())


TYPED = {
    "float": typed("t", TensorProto.FLOAT, BIG),
    "double": typed("t", TensorProto.DOUBLE, BIG.astype(np.float64)),
    "int64": typed("t", TensorProto.INT64, np.arange(-900, 900)),
    "int32": typed("t", TensorProto.INT32, np.arange(-900, 900)),
    "int8": typed("t", TensorProto.INT8, np.arange(1600) % 256 - 128),
    "uint64": typed("t", TensorProto.UINT64, np.arange(1800) + 2**40),
    "bool": typed("t", TensorProto.BOOL, np.arange(1600) % 3 == 0),
    "float16": typed("t", TensorProto.FLOAT16, BIG),
    "bfloat16": typed("t", TensorProto.BFLOAT16, BIG),
    "complex64": typed("t", TensorProto.COMPLEX64, BIG + 1j * BIG.T),
}
RAW_KINDS = [
    np.float32,
    np.float16,
    np.float64,
    np.int8,
    np.uint16,
    np.int64,
    np.bool_,
    np.complex64,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
    ml_dtypes.int4,
    ml_dtypes.uint4,
]


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@pytest.mark.parametrize("name", TYPED)
def test_typed_fields_are_cut_and_read_back(name: str) -> None:
    source = read(model_of(TYPED[name]))
    tensor = source.proto.graph.initializer[0]
    assert is_cut(tensor)
    assert not any(len(getattr(tensor, field)) for field in FIELDS)
    wanted = numpy_helper.to_array(TYPED[name])
    assert same(source.array(tensor), wanted)
    assert source.raw(tensor) == numpy_helper.from_array(wanted).raw_data


@pytest.mark.parametrize("kind", RAW_KINDS, ids=lambda kind: np.dtype(kind).name)
@pytest.mark.parametrize("shape", [(41, 83), (3, 1), (), (0, 7)], ids=str)
def test_raw_data_is_read_with_its_type(kind: type, shape: tuple[int, ...]) -> None:
    values = RNG.integers(0, 2, shape).astype(kind)
    tensor = numpy_helper.from_array(values, "t")
    source = read(model_of(tensor).SerializeToString())
    found = source.proto.graph.initializer[0]
    assert is_cut(found) == (len(tensor.raw_data) > 1024)
    assert same(source.array(found), values)
    assert source.raw(found) == tensor.raw_data


def test_every_place_of_a_tensor_is_cut_and_a_copy_still_reads() -> None:
    big = numpy_helper.from_array(BIG, "b")
    constant = helper.make_node("Constant", [], ["c"], value=big)
    inner = helper.make_graph([constant], "inner", [], [], [big])
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    many = helper.make_node("Custom", [], ["z"], domain="d", tensors=[big, big])
    indices = numpy_helper.from_array(np.arange(1600), "i")
    flat = numpy_helper.from_array(BIG.ravel(), "s")
    model = model_of(big, nodes=(branch, many))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(flat, indices, [9999]))
    function = helper.make_function("d", "f", [], ["c"], [constant], [])
    model.functions.append(function)
    source = read(model)
    assert source.proto.ByteSize() < 4000
    graph, then = source.proto.graph, source.proto.graph.node[0].attribute[1].g
    tensors = [
        graph.initializer[0],
        then.initializer[0],
        then.node[0].attribute[0].t,
        *graph.node[1].attribute[0].tensors,
        source.proto.functions[0].node[0].attribute[0].t,
    ]
    for tensor in tensors:
        copy = TensorProto.FromString(tensor.SerializeToString())
        assert same(source.array(copy), BIG)
    sparse = graph.sparse_initializer[0]
    assert same(source.array(sparse.values), BIG.ravel())
    assert same(source.array(sparse.indices), np.arange(1600))


def test_every_kind_of_input(tmp_path: Path) -> None:
    model = model_of(numpy_helper.from_array(BIG, "w"))
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    graph = gs.Graph(nodes=[gs.Node("Relu", inputs=[gs.Constant("w", BIG)])])
    data = path.read_bytes()
    for given_ in (path, str(path), data, bytearray(data), memoryview(data), model, graph):
        source = read(given_)
        assert same(source.array(source.proto.graph.initializer[0]), BIG)
    assert read(path).path == path
    assert read(path).directory == tmp_path
    assert read(path).size == path.stat().st_size
    assert read(data).path is None
    assert read(source) is source
    with pytest.raises(TypeError, match="path"):
        read(12)


def test_tensor_in_pieces_stays_whole() -> None:
    once = TensorProto(dims=[800], data_type=1, float_data=range(400), name="t")
    unpacked = b"".join(b"\x25" + struct.pack("<f", x) for x in range(400))
    body = once.SerializeToString() + unpacked
    twice = once.SerializeToString() + TensorProto(float_data=range(400)).SerializeToString()
    for tensor in (body, twice):
        graph = b"\x2a" + varint(len(tensor)) + tensor
        source = read(b"\x3a" + varint(len(graph)) + graph)
        found = source.array(source.proto.graph.initializer[0])
        assert found.tolist() == [*range(400), *range(400)]


# -- external data -------------------------------------------------------------------------------


def external(location: str, **entries: int) -> TensorProto:
    tensor = TensorProto(name="w", dims=BIG.shape, data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def saved(folder: Path, tensor: TensorProto) -> Path:
    (folder / "m").mkdir()
    path = folder / "m" / "m.onnx"
    path.write_bytes(model_of(tensor).SerializeToString())
    return path


@pytest.mark.parametrize("length", [{}, {"length": BIG.nbytes}])
def test_external_data_is_read_when_touched(tmp_path: Path, length: dict[str, int]) -> None:
    path = saved(tmp_path, external("w.bin", offset=5, **length))
    source = read(path)
    tensor = source.proto.graph.initializer[0]
    with pytest.raises(ModelError, match=r"missing: 'w.bin'"):
        source.array(tensor)
    (path.parent / "w.bin").write_bytes(b"12345" + BIG.tobytes() + b"tail")
    assert same(source.array(tensor), BIG)
    assert source.raw(tensor) == BIG.tobytes()
    (path.parent / "w.bin").write_bytes(b"12345" + BIG.tobytes()[:-1])
    with pytest.raises(ModelError, match="which has 6404"):
        source.array(tensor)
    with pytest.raises(ModelError, match="give the path"):
        read(path.read_bytes()).array(tensor)
    (path.parent / "w.bin").write_bytes(b"12345" + BIG.tobytes())
    assert same(read(path.read_bytes(), directory=path.parent).array(tensor), BIG)


@pytest.mark.parametrize("location", ["../w.bin", "a/../../w.bin", "ABSOLUTE", "link.bin", ".", ""])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "w.bin").write_bytes(BIG.tobytes())
    path = saved(tmp_path, external(location.replace("ABSOLUTE", str(tmp_path / "w.bin"))))
    os.symlink(tmp_path / "w.bin", path.parent / "link.bin")
    source = read(path)
    with pytest.raises(ModelError, match=r"outside|not a file"):
        source.array(source.proto.graph.initializer[0])


@pytest.mark.parametrize("entries", [{"offset": -1}, {"offset": "x"}, {"length": 10**15}])
def test_forged_external_entries(tmp_path: Path, entries: dict[str, int]) -> None:
    path = saved(tmp_path, external("w.bin", **entries))
    (path.parent / "w.bin").write_bytes(BIG.tobytes() * 2)
    source = read(path)
    with pytest.raises(ModelError, match="external data"):
        source.array(source.proto.graph.initializer[0])


# -- what is no model, or a broken one -----------------------------------------------------------

SMALL_MODEL = model_of(
    numpy_helper.from_array(BIG[:, :8], "w"),
    typed("i", TensorProto.INT64, np.arange(600)),
    nodes=(helper.make_node("If", ["x"], ["y"], then_branch=model_of().graph),),
).SerializeToString()


def test_truncation_at_every_byte_is_an_error_or_a_model() -> None:
    errors = 0
    for end in range(len(SMALL_MODEL)):
        try:
            source = read(SMALL_MODEL[:end])
            for tensor in source.proto.graph.initializer:
                source.array(tensor)
        except ModelError:
            errors += 1
    assert errors > len(SMALL_MODEL) * 0.9


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SMALL_MODEL) - 1), st.binary(min_size=1, max_size=12))
def test_overwritten_bytes_are_an_error_or_a_model(at: int, noise: bytes) -> None:
    data = SMALL_MODEL[:at] + noise + SMALL_MODEL[at + len(noise) :]
    try:
        source = read(data)
        for tensor in source.proto.graph.initializer:
            source.array(tensor)
    except ModelError:
        pass


FORGED = {
    "graph longer than the file": b"\x3a\xff\xff\xff\xff\x07",
    "length of 2^63": b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    "varint without end": b"\x08" + b"\xff" * 40,
    "field number 0": b"\x02\x00" * 10,
    "group without end": b"\x0b" * 50,
    "end without group": b"\x0c" * 50,
    "wire type 7": b"\x0f" * 20,
    "groups nested 200 deep": b"\x0b" * 200 + b"\x0c" * 200,
    "fixed64 past the end": b"\x09\x00\x00",
    "nothing but unknown fields": b"\xf8\x3f\x01" * 5,
    "no graph": onnx.ModelProto(ir_version=9).SerializeToString(),
    "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
    "web page": b"<!DOCTYPE html><html></html>",
    "zeros": bytes(5000),
    "text": b"hello, this is no model\n" * 100,
}


@pytest.mark.parametrize("name", FORGED)
def test_what_is_no_model_is_one_clear_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(FORGED[name])
    for given_ in (FORGED[name], path):
        with pytest.raises(ModelError) as caught:
            read(given_)
        assert "\n" not in str(caught.value)
    assert "bad.onnx" in str(caught.value)


def test_nesting_past_the_limit_is_an_error() -> None:
    pad = numpy_helper.from_array(BIG, "w")
    graph = helper.make_graph([], "g", [], [], [pad])
    data = graph.SerializeToString()
    for _ in range(150):  # graph in attribute in node in graph
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            data = tag + varint(len(data)) + data
    with pytest.raises(ModelError, match="nested"):
        read(b"\x3a" + varint(len(data)) + data)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing.onnx", "does not exist"), ("folder", "is not a file"), ("empty.onnx", "is empty")],
)
def test_paths_that_hold_no_model(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ModelError, match=f"{name}' {reason}"):
        read(tmp_path / name)


def test_a_model_that_uses_the_marker_is_refused() -> None:
    with pytest.raises(ModelError, match="reserved"):
        read(model_of(external(MARKER, offset=0, length=4)))


@pytest.mark.parametrize(
    "change",
    [
        {"dims": [40, 41]},
        {"dims": [-40, -40]},
        {"dims": [2**62, 2**62]},
        {"data_type": 0},
        {"data_type": 99},
        {"data_type": TensorProto.DOUBLE},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["raw", "typed", "small"])
def test_a_tensor_that_does_not_fit_its_shape(kind: str, change: dict[str, object]) -> None:
    whole = TYPED["float"] if kind == "typed" else numpy_helper.from_array(BIG, "t")
    if kind == "small":
        whole = numpy_helper.from_array(BIG[:2, :2], "t")
    tensor = TensorProto.FromString(whole.SerializeToString())
    if "dims" in change:
        del tensor.dims[:]
    tensor.MergeFrom(TensorProto(**change))
    source = read(model_of(tensor))
    with pytest.raises(ModelError, match="tensor 't'"):
        source.array(source.proto.graph.initializer[0])


def test_a_file_that_changed_since_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model_of(numpy_helper.from_array(BIG, "w")).SerializeToString())
    source = read(path)
    path.write_bytes(path.read_bytes() + b"\x08\x09")
    with pytest.raises(ModelError, match="changed"):
        source.array(source.proto.graph.initializer[0])
