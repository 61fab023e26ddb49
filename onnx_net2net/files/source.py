"""Reading a model: a skeleton that protobuf parses, and payloads that stay where they are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import ModelProto, TensorProto

from onnx_net2net.errors import ModelError
from onnx_net2net.files import tensor_data
from onnx_net2net.files.external_data import externals
from onnx_net2net.files.protobuf import LIMIT, rewrite_tensors
from onnx_net2net.files.rope import File, Range, Rope, memory

Made = TypeVar("Made")
_HINTS = {
    b"version https://git-lfs": "it is a git LFS pointer: run 'git lfs pull'",
    b"PK\x03\x04": "it is a zip or PyTorch archive: export it to ONNX",
    b"\x80\x02": "it is a Python pickle: export it to ONNX",
    b"<": "it is a web page or XML: download the model again",
    b"\xfd7zXZ": "it is compressed: decompress it",
    b"\x1f\x8b": "it is compressed: decompress it",
    b"\x89HDF": "it is an HDF5 file: convert it to ONNX",
}


class Source:
    """A model as it was given, never changed.

    Attributes:
        proto: the model without large payloads; not to be changed, copy what you edit.
        path: the file, None for a model in memory.
        directory: where external data is looked for, None if unknown.
        rope: the bytes.
        payloads: where in them the payloads lie that `proto` lacks, in file order.
    """

    __slots__ = ("_known", "directory", "path", "payloads", "proto", "rope")

    def __init__(
        self,
        proto: ModelProto,
        rope: Rope,
        path: Path | None,
        directory: Path | None,
        payloads: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.proto = proto
        self.rope = rope
        self.payloads = payloads
        self._known: dict[Any, Any] = {}
        self.path = path
        self.directory = directory

    @property
    def size(self) -> int:
        """How many bytes the model has, external data left out."""
        return self.rope.size

    @property
    def externals(self) -> list[TensorProto]:
        """The tensors with external data."""

        def find() -> list[TensorProto]:
            data = self.proto.SerializeToString()
            if data.count(b"location") == data.count(tensor_data.MARKED):  # those that were cut
                return []
            return [t for t in externals(Rope([memory(data)])) if tensor_data.is_external(t)]

        return self.once("externals", find)

    @property
    def locations(self) -> set[str]:
        """The names of the external data files."""
        return {e.value for t in self.externals for e in t.external_data if e.key == "location"}

    def check_externals(self) -> None:
        """Raise ModelError where external data is missing or too short."""
        for tensor in self.externals:
            tensor_data.external(tensor, self.directory)

    def once(self, name: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` returns, kept: an index or sizes that many ask for; not to be changed."""
        if name not in self._known:
            self._known[name] = make()
        found: Made = self._known[name]
        return found

    def array(self, tensor: TensorProto) -> np.ndarray:
        """What a tensor of this model, or a copy of one, holds; may be read-only.

        Raises:
            ModelError: the tensor is broken or its external data is missing or too short.

        >>> weight = onnx.numpy_helper.from_array(np.arange(3))
        >>> graph = onnx.helper.make_graph([], "g", [], [], [weight])
        >>> source = read(onnx.helper.make_model(graph))
        >>> source.array(source.proto.graph.initializer[0])
        array([0, 1, 2])
        """
        return tensor_data.to_array(tensor, self._stored(tensor))

    def raw(self, tensor: TensorProto) -> bytes:
        """What a tensor holds as `raw_data` would hold it; raises ModelError, also for strings."""
        stored = self._stored(tensor)
        if stored is None and tensor.HasField("raw_data"):
            return tensor.raw_data
        if stored and stored.field == tensor_data.RAW:
            return stored.rope.read(0, stored.rope.size)
        if tensor.data_type == TensorProto.STRING:
            raise ModelError(f"tensor '{tensor.name}' holds strings, which have no raw form")
        return onnx.numpy_helper.from_array(self.array(tensor)).raw_data

    def stored(self, tensor: TensorProto) -> Rope:
        """The bytes that `raw_data` would hold, where they lie if they lie so; see `raw`."""
        return self._raw_form(tensor) or Rope([memory(self.raw(tensor))])

    def same(
        self, tensor: TensorProto, other: Source, twin: TensorProto, whole: bool = False
    ) -> bool:
        """Whether a tensor of this model and one of another hold the same bits.

        Both are read in small parts, or not at all where they are one part of one file.

        Args:
            whole: read both in any case.

        Raises:
            ModelError: one of them is broken.
        """
        if tensor.data_type != twin.data_type or list(tensor.dims) != list(twin.dims):
            return False
        one, two = self._raw_form(tensor), other._raw_form(twin)
        if one is not None and two is not None and one.size == two.size:
            return one.equals(two, whole)
        return self.raw(tensor) == other.raw(twin)

    def _raw_form(self, tensor: TensorProto) -> Rope | None:
        """The bytes that the tensor would have as `raw_data`, where it is stored so."""
        stored = self._stored(tensor)
        if stored is not None:
            return stored.rope if stored.field in tensor_data.AS_RAW else None
        return Rope([memory(tensor.raw_data)]) if tensor.HasField("raw_data") else None

    def _stored(self, tensor: TensorProto) -> tensor_data.Stored | None:
        if tensor_data.is_cut(tensor):
            return tensor_data.unmark(tensor, self.rope)[1]
        if tensor_data.is_external(tensor):
            return tensor_data.external(tensor, self.directory)
        return None


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
    path = None
    if isinstance(source, Source):
        return source
    patched = not _is_graphsurgeon(source) and isinstance(getattr(source, "rope", None), Rope)
    known = source.known if patched else None
    if isinstance(known, Source) and folder in (None, known.directory):
        return known
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        folder = folder or path.parent
        rope = Rope([_whole(path)])
    elif isinstance(source, (bytes, bytearray, memoryview)):
        rope = Rope([memory(bytes(source))])
    elif isinstance(source, ModelProto):
        rope = Rope([memory(_serialized(source))])
    elif _is_graphsurgeon(source):
        rope = Rope([memory(_serialized(sys.modules["onnx_graphsurgeon"].export_onnx(source)))])
    elif patched:
        rope = source.rope
        folder = folder or source.directory
    else:
        raise TypeError(f"expected a path, bytes, ModelProto or gs.Graph, not {type(source)}")
    name = f"'{path}'" if path else "the model"
    proto, payloads = _skeleton(rope, name)
    found = Source(proto, rope, path, folder, payloads)
    if path is not None and proto.metadata_props:
        from onnx_net2net.files.teacher_link import check  # which reads models itself

        check(found, read)
    if patched:
        source.known = found
    return found


def _whole(path: Path) -> Range:
    try:
        if not path.exists():
            raise ModelError(f"'{path}' does not exist; give the path of an ONNX model")
        if not path.is_file():
            raise ModelError(f"'{path}' is not a file; give the path of an ONNX model")
        file = File.at(path)
        file.open().close()
    except OSError as error:
        raise ModelError(f"cannot read '{path}': {error.strerror}") from error
    return Range(file, 0, file.size)


def _serialized(model: ModelProto) -> bytes:
    try:
        return model.SerializeToString()
    except (ValueError, EncodeError) as error:
        raise ModelError(
            "the ModelProto is over 2 GiB; save it with external data and give the path"
        ) from error


def _is_graphsurgeon(source: object) -> bool:
    """Without importing graphsurgeon: whoever has a Graph has imported it."""
    graphsurgeon = sys.modules.get("onnx_graphsurgeon")
    return graphsurgeon is not None and isinstance(source, graphsurgeon.Graph)


def _skeleton(rope: Rope, name: str) -> tuple[ModelProto, tuple[tuple[int, int], ...]]:
    """The model in `rope` with large payloads cut out, and these; raises ModelError."""
    if not rope.size:
        raise ModelError(f"{name} is empty; expected an ONNX model")
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
    except (ModelError, DecodeError) as error:
        raise ModelError(f"cannot read {name}: {_reason(rope, error)}") from None
    if not model.HasField("graph") and not model.functions:
        raise ModelError(f"{name} holds no graph; {_reason(rope, 'expected an ONNX model')}")
    if data.count(tensor_data.MARKER.encode()) != len(cuts):
        raise ModelError(f"{name} uses the reserved name '{tensor_data.MARKER}'; rename it there")
    return model, tuple(cuts)


def _reason(rope: Rope, error: object) -> str:
    head = rope.read(0, min(rope.size, 64))
    hints = (hint for start, hint in _HINTS.items() if head.startswith(start))
    if hint := next(hints, None):
        return hint
    if isinstance(error, DecodeError):
        return "it is not an ONNX model, or damaged; export or download it again"
    return str(error)
