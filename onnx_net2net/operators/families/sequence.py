"""Sequences and optional values: what holds their elements.

A sequence has the shape that all its elements have. Where its elements are known one by one
(`elements` below, then `unfolding`), a node reads and makes these instead, so that a
SplitToSequence with its SequenceAts moves data as a Split does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from onnx import TypeProto

from onnx_net2net.errors import Reason
from onnx_net2net.graph.model import Node
from onnx_net2net.operators.families.movement import _concat as concatenated
from onnx_net2net.operators.families.movement import known
from onnx_net2net.operators.spec import TABLE, Block, Grown, RowError, Site, Slot, rule
from onnx_net2net.typing import Array

_Types = Sequence[TypeProto]
_MOST = 4096


def _all_alike(site: Site) -> Iterator[tuple[tuple[int, int], ...]]:
    """Every axis of what goes in and comes out, position by position (not of indices)."""
    held = [s for s in range(len(site.shapes)) if site.has(s) and s not in _POSITION[site.node.op]]
    ranks = [len(shape) for s in held if (shape := site.shapes[s]) is not None]
    for k in range(max(ranks, default=0)):
        yield (
            *((s, k) for s in held),
            *((-1 - o, k) for o, t in enumerate(site.node.outputs) if t),
        )


_POSITION: dict[str, tuple[int, ...]] = {
    "SequenceConstruct": (),
    "SequenceAt": (1,),
    "SequenceInsert": (2,),
    "SequenceErase": (1,),
    "Optional": (),
    "OptionalGetElement": (),
}
"""Operators whose elements are all alike, with the inputs that hold positions."""

rule("OptionalHasElement", notation="~ ->", zero=())
rule("SequenceLength", notation="~ ->", zero=(), takes=lambda inside, values: [])


def _split(site: Site) -> list[Block]:
    before, after = site.dims(0), site.out_dims(0)
    axis = int(site.attr("axis", 0)) % len(before)
    results = range(len(site.outs))
    blocks = []
    for d, size in enumerate(before):
        if d != axis and size is not None:
            to = d - (len(after) < len(before) and d > axis)
            outs = tuple((k, to) for k in results)
            blocks.append(Block(((0, d),), outs, np.arange(size), aligned=True))
    if len(after) < len(before):
        return blocks
    sizes = [known(site.out_dims(k)[axis]) for k in results]
    if sum(sizes) != before[axis]:
        raise RowError(f"parts of {sum(sizes)} together, of an axis of {before[axis]}")
    ends = np.cumsum(sizes)
    parts = enumerate(zip(sizes, ends, strict=True))
    return blocks + [Block(((0, axis),), ((k, axis),), np.arange(e - n, e)) for k, (n, e) in parts]


def _uniform(site: Site) -> str:
    """Parts that are not told apart: the axis they are cut along is worked across."""
    axis = int(site.attr("axis", 0)) % max(site.rank(0), 1)
    names = [f"a{k}" for k in range(site.rank(0))]
    cut = [*names[:axis], "*", *names[axis + 1 :]]
    gone = not site.attr("keepdims", 1) and not site.has(1)
    out = [*names[:axis], *names[axis + 1 :]] if gone else cut
    return f"{' '.join(cut)} -> {' '.join(out)}"


def _parts(g: Grown) -> list[int] | None:
    """Sizes of the parts where the axis that is cut grows; one number while one still does."""
    axis = int(g.teacher.attr("axis", 0)) % len(g.teacher.dims(0))
    outs = range(len(g.teacher.outs))
    if len(g.teacher.out_dims(0)) < len(g.teacher.dims(0)):
        return None
    if not any((k, axis) in g.outs for k in outs):
        return None
    sizes = [known(g.out_size(k, axis)) for k in outs]
    given = g.teacher.values[1] if g.teacher.has(1) else None
    if given is not None and given.ndim == 0 and len({*sizes[:-1], max(sizes)}) == 1:
        return sizes[:1]
    return sizes


rule(
    "SplitToSequence",
    movement=_split,
    notation=_uniform,
    slots=(Slot(_parts, input=1, replaces="keepdims"),),
    zero=(),
    cuts=True,
)


def _joined(site: Site) -> list[Block]:
    if not site.attr("new_axis", 0):
        blocks = concatenated(site)
        lengths = sum(b.ins[0][0] >= 0 and not b.aligned for b in blocks)
        whole = sum(known(site.dims(k)[_axis(site)]) for k in range(lengths))
        if whole != site.out_dims(0)[_axis(site)]:
            raise RowError("how many elements there are is known only at run time", Reason.RUNTIME)
        return blocks
    operands = range(len(site.shapes))
    return [
        Block(
            tuple((k, d) for k in operands), ((0, d + (d >= _axis(site))),), np.arange(size), True
        )
        for d, size in enumerate(site.dims(0))
        if size is not None
    ]


def _axis(site: Site) -> int:
    return int(site.attr("axis", 0)) % len(site.out_dims(0))


def _uniform_join(site: Site) -> str:
    names = [f"a{k}" for k in range(site.rank(0))]
    if site.attr("new_axis", 0):
        axis = int(site.attr("axis", 0)) % (len(names) + 1)
        return f"{' '.join(names)} -> {' '.join([*names[:axis], '*', *names[axis:]])}"
    axis = int(site.attr("axis", 0)) % max(len(names), 1)
    cut = " ".join([*names[:axis], "*", *names[axis + 1 :]])
    return f"{cut} -> {cut}"


rule(
    "ConcatFromSequence",
    movement=_joined,
    notation=_uniform_join,
    zero=(),
    takes=lambda inside, values: list(inside),
)


def _dims(t: TypeProto) -> list[int | None] | None:
    if not t.HasField("tensor_type") or not t.tensor_type.HasField("shape"):
        return None
    return [d.dim_value if d.HasField("dim_value") else None for d in t.tensor_type.shape.dim]


def _tensor(like: TypeProto, dims: Sequence[int | None]) -> TypeProto:
    made = TypeProto()
    made.tensor_type.elem_type = like.tensor_type.elem_type
    made.tensor_type.shape.SetInParent()
    for d in dims:
        new = made.tensor_type.shape.dim.add()
        if d is not None:
            new.dim_value = d
    return made


def pieces(size: int, split: Array | None) -> list[int]:
    """Lengths of the parts that SplitToSequence cuts an axis into."""
    if split is None:
        return [1] * size
    if split.ndim:
        return [int(v) for v in split]
    step = max(int(split), 1)
    return [min(step, size - at) for at in range(0, size, step)]


def _cut(node: Node, types: _Types, values: Sequence[Any]) -> list[TypeProto] | None:
    dims = _dims(types[0])
    if dims is None or (len(node.inputs) > 1 and node.inputs[1] and values[1] is None):
        return None
    axis = int(node.attr("axis", 0)) % len(dims)
    size, split = dims[axis], values[1] if len(values) > 1 else None
    if size is None or size > _MOST:
        return None
    keep = [
        [n] if split is not None or node.attr("keepdims", 1) else [] for n in pieces(size, split)
    ]
    return [_tensor(types[0], [*dims[:axis], *n, *dims[axis + 1 :]]) for n in keep]


def position(values: Sequence[Any], slot: int, count: int) -> int | None:
    """Where an element is put or taken; None where only the run tells it.

    Args:
        values: of the node's inputs, None where unknown.
        slot: the input that holds the place; it may be missing.
        count: how many elements there are.
    """
    if slot >= len(values) or values[slot] is None:
        return None
    at = int(np.reshape(values[slot], -1)[0])
    return at + count if at < 0 else at


def listed(
    node: Node, held: Sequence[Sequence[Any] | None], own: Sequence[Any], values: Sequence[Any]
) -> list[Any] | None:
    """The elements of a sequence that a node makes out of others; None where they are not known.

    Args:
        held: per input its elements, None where they are not known or it is no sequence.
        own: per input the thing itself.
    """
    row = TABLE.get(node.op)
    return row.lists(node, held, own, values) if row is not None and row.lists else None


def _inserted(node: Node, held: Any, own: Any, values: Any) -> list[Any] | None:
    if held[0] is None:
        return None
    at: int | None = len(held[0])
    if len(node.inputs) > 2 and node.inputs[2]:
        at = position(values, 2, len(held[0]))
    return None if at is None else [*held[0][:at], own[1], *held[0][at:]]


def _erased(node: Node, held: Any, own: Any, values: Any) -> list[Any] | None:
    if not held[0]:
        return None
    at: int | None = len(held[0]) - 1
    if len(node.inputs) > 1 and node.inputs[1]:
        at = position(values, 1, len(held[0]))
    return None if at is None else [*held[0][:at], *held[0][at + 1 :]]


def _picked(inside: Any, values: Any) -> list[Any] | None:
    at = position(values, 1, len(inside))
    return None if at is None or not 0 <= at < len(inside) else [inside[at]]


_LISTS: dict[str, Any] = {
    "SequenceConstruct": lambda node, held, own, values: list(own),
    "SequenceInsert": _inserted,
    "SequenceErase": _erased,
}
for _name in _POSITION:
    rule(
        _name,
        ties=_all_alike,
        zero=(),
        lists=_LISTS.get(_name),
        takes=_picked if _name == "SequenceAt" else None,
    )
rule("SequenceEmpty", ties=lambda site: (), lists=lambda node, held, own, values: [])


def makes_sequence(node: Node) -> bool:
    """Whether a node makes a sequence of known elements out of tensors."""
    row = TABLE.get(node.op)
    return row is not None and not row.repeats and (row.cuts or row.lists is not None)


def elements(
    node: Node, types: _Types, values: Sequence[Any], held: Sequence[Sequence[TypeProto] | None]
) -> list[TypeProto] | None:
    """Types of the elements of the sequence that a node makes, where they are known.

    Args:
        node: any.
        types: of its inputs; for each `values`, None where unknown, and `held`, its elements.
    """
    if node.op in TABLE and TABLE[node.op].cuts:
        return _cut(node, types, values)
    return listed(node, held, types, values)


def taken(
    node: Node, types: _Types, values: Sequence[Any], held: Sequence[Sequence[TypeProto] | None]
) -> TypeProto | None:
    """Type of the tensor that a node takes out of a sequence of known elements.

    Args:
        node, types, values, held: see `elements`.
    """
    inside = held[0] if held else None
    row = TABLE.get(node.op)
    found = row.takes(inside, values) if inside and row is not None and row.takes else None
    if not inside or not found:
        return None
    return found[0] if row is not None and row.movement is None else _laid_out(node, inside)


def _laid_out(node: Node, inside: Sequence[TypeProto]) -> TypeProto | None:
    """The elements of a sequence side by side along an axis, a new one or one that they have."""
    dims = [_dims(t) for t in inside]
    if any(d is None for d in dims):
        return None
    sizes = [list(d or ()) for d in dims]
    new = bool(node.attr("new_axis", 0))
    axis = int(node.attr("axis", 0)) % (len(sizes[0]) + new)
    along = [1 if new else s[axis] for s in sizes]
    whole = None if None in along else sum(a or 0 for a in along)
    rest = sizes[0][axis if new else axis + 1 :]
    return _tensor(inside[0], [*sizes[0][:axis], whole, *rest])
