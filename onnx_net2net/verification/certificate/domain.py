"""Names for functions of the model's inputs: what the certificate computes with.

An element of a tensor is named by the tensor's tag and one label per axis. Elements with
equal names, in the teacher or the student, are the same function of the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.names import (
    ZERO,
    Labels,
    content_name,
    key,
    label_digest,
    mix,
    rows_along,
)

_SMALL = 1 << 16


class UnknownError(Exception):
    """A rule cannot name its outputs axis by axis here; the message says why."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that depends on the inputs.

    Attributes:
        tag: what it is, together with the labels.
        labels: one array per axis; None where the shape is unknown.
        scale: (axis, factors) that the named elements are multiplied by, if any.
    """

    tag: int
    labels: tuple[Labels, ...] | None
    scale: tuple[int, Array] | None = None

    @property
    def axes(self) -> tuple[Labels, ...]:
        """The labels; raises UnknownError where the shape is unknown."""
        if self.labels is None:
            raise UnknownError("a shape is unknown")
        return self.labels

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return tuple(len(x) for x in self.axes)

    @cached_property
    def whole(self) -> int:
        """A name for the tensor as it is, with every position in its place."""
        if self.labels is None:
            return key("whole", self.tag)
        v = self.settled()
        return key("whole", v.tag, [label_digest(x) for x in v.axes])

    def settled(self) -> Value:
        """The same without `scale`: the factors become part of the labels."""
        if self.scale is None:
            return self
        axis, factors = self.scale
        labels = list(self.axes)
        bits = np.ascontiguousarray(factors, np.float64).view(np.uint64)
        scaled = np.where(factors == 1.0, labels[axis], mix(labels[axis], bits))
        labels[axis] = np.where((factors == 0.0) | (labels[axis] == ZERO), ZERO, scaled)
        kept = bool(np.isin(factors, (0.0, 1.0)).all())  # what held of the tag still holds
        return Value(self.tag if kept else key("scaled", self.tag), tuple(labels))

    def relabelled(self, axis: int, labels: Labels) -> Value:
        """With other labels on one axis."""
        found = list(self.axes)
        found[axis] = labels
        return replace(self, labels=tuple(found))


class Const:
    """A tensor that does not depend on the inputs; its array is read when it is needed."""

    __slots__ = ("_array", "_known", "_load", "dtype", "key", "shape")

    def __init__(
        self, name: int, shape: Sequence[int], dtype: np.dtype[Any], load: Callable[[], Array]
    ) -> None:
        self.key, self.shape, self.dtype = name, tuple(shape), dtype
        self._load = load
        self._array: Array | None = None
        self._known: dict[Any, Any] = {}

    @classmethod
    def of(cls, array: Array) -> Const:
        """A constant that is at hand, named by its content."""
        return cls(content_name(array), array.shape, array.dtype, lambda: array)

    @property
    def whole(self) -> int:
        """A name for the tensor as it is."""
        return self.key

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    def rows(self, axis: int) -> Labels:
        """A label for each position of an axis from the bits that stand there."""
        if axis not in self._known:
            found = rows_along(self.array(), axis)
            found.flags.writeable = False
            self._known[axis] = found
        return self._known[axis]

    def along(self, rank: int) -> Const:
        """A vector as a constant that broadcasts along the first of `rank` axes."""
        if ("along", rank) not in self._known:
            shape = (self.size, *[1] * (rank - 1))
            view = Const(self.key, shape, self.dtype, lambda: self.array().reshape(shape))
            self._known["along", rank] = view
        return self._known["along", rank]

    def array(self) -> Array:
        """What it holds; small ones are kept."""
        if self._array is not None:
            return self._array
        found = self._load()
        if found.nbytes <= _SMALL:
            self._array = found
        return found


Term = Value | Const
