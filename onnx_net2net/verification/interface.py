"""First layer: the same inputs and outputs, as a caller of the model sees them."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import TensorProto, TypeProto, ValueInfoProto

from onnx_net2net.graph.model import Model
from onnx_net2net.verification.embedding import Axes, Embedding
from onnx_net2net.verification.verdict import Layer, Status


def compare(teacher: Model, student: Model, embedding: Embedding) -> Layer:
    """Compare names, order, element types and shapes; weights listed as inputs do not count.

    Args:
        embedding: axes that the student declares to have grown.
    """
    problems = [*_inputs(teacher, student, embedding), *_outputs(teacher, student, embedding)]
    if problems:
        return Layer("interface", Status.FAILED, "; ".join(problems[:3]))
    n, m = len(teacher.inputs), len(teacher.outputs)
    detail = f"{n} input{'s' * (n != 1)} and {m} output{'s' * (m != 1)} are the same"
    older = [
        f"{domain or 'ai.onnx'} {version} and {student.opsets[domain]}"
        for domain, version in teacher.opsets.items()
        if student.opsets.get(domain, version) != version
    ]
    if older:
        detail += f"; opsets differ: {', '.join(older)}"
    if str(embedding):
        detail += f", the teacher's being the first positions of {embedding}"
    return Layer("interface", Status.PASSED, detail)


def _inputs(teacher: Model, student: Model, embedding: Embedding) -> Iterator[str]:
    yield from _names("input", teacher.inputs, student.inputs)
    for name in teacher.inputs:
        if name in student.inputs:
            yield from _types(
                teacher.infos[name], student.infos[name], embedding.inputs.get(name, {}), True
            )


def _outputs(teacher: Model, student: Model, embedding: Embedding) -> Iterator[str]:
    yield from _names("output", teacher.outputs, student.outputs)
    for name in teacher.outputs:
        mine, theirs = teacher.infos.get(name), student.infos.get(name)
        if mine is not None and theirs is not None and name in student.outputs:
            yield from _types(mine, theirs, embedding.outputs.get(name, {}), False)


def _names(kind: str, mine: tuple[str, ...], theirs: tuple[str, ...]) -> Iterator[str]:
    for name in mine:
        if name not in theirs:
            yield f"the student has no {kind} '{name}'"
    for name in theirs:
        if name not in mine:
            yield f"the student has one more {kind}, '{name}'"
    if sorted(mine) == sorted(theirs) and mine != theirs:
        yield f"the {kind}s stand in another order"


def _types(
    mine: ValueInfoProto, theirs: ValueInfoProto, grown: Axes, strict: bool
) -> Iterator[str]:
    """Differences of one declaration; an output may say less or more, but nothing else."""
    a, b = mine.type, theirs.type
    if a.WhichOneof("value") != b.WhichOneof("value") or _element(a) != _element(b):
        yield f"'{mine.name}' is {_said(a)} in the teacher and {_said(b)} in the student"
        return
    before, after = _dims(a), _dims(b)
    if before is not None:
        before = tuple(grown[k][1] if k in grown and d else d for k, d in enumerate(before))
    if before is None or after is None or before == after:
        return
    loose = len(before) == len(after) and all(
        x == y or (not strict and None in (x, y)) for x, y in zip(before, after, strict=True)
    )
    if not loose:
        yield f"'{mine.name}' is {_said(a)} in the teacher and {_said(b)} in the student"


def _element(t: TypeProto) -> bytes:
    if t.HasField("tensor_type"):
        return bytes([t.tensor_type.elem_type])
    return t.SerializeToString(deterministic=True)


def _dims(t: TypeProto) -> tuple[int | None, ...] | None:
    """Sizes, None where dynamic: how a symbol is called does not matter."""
    if not t.HasField("tensor_type") or not t.tensor_type.HasField("shape"):
        return None
    return tuple(d.dim_value if d.dim_value > 0 else None for d in t.tensor_type.shape.dim)


def _said(t: TypeProto) -> str:
    if not t.HasField("tensor_type"):
        return str(t.WhichOneof("value") or "untyped").removesuffix("_type")
    name = TensorProto.DataType.Name(t.tensor_type.elem_type).lower()
    dims = _dims(t)
    return name if dims is None else f"{name}[{', '.join(str(d or '?') for d in dims)}]"
