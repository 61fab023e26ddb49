"""What a rule about sizes is given, and the two tables of such rules: shapes and values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from onnx_net2net.graph.model import Node
from onnx_net2net.inference.expressions import Dim, Expr
from onnx_net2net.typing import Array, Shape

Dims = tuple[Dim, ...]


@dataclass(frozen=True)
class Described:
    """A value of open length, or too large to be written out: named by how it is computed."""

    name: str
    shape: Dims


Sized: TypeAlias = Array | Described
"""A value that depends on a size: an object array of expressions and ints, or `Described`."""


@dataclass(frozen=True)
class Open:
    """A node some operand of which has an open axis or holds sizes.

    Attributes:
        shapes: per input, None where the rank or a size is unknown.
        values: per input: ints and what depends on sizes; None where unknown.
        outs: shapes of the outputs at the sizes that are looked at.
        dtypes: element types of the inputs.
    """

    node: Node
    shapes: tuple[Dims | None, ...]
    values: tuple[Sized | None, ...]
    outs: tuple[Shape | None, ...]
    dtypes: tuple[int, ...]

    def attr(self, name: str, default: Any = None) -> Any:
        """The node's attribute, or `default`."""
        return self.node.attr(name, default)

    def has(self, slot: int) -> bool:
        """Whether input `slot` is present."""
        return bool(self.node.tensor(slot))

    def shape(self, slot: int = 0) -> Dims:
        """Shape of an input; raises LookupError where it is unknown."""
        found = self.shapes[slot] if slot < len(self.shapes) else None
        if found is None:
            raise LookupError(f"shape of input {slot}")
        return found

    def array(self, slot: int) -> Array:
        """Elements of an input; raises LookupError where they are not known one by one."""
        found = self.values[slot] if slot < len(self.values) else None
        if found is None or isinstance(found, Described):
            raise LookupError(f"elements of input {slot}")
        return found

    def ints(self, slot: int, attribute: str = "") -> list[Dim] | None:
        """Sizes given by an input or, in old opsets, by an attribute; None: absent."""
        if self.has(slot):
            found = self.array(slot).reshape(-1)
            if found.dtype.kind not in "iubO":
                raise LookupError(f"input {slot} holds no integers")
            return [v if isinstance(v, Expr) else int(v) for v in found]
        given = self.attr(attribute) if attribute else None
        return None if given is None else [int(v) for v in np.atleast_1d(given)]

    def fixed(self, slot: int, attribute: str = "") -> list[int] | None:
        """The same, of numbers that depend on no size; raises LookupError otherwise."""
        found = self.ints(slot, attribute)
        if found is None:
            return None
        if any(isinstance(v, Expr) for v in found):
            raise LookupError(f"input {slot} depends on a size")
        return [int(v) for v in found if not isinstance(v, Expr)]

    def axes(self, slot: int, count: int, rank: int) -> list[int]:
        """Axes by input or attribute `axes`, the first `count` where none are given."""
        given = self.fixed(slot, "axes")
        return list(range(count)) if given is None else [a % rank for a in given]


ShapeRule = Callable[[Open], Sequence["Dims | None"]]
ValueRule = Callable[[Open], Sequence[Sized]]
SHAPES: dict[str, ShapeRule] = {}
VALUES: dict[str, ValueRule] = {}


def shapes(names: str) -> Callable[[ShapeRule], ShapeRule]:
    """Put a rule about shapes into the table under each operator's name."""

    def put(f: ShapeRule) -> ShapeRule:
        SHAPES.update(dict.fromkeys(names.split(), f))
        return f

    return put


def value_rule(names: str) -> Callable[[ValueRule], ValueRule]:
    """Put a rule about values into the table under each operator's name."""

    def put(f: ValueRule) -> ValueRule:
        VALUES.update(dict.fromkeys(names.split(), f))
        return f

    return put


def objects(array: Array) -> Array:
    """An array as Python's numbers, so that expressions can stand beside them."""
    return array if array.dtype == object else array.astype(object)


def over_elements(f: Callable[..., Any], *arrays: Array) -> Array:
    """`f` at each position of broadcast arrays, as an object array."""
    wide = np.broadcast_arrays(*map(objects, arrays))
    found = np.empty(wide[0].shape, object)
    for at in np.ndindex(found.shape):
        found[at] = f(*(w[at] for w in wide))
    return found


def is_open(dims: Sequence[Dim] | None) -> bool:
    """Whether a size depends on a symbol."""
    return dims is not None and any(isinstance(d, Expr) for d in dims)


__all__ = [
    "SHAPES",
    "VALUES",
    "Described",
    "Dims",
    "Open",
    "Sized",
    "is_open",
    "objects",
    "over_elements",
    "shapes",
    "value_rule",
]
