"""Normalised axes at any width: what stands in the rows beyond whole copies.

A LayerNormalization sees the same mean and a variance scaled by a known factor if the rest of
its axis holds the mean of the others; an RMS norm if it holds zeros. So every tensor of such
a stream carries one of two fills, tied through everything that is linear; the norm turns
means into zeros, and what reads zeros is free. A tensor that would have to hold both (a norm
behind the residual sum) forbids it.

Source: LEMON (Wang et al. 2023), average expansion; the theorem on LayerNormalization's
kernel: means pass nothing but sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import onnx

from onnx_net2net.coupling.space import Axis, Instance, Space, axis_of
from onnx_net2net.errors import Reason, Refusal, RefusalError
from onnx_net2net.graph.model import Node
from onnx_net2net.graph.union_find import UnionFind
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.inference.shapes import FLOATS
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.notation import Entry
from onnx_net2net.operators.spec import Rule, Site
from onnx_net2net.operators.table import TABLE
from .changes import Change, Growth
from .units import Padding, Row, Units
from .widths import Widths

_WHOLE = "only whole multiples of today's width are exact here"


class _Step(NamedTuple):
    """A factor of the space at a node, and its axes: computed inputs, constant inputs, outputs."""

    node: Node
    row: Rule
    site: Site
    role: str
    computed: dict[Entry, Axis]
    constant: dict[Entry, Axis]
    made: dict[Entry, Axis]

    @classmethod
    def of(cls, analysis: Analysis, instance: Instance, f: Factor) -> _Step:
        node = analysis.model.nodes[instance[0]]
        axes = {e: axis_of(analysis, instance, e) for e in f.at}
        computed = {e: a for e, a in axes.items() if e[0] >= 0 and a[1] is None}
        constant = {e: a for e, a in axes.items() if e[0] >= 0 and a[1] is not None}
        made = {e: a for e, a in axes.items() if e[0] < 0}
        site = analysis.first.site(node)
        return cls(node, TABLE[node.op], site, f.role, computed, constant, made)

    def forbids(self, axes: Iterable[Axis], why: str) -> RefusalError:
        axis = next(iter(axes), None)
        return _only_whole(self.node.name, f"{self.node.op} {why}", axis)


def _only_whole(name: str, detail: str, axis: Axis | None = None) -> RefusalError:
    at = axis[::2] if axis is not None else None
    return RefusalError(Refusal(Reason.NORMALISED, name, at, detail, _WHOLE))


@dataclass
class _Fills:
    """What stands in the pads of each axis, in the making.

    `classes`: axes of computed tensors that hold the same; `must`: what one of them must hold,
    and who says so; `fill`: what constants hold; `short`: nodes that average, and whether over
    zeros too.
    """

    analysis: Analysis
    classes: UnionFind[Axis] = field(default_factory=UnionFind)
    must: dict[Axis, tuple[Row, _Step]] = field(default_factory=dict)
    fill: dict[Axis, Row] = field(default_factory=dict)
    short: dict[int, bool] = field(default_factory=dict)

    def join(self, a: Axis, b: Axis) -> None:
        """Let two axes hold the same."""
        old, new = self.classes.root(b), self.classes.join(a, b)
        if old != new and old in self.must:
            self.require([new], *self.must.pop(old))

    def require(self, axes: Iterable[Axis], fill: Row, step: _Step) -> None:
        """Let axes hold a fill; raises RefusalError where they hold the other."""
        for axis in axes:
            known, by = self.must.setdefault(self.classes.root(axis), (fill, step))
            if known is not fill:
                needs = f"needs {fill.value} rows where {by.node.name} needs {known.value} rows"
                raise step.forbids([self.classes.root(axis)], needs)

    def of(self, axes: Iterable[Axis]) -> Row:
        """What the first axis of which anything is asked must hold."""
        found = (self.must.get(self.classes.root(a)) for a in axes)
        return next((known[0] for known in found if known is not None), Row.ZERO)

    def tie(self, step: _Step) -> None:
        """What a node asks of the computed tensors around it."""
        inputs = list(step.computed.values())
        if step.role == "mean":
            self._tie_averaged(step)
        elif step.role == "sum" and len(inputs) > 1:
            self.require(inputs, Row.ZERO, step)  # of two, one zero is enough; both: simplest
        elif step.role == "parallel" and inputs:
            self._tie_passing(step)
        elif step.role == "parallel":
            contracts = any(f.role == "sum" for f in self.analysis.known_factors(step.node))
            if not (step.row.movement or contracts or step.row.passes_mean(set())):
                raise step.forbids(step.made.values(), "is not linear in its weights")
        elif step.role not in ("sum", "size"):
            raise step.forbids(inputs, f"takes the {step.role} over it")

    def _tie_averaged(self, step: _Step) -> None:
        """What a norm or a mean asks of the axis that it runs over, and what it makes of it."""
        fills = step.row.pads
        if not fills or (_means(self.analysis, step.node) > 1 and step.made):
            raise step.forbids(step.computed.values(), "averages over it")
        if len(fills) == 1:
            self.require(step.computed.values(), Row(next(iter(fills))), step)
        if step.made:
            self.require(step.made.values(), Row(next(iter(fills.values()))), step)

    def _tie_passing(self, step: _Step) -> None:
        """Axes of a node that passes means, zeros, or both."""
        first, *others = *step.computed.values(), *step.made.values()
        if _centres(self.analysis, step.node, set(step.computed)):
            self.require([first], Row.MEAN, step)
            self.require(step.made.values(), Row.ZERO, step)
            return
        moves, constant = step.row.movement is not None, {e[0] for e in step.constant}
        slots = {e[0] for e in step.computed} | constant
        mean = moves or step.row.passes_mean(slots)
        zero = moves or step.row.passes_zero(step.site, slots, constant)
        if not mean and not zero:
            raise step.forbids([first], "is not linear")
        for axis in others:
            self.join(first, axis)
        if mean != zero:
            self.require([first], Row.MEAN if mean else Row.ZERO, step)

    def settle(self, step: _Step) -> None:
        """What the constants of a node hold, now that it is known what its tensors do."""
        inputs = list(step.computed.values())[:1]
        if step.role == "mean" and inputs:
            self._settle_averaged(step, self.of(inputs))
            return
        if step.role == "sum":
            fill = Row.FREE if self.of(inputs) is Row.ZERO else Row.ZERO
        else:
            fill, slots = self.of(step.made.values()), {e[0] for e in step.computed}
            if fill is Row.ZERO and inputs and step.row.passes_zero(step.site, slots, set()):
                fill = Row.COPY  # what multiplies zeros may be what it likes
        self.fill.update(dict.fromkeys(step.constant.values(), fill))

    def _settle_averaged(self, step: _Step, fill: Row) -> None:
        self.short[step.node.index] = bool(step.made) or fill is Row.ZERO
        if step.made and len([o for o in step.node.outputs if o]) > 1:
            raise step.forbids(step.made.values(), "gives its statistics away")
        for entry, axis in step.constant.items() if step.made else ():
            self.fill[axis] = Row.COPY if entry[0] == step.row.rescaled else Row.ZERO

    def carry(self, step: _Step) -> None:
        """Carry the fill of a computed constant to what it is computed from."""
        fill = next((self.fill[a] for a in step.made.values() if a in self.fill), None)
        slots = {e[0] for e in step.constant}
        passes = step.row.movement is not None or fill in (Row.COPY, Row.FREE, None)
        passes |= fill is Row.MEAN and step.row.passes_mean(slots)
        passes |= fill is Row.ZERO and step.row.passes_zero(step.site, slots, set())
        if not passes:
            raise step.forbids([*step.constant.values(), *step.made.values()], "is not linear")
        if fill is not None:
            self.fill.update(dict.fromkeys(step.constant.values(), fill))

    def check(self, axis: Axis, space: Space) -> None:
        """Refuse a mean that is none of the whole, and pads among integers."""
        labels, leaf = space.labels[axis], self.analysis.model.leaves.get(axis[0])
        whole = len(labels) == space.size == len(np.unique(labels))
        if self.of([axis]) is Row.MEAN and not whole:
            raise _only_whole(axis[0], "the mean of a part is not that of the whole", axis)
        if leaf is not None and leaf.dtype not in FLOATS and axis in self.fill:
            raise _only_whole(axis[0], "its weights are integers", axis)


def padding(analysis: Analysis, space: Space, width: int) -> Padding:
    """What fills the rows beyond whole copies.

    Args:
        width: classes and new units.

    Raises:
        RefusalError: only whole multiples will do.
    """
    fills, part = _Fills(analysis), Fraction(width // space.size * space.size, width)
    steps = [
        (i, _Step.of(analysis, i, f)) for i, carried in space.passages.items() for f in carried
    ]
    computed = [step for instance, step in steps if instance[1] is None]
    for step in computed:
        fills.tie(step)
    for step in computed:
        fills.settle(step)
    for instance, step in sorted(steps, key=lambda s: -s[0][0]):
        if instance[1] is not None:
            fills.carry(step)
    for axis in space.labels:
        fills.check(axis, space)
    parts = {n: part if short else Fraction(1) for n, short in fills.short.items()}
    return Padding(fills.fill, parts)


def _means(analysis: Analysis, node: Node) -> int:
    return sum(f.role == "mean" for f in analysis.known_factors(node))


def _centres(analysis: Analysis, node: Node, carried: set[Entry]) -> bool:
    """Whether a node takes an axis' own mean off it."""
    if not TABLE[node.op].subtracts or {e[0] for e in carried} != {0}:
        return False
    mean = analysis.model.producer.get(node.inputs[1])
    if mean is None or mean.inputs[0] != node.inputs[0] or _means(analysis, mean) != 1:
        return False
    averaged = (f for f in analysis.factors(mean) if f.role == "mean")
    return {e[1] for f in averaged for e in f.at if e[0] == 0} == {e[1] for e in carried}


def pads(analysis: Analysis, space: Space) -> Refusal | None:
    """Why a space that is averaged over grows by whole multiples alone; None if pads do too."""
    counts = {np.bincount(v[v >= 0], minlength=space.size).tobytes() for v in space.labels.values()}
    if any(len(np.unique(np.frombuffer(c, np.int64))) > 1 for c in counts):
        return Refusal(Reason.NORMALISED, "", None, "its units lie unevenly", _WHOLE)
    try:
        padding(analysis, space, space.size + 1)
    except RefusalError as why:
        return why.refusal
    return None


def beyond_multiples(analysis: Analysis, space: Space, widths: Widths) -> Widths:
    """Widths that pads make possible too, or why there are none.

    Args:
        analysis: of the model.
        space: what grows.
        widths: those that whole multiples give.
    """
    if not space.uniform:
        return widths
    refusal = pads(analysis, space)
    if refusal is None:
        return replace(widths, padded=True)
    at = f"'{refusal.node}': " if refusal.node else ""
    return replace(widths, why=f"{at}{refusal.detail}; {refusal.hint}")


def padded(analysis: Analysis, space: Space, units: Units) -> Units:
    """Units with what their pads are, if there are any.

    Args:
        analysis: of the model.
        space: what grows.
        units: the new ones.
    """
    if Row.PAD not in units.kind:
        return units
    return replace(units, padding=padding(analysis, space, space.size + len(units.kind)))


def rescale_norms(analysis: Analysis, growth: Growth) -> None:
    """Norms and averages whose statistics run over pads as well."""
    padding = growth.units.padding
    for index, part in padding.parts.items() if padding is not None else ():
        node = analysis.model.nodes[index]
        slot = TABLE[node.op].rescaled
        if slot is None:
            if part != 1:
                growth.averages[index] = float(1 / part)
            continue
        epsilon = float(node.attr("epsilon", np.float32(1e-5))) * float(part)
        double = analysis.first.dtype(node.inputs[0]) == onnx.TensorProto.DOUBLE
        if double and float(np.float32(epsilon)) != epsilon:
            detail = f"the epsilon of {node.op} is a float32, not exact among float64"
            raise _only_whole(node.name, detail)
        growth.attributes[index, "epsilon"] = epsilon
        leaf = (node.inputs[slot], (index, slot))
        if leaf not in growth.constants:
            raise _only_whole(node.name, f"the scale of {node.op} is computed")
        growth.constants[leaf] = replace(growth.constants[leaf], scale=math.sqrt(part))


def keep_tied(analysis: Analysis, growth: Growth) -> None:
    """Keep a table tied that makes a stream and reads it: what meets zeros may be anything."""
    for (leaf, use), change in growth.constants.items() if growth.units.padding else ():
        if not _meets_zeros(growth, change):
            continue
        for (name, other), made in growth.constants.items():
            if name == leaf and other != use and not made.split:
                growth.constants[leaf, use] = replace(made)


def _meets_zeros(growth: Growth, change: Change) -> bool:
    """Whether all new rows of a constant are pads that may hold anything."""
    new = {growth.units.kind[u] for unit in change.unit.values() for u in unit if u >= 0}
    return set(change.pads.values()) == {Row.FREE} and new == {Row.PAD}
