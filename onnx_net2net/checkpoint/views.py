"""How a constant of an ONNX file is made of a checkpoint's parameters, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_net2net.typing import Array

GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""ONNX's order of gates (iofc, zrh) in terms of PyTorch's (ifgo, rzn)."""


@dataclass(frozen=True)
class View:
    """A constant as a movement of parameters; it works at any width.

    `kind`: `same`, `transposed` (the last two axes), `reshaped` (axes of length 1 added or
    dropped), `gates` and `gate biases` (recurrent layers: gates in ONNX's `order`, one row
    for each direction). `shapes`: of the teacher's parameters.
    """

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    order: tuple[int, ...] = ()

    def join(self, parameters: Sequence[Array]) -> Array:
        """The constant."""
        first = parameters[0]
        if self.kind == "transposed":
            return first.swapaxes(-1, -2)
        if self.kind == "reshaped":
            return first.reshape(self.shape)
        if self.kind == "gates":
            return np.stack([self._ordered(p, self.order) for p in parameters])
        if self.kind == "gate biases":
            rows = [self._ordered(p, self.order) for p in parameters]
            pairs = zip(rows[::2], rows[1::2], strict=True)
            return np.stack([np.concatenate(pair) for pair in pairs])
        return first

    def part(self, constant: Array) -> list[Array]:
        """The parameters of a constant, grown or not."""
        if self.kind == "transposed":
            return [constant.swapaxes(-1, -2)]
        if self.kind == "reshaped":
            lengths = iter(n for n, was in zip(constant.shape, self.shape, strict=True) if was > 1)
            return [constant.reshape([1 if n == 1 else next(lengths) for n in self.shapes[0]])]
        back = tuple(np.argsort(self.order).tolist())
        if self.kind == "gates":
            return [self._ordered(row, back) for row in constant]
        if self.kind == "gate biases":
            return [self._ordered(half, back) for row in constant for half in np.split(row, 2)]
        return [constant]

    @staticmethod
    def _ordered(array: Array, order: tuple[int, ...]) -> Array:
        """Blocks of the first axis in another order."""
        return np.concatenate([np.split(array, len(order))[k] for k in order])


def view_of(leaf: Array, parameter: Array, transposed_first: bool = False) -> View | None:
    """How a constant holds a parameter's values; None if it does not.

    Args:
        transposed_first: where both would do, as in a symmetric matrix.
    """
    shapes = (parameter.shape,)
    kinds = ["same", "transposed", "reshaped"]
    if transposed_first:
        kinds[:2] = kinds[1::-1]
    for kind in kinds:
        view = View(kind, shapes, leaf.shape)
        if _fits(kind, leaf.shape, parameter.shape) and same_entries(leaf, view.join([parameter])):
            return view
    return None


def _fits(kind: str, leaf: tuple[int, ...], parameter: tuple[int, ...]) -> bool:
    if kind == "same":
        return leaf == parameter
    if kind == "transposed":
        return 2 <= len(leaf) <= 3 and leaf == (*parameter[:-2], *parameter[:-3:-1])
    return leaf != parameter and [n for n in leaf if n > 1] == [n for n in parameter if n > 1]


def same_entries(leaf: Array, array: Array) -> bool:
    """Whether an exporter could have written one for the other: equal in the file's type."""
    if leaf.shape != array.shape or (array.dtype.kind in "iub") != (leaf.dtype.kind in "iub"):
        return False
    step = max(leaf.size // 64, 1)  # most candidates differ at once
    one, two = leaf.ravel()[::step], array.reshape(-1)[::step].astype(leaf.dtype)
    return np.array_equal(one, two) and np.array_equal(leaf, array.astype(leaf.dtype, copy=False))
