"""From a growth to a patch: the arrays, the nodes and the declared shapes that change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from onnx_net2net.files.patch import Insert, Splice
from onnx_net2net.graph.editor import Editor, after
from onnx_net2net.graph.messages import copied, drop_attribute, set_attribute
from onnx_net2net.graph.model import Leaf, Node
from onnx_net2net.growth.widen.arrays import grown_array, twins
from onnx_net2net.growth.widen.changes import Change, Correction, Division, Growth, Use
from onnx_net2net.growth.widen.scheme import Scheme
from onnx_net2net.growth.widen.shape_operands import Operand
from onnx_net2net.growth.widen.shares import divided
from onnx_net2net.growth.widen.units import live
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.typing import Array


@dataclass(frozen=True)
class Grown:
    """A student's constant: the teacher's that it was made of, its shape `before`, and how."""

    name: str
    source: str
    before: tuple[int, ...]
    change: Change


def patch_of(
    analysis: Analysis, growth: Growth, scheme: Scheme
) -> tuple[list[Splice | Insert], list[Grown]]:
    """The patch that turns the teacher into the student, and the constants that it makes.

    Args:
        analysis: of the teacher.
        growth: what changes, as planned.
        scheme: how the weights that read copies are divided among them.
    """
    draft = _Draft(analysis, growth, scheme)
    draft.constants()
    nodes = draft.model.nodes
    for (index, name), value in growth.attributes.items():
        set_attribute(draft.node(nodes[index]), name, value)
    for operand in growth.operands:
        draft.operand(operand)
    for correction in growth.corrections:
        draft.correct(correction)
    for index, factor in growth.averages.items():
        draft.average(nodes[index], factor)
    for division in growth.divisions:
        draft.divide(division)
    for (tensor, use, dim), source in growth.layout.source.items():
        if use is None:
            draft.resize(tensor, {dim: len(source)})
    return draft.patch(), draft.grown


class _Draft(Editor):
    """The edits of one growth.

    Attributes:
        grown: the constants that it made.
        clones: (node, reader) -> the copy of a node between a constant and the one of its
            readers that gets a constant of its own.
    """

    def __init__(self, analysis: Analysis, growth: Growth, scheme: Scheme) -> None:
        super().__init__(analysis.model)
        self.analysis, self.growth, self.scheme = analysis, growth, scheme
        self.grown: list[Grown] = []
        self._by_source: dict[str, list[Grown]] = {}
        self.clones: dict[tuple[int, Use], NodeProto] = {}

    def constants(self) -> None:
        """New arrays in place, or beside the old ones where other uses keep theirs."""
        renamed: dict[Use, dict[str, str]] = {}
        for (name, use), change in self.growth.constants.items():
            new = self._changed(name, change)
            if new != name:
                renamed.setdefault(use, {})[name] = new
        for use, names in renamed.items():
            reader, slot = self.model.nodes[use[0]], use[1]
            top = self._clone(reader.inputs[slot], use, names)
            if top is not None:
                self.node(reader).input[slot] = top
        self.drop_unread(self.model.nodes[k] for k in {index for index, _ in self.clones})

    def _changed(self, name: str, change: Change) -> str:
        """What a constant is called after a change, which is made once for all that share it."""
        known = self._by_source.setdefault(name, [])
        for made in known:
            if made.name == name or made.change.same(change):
                return made.name
        leaf, kinds = self.model.leaves[name], self.growth.units.kind
        array = grown_array(self._array(leaf), change, kinds, self.scheme, name)
        new = name
        if name in self.growth.parted:
            new = self.constant(array, f"{name}_grown")
        else:
            self.replace(leaf, array)
        known.append(Grown(new, name, leaf.shape, change))
        self.grown.append(known[-1])
        return new

    def _array(self, leaf: Leaf) -> Array:
        if leaf.tensor is None:
            dtype = np.float32 if leaf.dtype == TensorProto.FLOAT else np.int64
            return np.asarray(leaf.literal, dtype)
        return np.asarray(self.analysis.source.array(leaf.tensor))

    def _clone(self, tensor: str, use: Use, names: dict[str, str]) -> str | None:
        """A parted leaf as its reader sees it, through copies; None where nothing is renamed."""
        if tensor in names:
            return names[tensor]
        node = self.model.producer.get(tensor)
        if node is None:
            return None
        copy = self.clones.get((node.index, use)) or self._copy(node, use, names)
        return None if copy is None else str(copy.output[node.outputs.index(tensor)])

    def _copy(self, node: Node, use: Use, names: dict[str, str]) -> NodeProto | None:
        """A copy of a node for one reader, with what it reads; None where nothing is renamed."""
        below = [self._clone(t, use, names) if t else None for t in node.inputs]
        if all(b is None for b in below):
            return None
        copy = copied(node.proto)
        copy.name = self.fresh(f"{node.name}_grown")
        for k, (old, new) in enumerate(zip(node.proto.input, below, strict=True)):
            copy.input[k] = old if new is None else new
        for k, o in enumerate(node.outputs):
            copy.output[k] = self.fresh(f"{o}_grown") if o else ""
        self.clones[node.index, use] = copy
        self.insert(self.model.nodes[use[0]].path, copy)
        return copy

    def operand(self, operand: Operand) -> None:
        """Write sizes where they are read: attribute, own literal, or around what is computed."""
        node, use = self.model.nodes[operand.instance[0]], operand.instance[1]
        clone = self.clones.get((node.index, use)) if use is not None else None
        proto = clone if clone is not None else self.node(node)
        slot = operand.slot
        if slot is None:
            set_attribute(proto, operand.attribute, operand.value.tolist())
            return
        if operand.replaces:
            drop_attribute(proto, operand.replaces)
        proto.input.extend([""] * (slot + 1 - len(proto.input)))
        tensor = node.inputs[slot] if slot < len(node.inputs) else ""
        dtype = self.analysis.first.values[tensor].dtype if tensor else np.int64
        value = operand.value.astype(dtype)
        leaf = self.model.leaves.get(tensor)
        if leaf is not None and clone is None and self._alone(operand, leaf):
            self.replace(leaf, value)
        elif not tensor or leaf is not None or operand.wrong.all() or value.ndim != 1:
            proto.input[slot] = self.constant(value, f"{tensor or node.name}_grown")
        else:
            anchor = self.model.nodes[use[0]] if use is not None else node
            name = node.proto.input[slot]
            proto.input[slot] = self._joined(tensor, name, value, operand.wrong, anchor)

    def _joined(self, tensor: str, name: str, value: Array, wrong: Array, anchor: Node) -> str:
        """Sizes of which some are computed: those kept, the wrong ones from constants.

        Args:
            tensor, name: what holds the sizes today, as an id and as the file has it.
            value: all sizes as they are to be, one axis.
            wrong: which of them `tensor` does not hold.
            anchor: before which node the new ones are to stand.
        """
        pieces = []
        edges = np.flatnonzero(np.diff(wrong.astype(int))) + 1
        for part in np.split(np.arange(len(value)), edges):
            if wrong[part[0]]:
                pieces.append(self.constant(value[part], f"{tensor}_grown"))
                continue
            out = self.fresh(f"{tensor}_kept")
            pieces.append(out)
            self.insert(anchor.path, self._sliced(name, out, int(part[0]), int(part[-1]) + 1))
        joined = self.fresh(f"{tensor}_joined")
        made = onnx.helper.make_node("Concat", pieces, [joined], name=joined, axis=0)
        self.insert(anchor.path, made)
        return joined

    def _sliced(self, tensor: str, out: str, start: int, end: int) -> NodeProto:
        if self.model.opsets.get("", 1) < 10:
            return onnx.helper.make_node(
                "Slice", [tensor], [out], name=out, starts=[start], ends=[end], axes=[0]
            )
        bounds = [self.constant(np.array([v], np.int64), f"{out}_{n}") for n, v in
                  (("start", start), ("end", end), ("axis", 0))]  # fmt: skip
        return onnx.helper.make_node("Slice", [tensor, *bounds], [out], name=out)

    def _alone(self, operand: Operand, leaf: Leaf) -> bool:
        """Whether every reader of a literal needs the same new value."""
        wanted = {(o.instance[0], o.slot): o for o in self.growth.operands}
        if leaf.scope != self.model.nodes[operand.instance[0]].scope:
            return False
        others = [wanted.get((node.index, slot)) for node, slot in self.model.uses(leaf.name)]
        return all(o is not None and np.array_equal(o.value, operand.value) for o in others)

    def correct(self, c: Correction) -> None:
        """Evened weights: an operand in front of a node, or behind it."""
        node = self.model.nodes[c.node]
        tensor = node.tensor(c.slot)
        shape = [1] * len(self.analysis.first.shapes[tensor] or ())
        shape[c.dim] = len(c.operand)
        operand = self._number(c.operand.reshape(shape), tensor, f"{node.name}_evened")
        if c.slot >= 0:
            self._in_front(node, c.slot, c.op, operand, f"{tensor}_evened")
        else:
            new = self.fresh(f"{tensor}_evened")
            self._behind(node, -1 - c.slot, c.op, operand, new, f"{new}_after")

    def average(self, node: Node, factor: float) -> None:
        """Multiply an average, behind its node: it ran over pads of zeros as well."""
        scale = self._number(np.asarray(factor), node.outputs[0], f"{node.name}_pads")
        out = self.node(node).output[0]
        self._behind(node, 0, "Mul", scale, self.fresh(f"{out}_padded"), f"{out}_rescaled")

    def divide(self, d: Division) -> None:
        """Divide what a node reads among the copies, where no weight can."""
        node, kinds = self.model.nodes[d.node], self.growth.units.kind
        dtype = onnx.helper.tensor_dtype_to_np_dtype(d.dtype)
        ones = np.ones(int(d.source.max()) + 1, dtype)
        key = (self.scheme.seed, "division", node.name, d.slot)
        how = "even" if self.scheme.split == "zero-sum" else self.scheme.split
        factor = divided(ones, d.source, 0, how, live(d.unit, kinds), 0, *key)
        first, second = twins(d.source, d.unit, kinds)
        factor[first], factor[second] = 1, -1
        shape = [1] * d.rank
        shape[d.dim] = len(factor)
        scale = self.constant(factor.reshape(shape), f"{node.name}_shares")
        self._in_front(node, d.slot, "Mul", scale, f"{self.node(node).input[d.slot]}_divided")

    def _number(self, value: Array, tensor: str, base: str) -> str:
        """Add a constant of a tensor's type; its name."""
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.analysis.first.dtype(tensor))
        return self.constant(value.astype(dtype), base)

    def _in_front(self, node: Node, slot: int, op: str, operand: str, base: str) -> None:
        """Put an operator and its second operand in front of an input."""
        proto, new = self.node(node), self.fresh(base)
        old, proto.input[slot] = proto.input[slot], new
        self.insert(node.path, onnx.helper.make_node(op, [old, operand], [new], name=new))

    def _behind(self, node: Node, at: int, op: str, operand: str, new: str, name: str) -> None:
        """Put an operator and its second operand behind an output, which is `new` before it."""
        proto = self.node(node)
        old, proto.output[at] = proto.output[at], new
        made = onnx.helper.make_node(op, [new, operand], [old], name=name)
        self.insert(after(node.path), made)
