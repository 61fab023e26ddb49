"""Positions that hold the mean of the others, as what pads the axis of a LayerNormalization.

A mean label names a function like any other label: the mean, over a weighted set of labels,
of one tensor's elements. It says so of that tensor's tag alone; whatever an operator makes
has another tag, so a rule that knows nothing of means leaves a label that is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.domain import Value
from onnx_net2net.verification.certificate.linear_forms import CHUNK, Rows, tolerance
from onnx_net2net.verification.certificate.names import ZERO, Labels, digest, key, label
from onnx_net2net.verification.certificate.row_matching import summed_by_label

Mask = npt.NDArray[np.bool_]
_SAMPLE = 8
_SUM = 2.0**-50
_SMALLEST = {
    "float64": 2.0**-1074,
    "float32": 2.0**-149,
    "float16": 2.0**-24,
    "bfloat16": 2.0**-133,
}


@dataclass
class Means:
    """Every mean label by what it is the mean of; what averages are the means of.

    Attributes:
        known: label -> (tag, weighted set of labels).
        averages: tag of a ReduceMean's output -> (tag, axis, weighted set) of its input.
        rounding: the largest deviation from a mean that was accepted, relative to the mean.
        used: norms of the student that leave pads out.
    """

    known: dict[int, tuple[int, int]] = field(default_factory=dict)
    averages: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    rounding: float = 0.0
    used: set[str] = field(default_factory=set)

    def label(self, tag: int, form: int) -> np.uint64:
        """The label of the mean of `form` in a tensor."""
        found = label(key("mean", tag, form))
        self.known[int(found)] = (tag, form)
        return found

    def are(self, labels: Labels) -> Mask:
        """Which labels are those of means, of whatever tensor."""
        return np.isin(labels, np.fromiter(self.known, np.uint64, len(self.known)))

    def mask(self, tag: int, labels: Labels) -> Mask | None:
        """Positions that hold the mean of all others on their axis; None if there are none."""
        if not self.known:
            return None
        for candidate in np.unique(labels[self.are(labels)]):
            of, form = self.known[int(candidate)]
            found = labels == candidate
            if of == tag and not found.all() and form_of(labels[~found]) == form:
                return found
        return None

    def put(self, tag: int, labels: Labels, mask: Mask) -> Labels:
        """Labels with those in `mask` the mean of the others; zeros stay zeros."""
        if not mask.any():
            return labels
        mean = self.label(tag, form_of(labels[~mask]))
        return np.where(mask & (labels != ZERO), mean, labels)

    def moved(self, before: int, value: Value) -> Value:
        """What came from the tensor `before` element by element, or by sums along other axes."""
        if value.labels is None or value.tag == before:
            return value
        axes = []
        for labels in value.axes:
            found = labels
            for candidate in np.unique(labels[self.are(labels)]):
                of, form = self.known[int(candidate)]
                if of == before:
                    found = np.where(labels == candidate, self.label(value.tag, form), found)
            axes.append(found)
        return replace(value, labels=tuple(axes))

    def rows(self, rows: Rows) -> Mask:
        """Rows of a contraction that are, as forms, the mean of the others, to rounding."""
        # rows of several groups read different inputs, and integers have no means
        if len(rows.labels) > 1 or rows.weight.dtype.kind in "iub":
            return np.zeros(rows.count, bool)
        labels, union = rows.labels[0], np.unique(rows.labels[0][rows.labels[0] != ZERO])

        factors = np.ones((1, 1)) if rows.scale is None else rows.scale[0][:, None]

        def forms(weights: Array, some: Labels) -> Array:
            at = np.isin(labels, some)
            wide = weights[:, at].astype(np.float64) * (factors[at] if len(factors) > 1 else 1)
            return summed_by_label(wide, labels[at], some).reshape(len(weights), -1)

        def off(mask: Mask, others: Mask) -> Array:
            mean, most = _average(rows.raw[0].reshape(rows.count, -1), others)
            mean, most = (v.reshape(1, *rows.raw.shape[2:]) for v in (mean, most))
            slack = np.abs(forms(most, union))
            found = _off(forms(rows.raw[0][mask], union), forms(mean, union), slack, dtype)
            biases = rows.biases[:, None]
            return np.maximum(found, _off(biases[mask], *_average(biases, others), dtype))

        dtype = rows.weight.dtype
        some = union[np.linspace(0, len(union) - 1, min(len(union), _SAMPLE)).astype(np.int64)]
        return self._found(forms(rows.raw[0], some), off, dtype)

    def columns(self, array: Array) -> Mask:
        """Rows of an array that are the mean of the others, number by number."""
        flat = array.reshape(len(array), -1)
        if array.dtype.kind in "iub":
            return np.zeros(len(flat), bool)
        at = np.linspace(0, flat.shape[1] - 1, min(flat.shape[1], _SAMPLE)).astype(np.int64)
        sample = flat[:, at].astype(np.float64)
        return self._found(sample, lambda m, o: off_mean(flat, m, o), array.dtype)

    def _found(
        self, sample: Array, off: Callable[[Mask, Mask], Array], dtype: np.dtype[Any]
    ) -> Mask:
        """All rows that equal the mean of everything, unless there are no others.

        Args:
            sample: some numbers for each row, linear in it.
            off: how far masked rows are off the mean of others; 1 is what rounding may do.
        """
        none = np.zeros(len(sample), bool)
        if len(sample) < 3 or not sample.size:
            return none
        with np.errstate(invalid="ignore", over="ignore"):
            most = np.abs(sample).max(0)
            within = (8 * tolerance(dtype) + 2.0**-40) * most + _SMALLEST.get(dtype.name, 0.0)
            found = (np.abs(sample - sample.mean(0)) <= within).all(1)
        if found.any() and not found.all():  # all pads together move the mean by less than one
            found[found] = off(found, ~none) <= 2.0
        while found.any() and not found.all():
            far = off(found, ~found)
            if (far <= 1.0).all():
                self.rounding = max(self.rounding, float(far.max()) * tolerance(dtype) / 2)
                return found
            found[np.flatnonzero(found)[~(far <= 1.0)]] = False
        return none


def form_of(labels: Labels) -> int:
    """A name for the mean of labels, however often it counts them all."""
    unique, counts = np.unique(labels, return_counts=True)
    whole = math.gcd(len(labels), *counts.tolist())
    live = unique != ZERO
    return key("form", digest(unique[live]), digest(counts[live] // whole), len(labels) // whole)


def off_mean(rows: Array, mask: Mask, others: Mask) -> Array:
    """How far each masked row is off the mean of others; 1 is what rounding may do."""
    off = np.zeros(int(mask.sum()))
    step = max(1, CHUNK // len(rows))
    for start in range(0, rows.shape[1], step):
        part = rows[:, start : start + step]
        found = _off(part[mask].astype(np.float64), *_average(part, others), rows.dtype)
        off = np.maximum(off, found)
    return off


def _average(rows: Array, mask: Mask) -> tuple[Array, Array]:
    """The mean of some rows, and the largest of their numbers."""
    total, most = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    step = max(1, CHUNK // max(1, rows.shape[1]))
    at = np.flatnonzero(mask)
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, len(at), step):
            part = rows[at[start : start + step]].astype(np.float64)
            total += part.sum(0)
            most = np.maximum(most, np.abs(part).max(0))
    return total / len(at), most


def _off(rows: Array, mean: Array, most: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        within = tolerance(dtype) / 2 * np.abs(mean) + _SUM * most
        difference = np.abs(rows - mean)
        found = difference / (within + _SMALLEST.get(dtype.name, 0.0) / 2)
    found = np.where(difference == 0, 0.0, np.where(np.isnan(found), np.inf, found))
    return np.asarray(found.max(1, initial=0.0), np.float64)


__all__ = ["Mask", "Means", "form_of", "off_mean"]
