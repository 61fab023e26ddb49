"""Students that refer to their teacher's own bytes: which teacher, and whether it is still that.

The student's metadata names the teacher's file and says what it was: a hash of everything but
the payloads, and of the ends of each payload. A teacher that was trained further, exported
again or cut short is told apart; reading it whole is `verify --full-hash`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from onnx import StringStringEntryProto

from onnx_net2net.errors import ModelError, UsageError
from . import external_data, tensor_data
from .protobuf import length_delimited, rewrite
from .rope import Range, Rope, memory
from .source import Source

KEY = "onnx_net2net.teacher"
_METADATA = 14  # the field of a ModelProto
_SAMPLE = 256
_BLOCK = 1 << 20


def check_folder(teacher: Source, target: Path) -> None:
    """Raise UsageError if a student at `target` cannot refer to the teacher's bytes."""
    if teacher.path is None:
        raise UsageError("a teacher in memory has no file to refer to", "give its path")
    if teacher.path.is_symlink():
        raise UsageError(
            f"'{teacher.path}' is a symbolic link, which onnxruntime does not follow",
            "give the path of the file itself",
        )
    if teacher.path.parent.resolve() != target.parent.resolve():
        raise UsageError(
            "a student that refers to its teacher's bytes must lie in the same folder",
            f"write it to '{teacher.path.parent}'",
        )


def linked(rope: Rope, teacher: Source) -> Rope:
    """The model in `rope` with what is the teacher's left in the teacher's files."""
    assert teacher.path is not None
    entry = {"file": teacher.path.name, **identity(teacher)}
    return stamped(external_data.linked(rope, teacher.directory), json.dumps(entry))


def stamped(rope: Rope, entry: str | None) -> Rope:
    """The model with this entry about its teacher in the place of an older one."""
    key = KEY.encode()

    def visit(field: Any) -> list[Range] | None:
        if field.number != _METADATA or key not in rope.read(field.body, field.end):
            return None
        found = StringStringEntryProto.FromString(rope.read(field.body, field.end))
        return [] if found.key == KEY else None

    ranges = rewrite(rope, 0, rope.size, visit)
    new = list(rope.ranges if ranges is None else ranges)
    if entry is None:
        return rope if ranges is None else Rope(new)
    message = StringStringEntryProto(key=KEY, value=entry)
    return Rope([*new, *length_delimited(_METADATA, [memory(message.SerializeToString())])])


def identity(teacher: Source) -> dict[str, Any]:
    """What tells this model from others: its size, and a hash of a part of its bytes."""
    state = hashlib.sha256()
    for rope, start, end in _parts(teacher):
        for at in range(start, end, _BLOCK):
            state.update(rope.read(at, min(at + _BLOCK, end)))
    return {"size": teacher.size, "sha256": state.hexdigest()[:32]}


def _parts(teacher: Source) -> Iterator[tuple[Rope, int, int]]:
    """The stretches that are hashed, neighbours joined."""
    rope, begin = teacher.rope, 0
    for start, end in teacher.payloads:
        if end - start > 2 * _SAMPLE:
            yield rope, begin, start + _SAMPLE
            begin = end - _SAMPLE
    yield rope, begin, rope.size
    for tensor in teacher.externals:
        outside = tensor_data.external(tensor, teacher.directory).rope
        yield outside, 0, min(_SAMPLE, outside.size)
        yield outside, max(0, outside.size - _SAMPLE), outside.size


def check(student: Source, read: Callable[[Path], Source]) -> None:
    """Raise ModelError if the teacher that the student refers to is not what it was.

    Args:
        read: reads a model.
    """
    entry = next((p.value for p in student.proto.metadata_props if p.key == KEY), None)
    if entry is None or student.directory is None:
        return
    try:
        wanted = json.loads(entry)
        name, size, digest = str(wanted["file"]), wanted["size"], wanted["sha256"]
    except (ValueError, KeyError, TypeError):
        broken = f"the entry '{KEY}' in the model's metadata is broken"
        raise ModelError(broken, "grow the student again") from None
    if not name or Path(name).name != name or name == (student.path and student.path.name):
        told = f"the model's metadata name '{name}' as its teacher, which is no file beside it"
        raise ModelError(told, "grow the student again")
    told = f"'{student.path or 'the model'}' keeps weights in its teacher's file '{name}', which"
    path = student.directory / name
    if not path.is_file():
        raise ModelError(f"{told} is missing", "put it back beside the model")
    if path.stat().st_size != size or identity(read(path)) != {"size": size, "sha256": digest}:
        raise ModelError(
            f"{told} has changed since", "put the old one back or grow the student again"
        )
