"""Widening several spaces at once: planned and proved together, which is quicker than in turn."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnx_net2net.coupling.catalogue import layer_space, space_name, spaces
from onnx_net2net.coupling.space import Axis, Instance, Space
from onnx_net2net.errors import Refusal, RefusalError, UsageError
from onnx_net2net.graph.model import Node
from onnx_net2net.growth.widen.changes import Growth
from onnx_net2net.growth.widen.normalised_axes import beyond_multiples, padded
from onnx_net2net.growth.widen.planner import grow
from onnx_net2net.growth.widen.result import Widened
from onnx_net2net.growth.widen.scheme import Scheme
from onnx_net2net.growth.widen.step import widen_step, widened
from onnx_net2net.growth.widen.units import Padding, Row, Units
from onnx_net2net.growth.widen.widths import Widths, draw, target
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.factors import Factor


@dataclass(frozen=True)
class Wish:
    """How far to widen each space: one of `width` and `ratio`; `how`: what `widen_step` takes."""

    width: int | None = None
    ratio: float | None = None
    multiple_of: int = 1
    how: dict[str, Any] = field(default_factory=dict)

    @property
    def scheme(self) -> Scheme:
        """How new units come about."""
        return Scheme(**{k: v for k, v in self.how.items() if k in Scheme.__dataclass_fields__})

    @property
    def mapping(self) -> str:
        """Which units the new ones copy."""
        return str(self.how.get("mapping", "random"))

    @property
    def rows(self) -> Row:
        """What kind the new units are of."""
        return self.how.get("rows") or self.scheme.row

    def target(self, widths: Widths, name: str) -> int:
        """The width; raises UsageError."""
        return target(widths, self.width, self.ratio, self.multiple_of, name)


@dataclass(frozen=True)
class Chosen:
    """A space that is to grow, one of its layers and that one's axis, and its new units.

    `asked`: how `widen_step` is told of it, `("node", name)` or `("space", name)`.
    """

    space: Space
    axis: Axis
    layer: str
    asked: tuple[str, str]
    widths: Widths
    units: Units
    width: tuple[int, int]


@dataclass
class Round:
    """Spaces that can grow at once, those that must grow alone, and what was left out."""

    chosen: list[Chosen] = field(default_factory=list)
    alone: list[Chosen] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    left_out: dict[str, Exception] = field(default_factory=dict)


def refused(analysis: Analysis, layers: Sequence[Node]) -> dict[str, Refusal]:
    """Of some layers those that cannot grow at all, and why."""
    blocked = {b.node: b.refusal for b in spaces(analysis)[1]}
    able = {n.name for n in analysis.layers()}
    found = {}
    for node in layers:
        if node.name in blocked:
            found[node.name] = blocked[node.name]
        elif node.name not in able:
            try:
                layer_space(analysis, node)
            except RefusalError as why:
                found[node.name] = why.refusal
    return found


def next_round(analysis: Analysis, todo: Collection[str], wish: Wish, lenient: bool) -> Round:
    """What of the layers `todo` can grow at once; overlapping spaces wait for the next round.

    Args:
        lenient: leave out what has no such width, rather than raising UsageError.
    """
    round_ = Round()
    taken: dict[Axis, np.ndarray] = {}
    fills: dict[Axis, Row] = {}
    for candidate, layers in candidates(analysis, todo, wish.rows):
        space, name, widths = candidate.space, candidate.layer, candidate.widths
        labels = space.labels.items()
        if any(a in taken and (taken[a] & (v >= 0)).any() for a, v in labels):
            continue
        round_.seen |= layers
        try:
            wanted = wish.target(widths, name)
        except UsageError as why:
            if not lenient:
                raise
            round_.left_out[name] = why
            continue
        units = draw(widths, wanted, wish.mapping, wish.scheme.seed, name, wish.rows)
        units = padded(analysis, space, units)
        chosen = replace(candidate, units=units, width=(widths.today, wanted))
        fill = units.padding.fill.items() if units.padding is not None else ()
        unlike = any(fills.get(a, row) is not row for a, row in fill)
        if unlike or _growth(analysis, space, units, wish.scheme) is None:
            round_.alone.append(chosen)
            continue
        fills.update(fill)
        for a, v in labels:
            taken[a] = taken.get(a, np.zeros(len(v), bool)) | (v >= 0)
        round_.chosen.append(chosen)
    return round_


def candidates(
    analysis: Analysis, layers: Collection[str], rows: Row
) -> Iterator[tuple[Chosen, set[str]]]:
    """The spaces of some layers, nothing new yet, and all layers of each.

    Of a layer with several widths the default; all but the number of heads where there is
    none, each counted in classes.
    """
    found = spaces(analysis)[0]
    plain = {n.name for space, _, nodes in found if space.default for n in nodes}
    for space, first, nodes in found:
        able = [] if space.part.startswith("heads") else nodes
        able = [n for n in able if space.default or n.name not in plain]
        mine = next((n for n in able if n.name in layers), None)
        if mine is None:
            continue
        made = analysis.output_axis(mine)
        axis = (made[0], None, made[1]) if made is not None else first
        asked = ("space", space_name(space, nodes[0])) if space.part else ("node", mine.name)
        widths = Widths.of(space, None if space.part else axis, rows)
        if rows is Row.COPY:
            widths = beyond_multiples(analysis, space, widths)
        none = Units.copies([])
        names = {n.name for n in nodes}
        yield Chosen(space, axis, mine.name, asked, widths, none, (widths.today,) * 2), names


def widen_chosen(analysis: Analysis, chosen: Sequence[Chosen], scheme: Scheme) -> Widened | None:
    """One step for several spaces; None if they do not line up together."""
    space, units = union([(c.space, c.units) for c in chosen])
    growth = _growth(analysis, space, units, scheme)
    if growth is None:
        return None
    name = ", ".join(c.asked[1] for c in chosen)
    step = widened(analysis, growth, name, chosen[0].axis, scheme)
    if len(chosen) == 1:
        return step
    return replace(step, together=tuple((c.asked[1], *c.width) for c in chosen))


def _growth(analysis: Analysis, space: Space, units: Units, scheme: Scheme) -> Growth | None:
    with suppress(RefusalError):
        return grow(analysis, space, units, scheme)
    return None


def widen_alone(analysis: Analysis, chosen: Chosen, wish: Wish) -> Widened:
    """One space on its own; raises as `widen_step`."""
    kind, name = chosen.asked
    sizes: dict[str, Any] = {kind: name, "width": wish.width, "ratio": wish.ratio}
    return widen_step(analysis, multiple_of=wish.multiple_of, **sizes, **wish.how)


def union(parts: Sequence[tuple[Space, Units]]) -> tuple[Space, Units]:
    """Several disjoint spaces as one, so that they are planned and proved together."""
    labels: dict[Axis, np.ndarray] = {}
    passages: dict[Instance, list[Factor]] = {}
    source: list[np.ndarray] = []
    kinds: list[Row] = []
    offset = 0
    for space, units in parts:
        for axis, v in space.labels.items():
            moved = np.where(v >= 0, v + offset, -1)
            old = labels.get(axis)
            labels[axis] = moved if old is None else np.where(old >= 0, old, moved)
        for instance, carried in space.passages.items():
            known = passages.setdefault(instance, [])
            known += [f for f in carried if not any(f is k for k in known)]
        source.append(units.source + offset)
        kinds += units.kind
        offset += space.size
    uniform = next((s.uniform for s, _ in parts if s.uniform), None)
    joined = Space(parts[0][0].seed, offset, labels, passages, uniform)
    paddings = [units.padding for _, units in parts if units.padding is not None]
    fill = {a: row for p in paddings for a, row in p.fill.items()}
    part = {n: part for p in paddings for n, part in p.parts.items()}
    merged = Padding(fill, part) if paddings else None
    return joined, Units(np.concatenate(source), tuple(kinds), merged)
