"""protobuf's wire format: the fields of a message, and rewriting some of them.

Nothing here reads a payload: a field that nobody asks about is skipped by its length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import onnx

from onnx_net2net.errors import ModelError
from onnx_net2net.files.rope import Range, Rope, memory

Descriptor = Any  # protobuf's classes have no types in every version that we support

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
LIMIT = 2**31 - 1  # bytes that protobuf takes in one message
_DEPTH = 100  # messages inside messages that protobuf takes
_BLOCK = 1 << 9  # less than what a rope takes along, so that a short hop reads nothing
_HEADER = 15  # the longest tag and length


class Field(NamedTuple):
    """One field of a message: its tag stands at `start`, what it holds from `body` to `end`."""

    number: int
    wire: int
    start: int
    body: int
    end: int


def varint(value: int) -> bytes:
    """`value` as protobuf writes unsigned numbers.

    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at` and the position after it; raises ModelError."""
    value = shift = 0
    for position in range(at, min(at + 10, len(data))):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    raise _damaged(f"broken number at byte {at}")


def length_delimited(number: int, body: list[Range]) -> list[Range]:
    """A field that holds `body`: tag, length, body."""
    size = sum(piece.length for piece in body)
    return [memory(varint(number << 3 | BYTES) + varint(size)), *body]


def fields(rope: Rope, start: int, end: int) -> Iterator[Field]:
    """The fields of the message between `start` and `end`, in file order; raises ModelError.

    Groups are passed over: nothing in onnx is one.
    """
    block, base, at, size = b"", start, start, 0
    groups: list[int] = []  # numbers of the groups that are open
    while at < end:
        if at - base + _HEADER > size:
            base, block = at, rope.read(at, min(at + _BLOCK, end))
            size = len(block)
        here = at - base
        tag, next_at = block[here], here + 1
        if tag >= 0x80:
            tag, next_at = read_varint(block, here)
        number, wire = tag >> 3, tag & 7
        body = stop = base + next_at
        if wire == BYTES:
            length = block[next_at] if next_at < size else 0x80
            if length < 0x80:
                next_at += 1
            else:
                length, next_at = read_varint(block, next_at)
            body = base + next_at
            stop = body + length
        elif wire == VARINT:
            stop = base + read_varint(block, next_at)[1]
        elif wire == FIXED64:
            stop = body + 8
        elif wire == FIXED32:
            stop = body + 4
        elif wire == GROUP:
            groups.append(number)
        elif wire != END_GROUP or not groups or groups.pop() != number:
            raise _damaged(f"broken field at byte {at}")
        if stop > end:
            raise _damaged(f"the field at byte {at} claims {stop - at} bytes of {end - at} left")
        if not groups and wire != END_GROUP:
            yield Field(number, wire, at, body, stop)
        at = stop
    if groups:
        raise _damaged("a group has no end")


def _damaged(what: str) -> ModelError:
    return ModelError(f"not an ONNX model, or cut short: {what}", "export or download it again")


Visit = Callable[[Field], "list[Range] | None"]


def rewrite(rope: Rope, start: int, end: int, visit: Visit) -> list[Range] | None:
    """The message between `start` and `end` with some fields replaced.

    Args:
        visit: called with each field; returns what stands in its place (tags included), or
            None to keep it.

    Returns:
        The new message, or None if every field was kept.
    """
    out: list[Range] = []
    done = start
    changed = False
    for field in fields(rope, start, end):
        new = visit(field)
        if new is not None:
            out += rope.slice(done, field.start)
            out += new
            done = field.end
            changed = True
    return out + rope.slice(done, end) if changed else None


Wanted = Callable[[int, int], bool]
EditTensor = Callable[[int, int], "list[Range] | None"]


def rewrite_tensors(
    rope: Rope,
    wanted: Wanted,
    edit: EditTensor,
    edit_sparse: EditTensor | None = None,
    kind: Descriptor | None = None,
) -> list[Range] | None:
    """The message in `rope` with some of the tensors in it replaced, however deep they are.

    Args:
        wanted: asked with start and end of a message whether to look inside.
        edit: called with start and end of a tensor; returns the new one or None to keep it.
        edit_sparse: called in the place of `edit` for the parts of sparse tensors.
        kind: descriptor of the message; a model if not given.

    Returns:
        The new message, or None if every tensor was kept.
    """

    def message(
        start: int, end: int, kind: Descriptor, depth: int, edit: EditTensor
    ) -> list[Range] | None:
        if kind.name == "TensorProto":
            return edit(start, end)
        if kind.name == "SparseTensorProto":
            edit = edit_sparse or edit
        if depth > _DEPTH:
            raise _damaged(f"messages are nested more than {_DEPTH} deep at byte {start}")
        inner = _to_tensors()[kind.name]

        def visit(field: Field) -> list[Range] | None:
            below = inner.get(field.number) if field.wire == BYTES else None
            if below is None or not wanted(field.body, field.end):
                return None
            new = message(field.body, field.end, below, depth + 1, edit)
            return None if new is None else length_delimited(field.number, new)

        return rewrite(rope, start, end, visit)

    return message(0, rope.size, kind or onnx.ModelProto.DESCRIPTOR, 1, edit)


@cache
def _to_tensors() -> dict[str, dict[int, Descriptor]]:
    """For each kind of message, the fields through which a tensor can be reached."""
    known: dict[str, dict[int, Descriptor]] = {}

    def visit(kind: Descriptor) -> None:
        known[kind.name] = {f.number: f.message_type for f in kind.fields if f.message_type}
        for below in known[kind.name].values():
            if below.name not in known:
                visit(below)

    visit(onnx.ModelProto.DESCRIPTOR)
    reaching = {"TensorProto"}
    while True:
        more = {
            name
            for name, inner in known.items()
            if any(below.name in reaching for below in inner.values())
        }
        if more <= reaching:
            break
        reaching |= more
    return {
        name: {number: below for number, below in inner.items() if below.name in reaching}
        for name, inner in known.items()
    }
