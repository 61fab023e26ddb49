"""A patch: splices over the original bytes; what no splice names is copied, never re-encoded."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import EncodeError
from onnx import ModelProto

from onnx_net2net.errors import ModelError
from . import tensor_data
from .output_form import InMemory, OutputForm, form_of
from .protobuf import BYTES, Descriptor, Field, length_delimited, rewrite, rewrite_tensors
from .rope import Range, Rope, memory
from .source import Source
from .writer import Progress

Message = Any  # a protobuf message of onnx
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Splice:
    """Put `messages` in the place of the repeated element at `path`; none deletes it."""

    path: Path
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Insert:
    """Put `messages` before the element at `path`, or after the last if the index is the length."""

    path: Path
    messages: tuple[Message, ...]


@dataclass
class _Slot:
    """What happens to one field of a message: to its elements, and before them."""

    kind: Descriptor
    repeated: bool
    seen: int = 0
    inside: dict[int, dict[int, _Slot]] = field(default_factory=dict)
    splices: dict[int, Splice] = field(default_factory=dict)
    inserts: dict[int, list[Insert]] = field(default_factory=dict)


class Pieces:
    """A patched model, not yet read or written: ranges of the source and new bytes.

    Attributes:
        rope: the bytes.
        directory: where external data is looked for, None if unknown.
        known: what `read` made of it, once it did.
    """

    __slots__ = ("directory", "known", "rope", "source")

    def __init__(self, source: Source, rope: Rope) -> None:
        self.source = source
        self.rope = rope
        self.directory = source.directory
        self.known: Source | None = None

    def __len__(self) -> int:
        return self.rope.size

    def to_bytes(self) -> bytes:
        """The model's bytes; external data stays external."""
        return self.rope.read(0, self.rope.size)

    def to_proto(self) -> ModelProto:
        """The model with everything inside; raises ModelError over 2 GiB."""
        return InMemory().write(self)

    def write(
        self,
        output: str | os.PathLike[str] | OutputForm,
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Any:
        """Write the model, whole or not at all; its source is never written.

        Args:
            output: a path, for one file (over 2 GiB with external data), or a form.
            force: with a path: replace a file that is there.
            progress: is told how many bytes were copied.

        Returns:
            What the form gives: of files, the path.

        Raises:
            FileExistsError: the file is there (without `force`) or belongs to the source.
            OSError: no room, or not writable.
            ModelError: external data is missing.
        """
        form = form_of(output, force)
        form.check(self.source)
        return form.write(self, progress)


def apply(source: Source, patch: Iterable[Splice | Insert]) -> Pieces:
    """The source with a patch applied; nothing is read or written yet.

    Args:
        patch: splices and inserts; every index counts in the source as it is. Messages may be
            copies of skeleton messages: their payloads are put back.

    Raises:
        ValueError: a path leads nowhere, or two splices are in each other's way.
        TypeError: a message is not of the kind that stands at the path.

    >>> import onnx
    >>> from onnx_net2net.files.reader import read
    >>> relu = onnx.helper.make_node("Relu", ["x"], ["y"])
    >>> source = read(onnx.helper.make_model(onnx.helper.make_graph([relu], "g", [], [])))
    >>> tanh = onnx.helper.make_node("Tanh", ["x"], ["y"])
    >>> student = apply(source, [Splice(("graph", "node", 0), (tanh,))])
    >>> student.to_proto().graph.node[0].op_type
    'Tanh'
    """
    root: dict[int, _Slot] = {}
    for edit in patch:
        _place(root, edit)
    ranges = _rewritten(root, source, 0, source.rope.size) if root else None
    _check_done(root)
    return Pieces(source, Rope(ranges or source.rope.ranges))


def _place(root: dict[int, _Slot], edit: Splice | Insert) -> None:
    """Enter an edit into the tree of slots; raises ValueError and TypeError."""
    slots, kind, rest = root, ModelProto.DESCRIPTOR, list(edit.path)
    while True:
        slot, index = _next_slot(slots, kind, rest, edit)
        if not rest:
            break
        if index in slot.splices:
            raise ValueError(f"{edit.path} lies inside {slot.splices[index].path}")
        slots, kind = slot.inside.setdefault(index, {}), slot.kind
    if not slot.repeated:
        raise ValueError(f"{edit.path} names no element of a repeated field")
    wanted = slot.kind
    other = next((m for m in edit.messages if m.DESCRIPTOR.full_name != wanted.full_name), None)
    if other is not None:
        raise TypeError(f"a {wanted.name} stands at {edit.path}, not {type(other).__name__}")
    if isinstance(edit, Insert):
        slot.inserts.setdefault(index, []).append(edit)
    elif index in slot.splices or index in slot.inside:
        raise ValueError(f"{edit.path} is patched twice")
    else:
        slot.splices[index] = edit


def _next_slot(
    slots: dict[int, _Slot], kind: Descriptor, rest: list[str | int], edit: Splice | Insert
) -> tuple[_Slot, int]:
    """The slot of the field that comes first in `rest`, and the index in it; both are taken off."""
    name = rest.pop(0) if rest else None
    named = kind.fields_by_name.get(name) if isinstance(name, str) else None
    if named is None or named.message_type is None:
        raise ValueError(f"{edit.path} leads nowhere: a {kind.name} has no message '{name}'")
    slot = slots.setdefault(named.number, _Slot(named.message_type, is_repeated(named)))
    index: str | int = 0
    if slot.repeated:
        index = rest.pop(0) if rest else ""
    if not isinstance(index, int) or index < 0:
        raise ValueError(f"{edit.path} has no index after '{name}'")
    return slot, index


def is_repeated(named: Descriptor) -> bool:
    """`label` went away in protobuf 7, `is_repeated` came in 6."""
    repeated = getattr(named, "is_repeated", None)
    return named.label == named.LABEL_REPEATED if repeated is None else bool(repeated)


def _rewritten(slots: dict[int, _Slot], source: Source, start: int, end: int) -> list[Range] | None:
    """The message between `start` and `end` of the source with the edits in `slots` made."""
    rope = source.rope

    def visit(found: Field) -> list[Range] | None:
        slot = slots.get(found.number)
        if slot is None or found.wire != BYTES:
            return None
        index = slot.seen if slot.repeated else 0
        slot.seen += 1
        new = _replaced(slot, index, found, source)
        before = _inserted(slot, found.number, 0, source)
        after = _inserted(slot, found.number, index + 1, source)
        if new is None and not before and not after:
            return None
        return before + (rope.slice(found.start, found.end) if new is None else new) + after

    body = rewrite(rope, start, end, visit)
    first = [
        p for number, slot in sorted(slots.items()) for p in _inserted(slot, number, 0, source)
    ]
    if not first:
        return body
    return (rope.slice(start, end) if body is None else body) + first


def _replaced(slot: _Slot, index: int, found: Field, source: Source) -> list[Range] | None:
    """What is to stand in the place of a field's element; None if that is what stands there."""
    if splice := slot.splices.get(index):
        return _encoded(found.number, splice.messages, source)
    inner = slot.inside.get(index)
    body = _rewritten(inner, source, found.body, found.end) if inner else None
    return None if body is None else length_delimited(found.number, body)


def _inserted(slot: _Slot, number: int, index: int, source: Source) -> list[Range]:
    """The messages to stand before `index`, once."""
    edits = slot.inserts.pop(index, [])
    return [piece for edit in edits for piece in _encoded(number, edit.messages, source)]


def _check_done(slots: dict[int, _Slot]) -> None:
    """Raise ValueError for an edit whose index is past the end."""
    for slot in slots.values():
        last = max([*slot.splices, *slot.inside], default=-1)
        if last >= slot.seen:
            raise ValueError(f"no {slot.kind.name} {last}: there are {slot.seen}")
        for edits in slot.inserts.values():
            raise ValueError(f"no place to insert at {edits[0].path}: there are {slot.seen}")
        for inner in slot.inside.values():
            _check_done(inner)


def _encoded(number: int, messages: Iterable[Message], source: Source) -> list[Range]:
    """The messages as fields, with the payloads of cut tensors put back."""
    return [
        piece for message in messages for piece in length_delimited(number, _whole(message, source))
    ]


def _whole(message: Message, source: Source) -> list[Range]:
    try:
        data = message.SerializeToString()
    except (ValueError, EncodeError) as error:
        raise ModelError(f"a {message.DESCRIPTOR.name} of over 2 GiB cannot be written") from error
    mark = tensor_data.MARKER.encode()
    if mark not in data:
        return [memory(data)]
    rope = Rope([memory(data)])

    def wanted(start: int, end: int) -> bool:
        return data.find(mark, start, end) >= 0

    def put_back(start: int, end: int) -> list[Range] | None:
        tensor = tensor_data.parse_tensor(data[start:end])
        if not tensor_data.is_cut(tensor):
            return None
        return tensor_data.assemble(*tensor_data.unmark(tensor, source.rope))

    return rewrite_tensors(rope, wanted, put_back, kind=message.DESCRIPTOR) or [memory(data)]
