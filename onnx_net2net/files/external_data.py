"""Where a model keeps its payloads: all inside, or in one file beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from onnx import TensorProto

from onnx_net2net.errors import ModelError
from . import tensor_data
from .protobuf import LIMIT, fields, rewrite_tensors
from .rope import File, Range, Rope, memory
from .tensor_data import SMALL, Stored

_WINDOW = 1 << 16  # a message up to this size is searched as a whole
_PAGE = 4096  # onnxruntime maps a tensor into memory where it starts on a page
_LINE = 64
_BIG = 1 << 20
_LOCATION = TensorProto.DATA_LOCATION_FIELD_NUMBER


def inlined(rope: Rope, directory: Path | None) -> Rope:
    """The model with its external data inside; raises ModelError if that is missing."""
    edit = partial(_inline, rope, directory)
    return Rope(rewrite_tensors(rope, _may_hold(rope, _WINDOW), edit) or rope.ranges)


def externalised(rope: Rope, directory: Path | None, location: str) -> tuple[Rope, Rope]:
    """The model with payloads over 1 KiB in one file named `location`, and that file.

    Payloads that are no raw bytes (integers as varints) and those of sparse tensors, which
    onnx does not look for outside, stay inside.

    Args:
        rope: the model's bytes.
        directory: where external data that it has already is looked for.
        location: what the model is to call the file, relative to its own folder.

    Raises:
        ModelError: over 2 GiB stay inside, or external data is missing.
    """
    out: list[Range] = []
    size = 0

    def move(start: int, end: int) -> list[Range] | None:
        nonlocal size
        found = _fetched(rope, directory, start, end) or _raw(rope, start, end)
        if found is None:
            return None
        tensor, stored = found
        if stored.rope.size <= SMALL:
            return tensor_data.assemble(tensor, stored)
        gap = -size % (_PAGE if stored.rope.size >= _BIG else _LINE)
        tensor_data.refer(tensor, location=location, offset=size + gap, length=stored.rope.size)
        out.extend([memory(bytes(gap)), *stored.rope.ranges])
        size += gap + stored.rope.size
        return [memory(tensor.SerializeToString())]

    edit_sparse = partial(_inline, rope, directory)
    wanted = _may_hold(rope, SMALL)
    model = Rope(rewrite_tensors(rope, wanted, move, edit_sparse) or rope.ranges)
    if model.size > LIMIT:
        raise ModelError("the model is over 2 GiB even with its tensors outside")
    return model, Rope(out)


def linked(rope: Rope, directory: Path | None) -> Rope:
    """The model with payloads that lie in files left there: in `directory`, as external data.

    What lies in memory, is no raw bytes or belongs to a sparse tensor stays or comes inside.
    """

    def refer(start: int, end: int) -> list[Range] | None:
        found = _raw(rope, start, end)
        if found is None or len(found[1].rope.ranges) > 1:
            return None
        tensor, (store, offset, length) = found[0], found[1].rope.ranges[0]
        if not isinstance(store, File) or store.path.parent != directory:
            return None
        tensor_data.refer(tensor, location=store.path.name, offset=offset, length=length)
        return [memory(tensor.SerializeToString())]

    def wanted(start: int, end: int) -> bool:
        return end - start > SMALL

    edit_sparse = partial(_inline, rope, directory)
    return Rope(rewrite_tensors(rope, wanted, refer, edit_sparse) or rope.ranges)


def externals(rope: Rope) -> list[TensorProto]:
    """The tensors with external data, without what they hold."""
    found: list[TensorProto] = []

    def note(start: int, end: int) -> None:
        if tensor := _external(rope, start, end):
            found.append(tensor)

    rewrite_tensors(rope, _may_hold(rope, _WINDOW), note)
    return found


def locations(rope: Rope) -> set[str]:
    """The names of the external data files."""
    return {e.value for t in externals(rope) for e in t.external_data if e.key == "location"}


def _may_hold(rope: Rope, small: int) -> Callable[[int, int], bool]:
    """Which messages to look into for external data: large ones, and those that name a location."""
    return lambda start, end: end - start > small or b"location" in rope.read(start, end)


def _inline(rope: Rope, directory: Path | None, start: int, end: int) -> list[Range] | None:
    """The tensor with its external data inside, None if it has none."""
    found = _fetched(rope, directory, start, end)
    return None if found is None else tensor_data.assemble(*found)


def _fetched(
    rope: Rope, directory: Path | None, start: int, end: int
) -> tuple[TensorProto, Stored] | None:
    """A tensor without its external location and a stray payload, and the external data."""
    tensor = _external(rope, start, end)
    if tensor is None:
        return None
    stored = tensor_data.external(tensor, directory)
    for name in ("external_data", "data_location", "raw_data"):
        tensor.ClearField(name)
    return tensor, stored


def _raw(rope: Rope, start: int, end: int) -> tuple[TensorProto, Stored] | None:
    """A tensor apart from its payload, where that is large and raw bytes."""
    peeled = tensor_data.peel(rope, start, end)
    if peeled is None or peeled.field not in tensor_data.AS_RAW:
        return None
    return peeled.tensor, Stored(peeled.field, Rope(rope.slice(peeled.start, peeled.end)))


def _external(rope: Rope, start: int, end: int) -> TensorProto | None:
    """The tensor between `start` and `end` if its data is external."""
    for field in fields(rope, start, end):
        if field.number == _LOCATION:
            tensor = tensor_data.parse_tensor(rope.read(start, end))
            return tensor if tensor.data_location == TensorProto.EXTERNAL else None
    return None
