"""Rows of linear maps: which rows of the student's weights are rows of the teacher's.

A row is a linear form: for every label at the input, the sum of the weights of all
positions that carry it. Candidates are found by random projections, in which copies add up
by themselves; what counts is the comparison of the forms afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from onnx_net2net.operators import Array
from onnx_net2net.verification.ids import ZERO, Const, Labels, constant_label, digest, key, mix
from onnx_net2net.verification.ids import row_digests as _row_digests

_PROJECTIONS = 3
_NEIGHBOURS = 3
_CHUNK = 1 << 22
_SAMPLE = 16
# four unit roundoffs of the type: the rounding of shares, not more
_TOLERANCES = {"float64": 2.0**-51, "float32": 2.0**-22, "float16": 2.0**-9, "bfloat16": 2.0**-6}


def tolerance(dtype: np.dtype[Any]) -> float:
    """How far a sum of shares may be off, relative to the shares; 0 for integers."""
    return _TOLERANCES.get(dtype.name, 0.0)


def are_scaled(student: Rows, rows: Array, teacher: Rows) -> bool:
    """Whether rows are multiples of rows of the teacher's, which a later layer may undo."""
    mine, theirs = _unit(student.projected[rows[:_SAMPLE]]), _unit(teacher.projected)
    distance = np.abs(mine[:, None, :] - theirs[None, :, :]).max(-1)
    return bool((distance.min(1) < 1e-6).all())


def _unit(directions: Array) -> Array:
    length = np.sqrt((directions**2).sum(1, keepdims=True)) * np.sign(directions[:, :1])
    return np.divide(directions, length, where=length != 0, out=np.zeros_like(directions))


@dataclass(eq=False)
class Rows:
    """The weights of a contraction, group by group.

    Attributes:
        weight: a constant whose array, brought into form by `shaped`, is [g, o, i, window].
        labels: [g, i], what stands at the input.
        scale: [g, i] factors of the input, None for ones.
        bias: [g * o] or None.
    """

    weight: Const
    shaped: Any
    labels: Labels
    scale: Array | None
    bias: Const | None
    bias_factor: float = 1.0

    @cached_property
    def name(self) -> int:
        """A name for all of it."""
        scale = None if self.scale is None else digest(self.scale)
        bias = None if self.bias is None else (self.bias.key, self.bias_factor)
        return key("rows", self.weight.key, self.shaped.key, digest(self.labels), scale, bias)

    @cached_property
    def raw(self) -> Array:
        """Weights as stored, [g, o, i, window]; kept only while matching."""
        return self.shaped(self.weight.array(), len(self.labels))

    def release(self) -> None:
        """Forget the weights; they can be read again."""
        self.__dict__.pop("raw", None)
        self.__dict__.pop("projected", None)

    @property
    def count(self) -> int:
        """How many rows there are."""
        g, o = self.raw.shape[:2]
        return int(g * o)

    @cached_property
    def biases(self) -> Array:
        """[rows], float64."""
        if self.bias is None:
            return np.zeros(self.count)
        flat = self.bias.array().astype(np.float64).reshape(-1) * self.bias_factor
        return np.broadcast_to(flat, (self.count,)) if flat.size == 1 else flat

    def group(self, row: Array) -> Array:
        """The group of each row."""
        return row // self.raw.shape[1]

    def wide(self, rows: Array, g: int) -> Array:
        """Weights of some rows of one group as float64, the input's factors included."""
        o = self.raw.shape[1]
        found = self.raw[g, rows - g * o].astype(_wide(self.weight.dtype))
        return found if self.scale is None else found * self.scale[g][:, None]

    def bytes_rows(self) -> Labels:
        """A label for each row from its bits; equal only where the inputs are equal too."""
        flat = self.raw.reshape(self.count, -1)
        found = _row_digests(flat, "row")
        groups = np.repeat(np.array([digest(x) for x in self.labels], np.uint64), self.raw.shape[1])
        bits = np.ascontiguousarray(self.biases).view(np.uint64)
        return mix(found, groups, bits)

    @cached_property
    def projected(self) -> Array:
        """[rows, projections]: equal forms have equal projections, up to rounding."""
        g, o, i, window = self.raw.shape
        by_window = _directions(np.arange(window, dtype=np.uint64), 1)
        by_label = np.where((self.labels == ZERO)[..., None], 0.0, _directions(self.labels, 2))
        if self.scale is not None:
            by_label = by_label * self.scale[..., None]
        found = np.empty((g, o, _PROJECTIONS))
        step = max(1, _CHUNK // max(1, i * window))
        for k in range(g):
            for at in range(0, o, step):
                part = self.raw[k, at : at + step].astype(np.float64)
                inner = part.reshape(-1, window) @ by_window
                inner = inner.reshape(part.shape[0], i, _PROJECTIONS)
                found[k, at : at + step] = np.einsum("oip,ip->op", inner, by_label[k])
        bias = self.biases[:, None] * _directions(np.array([7], np.uint64), 3)
        return found.reshape(g * o, _PROJECTIONS) + bias


def _wide(dtype: np.dtype[Any]) -> Any:
    # a sum of float64 shares needs more bits than they have
    return np.longdouble if dtype == np.float64 else np.float64


def _directions(labels: Labels, salt: int) -> Array:
    """A random direction for each label, in (-1, 1)."""
    parts = [mix(labels.reshape(-1), salt, p) for p in range(_PROJECTIONS)]
    raw = np.stack([np.broadcast_to(p, labels.size) for p in parts], -1)
    unit = (raw >> np.uint64(10)).astype(np.float64) * 2.0**-52 - 1.0
    return unit.reshape(*labels.shape, _PROJECTIONS)


@dataclass
class Matched:
    """What the student's rows are.

    Attributes:
        labels: one per row; fresh where no row of the teacher's is the same.
        lost: rows without a counterpart.
        rounding: the largest deviation that was accepted, relative to the shares.
        nearest: for `lost` rows, the teacher's row that is nearest, and how far it is.
    """

    labels: Labels
    lost: Array
    rounding: float
    nearest: list[tuple[int, float]]


def name_rows(rows: Rows, apart: bool) -> Labels:
    """Labels for the teacher's rows.

    Args:
        apart: the student has the same rows, so equal ones need no common label.
    """
    if apart:
        count = rows.shaped.count(rows.weight, len(rows.labels))
        return mix(rows.name, np.arange(count, dtype=np.uint64))
    _, first, inverse = np.unique(rows.bytes_rows(), return_index=True, return_inverse=True)
    found = mix(rows.name, first[inverse].astype(np.uint64))
    return _with_constants(rows, found)


def _with_constants(rows: Rows, labels: Labels) -> Labels:
    """Rows without weights are constants: their bias, or zero."""
    empty = ~rows.raw.reshape(rows.count, -1).astype(bool).any(1)
    found = labels.copy()
    for k in np.flatnonzero(empty):
        found[k] = constant_label(rows.biases[k])
    return found


def match(student: Rows, teacher: Rows, names: Labels) -> Matched:
    """Name the student's rows after the teacher's where they are the same forms."""
    labels = mix(key("new row", student.name), np.arange(student.count, dtype=np.uint64))
    todo = np.ones(student.count, bool)
    constants = _with_constants(student, labels)
    todo &= constants == labels
    labels = constants
    exact = _by_bytes(student, teacher, names) if todo.any() else labels
    hit = todo & (exact != ZERO)
    labels[hit] = exact[hit]
    todo &= ~hit
    rounding, nearest = 0.0, []
    rest = np.flatnonzero(todo)
    if len(rest):
        candidates = _candidates(student.projected[rest], teacher.projected)
        off = compare(student, rest, teacher, candidates)
        fine = off <= tolerance(student.weight.dtype)
        labels[rest[fine]] = names[candidates[fine]]
        todo[rest[fine]] = False
        rounding = float(off[fine].max(initial=0.0))
        pairs = zip(candidates[~fine], off[~fine], strict=True)
        nearest = [(int(c), float(d)) for c, d in pairs]
    return Matched(labels, np.flatnonzero(todo), rounding, nearest)


def _by_bytes(student: Rows, teacher: Rows, names: Labels) -> Labels:
    """Names by equal bits; ZERO stands for none."""
    found = np.full(student.count, ZERO)
    if student.raw.shape[2:] != teacher.raw.shape[2:] or (student.scale is not None):
        return found
    if teacher.scale is not None or student.weight.dtype != teacher.weight.dtype:
        return found
    theirs, first = np.unique(teacher.bytes_rows(), return_index=True)
    mine = student.bytes_rows()
    at = np.minimum(np.searchsorted(theirs, mine), len(theirs) - 1)
    hit = theirs[at] == mine
    found[hit] = names[first[at[hit]]]
    return found


def _candidates(mine: Array, theirs: Array) -> Array:
    """For each projected row the nearest of the teacher's."""
    order = np.argsort(theirs[:, 0], kind="stable")
    ranked = theirs[order]
    at = np.searchsorted(ranked[:, 0], mine[:, 0])
    near = at[:, None] + np.arange(-_NEIGHBOURS, _NEIGHBOURS)
    near = np.clip(near, 0, len(order) - 1)
    distance = np.abs(ranked[near] - mine[:, None, :]).sum(-1)
    best = near[np.arange(len(mine)), np.argmin(distance, 1)]
    return order[best]


def compare(student: Rows, mine: Array, teacher: Rows, theirs: Array) -> Array:
    """How far each pair of rows differs, 0 where they are exactly equal.

    A sum may be off by the rounding of its shares; but shares larger than the teacher's row,
    which cancel, are no excuse.

    Args:
        mine: rows of the student.
        theirs: for each the row of the teacher.
    """
    off = np.full(len(mine), np.inf)
    if student.raw.shape[3] != teacher.raw.shape[3]:
        return off
    pairs = np.stack([student.group(mine), teacher.group(theirs)], 1)
    if student.raw.shape[2] == teacher.raw.shape[2] == 1:
        return _single(student, mine, teacher, theirs)
    kinds, inverse = np.unique(pairs, axis=0, return_inverse=True)
    for k, (gs, gt) in enumerate(kinds):
        members = np.flatnonzero(inverse.reshape(-1) == k)
        for at in _chunks(members, student.raw.shape[2] * student.raw.shape[3]):
            off[at] = _grouped(student, mine[at], int(gs), teacher, theirs[at], int(gt))
    return np.maximum(off, _bias_off(student, mine, teacher, theirs))


def _chunks(members: Array, width: int) -> Iterator[Array]:
    step = max(1, _CHUNK // max(1, width))
    for at in range(0, len(members), step):
        yield members[at : at + step]


def _single(student: Rows, mine: Array, teacher: Rows, theirs: Array) -> Array:
    """Rows that read one input position each, as in a depthwise convolution."""
    a = student.raw.reshape(student.count, -1)[mine].astype(np.float64)
    b = teacher.raw.reshape(teacher.count, -1)[theirs].astype(np.float64)
    gs, gt = student.group(mine), teacher.group(theirs)
    if student.scale is not None:
        a = a * student.scale[gs]
    if teacher.scale is not None:
        b = b * teacher.scale[gt]
    off = _relative(a - b, np.minimum(np.abs(a), np.abs(b).max(1, keepdims=True)))
    off[student.labels[gs, 0] != teacher.labels[gt, 0]] = np.inf
    return np.maximum(off, _bias_off(student, mine, teacher, theirs))


def _grouped(
    student: Rows, mine: Array, gs: int, teacher: Rows, theirs: Array, gt: int
) -> Array:
    union = np.unique(np.concatenate([student.labels[gs], teacher.labels[gt]]))
    union = union[union != ZERO]
    a = student.wide(mine, gs)
    b = teacher.wide(theirs, gt)
    wanted = _summed(b, teacher.labels[gt], union)
    difference = _summed(a, student.labels[gs], union) - wanted
    off = np.zeros(len(mine))
    unequal = difference.reshape(len(mine), -1).any(1)
    if unequal.any():
        shares = _summed(np.abs(a[unequal]), student.labels[gs], union)
        flat = len(shares), -1
        most = np.abs(wanted[unequal]).reshape(flat).max(1, keepdims=True)
        size = np.minimum(shares.reshape(flat), most)
        off[unequal] = _relative(difference[unequal].reshape(flat), size)
    return off


def _summed(weights: Array, labels: Labels, union: Labels) -> Array:
    """[rows, union, window]: the weights of equal labels added up."""
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] != ZERO]
    ranked = labels[order]
    found = np.zeros((len(weights), len(union), weights.shape[2]), weights.dtype)
    if not len(ranked):
        return found
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    at = np.searchsorted(union, ranked[starts])
    taken = weights[:, order]
    found[:, at] = taken if len(starts) == len(order) else np.add.reduceat(taken, starts, axis=1)
    return found


def _relative(difference: Array, size: Array) -> Array:
    """Per row the largest difference in multiples of its size; infinite where that is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.where(difference == 0, 0.0, np.abs(difference) / size)
    return np.asarray(np.where(np.isnan(off), np.inf, off).max(1, initial=0.0), np.float64)


def _bias_off(student: Rows, mine: Array, teacher: Rows, theirs: Array) -> Array:
    a, b = student.biases[mine], teacher.biases[theirs]
    return _relative((a - b)[:, None], np.abs(a)[:, None])
