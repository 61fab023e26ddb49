"""protobuf's wire format: the fields of a message, and rewriting some of them.

Nothing here reads a payload: a field that nobody asks about is skipped by its length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import onnx

from onnx_net2net.errors import ModelError
from .rope import Range, Rope, memory

Descriptor = Any  # protobuf's classes have no types in every version that we support

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
LIMIT = 2**31 - 1  # bytes that protobuf takes in one message
_DEPTH = 100  # messages inside messages that protobuf takes
_BLOCK = 1 << 9  # less than what a rope takes along, so that a short hop reads nothing
_FIXED = {FIXED64: 8, FIXED32: 4}
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
    if at < len(data) and data[at] < 0x80:  # most are short
        return data[at], at + 1
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

    Args:
        rope: bytes that hold the message.
        start, end: where in them it lies, without its own tag and length.
    """
    block, base, at = b"", start, start
    groups: list[int] = []  # numbers of the groups that are open
    while at < end:
        if at - base + _HEADER > len(block):
            base, block = at, rope.read(at, min(at + _BLOCK, end))
        tag, behind_tag = read_varint(block, at - base)
        number, wire = tag >> 3, tag & 7
        head, length = _extent(wire, block, behind_tag)
        body, stop = base + head, base + head + length
        if wire in (GROUP, END_GROUP) or wire > FIXED32:
            _nest(groups, number, wire, at)
        if stop > end:
            raise _damaged(f"the field at byte {at} claims {stop - at} bytes of {end - at} left")
        if not groups and wire != END_GROUP:
            yield Field(number, wire, at, body, stop)
        at = stop
    if groups:
        raise _damaged("a group has no end")


def _extent(wire: int, block: bytes, at: int) -> tuple[int, int]:
    """Where in a block a field's content begins, behind its tag, and how long it is."""
    if wire == BYTES:
        length, at = read_varint(block, at)
        return at, length
    if wire == VARINT:
        return at, read_varint(block, at)[1] - at
    return at, _FIXED.get(wire, 0)


def _nest(groups: list[int], number: int, wire: int, at: int) -> None:
    """Open or close a group; raises ModelError, also for what is no field at all."""
    if wire == GROUP:
        groups.append(number)
    elif wire != END_GROUP or not groups or groups.pop() != number:
        raise _damaged(f"broken field at byte {at}")


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


_Wanted = Callable[[int, int], bool]
EditTensor = Callable[[int, int], "list[Range] | None"]


def rewrite_tensors(
    rope: Rope,
    wanted: _Wanted,
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
    walk = _Walk(rope, wanted, edit, edit_sparse or edit)
    return walk.message(0, rope.size, kind or onnx.ModelProto.DESCRIPTOR, 1)


class _Walk(NamedTuple):
    """What `rewrite_tensors` was given, on its way down."""

    rope: Rope
    wanted: _Wanted
    edit: EditTensor
    edit_sparse: EditTensor

    def message(self, start: int, end: int, kind: Descriptor, depth: int) -> list[Range] | None:
        """A message with its tensors rewritten, None if all were kept.

        Args:
            start, end: where in the rope it lies.
            kind: its descriptor.
            depth: how many messages it lies in, itself included.
        """
        if kind.name == "TensorProto":
            return self.edit(start, end)
        if depth > _DEPTH:
            raise _damaged(f"messages are nested more than {_DEPTH} deep at byte {start}")
        below = self._replace(edit=self.edit_sparse) if kind.name == "SparseTensorProto" else self
        inner = _to_tensors()[kind.name]
        return rewrite(self.rope, start, end, partial(below._visit, inner, depth + 1))

    def _visit(self, inner: dict[int, Descriptor], depth: int, field: Field) -> list[Range] | None:
        kind = inner.get(field.number) if field.wire == BYTES else None
        if kind is None or not self.wanted(field.body, field.end):
            return None
        new = self.message(field.body, field.end, kind, depth)
        return None if new is None else length_delimited(field.number, new)


@cache
def _to_tensors() -> dict[str, dict[int, Descriptor]]:
    """For each kind of message, the fields through which a tensor can be reached."""
    known: dict[str, dict[int, Descriptor]] = {}
    todo = [onnx.ModelProto.DESCRIPTOR]
    while todo:
        kind = todo.pop()
        known[kind.name] = {f.number: f.message_type for f in kind.fields if f.message_type}
        todo += [below for below in known[kind.name].values() if below.name not in known]
    reaching, more = set[str](), {"TensorProto"}
    while more:
        reaching |= more
        holders = (n for n, inner in known.items() if {b.name for b in inner.values()} & reaching)
        more = set(holders) - reaching
    return {
        name: {number: below for number, below in inner.items() if below.name in reaching}
        for name, inner in known.items()
    }
