"""A shape, and where small and known a value, for every tensor, without reading weights.

One pass in running order: a node whose inputs are all known and small is computed with
numpy, the others go through onnx's own inference of that operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, TypeProto

from onnx_net2net.declaration import REGISTERED, shapes
from onnx_net2net.factors import result_shape
from onnx_net2net.files import Source
from onnx_net2net.model import Leaf, Model, Node
from onnx_net2net.operators import TABLE, Array, Rule, Shape, Site
from onnx_net2net.operators.control import bind_bodies, body_results

_MAX_INTS = 1 << 16
_MAX_FLOATS = 64
FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
_NO_RULE = Rule()
_MOST_ANSWERS = 1 << 14
_ANSWERS: dict[tuple[Any, ...], list[tuple[int, TypeProto]]] = {}
"""What onnx's inference said of a node: the types of its outputs."""


@dataclass
class Facts:
    """What holds at one set of input sizes. `failed`: nodes that onnx's inference rejects."""

    types: dict[str, TypeProto] = field(default_factory=dict)
    shapes: dict[str, Shape | None] = field(default_factory=dict)
    values: dict[str, Array] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def site(self, node: Node) -> Site:
        """The node with its shapes and values."""
        return Site(
            node,
            tuple(self.shapes.get(t) if t else None for t in node.inputs),
            tuple(self.shapes.get(t) if t else None for t in node.outputs),
            tuple(self.values.get(t) if t else None for t in node.inputs),
        )

    def dtype(self, tensor: str) -> int:
        """ONNX element type; 0 where unknown or not a tensor."""
        t = self.types.get(tensor)
        return t.tensor_type.elem_type if t is not None else 0


def tensor_type(dtype: int, shape: Iterable[int | None] | None) -> TypeProto:
    """A tensor's TypeProto; None dimensions are left open."""
    t = TypeProto()
    t.tensor_type.elem_type = dtype
    if shape is not None:
        t.tensor_type.shape.SetInParent()
        for d in shape:
            dim = t.tensor_type.shape.dim.add()
            if d is not None:
                dim.dim_value = d
    return t


def shape_of(t: TypeProto) -> Shape | None:
    """The static shape, None where the rank is unknown or it is no tensor."""
    if not t.HasField("tensor_type") or not t.tensor_type.HasField("shape"):
        return None
    return tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None
        for d in t.tensor_type.shape.dim
    )


def leaf_value(leaf: Leaf, source: Source) -> Array | None:
    """The constant where it is small: integers, booleans, few floats."""
    if leaf.literal is not None:
        dtype = np.int64 if leaf.dtype == TensorProto.INT64 else np.float32
        return np.asarray(leaf.literal, dtype)
    if leaf.tensor is None or leaf.dtype in (TensorProto.STRING, TensorProto.UNDEFINED):
        return None
    count = int(np.prod(leaf.shape)) if leaf.shape else 1
    if count > (_MAX_FLOATS if leaf.dtype in FLOATS else _MAX_INTS):
        return None
    return source.array(leaf.tensor)


class Inference:
    """Computes shapes and values; `step` is reused to follow a student's changed values."""

    def __init__(self, model: Model, source: Source) -> None:
        self.model = model
        self.opsets = [onnx.helper.make_opsetid(d, v) for d, v in model.opsets.items()]
        self._context = (tuple(sorted(model.opsets.items())), model.proto.ir_version)
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
            facts.types[name], facts.shapes[name] = t, shape_of(t)
        for node in self.model.nodes:
            if node.scope:
                bind_bodies(self.model, node, facts.types, facts.shapes, facts.values)
            self.step(node, facts)
        return facts

    def step(self, node: Node, facts: Facts) -> None:
        """Fill in the outputs of one node from its inputs."""
        row = TABLE.get(node.op, _NO_RULE)
        if self._fold(node, row, facts):
            return
        if node.bodies:
            body_results(self.model, node, facts.types, facts.shapes)
            return
        declared = self.model.infos
        types = self._infer(node, row, facts)
        for k, name in enumerate(node.outputs):
            if not name:
                continue
            t = types.get(node.proto.output[k])
            if t is None or not t.WhichOneof("value"):
                t = _unbound(declared[name].type) if name in declared else TypeProto()
            facts.types[name], facts.shapes[name] = t, shape_of(t)

    def _infer(self, node: Node, row: Rule, facts: Facts) -> dict[str, TypeProto]:
        domain, _, op = node.op.rpartition(".")
        proto = node.proto
        if row.like:
            proto = onnx.NodeProto()
            proto.CopyFrom(node.proto)
            proto.op_type, proto.domain, domain, op = row.like, "", "", row.like
        version = self.model.opsets.get(domain, onnx.defs.onnx_opset_version())
        if row.custom:
            return _registered(node, facts, self.model.infos)
        if not onnx.defs.has(op, version, domain):
            return _from_notation(node, row, facts)
        schema = onnx.defs.get_schema(op, version, domain)
        if schema.deprecated:  # GroupNormalization of opset 18: inference refuses it
            return _from_notation(node, row, facts)
        if row.like:
            known = [a for a in proto.attribute if a.name in schema.attributes]
            del proto.attribute[:]
            proto.attribute.extend(known)
        if len(schema.inputs) < len(proto.input) and row.like:
            del proto.input[len(schema.inputs) :]
        types: dict[str, TypeProto] = {}
        data: dict[str, TensorProto] = {}
        for local, t in zip(proto.input, node.inputs, strict=False):
            if not t:
                continue
            types[local] = facts.types.get(t) or TypeProto()
            v = facts.values.get(t)
            if v is not None and v.size <= 4096 and v.dtype != object:
                data[local] = onnx.numpy_helper.from_array(np.asarray(v))
        found = self._asked(schema, proto, types, data)
        if row.like and isinstance(found, str):  # operands that its twin takes as floats only
            types = {o: tensor_type(TensorProto.FLOAT, shape_of(t)) for o, t in types.items()}
            found = self._asked(schema, proto, types, data)
        if isinstance(found, str):
            facts.failed.append(f"{node.name}: {found}")
            return {}
        if row.like:
            kept = facts.dtype(node.inputs[0])
            found = {o: tensor_type(kept, shape_of(t)) for o, t in found.items()}
        first = found.get(node.proto.output[0]) if node.proto.output else None
        if row.like and first is not None and first.HasField("tensor_type"):
            first.tensor_type.elem_type = facts.dtype(node.inputs[0])
        kind = first.WhichOneof("value") if first is not None else None
        if first is None or kind is None or (kind == "tensor_type" and shape_of(first) is None):
            shaped = _from_notation(node, row, facts)
            for name, t in shaped.items():
                if name in found and found[name].tensor_type.elem_type:
                    t.tensor_type.elem_type = found[name].tensor_type.elem_type
            return found | shaped
        return found

    def _asked(
        self, schema: Any, proto: onnx.NodeProto, types: dict[str, TypeProto],
        data: dict[str, TensorProto],
    ) -> dict[str, TypeProto] | str:  # fmt: skip
        """What onnx infers, or why it does not; asked once for nodes that differ in names only."""
        sides = [(types[i], data.get(i)) if i in types else None for i in proto.input]
        known = (
            (schema.domain, schema.name, schema.since_version, self._context, len(proto.output)),
            *(a.SerializeToString() for a in proto.attribute),
            *(s and (s[0].SerializeToString(), s[1] and s[1].SerializeToString()) for s in sides),
        )
        if known not in _ANSWERS:
            try:
                found = onnx.shape_inference.infer_node_outputs(
                    schema, proto, types, data, opset_imports=self.opsets,
                    ir_version=self.model.proto.ir_version,
                )  # fmt: skip
            except Exception as why:  # the C++ bindings raise several unrelated types
                return str(why)
            if len(_ANSWERS) >= _MOST_ANSWERS:
                _ANSWERS.clear()
            _ANSWERS[known] = [(k, found[o]) for k, o in enumerate(proto.output) if o in found]
        return {proto.output[k]: t for k, t in _ANSWERS[known]}

    def _fold(self, node: Node, row: Rule, facts: Facts) -> bool:
        if row.fold is None:
            return False
        args: list[Any] = []
        for t in node.inputs:
            v = facts.values.get(t) if t else None
            if t and v is None:
                if not row.sized:
                    return False
                v = _sized(facts.shapes.get(t))
                if v is None:
                    return False
            args.append(v)
        try:
            with np.errstate(all="ignore"):
                found = [np.asarray(r) for r in row.fold(node, args)]
        except Exception:  # a shape that does not fit: onnx's inference will say so
            return False
        if any(r.size > (_MAX_INTS if r.dtype.kind in "iub" else 4096) for r in found):
            return False
        for name, r in zip(node.outputs, found, strict=False):
            if name:
                facts.values[name] = r
                dtype = onnx.helper.np_dtype_to_tensor_dtype(r.dtype)
                facts.types[name] = tensor_type(dtype, r.shape)
                facts.shapes[name] = r.shape
        return True


def _sized(shape: Shape | None) -> Array | None:
    """An array that has the shape and no memory, for operators that read only sizes."""
    if shape is None or any(d is None for d in shape):
        return None
    return np.broadcast_to(np.int8(0), tuple(d or 0 for d in shape))


def _from_notation(node: Node, row: Rule, facts: Facts) -> dict[str, TypeProto]:
    """For operators that onnx cannot infer: the shapes that the row's notation gives."""
    site, found = facts.site(node), dict[str, TypeProto]()
    for k, name in enumerate(node.proto.output):
        slot = row.typed.get(k, 0)
        kind = facts.types.get(node.inputs[slot]) if slot < len(node.inputs) else None
        try:
            shape = result_shape(row, site, k) if name and kind is not None else None
        except LookupError:
            continue
        if shape is not None and kind is not None:
            found[name] = tensor_type(kind.tensor_type.elem_type, shape)
    return found


def _registered(
    node: Node, facts: Facts, declared: Mapping[str, onnx.ValueInfoProto]
) -> dict[str, TypeProto]:
    """For operators of a user's: what the file declares, and the notation for what it leaves."""
    first = facts.types.get(node.inputs[0]) if node.inputs else None
    try:
        told = shapes(REGISTERED[node.op], facts.site(node))
    except LookupError:
        told = []
    found = {}
    for k, name in enumerate(node.outputs):
        shape = told[k] if k < len(told) else None
        dtype = first.tensor_type.elem_type if first is not None else 0
        said = declared[name].type if name in declared else TypeProto()
        if said.HasField("tensor_type"):
            dtype = said.tensor_type.elem_type or dtype
            sizes = shape_of(said)
            if sizes is not None and (shape is None or len(shape) != len(sizes)):
                shape = sizes
            elif sizes is not None and shape is not None:
                shape = tuple(b if a is None else a for a, b in zip(sizes, shape, strict=True))
        if name and (shape is not None or said.WhichOneof("value")):
            found[node.proto.output[k]] = tensor_type(dtype, shape)
    return found


def _unbound(t: TypeProto) -> TypeProto:
    """A declared type with its symbols dropped: they may be bound to other sizes here."""
    if not t.HasField("tensor_type"):
        return t
    return tensor_type(t.tensor_type.elem_type, shape_of(t))
