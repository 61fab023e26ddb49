"""Sequences in the algebra of the certificate: lists of what their elements are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from onnx_net2net.inference.size_rules import is_open
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.names import Labels, key, labels_of, mix
from onnx_net2net.verification.certificate.transfer.movement import connected, picked
from onnx_net2net.verification.certificate.transfer.table import RULES, At

Held = Sequence["list[Term] | None"]


def _inside(held: Held) -> list[Term]:
    if not held or held[0] is None:
        raise UnknownError("the elements of a sequence are not known one by one")
    return held[0]


def _present(at: At) -> list[Term]:
    return [a for a in at.args if a is not None]


def _position(at: At, slot: int, count: int, default: int) -> int:
    """Where an element is; raises UnknownError where that is computed at run time."""
    given = at.const(slot) if at.has(slot) else None
    if given is None:
        return default
    where = int(given.array().reshape(-1)[0])
    return where + count if where < 0 else where


def _split(at: At, held: Held) -> list[Term]:
    x = at.value()
    axis = int(at.node.attr("axis", 0)) % len(x.axes)
    size = len(x.axes[axis])
    if at.open is not None and is_open(at.open.shape()[axis : axis + 1]):
        raise UnknownError("an open number of elements")
    if not at.has(1):
        if at.node.attr("keepdims", 1):
            return [picked(x, {axis: np.arange(k, k + 1)}) for k in range(size)]
        rest = (*x.axes[:axis], *x.axes[axis + 1 :])
        return [Value(key("unbound", x.tag, axis, int(v)), rest) for v in x.axes[axis]]
    split = at.const(1)
    assert split is not None
    given = split.array()
    if given.ndim:
        ends = np.cumsum(given)
    else:
        ends = np.minimum(np.arange(int(given), size + int(given), int(given)), size)
    if ends[-1] != size:
        raise UnknownError("sizes that do not add up")
    starts = [0, *ends[:-1]]
    return [picked(x, {axis: np.arange(a, b)}) for a, b in zip(starts, ends, strict=True)]


def _inserted(at: At, held: Held) -> list[Term]:
    inside = _inside(held)
    where = _position(at, 2, len(inside), len(inside))
    new = at.args[1]
    assert new is not None
    return [*inside[:where], new, *inside[where:]]


def _erased(at: At, held: Held) -> list[Term]:
    inside = _inside(held)
    where = _position(at, 1, len(inside), len(inside) - 1)
    return [*inside[:where], *inside[where + 1 :]]


LISTS: dict[str, Callable[[At, Held], list[Term]]] = {
    "SplitToSequence": _split,
    "SequenceConstruct": lambda at, held: _present(at),
    "SequenceEmpty": lambda at, held: [],
    "SequenceInsert": _inserted,
    "SequenceErase": _erased,
}
"""What makes a sequence: its elements."""


def _joined(at: At, held: Held) -> Term:
    inside = _inside(held)
    if not at.node.attr("new_axis", 0):
        return next(iter(RULES["Concat"](replace(at, args=tuple(inside)))))
    values = [t.settled() for t in inside if isinstance(t, Value)]
    if len(values) < len(inside) or not values:
        raise UnknownError("constants are stacked")
    labels, modes = _together(values)
    axis = int(at.node.attr("axis", 0)) % (len(labels) + 1)
    whose = [connected(dict(enumerate(values)), k) for k in range(len(values))]
    stacked = labels_of([key(v.tag, w) for v, w in zip(values, whose, strict=True)])
    return Value(key("stacked", axis, modes), (*labels[:axis], stacked, *labels[axis:]))


def _together(values: list[Value]) -> tuple[list[Labels], list[bool]]:
    """Labels for positions of several tensors at once, and on which axes these agree."""
    labels, modes = [], []
    if len({v.shape for v in values}) > 1:
        raise UnknownError("the elements differ in shape")
    for axis in zip(*(v.axes for v in values), strict=True):
        modes.append(all(np.array_equal(v, axis[0]) for v in axis[1:]))
        labels.append(axis[0] if modes[-1] else mix(*axis))
    return labels, modes


def _element(at: At, held: Held) -> Term:
    inside, index = _inside(held), at.args[1]
    if isinstance(index, Value):  # any of them
        values = [t.settled() for t in inside if isinstance(t, Value)]
        if len(values) < len(inside) or not values:
            raise UnknownError("a constant is one of the elements")
        labels, modes = _together(values)
        tags = [v.tag for v in values]
        return Value(key("one of", index.whole, tags, modes), tuple(labels))
    where = _position(at, 1, len(inside), 0)
    if not 0 <= where < len(inside):
        raise UnknownError("a position that the sequence does not have")
    return inside[where]


TAKING: dict[str, Callable[[At, Held], Term]] = {
    "SequenceAt": _element,
    "ConcatFromSequence": _joined,
    "SequenceLength": lambda at, held: Const.of(np.asarray(len(_inside(held)), np.int64)),
}
"""What makes a tensor out of a sequence."""
