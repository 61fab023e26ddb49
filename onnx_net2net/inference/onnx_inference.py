"""What onnx's own inference says of one node; asked once for nodes that differ in names only.

Types that are equal are one object here, so that operands are told apart by their ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import onnx
from onnx import TypeProto

from onnx_net2net.typing import Array, Shape

_MOST_ANSWERS = 1 << 14
Opsets = tuple[tuple[str, int], ...]
Operand = tuple[TypeProto, "Array | None"]
_ANSWERS: dict[tuple[Any, ...], tuple[list[tuple[int, TypeProto]], Sequence[Operand | None]]] = {}
"""What onnx's inference said of a node: the types of its outputs. With them, its operands."""
_TYPES: dict[bytes, TypeProto] = {}
"""Equal types are one object, so that they are known by their id."""
_SHAPES: dict[int, Shape | None] = {}
"""By id, of the objects in `_TYPES`."""


def tensor_type(dtype: int, shape: Iterable[int | None] | None) -> TypeProto:
    """A tensor's TypeProto, not to be changed; None dimensions are left open."""
    return _tensor_type(dtype, None if shape is None else tuple(shape))


@lru_cache(maxsize=_MOST_ANSWERS)
def _tensor_type(dtype: int, shape: tuple[int | None, ...] | None) -> TypeProto:
    t = TypeProto()
    t.tensor_type.elem_type = dtype
    if shape is not None:
        t.tensor_type.shape.SetInParent()
        for d in shape:
            dim = t.tensor_type.shape.dim.add()
            if d is not None:
                dim.dim_value = d
    return interned(t)


def interned(t: TypeProto) -> TypeProto:
    if len(_TYPES) >= _MOST_ANSWERS:
        _forget()
    one = _TYPES.setdefault(t.SerializeToString(deterministic=True), t)
    if one is t:
        _SHAPES[id(t)] = _read_shape(t)
    return one


def _forget() -> None:
    for table in (_ANSWERS, _TYPES, _SHAPES):
        table.clear()


@lru_cache(maxsize=_MOST_ANSWERS)
def schema_of(op: str, version: int, domain: str) -> Any:
    """None where onnx's inference has no rule (GroupNormalization of opset 18: it refuses).

    Args:
        op: the operator, without its domain.
        version: of the opset.
        domain: "" for ai.onnx.
    """
    if not onnx.defs.has(op, version, domain):
        return None
    schema = onnx.defs.get_schema(op, version, domain)
    return None if schema.deprecated else schema


def _holds_floats(operand: Operand) -> bool:
    return operand[1] is not None and operand[1].dtype.kind not in "iub"


def _are_complete(found: Mapping[str, TypeProto], proto: onnx.NodeProto) -> bool:
    """Whether every output's shape is known, so that no operand's value can add to it."""
    shapes = [shape_of(found[o]) if o in found else None for o in proto.output if o]
    return all(s is not None and None not in s for s in shapes)


def _content(array: Array) -> tuple[Any, ...]:
    return array.dtype, array.shape, array.tobytes()


def shape_of(t: TypeProto) -> Shape | None:
    """The static shape, None where the rank is unknown or it is no tensor."""
    return _SHAPES[id(t)] if id(t) in _SHAPES else _read_shape(t)


def _read_shape(t: TypeProto) -> Shape | None:
    if t.HasField("sequence_type"):  # a sequence's is that of its elements
        return shape_of(t.sequence_type.elem_type)
    if t.HasField("optional_type"):
        return shape_of(t.optional_type.elem_type)
    if not t.HasField("tensor_type") or not t.tensor_type.HasField("shape"):
        return None
    return tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None
        for d in t.tensor_type.shape.dim
    )


def inferred(
    schema: Any, proto: onnx.NodeProto, operands: Sequence[Operand | None], *,
    signature: Any, opsets: Opsets, ir_version: int,
) -> dict[str, TypeProto] | str:  # fmt: skip
    """Types of a node's outputs by its own names, or why onnx cannot tell.

    Args:
        signature: stands for the attributes; computed if empty.
    """
    ask = partial(_answer, schema, proto, signature=signature, opsets=opsets, ir_version=ir_version)
    if any(o and _holds_floats(o) for o in operands):  # weights, or the factors of a Resize
        found = ask([(o[0], None) if o and _holds_floats(o) else o for o in operands])
        if not isinstance(found, str) and _are_complete(found, proto):
            return found
    return ask(operands)


def _answer(
    schema: Any, proto: onnx.NodeProto, operands: Sequence[Operand | None], *,
    signature: Any, opsets: Opsets, ir_version: int,
) -> dict[str, TypeProto] | str:  # fmt: skip
    """What onnx says with just these values; asked once."""
    known = (
        schema.domain, schema.name, schema.since_version, (opsets, ir_version), len(proto.output),
        signature or tuple(a.SerializeToString() for a in proto.attribute),
        *(o and (id(o[0]), o[1] is not None and _content(o[1])) for o in operands),
    )  # fmt: skip
    if known not in _ANSWERS:
        try:
            said = _asked(schema, proto, operands, opsets, ir_version)
        except Exception as why:  # the C++ bindings raise several unrelated types
            return str(why)
        if len(_ANSWERS) >= _MOST_ANSWERS:
            _forget()
        _ANSWERS[known] = (
            [(k, interned(said[o])) for k, o in enumerate(proto.output) if o in said],
            operands,  # so that their ids stay theirs
        )
    return {proto.output[k]: t for k, t in _ANSWERS[known][0]}


def _asked(
    schema: Any, proto: onnx.NodeProto, operands: Sequence[Operand | None], opsets: Opsets,
    ir_version: int,
) -> dict[str, TypeProto]:  # fmt: skip
    known = {name: o for name, o in zip(proto.input, operands, strict=False) if o}
    data = {n: onnx.numpy_helper.from_array(v) for n, (_, v) in known.items() if v is not None}
    return onnx.shape_inference.infer_node_outputs(
        schema, proto, {n: t for n, (t, _) in known.items()}, data,
        opset_imports=[onnx.helper.make_opsetid(d, v) for d, v in opsets], ir_version=ir_version,
    )  # fmt: skip
