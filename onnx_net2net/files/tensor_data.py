"""Tensors apart from what they hold: cutting payloads out, finding them and putting them back.

A cut tensor has no payload; its `external_data` ends with an entry `location` = MARKER and says
in the entries after it where in the model's own bytes the payload lies and in which field.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from onnx_net2net.errors import ModelError
from .protobuf import fields, length_delimited
from .rope import File, Range, Rope, memory

MARKER = "*onnx-net2net payload*"
MARKED = b"location\x12" + bytes([len(MARKER)]) + MARKER.encode()  # as protobuf writes it
_AGAIN = "export or download the model again"
_PUT = "put it in the model's folder"
SMALL = 1024  # payloads up to this many bytes stay where they are
RAW = TensorProto.RAW_DATA_FIELD_NUMBER
_HOLDING = frozenset(
    TensorProto.DESCRIPTOR.fields_by_name[name].number
    for name in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")
)
AS_RAW = frozenset(  # fields whose bytes are the same as raw data
    (RAW, TensorProto.FLOAT_DATA_FIELD_NUMBER, TensorProto.DOUBLE_DATA_FIELD_NUMBER)
)
_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
_BITS |= {"FLOAT6E2M3": 6, "FLOAT6E3M2": 6}
_ML_DTYPES = {
    "BFLOAT16": "bfloat16", "FLOAT8E4M3FN": "float8_e4m3fn", "FLOAT8E4M3FNUZ": "float8_e4m3fnuz",
    "FLOAT8E5M2": "float8_e5m2", "FLOAT8E5M2FNUZ": "float8_e5m2fnuz",
    "FLOAT8E8M0": "float8_e8m0fnu", "FLOAT6E2M3": "float6_e2m3fn", "FLOAT6E3M2": "float6_e3m2fn",
    "FLOAT4E2M1": "float4_e2m1fn", "INT4": "int4", "UINT4": "uint4", "INT2": "int2",
    "UINT2": "uint2",
}  # fmt: skip


class Stored(NamedTuple):
    """A payload: in which field of the tensor it stands, and its bytes."""

    field: int
    rope: Rope


class Peeled(NamedTuple):
    """A tensor on the wire without its payload, and where that payload lies."""

    tensor: TensorProto
    field: int
    start: int
    end: int


def parse_tensor(data: bytes) -> TensorProto:
    """A tensor from its bytes; raises ModelError."""
    try:
        return TensorProto.FromString(data)
    except DecodeError as error:
        raise ModelError(
            f"not an ONNX model, or damaged: a tensor does not parse ({error})", _AGAIN
        ) from None


def peel(rope: Rope, start: int, end: int) -> Peeled | None:
    """The tensor between `start` and `end` without its payload.

    None if the payload is small, stored in pieces (one value a field, or several fields) or
    overruled by external data: such a tensor is left as it is.

    Args:
        rope: of the model.
        start, end: where the tensor lies.
    """
    payload = None
    for field in fields(rope, start, end):
        if field.number not in _HOLDING:
            continue
        if payload:
            return None
        payload = field
    if payload is None or payload.end - payload.body <= SMALL:
        return None
    rest = rope.slice(start, payload.start) + rope.slice(payload.end, end)
    tensor = parse_tensor(Rope(rest).read(0, end - start - (payload.end - payload.start)))
    if tensor.data_location == TensorProto.EXTERNAL:
        return None
    return Peeled(tensor, payload.number, payload.body, payload.end)


def mark(peeled: Peeled) -> TensorProto:
    """The tensor with the place of its payload written into `external_data`."""
    tensor = peeled.tensor
    entries: dict[str, str | int] = {
        "location": MARKER, "offset": peeled.start, "length": peeled.end - peeled.start,
        "field": peeled.field,
    }  # fmt: skip
    if tensor.HasField("data_location"):
        entries["data_location"] = "DEFAULT"
    refer(tensor, **entries)
    return tensor


def refer(tensor: TensorProto, **entries: str | int) -> None:
    """Say of a tensor that its payload lies elsewhere, and where."""
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    tensor.data_location = TensorProto.EXTERNAL


def is_cut(tensor: TensorProto) -> bool:
    """Whether the payload was cut out by `mark`."""
    return _marker(tensor) is not None


def is_external(tensor: TensorProto) -> bool:
    """Whether the payload lies in a file of its own, as the model itself says."""
    return tensor.data_location == TensorProto.EXTERNAL and not is_cut(tensor)


def unmark(tensor: TensorProto, model: Rope) -> tuple[TensorProto, Stored]:
    """A cut tensor as it was but for its payload, and that payload in `model`."""
    at = _marker(tensor)
    assert at is not None
    entries = {entry.key: entry.value for entry in tensor.external_data[at:]}
    try:
        start, length, field = (int(entries[key]) for key in ("offset", "length", "field"))
    except (KeyError, ValueError):
        raise ModelError(f"tensor '{tensor.name}' has a broken payload marker") from None
    if start < 0 or length < 0 or start + length > model.size or field not in _HOLDING:
        raise ModelError(f"tensor '{tensor.name}' was cut out of another model")
    whole = TensorProto()
    whole.CopyFrom(tensor)
    del whole.external_data[at:]
    whole.ClearField("data_location")
    if "data_location" in entries:
        whole.data_location = TensorProto.DEFAULT
    return whole, Stored(field, Rope(model.slice(start, start + length)))


def assemble(tensor: TensorProto, stored: Stored) -> list[Range]:
    """The tensor on the wire with its payload where protobuf would write it."""
    data = tensor.SerializeToString(deterministic=True)
    rope = Rope([memory(data)])
    later = (field.start for field in fields(rope, 0, rope.size) if field.number > stored.field)
    at = next(later, rope.size)
    payload = length_delimited(stored.field, list(stored.rope.ranges))
    return [*rope.slice(0, at), *payload, *rope.slice(at, rope.size)]


def external(tensor: TensorProto, directory: Path | None) -> Stored:
    """The payload of a tensor with external data.

    Args:
        directory: the model's folder; the data may not lie outside it.

    Raises:
        ModelError: no folder, a file that is missing, too short or outside the folder.
    """
    name = f"external data of tensor '{tensor.name}'"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if directory is None:
        raise ModelError(f"{name} is in '{location}', and no folder is known", "give the path")
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", "-1"))
    except ValueError:
        raise ModelError(f"{name} has an offset or length that is no number", _AGAIN) from None
    path = directory / location
    try:
        if not path.resolve().is_relative_to(directory.resolve()):
            raise ModelError(f"{name} is at '{location}', outside the model's folder", _PUT)
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ModelError(f"{name} is at '{path}', which is not a file", _PUT)
        file = File.at(path)
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{name} is missing: '{location}' beside the model", _PUT) from error
    if length < 0:
        length = byte_size(tensor)
    if offset < 0 or offset + length > file.size:
        raise ModelError(
            f"{name} should be bytes {offset} to {offset + length} of '{location}', "
            f"which has {file.size}",
            _AGAIN,
        )
    return Stored(RAW, Rope([Range(file, offset, length)]))


def dtype(tensor: TensorProto) -> np.dtype:
    """The element type; raises ModelError for none or an unknown one."""
    code = tensor.data_type
    try:
        return _element(code)[0]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(
            f"tensor '{tensor.name}' has element type {code}, not known here", _AGAIN
        ) from None


@lru_cache(maxsize=64)
def _element(code: int) -> tuple[np.dtype, int]:
    """The type of an element, and how many bits it takes as raw data."""
    name = TensorProto.DataType.Name(code)
    if name in _ML_DTYPES:
        import ml_dtypes

        found = np.dtype(getattr(ml_dtypes, _ML_DTYPES[name]))
    else:
        found = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code))
    return found, _BITS.get(name, found.itemsize * 8)


def byte_size(tensor: TensorProto) -> int:
    """How many bytes the tensor takes as raw data; raises ModelError."""
    if any(size < 0 for size in tensor.dims):
        raise ModelError(f"tensor '{tensor.name}' has the shape {list(tensor.dims)}", _AGAIN)
    dtype(tensor)  # for its complaint
    return (prod(tensor.dims) * _element(tensor.data_type)[1] + 7) // 8


def to_array(tensor: TensorProto, stored: Stored | None) -> np.ndarray:
    """What the tensor holds.

    Args:
        stored: the payload, where it is not inside the tensor.

    Raises:
        ModelError: shape, element type and payload do not fit.
    """
    kind = dtype(tensor)
    text = tensor.data_type == TensorProto.STRING
    if stored is None and tensor.HasField("raw_data") and not text:
        stored = Stored(RAW, Rope([memory(tensor.raw_data)]))
    try:
        if stored and stored.field == RAW:
            wanted = byte_size(tensor)
            if stored.rope.size != wanted:
                raise ModelError(
                    f"tensor '{tensor.name}' of shape {list(tensor.dims)} should have {wanted} "
                    f"bytes and has {stored.rope.size}",
                    _AGAIN,
                )
            if prod(tensor.dims) * kind.itemsize == wanted:
                data = stored.rope.read(0, wanted)
                return np.frombuffer(data, kind).reshape(tensor.dims)
        if stored:
            bare = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
            payload = length_delimited(stored.field, list(stored.rope.ranges))
            rope = Rope([memory(bare.SerializeToString()), *payload])
            tensor = parse_tensor(rope.read(0, rope.size))
        array = onnx.numpy_helper.to_array(tensor)
        return array if text or array.dtype == kind else array.astype(kind)
    except ModelError:
        raise
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ModelError(f"tensor '{tensor.name}' is broken: {error}", _AGAIN) from error


def _marker(tensor: TensorProto) -> int | None:
    """The index of the marker among the entries of `external_data`."""
    entries = enumerate(
        tensor.external_data if tensor.data_location == TensorProto.EXTERNAL else ()
    )
    found = (k for k, e in entries if e.value == MARKER and e.key == "location")
    return next(found, None)
