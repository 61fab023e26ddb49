"""The student's shape arithmetic: which literals and operands must change.

Shapes that the model computes follow the new widths by themselves; a value that arrives
wrong at the operand that needs it is replaced there, element by element, and only where
it is static, so that what varies stays computed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnx_net2net.coupling.space import Instance
from onnx_net2net.errors import ANOTHER_LAYER, Reason, Refusal, RefusalError
from onnx_net2net.graph.model import Node
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.inference.folding import folded
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.operators.notation import Entry
from onnx_net2net.operators.spec import Grown, Rule, Site, Slot
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array, Shape

_NO_RULE = Rule()
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

    def resize(self, sizes: Mapping[tuple[str, int], int]) -> None:
        """Give axes, (tensor, dimension), other sizes."""
        for (tensor, dim), size in sizes.items():
            shape = self.shape(tensor)
            if shape is not None:
                self.shapes[tensor] = (*shape[:dim], size, *shape[dim + 1 :])

    def learn(self, made: Iterable[tuple[str, Array]]) -> Iterator[str]:
        """Keep the values that are not the teacher's; their tensors."""
        for name, value in made:
            if name and not np.array_equal(value, self.facts.values[name]):
                self.values[name] = value
                if value.shape != self.facts.shapes.get(name):
                    self.shapes[name] = value.shape
                yield name


@dataclass
class Sizes:
    """The student's sizes at both probes and the operands to rewrite."""

    probes: list[_Student]
    nodes: list[Node]
    operands: list[Operand] = field(default_factory=list)

    def inputs(self, instance: Instance, probe: int) -> list[Array | None]:
        """What a node reads in the student, where that is known."""
        student = self.probes[probe]
        values = [student.value(t) if t else None for t in self.nodes[instance[0]].inputs]
        for o in self.operands:
            if o.instance == instance and o.slot is not None:
                values += [None] * (o.slot + 1 - len(values))
                values[o.slot] = o.values[probe]
        return values

    def student(self, instance: Instance, probe: int, sources: _Sources) -> Site:
        """A node as it is in the student: shapes, operand values, attributes.

        Args:
            instance: the node, or one use of a constant one.
            probe: at which input sizes.
            sources: of its axes that grow.
        """
        site = self.probes[probe].facts.site(self.nodes[instance[0]])
        mine = (o for o in self.operands if o.instance == instance and o.slot is None)
        attributes = {o.attribute: o.values[probe].tolist() for o in mine}
        return student_site(site, sources, self.inputs(instance, probe), attributes)


def student_site(
    site: Site, sources: _Sources, values: list[Array | None], attributes: Mapping[str, Any]
) -> Site:
    """A node as it is in the student.

    Args:
        site: the teacher's.
        sources: entry -> source, of the axes that grow.
        values: what its inputs hold.
        attributes: those that change.
    """
    node = site.node
    if attributes:
        node = replace(node)
        node.__dict__["attributes"] = {**site.node.attributes, **attributes}
    shapes = tuple(_resized(s, k, sources) for k, s in enumerate(site.shapes))
    outs = tuple(_resized(s, -1 - k, sources) for k, s in enumerate(site.outs))
    return Site(node, shapes, outs, tuple(values))


def _resized(shape: Shape | None, slot: int, sources: _Sources) -> Shape | None:
    if shape is None:
        return None
    return tuple(len(sources[slot, k]) if (slot, k) in sources else d for k, d in enumerate(shape))


def wanted(site: Site, slot: Slot, sources: _Sources) -> Array | None:
    """What an operand must hold in the student; None where nothing is to be done."""
    ins = {e: s for e, s in sources.items() if e[0] >= 0}
    outs = {(-1 - e[0], e[1]): s for e, s in sources.items() if e[0] < 0}
    want = slot.want(Grown(site, ins, outs))
    return None if want is None else np.asarray(want, np.int64)


def stands_at(node: Node, slot: Slot) -> int | None:
    """The input that an operand is written to, None where that is its attribute."""
    given = slot.input is not None and node.tensor(slot.input)
    return slot.input if given or not slot.attribute or node.version >= slot.since else None


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
        student.resize(sizes)
    by_node = defaultdict[int, list[Instance]](list)
    for instance in instances:
        by_node[instance[0]].append(instance)
    changed = set(result.probes[0].shapes)
    for node in analysis.model.nodes:
        inside = by_node[node.index]
        if not inside and changed.isdisjoint(node.reads):
            continue
        for instance in inside or [(node.index, None)]:
            _Visit(result, node, instance, sources_of(instance)).rewrite()
        if all(i[1] is None for i in inside):  # a constant's own chain is re-indexed with it
            changed.update(_computed(result, node))
    return result


def _computed(result: Sizes, node: Node) -> Iterator[str]:
    """Compute what the node's outputs hold in the student, where that is known; what changed."""
    if not all(o in result.probes[0].facts.values for o in node.outputs if o):
        return
    for probe, student in enumerate(result.probes):
        values = result.inputs((node.index, None), probe)[: len(node.inputs)]
        found = folded(node, values, [student.shape(t) for t in node.inputs])
        if found is None:
            return
        yield from student.learn(zip(node.outputs, found, strict=False))


@dataclass(frozen=True)
class _Visit:
    """A node on the walk, and the sources of its axes; its operands go to `sizes`."""

    sizes: Sizes
    node: Node
    instance: Instance
    sources: _Sources

    def rewrite(self) -> None:
        """Compare what the operands hold in the student with what they must hold."""
        row, teacher = TABLE.get(self.node.op, _NO_RULE), self.sizes.probes[0].facts
        known = row.fold is not None and all(o in teacher.values for o in self.node.outputs if o)
        if known and not self.sources:
            return  # what it gives is computed anew
        for slot in row.slots:
            self._compare(slot)
        self._pinned({s.input for s in row.slots})

    def _wanted(self, student: _Student, slot: Slot) -> Array | None:
        try:
            return wanted(student.facts.site(self.node), slot, self.sources)
        except LookupError as why:
            if not self.sources:
                return None
            refusal = Refusal(Reason.RUNTIME, self.node.name, None, str(why), ANOTHER_LAYER)
            raise RefusalError(refusal) from None

    def _held(self, student: _Student, slot: Slot) -> Array | None:
        tensor = self.node.tensor(slot.input) if slot.input is not None else ""
        value = student.value(tensor) if tensor else self.node.attr(slot.attribute)
        return None if value is None else np.atleast_1d(np.asarray(value)).reshape(-1)

    def _compare(self, slot: Slot) -> None:
        probes = self.sizes.probes
        asked = [(self._wanted(s, slot), self._held(s, slot)) for s in probes]
        pairs = [(want, have) for want, have in asked if want is not None]
        if not pairs:
            return
        wants = [want for want, _ in pairs]
        if len({len(w) for w in wants}) > 1:
            raise self._varies()
        wrong = np.any([_differs(want, have) for want, have in pairs], 0)
        if not wrong.any():
            return
        if any((w[wrong] != wants[0][wrong]).any() for w in wants):
            raise self._varies()
        at = stands_at(self.node, slot)
        held = probes[0].value(self.node.tensor(at)) if at is not None else None
        shaped = tuple(as_held(w, held) for w in wants)
        self.sizes.operands.append(
            Operand(self.instance, at, slot.attribute, shaped, wrong, slot.replaces)
        )

    def _pinned(self, declared: set[int | None]) -> None:
        """Values that the teacher computes from sizes (1/sqrt(d)) must not change with them."""
        probes = self.sizes.probes
        for slot, tensor in enumerate(self.node.reads):
            if slot in declared or not any(tensor in s.values for s in probes):
                continue
            if slot >= len(self.node.inputs):  # a body returns it: no operand can take its place
                raise self._varies()
            wants = tuple(self._indexed(s.facts.values[tensor], slot) for s in probes)
            now = (np.asarray(s.value(tensor)) for s in probes)
            if all(map(np.array_equal, wants, now)):
                continue
            if not np.array_equal(wants[0], wants[1]):
                raise self._varies()
            wrong = np.ones(wants[0].size, bool)
            self.sizes.operands.append(Operand(self.instance, slot, "", wants, wrong))

    def _indexed(self, value: Array, slot: int) -> Array:
        """What an input holds once its axes have grown."""
        for (s, dim), source in self.sources.items():
            if s == slot:
                value = np.take(value, source, axis=dim)
        return value

    def _varies(self) -> RefusalError:
        hint = "a size that varies with the input would have to change; choose another layer"
        name, op = self.node.name, self.node.op
        return RefusalError(Refusal(Reason.COMPUTED_SIZE, name, detail=op, hint=hint))


def _differs(want: Array, have: Array | None) -> Array:
    if have is None or len(have) != len(want):
        return np.ones(len(want), bool)
    return np.asarray(have != want)


def as_held(want: Array, held: Array | None) -> Array:
    """An operand's new value in the shape of the old one, where as many numbers stand there."""
    return want.reshape(held.shape) if held is not None and held.size == want.size else want
