"""The two models side by side, and which of their constants are the same bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from onnx_net2net.errors import ModelError
from onnx_net2net.files.reader import read
from onnx_net2net.files.source import Source
from onnx_net2net.files.tensor_data import is_external
from onnx_net2net.graph.functions import Path, stored
from onnx_net2net.graph.model import Leaf, Model
from onnx_net2net.typing import Array
from onnx_net2net.verification.embedding import Embedding

FLOATS = frozenset(
    (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
)


@dataclass(frozen=True, eq=False)
class Side:
    """One model as read, and its index; `embedding`: how the teacher's interface lies in it."""

    source: Source
    model: Model
    embedding: Embedding = field(default_factory=Embedding)

    @classmethod
    def of(cls, given: Any) -> Side:
        """Read a path, bytes, ModelProto, gs.Graph or Source."""
        source = read(given)
        return cls(source, source.once(Model, lambda: Model(source.proto)))

    def array(self, leaf: Leaf) -> Array | None:
        """What a constant holds; None for strings and sparse values."""
        if leaf.literal is not None:
            dtype = np.int64 if leaf.dtype == TensorProto.INT64 else np.float32
            return np.asarray(leaf.literal, dtype)
        if leaf.tensor is None or leaf.dtype in (TensorProto.STRING, TensorProto.UNDEFINED):
            return None
        return self.source.array(leaf.tensor)

    @cached_property
    def size(self) -> int:
        """Bytes of the model, external data included."""
        return self.source.size + sum(
            4 * math.prod(leaf.shape)
            for leaf in self.model.leaves.values()
            if leaf.tensor is not None and is_external(leaf.tensor)
        )

    def with_arrays(self, arrays: Mapping[str, Array]) -> bytes:
        """The model's bytes with other values in some of its constants.

        Raises:
            ModelError: the model is too large to be held as one proto.
        """
        if self.source.size + sum(a.nbytes for a in arrays.values()) > 1 << 30:
            raise ModelError("the model is too large to be changed in memory", "give its path")
        proto = ModelProto.FromString(self.source.rope.read(0, self.source.size))
        for name, array in arrays.items():
            _put(proto, stored(self.model.leaves[name].path, self.model.calls), array)
        return proto.SerializeToString()


def _put(proto: ModelProto, path: Path, array: Array) -> None:
    message: Any = proto
    for step in path:
        message = message[step] if isinstance(step, int) else getattr(message, step)
    if isinstance(message, TensorProto):
        name = message.name
        message.CopyFrom(onnx.numpy_helper.from_array(np.asarray(array), name))
        return
    del message.attribute[:]
    message.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(
        onnx.numpy_helper.from_array(np.asarray(array))
    )


def same_bytes(a: Array | None, b: Array | None) -> bool:
    """Whether two arrays have one type, one shape and the same bits."""
    if a is None or b is None or a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.size == 0:
        return True
    x = np.ascontiguousarray(a).reshape(-1).view(np.uint8)
    y = np.ascontiguousarray(b).reshape(-1).view(np.uint8)
    return bool(np.array_equal(x, y))


class Sides:
    """Teacher and student; `whole` reads also what both have at one place of one file."""

    def __init__(self, teacher: Side, student: Side, whole: bool = False) -> None:
        self.teacher, self.student, self.whole = teacher, student, whole
        self._same: dict[str, bool] = {}

    def same(self, name: str) -> bool:
        """Whether both models hold a constant of this name with the same bits."""
        if name not in self._same:
            a, b = self.teacher.model.leaves.get(name), self.student.model.leaves.get(name)
            self._same[name] = a is not None and b is not None and self.alike(a, b)
        return self._same[name]

    def alike(self, a: Leaf, b: Leaf) -> bool:
        """Whether a constant of the teacher and one of the student have the same bits."""
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        if a.tensor is None or b.tensor is None or a.dtype == TensorProto.STRING:
            return same_bytes(self.teacher.array(a), self.student.array(b))
        return self.teacher.source.same(a.tensor, self.student.source, b.tensor, self.whole)

    def changed(self, side: Side) -> list[str]:
        """The float constants of one model that the other does not hold alike."""
        return [
            name
            for name, leaf in side.model.leaves.items()
            if leaf.dtype in FLOATS and not self.same(name)
        ]

    def floats(self, side: Side) -> list[str]:
        """All float constants of one model."""
        return [n for n, leaf in side.model.leaves.items() if leaf.dtype in FLOATS]
