"""Shapes of the elements of sequences as expressions, where these are known one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx_net2net.inference.expressions import Dim, Expr
from onnx_net2net.inference.size_rules import Dims, Open

Elements = Sequence[Dims]


def _split(at: Open, held: Elements | None) -> list[Dims]:
    dims = list(at.shape())
    axis = int(at.attr("axis", 0)) % len(dims)
    size, parts = dims[axis], at.fixed(1)
    if isinstance(size, Expr):
        raise LookupError("an open number of elements")
    before, after = tuple(dims[:axis]), tuple(dims[axis + 1 :])
    if parts is None:
        kept = (1,) if at.attr("keepdims", 1) else ()
        return [(*before, *kept, *after)] * size
    if at.array(1).ndim == 0:
        (each,) = parts
        parts = [min(each, size - k) for k in range(0, size, each)]
    return [(*before, p, *after) for p in parts]


def _known(held: Elements | None) -> Elements:
    if held is None:
        raise LookupError("elements that are not known one by one")
    return held


def _inserted(at: Open, held: Elements | None) -> list[Dims]:
    held = _known(held)
    where = _position(at, 2, held) if at.has(2) else len(held)
    return [*held[:where], at.shape(1), *held[where:]]


def _erased(at: Open, held: Elements | None) -> list[Dims]:
    held = _known(held)
    where = _position(at, 1, held) if at.has(1) else len(held) - 1
    return [*held[:where], *held[where + 1 :]]


def _position(at: Open, slot: int, held: Elements) -> int:
    fixed = at.fixed(slot) or []
    if len(fixed) != 1 or not -len(held) <= fixed[0] <= len(held):
        raise LookupError(f"input {slot} is no position of {len(held)} elements")
    return fixed[0] + len(held) if fixed[0] < 0 else fixed[0]


MADE_LISTS: dict[str, Callable[[Open, Elements | None], list[Dims]]] = {
    "SplitToSequence": _split,
    "SequenceConstruct": lambda at, held: [at.shape(k) for k in range(len(at.shapes))],
    "SequenceEmpty": lambda at, held: [],
    "SequenceInsert": _inserted,
    "SequenceErase": _erased,
}
"""What makes a sequence: the shapes of its elements."""


def _joined(at: Open, held: Elements) -> Dims:
    first = held[0]
    if at.attr("new_axis", 0):
        axis = int(at.attr("axis", 0)) % (len(first) + 1)
        return (*first[:axis], len(held), *first[axis:])
    axis = int(at.attr("axis", 0)) % len(first)
    total: Dim = 0
    for dims in held:
        total = total + dims[axis]
    return (*first[:axis], total, *first[axis + 1 :])


TAKEN_OUT: dict[str, Callable[[Open, Elements], Dims]] = {
    "SequenceAt": lambda at, held: held[_position(at, 1, held)],
    "ConcatFromSequence": _joined,
}
"""What makes a tensor out of a sequence: its shape."""

COUNTING = {"SequenceLength": len}
"""What a number of elements is made of."""

__all__ = ["COUNTING", "MADE_LISTS", "TAKEN_OUT", "Elements"]
