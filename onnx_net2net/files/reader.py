"""From a path, bytes, a ModelProto or a gs.Graph to a Source."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError, EncodeError
from onnx import ModelProto

from onnx_net2net.errors import ModelError
from . import tensor_data
from .protobuf import LIMIT, rewrite_tensors
from .rope import File, Range, Rope, memory
from .source import Source

_OTHERS = {
    b"version https://git-lfs": ("it is a git LFS pointer", "run 'git lfs pull'"),
    b"PK\x03\x04": ("it is a zip or PyTorch archive", "export it to ONNX"),
    b"\x80\x02": ("it is a Python pickle", "export it to ONNX"),
    b"<": ("it is a web page or XML", "download the model again"),
    b"\xfd7zXZ": ("it is compressed", "decompress it"),
    b"\x1f\x8b": ("it is compressed", "decompress it"),
    b"\x89HDF": ("it is an HDF5 file", "convert it to ONNX"),
}
_DAMAGED = "it is not an ONNX model, or damaged", "export or download it again"


def read(source: Any, *, directory: str | os.PathLike[str] | None = None) -> Source:
    """Read a model without its large payloads.

    Args:
        source: a path, the bytes of a model, an `onnx.ModelProto`, an onnx-graphsurgeon `Graph`,
            or what `patch.apply` returned.
        directory: folder of the external data; that of the path if not given.

    Raises:
        ModelError: nothing readable there, or not an ONNX model.
        TypeError: `source` is none of these.
    """
    folder = None if directory is None else Path(directory)
    if isinstance(source, Source):
        return source
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        found = _source(Rope([_whole(path)]), path, folder or path.parent)
        if found.proto.metadata_props:
            from .teacher_link import check  # which reads models itself

            check(found, read)
        return found
    if not _is_graphsurgeon(source) and isinstance(getattr(source, "rope", None), Rope):
        known: Source | None = source.known
        if known is None or folder not in (None, known.directory):
            source.known = known = _source(source.rope, None, folder or source.directory)
        return known
    return _source(Rope([memory(_bytes(source))]), None, folder)


def _source(rope: Rope, path: Path | None, folder: Path | None) -> Source:
    proto, payloads = _skeleton(rope, f"'{path}'" if path else "the model")
    return Source(proto, rope, path, folder, payloads)


def _bytes(source: Any) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, ModelProto):
        return _serialized(source)
    if _is_graphsurgeon(source):
        return _serialized(sys.modules["onnx_graphsurgeon"].export_onnx(source))
    raise TypeError(f"expected a path, bytes, ModelProto or gs.Graph, not {type(source)}")


def _whole(path: Path) -> Range:
    try:
        if not path.exists():
            raise ModelError(f"'{path}' does not exist", "give the path of an ONNX model")
        if not path.is_file():
            raise ModelError(f"'{path}' is not a file", "give the path of an ONNX model")
        file = File.at(path)
        file.open().close()
    except OSError as error:
        raise ModelError(f"cannot read '{path}'", str(error.strerror)) from error
    return Range(file, 0, file.size)


def _serialized(model: ModelProto) -> bytes:
    try:
        return model.SerializeToString()
    except (ValueError, EncodeError) as error:
        raise ModelError(
            "the ModelProto is over 2 GiB", "save it with external data and give the path"
        ) from error


def _is_graphsurgeon(source: object) -> bool:
    """Without importing graphsurgeon: whoever has a Graph has imported it."""
    graphsurgeon = sys.modules.get("onnx_graphsurgeon")
    return graphsurgeon is not None and isinstance(source, graphsurgeon.Graph)


def _skeleton(rope: Rope, name: str) -> tuple[ModelProto, tuple[tuple[int, int], ...]]:
    """The model in `rope` with large payloads cut out, and these; raises ModelError."""
    if not rope.size:
        raise ModelError(f"{name} is empty", "expected an ONNX model")
    cuts: list[tuple[int, int]] = []

    def wanted(start: int, end: int) -> bool:
        return end - start > tensor_data.SMALL

    def cut(start: int, end: int) -> list[Range] | None:
        peeled = tensor_data.peel(rope, start, end)
        if peeled is None:
            return None
        cuts.append((peeled.start, peeled.end))
        return [memory(tensor_data.mark(peeled).SerializeToString())]

    try:
        rest = Rope(rewrite_tensors(rope, wanted, cut) or rope.ranges)
        if rest.size > LIMIT:
            raise ModelError(f"not an ONNX model: {rest.size} bytes that are no tensors")
        data = rest.read(0, rest.size)
        model = ModelProto.FromString(data)
    except DecodeError:
        raise _unreadable(name, rope, _DAMAGED) from None
    except ModelError as error:
        raise _unreadable(name, rope, (error.reason, error.hint)) from None
    if not model.HasField("graph") and not model.functions:
        raise _unreadable(name, rope, ("it holds no graph", "give an ONNX model"))
    if data.count(tensor_data.MARKER.encode()) != len(cuts):
        raise ModelError(f"{name} uses the reserved name '{tensor_data.MARKER}'", "rename it there")
    return model, tuple(cuts)


def _unreadable(name: str, rope: Rope, otherwise: tuple[str, str]) -> ModelError:
    """What the file is, where its first bytes tell, with what to do; else `otherwise`."""
    head = rope.read(0, min(rope.size, 64))
    known = (said for start, said in _OTHERS.items() if head.startswith(start))
    reason, hint = next(known, otherwise)
    return ModelError(f"cannot read {name}: {reason}", hint)
