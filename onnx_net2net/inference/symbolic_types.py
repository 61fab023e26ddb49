"""Open sizes through onnx's own inference, as names that it carries along; and through the
notation of operators that onnx does not know."""

from __future__ import annotations

from onnx import TypeProto

from onnx_net2net.graph.model import Node
from onnx_net2net.inference.expressions import Dim, Expr
from onnx_net2net.inference.onnx_inference import interned
from onnx_net2net.inference.shapes import Facts, Inference
from onnx_net2net.inference.size_symbols import Sizes
from onnx_net2net.operators.factors import result_shape
from onnx_net2net.operators.spec import Rule

_FIRST = 1 << 40
"""Sizes from here on stand for expressions: a notation passes them on as they are."""


def carried(
    inference: Inference, node: Node, row: Rule, sizes: Sizes
) -> list[tuple[Dim | None, ...] | None]:
    """Shapes of a node's outputs; None for sizes that come out as others than they went in."""
    view, names, numbers = Facts(), dict[str, Expr](), dict[int, Expr]()
    for t in filter(None, node.inputs):
        view.types[t] = sizes.facts.types.get(t) or TypeProto()
        view.shapes[t] = sizes.facts.shapes.get(t)
        if t in sizes.facts.values and t not in sizes.values:
            view.values[t] = sizes.facts.values[t]
        if t in sizes.shapes:
            view.types[t], view.shapes[t] = _open(view.types[t], sizes.shapes[t], names, numbers)
    types = inference.infer(node, row, view)
    found: list[tuple[Dim | None, ...] | None] = []
    for k, name in enumerate(node.proto.output):
        dims = _read(types[name], names, numbers) if name in types else None
        if dims is None or None in dims:
            dims = _noted(node, row, view, k, numbers) or dims
        found.append(dims)
    return found


def _open(
    t: TypeProto, dims: tuple[Dim, ...], names: dict[str, Expr], numbers: dict[int, Expr]
) -> tuple[TypeProto, tuple[int, ...]]:
    """A type whose open sizes have names, and a shape in which numbers stand for them."""
    made, shape = TypeProto(), []
    made.CopyFrom(t)
    for k, d in enumerate(dims):
        if not isinstance(d, Expr):
            shape.append(d)
            continue
        names[d.name] = d
        number = next((n for n, e in numbers.items() if e == d), _FIRST + 2 * len(numbers) + 1)
        numbers[number] = d
        shape.append(number)
        if made.HasField("tensor_type"):
            made.tensor_type.shape.dim[k].Clear()
            made.tensor_type.shape.dim[k].dim_param = d.name
    if not made.HasField("tensor_type"):
        return TypeProto(), tuple(shape)
    return interned(made), tuple(shape)


def _read(
    t: TypeProto, names: dict[str, Expr], numbers: dict[int, Expr]
) -> tuple[Dim | None, ...] | None:
    if not t.HasField("tensor_type") or not t.tensor_type.HasField("shape"):
        return None
    found: list[Dim | None] = []
    for d in t.tensor_type.shape.dim:
        if d.HasField("dim_value"):
            found.append(_number(d.dim_value, numbers))
        else:
            found.append(names.get(d.dim_param))
    return tuple(found)


def _number(size: int | None, numbers: dict[int, Expr]) -> Dim | None:
    if size is None or size < _FIRST:
        return size
    return numbers.get(size)


def _noted(
    node: Node, row: Rule, view: Facts, k: int, numbers: dict[int, Expr]
) -> tuple[Dim | None, ...] | None:
    try:
        shape = result_shape(row, view.site(node), k)
    except (LookupError, ValueError, ArithmeticError):
        return None
    return None if shape is None else tuple(_number(d, numbers) for d in shape)


__all__ = ["carried"]
