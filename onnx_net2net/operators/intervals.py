"""Intervals of values, and what each kind of operator makes of them.

Bounds hold in floating point too: results that are rounded are widened a little, except at
zero, where rounding never changes the sign.

Source: growth-operators.md section 0, point 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from onnx_net2net.graph.model import Node

if TYPE_CHECKING:
    from .spec import Site

SLACK = 2.0**-7  # a bfloat16 result is off by 2^-8 at most


@dataclass(frozen=True)
class Range:
    """All values lie in [low, high]."""

    low: float = -math.inf
    high: float = math.inf

    def __or__(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))

    def __str__(self) -> str:
        low = "(-inf" if self.low == -math.inf else f"[{self.low:g}"
        high = "inf)" if self.high == math.inf else f"{self.high:g}]"
        return f"{low}, {high}"


ANY = Range()
ZERO = Range(0.0, 0.0)
_POSITIVE = Range(0.0, math.inf)
Derive = Callable[["Site", Sequence[Range]], Range]
"""The range of an output from those of the inputs."""


def rounded(low: float, high: float) -> Range:
    """Widened for rounding."""
    low, high = (-math.inf if math.isnan(low) else low), (math.inf if math.isnan(high) else high)
    return Range(low - abs(low) * SLACK, high + abs(high) * SLACK)


def fixed(low: float, high: float) -> Derive:
    """Always [low, high]."""
    return lambda site, ranges: Range(low, high)


def kept(site: Site, ranges: Sequence[Range]) -> Range:
    """Every number is one of input 0."""
    return ranges[0]


def any_of(site: Site, ranges: Sequence[Range]) -> Range:
    """Every number is one of some input."""
    total = ranges[0]
    for r in ranges[1:]:
        total |= r
    return total


def mean(site: Site, ranges: Sequence[Range]) -> Range:
    """Means of numbers of input 0, and of zeros that count as padding."""
    padded = ranges[0] | ZERO if site.attr("count_include_pad", 0) else ranges[0]
    return rounded(padded.low, padded.high)


def mean_of_all(site: Site, ranges: Sequence[Range]) -> Range:
    """The mean of the inputs, position by position."""
    whole = any_of(site, ranges)
    return rounded(whole.low, whole.high)


def total(site: Site, ranges: Sequence[Range]) -> Range:
    """The sum of all inputs."""
    return rounded(sum(r.low for r in ranges), sum(r.high for r in ranges))


def difference(site: Site, ranges: Sequence[Range]) -> Range:
    """Input 0 less input 1."""
    a, b = ranges
    return rounded(a.low - b.high, a.high - b.low)


def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def product(site: Site, ranges: Sequence[Range]) -> Range:
    """Input 0 times input 1; a square is positive."""
    a, b = ranges
    ends = [_times(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    if not _distinct(site.node):
        return _POSITIVE
    return rounded(min(ends), max(ends))


def _inverse(r: Range) -> Range:
    """1/r where r is on one side of zero; 1/0 is an infinity of that side."""
    if r.low >= 0:
        return Range(0.0 if r.high == math.inf else 1 / r.high if r.high else math.inf,
                     1 / r.low if r.low else math.inf)  # fmt: skip
    return ANY


def interval_quotient(site: Site, ranges: Sequence[Range]) -> Range:
    """Input 0 by input 1."""
    return product(site, [ranges[0], _inverse(ranges[1])]) if _distinct(site.node) else ANY


def _distinct(node: Node) -> bool:
    return node.inputs[0] != node.inputs[1]


def power(site: Site, ranges: Sequence[Range]) -> Range:
    """Input 0 to the power of input 1."""
    exponent = site.values[1]
    if ranges[0].low >= 0:
        return _POSITIVE
    even = exponent is not None and bool(np.all(np.asarray(exponent) % 2 == 0))
    return _POSITIVE if even else ANY


def interval_maximum(site: Site, ranges: Sequence[Range]) -> Range:
    """The largest of the inputs."""
    return Range(max(r.low for r in ranges), max(r.high for r in ranges))


def interval_minimum(site: Site, ranges: Sequence[Range]) -> Range:
    """The smallest of the inputs."""
    return Range(min(r.low for r in ranges), min(r.high for r in ranges))


def chosen(site: Site, ranges: Sequence[Range]) -> Range:
    """Input 1 or input 2."""
    return ranges[1] | ranges[2]


def padded(site: Site, ranges: Sequence[Range]) -> Range:
    """Input 0 with a border."""
    if site.attr("mode", "constant") != "constant":
        return ranges[0]
    value = site.attr("value", 0.0)
    if site.has(2):
        return ranges[0] | ranges[2]
    return ranges[0] | Range(value, value)


def scattered(site: Site, ranges: Sequence[Range]) -> Range:
    """Input 0 with some numbers of input 2."""
    return ranges[0] | ranges[2] if site.attr("reduction", "none") == "none" else ANY


def resized(site: Site, ranges: Sequence[Range]) -> Range:
    """Nearest and linear take weighted means; cubic overshoots."""
    if site.attr("mode", "nearest") not in ("nearest", "linear"):
        return ANY
    if site.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return ANY
    return rounded(ranges[0].low, ranges[0].high)


def negative(site: Site, ranges: Sequence[Range]) -> Range:
    """The other sign."""
    return Range(-ranges[0].high, -ranges[0].low)


def reciprocal(site: Site, ranges: Sequence[Range]) -> Range:
    """One by input 0."""
    r = _inverse(ranges[0])
    return rounded(r.low, r.high)


def signed_total(site: Site, ranges: Sequence[Range]) -> Range:
    """A sum of some numbers: as many as there are, so only its sign is known."""
    r = ranges[0]
    return _POSITIVE if r.low >= 0 else Range(-math.inf, 0.0) if r.high <= 0 else ANY


def cast(site: Site, ranges: Sequence[Range]) -> Range:
    """Integers are cut towards zero, truth values are 0 and 1."""
    both = ranges[0] | ZERO
    return Range(0.0, 1.0) if site.attr("to") == TensorProto.BOOL else rounded(both.low, both.high)
