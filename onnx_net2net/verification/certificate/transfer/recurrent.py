"""Recurrent layers: units are named by what they read, of the data and of one another.

Units start apart by their rows on the data, their biases and first states; each round tells
them apart by their rows on one another's names. Where a round tells no more apart, units of one
name are equal at every step, by induction: they start equal and are fed alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.linear_forms import Rows
from onnx_net2net.verification.certificate.names import (
    ZERO,
    Labels,
    digest,
    key,
    label_digest,
    mix,
    positions,
    row_digests,
)
from onnx_net2net.verification.certificate.row_matching import summed_by_label
from onnx_net2net.verification.certificate.transfer.attention import by_head, named
from onnx_net2net.verification.certificate.transfer.base import At, rules
from onnx_net2net.verification.certificate.transfer.contraction import Shaping
from onnx_net2net.verification.certificate.transfer.pairs import flattened

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4, "com.microsoft.DynamicQuantizeLSTM": 4}
_ROUNDS = 2
_SHAPING = Shaping((0,), (1,))


@dataclass(frozen=True)
class Gates:
    """A direction's weights, gate by gate.

    Attributes:
        data, state: [units, inputs] weights on the data, and on the units.
        inner, outer: biases beside these.
        salts: labels for each unit of what else belongs to its rows.
    """

    data: list[Const]
    state: list[Const]
    outer: list[Const | None]
    inner: list[Const | None]
    salts: list[Labels]


@rules("RNN GRU LSTM")
def _recurrent(at: At) -> Sequence[Term]:
    """X, W, R, B, lengths, first states, peepholes -> all states, last states."""
    w, r, b = at.const(1), at.const(2), at.const(3) if at.has(3) else None
    if w is None or r is None or len(w.shape) != 3:
        raise UnknownError("its weights are not constant")
    gates, (count, rows, _) = _GATES[at.node.op], w.shape
    late = at.node.op == "GRU" and bool(at.node.attr("linear_before_reset", 0))

    found = []
    for d in range(count):
        outer, inner = _biases(b, d, gates, late)
        found.append(Gates(_parts(w, d, gates), _parts(r, d, gates), outer, inner, []))
    return _named(at, found, rows // gates, 7)


def _parts(c: Const, d: int, gates: int) -> list[Const]:
    """A direction's weights gate by gate, read when they are needed."""
    size = c.shape[1] // gates

    def load(q: int) -> Array:
        return np.ascontiguousarray(c.array()[d, q * size : (q + 1) * size])

    return [
        Const(key("gate", c.key, d, q, gates), (size, c.shape[2]), c.dtype, partial(load, q))
        for q in range(gates)
    ]


def _biases(b: Const | None, d: int, gates: int, late: bool) -> tuple[list[Const | None], ...]:
    """Biases that are added before a gate's activation, and those that a reset gate meets."""
    if b is None:
        return [None] * gates, [None] * gates
    both = b.array()[d].astype(np.float64).reshape(2, gates, -1)
    outer = [Const.of(x) for x in both.sum(0)]
    if not late:
        return [*outer], [None] * gates
    return [*outer[:-1], Const.of(both[0, -1])], [*[None] * (gates - 1), Const.of(both[1, -1])]


@rules("com.microsoft.DynamicQuantizeLSTM")
def _quantised(at: At) -> Sequence[Term]:
    """As LSTM, with weights transposed, and data and states rounded by their extremes."""
    given = [at.const(k) for k in (1, 2, 8, 9, 10, 11)]
    w, r, b = given[0], given[1], at.const(3) if at.has(3) else None
    if w is None or r is None or any(c is None for c in given):
        raise UnknownError("its weights are not constant")
    count, _, rows = w.shape
    known = [c.array() for c in given if c is not None]
    found = []
    for d in range(count):
        wide, salts = [], []
        for weight, scale, zero in ((known[0], *known[2:4]), (known[1], *known[4:6])):
            step, shift = (np.broadcast_to(v.reshape(count, -1)[d], rows) for v in (scale, zero))
            wide.append((weight[d].astype(np.float64) - shift.astype(np.float64)).T)
            salts += [row_digests(s, "step") for s in np.split(step[:, None], 4)]
        data, state = ([Const.of(g) for g in np.split(v, 4)] for v in wide)
        outer, inner = _biases(b, d, 4, False)
        found.append(Gates(data, state, outer, inner, salts))
    return _named(at, found, rows // 4, 7, extremes=True)


def _named(
    at: At, directions: Sequence[Gates], units: int, peepholes: int, extremes: bool = False
) -> Sequence[Term]:
    """Outputs by the units' names.

    Args:
        extremes: what is read is rounded by its smallest and largest element.
    """
    x = at.args[0]
    if not isinstance(x, Value) or len(x.axes) != 3:
        raise UnknownError("the data are constant")
    if at.node.attr("hidden_size", units) != units:
        raise UnknownError("a hidden size that is not the weights'")
    x = x if x.scale is None or (x.scale[0] == 2 and not extremes) else x.settled()
    first = [by_head(at, k, -1, units) for k in (5, 6)]
    fixed = [label_digest(v) for v in x.axes[:2]]
    seen = digest(np.unique(x.axes[2])) if extremes else 0
    name = key(at.name("hidden_size"), len(directions), named(at, [4]), [n for n, _ in first])
    tag = key("recurrent", name, x.tag, fixed, seen)
    start = [v for _, labels in first for v in labels]
    p = at.const(peepholes) if at.has(peepholes) else None
    losses, found = len(at.registry.losses), []
    for d, gates in enumerate(directions):
        more = [] if p is None else [row_digests(p.array()[d].reshape(3, -1).T, "peephole")]
        found.append(_units(at, key(tag, d), gates, x, [*start, *more, *gates.salts]))
    units_of = np.stack(found)
    if not at.registry.teaching and _has_more(units_of, at.registry.units.get(tag, [])):
        del at.registry.losses[losses:]  # units of its own, and none of the teacher's is missing
        raise UnknownError("it has units that the teacher has not")
    return _outputs(at, tag, units_of, extremes)


def _units(at: At, tag: int, gates: Gates, x: Value, more: Sequence[Labels]) -> Labels:
    """Names of a direction's units."""

    def named_rows(what: int, weights: list[Const], biases: list[Const | None], read: Value) -> Any:
        labels, scale = flattened(read, [len(read.axes) - 1])
        return [
            at.registry.name_rows(at.node.name, key(what, q), _summed(w, labels, scale, b), False)
            for q, (w, b) in enumerate(zip(weights, biases, strict=True))
        ]

    found = mix(key("unit", tag), *named_rows(key(tag, "data"), gates.data, gates.outer, x), *more)
    for n in range(_ROUNDS):
        before, units = len(np.unique(found)), Value(tag, (found,))
        rows = named_rows(key(tag, "state", n), gates.state, gates.inner, units)
        found = mix(found, *rows)
    if at.registry.teaching and len(np.unique(found)) != before:
        raise UnknownError("units that are told apart by many steps only")
    return found


def _summed(weight: Const, labels: Labels, scale: Array | None, bias: Const | None) -> Rows:
    """Rows with one weight for each label, so that equal forms have equal bits."""
    kinds = np.unique(labels)
    kinds = kinds[kinds != ZERO]

    def load() -> Array:
        wide = weight.array().astype(np.float64)
        wide = wide if scale is None else wide * scale
        return summed_by_label(wide[:, :, None], labels, kinds)[:, :, 0]

    factors = None if scale is None else digest(scale)
    name = key("summed", weight.key, digest(labels), factors)
    shape = (weight.shape[0], len(kinds))
    if not len(kinds):
        raise UnknownError("an empty contraction")
    return Rows(Const(name, shape, weight.dtype, load), _SHAPING, kinds.reshape(1, -1), None, bias)


def _outputs(at: At, tag: int, units: Labels, extremes: bool) -> Sequence[Term]:
    """All states, and the last ones; the student's units must all be the teacher's."""
    shared, count = at.registry.units, len(units)
    if at.registry.teaching:
        shared.setdefault(tag, []).append(units)
    elif not any(_within(units, theirs, extremes) for theirs in shared.get(tag, [])):
        raise UnknownError("units without a counterpart")
    axes = (positions(1), units[0])
    if count > 1:
        axes = at.registry.split(key("units", tag), units)  # type: ignore[assignment]
    first = bool(at.node.attr("layout", 0))
    found: list[Term] = []
    for k in range(len(at.node.outputs)):
        # [s d b h] or [b s d h]; [d b h] or [b d h]
        where = (2 if first else 1) if k == 0 else (1 if first else 0)
        if not at.node.outputs[k]:
            found.append(Value(key(tag, k), None))
            continue
        labels: list[Labels] = [positions(d) for d in at.out(k)]
        labels[where], labels[-1] = axes
        found.append(Value(key(tag, "output", k), tuple(labels)))
    return found


def _has_more(mine: Labels, known: Sequence[Labels]) -> bool:
    """Whether each direction has all of the teacher's units, and others."""
    return any(
        len(mine) == len(theirs)
        and all(np.isin(b, a).all() for a, b in zip(mine, theirs, strict=True))
        and not np.isin(mine, theirs).all()
        for theirs in known
    )


def _within(mine: Labels, theirs: Labels, all_of_them: bool) -> bool:
    """Whether each direction's units are among the teacher's, and where it counts all there."""
    if len(mine) != len(theirs):
        return False
    pairs: list[tuple[Array, Array]] = list(zip(mine, theirs, strict=True))
    if not all(np.isin(a, b).all() for a, b in pairs):
        return False
    return not all_of_them or all(np.isin(b, a).all() for a, b in pairs)
