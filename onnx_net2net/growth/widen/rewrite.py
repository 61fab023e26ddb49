"""From a growth to a patch: the arrays, the nodes and the declared shapes that change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto

from onnx_net2net.files.patch import Insert, Splice
from onnx_net2net.graph.editor import tensor_like
from onnx_net2net.graph.function_edits import settled
from onnx_net2net.graph.model import Leaf, Node, Path
from onnx_net2net.growth.widen.arrays import grown_array, twins
from onnx_net2net.growth.widen.changes import Change, Correction, Division, Growth, Use
from onnx_net2net.growth.widen.scheme import Scheme
from onnx_net2net.growth.widen.shape_operands import Operand
from onnx_net2net.growth.widen.shares import divided, shares
from onnx_net2net.growth.widen.units import Row
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.typing import Array


class _Draft:
    """A patch in the making: edited copies of nodes, new nodes, new initializers."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.model = analysis.model
        self.nodes: dict[Path, NodeProto] = {}
        self.dead: set[Path] = set()
        self.before: dict[Path, list[NodeProto]] = {}
        self.tensors: dict[Path, TensorProto] = {}
        self.added: list[TensorProto] = []
        self.resized: dict[str, dict[int, int]] = {}
        self.taken = {t for n in self.model.nodes for t in (*n.inputs, *n.outputs, n.proto.name)}
        self.taken |= {t for n in self.model.nodes for t in (*n.proto.input, *n.proto.output)}
        self.taken |= set(self.model.leaves) | set(self.model.inputs)

    def node(self, node: Node) -> NodeProto:
        if node.path not in self.nodes:
            copy = NodeProto()
            copy.CopyFrom(node.proto)
            self.nodes[node.path] = copy
        return self.nodes[node.path]

    def fresh(self, base: str) -> str:
        name, k = base, 1
        while name in self.taken:
            k += 1
            name = f"{base}_{k}"
        self.taken.add(name)
        return name

    def constant(self, array: Array, base: str) -> str:
        name = self.fresh(base)
        self.added.append(onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def insert(self, before: Node, node: NodeProto) -> None:
        self.before.setdefault(before.path, []).append(node)

    def replace_leaf(self, leaf: Leaf, array: Array) -> None:
        if leaf.path[-2] == "initializer":
            self.tensors[leaf.path] = tensor_like(leaf.tensor, array, leaf.tensor.name)  # type: ignore[union-attr]
        else:
            copy = NodeProto()
            copy.CopyFrom(self.model.message(leaf.path))
            del copy.attribute[:]
            value = onnx.numpy_helper.from_array(array)
            copy.attribute.append(onnx.helper.make_attribute("value", value))
            self.nodes[leaf.path] = copy
        self.resized[leaf.name] = dict(enumerate(array.shape))


@dataclass(frozen=True)
class Grown:
    """A student's constant: the teacher's that it was made of, and how."""

    name: str
    source: str
    change: Change


def patch_of(
    analysis: Analysis, growth: Growth, scheme: Scheme
) -> tuple[list[Splice | Insert], list[Grown]]:
    """The patch that turns the teacher into the student, and the constants that it makes."""
    draft = _Draft(analysis)
    grown, clones = _constants(draft, growth, scheme)
    for (index, name), value in growth.attributes.items():
        _set(draft.node(analysis.model.nodes[index]), name, value)
    for operand in growth.operands:
        _operand(draft, growth, operand, clones)
    for correction in growth.corrections:
        _correction(draft, correction)
    for index, factor in growth.averages.items():
        _average(draft, analysis.model.nodes[index], factor)
    for division in growth.divisions:
        _division(draft, growth, division, scheme)
    for (tensor, use, dim), source in growth.layout.source.items():
        if use is None:
            draft.resized.setdefault(tensor, {})[dim] = len(source)
    return settled(draft.model, _edits(draft), set(draft.resized)), grown


def _constants(
    draft: _Draft, growth: Growth, scheme: Scheme
) -> tuple[list[Grown], dict[tuple[int, Use], NodeProto]]:
    """New arrays in place, or beside the old ones where other uses keep theirs."""
    model, source = draft.model, draft.analysis.source
    grown: list[Grown] = []
    done: set[str] = set()
    renamed: dict[Use, dict[str, str]] = {}
    shared: list[tuple[str, Change, str]] = []
    for (name, use), change in growth.constants.items():
        leaf = model.leaves[name]
        if name in done:
            continue
        same = next((new for n, c, new in shared if n == name and c.same(change)), None)
        if same is not None:
            renamed.setdefault(use, {})[name] = same
            continue
        old = _array(draft, leaf, source)
        array = grown_array(old, change, growth.units.kind, scheme, name)
        new = name
        if name in growth.parted:
            new = draft.constant(array, f"{name}_grown")
            shared.append((name, change, new))
            renamed.setdefault(use, {})[name] = new
        else:
            draft.replace_leaf(leaf, array)
            done.add(name)
        grown.append(Grown(new, name, change))
    clones: dict[tuple[int, Use], NodeProto] = {}
    for use, names in renamed.items():
        reader, slot = model.nodes[use[0]], use[1]
        top = _clone(draft, reader.inputs[slot], use, names, reader, clones)
        if top is not None:
            draft.node(reader).input[slot] = top
    _bury(draft, {index for index, _ in clones})
    return grown, clones


def _bury(draft: _Draft, cloned: set[int]) -> None:
    """Drop nodes that nobody reads any more: all their uses have a copy of their own."""
    outputs = {t for s in draft.model.scopes.values() for t in s.outputs}
    for index in sorted(cloned, reverse=True):
        node = draft.model.nodes[index]
        readers = [r for o in node.outputs for r in draft.model.readers.get(o, ())]
        still = (
            r.path not in draft.dead
            and (
                r.path not in draft.nodes or draft.nodes[r.path].input[slot] == r.proto.input[slot]
            )
            for r, slot in readers
        )
        if not any(still) and not outputs.intersection(node.outputs):
            draft.dead.add(node.path)


def _array(draft: _Draft, leaf: Leaf, source: Any) -> Array:
    if leaf.tensor is None:
        return np.asarray(leaf.literal, np.float32 if leaf.dtype == TensorProto.FLOAT else np.int64)
    return np.asarray(source.array(leaf.tensor))


def _clone(
    draft: _Draft, tensor: str, use: Use, names: dict[str, str], reader: Node,
    clones: dict[tuple[int, Use], NodeProto],
) -> str | None:  # fmt: skip
    """Copy the nodes between a parted leaf and its reader; None where nothing is renamed."""
    if tensor in names:
        return names[tensor]
    node = draft.model.producer.get(tensor)
    if node is None:
        return None
    if (node.index, use) in clones:
        return str(clones[node.index, use].output[node.outputs.index(tensor)])
    below = [_clone(draft, t, use, names, reader, clones) if t else None for t in node.inputs]
    if all(b is None for b in below):
        return None
    copy = NodeProto()
    copy.CopyFrom(node.proto)
    copy.name = draft.fresh(f"{node.name}_grown")
    for k, b in enumerate(below):
        if b is not None:
            copy.input[k] = b
    for k, o in enumerate(node.outputs):
        copy.output[k] = draft.fresh(f"{o}_grown") if o else ""
    clones[node.index, use] = copy
    draft.insert(reader, copy)
    return str(copy.output[node.outputs.index(tensor)])


def _set(node: NodeProto, name: str, value: Any) -> None:
    for k, a in enumerate(node.attribute):
        if a.name == name:
            del node.attribute[k]
            break
    node.attribute.append(onnx.helper.make_attribute(name, value))


def _operand(
    draft: _Draft, growth: Growth, operand: Operand,
    clones: dict[tuple[int, Use], NodeProto],
) -> None:  # fmt: skip
    """Write sizes where they are read: attribute, own literal, or around what is computed."""
    node, use = draft.model.nodes[operand.instance[0]], operand.instance[1]
    clone = clones.get((node.index, use)) if use is not None else None
    proto = clone if clone is not None else draft.node(node)
    if operand.slot is None:
        _set(proto, operand.attribute, operand.value.tolist())
        return
    if operand.replaces:
        kept = [a for a in proto.attribute if a.name != operand.replaces]
        del proto.attribute[:]
        proto.attribute.extend(kept)
    slot = operand.slot
    while len(proto.input) <= slot:
        proto.input.append("")
    tensor = node.inputs[slot] if slot < len(node.inputs) else ""
    dtype = draft.analysis.first.values[tensor].dtype if tensor else np.int64
    value = operand.value.astype(dtype)
    leaf = draft.model.leaves.get(tensor)
    if leaf is not None and clone is None and _alone(draft, growth, operand, tensor):
        draft.replace_leaf(leaf, value)
        return
    if not tensor or leaf is not None or operand.wrong.all() or value.ndim != 1:
        proto.input[slot] = draft.constant(value, f"{tensor or node.name}_grown")
        return
    anchor = draft.model.nodes[use[0]] if use is not None else node
    pieces = []
    edges = np.flatnonzero(np.diff(operand.wrong.astype(int))) + 1
    for part in np.split(np.arange(len(value)), edges):
        if operand.wrong[part[0]]:
            pieces.append(draft.constant(value[part], f"{tensor}_grown"))
            continue
        out = draft.fresh(f"{tensor}_kept")
        pieces.append(out)
        name = node.proto.input[slot]
        draft.insert(anchor, _sliced(draft, name, out, int(part[0]), int(part[-1]) + 1))
    joined = draft.fresh(f"{tensor}_joined")
    draft.insert(anchor, onnx.helper.make_node("Concat", pieces, [joined], name=joined, axis=0))
    proto.input[slot] = joined


def _sliced(draft: _Draft, tensor: str, out: str, start: int, end: int) -> NodeProto:
    if draft.model.opsets.get("", 1) < 10:
        return onnx.helper.make_node(
            "Slice", [tensor], [out], name=out, starts=[start], ends=[end], axes=[0]
        )
    bounds = [draft.constant(np.array([v], np.int64), f"{out}_{n}") for n, v in
              (("start", start), ("end", end), ("axis", 0))]  # fmt: skip
    return onnx.helper.make_node("Slice", [tensor, *bounds], [out], name=out)


def _alone(draft: _Draft, growth: Growth, operand: Operand, tensor: str) -> bool:
    """Whether every reader of a literal needs the same new value."""
    wanted = {(o.instance[0], o.slot): o for o in growth.operands}
    if draft.model.leaves[tensor].scope != draft.model.nodes[operand.instance[0]].scope:
        return False
    for node, slot in draft.model.uses(tensor):
        other = wanted.get((node.index, slot))
        if other is None or not np.array_equal(other.value, operand.value):
            return False
    return True


def _correction(draft: _Draft, c: Correction) -> None:
    node = draft.model.nodes[c.node]
    tensor = node.inputs[c.slot] if c.slot >= 0 else node.outputs[-1 - c.slot]
    shape = [1] * len(draft.analysis.first.shapes[tensor] or ())
    shape[c.dim] = len(c.operand)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(draft.analysis.first.dtype(tensor))
    operand = draft.constant(c.operand.reshape(shape).astype(dtype), f"{node.name}_evened")
    proto, new = draft.node(node), draft.fresh(f"{tensor}_evened")
    if c.slot >= 0:
        ends, proto.input[c.slot] = (proto.input[c.slot], new), new
        draft.insert(node, onnx.helper.make_node(c.op, [ends[0], operand], [new], name=new))
        return
    at = -1 - c.slot
    ends, proto.output[at] = (new, proto.output[at]), new
    behind: Path = (*node.path[:-1], int(node.path[-1]) + 1)
    made = onnx.helper.make_node(c.op, [new, operand], [ends[1]], name=f"{new}_after")
    draft.before.setdefault(behind, []).append(made)


def _average(draft: _Draft, node: Node, factor: float) -> None:
    """Multiply an average, behind its node: it ran over pads of zeros as well."""
    proto = draft.node(node)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(draft.analysis.first.dtype(node.outputs[0]))
    scale = draft.constant(np.asarray(factor, dtype), f"{node.name}_pads")
    out, proto.output[0] = proto.output[0], draft.fresh(f"{proto.output[0]}_padded")
    mul = onnx.helper.make_node("Mul", [proto.output[0], scale], [out], name=f"{out}_rescaled")
    behind = (*node.path[:-1], int(node.path[-1]) + 1)
    draft.before.setdefault(behind, []).append(mul)


def _division(draft: _Draft, growth: Growth, d: Division, scheme: Scheme) -> None:
    node = draft.model.nodes[d.node]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(d.dtype)
    kinds = growth.units.kind
    live = np.array([u < 0 or kinds[u] is Row.COPY for u in d.unit])
    ones = np.ones(int(d.source.max()) + 1, dtype)
    key = (scheme.seed, "division", node.name, d.slot)
    how = "even" if scheme.split == "zero-sum" else scheme.split
    factor = divided(ones, d.source, 0, how, live, 0, *key)
    first, second = twins(d.source, d.unit, kinds)
    factor[first], factor[second] = 1, -1
    shape = [1] * d.rank
    shape[d.dim] = len(factor)
    scale = draft.constant(factor.reshape(shape), f"{node.name}_shares")
    proto = draft.node(node)
    out = draft.fresh(f"{proto.input[d.slot]}_divided")
    draft.insert(node, onnx.helper.make_node("Mul", [proto.input[d.slot], scale], [out], name=out))
    proto.input[d.slot] = out


def _edits(draft: _Draft) -> Iterator[Splice | Insert]:
    for path, nodes in draft.before.items():
        yield Insert(path, tuple(nodes))
    for path, node in draft.nodes.items():
        yield Splice(path, () if path in draft.dead else (node,))
    for path in draft.dead - draft.nodes.keys():
        yield Splice(path)
    for path, tensor in draft.tensors.items():
        yield Splice(path, (tensor,))
    proto = draft.model.proto
    if draft.added:
        yield Insert(("graph", "initializer", len(proto.graph.initializer)), tuple(draft.added))
        if proto.ir_version < 4:
            infos = [
                onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
                for t in draft.added
            ]
            yield Insert(("graph", "input", len(proto.graph.input)), tuple(infos))
    yield from _declared(draft)


def _declared(draft: _Draft) -> Iterator[Splice]:
    """Declared shapes that would be stale; what cannot be said is no longer said."""
    for scope in draft.model.scopes.values():
        for kind in ("value_info", "input", "output"):
            for k, info in enumerate(getattr(scope.graph, kind)):
                sizes = draft.resized.get(scope.tensor(info.name))
                if not sizes or not info.type.HasField("tensor_type"):
                    continue
                dims = info.type.tensor_type.shape.dim
                if all(d < len(dims) and dims[d].dim_value == n for d, n in sizes.items()):
                    continue
                new = ValueInfoProto()
                new.CopyFrom(info)
                shape = new.type.tensor_type.shape
                if any(d >= len(shape.dim) for d in sizes):
                    new.type.tensor_type.ClearField("shape")
                else:
                    for d, n in sizes.items():
                        if shape.dim[d].HasField("dim_value"):
                            shape.dim[d].dim_value = n
                yield Splice((*scope.path, kind, k), (new,))


__all__ = ["Grown", "grown_array", "patch_of", "shares"]
