"""Shape arithmetic on expressions: what operators make of integers that depend on sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from onnx import TensorProto

from onnx_net2net.inference import expressions as ex
from onnx_net2net.inference.expressions import Dim
from onnx_net2net.inference.size_rules import (
    Open,
    Sized,
    objects,
    over_elements,
    value_rule,
)
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array

_WIDE = (TensorProto.INT32, TensorProto.INT64)


@value_rule("Shape")
def _shape(at: Open) -> Sequence[Sized]:
    dims = np.empty(len(at.shape()), object)
    dims[:] = at.shape()
    return [dims[slice(at.attr("start", 0), at.attr("end"))]]


@value_rule("Size")
def _size(at: Open) -> Sequence[Sized]:
    return [_scalar(ex.product(at.shape()))]


def _scalar(x: Any) -> Array:
    found = np.empty((), object)
    found[()] = x
    return found


@value_rule("Slice Gather Squeeze Unsqueeze Reshape Flatten Transpose Expand Tile Split Identity")
def _moved(at: Open) -> Sequence[Sized]:
    """As in numpy, where only what is moved depends on sizes."""
    others = [at.array(k) if at.has(k) else None for k in range(1, len(at.node.inputs))]
    if any(o is not None and o.dtype == object for o in others):
        raise LookupError("positions that depend on a size")
    fold = TABLE[at.node.op].fold
    assert fold is not None
    return [np.asarray(r, object) for r in fold(at.node, [objects(at.array(0)), *others])]


@value_rule("Concat")
def _concat(at: Open) -> Sequence[Sized]:
    parts = [np.atleast_1d(objects(at.array(k))) for k in range(len(at.node.inputs))]
    return [np.concatenate(parts, int(at.attr("axis", 0)))]


@value_rule("ReduceProd ReduceSum")
def _reduced(at: Open) -> Sequence[Sized]:
    _integers(at, 1)
    axes = [at.array(1)] if at.has(1) else []
    if any(a.dtype == object for a in axes):
        raise LookupError("axes that depend on a size")
    fold = TABLE[at.node.op].fold
    assert fold is not None
    return [np.asarray(r, object) for r in fold(at.node, [objects(at.array(0)), *axes])]


def _integers(at: Open, count: int | None = None) -> None:
    """Raise LookupError unless the first operands are wide integers."""
    if any(t not in _WIDE for t in at.dtypes[:count]):
        raise LookupError("no integers")


def _all(at: Open) -> list[Array]:
    return [at.array(k) for k in range(len(at.node.inputs))]


def _folding(f: Callable[[Dim, Dim], Dim]) -> Callable[[Open], Sequence[Sized]]:
    def rule(at: Open) -> Sequence[Sized]:
        _integers(at)
        return [reduce(lambda a, b: over_elements(f, a, b), _all(at))]

    return rule


def _truncated(a: Dim, b: Dim) -> Dim:
    if ex.least(a) < 0 or ex.least(b) < 0:
        raise LookupError("a quotient that may be negative")
    return ex.floor_div(a, b)


def _mod(a: Dim, b: Dim) -> Dim:
    if ex.least(a) < 0 or ex.least(b) < 0:
        raise LookupError("a remainder of what may be negative")
    return ex.mod(a, b)


_ARITHMETIC: dict[str, Callable[[Dim, Dim], Dim]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Sum": lambda a, b: a + b,
    "Div": _truncated,
    "Mod": _mod,
    "Min": ex.minimum,
    "Max": ex.maximum,
    "Equal": ex.equal,
    "GreaterOrEqual": ex.at_least,
    "LessOrEqual": lambda a, b: ex.at_least(b, a),
    "Greater": lambda a, b: ex.at_least(a, b + 1),
    "Less": lambda a, b: ex.at_least(b, a + 1),
}
for _name, _f in _ARITHMETIC.items():
    value_rule(_name)(_folding(_f))


@value_rule("Neg")
def _negated(at: Open) -> Sequence[Sized]:
    _integers(at)
    return [over_elements(lambda a: -a, at.array(0))]


@value_rule("Not")
def _not(at: Open) -> Sequence[Sized]:
    return [over_elements(lambda a: 1 - _bit(a), at.array(0))]


def _bit(a: Any) -> Dim:
    return a if isinstance(a, ex.Expr) else int(a)


@value_rule("And")
def _and(at: Open) -> Sequence[Sized]:
    return [over_elements(lambda a, b: _bit(a) * _bit(b), *_all(at))]


@value_rule("Or")
def _or(at: Open) -> Sequence[Sized]:
    return [
        over_elements(lambda a, b: _bit(a) + _bit(b) - _bit(a) * _bit(b), *_all(at)),
    ]


@value_rule("Where")
def _where(at: Open) -> Sequence[Sized]:
    if any(t not in _WIDE for t in at.dtypes[1:]):
        raise LookupError("no integers")
    return [over_elements(lambda c, a, b: ex.where(_bit(c), a, b), *_all(at))]


@value_rule("Cast")
def _cast(at: Open) -> Sequence[Sized]:
    given, wanted = at.dtypes[0], int(at.attr("to", 0))
    if given in (*_WIDE, TensorProto.BOOL) and wanted in _WIDE:
        return [over_elements(_bit, at.array(0))]
    if given in _WIDE and wanted == TensorProto.BOOL:
        return [over_elements(lambda a: 1 - ex.equal(a, 0), at.array(0))]
    raise LookupError("rounding")


__all__: list[str] = []
