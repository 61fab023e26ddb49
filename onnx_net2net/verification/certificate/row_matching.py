"""Which rows of the student's weights are rows of the teacher's.

Candidates are found by projection; what counts is the comparison of the forms afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.linear_forms import CHUNK, Rows, tolerance, wide_dtype
from onnx_net2net.verification.certificate.names import (
    ZERO,
    Labels,
    constant_label,
    key,
    mix,
)

_NEIGHBOURS = 3


@dataclass
class Matched:
    """What the student's rows are.

    Attributes:
        labels: one per row; fresh where no row of the teacher's is the same.
        lost: rows without a counterpart.
        rounding: the largest deviation that was accepted, relative to the shares.
        cancelled: one of these is no rounding of the weight itself, which is far smaller.
        nearest: for `lost` rows, the teacher's row that is nearest, and how far it is.
    """

    labels: Labels
    lost: Array
    rounding: float
    cancelled: bool
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
    _look_at_copies(rows, first[inverse])
    found = mix(rows.name, first[inverse].astype(np.uint64))
    return with_constants(rows, found)


def _look_at_copies(rows: Rows, first: Array) -> None:
    """Compare rows of one name with the first of them."""
    copies = np.flatnonzero(first != np.arange(len(first)))
    rows.look_at(copies, rows, first[copies])


def with_constants(rows: Rows, labels: Labels) -> Labels:
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
    constants = with_constants(student, labels)
    todo &= constants == labels
    labels = constants
    exact = _by_bytes(student, teacher, names) if todo.any() else labels
    hit = todo & (exact != ZERO)
    labels[hit] = exact[hit]
    todo &= ~hit
    rounding, cancelled, nearest = 0.0, False, []
    rest = np.flatnonzero(todo)
    if len(rest):
        candidates = _candidates(student.projected[rest], teacher.projected)
        off = compare(student, rest, teacher, candidates)
        fine = off <= tolerance(student.weight.dtype)
        labels[rest[fine]] = names[candidates[fine]]
        todo[rest[fine]] = False
        rounding = float(off[fine].max(initial=0.0))
        if rounding:
            own = compare(student, rest[fine], teacher, candidates[fine], itself=True)
            cancelled = bool((own > tolerance(student.weight.dtype)).any())
        pairs = zip(candidates[~fine], off[~fine], strict=True)
        nearest = [(int(c), float(d)) for c, d in pairs]
    lost = np.flatnonzero(todo)
    return Matched(alike(student, labels, lost), lost, rounding, cancelled, nearest)


def alike(rows: Rows, labels: Labels, new: Array) -> Labels:
    """Give new rows that are equal bit for bit one label, as pairs of twins have."""
    if not len(new):
        return labels
    bits = rows.bytes_rows()[new]
    _, first, inverse = np.unique(bits, return_index=True, return_inverse=True)
    rows.look_at(new, rows, new[first[inverse]])
    found = labels.copy()
    found[new] = labels[new[first[inverse]]]
    return found


def _by_bytes(student: Rows, teacher: Rows, names: Labels) -> Labels:
    """Names by equal bits; ZERO stands for none."""
    found = np.full(student.count, ZERO)
    if student.raw.shape[2:] != teacher.raw.shape[2:]:
        return found
    if student.weight.dtype != teacher.weight.dtype:
        return found
    theirs, first = np.unique(teacher.bytes_rows(), return_index=True)
    mine = student.bytes_rows()
    at = np.minimum(np.searchsorted(theirs, mine), len(theirs) - 1)
    hit = theirs[at] == mine
    student.look_at(np.flatnonzero(hit), teacher, first[at[hit]])
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


def compare(
    student: Rows, mine: Array, teacher: Rows, theirs: Array, itself: bool = False
) -> Array:
    """How far each pair of rows differs, 0 where they are exactly equal.

    A sum may be off by the rounding of its shares; but shares larger than the teacher's row,
    which cancel, are no excuse.

    Args:
        mine: rows of the student.
        theirs: for each the row of the teacher.
        itself: relative to each weight, not to the largest of its row.
    """
    off = np.full(len(mine), np.inf)
    if student.raw.shape[3] != teacher.raw.shape[3]:
        return off
    if student.raw.shape[2] == teacher.raw.shape[2] == 1:
        return _single(student, mine, teacher, theirs, itself)
    pairs = np.stack([student.group(mine), teacher.group(theirs)], 1)
    if len(student.raw) == len(teacher.raw) == 1:
        kinds, inverse = np.zeros((1, 2), int), np.zeros(len(mine), int)
    else:
        kinds, inverse = np.unique(pairs, axis=0, return_inverse=True)
    for k, (gs, gt) in enumerate(kinds):
        members = np.flatnonzero(inverse.reshape(-1) == k)
        for at in _chunks(members, student.raw.shape[2] * student.raw.shape[3]):
            rows = mine[at], int(gs), teacher, theirs[at], int(gt)
            off[at] = _grouped(student, *rows, itself)
    return np.maximum(off, _bias_off(student, mine, teacher, theirs))


def _chunks(members: Array, width: int) -> Iterator[Array]:
    step = max(1, CHUNK // max(1, width))
    for at in range(0, len(members), step):
        yield members[at : at + step]


def _single(student: Rows, mine: Array, teacher: Rows, theirs: Array, itself: bool) -> Array:
    """Rows that read one input position each, as in a depthwise convolution."""
    a, b = (
        r.raw.reshape(r.count, -1)[k].astype(wide_dtype(r.weight.dtype))
        for r, k in ((student, mine), (teacher, theirs))
    )
    gs, gt = student.group(mine), teacher.group(theirs)
    if student.scale is not None:
        a = a * student.scale[gs]
    if teacher.scale is not None:
        b = b * teacher.scale[gt]
    most = np.abs(b) if itself else np.abs(b).max(1, keepdims=True)
    off = _relative(a - b, np.minimum(np.abs(a), most))
    off[student.labels[gs, 0] != teacher.labels[gt, 0]] = np.inf
    return np.maximum(off, _bias_off(student, mine, teacher, theirs))


def _grouped(
    student: Rows, mine: Array, gs: int, teacher: Rows, theirs: Array, gt: int, itself: bool
) -> Array:
    union = np.unique(np.concatenate([student.labels[gs], teacher.labels[gt]]))
    union = union[union != ZERO]
    a = student.wide(mine, gs)
    b = teacher.wide(theirs, gt)
    wanted = summed_by_label(b, teacher.labels[gt], union)
    difference = summed_by_label(a, student.labels[gs], union) - wanted
    off = np.zeros(len(mine))
    unequal = difference.reshape(len(mine), -1).any(1)
    if unequal.any():
        shares = summed_by_label(np.abs(a[unequal]), student.labels[gs], union)
        flat = len(shares), -1
        most = np.abs(wanted[unequal]).reshape(flat)
        most = most if itself else most.max(1, keepdims=True)
        size = np.minimum(shares.reshape(flat), most)
        off[unequal] = _relative(difference[unequal].reshape(flat), size)
    return off


def summed_by_label(weights: Array, labels: Labels, union: Labels) -> Array:
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
    """Per row the largest difference in multiples of its size; infinite where that is 0.

    Integers differ or do not.
    """
    if difference.dtype.kind == "i":
        return np.where(difference.any(1), np.inf, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.where(difference == 0, 0.0, np.abs(difference) / size)
    return np.asarray(np.where(np.isnan(off), np.inf, off).max(1, initial=0.0), np.float64)


def _bias_off(student: Rows, mine: Array, teacher: Rows, theirs: Array) -> Array:
    a, b = student.biases[mine], teacher.biases[theirs]
    return _relative((a - b)[:, None], np.abs(a)[:, None])
