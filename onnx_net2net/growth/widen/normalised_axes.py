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
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx

from onnx_net2net.coupling.space import Axis, Instance, Space, axis_of
from onnx_net2net.errors import Reason, Refusal, RefusalError
from onnx_net2net.graph.model import Node
from onnx_net2net.graph.union_find import UnionFind
from onnx_net2net.growth.widen.changes import Change, Growth
from onnx_net2net.growth.widen.units import Padding, Row, Units
from onnx_net2net.growth.widen.widths import Widths
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.inference.shapes import FLOATS
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.notation import Entry
from onnx_net2net.operators.table import TABLE

_WHOLE = "only whole multiples of today's width are exact here"


class _Ties:
    """Axes that hold the same fill, and which one they must hold."""

    def __init__(self) -> None:
        self.classes: UnionFind[Axis] = UnionFind()
        self.must: dict[Axis, tuple[Row, Node]] = {}

    def tie(self, a: Axis, b: Axis) -> None:
        old, new = self.classes.root(b), self.classes.join(a, b)
        if old != new and old in self.must:
            self.require(new, *self.must.pop(old))

    def require(self, axis: Axis, fill: Row, node: Node) -> None:
        axis = self.classes.root(axis)
        known = self.must.setdefault(axis, (fill, node))
        if known[0] is not fill:
            needs = f"needs {fill.value} rows where {known[1].name} needs {known[0].value} rows"
            raise _forbidden(node, [axis], needs)

    def of(self, axis: Axis) -> Row | None:
        found = self.must.get(self.classes.root(axis))
        return found[0] if found else None


class _Found:
    """Padding in the making."""

    def __init__(self) -> None:
        self.fill: dict[Axis, Row] = {}
        self.short: list[tuple[int, bool]] = []


def padding(analysis: Analysis, space: Space, width: int) -> Padding:
    """What fills the rows beyond whole copies.

    Args:
        width: classes and new units.

    Raises:
        RefusalError: only whole multiples will do.
    """
    ties, result = _Ties(), _Found()
    part = Fraction(width // space.size * space.size, width)
    steps = list(_steps(analysis, space))
    for step in steps:
        _tie(analysis, ties, *step)
    for instance, f in steps:
        if instance[1] is None:
            _settle(analysis, ties, result, instance, f)
    for instance, f in sorted(steps, key=lambda s: -s[0][0]):
        if instance[1] is not None:
            _behind(analysis, result, instance, f)
    for axis, labels in space.labels.items():
        leaf = analysis.model.leaves.get(axis[0])
        detail = ""
        if ties.of(axis) is Row.MEAN and not (len(labels) == space.size == len(np.unique(labels))):
            detail = "the mean of a part is not that of the whole"
        elif leaf is not None and leaf.dtype not in FLOATS and axis in result.fill:
            detail = "its weights are integers"
        if detail:
            raise RefusalError(Refusal(Reason.NORMALISED, axis[0], axis[::2], detail, _WHOLE))
    return Padding(result.fill, {n: part if short else Fraction(1) for n, short in result.short})


def _steps(analysis: Analysis, space: Space) -> Iterator[tuple[Instance, Factor]]:
    for instance, carried in space.passages.items():
        for f in carried:
            yield instance, f


def _split(
    analysis: Analysis, instance: Instance, f: Factor
) -> tuple[Node, dict[Entry, Axis], dict[Entry, Axis], dict[Entry, Axis]]:
    """A node, and its axes on a factor: computed inputs, constant inputs, outputs."""
    node = analysis.model.nodes[instance[0]]
    axes = {e: axis_of(analysis, instance, e) for e in f.at}
    computed = {e: a for e, a in axes.items() if e[0] >= 0 and a[1] is None}
    constant = {e: a for e, a in axes.items() if e[0] >= 0 and a[1] is not None}
    made = {e: a for e, a in axes.items() if e[0] < 0}
    return node, computed, constant, made


def _tie(analysis: Analysis, ties: _Ties, instance: Instance, f: Factor) -> None:
    node, computed, constant, made = _split(analysis, instance, f)
    row, site = TABLE[node.op], analysis.first.site(node)
    if instance[1] is not None or f.role == "size":
        return
    inputs = list(computed.values())
    if f.role == "mean":
        _tie_averaged(analysis, ties, node, inputs, list(made.values()))
    elif f.role == "sum":
        for axis in inputs if len(inputs) > 1 else ():  # of two, one zero is enough; both: simplest
            ties.require(axis, Row.ZERO, node)
    elif f.role != "parallel":
        raise _forbidden(node, inputs, f"takes the {f.role} over it")
    elif not inputs:
        if not (row.movement or _contracts(analysis, node) or row.passes_mean(set())):
            raise _forbidden(node, list(made.values()), "is not linear in its weights")
    elif _centres(analysis, node, set(computed)):
        ties.require(inputs[0], Row.MEAN, node)
        for axis in made.values():
            ties.require(axis, Row.ZERO, node)
    else:
        slots = {e[0] for e in (*computed, *constant)}
        mean = row.movement is not None or row.passes_mean(slots)
        zero = row.movement is not None or row.passes_zero(site, slots, {e[0] for e in constant})
        _tie_passing(ties, node, [*inputs, *made.values()], mean, zero)


def _tie_averaged(
    analysis: Analysis, ties: _Ties, node: Node, inputs: list[Axis], made: list[Axis]
) -> None:
    """What a norm or a mean asks of the axis that it runs over, and what it makes of it."""
    pads = TABLE[node.op].pads
    if not pads or (_means(analysis, node) > 1 and made):
        raise _forbidden(node, inputs, "averages over it")
    for axis in inputs if len(pads) == 1 else ():
        ties.require(axis, Row(next(iter(pads))), node)
    for axis in made:
        ties.require(axis, Row(next(iter(pads.values()))), node)


def _tie_passing(ties: _Ties, node: Node, axes: list[Axis], mean: bool, zero: bool) -> None:
    """Axes of a node that passes means, zeros, or both."""
    if not mean and not zero:
        raise _forbidden(node, axes, "is not linear")
    for axis in axes[1:]:
        ties.tie(axes[0], axis)
    if mean != zero:
        ties.require(axes[0], Row.MEAN if mean else Row.ZERO, node)


def _settle(analysis: Analysis, ties: _Ties, result: _Found, instance: Instance, f: Factor) -> None:
    """What the constants of a node hold, now that it is known what its tensors do."""
    node, computed, constant, made = _split(analysis, instance, f)
    row = TABLE[node.op]
    if f.role == "mean" and computed:
        fill = ties.of(next(iter(computed.values()))) or Row.ZERO
        if made:
            if len([o for o in node.outputs if o]) > 1:
                raise _forbidden(node, [*made.values()], "gives its statistics away")
            result.short.append((node.index, True))
            for entry, axis in constant.items():
                result.fill[axis] = Row.COPY if entry[0] == row.rescaled else Row.ZERO
        else:
            result.short.append((node.index, fill is Row.ZERO))
        return
    if f.role == "sum":
        fill = ties.of(next(iter(computed.values()))) or Row.ZERO if computed else Row.ZERO
        for axis in constant.values():
            result.fill[axis] = Row.FREE if fill is Row.ZERO else Row.ZERO
        return
    fills = (ties.of(a) for a in made.values())
    fill = next((f for f in fills if f is not None), Row.ZERO)
    site = analysis.first.site(node)
    zero = bool(computed) and row.passes_zero(site, {e[0] for e in computed}, set())
    for axis in constant.values():  # what multiplies zeros may be what it likes
        result.fill[axis] = Row.COPY if fill is Row.ZERO and zero else fill


def _behind(analysis: Analysis, result: _Found, instance: Instance, f: Factor) -> None:
    """Carry the fill of a computed constant to what it is computed from."""
    node = analysis.model.nodes[instance[0]]
    row, site = TABLE[node.op], analysis.first.site(node)
    axes = {e: axis_of(analysis, instance, e) for e in f.at}
    fill = next((result.fill[a] for e, a in axes.items() if e[0] < 0 and a in result.fill), None)
    slots = {e[0] for e in axes if e[0] >= 0}
    passes = row.movement is not None or fill in (Row.COPY, Row.FREE, None)
    passes |= fill is Row.MEAN and row.passes_mean(slots)
    passes |= fill is Row.ZERO and row.passes_zero(site, slots, set())
    if not passes:
        raise _forbidden(node, list(axes.values()), "is not linear")
    for entry, axis in axes.items():
        if entry[0] >= 0 and fill is not None:
            result.fill[axis] = fill


def _contracts(analysis: Analysis, node: Node) -> bool:
    return any(f.role == "sum" for f in analysis.known_factors(node))


def _means(analysis: Analysis, node: Node) -> int:
    return sum(f.role == "mean" for f in analysis.known_factors(node))


def _centres(analysis: Analysis, node: Node, carried: set[Entry]) -> bool:
    """Whether a node takes an axis' own mean off it."""
    if not TABLE[node.op].subtracts or {e[0] for e in carried} != {0}:
        return False
    mean = analysis.model.producer.get(node.inputs[1])
    if mean is None or mean.inputs[0] != node.inputs[0] or _means(analysis, mean) != 1:
        return False
    fs = analysis.factors(mean)
    dims = {e[1] for f in fs if f.role == "mean" for e in f.at if e[0] == 0}
    return dims == {e[1] for e in carried}


def _forbidden(node: Node, axes: list[Axis], why: str) -> RefusalError:
    axis = axes[0][::2] if axes else None
    return RefusalError(Refusal(Reason.NORMALISED, node.name, axis, f"{node.op} {why}", _WHOLE))


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
            raise RefusalError(Refusal(Reason.NORMALISED, node.name, None, detail, _WHOLE))
        growth.attributes[index, "epsilon"] = epsilon
        leaf = (node.inputs[slot], (index, slot))
        if leaf not in growth.constants:
            detail = f"the scale of {node.op} is computed"
            raise RefusalError(Refusal(Reason.NORMALISED, node.name, None, detail, _WHOLE))
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


__all__ = ["beyond_multiples", "keep_tied", "padded", "padding", "pads", "rescale_norms"]
