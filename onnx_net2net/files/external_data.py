"""Where a model keeps its payloads: all inside, or in one file beside it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from onnx import TensorProto

from onnx_net2net.errors import ModelError
from onnx_net2net.files import tensor_data
from onnx_net2net.files.protobuf import LIMIT, fields, rewrite_tensors
from onnx_net2net.files.rope import File, Range, Rope, memory
from onnx_net2net.files.tensor_data import SMALL, Stored

_WINDOW = 1 << 16  # a message up to this size is searched as a whole
_PAGE = 4096  # onnxruntime maps a tensor into memory where it starts on a page
_LINE = 64
_BIG = 1 << 20
_LOCATION = TensorProto.DATA_LOCATION_FIELD_NUMBER


def inlined(rope: Rope, directory: Path | None) -> Rope:
    """The model with its external data inside; raises ModelError if that is missing."""

    def wanted(start: int, end: int) -> bool:
        return end - start > _WINDOW or b"location" in rope.read(start, end)

    edit = partial(_inline, rope, directory)
    return Rope(rewrite_tensors(rope, wanted, edit) or rope.ranges)


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

    def wanted(start: int, end: int) -> bool:
        return end - start > SMALL or b"location" in rope.read(start, end)

    def move(start: int, end: int) -> list[Range] | None:
        nonlocal size
        tensor = _external(rope, start, end)
        if tensor is not None:
            stored = tensor_data.external(tensor, directory)
            tensor = _inside(tensor)
        else:
            peeled = tensor_data.peel(rope, start, end)
            if peeled is None or peeled.field not in tensor_data.AS_RAW:
                return None
            tensor = peeled.tensor
            stored = Stored(peeled.field, Rope(rope.slice(peeled.start, peeled.end)))
        if stored.rope.size <= SMALL:
            return tensor_data.assemble(tensor, stored)
        gap = -size % (_PAGE if stored.rope.size >= _BIG else _LINE)
        entries = {"location": location, "offset": size + gap, "length": stored.rope.size}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        tensor.data_location = TensorProto.EXTERNAL
        out.extend([memory(bytes(gap)), *stored.rope.ranges])
        size += gap + stored.rope.size
        return [memory(tensor.SerializeToString())]

    edit_sparse = partial(_inline, rope, directory)
    model = Rope(rewrite_tensors(rope, wanted, move, edit_sparse) or rope.ranges)
    if model.size > LIMIT:
        raise ModelError("the model is over 2 GiB even with its tensors outside")
    return model, Rope(out)


def linked(rope: Rope, directory: Path | None) -> Rope:
    """The model with payloads that lie in files left there: in `directory`, as external data.

    What lies in memory, is no raw bytes or belongs to a sparse tensor stays or comes inside.
    """

    def refer(start: int, end: int) -> list[Range] | None:
        peeled = tensor_data.peel(rope, start, end)
        if peeled is None or peeled.field not in tensor_data.AS_RAW:
            return None
        ranges = rope.slice(peeled.start, peeled.end)
        store = ranges[0].store
        if len(ranges) > 1 or not isinstance(store, File) or store.path.parent != directory:
            return None
        entries = {"location": store.path.name, "offset": ranges[0].offset}
        for key, value in {**entries, "length": ranges[0].length}.items():
            peeled.tensor.external_data.add(key=key, value=str(value))
        peeled.tensor.data_location = TensorProto.EXTERNAL
        return [memory(peeled.tensor.SerializeToString())]

    def wanted(start: int, end: int) -> bool:
        return end - start > SMALL

    edit_sparse = partial(_inline, rope, directory)
    return Rope(rewrite_tensors(rope, wanted, refer, edit_sparse) or rope.ranges)


def externals(rope: Rope) -> list[TensorProto]:
    """The tensors with external data, without what they hold."""
    found: list[TensorProto] = []

    def wanted(start: int, end: int) -> bool:
        return end - start > _WINDOW or b"location" in rope.read(start, end)

    def note(start: int, end: int) -> None:
        if tensor := _external(rope, start, end):
            found.append(tensor)

    rewrite_tensors(rope, wanted, note)
    return found


def locations(rope: Rope) -> set[str]:
    """The names of the external data files."""
    return {e.value for t in externals(rope) for e in t.external_data if e.key == "location"}


def _inline(rope: Rope, directory: Path | None, start: int, end: int) -> list[Range] | None:
    """The tensor with its external data inside, None if it has none."""
    tensor = _external(rope, start, end)
    if tensor is None:
        return None
    stored = tensor_data.external(tensor, directory)
    return tensor_data.assemble(_inside(tensor), stored)


def _external(rope: Rope, start: int, end: int) -> TensorProto | None:
    """The tensor between `start` and `end` if its data is external."""
    for field in fields(rope, start, end):
        if field.number == _LOCATION:
            tensor = tensor_data.parse_tensor(rope.read(start, end))
            return tensor if tensor.data_location == TensorProto.EXTERNAL else None
    return None


def _inside(tensor: TensorProto) -> TensorProto:
    """The tensor without its external location and without a stray payload."""
    for name in ("external_data", "data_location", "raw_data"):
        tensor.ClearField(name)
    return tensor
