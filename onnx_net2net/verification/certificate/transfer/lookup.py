"""Positions picked by indices, and rows looked up in tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_net2net.inference.size_rules import is_open
from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.names import Labels, digest, key, positions, row_digests
from onnx_net2net.verification.certificate.open_axes import acted
from onnx_net2net.verification.certificate.registry import Registry
from onnx_net2net.verification.certificate.transfer.base import At, no_zero, rules


@rules("Gather")
def _gather(at: At) -> Sequence[Term]:
    data, index = at.args[0], at.args[1]
    if data is None or index is None:
        raise UnknownError("an input is missing")
    rank = len(data.shape)
    axis = int(at.node.attr("axis", 0)) % rank
    if isinstance(data, Value) and isinstance(index, Const):
        x = data.settled()
        if at.open is not None and is_open(at.open.shape()[axis : axis + 1]):
            x = acted(x, ("gather", axis, index.key), [axis], at.registry)
        return [_gathered(x, index.array(), axis, at)]
    rows = at.value(1)
    if isinstance(data, Const):
        return [_looked_up(_old_rows(at, data, axis), rows, axis, at.registry)]
    x = data.settled()
    tag = key("gather", axis, x.tag, digest(x.axes[axis]), rows.tag)
    labels = [*x.axes[:axis], *map(no_zero, rows.axes), *x.axes[axis + 1 :]]
    return [Value(tag, tuple(labels))]


def _old_rows(at: At, table: Const, axis: int) -> Const:
    """Without rows that the student declares to be new: the teacher's inputs pick none."""
    if at.registry.teaching:
        return table
    old = at.registry.embedding.table(at.node.inputs[0], axis, table)
    at.registry.assumed |= set() if old is table else {at.node.inputs[0]}
    return old


def _gathered(x: Value, index: Array, axis: int, at: At) -> Value:
    """Constant indices pick positions; a single one takes the axis away."""
    taken = x.axes[axis][np.asarray(index.reshape(-1), np.int64)]
    rest = [*x.axes[:axis]], [*x.axes[axis + 1 :]]
    if index.ndim == 0:
        return Value(key("pick", x.tag, axis, int(taken[0])), (*rest[0], *rest[1]))
    if index.ndim == 1:
        return x.relabelled(axis, taken)
    tag = key("gather", x.tag, axis, index.ndim)
    split = at.registry.split(tag, taken.reshape(index.shape))
    return Value(tag, (*rest[0], *split, *rest[1]))


def _looked_up(table: Const, rows: Value, axis: int, registry: Registry) -> Value:
    """A table of constants: its other axes are named by what they hold."""
    tag = key("table", axis, rows.tag, str(table.dtype))
    others = [k for k in range(len(table.shape)) if k != axis]
    labels: dict[int, Labels] = {}
    if len(others) == 1:
        columns = np.moveaxis(table.array(), others[0], 0)
        names = row_digests(columns)
        pads = registry.means.columns(columns)
        labels[others[0]] = registry.means.put(tag, names, pads)
    else:
        tag = key(tag, table.key)
        labels = {k: positions(table.shape[k]) for k in others}
    before, after = ([labels[k] for k in others if (k > axis) == late] for late in (False, True))
    return Value(tag, (*before, *map(no_zero, rows.axes), *after))
