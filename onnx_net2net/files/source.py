"""Reading a model: a skeleton that protobuf parses, and payloads that stay where they are."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from onnx_net2net.errors import ModelError
from . import tensor_data
from .external_data import externals
from .rope import Rope, memory

Made = TypeVar("Made")


@dataclass(eq=False, repr=False, slots=True)
class Source:
    """A model as it was given, never changed.

    Attributes:
        proto: the model without large payloads; not to be changed, copy what you edit.
        path: the file, None for a model in memory.
        directory: where external data is looked for, None if unknown.
        rope: the bytes.
        payloads: where in them the payloads lie that `proto` lacks, in file order.
    """

    proto: ModelProto
    rope: Rope
    path: Path | None
    directory: Path | None
    payloads: tuple[tuple[int, int], ...] = ()
    _known: dict[Any, Any] = field(default_factory=dict, init=False)

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

    @property
    def files(self) -> set[Path]:
        """The files that it is read from, those of external data too."""
        outside = {self.directory / name for name in self.locations} if self.directory else set()
        return {file.path for file in self.rope.files()} | outside

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

        >>> from onnx_net2net.files.reader import read
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
