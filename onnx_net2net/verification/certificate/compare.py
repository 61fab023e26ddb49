"""Second layer: a proof from the two files alone that holds for every input.

Both models are evaluated in an algebra of names (`ids`); the student's outputs must have
the names of the teacher's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnx_net2net.graph.model import Node
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.verification.certificate.absent import lacks
from onnx_net2net.verification.certificate.domain import Const, Value
from onnx_net2net.verification.certificate.interpreter import Evaluation
from onnx_net2net.verification.certificate.names import ZERO, CollisionError, Labels, audited
from onnx_net2net.verification.certificate.regions import Regions
from onnx_net2net.verification.certificate.registry import Loss, Registry
from onnx_net2net.verification.certificate.trial import Outcome, ShapesError, Trial
from onnx_net2net.verification.sides import Sides
from onnx_net2net.verification.verdict import Layer, Status


def compare(sides: Sides, facts: Sequence[Facts], known: Sequence[Facts] = ()) -> Layer:
    """Prove that the student is the teacher's function, or say where the proof ends.

    Args:
        facts: the teacher's facts at the sizes to look at; the student is looked at with
            the same input sizes.
        known: the student's facts, as far as they were computed already.
    """
    try:
        with audited() as book:
            found = _compared(sides, facts, known)
            book.audit()
    except CollisionError as why:
        return Layer("certificate", Status.UNDECIDED, f"{why}; run it again")
    return found


def _compared(sides: Sides, facts: Sequence[Facts], known: Sequence[Facts]) -> Layer:
    def fresh() -> Registry:
        return Registry(_Shared(sides), embedding=sides.student.embedding)

    trial = Trial(sides, known, fresh())
    last = facts[-1]  # no two of its sizes are alike, where that is possible
    try:
        found = trial.at(last)
        if found.wrong and last is not facts[0]:
            usual = trial.again(fresh()).at(facts[0])
            if len(usual.before.whole) < len(found.before.whole):  # the teacher does not run there
                last, found = facts[0], usual
        if found.wrong:
            return _in_part(trial, fresh, last) or _ended(sides, found)
    except ShapesError as why:
        return Layer("certificate", Status.UNDECIDED, f"the student's shapes: {why}")
    return _proved(found.after.registry)


def _in_part(trial: Trial, fresh: Callable[[], Registry], facts: Facts) -> Layer | None:
    """A proof for some sizes, where there are sizes to tell apart."""
    if not trial.inputs(facts).shapes:
        return None
    found = Regions(trial, fresh).covered(facts)
    if found is None:
        return None
    covered, registry = found
    layer = _proved(registry)
    return replace(layer, covered=covered, detail=f"where {covered}: {layer.detail}")


def _proved(registry: Registry) -> Layer:
    n, m = len(registry.contractions), len(registry.compared)
    padded = len(registry.means.used)
    off = max(registry.rounding, registry.means.rounding if padded else 0.0)
    figures: dict[str, Any] = {"rounding": off, "compared": m}
    if registry.cancelled:
        figures["cancelled"] = True
    how = "" if off == 0 and not padded else f", to a rounding of {off:.1g} of a weight"
    every = "every input"
    if registry.assumed:
        every += f" that indexes {', '.join(map(repr, sorted(registry.assumed)))} from the front"
    detail = f"the same function for {every}{how}; {m} changed of {n} weights compared"
    if padded:
        figures["padded"] = padded
        detail += f"; pads leave {padded} average{'s' * (padded > 1)} unchanged"
    return Layer("certificate", Status.PASSED, detail, figures=figures)


def _ended(sides: Sides, found: Outcome) -> Layer:
    before, after, wrong = found.before, found.after, found.wrong
    registry = after.registry
    figures: dict[str, Any] = {"outputs": wrong, "compared": len(registry.compared)}
    ancestors = _ancestors(after, wrong)
    names = {n.name for n in ancestors}
    losses = [x for x in registry.losses if x.node in names]
    doubts = {k: why for k, why in registry.doubts.items() if k in names}
    strange, stray = _strange(before, after, ancestors)
    # a weight or an operator that is not the teacher's may do less than a run can show
    unsure = stray or losses or doubts or after.jumped & names
    figures["suspect"] = bool(unsure) or lacks(sides, strange)
    node = next(iter(strange or stray), None)
    if node is None:
        return Layer(
            "certificate", Status.UNDECIDED, f"output '{wrong[0]}' could not be matched",
            figures=figures,
        )  # fmt: skip
    figures["node"] = node.name
    why = after.whole.get(node.index, "its operands do not stand as in the teacher")
    why = doubts.get(node.name, why)
    lost = next((x for x in losses if x.node == node.name), None)
    if lost is not None:
        figures["channel"] = lost.rows[0]
        why = _told(lost)
    elif not strange:
        why = "it has channels without a counterpart in the teacher"
    return Layer(
        "certificate", Status.UNDECIDED, f"no proof beyond '{node.name}' ({node.op}): {why}",
        figures=figures,
    )  # fmt: skip


def _told(lost: Loss) -> str:
    near, off = lost.nearest[0]
    how = f", which differs by {off:.2g} of a weight" if np.isfinite(off) else ""
    return f"channel {lost.rows[0]} has no counterpart in the teacher; nearest is {near}{how}"


def _ancestors(after: Evaluation, outputs: Sequence[str]) -> list[Node]:
    """The nodes that some outputs depend on, in running order."""
    model = after.side.model
    todo, found = list(outputs), dict[int, Node]()
    owners = {s: n for n in model.nodes for s in n.bodies.values()}
    while todo:
        tensor = todo.pop()
        node = model.producer.get(tensor)
        if node is None or node.index in found:
            continue
        found[node.index] = node
        todo += [t for t in (*node.inputs, *node.captured) if t]
        for scope in node.bodies.values():
            todo += model.scopes[scope].outputs
        if node.scope in owners:
            todo += owners[node.scope].outputs
    return [found[k] for k in sorted(found)]


def _strange(
    before: Evaluation, after: Evaluation, ancestors: Sequence[Node]
) -> tuple[list[Node], list[Node]]:
    """Nodes that do something which the teacher does not do, and nodes that do the same to
    channels which the teacher does not have."""
    values = [t for t in before.terms.values() if not isinstance(t, Const)]
    tags = {t.tag for t in values}
    known = np.unique(np.concatenate([np.zeros(0, np.uint64), *map(_labels, values)]))
    strange, stray = [], []
    for node in ancestors:
        terms = [after.terms[o] for o in node.outputs if o in after.terms]
        made = [t for t in terms if not isinstance(t, Const)]
        new = any(t.tag not in tags for t in made)
        if new:
            strange.append(node)
        if any(_lost_means(t, after.registry) for t in made) or (
            not new and not all(np.isin(_labels(t, after.registry), known).all() for t in made)
        ):
            stray.append(node)
    return strange, stray


def _lost_means(value: Value, registry: Registry) -> bool:
    """Whether an operator took means for channels like others."""
    means, found = registry.means, False
    for labels in value.labels or ():
        held, live = means.are(labels), means.mask(value.tag, labels)
        found |= bool((held if live is None else held & ~live).any())
    return found


def _labels(value: Value, registry: Registry | None = None) -> Labels:
    """The labels of a tensor; with a registry, those of pads are left out.

    Pads hold the mean of the others, or zeros beside all channels of the teacher's.
    """
    if value.labels is None:
        return np.zeros(0, np.uint64)
    axes = [np.zeros(0, np.uint64)]
    for k, labels in enumerate(value.settled().axes):
        kept = labels
        if registry is not None:
            means = registry.means.mask(value.tag, labels)
            kept = labels if means is None else labels[~means]
            theirs = [t.axes[k] for t in registry.seen.get(value.tag, ()) if t.labels is not None]
            if any(np.isin(t, labels).all() for t in theirs):
                kept = kept[kept != ZERO]
        axes.append(kept)
    return np.unique(np.concatenate(axes))


class _Shared:
    """Whether the student reads the same constants in a node's place."""

    def __init__(self, sides: Sides) -> None:
        self._sides = sides
        self._known: dict[str, bool] = {}

    def __call__(self, node: Node, slots: Sequence[int]) -> bool:
        other = self._sides.student.model.producer.get(node.outputs[0])
        if other is None or other.op != node.op or len(other.inputs) != len(node.inputs):
            return False
        return all(
            node.inputs[k] == other.inputs[k] and self._constant(node.inputs[k]) for k in slots
        )

    def _constant(self, name: str) -> bool:
        if name not in self._known:
            self._known[name] = self._equal(name)
        return self._known[name]

    def _equal(self, name: str) -> bool:
        if name in self._sides.teacher.model.leaves:
            return self._sides.same(name)
        a = self._sides.teacher.model.producer.get(name)
        b = self._sides.student.model.producer.get(name)
        if a is None or b is None or a.inputs != b.inputs or a.attributes != b.attributes:
            return False
        return a.op == b.op and all(self._constant(t) for t in a.inputs if t)
