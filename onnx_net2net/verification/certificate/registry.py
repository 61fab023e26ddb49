"""What the certificate knows of the teacher when it looks at the student."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnx_net2net.graph.model import Node
from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.domain import Const, UnknownError, Value
from onnx_net2net.verification.certificate.linear_forms import Rows
from onnx_net2net.verification.certificate.mean_units import Mask, Means
from onnx_net2net.verification.certificate.names import (
    CollisionError,
    Labels,
    digest,
    key,
    labels_of,
    mix,
    positions,
)
from onnx_net2net.verification.certificate.row_matching import (
    alike,
    match,
    name_rows,
    with_constants,
)
from onnx_net2net.verification.embedding import Embedding

_ACCURACY = 2.0**-50
_LARGEST_TABLE = 1 << 22


@dataclass
class Loss:
    """Rows of a student's contraction that no row of the teacher's equals."""

    node: str
    rows: list[int]
    nearest: list[tuple[int, float]]


@dataclass
class Split:
    """How an axis was taken apart in the teacher: the labels before, and after per axis."""

    elements: Labels
    axes: tuple[Labels, ...]


@dataclass(frozen=True)
class Shifted:
    """A tensor as another one, to which something is added along an axis."""

    base: Value
    axis: int
    amounts: Array


@dataclass
class Registry:
    """Rows, sums and splits of the teacher by tag; what was found for the student.

    `is_shared` tells whether the student reads the same constants in the node's place; `seen`
    are the teacher's tensors by tag; `turned` tells what was transposed; `fixed` names, by tag,
    operators that would change nothing there, `+` where no element is negative; `rounds` and
    `states` are how often the teacher's loops were gone round, and the classes found there;
    `shifted` tells, by a tensor's name, what it is but for a sum with a constant;
    `units` are the names of recurrent units, [direction, unit];
    `latest` is the contraction that was looked at last; `embedding` tells where the teacher's
    interface lies in the student's, `assumed` which tables must be indexed from the front for
    that. `means` knows the labels of means; `scales` are those of the teacher's norms by tag;
    `doubts` are the student's norms with pads that are none of the teacher's, and why; `rounded`
    tells that something was taken for equal that differs by a rounding, `cancelled` that this is
    more than a weight's own, beside larger ones.
    """

    is_shared: Callable[[Node, Sequence[int]], bool]
    teaching: bool = True
    rows: dict[int, list[tuple[Rows, Labels]]] = field(default_factory=dict)
    sums: dict[int, list[tuple[Labels, Array]]] = field(default_factory=dict)
    splits: dict[int, list[Split]] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    matched: dict[Any, tuple[Labels, Loss | None, Mask, float]] = field(default_factory=dict)
    contractions: set[int] = field(default_factory=set)
    compared: set[int] = field(default_factory=set)
    rounding: float = 0.0
    cancelled: bool = False
    rounded: bool = False
    seen: dict[int, list[Value]] = field(default_factory=dict)
    turned: dict[int, tuple[int, list[int]]] = field(default_factory=dict)
    fixed: dict[int, set[str]] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)
    states: dict[tuple[str, int, int, int], tuple[Labels, Labels]] = field(default_factory=dict)
    shifted: dict[int, Shifted] = field(default_factory=dict)
    units: dict[int, list[Labels]] = field(default_factory=dict)
    latest: tuple[int, Rows, Value, list[int]] | None = None
    embedding: Embedding = field(default_factory=Embedding)
    assumed: set[str] = field(default_factory=set)
    means: Means = field(default_factory=Means)
    scales: dict[int, list[tuple[Labels, Const]]] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)

    def look_at_teacher(self) -> None:
        """Start over with the teacher at other input sizes; rows and sums stay known."""
        self.teaching = True
        self.splits.clear()

    def accept(self, off: float) -> None:
        """Take for equal what differs by a rounding, relative to its size."""
        self.rounding = max(self.rounding, off)
        self.rounded |= off > 0

    def leave_out(self, node: str) -> None:
        """Note that an average of the student's leaves pads out, which is right to rounding."""
        self.means.used.add(node)
        self.rounded = True

    def is_new(self, value: Value, labels: bool) -> bool:
        """Whether the teacher has no such tensor (`labels`: or has other channels)."""
        theirs = self.seen.get(value.tag)
        if theirs is None or not labels or value.labels is None:
            return theirs is None
        return not any(
            all(map(lambda a, b: np.isin(a, b).all(), value.labels, t.labels))
            for t in theirs
            if t.labels is not None
        )

    def name_rows(
        self, node: str, tag: int, mine: Rows, apart: bool, linear: bool = False
    ) -> Labels:
        """A label for each row of a contraction; equal forms of one tag get equal labels.

        Args:
            apart: the student has the same rows, so equal ones need no common label.
            linear: the tag stands for the rows as they are, so that some may be means.
        """
        self.contractions.add(mine.name)
        known = self.rows.setdefault(tag, []) if self.teaching else self.rows.get(tag, [])
        for theirs, labels in known:
            if theirs.name == mine.name:
                return labels
        if self.teaching:
            labels = name_rows(mine, apart)
            if linear and not apart:
                labels = self.means.put(tag, labels, self.means.rows(mine))
            mine.release()
            known.append((mine, labels))
            return labels
        case = (mine.name, linear, tuple(theirs.name for theirs, _ in known))
        if case not in self.matched:
            self.matched[case] = self._matched(node, mine, known, linear)
            mine.release()
        labels, loss, pads, off = self.matched[case]
        self.accept(off)
        if loss is not None:
            self.losses.append(loss)
        return self.means.put(tag, labels, pads)

    def _matched(
        self, node: str, mine: Rows, known: Sequence[tuple[Rows, Labels]], linear: bool
    ) -> tuple[Labels, Loss | None, Mask, float]:
        """Labels, what has no counterpart, which rows beyond the teacher's are means, rounding."""
        self.compared.add(mine.name)
        best, loss, pads, off = None, None, np.zeros(mine.count, bool), 0.0
        for theirs, names in known:
            found = match(mine, theirs, names)
            off = max(off, found.rounding)
            self.cancelled |= found.cancelled
            if best is None:
                best, new = found.labels, found.lost
                if linear and (len(new) or self.means.are(best).any()):
                    pads = self.means.rows(mine)
                nearest = [x for x, r in zip(found.nearest, new, strict=True) if not pads[r]]
            else:
                best[new] = found.labels[new]
                new = np.intersect1d(new, found.lost)
            lost = new[~pads[new]]
            if not len(lost):
                theirs.release()
                break
            loss = Loss(node, lost.tolist(), nearest)
            theirs.release()
        if best is None:
            labels = mix(key("unseen row", mine.name), positions(mine.count))
            labels = with_constants(mine, alike(mine, labels, np.arange(mine.count)))
            return labels, None, self.means.rows(mine) if linear else pads, off
        pads &= np.isin(np.arange(mine.count), new) | self.means.are(best)
        return best, loss if len(lost) else None, pads, off

    def name_sum(self, tag: int, kinds: Labels, weights: Array, within: float = 0.0) -> int:
        """A name for a weighted set of labels; weights that differ by rounding are one.

        Args:
            within: how far the weights may be off, relative to the largest.
        """
        live = weights != 0
        kinds, weights = kinds[live], weights[live]
        slot = key("sum", tag, digest(kinds))
        known = self.sums.setdefault(slot, [])
        for k, (theirs, other) in enumerate(known):
            if not np.array_equal(theirs, kinds):
                raise CollisionError("two sums have one name")
            largest = float(np.abs(other).max(initial=0.0)) or 1.0
            off = float(np.abs(other - weights).max(initial=0.0)) / largest
            if off <= max(within, _ACCURACY):
                # float64's own rounding of the sums is none of the student's
                self.accept(off if off > _ACCURACY else 0.0)
                return key(slot, k)
        known.append((kinds, weights))
        return key(slot, len(known) - 1)

    def split(self, tag: int, elements: Labels) -> tuple[Labels, ...]:
        """Labels for each axis of a block that was one axis, or several others, before.

        Args:
            tag: what is split and how.
            elements: [axis, axis, ...] labels of the elements.

        Raises:
            UnknownError: the student's elements are no product of axes of the teacher's.
        """
        if elements.size > _LARGEST_TABLE:
            raise UnknownError(f"a reshape of {elements.size} positions")
        known = self.splits.setdefault(tag, [])
        for other in known:
            if other.elements.shape == elements.shape and np.array_equal(other.elements, elements):
                return other.axes
        if not self.teaching:
            found = [f for f in (_as_split(elements, other) for other in known) if f is not None]
            if found:
                return max(found, key=lambda f: f[0])[1]
        made = Split(elements, _own_axes(tag, len(known), elements))
        known.append(made)
        return made.axes


def _own_axes(tag: int, nth: int, elements: Labels) -> tuple[Labels, ...]:
    """Labels for the axes of a block; positions with equal slices share one."""
    if np.array_equal(elements.reshape(-1), positions(elements.size)):
        return tuple(mix(key(tag, nth, k), positions(d)) for k, d in enumerate(elements.shape))
    found = []
    for k, d in enumerate(elements.shape):
        slices = np.moveaxis(elements, k, 0).reshape(d, -1)
        _, first, inverse = np.unique(slices, axis=0, return_index=True, return_inverse=True)
        found.append(mix(key(tag, nth, k), first[inverse.reshape(-1)].astype(np.uint64)))
    return tuple(found)


def _as_split(elements: Labels, teacher: Split) -> tuple[int, tuple[Labels, ...]] | None:
    """Labels that make the student's block a re-indexing of the teacher's; None if it is none.

    With them, how many elements are the teacher's.
    """
    flat = teacher.elements.reshape(-1)
    order = np.argsort(flat, kind="stable")
    at = np.minimum(np.searchsorted(flat[order], elements.reshape(-1)), len(flat) - 1)
    hit = (flat[order][at] == elements.reshape(-1)).reshape(elements.shape)
    where = np.unravel_index(order[at].reshape(elements.shape), teacher.elements.shape)
    maps = []
    for k in range(elements.ndim):
        sources = np.moveaxis(np.where(hit, where[k], -1), k, 0).reshape(elements.shape[k], -1)
        maps.append(sources.max(1, initial=-1))
    live = [m >= 0 for m in maps]
    expected = teacher.elements[np.ix_(*(np.maximum(m, 0) for m in maps))]
    matter = np.ones(elements.shape, bool)
    for k, alive in enumerate(live):
        shape = [1] * elements.ndim
        shape[k] = len(alive)
        matter &= alive.reshape(shape)
    if not matter.any() or (elements != expected)[matter].any():
        return None
    found = []
    for k, m in enumerate(maps):
        slices = np.moveaxis(elements, k, 0)
        fresh = labels_of([digest(s) for s in slices]) if not live[k].all() else 0
        found.append(np.where(live[k], teacher.axes[k][np.maximum(m, 0)], mix(fresh)))
    return int(matter.sum()), tuple(found)


__all__ = ["Loss", "Registry", "Shifted", "Split"]
