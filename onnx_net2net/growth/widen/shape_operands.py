"""The student's shape arithmetic: which literals and operands must change.

Shapes that the model computes follow the new widths by themselves; a value that arrives
wrong at the operand that needs it is replaced there, element by element, and only where
it is static, so that what varies stays computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from onnx_net2net.coupling.space import Instance
from onnx_net2net.errors import ANOTHER_LAYER, Reason, Refusal, RefusalError
from onnx_net2net.graph.model import Node
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.inference.folding import folded
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.operators.notation import Entry
from onnx_net2net.operators.spec import Grown, Site, Slot
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array, Shape

_Sources = Mapping[Entry, Array]


@dataclass(frozen=True)
class Operand:
    """An operand that must hold other numbers in the student.

    `slot`: the input, or None for `attribute`. `values`: what it must hold at each probe;
    `wrong`: which elements (of the flattened operand) differ from what the student
    computes there; those are the same at all probes.
    """

    instance: Instance
    slot: int | None
    attribute: str
    values: tuple[Array, ...]
    wrong: Array
    replaces: str = ""

    @property
    def value(self) -> Array:
        """What it must hold at the first probe."""
        return self.values[0]


@dataclass
class _Student:
    """Values and shapes of the student at one probe, where they differ from the teacher's."""

    facts: Facts
    shapes: dict[str, Shape] = field(default_factory=dict)
    values: dict[str, Array] = field(default_factory=dict)

    def shape(self, tensor: str) -> Shape | None:
        return self.shapes.get(tensor, self.facts.shapes.get(tensor))

    def value(self, tensor: str) -> Array | None:
        return self.values.get(tensor, self.facts.values.get(tensor))


@dataclass
class Sizes:
    """The student's sizes at both probes and the operands to rewrite."""

    probes: list[_Student]
    nodes: list[Node]
    operands: list[Operand] = field(default_factory=list)

    def student(self, instance: Instance, probe: int, sources: _Sources) -> Site:
        """A node as it is in the student: shapes, operand values, attributes.

        Args:
            instance: the node, or one use of a constant one.
            probe: at which input sizes.
            sources: of its axes that grow.
        """
        at = self.probes[probe]
        teacher = at.facts.site(self.nodes[instance[0]])
        mine = [o for o in self.operands if o.instance == instance]
        values = [at.value(t) if t else None for t in teacher.node.inputs]
        node = teacher.node
        for o in mine:
            if o.slot is None:
                node = _with_attribute(node, o.attribute, o.values[probe])
            else:
                values += [None] * (o.slot + 1 - len(values))
                values[o.slot] = o.values[probe]
        return Site(
            node,
            tuple(_resized(s, k, sources) for k, s in enumerate(teacher.shapes)),
            tuple(_resized(s, -1 - k, sources) for k, s in enumerate(teacher.outs)),
            tuple(values),
        )


def _with_attribute(node: Node, name: str, value: Array) -> Node:
    changed = replace(node)
    changed.__dict__["attributes"] = {**node.attributes, name: value.tolist()}
    return changed


def _resized(shape: Shape | None, slot: int, sources: _Sources) -> Shape | None:
    if shape is None:
        return None
    return tuple(len(sources[slot, k]) if (slot, k) in sources else d for k, d in enumerate(shape))


def follow(
    analysis: Analysis,
    sizes: Mapping[tuple[str, int], int],
    instances: set[Instance],
    sources_of: Callable[[Instance], _Sources],
) -> Sizes:
    """Walk the graph with the new sizes and find what does not follow by itself.

    Args:
        sizes: (tensor, dimension) -> the student's size, of every axis that grows.
        instances: nodes through which the space passes.
        sources_of: the sources of a node's axes.

    Raises:
        RefusalError: a size that would have to change is computed in ways that cannot follow.
    """
    result = Sizes([_Student(f) for f in analysis.facts], analysis.model.nodes)
    for student in result.probes:
        for (tensor, dim), size in sizes.items():
            shape = student.shape(tensor)
            if shape is not None:
                student.shapes[tensor] = (*shape[:dim], size, *shape[dim + 1 :])
    by_node: dict[int, list[Instance]] = {}
    for instance in instances:
        by_node.setdefault(instance[0], []).append(instance)
    changed = set(result.probes[0].shapes)
    for node in analysis.model.nodes:
        inside = by_node.get(node.index, [])
        if not inside and not any(t in changed for t in node.reads):
            continue
        for instance in inside or [(node.index, None)]:
            _operands(analysis, result, node, instance, sources_of(instance))
        if inside and any(i[1] is not None for i in inside):
            continue  # a constant's own chain: its values are arrays, re-indexed with it
        _values(result, node, changed)
    return result


def _values(result: Sizes, node: Node, changed: set[str]) -> None:
    """Compute what the node's outputs hold in the student, where that is known."""
    if not all(o in result.probes[0].facts.values for o in node.outputs if o):
        return
    for probe, student in enumerate(result.probes):
        values = [student.value(t) if t else None for t in node.inputs]
        for o in result.operands:
            if o.instance == (node.index, None) and o.slot is not None and o.slot < len(values):
                values[o.slot] = o.values[probe]
        found = folded(node, values, [student.shape(t) for t in node.inputs])
        if found is None:
            return
        for name, r in zip(node.outputs, found, strict=False):
            if name and not np.array_equal(r, student.facts.values[name]):
                student.values[name] = r
                if r.shape != student.facts.shapes.get(name):
                    student.shapes[name] = r.shape
                changed.add(name)


def _operands(
    analysis: Analysis, result: Sizes, node: Node, instance: Instance, sources: _Sources
) -> None:
    """Compare what the operands hold in the student with what they must hold."""
    row = TABLE.get(node.op)
    slots = row.slots if row is not None else ()
    folded = (
        row is not None
        and row.fold is not None
        and all(o in analysis.first.values for o in node.outputs if o)
    )
    declared: set[int] = set()
    for slot in slots:
        wants, haves = [], []
        for student in result.probes:
            site = student.facts.site(node)
            ins = {e: s for e, s in sources.items() if e[0] >= 0}
            outs = {(-1 - e[0], e[1]): s for e, s in sources.items() if e[0] < 0}
            try:
                want = slot.want(Grown(site, ins, outs)) if sources or not folded else None
            except LookupError as why:
                if not sources:
                    continue
                refusal = Refusal(Reason.RUNTIME, node.name, None, str(why), ANOTHER_LAYER)
                raise RefusalError(refusal) from None
            if want is not None:
                wants.append(np.asarray(want, np.int64))
                haves.append(_held(student, node, slot))
        if slot.input is not None:
            declared.add(slot.input)
        if wants:
            _compare(result, node, instance, slot, wants, haves)
    if sources or not folded:
        _pinned(result, node, instance, sources, declared)


def _held(student: _Student, node: Node, slot: Slot) -> Array | None:
    if slot.input is not None and slot.input < len(node.inputs) and node.inputs[slot.input]:
        v = student.value(node.inputs[slot.input])
    elif slot.attribute and slot.attribute in node.attributes:
        v = np.asarray(node.attributes[slot.attribute])
    else:
        return None
    return None if v is None else np.atleast_1d(v).reshape(-1)


def _compare(
    result: Sizes, node: Node, instance: Instance, slot: Slot,
    wants: list[Array], haves: list[Array | None],
) -> None:  # fmt: skip
    wrong = np.zeros(len(wants[0]), bool)
    for want, have in zip(wants, haves, strict=True):
        if len(want) != len(wants[0]):
            raise _varies(node)
        wrong |= (
            np.ones(len(want), bool) if have is None or len(have) != len(want) else have != want
        )
    if not wrong.any():
        return
    if any((w[wrong] != wants[0][wrong]).any() for w in wants):
        raise _varies(node)
    given = slot.input is not None and slot.input < len(node.inputs) and node.inputs[slot.input]
    at = slot.input if given or not slot.attribute or node.version >= slot.since else None
    if given:
        v = result.probes[0].value(node.inputs[slot.input or 0])
        if v is not None and v.size == wants[0].size:
            wants = [w.reshape(v.shape) for w in wants]
    result.operands.append(
        Operand(instance, at, slot.attribute, tuple(wants), wrong, slot.replaces)
    )


def _pinned(
    result: Sizes, node: Node, instance: Instance, sources: _Sources, declared: set[int]
) -> None:
    """Values that the teacher computes from sizes (1/sqrt(d)) must not change with them."""
    for slot, tensor in enumerate(node.reads):
        if slot in declared or not any(tensor in s.values for s in result.probes):
            continue
        if slot >= len(node.inputs):  # a body returns it, and no operand can be put in its place
            raise _varies(node)
        wants, wrong = [], False
        for student in result.probes:
            want = student.facts.values[tensor]
            for (s, dim), source in sources.items():
                if s == slot:
                    want = np.take(want, source, axis=dim)
            wants.append(want)
            wrong |= not np.array_equal(want, np.asarray(student.value(tensor)))
        if not wrong:
            continue
        if wants[0].shape != wants[1].shape or not np.array_equal(wants[0], wants[1]):
            raise _varies(node)
        result.operands.append(
            Operand(instance, slot, "", tuple(wants), np.ones(wants[0].size, bool))
        )


def _varies(node: Node) -> RefusalError:
    hint = "a size that varies with the input would have to change; choose another layer"
    return RefusalError(Refusal(Reason.COMPUTED_SIZE, node.name, detail=node.op, hint=hint))
