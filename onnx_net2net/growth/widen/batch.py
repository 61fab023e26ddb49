"""Widening several spaces at once: planned and proved together, which is quicker than in turn."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from onnx_net2net.coupling.catalogue import layer_space, space_name, spaces
from onnx_net2net.coupling.space import Axis, Instance, Space
from onnx_net2net.errors import Refusal, RefusalError, UsageError
from onnx_net2net.graph.model import Node
from onnx_net2net.growth.selectors import layers
from onnx_net2net.growth.student import Student, Task
from onnx_net2net.growth.widen.changes import Growth
from onnx_net2net.growth.widen.normalised_axes import beyond_multiples, padded
from onnx_net2net.growth.widen.planner import grow
from onnx_net2net.growth.widen.result import Widened
from onnx_net2net.growth.widen.scheme import Scheme
from onnx_net2net.growth.widen.step import widen_step, widened
from onnx_net2net.growth.widen.units import Padding, Row, Units
from onnx_net2net.growth.widen.verb import Widen
from onnx_net2net.growth.widen.widths import Widths, draw, target
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.factors import Factor

_LEAVE_OUT = "or leave out what cannot grow with where_possible: true"


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
    left_out: dict[str, RefusalError | UsageError] = field(default_factory=dict)


def run(student: Student, task: Task[Widen]) -> tuple[list[str], str]:
    """Widen what a step names: one layer, or several at once.

    Returns:
        See `Verb.run`.
    """
    asked = task.asked
    name = getattr(asked, asked.selector)
    if asked.selector in ("node", "space") and isinstance(name, str) and asked.parameters is None:
        task.grow(student, {asked.selector: name})
        return [name], ""
    if isinstance(asked.mapping, list):
        raise UsageError(
            "a mapping as a list fits one layer", "name one, or say random or balanced"
        )
    found = layers(student.analysis, asked)
    cannot = refused(student.analysis, found)
    for name, refusal in cannot.items():
        hint = f"{refusal.hint}; {_LEAVE_OUT}" if refusal.hint else _LEAVE_OUT
        with task.trying(name):
            raise RefusalError(replace(refusal, hint=hint), f"'{name}'")
    todo = {n.name for n in found} - set(cannot)
    note = ""
    if asked.parameters is not None:
        from onnx_net2net.growth.widen.budget import within

        note = within(student, task, todo)
    else:
        widen_all(student, task, todo)
    return [n.name for n in found], note


def widen_all(student: Student, task: Task[Widen], todo: set[str]) -> None:
    """Grow disjoint spaces together, then look again for those that overlapped them.

    Args:
        student: takes the results.
        task: the step.
        todo: names of layers; those that are done or left out are taken off.
    """
    asked = task.seeded(student)
    while todo:
        now = next_round(student.analysis, todo, asked, asked.lenient)
        if not now.seen:
            return
        task.left_out.update(now.left_out)
        todo -= now.seen
        alone = now.alone
        if now.chosen:
            step = _widen_chosen(student.analysis, now.chosen, Scheme.of(asked))
            if step is not None:
                student.take(step)
                todo -= set(step.along)
            else:  # together they do not line up: one now, the others again
                todo |= {c.layer for c in (*now.chosen[1:], *alone)}
                alone = [now.chosen[0]]
        for one in alone:
            kind, name = one.asked
            with task.trying(name):
                result = widen_step(student.analysis, asked.at(**{kind: name}))
                student.take(result)
                todo -= set(result.along)


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


def next_round(analysis: Analysis, todo: Collection[str], asked: Widen, lenient: bool) -> Round:
    """What of the layers `todo` can grow at once; overlapping spaces wait for the next round.

    Args:
        analysis: of the model as it is now.
        todo: names of layers.
        asked: how far and how.
        lenient: leave out what has no such width, rather than raising UsageError.
    """
    round_, scheme, free = Round(), Scheme.of(asked), _Free()
    for candidate, together in candidates(analysis, todo, scheme.row):
        space, name, widths = candidate.space, candidate.layer, candidate.widths
        if free.overlaps(space):
            continue
        round_.seen |= together
        try:
            wanted = target(widths, asked.width, asked.ratio, asked.multiple_of, name)
        except UsageError as why:
            if not lenient:
                raise
            round_.left_out[name] = why
            continue
        units = draw(widths, wanted, asked.mapping, scheme.seed, name, scheme.row)
        units = padded(analysis, space, units)
        chosen = replace(candidate, units=units, width=(widths.today, wanted))
        if free.fits(units) and _growth(analysis, space, units, scheme) is not None:
            free.take(space, units)
            round_.chosen.append(chosen)
        else:
            round_.alone.append(chosen)
    return round_


@dataclass
class _Free:
    """What the spaces chosen so far leave free: positions of axes, and fills of pads."""

    taken: dict[Axis, np.ndarray] = field(default_factory=dict)
    fills: dict[Axis, Row] = field(default_factory=dict)

    def overlaps(self, space: Space) -> bool:
        shared = ((self.taken[a], v) for a, v in space.labels.items() if a in self.taken)
        return any((taken & (v >= 0)).any() for taken, v in shared)

    def fits(self, units: Units) -> bool:
        fill = units.padding.fill if units.padding is not None else {}
        return all(self.fills.get(a, row) is row for a, row in fill.items())

    def take(self, space: Space, units: Units) -> None:
        self.fills.update(units.padding.fill if units.padding is not None else {})
        for a, v in space.labels.items():
            self.taken[a] = self.taken.get(a, np.zeros(len(v), bool)) | (v >= 0)


def candidates(
    analysis: Analysis, layers: Collection[str], rows: Row
) -> Iterator[tuple[Chosen, set[str]]]:
    """The spaces of some layers, nothing new yet, and all layers of each.

    Of a layer with several widths the default; all but the number of heads where there is
    none, each counted in classes.

    Args:
        analysis: of the model.
        layers: names.
        rows: what the new units will be.
    """
    found = spaces(analysis)[0]
    plain = {n.name for space, _, nodes in found if space.default for n in nodes}
    for space, first, nodes in found:
        if space.part.startswith("heads"):
            continue
        able = nodes if space.default else [n for n in nodes if n.name not in plain]
        mine = next((n for n in able if n.name in layers), None)
        if mine is not None:
            name = space_name(space, nodes[0]) if space.part else ""
            yield _candidate(analysis, space, first, mine, name, rows), {n.name for n in nodes}


def _candidate(
    analysis: Analysis, space: Space, first: Axis, layer: Node, part: str, rows: Row
) -> Chosen:
    """A space by one of its layers, or by its name where it is a part of one."""
    made = analysis.output_axis(layer)
    axis = (made[0], None, made[1]) if made is not None else first
    widths = Widths.of(space, None if part else axis, rows)
    if rows is Row.COPY:
        widths = beyond_multiples(analysis, space, widths)
    asked = ("space", part) if part else ("node", layer.name)
    none, today = Units.copies([]), (widths.today, widths.today)
    return Chosen(space, axis, layer.name, asked, widths, none, today)


def _widen_chosen(analysis: Analysis, chosen: Sequence[Chosen], scheme: Scheme) -> Widened | None:
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


def union(parts: Sequence[tuple[Space, Units]]) -> tuple[Space, Units]:
    """Several disjoint spaces as one, so that they are planned and proved together."""
    labels: dict[Axis, np.ndarray] = {}
    passages: dict[Instance, list[Factor]] = {}
    offset = 0
    sources = []
    for space, units in parts:
        for axis, v in space.labels.items():
            moved = np.where(v >= 0, v + offset, -1)
            old = labels.get(axis)
            labels[axis] = moved if old is None else np.where(old >= 0, old, moved)
        for instance, carried in space.passages.items():
            known = passages.setdefault(instance, [])
            known += [f for f in carried if not any(f is k for k in known)]
        sources.append(units.source + offset)
        offset += space.size
    uniform = next((s.uniform for s, _ in parts if s.uniform), None)
    joined = Space(parts[0][0].seed, offset, labels, passages, uniform)
    kinds = tuple(kind for _, units in parts for kind in units.kind)
    return joined, Units(np.concatenate(sources), kinds, _padding([u for _, u in parts]))


def _padding(parts: Sequence[Units]) -> Padding | None:
    paddings = [units.padding for units in parts if units.padding is not None]
    fill = {a: row for p in paddings for a, row in p.fill.items()}
    return Padding(fill, {n: k for p in paddings for n, k in p.parts.items()}) if paddings else None
