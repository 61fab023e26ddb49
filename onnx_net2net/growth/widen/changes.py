"""What a growth step changes: constants, operands, attributes, inserted nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnx_net2net.coupling.space import Space
from onnx_net2net.growth.widen.copy_layout import Layout
from onnx_net2net.growth.widen.shape_operands import Operand
from onnx_net2net.growth.widen.units import Row, Units, live
from onnx_net2net.typing import Array

Use = tuple[int, int]


@dataclass(frozen=True)
class Change:
    """What one use of a constant becomes.

    `source`: dimension -> student position -> teacher position; `unit`: likewise, the new
    unit at each position (-1: original). `split`: the dimensions whose copies share the
    weight; `grouped`: one whose rows' groups read it in their own order (see `Layout`).
    `offset`: the zero point of integer weights; only what lies above it is divided.
    `weight`: it makes a layer's output, and new units' part of it is random.
    `keeps`: zero units keep the copied values (scales, variances). `pads`: dimension -> what
    its pads are. `scale`: what all of it is multiplied by (a norm's scale, with pads).
    """

    source: dict[int, Array]
    unit: dict[int, Array]
    split: tuple[int, ...] = ()
    grouped: dict[int, tuple[Array, Array]] = field(default_factory=dict)
    offset: int = 0
    weight: bool = False
    keeps: bool = False
    pads: dict[int, Row] = field(default_factory=dict)
    scale: float = 1.0

    def same(self, other: Change | None) -> bool:
        """Whether both make the same array."""
        return (
            other is not None
            and (self.split, self.offset, self.weight, self.keeps, self.pads, self.scale)
            == (other.split, other.offset, other.weight, other.keeps, other.pads, other.scale)
            and self.source.keys() == other.source.keys()
            and all(np.array_equal(v, other.source[d]) for d, v in self.source.items())
            and all(np.array_equal(v, other.unit[d]) for d, v in self.unit.items())
            and self.grouped.keys() == other.grouped.keys()
            and all(np.array_equal(v[0], other.grouped[d][0]) for d, v in self.grouped.items())
        )


@dataclass(frozen=True)
class Division:
    """A Mul in front of a node's input, where no weight can take the division."""

    node: int
    slot: int
    dim: int
    rank: int
    source: Array
    unit: Array
    dtype: int


@dataclass(frozen=True)
class Correction:
    """A node before an input (slot >= 0) or behind an output (slot < 0) that evens copies out.

    `operand`: its second operand at each position of the axis.
    """

    node: int
    slot: int
    dim: int
    op: str
    operand: Array


@dataclass
class Growth:
    """Everything that one step changes.

    `constants`: (leaf, use) -> change; `parted`: leaves whose uses get different arrays;
    `operands`: sizes and positions that must be rewritten; `attributes`: (node, name) ->
    value; `divisions`, `corrections`: nodes to insert; `layout`: where the copies land;
    `random`: even units that lie where copies would get random weights of their own;
    `averages`: node -> what its output is multiplied by, because pads of zeros count in it.
    """

    space: Space
    units: Units
    layout: Layout
    random: bool = False
    constants: dict[tuple[str, Use], Change] = field(default_factory=dict)
    parted: set[str] = field(default_factory=set)
    operands: list[Operand] = field(default_factory=list)
    attributes: dict[tuple[int, str], int | float | list[int]] = field(default_factory=dict)
    divisions: list[Division] = field(default_factory=list)
    corrections: list[Correction] = field(default_factory=list)
    averages: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Edits:
    """What a widening changes besides arrays, by the names of the teacher's nodes.

    `uses`: for each grown constant, who reads it (node, slot). `attributes` and `literals`:
    numbers that the nodes hold or read, before and after.
    """

    uses: tuple[tuple[tuple[str, int], ...], ...]
    attributes: tuple[Mapping[str, Any], ...]
    literals: tuple[Mapping[str, Any], ...]


def nominal(change: Change, dim: int, kinds: tuple[Row, ...], undivided: bool) -> list[float]:
    """The share of a weight that each position of a divided axis gets, noise left out.

    Args:
        change, dim: of a constant, and which axis; kinds: of the new units.
        undivided: the first of several copies has all of it.

    >>> change = Change({0: np.array([0, 1, 0])}, {0: np.array([-1, -1, 0])}, (0,))
    >>> nominal(change, 0, (Row.COPY,), False)
    [0.5, 1.0, 0.5]
    """
    source, unit = change.source[dim], change.unit[dim]
    on = live(unit, kinds)
    counts = np.bincount(source[on], minlength=int(source.max(initial=0)) + 1)
    if not undivided:
        return [1.0 / int(counts[s]) if o else 0.0 for s, o in zip(source, on, strict=True)]
    first = np.zeros(len(source), bool)
    places = np.flatnonzero(on)
    first[places[np.unique(source[places], return_index=True)[1]]] = True
    return [float(f) for f in first]
