"""Patches: byte-identical where nothing was asked, equal to the same edit made with protobuf."""

from __future__ import annotations

import copy
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_net2net import forms, save, transfer
from onnx_net2net import patch as patch_module
from onnx_net2net.errors import ModelError
from onnx_net2net.files import read
from onnx_net2net.patch import Insert, Splice, apply
from onnx_net2net.wire import read_varint, varint

RNG = np.random.default_rng(0)
BIG = RNG.standard_normal((40, 40)).astype(np.float32)
RELU = helper.make_node("Relu", ["x"], ["y"], name="new")
W = numpy_helper.from_array(BIG, "w")


def graph_of(*nodes: onnx.NodeProto, weights: tuple[TensorProto, ...] = (W,)) -> onnx.GraphProto:
    value = helper.make_tensor_value_info
    infos = [value(f"v{i}", TensorProto.FLOAT, [i]) for i in range(4)]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:2], weights, value_info=infos)
    graph.metadata_props.add(key="k", value="v")
    return graph


def model_of(*nodes: onnx.NodeProto, weights: tuple[TensorProto, ...] = (W,)) -> ModelProto:
    model = helper.make_model(graph_of(*nodes, weights=weights))
    model.metadata_props.add(key="author", value="someone")
    return model


def plain() -> bytes:
    nodes = [helper.make_node("MatMul", [f"v{i}", "w"], [f"v{i + 1}"]) for i in range(5)]
    return model_of(
        *nodes, weights=(W, numpy_helper.from_array(BIG[:3], "small"), W)
    ).SerializeToString()


def nested() -> bytes:
    constant = helper.make_node("Constant", [], ["c"], value=W)
    inner = graph_of(constant, RELU)
    loop = helper.make_node("Loop", ["n", "c"], ["o"], body=graph_of(constant))
    branch = helper.make_node(
        "If", ["x"], ["y"], then_branch=inner, else_branch=graph_of(loop, RELU)
    )
    return model_of(RELU, branch, constant).SerializeToString()


def functions() -> bytes:
    model = model_of(RELU)
    constant = helper.make_node("Constant", [], ["c"], value=W)
    for name in ("f", "h"):
        opset = [helper.make_opsetid("", 20)]
        model.functions.append(helper.make_function("d", name, [], ["c"], [constant, RELU], opset))
    return model.SerializeToString()


def sparse() -> bytes:
    model = model_of(RELU)
    values = numpy_helper.from_array(BIG.ravel(), "s")
    indices = numpy_helper.from_array(np.arange(1600), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [9999]))
    return model.SerializeToString()


def typed_fields() -> bytes:
    kinds = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    weights = [helper.make_tensor(f"w{k}", k, BIG.shape, BIG.ravel().tolist()) for k in kinds]
    weights.append(helper.make_tensor("i", TensorProto.INT64, [1800], range(-900, 900)))
    weights[0].data_location = TensorProto.DEFAULT
    return model_of(RELU, weights=tuple(weights)).SerializeToString()


def not_utf8() -> bytes:
    node = helper.make_node("Custom", [], ["y"], domain="d", s=b"\xff\xfe" * 600, t=W)
    node.attribute[0].strings.extend([b"\x80", b""])
    return model_of(node).SerializeToString()


def unknown_fields() -> bytes:
    unknown = varint(999 << 3 | 2) + varint(5) + b"12345" + varint(1000 << 3) + b"\x07"
    inside = unknown + field(5, W.SerializeToString()) + field(1, b"")
    group = varint(1001 << 3 | 3) + inside + varint(1001 << 3 | 4)
    tensor = field(5, W.SerializeToString() + unknown)
    node = field(1, RELU.SerializeToString() + group)
    graph = field(7, group + node + tensor + tensor + node)
    return b"\x08\x09" + unknown + graph + group


def unsorted() -> bytes:
    """Fields out of order, the graph in two parts, its length longer than it need be."""
    raw = field(9, W.raw_data) + b"\x08\x28" + b"\x10\x01" + b"\x08\x28" + field(8, b"w")
    node = field(1, RELU.SerializeToString())
    first = field(7, field(5, raw) + node + field(2, b"g") + field(5, raw) + node)
    second = b"\x3a" + bytes([len(node) | 0x80, 0x80, 0x00]) + node
    return first + b"\x08\x09" + second + field(8, b"\x10\x14")


def field(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


MODELS: dict[str, Callable[[], bytes]] = {
    function.__name__: function
    for function in (
        plain,
        nested,
        functions,
        sparse,
        typed_fields,
        not_utf8,
        unknown_fields,
        unsorted,
    )
}


def resolve(model: Any, path: tuple[str | int, ...]) -> tuple[Any, int]:
    """The repeated field that `path` leads into, and the index."""
    for step in path[:-1]:
        model = getattr(model, step) if isinstance(step, str) else model[step]
    return model, path[-1]


def edited(data: bytes, patch: list[Splice | Insert]) -> ModelProto:
    """The same patch made with protobuf."""
    model = ModelProto.FromString(data)
    replaced = {edit.path: edit.messages for edit in patch if isinstance(edit, Splice)}
    fields = {edit.path[:-1] for edit in patch}
    for path in sorted(fields, key=len, reverse=True):
        elements = resolve(model, (*path, 0))[0]
        new: list[Any] = []
        for index in range(len(elements) + 1):
            for edit in patch:
                if isinstance(edit, Insert) and edit.path == (*path, index):
                    new += edit.messages
            if index < len(elements):
                new += replaced.get((*path, index), (copy.deepcopy(elements[index]),))
        del elements[:]
        elements.extend(new)
    return model


# -- nothing changed -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_an_empty_patch_changes_no_byte(name: str, tmp_path: Path) -> None:
    data = MODELS[name]()
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    for source in (read(data), read(path)):
        pieces = apply(source, [])
        assert pieces.to_bytes() == data
        assert len(pieces) == len(data)
        assert pieces.to_proto() == ModelProto.FromString(data)
        target = tmp_path / "out.onnx"
        pieces.write(target, force=True)
        assert target.read_bytes() == data


@pytest.mark.parametrize("name", MODELS)
def test_skeleton_messages_put_back_are_the_messages(name: str) -> None:
    data = MODELS[name]()
    source = read(data)
    graph = source.proto.graph
    patch = [Splice(("graph", "node", i), (node,)) for i, node in enumerate(graph.node)]
    patch += [Splice(("graph", "initializer", i), (t,)) for i, t in enumerate(graph.initializer)]
    patch += [Splice(("functions", i), (f,)) for i, f in enumerate(source.proto.functions)]
    patch += [
        Splice(("graph", "sparse_initializer", i), (t,))
        for i, t in enumerate(graph.sparse_initializer)
    ]
    pieces = apply(source, patch)
    assert pieces.to_proto() == ModelProto.FromString(data)
    if name not in ("unknown_fields", "unsorted"):  # written by protobuf, so written the same
        assert pieces.to_bytes() == data


# -- patches -------------------------------------------------------------------------------------

ELSE = ("graph", "node", 1, "attribute", 0, "g")  # make_node sorts attributes by name
THEN = ("graph", "node", 1, "attribute", 1, "g")
PROP = onnx.StringStringEntryProto(key="tool", value="net2net")
PATCHES: dict[str, tuple[str, list[Splice | Insert]]] = {
    "replace": ("plain", [Splice(("graph", "node", 2), (RELU,))]),
    "delete": ("plain", [Splice(("graph", "initializer", 0))]),
    "delete all": ("plain", [Splice(("graph", "node", i)) for i in range(5)]),
    "one becomes three": ("plain", [Splice(("graph", "node", 4), (RELU, RELU, RELU))]),
    "insert first, between, last": (
        "plain",
        [Insert(("graph", "node", i), (RELU,)) for i in (0, 3, 5)],
    ),
    "inserts at one place keep their order": (
        "plain",
        [Insert(("metadata_props", 0), (PROP,)), Insert(("metadata_props", 0), (PROP, PROP))],
    ),
    "insert around a splice": (
        "plain",
        [
            Insert(("graph", "node", 0), (RELU,)),
            Splice(("graph", "node", 0)),
            Insert(("graph", "node", 1), (RELU,)),
        ],
    ),
    "insert into nothing": (
        "plain",
        [Insert(("functions", 0), (helper.make_function("d", "f", [], [], [RELU], []),))],
    ),
    "value info and opset": (
        "plain",
        [
            Splice(("graph", "value_info", 1)),
            Splice(("graph", "input", 0)),
            Splice(("opset_import", 0), (helper.make_opsetid("", 21),)),
            Insert(("opset_import", 1), (helper.make_opsetid("com.microsoft", 1),)),
        ],
    ),
    "subgraphs": (
        "nested",
        [
            Splice((*THEN, "initializer", 0), (numpy_helper.from_array(BIG.T.copy(), "new"),)),
            Splice((*ELSE, "node", 0, "attribute", 0, "g", "node", 0), (RELU,)),
            Insert((*ELSE, "node", 2), (RELU,)),
            Insert(("graph", "node", 1), (RELU,)),
            Splice(("graph", "node", 2, "attribute", 0)),
        ],
    ),
    "functions": ("functions", [Splice(("functions", 1, "node", 0)), Splice(("functions", 0))]),
    "unknown fields": ("unknown_fields", [Splice(("graph", "node", 1), (RELU,))]),
    "graph in two parts": (
        "unsorted",
        [
            Splice(("graph", "node", 2), (RELU, RELU)),
            Insert(("graph", "node", 2), (RELU,)),
            Insert(("graph", "node", 3), (RELU,)),
            Splice(("graph", "initializer", 1)),
            Insert(("graph", "value_info", 0), (helper.make_tensor_value_info("v", 1, []),)),
        ],
    ),
}


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_is_the_edit_made_with_protobuf(name: str) -> None:
    base, patch = PATCHES[name]
    data = MODELS[base]()
    pieces = apply(read(data), patch)
    assert pieces.to_proto() == edited(data, patch)
    assert len(pieces) == len(pieces.to_bytes())


def test_what_no_splice_names_keeps_its_bytes() -> None:
    data = unsorted()
    node = field(1, RELU.SerializeToString())
    length, start = read_varint(data, 1)
    end = start + length
    shorter = varint(length - len(node))
    wanted = data[:1] + shorter + data[start : end - len(node)] + data[end:]
    assert apply(read(data), [Splice(("graph", "node", 1))]).to_bytes() == wanted


def test_a_copied_node_takes_its_payload_along() -> None:
    data = nested()
    source = read(data)
    node = copy.deepcopy(source.proto.graph.node[1])
    node.name = "copy"
    branch = node.attribute[1].g
    branch.initializer[0].CopyFrom(numpy_helper.from_array(BIG * 2, "w"))
    whole = ModelProto.FromString(data)
    whole.graph.node.add().CopyFrom(whole.graph.node[1])
    whole.graph.node[3].name = "copy"
    whole.graph.node[3].attribute[1].g.initializer[0].CopyFrom(branch.initializer[0])
    assert apply(source, [Insert(("graph", "node", 3), (node,))]).to_proto() == whole


def test_a_patched_model_is_read_and_patched_again(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(plain())
    first = [Splice(("graph", "initializer", 0), (numpy_helper.from_array(BIG * 2, "w"),))]
    student = read(apply(read(path), first))
    found = student.array(student.proto.graph.initializer[0])
    np.testing.assert_array_equal(found, BIG * 2)
    node = student.proto.graph.node[1]
    second = [Splice(("graph", "node", 1), (RELU, node))]
    wanted = edited(edited(plain(), first).SerializeToString(), second)
    assert apply(student, second).to_proto() == wanted
    with pytest.raises(FileExistsError, match="never written"):
        apply(student, second).write(path, force=True)


@st.composite
def patches(draw: st.DrawFn) -> tuple[str, list[Splice | Insert]]:
    """Random splices and inserts, at most one splice a place, none inside another."""
    name = draw(st.sampled_from(sorted(MODELS)))
    source = read(MODELS[name]())
    patch: list[Splice | Insert] = []

    def edit(message: Any, at: tuple[str | int, ...], depth: int) -> None:
        for descriptor, value in message.ListFields():
            if descriptor.message_type is None or isinstance(message, TensorProto):
                continue
            path = (*at, descriptor.name)
            if not descriptor.is_repeated:
                edit(value, path, depth)
                continue
            for index in range(len(value) + 1):
                choice = draw(st.integers(0, 9 if depth else 5))
                other = copy.deepcopy(value[draw(st.integers(0, len(value) - 1))])
                if choice == 0:
                    patch.append(Insert((*path, index), (other,)))
                elif index == len(value):
                    continue
                elif choice == 1:
                    patch.append(Splice((*path, index), (other,) * draw(st.integers(0, 2))))
                elif choice in (2, 3, 4) and depth < 6:
                    edit(value[index], (*path, index), depth + 1)

    edit(source.proto, (), 0)
    return name, patch


@settings(max_examples=80, deadline=None)
@given(patches(), st.randoms())
def test_random_patches_are_the_edit_made_with_protobuf(
    drawn: tuple[str, list[Splice | Insert]], random: Any
) -> None:
    name, patch = drawn
    data = MODELS[name]()
    source = read(data)
    whole = [type(edit)(edit.path, filled(edit.messages, source)) for edit in patch]
    wanted = edited(data, whole)
    splices = [edit for edit in patch if isinstance(edit, Splice)]
    random.shuffle(splices)
    shuffled = splices + [edit for edit in patch if isinstance(edit, Insert)]
    assert apply(source, shuffled).to_proto() == wanted


def filled(messages: tuple[Any, ...], source: Any) -> tuple[Any, ...]:
    """Messages with their payloads, through protobuf only."""

    def fill(message: Any) -> Any:
        if isinstance(message, TensorProto) and message.data_location == TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in message.external_data}
            start, length = int(entries["offset"]), int(entries["length"])
            payload = source.rope.read(start, start + length)
            new = TensorProto.FromString(field(int(entries["field"]), payload))
            message.ClearField("external_data")
            message.ClearField("data_location")
            if "data_location" in entries:
                message.data_location = TensorProto.DEFAULT
            message.MergeFrom(new)
        for descriptor, value in message.ListFields():
            if descriptor.message_type is not None:
                for part in value if descriptor.is_repeated else [value]:
                    fill(part)
        return message

    return tuple(fill(copy.deepcopy(message)) for message in messages)


N0 = ("graph", "node", 0)


@pytest.mark.parametrize(
    ("reason", "patch"),
    [
        ("twice", [Splice(N0), Splice(N0)]),
        ("inside", [Splice(N0), Splice((*N0, "attribute", 0))]),
        ("twice", [Splice((*N0, "attribute", 0)), Splice(N0)]),
        ("inside", [Splice(N0), Insert((*N0, "attribute", 0), ())]),
        ("no NodeProto 99: there are 3", [Splice(("graph", "node", 99))]),
        ("there are 3", [Insert(("graph", "node", 99), (RELU,))]),
        ("no NodeProto 99", [Splice(("graph", "node", 99, "attribute", 0))]),
        ("no index", [Splice(("graph", "node", -1))]),
        ("no index", [Splice(("graph", "node"))]),
        ("no element", [Splice(("graph",))]),
        ("leads nowhere", [Splice(("graph", "name", 0))]),
        ("leads nowhere", [Splice(("graph", "nodes", 0))]),
        ("leads nowhere", [Splice((0,))]),
        ("leads nowhere", [Splice(())]),
        ("no TrainingInfoProto 0", [Splice(("training_info", 0, "algorithm", "node", 0))]),
    ],
    ids=str,
)
def test_patches_that_make_no_sense(reason: str, patch: list[Splice | Insert]) -> None:
    with pytest.raises(ValueError, match=reason):
        apply(read(nested()), patch)


def test_a_message_of_the_wrong_kind() -> None:
    with pytest.raises(TypeError, match="NodeProto stands at"):
        apply(read(plain()), [Splice(N0, (W,))])


# -- writing -------------------------------------------------------------------------------------


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.onnx"
    path.write_bytes(plain())
    return path


PATCH = [Splice(("graph", "initializer", 0), (numpy_helper.from_array(BIG * 2, "w"),))]


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_existing_files_and_the_teacher_are_kept(teacher: Path) -> None:
    pieces = apply(read(teacher), PATCH)
    target = teacher.with_name("out.onnx")
    pieces.write(target)
    with pytest.raises(FileExistsError):
        pieces.write(target)
    pieces.write(target, force=True)
    os.symlink(teacher, teacher.with_name("link.onnx"))
    os.link(teacher, teacher.with_name("hard.onnx"))
    for name in ("teacher.onnx", "link.onnx", "hard.onnx"):
        with pytest.raises(FileExistsError, match="never written"):
            pieces.write(teacher.with_name(name), force=True)
    assert teacher.read_bytes() == plain()
    with pytest.raises(FileNotFoundError):
        pieces.write(teacher.parent / "nowhere" / "out.onnx")
    with pytest.raises(IsADirectoryError):
        pieces.write(teacher.parent, force=True)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize(
    ("form", "step", "call"),
    [
        ("one", "_write", 1),
        ("one", "_copy_range", 2),
        ("one", "_sync", 1),
        ("one", "replace", 1),
        ("external", "_write", 1),
        ("external", "_write", 2),
        ("external", "_sync", 1),
        ("external", "_sync", 2),
        ("external", "replace", 1),
        ("external", "replace", 2),
    ],
)
def test_a_failure_leaves_nothing_behind(
    teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    step: str,
    call: int,
    error: BaseException,
) -> None:
    place = os if step == "replace" else transfer if step in ("_write", "_copy_range") else save
    real = getattr(place, step)
    calls = 0

    def fail(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return real(*args)

    monkeypatch.setattr(place, step, fail)
    pieces = apply(read(teacher), PATCH)
    with pytest.raises(type(error)):
        pieces.write(teacher.with_name("out.onnx"), external=form == "external")
    assert calls == call
    assert names(teacher.parent) == ["teacher.onnx"]
    assert teacher.read_bytes() == plain()


KILLED = """
import os, sys
from onnx_net2net import forms, save, transfer
from onnx_net2net.files import read
from onnx_net2net.patch import apply
real, left = getattr(os, sys.argv[2]), int(sys.argv[3])
def die(*args, **keys):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
    return real(*args, **keys)
setattr(os, sys.argv[2], die)
apply(read(sys.argv[1]), []).write(os.path.join(os.path.dirname(sys.argv[1]), "out.onnx"),
    external=sys.argv[4] == "external")
"""


@pytest.mark.parametrize(
    ("call", "count", "form"),
    [
        ("fsync", 0, "one"),
        ("replace", 0, "one"),
        ("replace", 0, "external"),
        ("replace", 1, "external"),
    ],
)
def test_a_killed_writer_is_cleaned_up_after(
    teacher: Path, call: str, count: int, form: str
) -> None:
    command = [sys.executable, "-c", KILLED, str(teacher), call, str(count), form]
    killed = subprocess.run(command, check=False, env=environment())
    assert killed.returncode == -9
    left = set(names(teacher.parent)) - {"teacher.onnx"}
    assert left
    assert "out.onnx" not in left
    (teacher.parent / ".out.onnx.mine").touch()
    apply(read(teacher), PATCH).write(teacher.with_name("out.onnx"))
    assert names(teacher.parent) == [".out.onnx.mine", "out.onnx", "teacher.onnx"]


def environment() -> dict[str, str]:
    root = str(Path(patch_module.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": root, "PYTHONWARNINGS": "error"}


def test_a_writer_at_work_is_left_alone(teacher: Path) -> None:
    target = teacher.with_name("out.onnx")
    with save._temporary(target) as (_, path):
        apply(read(teacher), []).write(target)
        assert path.exists()
    assert not path.exists()


def test_no_room_is_said_before_anything_is_written(
    teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(teacher.parent)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="100 free") as caught:
        apply(read(teacher), PATCH).write(teacher.with_name("out.onnx"))
    assert caught.value.errno == errno.ENOSPC
    assert names(teacher.parent) == ["teacher.onnx"]


@pytest.mark.parametrize("missing", [(), ("copy_file_range",), ("copy_file_range", "sendfile")])
def test_every_way_to_copy_gives_the_same_bytes(
    teacher: Path, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    def refuse(*args: Any, **keys: Any) -> int:
        raise OSError(errno.EXDEV, "other device")

    def shortly(name: str) -> Callable[..., int]:
        real, place = getattr(os, name), {"copy_file_range": 2, "sendfile": 3}[name]
        return lambda *args, **keys: real(
            *args[:place], min(args[place], 1000), *args[place + 1 :], **keys
        )

    for name in {"copy_file_range", "sendfile"} & set(dir(os)):
        monkeypatch.setattr(os, name, refuse if name in missing else shortly(name))
    pieces = apply(read(teacher), PATCH)
    target = teacher.with_name("out.onnx")
    pieces.write(target)
    assert target.read_bytes() == pieces.to_bytes()
    assert target.stat().st_mode & 0o444 == teacher.stat().st_mode & 0o444


# -- external data -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_external_form_and_back(name: str, tmp_path: Path) -> None:
    data = MODELS[name]()
    path, outside, back = (tmp_path / f"{part}.onnx" for part in ("teacher", "out", "back"))
    path.write_bytes(data)
    apply(read(path), []).write(outside, external=True)
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
        apply(read(data), []).write(target, external=True, force=True)
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
    apply(source, []).write(target, external=True)
    (first,) = tmp_path.glob("*.data")
    apply(source, []).write(target, external=True, force=True)
    assert [*tmp_path.glob("*.data")] == [first]
    entries = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in onnx.load(target, load_external_data=False).graph.initializer
    ]
    assert {entry["location"] for entry in entries} == {first.name}
    assert [int(entry["offset"]) % 64 for entry in entries] == [0, 0, 0]
    assert int(entries[1]["offset"]) == 4096
    patch = [Splice(("graph", "initializer", 2), (numpy_helper.from_array(BIG + 1, "w2"),))]
    apply(source, patch).write(target, external=True, force=True)
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
    apply(read(model), []).write(target, external=True)
    onnx.checker.check_model(target, full_check=True)
    session = ort.InferenceSession(target, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": BIG})
    np.testing.assert_allclose(found, BIG @ BIG + BIG, rtol=1e-4, atol=1e-4)


def test_missing_external_data_leaves_nothing_behind(teacher: Path) -> None:
    pieces = apply(read(teacher), [])
    outside, target = teacher.with_name("outside.onnx"), teacher.with_name("target.onnx")
    pieces.write(outside, external=True)
    (data,) = teacher.parent.glob("*.data")
    data.unlink()
    for external in (None, True, False):
        with pytest.raises(ModelError, match="missing"):
            apply(read(outside), []).write(target, external=external)
    with pytest.raises(ModelError, match="missing"):
        apply(read(outside), []).to_proto()
    assert names(teacher.parent) == ["outside.onnx", "teacher.onnx"]


def test_over_two_gib_goes_outside(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_module, "LIMIT", 10_000)
    pieces = apply(read(teacher), PATCH)
    with pytest.raises(ModelError, match="output="):
        pieces.to_proto()
    target = teacher.with_name("out.onnx")
    with pytest.raises(ModelError, match="2 GiB"):
        pieces.write(target, external=False)
    pieces.write(target)
    assert target.stat().st_size < 10_000
    assert len([*teacher.parent.glob("out-*.data")]) == 1
    monkeypatch.setattr(forms, "LIMIT", 100)
    with pytest.raises(ModelError, match="even with"):
        pieces.write(target, force=True)


LARGE = """
import resource, sys
import numpy as np, onnx
from onnx_net2net.files import read
from onnx_net2net.patch import Splice, apply
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before = peak()
source = read(sys.argv[1])
weight = source.array(source.proto.graph.initializer[1])
wide = onnx.numpy_helper.from_array(np.concatenate([weight, weight]), "w1")
apply(source, [Splice(("graph", "initializer", 1), (wide,))]).write(sys.argv[2])
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts in other units")
def test_a_large_file_is_never_in_memory(tmp_path: Path) -> None:
    path, target = tmp_path / "large.onnx", tmp_path / "out.onnx"
    size, count = 4 << 20, 75
    head = TensorProto(dims=[1 << 20], data_type=TensorProto.FLOAT, name="w")
    one = head.SerializeToString() + varint(9 << 3 | 2) + varint(size)
    tensor = varint(5 << 3 | 2) + varint(len(one) + size) + one
    with path.open("wb") as stream:
        stream.write(b"\x08\x09" + b"\x3a" + varint(count * (len(tensor) + size)))
        for _ in range(count):
            stream.write(tensor)
            stream.seek(size, os.SEEK_CUR)
        stream.truncate()
    command = [sys.executable, "-c", LARGE, str(path), str(target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    assert target.stat().st_size > path.stat().st_size + size
    assert int(done.stdout) < 60, "MiB of memory for a tensor of 8 MiB"
