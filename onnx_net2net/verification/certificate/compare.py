"""Second layer: a proof from the two files alone that holds for every input.

Both models are evaluated in an algebra of names (`ids`); the student's outputs must have
the names of the teacher's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import TypeProto

from onnx_net2net.errors import ModelError
from onnx_net2net.graph.model import Node
from onnx_net2net.inference.expressions import Expr
from onnx_net2net.inference.input_sizes import inference_of, symbols
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.inference.size_symbols import Sizes, input_dims
from onnx_net2net.inference.symbolic import symbolic
from onnx_net2net.verification.certificate.absent import lacks
from onnx_net2net.verification.certificate.constants import Constants
from onnx_net2net.verification.certificate.domain import Const, Term, Value
from onnx_net2net.verification.certificate.interpreter import Evaluation
from onnx_net2net.verification.certificate.names import ZERO, CollisionError, Labels, audited
from onnx_net2net.verification.certificate.registry import Registry
from onnx_net2net.verification.sides import Side, Sides
from onnx_net2net.verification.verdict import Layer, Status

# what growing may add without touching a layer
_INSERTED = frozenset("Cast Concat Gather Identity Mul Reshape Shape Slice Unsqueeze".split())


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
    embedding = sides.student.embedding
    registry = Registry(_Shared(sides), embedding=embedding)
    teacher = Constants(sides, sides.teacher)
    student = Constants(sides, sides.student, teacher)
    usual: int | None = None
    for k, mine in enumerate(facts):
        if k and mine is facts[0]:
            continue
        registry.look_at_teacher()
        given = input_dims(symbols(sides.teacher.model), mine)
        before = _evaluated(sides.teacher, mine, teacher, registry, given)
        usual = len(before.whole) if usual is None else usual
        if len(before.whole) > usual:  # sizes at which the teacher itself does not run
            continue
        registry.teaching = False
        types = {n: mine.types[n] for n in sides.student.model.inputs if n in mine.types}
        types = embedding.types(types)
        try:
            sizes = _sizes(sides.student, types, known)
        except ModelError as why:
            return Layer("certificate", Status.UNDECIDED, f"the student's shapes: {why}")
        after = _evaluated(sides.student, sizes, student, registry, given, before)
        wrong = [
            (o, theirs)
            for o, theirs in zip(
                sides.teacher.model.outputs, sides.student.model.outputs, strict=True
            )
            if not same(before.term(o), embedding.cut_term(theirs, after.term(theirs)))
        ]
        if wrong:
            return _ended(sides, before, after, registry, [o for _, o in wrong])
    return _proved(registry)


def _evaluated(
    side: Side, facts: Facts, constants: Constants, registry: Registry, given: Sizes,
    before: Evaluation | None = None,
) -> Evaluation:  # fmt: skip
    """A model in the algebra of names.

    Args:
        given: the teacher's inputs as expressions; what has grown is as the facts have it.
        before: the teacher's evaluation, where this is the student.
    """
    inputs = {
        name: tuple(d if isinstance(d, Expr) else size for d, size in zip(dims, here, strict=True))
        for name, dims in given.shapes.items()
        if (here := Sizes(facts).shape(name)) is not None and len(here) == len(dims)
    }
    inference = inference_of(side.source, side.model)
    sizes = symbolic(inference, facts, replace(given, shapes=inputs), given.resolved)
    return Evaluation(side, facts, constants, registry, sizes, before).run()


def _sizes(side: Side, types: dict[str, TypeProto], known: Sequence[Facts]) -> Facts:
    """Facts at the given types of the inputs."""
    for facts in known:
        if all(facts.types.get(n) == t for n, t in types.items()):
            return facts
    return inference_of(side.source, side.model).run(types)


def _proved(registry: Registry) -> Layer:
    n, m = len(registry.contractions), len(registry.compared)
    padded = len(registry.means.used)
    off = max(registry.rounding, registry.means.rounding if padded else 0.0)
    figures: dict[str, Any] = {"rounding": off, "compared": m}
    how = "" if off == 0 and not padded else f", to a rounding of {off:.1g} of a weight"
    every = "every input"
    if registry.assumed:
        every += f" that indexes {', '.join(map(repr, sorted(registry.assumed)))} from the front"
    detail = f"the same function for {every}{how}; {m} changed of {n} weights compared"
    if padded:
        figures["padded"] = padded
        detail += f"; pads leave {padded} average{'s' * (padded > 1)} unchanged"
    return Layer("certificate", Status.PASSED, detail, figures=figures)


def same(a: Term, b: Term) -> bool:
    """Whether two tensors are the same function, position by position."""
    if isinstance(a, Const) or isinstance(b, Const):
        return isinstance(a, Const) and isinstance(b, Const) and a.key == b.key
    return a.whole == b.whole


def _ended(
    sides: Sides, before: Evaluation, after: Evaluation, registry: Registry, wrong: list[str]
) -> Layer:
    figures: dict[str, Any] = {"outputs": wrong, "compared": len(registry.compared)}
    ancestors = _ancestors(after, wrong)
    names = {n.name for n in ancestors}
    losses = [x for x in registry.losses if x.node in names]
    certain = [x for x in losses if x.certain]
    if certain and _same_operators(sides):
        loss = certain[0]
        row, (near, off) = loss.rows[0], loss.nearest[0]
        how = "" if not np.isfinite(off) else f", which differs by {off:.2g} of a weight"
        figures |= {"node": loss.node, "channel": row}
        return Layer(
            "certificate", Status.FAILED,
            f"'{loss.node}': channel {row} has no counterpart in the teacher; "
            f"nearest is {near}{how}", figures=figures,
        )  # fmt: skip
    doubts = {k: why for k, why in registry.doubts.items() if k in names}
    strange, stray = _strange(before, after, ancestors)
    # a weight or an operator that is not the teacher's may do less than a run can show
    figures["suspect"] = bool(stray or losses or doubts) or lacks(sides, strange)
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
        why = f"channel {lost.rows[0]} has no counterpart in the teacher"
    elif not strange:
        why = "it has channels without a counterpart in the teacher"
    return Layer(
        "certificate", Status.UNDECIDED, f"no proof beyond '{node.name}' ({node.op}): {why}",
        figures=figures,
    )  # fmt: skip


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


def _same_operators(sides: Sides) -> bool:
    """Whether both models have the same operators, so that a row must have its counterpart."""
    a, b = (
        sorted(n.op for n in s.model.nodes if n.op not in _INSERTED)
        for s in (sides.teacher, sides.student)
    )
    return a == b


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
