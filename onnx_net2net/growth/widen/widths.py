"""Which widths an axis can take, and which units are new for one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_net2net.coupling.space import Axis, Space
from onnx_net2net.errors import UsageError
from onnx_net2net.growth.widen.units import Row, Units
from onnx_net2net.keyed_random import permutation, words
from onnx_net2net.typing import Array


@dataclass(frozen=True)
class Widths:
    """The widths of an axis: today's, and how many positions each class adds.

    `step[c]`: positions that one more copy of class c adds to the axis.
    `pairs`: new units come in twos (twins), which `step` counts.
    `uniform`: every class must be copied equally often, as under a norm: 8 channels can become
    16 or 24. `padded`: means or zeros may make up the rest there, so that 8 can become 11;
    `why`: in words, why they may not.
    """

    today: int
    step: Array
    uniform: bool
    pairs: bool = False
    padded: bool = False
    why: str = ""

    @classmethod
    def of(cls, space: Space, axis: Axis | None, kind: Row = Row.COPY) -> Widths:
        """Widths of an axis of a space; with no axis, the number of classes.

        Args:
            space: what grows.
            axis: whose length counts.
            kind: of the new units.
        """
        pairs = kind is Row.TWIN
        if axis is None:
            return cls(space.size, np.full(space.size, 1 + pairs), bool(space.uniform), pairs)
        labels = space.labels[axis]
        step = np.bincount(labels[labels >= 0], minlength=space.size) * (1 + pairs)
        return cls(len(labels), step, bool(space.uniform), pairs)

    def legal(self, width: int) -> bool:
        """Whether a width can be reached."""
        extra = width - self.today
        if extra <= 0:
            return False
        if self.uniform:
            return extra % self.unit == 0
        return self._reachable(extra)

    @property
    def unit(self) -> int:
        """What a uniform axis grows by."""
        return int(self.step.max() if self.padded else self.step.sum())

    def _reachable(self, extra: int) -> bool:
        steps = {int(s) for s in self.step if s > 0}
        if len(steps) <= 1:
            return bool(steps) and extra % next(iter(steps)) == 0
        common, largest = math.gcd(*steps), max(steps)
        if extra >= largest**2:  # above Frobenius' bound
            return extra % common == 0
        reach = np.zeros(extra + 1, bool)
        reach[0] = True
        for s in sorted(steps):
            for start in range(s):
                line = reach[start::s]
                reach[start::s] = np.logical_or.accumulate(line)
        return bool(reach[extra])

    def at_least(self, width: int, multiple_of: int = 1) -> int:
        """The smallest legal width that is not below `width`."""
        span = self.unit if self.uniform else int(self.step.max(initial=1))
        first = -(-max(width, self.today + 1) // multiple_of) * multiple_of
        for candidate in range(first, first + multiple_of * (2 * span + 1), multiple_of):
            if self.legal(candidate):
                return candidate
        raise UsageError(f"no legal width near {width} is a multiple of {multiple_of}")

    def near(self, width: int) -> list[int]:
        """The nearest legal widths around an illegal one."""
        span = self.unit if self.uniform else int(self.step.max(initial=1))
        low = next(
            (w for w in range(width, max(width - 2 * span, self.today), -1) if self.legal(w)), None
        )
        return [w for w in (low, self.at_least(width)) if w is not None]


def target(
    widths: Widths, width: int | None, ratio: float | None, multiple_of: int, name: str
) -> int:
    """The width that was asked for, checked.

    Args:
        widths: what can be.
        width, ratio: one of them.
        multiple_of: what the width is rounded up to.
        name: of the layer, for messages.

    Raises:
        UsageError: not larger than today's, or not reachable; the nearest legal ones are named.
    """
    if (width is None) == (ratio is None):
        raise UsageError("give either a width or a ratio")
    if ratio is not None:
        if not math.isfinite(ratio) or ratio <= 1:
            raise UsageError(f"ratio {ratio} does not widen", "give a number above 1, e.g. 1.5")
        return widths.at_least(math.ceil(round(ratio * widths.today, 6)), multiple_of)
    assert width is not None
    if multiple_of > 1:
        width = -(-width // multiple_of) * multiple_of
    if width <= widths.today:
        raise UsageError(
            f"'{name}' has width {widths.today} today", f"give a larger one than {width}"
        )
    if not widths.legal(width):
        near = widths.near(width)
        nearest = f"the nearest {'is' if len(near) == 1 else 'are'} {' or '.join(map(str, near))}"
        why = " (twins come in pairs)" if widths.pairs else f" ({widths.why})" * bool(widths.why)
        raise UsageError(
            f"'{name}' (width {widths.today}) cannot get width {width}", f"{nearest}{why}"
        )
    return width


def draw(
    widths: Widths,
    width: int,
    mapping: str | Sequence[int],
    seed: int,
    name: str,
    kind: Row = Row.COPY,
) -> Units:
    """The new units for a width.

    Args:
        mapping: `random` (the paper's, with replacement), `balanced`, or the source of each
            new unit, with or without the n originals in front.
        seed, name: key the draw.
        kind: of the units.

    Raises:
        UsageError: the mapping given does not fit.
    """
    extra = width - widths.today
    if not isinstance(mapping, str):
        return Units.copies(_given(widths, list(mapping), extra), kind)
    if widths.uniform:
        return _each(widths, extra // widths.unit, kind)
    chosen = _drawn(widths, extra, mapping == "balanced", seed, name)
    return Units.copies(np.repeat(chosen, 1 + widths.pairs), kind)


def _each(widths: Widths, times: int, kind: Row) -> Units:
    """Every unit equally often; where pads may make up the rest, these."""
    n = len(widths.step)
    whole, rest = divmod(times, n) if widths.padded else (times, 0)
    units = Units.copies(np.tile(np.arange(n), whole).repeat(1 + widths.pairs), kind)
    pads = Units.copies(np.arange(rest), Row.PAD)
    return Units(np.concatenate([units.source, pads.source]), units.kind + pads.kind)


def _drawn(widths: Widths, extra: int, balanced: bool, seed: int, name: str) -> list[int]:
    """The source of each new unit until an axis has grown by `extra`."""
    allowed = np.flatnonzero(widths.step > 0)
    raw = words(4 * extra + 64, seed, "map", name) >> np.uint64(33)
    order = allowed[permutation(len(allowed), seed, "order", name)]
    chosen: list[int] = []
    for k in range(len(raw)):
        if extra == 0:
            break
        pool = _fitting(widths, allowed, extra)
        c = int(order[k % len(order)] if balanced else pool[int(raw[k]) % len(pool)])
        if c in pool:
            chosen.append(c)
            extra -= int(widths.step[c])
    return chosen


def _fitting(widths: Widths, allowed: Array, extra: int) -> Array:
    """The units that leave a rest which can still be reached."""
    steps = np.unique(widths.step[allowed])
    if len(steps) == 1:
        return allowed
    left = {int(s): extra - int(s) for s in steps}
    good = [s for s, r in left.items() if r == 0 or (r > 0 and widths._reachable(r))]
    return allowed[np.isin(widths.step[allowed], good)]


def _given(widths: Widths, mapping: list[int], extra: int) -> list[int]:
    n = len(widths.step)
    new = mapping[n:] if mapping[:n] == list(range(n)) and len(mapping) > n else mapping
    bad = [g for g in new if not (isinstance(g, int) and 0 <= g < n)]
    if bad:
        raise UsageError(f"the mapping sends a unit to {bad[0]!r}", f"expected 0 to {n - 1}")
    if int(widths.step[new].sum()) != extra:
        raise UsageError(
            f"the mapping adds {int(widths.step[new].sum())} channels, the width asks for {extra}",
            f"give 0..{n - 1} and then the source of each new unit",
        )
    if widths.uniform and len(set(np.bincount(new, minlength=n).tolist())) > 1:
        raise UsageError("the mapping must copy every unit equally often here")
    return new
