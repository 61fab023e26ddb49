"""Input sizes to look at a model with: two bindings of its symbols, so that what is equal
at both is static and what differs is computed at run time.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onnx import TypeProto

from onnx_net2net.errors import ModelError, UsageError
from onnx_net2net.files.source import Source
from onnx_net2net.graph.model import Model, Node
from onnx_net2net.operators.factors import fixed_axes
from onnx_net2net.operators.table import TABLE
from .onnx_inference import tensor_type
from .shapes import Facts, Inference

# (batch, other, spatial) sizes: small ones first, larger where windows do not fit
_LADDERS = (
    ((2, 8, 64), (1, 8, 64), (2, 16, 224), (1, 16, 224), (1, 1, 256), (1, 32, 640), (1, 80, 3200)),
    (
        (3, 12, 96),
        (1, 12, 96),
        (3, 24, 288),
        (1, 24, 288),
        (2, 2, 320),
        (1, 48, 512),
        (1, 96, 4000),
    ),
)
_OPERATIONS: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.floordiv,
}
Shapes = Mapping[str, "tuple[int, ...]"]
DeclaredSizes = Mapping[str, "tuple[int | str | None, ...] | None"]


def symbols(model: Model) -> dict[str, tuple[int | str | None, ...] | None]:
    """Declared shape of each input: sizes, symbol names, None where nothing is said."""
    declared: dict[str, tuple[int | str | None, ...] | None] = {}
    for name in model.inputs:
        t = model.infos[name].type
        if not t.HasField("tensor_type") or not t.tensor_type.HasField("shape"):
            declared[name] = None
            continue
        declared[name] = tuple(
            d.dim_value if d.dim_value > 0 else d.dim_param or None for d in t.tensor_type.shape.dim
        )
    return declared


def evaluated(expression: str, known: Mapping[str, int]) -> int | None:
    """Value of `past + seq` and the like; None where a name is missing."""

    def walk(node: ast.AST) -> int:
        if isinstance(node, ast.Expression):
            return walk(node.body)
        if isinstance(node, ast.Name):
            return known[node.id]
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
            return int(_OPERATIONS[type(node.op)](walk(node.left), walk(node.right)))
        raise KeyError(expression)

    try:
        value = walk(ast.parse(expression, mode="eval"))
    except (KeyError, SyntaxError, ZeroDivisionError, RecursionError):
        return None
    return value if value > 0 else None


def declared_sizes(
    model: Model, inference: Inference
) -> dict[str, tuple[int | str | None, ...] | None]:
    """`symbols`, with sizes that the weights fix in place of symbols: the channels of an input
    that goes into a convolution are as many as its weight has."""
    declared = symbols(model)
    names = {
        f"{name}.{axis}": d or f"{name}.{axis}"
        for name, dims in declared.items()
        for axis, d in enumerate(dims or ())
        if not isinstance(d, int)
    }
    if not names:
        return declared
    types = {n: _named(model, n, declared[n]) for n in model.inputs}
    facts, fixed = inference.run(types), dict[str, int]()
    for node in model.nodes:
        if not any(t in model.constant for t in node.inputs):
            continue
        for (slot, dim), size in _fixed_axes(node, facts).items():
            t = facts.types[node.inputs[slot]].tensor_type.shape.dim[dim].dim_param
            if t in names:
                fixed.setdefault(names[t], size)
    return {
        name: dims and tuple(fixed.get(names.get(f"{name}.{k}", ""), d) for k, d in enumerate(dims))
        for name, dims in declared.items()
    }


def _fixed_axes(node: Node, facts: Facts) -> dict[tuple[int, int], int]:
    row = TABLE.get(node.op)
    if row is None or row.movement is not None:
        return {}
    try:
        return fixed_axes(row, facts.site(node))
    except LookupError:
        return {}


def _named(model: Model, name: str, dims: Sequence[int | str | None] | None) -> TypeProto:
    """An input's type in which each open axis has a name of its own."""
    found = TypeProto()
    found.CopyFrom(model.infos[name].type)
    for axis, d in enumerate(dims or ()):
        if not isinstance(d, int):
            found.tensor_type.shape.dim[axis].dim_param = f"{name}.{axis}"
    return found


def _bind(
    declared: Mapping[str, tuple[int | str | None, ...] | None], sizes: tuple[int, int, int]
) -> dict[str, tuple[int, ...] | None]:
    known: dict[str, int] = {}

    def size(d: int | str | None, axis: int, shape: tuple[int | str | None, ...]) -> int:
        if isinstance(d, int):
            return d
        value = evaluated(d, known) if d is not None else None
        value = _guess(axis, shape, sizes) if value is None else value
        return value if d is None else known.setdefault(d, value)

    # plain names first, so that expressions of them can be computed
    for shape in declared.values():
        for axis, d in enumerate(shape or ()):
            if isinstance(d, str) and d.isidentifier():
                size(d, axis, shape or ())
    return {
        name: None if shape is None else tuple(size(d, k, shape) for k, d in enumerate(shape))
        for name, shape in declared.items()
    }


def _guess(axis: int, shape: tuple[int | str | None, ...], sizes: tuple[int, int, int]) -> int:
    """A size for an axis that declares none: of a batch, of positions, or of an image."""
    batch, other, spatial = sizes
    # an image has channels of few positions first or last; its other axes are spatial
    image = len(shape) >= 4 or (len(shape) == 3 and isinstance(shape[1], int))
    last = len(shape) == 4 and isinstance(shape[3], int) and shape[3] <= 4
    inner = axis in (1, 2) if last else axis >= 2
    return batch if axis == 0 else spatial if image and inner else other


def _attempts(
    model: Model, inference: Inference, ladder: int, shapes: Shapes, known: DeclaredSizes
) -> Iterator[tuple[Facts, dict[str, tuple[int, ...]]]]:
    declared = dict(known)
    for name, shape in shapes.items():
        declared[name] = _checked(name, tuple(shape), declared)
    unknown = [n for n, s in declared.items() if s is None and _is_tensor(model, n)]
    if unknown:
        raise ModelError(
            f"input '{unknown[0]}' has no shape", f"give one with --shape {unknown[0]}=1x3x224x224"
        )
    fixed = all(isinstance(d, int) for s in declared.values() for d in s or ())
    for sizes in _LADDERS[ladder][: 1 if fixed else None]:
        bound = {n: s for n, s in _bind(declared, sizes).items() if s is not None}
        types = {n: _type(model, n, bound.get(n)) for n in model.inputs}
        yield inference.run(types), bound


def _checked(
    name: str, shape: tuple[int, ...], declared: Mapping[str, tuple[int | str | None, ...] | None]
) -> tuple[int, ...]:
    """The sizes that the user gives for an input; raises UsageError if it cannot take them."""
    if name not in declared:
        raise UsageError(f"no input '{name}'", f"the inputs are {', '.join(declared)}")
    said = declared[name]
    if said is not None and (
        len(said) != len(shape)
        or any(isinstance(d, int) and d != n for d, n in zip(said, shape, strict=True))
    ):
        takes = "x".join("?" if d is None else str(d) for d in said)
        given = "x".join(map(str, shape))
        raise UsageError(f"input '{name}' is {takes}, not {given}", "give sizes that it takes")
    return shape


def _is_tensor(model: Model, name: str) -> bool:
    return model.infos[name].type.HasField("tensor_type")


def _type(model: Model, name: str, shape: tuple[int, ...] | None) -> TypeProto:
    t = model.infos[name].type
    return t if shape is None else tensor_type(t.tensor_type.elem_type, shape)


def probe(
    model: Model, inference: Inference, shapes: Shapes | None, known: DeclaredSizes
) -> tuple[Facts, Facts]:
    """Facts at two bindings of the input sizes; the same twice for a static model.

    Args:
        known: `declared_sizes`.
        shapes: input name -> sizes that the user knows to work; the second probe then
            differs only in the other inputs.
    """
    found: list[Facts] = []
    for ladder in range(2):
        best: Facts | None = None
        for facts, _ in _attempts(model, inference, ladder, shapes or {}, known):
            if best is None or len(facts.failed) < len(best.failed):
                best = facts
            if not best.failed:
                break
        assert best is not None
        found.append(best)
    if len(found[1].failed) > len(found[0].failed):
        found[1] = found[0]
    return found[0], found[1]


def inference_of(source: Source, model: Model) -> Inference:
    """What computes shapes of a model as read; made once."""
    return source.once(Inference, lambda: Inference(model, source))


def given_sizes(shapes: Any) -> dict[str, tuple[int, ...]]:
    """Input name -> sizes, as a caller gives them; raises UsageError for anything else.

    >>> given_sizes({"x": [1, 3]}), given_sizes(None)
    ({'x': (1, 3)}, {})
    """
    try:
        return {str(n): tuple(map(operator.index, s)) for n, s in dict(shapes or {}).items()}
    except (TypeError, ValueError):
        said = f"shapes is {shapes!r:.60}"
        raise UsageError(said, "give input name -> sizes, e.g. {'x': (1, 3, 224, 224)}") from None


def facts_of(source: Source, model: Model, shapes: Shapes | None = None) -> tuple[Facts, Facts]:
    """See `probe`; computed once for a model as read.

    Args:
        source: the model as read.
        model: its index.
        shapes: input name -> sizes that the user knows to work.
    """
    given = given_sizes(shapes)
    how = ("facts", *sorted(given.items()))
    inference, known = inference_of(source, model), declared_of(source, model)
    return source.once(how, lambda: probe(model, inference, given, known))


def declared_of(source: Source, model: Model) -> DeclaredSizes:
    """See `declared_sizes`; computed once for a model as read."""
    return source.once("declared", lambda: declared_sizes(model, inference_of(source, model)))
