"""Patches: byte-identical where nothing was asked, equal to the same edit made with protobuf."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_net2net.files.patch import Insert, Splice, apply
from onnx_net2net.files.protobuf import read_varint, varint
from onnx_net2net.files.reader import read
from support.onnx_samples import BIG, MODELS, RELU, W, field, nested, plain, unsorted


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
