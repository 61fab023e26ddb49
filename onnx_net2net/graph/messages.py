"""Small changes of protobuf messages in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

import onnx
from onnx import ModelProto, NodeProto, StringStringEntryProto, TensorProto

from onnx_net2net.files.patch import Insert, Path, Splice
from onnx_net2net.typing import Array

Edit: TypeAlias = "Splice | Insert"
M = TypeVar("M")


def copied(message: M) -> M:
    """A message of its own that says the same."""
    new: Any = type(message)()
    new.CopyFrom(message)
    return new


def drop_attribute(node: NodeProto, name: str) -> None:
    """Remove an attribute, if it is there."""
    for k in reversed(range(len(node.attribute))):
        if node.attribute[k].name == name:
            del node.attribute[k]


def set_attribute(node: NodeProto, name: str, value: Any) -> None:
    """Give an attribute a value, whether it is there or not; it stands last.

    Args:
        node: is changed.
        name, value: of the attribute.

    >>> node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], group=1)
    >>> set_attribute(node, "group", 4)
    >>> node.attribute[0].i
    4
    """
    drop_attribute(node, name)
    node.attribute.append(onnx.helper.make_attribute(name, value))


def tensor_like(old: TensorProto, array: Array) -> TensorProto:
    """A tensor with a new array that keeps the old one's name, documentation and metadata."""
    new = onnx.numpy_helper.from_array(array, old.name)
    if old.HasField("doc_string"):
        new.doc_string = old.doc_string
    new.metadata_props.extend(old.metadata_props)
    return new


def metadata_edit(model: ModelProto, key: str, value: str) -> Edit:
    """The edit that makes an entry of a model's metadata, whether one is there or not.

    Args:
        model: whose metadata; it stays as it is.
        key, value: what the entry is to say.
    """
    entry = StringStringEntryProto(key=key, value=value)
    known = [p.key for p in model.metadata_props]
    if key in known:
        return Splice(("metadata_props", known.index(key)), (entry,))
    return Insert(("metadata_props", len(known)), (entry,))


def edit_message(message: Any, edits: Iterable[tuple[Path, Edit]]) -> None:
    """Apply edits to a message in memory; their paths are relative to it, as it is before."""
    single: dict[str, list[tuple[Path, Edit]]] = {}
    repeated: dict[str, dict[int, list[tuple[Path, Edit]]]] = {}
    for path, e in edits:
        name, index = str(path[0]), path[1]
        if isinstance(index, int):
            repeated.setdefault(name, {}).setdefault(index, []).append((path[2:], e))
        else:
            single.setdefault(name, []).append((path[1:], e))
    for name, within in single.items():
        edit_message(getattr(message, name), within)
    for name, by_index in repeated.items():
        held = getattr(message, name)
        old = [*held, *[None] * (1 + max(by_index) - len(held))]
        kept = [copied(m) for k, o in enumerate(old) for m in _edited(o, by_index.get(k, []))]
        del held[:]
        held.extend(kept)


def _edited(old: Any, edits: list[tuple[Path, Edit]]) -> Iterator[Any]:
    """What is to stand in the place of one element of a repeated field, and before it."""
    within = [(path, e) for path, e in edits if path]
    if within:
        edit_message(old, within)
    own = [e for path, e in edits if not path]
    for e in own:
        yield from e.messages if isinstance(e, Insert) else ()
    splice = next((e for e in own if isinstance(e, Splice)), None)
    if splice is not None:
        yield from splice.messages
    elif old is not None:
        yield old
