"""A shape, and where small and known a value, for every tensor, without reading weights.

One pass in running order: a node whose inputs are all known and small is computed with
numpy, the others go through onnx's own inference of that operator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, TypeProto

from onnx_net2net.files.source import Source
from onnx_net2net.graph.model import Leaf, Model, Node
from onnx_net2net.operators.factors import result_shape
from onnx_net2net.operators.families.control import bound, common, joined, passed, results
from onnx_net2net.operators.families.sequence import elements, makes_sequence, taken
from onnx_net2net.operators.spec import Rule, Site
from onnx_net2net.operators.table import TABLE, row_of
from onnx_net2net.typing import Array, Shape
from .folding import folded
from .onnx_inference import Operand, inferred, schema_of, shape_of, tensor_type

_MAX_INTS = 1 << 16
_MAX_FLOATS = 64
FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}


@dataclass
class Facts:
    """What holds at one set of input sizes. `failed`: index of a node that onnx's inference
    rejects -> why; `elements`: of sequences of which every element is known."""

    types: dict[str, TypeProto] = field(default_factory=dict)
    shapes: dict[str, Shape | None] = field(default_factory=dict)
    values: dict[str, Array] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    elements: dict[str, list[TypeProto]] = field(default_factory=dict)

    def put(self, tensor: str, kind: TypeProto) -> None:
        """Say what a tensor is."""
        self.types[tensor], self.shapes[tensor] = kind, shape_of(kind)

    def forget(self, node: Node) -> None:
        """Drop what was found out about a node."""
        self.failed.pop(node.index, None)
        for tensor in node.outputs:
            self.values.pop(tensor, None)
            self.elements.pop(tensor, None)

    def site(self, node: Node) -> Site:
        """The node with its shapes and values."""
        return Site(
            node,
            tuple(self.shapes.get(t) if t else None for t in node.reads),
            tuple(self.shapes.get(t) if t else None for t in node.makes),
            tuple(self.values.get(t) if t else None for t in node.reads),
        )

    def dtype(self, tensor: str) -> int:
        """ONNX element type; 0 where unknown or not a tensor."""
        t = self.types.get(tensor)
        return t.tensor_type.elem_type if t is not None else 0


def leaf_value(leaf: Leaf, source: Source) -> Array | None:
    """The constant where it is small: integers, booleans, few floats."""
    if leaf.literal is not None:
        dtype = np.int64 if leaf.dtype == TensorProto.INT64 else np.float32
        return np.asarray(leaf.literal, dtype)
    if leaf.tensor is None or leaf.dtype in (TensorProto.STRING, TensorProto.UNDEFINED):
        return None
    count = math.prod(leaf.shape)
    if count > (_MAX_FLOATS if leaf.dtype in FLOATS else _MAX_INTS):
        return None
    return source.array(leaf.tensor)


class Inference:
    """Computes shapes and values; `step` is reused to follow a student's changed values."""

    def __init__(self, model: Model, source: Source) -> None:
        self.model = model
        self._opsets = tuple(sorted(model.opsets.items()))
        leaves = model.leaves.items()
        self._leaf_types = {n: tensor_type(f.dtype, f.shape) for n, f in leaves}
        self.leaf_values = {n: leaf_value(f, source) for n, f in leaves}

    def run(self, inputs: Mapping[str, TypeProto]) -> Facts:
        """Facts at the given input types.

        Args:
            inputs: main graph input -> its type with every dimension bound.
        """
        values = {n: v for n, v in self.leaf_values.items() if v is not None}
        shapes: dict[str, Shape | None] = {n: f.shape for n, f in self.model.leaves.items()}
        facts = Facts(dict(self._leaf_types), shapes, values)
        for name, t in inputs.items():
            facts.put(name, t)
        self._pass(self.model.nodes, facts, set())
        return facts

    def _pass(self, nodes: Sequence[Node], facts: Facts, done: set[str]) -> None:
        """Fill in what nodes make; `done`: the bodies that know what they are given."""
        for node in nodes:
            self._bind(node.scope, facts, done)
            if node.bodies:
                self._settle(node, facts, done)
            self.step(node, facts)

    def _bind(self, scope: str, facts: Facts, done: set[str]) -> None:
        """Give the formal inputs of a body what its owner gives them, outer bodies first."""
        for s in reversed([s for s in self.model.within(scope) if s not in done]):
            done.add(s)
            owner = self.model.owners[s]
            for name, t in bound(owner, facts.types, self.model.infos).items():
                facts.put(name, t)

    def _settle(self, owner: Node, facts: Facts, done: set[str]) -> None:
        """Go round until a body hands on the sizes it was given: what changes is not known."""
        for s in owner.bodies.values():
            self._bind(s, facts, done)
        inside = [n for n in self.model.nodes[: owner.index] if self._stands_in(n, owner)]
        while changed := joined(owner, facts.types):
            for name, t in changed.items():
                facts.put(name, t)
            for n in inside:
                facts.forget(n)
                done.difference_update(n.bodies.values())
            self._pass(inside, facts, done)

    def _stands_in(self, node: Node, owner: Node) -> bool:
        return any(self.model.owners[s] is owner for s in self.model.within(node.scope))

    def step(self, node: Node, facts: Facts) -> None:
        """Fill in the outputs of one node from its inputs."""
        row = row_of(node.op)
        if _folded(node, facts):
            return
        if node.bodies:
            for name, t in results(node, facts.types, facts.values, self.model.infos).items():
                facts.put(name, t)
            facts.values |= passed(node, facts.values)
            return
        if facts.elements or makes_sequence(node):
            self._elements(node, facts)
        declared = self.model.infos
        types = self.infer(node, row, facts)
        for k, name in [(k, name) for k, name in enumerate(node.outputs) if name]:
            found = types.get(node.proto.output[k], TypeProto())
            if not found.WhichOneof("value") and name in declared:
                found = _unbound(declared[name].type)
            if name in facts.elements:
                found = _sequence(facts.elements[name], found)
            elif k == 0 and facts.elements:
                found = self._taken(node, facts) or found
            facts.put(name, found)

    def _elements(self, node: Node, facts: Facts) -> None:
        """What the sequence that a node makes holds, where that is known."""
        name = node.outputs[0] if node.outputs else ""
        found = elements(node, *_operands(node, facts)) if name else None
        if found is None:
            facts.elements.pop(name, None)
        else:
            facts.elements[name] = found

    def _taken(self, node: Node, facts: Facts) -> TypeProto | None:
        return taken(node, *_operands(node, facts))

    def infer(self, node: Node, row: Rule, facts: Facts) -> dict[str, TypeProto]:
        if row.custom:
            return _registered(node, facts, self.model.infos)
        proto, schema = self._asking(node, row)
        if schema is None:
            return _from_notation(node, row, facts)
        operands = [_operand(t, facts) for t in node.inputs[: len(proto.input)]]
        ask = partial(
            inferred, schema, proto, signature=node.signature if proto is node.proto else "",
            opsets=self._opsets, ir_version=self.model.proto.ir_version,
        )  # fmt: skip
        found = ask(operands)
        if row.like and isinstance(found, str):  # operands that its twin takes as floats only
            floats = TensorProto.FLOAT
            found = ask([o and (tensor_type(floats, shape_of(o[0])), o[1]) for o in operands])
        if isinstance(found, str):
            facts.failed[node.index] = found
            return {}
        if row.like:
            kept = facts.dtype(node.inputs[0])
            found = {o: tensor_type(kept, shape_of(t)) for o, t in found.items()}
        first = found.get(proto.output[0]) if proto.output else None
        kind = first.WhichOneof("value") if first is not None else None
        if first is None or kind is None or (kind == "tensor_type" and shape_of(first) is None):
            return found | _from_notation(node, row, facts, found)
        return found

    def _asking(self, node: Node, row: Rule) -> tuple[onnx.NodeProto, Any]:
        """What onnx is asked about, the node or one that it is like; no schema: nothing."""
        domain, _, op = node.op.rpartition(".")
        if row.like:
            domain, op = "", row.like
        version = self.model.opsets.get(domain, onnx.defs.onnx_opset_version())
        if node.called:  # a function says itself what it is written in
            version = node.version
        schema = schema_of(op, version, domain)
        if schema is None or not row.like:
            return node.proto, schema
        proto = onnx.NodeProto()
        proto.CopyFrom(node.proto)
        proto.op_type, proto.domain = op, domain
        known = [a for a in proto.attribute if a.name in schema.attributes]
        del proto.attribute[:]
        proto.attribute.extend(known)
        del proto.input[len(schema.inputs) :]
        return proto, schema


def _operand(tensor: str, facts: Facts) -> Operand | None:
    """What onnx is told of an input: its type, and its value where that is small."""
    v = facts.values.get(tensor)
    told = v is not None and v.size <= 4096 and v.dtype != object
    return (facts.types.get(tensor) or TypeProto(), v if told else None) if tensor else None


def _folded(node: Node, facts: Facts) -> bool:
    """Fill in what the outputs hold, if that is known and small."""
    if node.op not in TABLE or TABLE[node.op].fold is None:
        return False
    values = [facts.values.get(t) if t else None for t in node.inputs]
    found = folded(node, values, [facts.shapes.get(t) for t in node.inputs])
    if found is None:
        return False
    if any(r.size > (_MAX_INTS if r.dtype.kind in "iub" else 4096) for r in found):
        return False
    for name, r in zip(node.outputs, found, strict=False):
        if name:
            facts.values[name] = r
            facts.put(name, tensor_type(onnx.helper.np_dtype_to_tensor_dtype(r.dtype), r.shape))
    return True


def _operands(node: Node, facts: Facts) -> tuple[list[TypeProto], list[Any], list[Any]]:
    """Types and values of a node's inputs, and what those hold that are sequences."""
    return (
        [facts.types.get(t) or TypeProto() for t in node.inputs],
        [facts.values.get(t) for t in node.inputs],
        [facts.elements.get(t) for t in node.inputs],
    )


def _sequence(elements: list[TypeProto], inferred: TypeProto) -> TypeProto:
    """A sequence of known elements: the type that these have in common."""
    if not elements:
        return inferred
    made = TypeProto()
    made.sequence_type.elem_type.CopyFrom(common(elements))
    return made


def _from_notation(
    node: Node, row: Rule, facts: Facts, said: Mapping[str, TypeProto] | None = None
) -> dict[str, TypeProto]:
    """For operators that onnx cannot infer: the shapes that the row's notation gives.

    Args:
        node: the node.
        row: its row.
        facts: what is known of its operands.
        said: what onnx says of its outputs: element types, maybe.
    """
    site, found = facts.site(node), dict[str, TypeProto]()
    for k, name in enumerate(node.proto.output):
        slot = row.typed.get(k, 0)
        kind = facts.types.get(node.inputs[slot]) if slot < len(node.inputs) else None
        try:
            shape = result_shape(row, site, k) if name and kind is not None else None
        except LookupError:
            continue
        if shape is not None and kind is not None:
            told = (said or {}).get(name, kind).tensor_type.elem_type
            found[name] = tensor_type(told or kind.tensor_type.elem_type, shape)
    return found


def _registered(
    node: Node, facts: Facts, declared: Mapping[str, onnx.ValueInfoProto]
) -> dict[str, TypeProto]:
    """For operators of a user's: what the file declares, and the notation for what it leaves."""
    found = {}
    for k, name in enumerate(node.outputs):
        said = declared[name].type if name in declared else TypeProto()
        try:
            shape = result_shape(TABLE[node.op], facts.site(node), k)
        except LookupError:
            shape = None
        if said.HasField("tensor_type"):
            shape = _agreed(shape_of(said), shape)
        dtype = said.tensor_type.elem_type or facts.dtype(node.tensor(0))
        if name and (shape is not None or said.WhichOneof("value")):
            found[node.proto.output[k]] = tensor_type(dtype, shape)
    return found


def _agreed(said: Shape | None, told: Shape | None) -> Shape | None:
    """What a file declares of a shape, and what the notation tells where that leaves it open."""
    if said is None or told is None or len(told) != len(said):
        return told if said is None else said
    return tuple(b if a is None else a for a, b in zip(said, told, strict=True))


def _unbound(t: TypeProto) -> TypeProto:
    """A declared type with its symbols dropped: they may be bound to other sizes here."""
    if not t.HasField("tensor_type"):
        return t
    return tensor_type(t.tensor_type.elem_type, shape_of(t))
