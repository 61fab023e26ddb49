"""How the teacher's interface lies in that of a student which grew it.

The student's metadata declare it, and the two interfaces must bear it out: old positions come
first; new positions of an input may hold anything, those of an output are not compared.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TypeProto

from onnx_net2net.graph.model import Model
from onnx_net2net.typing import Array, Shape
from onnx_net2net.verification.certificate.domain import Const, Term

KEY = "onnx_net2net.interface"
Axes = Mapping[int, "tuple[int, int]"]


@dataclass(frozen=True)
class Embedding:
    """Input, output or table of rows to pick -> axis -> (the teacher's size, the student's)."""

    inputs: Mapping[str, Axes] = field(default_factory=dict)
    outputs: Mapping[str, Axes] = field(default_factory=dict)
    tables: Mapping[str, Axes] = field(default_factory=dict)

    @classmethod
    def of(
        cls, teacher: Model, student: Model, shapes: Mapping[str, Shape | None] | None = None
    ) -> Embedding:
        """What the student declares of this teacher.

        Args:
            shapes: the teacher's, where they are known better than it declares them.
        """
        said = _declared(student)

        def fitting(kind: str, names: Sequence[str]) -> dict[str, Axes]:
            entries = said[kind] if isinstance(said.get(kind), dict) else {}
            found = {n: _fitting(entries.get(n), n, teacher, student, shapes) for n in names}
            return {n: axes for n, axes in found.items() if axes}

        return cls(
            fitting("inputs", student.inputs),
            fitting("outputs", student.outputs),
            fitting("tables", tuple(student.leaves)),
        )

    def types(self, types: Mapping[str, TypeProto]) -> dict[str, TypeProto]:
        """The student's input types for the teacher's."""
        found = dict(types)
        for name, axes in self.inputs.items():
            if name in found:
                grown = TypeProto()
                grown.CopyFrom(found[name])
                for axis, (_, size) in axes.items():
                    grown.tensor_type.shape.dim[axis].dim_value = size
                found[name] = grown
        return found

    def sizes(self, sizes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """The student's input sizes for the teacher's."""
        return {n: _resized(s, self.inputs.get(n, {})) for n, s in sizes.items()}

    def feed(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """The student's inputs: the teacher's, and anything at the new positions."""
        return {n: _filled(n, np.asarray(v), self.inputs.get(n, {})) for n, v in values.items()}

    def cut(self, name: str, value: Any) -> Any:
        """An output of the student's without the new positions."""
        axes = self.outputs.get(name)
        return value if axes is None else value[_old(axes, value.ndim)]

    def cut_term(self, name: str, term: Term) -> Term:
        """The same in the algebra of the certificate."""
        axes = self.outputs.get(name)
        if axes is None:
            return term
        if isinstance(term, Const):
            return Const.of(np.ascontiguousarray(term.array()[_old(axes, len(term.shape))]))
        term = term.settled()
        for axis, (size, _) in axes.items():
            if term.labels is not None:
                term = term.relabelled(axis, term.axes[axis][:size])
        return term

    def table(self, name: str, axis: int, table: Const) -> Const:
        """A table of which rows are picked, without the new ones."""
        axes = self.tables.get(name, {})
        if axis not in axes:
            return table
        old = np.take(table.array(), np.arange(axes[axis][0]), axis)
        return Const.of(np.ascontiguousarray(old))

    def __str__(self) -> str:
        said = [
            f"axis {axis} of '{name}' ({a} of {b})"
            for names in (self.inputs, self.outputs, self.tables)
            for name, axes in names.items()
            for axis, (a, b) in axes.items()
        ]
        return ", ".join(said)


def _declared(student: Model) -> dict[str, Any]:
    text = next((p.value for p in student.proto.metadata_props if p.key == KEY), "")
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _fitting(
    entries: Any, name: str, teacher: Model, student: Model,
    shapes: Mapping[str, Shape | None] | None,
) -> Axes:  # fmt: skip
    """The declared axes that the sizes of both models bear out; malformed ones count as none."""
    if not isinstance(entries, list):
        return {}
    mine, theirs = _dims(teacher, name), _dims(student, name)
    known = (shapes or {}).get(name)
    found = {}
    for entry in entries:
        try:
            axis, least, size = (int(entry[k]) for k in ("axis", "from", "to"))
            before = known[axis] if known is not None else mine[axis] if mine is not None else least
            after = theirs[axis] if theirs is not None else size
        except (KeyError, IndexError, TypeError, ValueError):
            continue
        before = least if before is None else before
        if axis >= 0 and least <= before < size and after in (size, None):
            found[axis] = (before, size)
    return found


def _dims(model: Model, name: str) -> list[int | None] | None:
    if name in model.leaves:
        return list(model.leaves[name].shape)
    info = model.infos.get(name)
    if info is None or not info.type.tensor_type.HasField("shape"):
        return None
    return [d.dim_value or None for d in info.type.tensor_type.shape.dim]


def _old(axes: Axes, rank: int) -> tuple[slice, ...]:
    return tuple(slice(axes[k][0]) if k in axes else slice(None) for k in range(rank))


def _resized(shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
    return tuple(axes[k][1] if k in axes else d for k, d in enumerate(shape))


def _filled(name: str, value: Array, axes: Axes) -> Array:
    if not axes:
        return value
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    shape = _resized(value.shape, axes)
    if value.dtype.kind in "iub":
        found = rng.integers(0, 2, shape).astype(value.dtype)
    elif value.dtype == object:
        found = np.full(shape, "word", object)
    else:
        found = rng.standard_normal(shape).astype(value.dtype)
    found[tuple(slice(d) for d in value.shape)] = value
    return found


__all__ = ["Axes", "Embedding"]
