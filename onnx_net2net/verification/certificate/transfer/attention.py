"""Fused attention: a head is named by its scores, which are a sum of products.

A result's element is named by its head's scores and by the value's element; how the scores
become weights (mask, softmax, cap) is named by the node's attributes and other operands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.names import (
    ZERO,
    Labels,
    key,
    label_digest,
    labels_of,
    mix,
    positions,
)
from onnx_net2net.verification.certificate.transfer.base import At, no_zero, rules
from onnx_net2net.verification.certificate.transfer.contraction import Shaping, contracted
from onnx_net2net.verification.certificate.transfer.elementwise import combine
from onnx_net2net.verification.certificate.transfer.movement import picked
from onnx_net2net.verification.certificate.transfer.pairs import product, summed

_COUNTED = ("num_heads", "q_num_heads", "kv_num_heads", "scale", "qkv_hidden_sizes")
_CANCELLED = 2.0


@dataclass(frozen=True)
class Heads:
    """Queries, keys or values, head by head.

    Attributes:
        tag: what they are, together with the labels; batch and positions are in it.
        flat: [heads, width] labels; `factors` that they are multiplied by, if any.
        parts: labels of the heads and of the width, where these are axes of their own.
        batch, places: labels of the two other axes.
    """

    tag: int
    flat: Labels
    factors: Array | None
    parts: tuple[Labels, Labels] | None
    batch: Labels
    places: Labels

    @property
    def fixed(self) -> int:
        """A name with batch and positions in their places."""
        return key(self.tag, label_digest(self.batch), label_digest(self.places))


def heads_of(x: Value, count: int) -> Heads:
    """A tensor [batch, positions, heads * width] or [batch, heads, positions, width]."""
    rank = len(x.axes)
    if rank not in (3, 4):
        raise UnknownError("heads packed in a layout of their own")
    if x.scale is not None and x.scale[0] != rank - 1:
        x = x.settled()
    factors = None if x.scale is None else x.scale[1]
    if rank == 3:
        if count < 1 or len(x.axes[2]) % count:
            raise UnknownError("a width that is no multiple of the heads")
        flat = x.axes[2].reshape(count, -1)
        factors = None if factors is None else factors.reshape(count, -1)
        return Heads(x.tag, flat, factors, None, x.axes[0], x.axes[1])
    batch, heads, places, width = x.axes
    flat = product([heads, width]).reshape(len(heads), len(width))
    wide = None if factors is None else np.broadcast_to(factors, flat.shape)
    return Heads(key("heads", x.tag), flat, wide, (heads, width), batch, places)


def appended(past: Heads, new: Heads) -> Heads:
    """What a cache holds, then what is new: an element stands for both."""
    if past.flat.shape != new.flat.shape or past.factors is not None or new.factors is not None:
        raise UnknownError("a cache that is scaled, or has other heads")
    parts = None
    if past.parts is not None and new.parts is not None:
        one, two = (_both(a, b) for a, b in zip(past.parts, new.parts, strict=True))
        parts = (one, two)
    flat = _both(past.flat, new.flat) if parts is None else product(parts).reshape(new.flat.shape)
    return Heads(key("appended", past.fixed, new.tag), flat, None, parts, new.batch, new.places)


def _both(a: Labels, b: Labels) -> Labels:
    return np.where((a == ZERO) & (b == ZERO), ZERO, mix(a, b))


def scores(at: At, q: Heads, k: Heads, scale: float, tag: int) -> Labels:
    """A label for each query's head: the form of its products with the keys it shares."""
    count, shared = len(q.flat), len(k.flat)
    if q.flat.shape[1] != k.flat.shape[1] or not shared or count % shared:
        raise UnknownError("operands do not fit")
    found = []
    for h in range(count):
        g = h // (count // shared)
        weights = np.full(q.flat.shape[1], scale)
        for factors in (q.factors if q.factors is None else q.factors[h],
                        k.factors if k.factors is None else k.factors[g]):  # fmt: skip
            weights = weights if factors is None else weights * factors
        still = (q.flat[h] == ZERO) | (k.flat[g] == ZERO)
        both = np.where(still, ZERO, mix(q.flat[h], k.flat[g]))
        kinds, totals = summed(both, weights)
        shares = summed(both, np.abs(weights))[1]
        if not (shares <= _CANCELLED * np.abs(totals).max(initial=0.0)).all():
            raise UnknownError("shares of scores that cancel")
        found.append(at.registry.name_sum(tag, kinds, totals, within=at.rounding))
    return labels_of(found)


def attended(head: Labels, v: Heads) -> tuple[Labels, ...]:
    """Labels of the result's heads and width, or of both in one axis."""
    if not len(v.flat) or len(head) % len(v.flat):
        raise UnknownError("operands do not fit")
    times = len(head) // len(v.flat)
    if v.parts is not None:
        heads = np.repeat(v.parts[0], times)
        return np.where(heads == ZERO, ZERO, mix(heads, head)), v.parts[1]
    flat = np.repeat(v.flat, times, axis=0)
    return (np.where(flat == ZERO, ZERO, mix(flat, head[:, None])).reshape(-1),)


@dataclass(frozen=True)
class Operands:
    """What an attention works with.

    `others` names all else, `by_head` where heads differ; `free`: queries are treated alike.
    """

    q: Heads
    k: Heads
    v: Heads
    scale: float
    others: int
    by_head: Sequence[Labels] = ()
    free: bool = False


def attention(at: At, o: Operands, flat: bool) -> tuple[Value, int, Labels]:
    """The result, and what names its scores: a tag, and a label for each head.

    Args:
        flat: heads and width are one axis of the result.
    """
    tag = key("attention", at.name(*_COUNTED), o.others)
    mine = key(o.q.tag, label_digest(o.q.batch)) if o.free else o.q.fixed
    tag = key(tag, mine, o.k.fixed, len(o.by_head))
    head = scores(at, o.q, o.k, o.scale, tag)
    for labels in o.by_head:
        head = mix(head, labels)
    v = Heads(o.v.tag, o.v.flat, None, None, o.v.batch, o.v.places) if flat else o.v
    batch = positions(len(o.q.batch))
    places = no_zero(o.q.places) if o.free else positions(len(o.q.places))
    found, width = key(tag, "values", o.v.fixed, flat), attended(head, v)
    axes = (batch, places, *width) if flat else (batch, width[0], places, width[1])
    return Value(found, axes), tag, head


def operand(at: At, slot: int) -> Value:
    """An input with the factors it carries."""
    term = at.args[slot] if slot < len(at.args) else None
    return term if isinstance(term, Value) else at.value(slot)


def values(at: At, slot: int, count: int) -> Heads:
    """An input head by head, factors taken into the labels."""
    return heads_of(at.value(slot), count)


def named(at: At, slots: Sequence[int]) -> int:
    """Operands as they stand."""
    terms = [(k, at.args[k]) for k in slots if at.has(k)]
    return key("operands", [(k, t.whole) for k, t in terms if t is not None])


def by_head(at: At, slot: int, axis: int, count: int) -> tuple[int, list[Labels]]:
    """A name for an operand, and labels of the heads where it has an axis for them.

    Args:
        axis: counted from the last.
    """
    term = at.args[slot] if at.has(slot) else None
    if term is None:
        return key("none"), []
    shape = term.shape
    if len(shape) < -axis or shape[axis] == 1:
        return key("whole", term.whole), []
    if shape[axis] != count:
        raise UnknownError("operands do not fit")
    at_axis = len(shape) + axis
    rest = [d for k, d in enumerate(shape) if k != at_axis]
    if isinstance(term, Const):
        return key("heads", str(term.dtype), rest), [term.rows(at_axis)]
    x = term.settled()
    fixed = [label_digest(v) for k, v in enumerate(x.axes) if k != at_axis]
    return key("heads", x.tag, fixed), [x.axes[at_axis]]


def scale_of(at: At, width: int) -> float:
    """What scores are multiplied by: given, or by the width of a head, in float32."""
    given = at.node.attr("scale")
    if given is None:
        return float(np.float32(1 / math.sqrt(width)))
    if not given or not math.isfinite(given):
        raise UnknownError(f"a scale of {given}")
    return float(np.float32(given))


def cache(at: At, k: int, x: Heads, tag: int) -> Value:
    """An output [batch, heads, positions, width] that keeps keys or values."""
    try:
        shape = at.out(k)
        parts: Sequence[Labels] | None = x.parts
        if x.factors is not None or shape[1::2] != x.flat.shape:
            raise UnknownError("a cache of other heads")
        if parts is None:
            parts = at.registry.split(key("cache", tag, k, x.tag), x.flat)
        axes = (positions(shape[0]), parts[0], positions(shape[2]), parts[1])
        return Value(key("cache", tag, k, x.fixed), axes)
    except UnknownError:
        return opaque_output(at, k)


def opaque_output(at: At, k: int) -> Value:
    """An output named by everything that goes in."""
    name = key("opaque", at.name(), named(at, range(len(at.args))), k)
    shape = at.outs[k] if k < len(at.outs) else None
    if shape is None or any(d is None for d in shape):
        return Value(key(name, shape), None)
    return Value(name, tuple(positions(d) for d in shape if d is not None))


def asked(at: At, k: int) -> bool:
    """Whether output `k` is asked for."""
    return k < len(at.node.outputs) and bool(at.node.outputs[k])


@rules("Attention")
def _attention(at: At) -> Sequence[Term]:
    """Q, K, V, mask, past key and value, lengths -> Y, present key and value, scores."""
    x = operand(at, 0)
    flat = len(x.axes) == 3
    query = int(at.node.attr("q_num_heads", 0))
    q = heads_of(x, query)
    shared = int(at.node.attr("kv_num_heads", 0))
    k, v = heads_of(operand(at, 1), shared), values(at, 2, shared)
    if at.has(4) or at.has(5):
        k, v = (appended(values(at, n, shared), y) for n, y in ((4, k), (5, v)))
    mask, labels = by_head(at, 3, -3, len(q.flat))
    others = key(named(at, (6,)), mask)
    free = not (at.has(3) or at.has(6) or at.node.attr("is_causal", 0))
    o = Operands(q, k, v, scale_of(at, q.flat.shape[1]), others, labels, free)
    y, tag, head = attention(at, o, flat)
    found: list[Term] = [y]
    cached = key(at.name(*_COUNTED), others)
    found += [cache(at, n, h, cached) for n, h in ((1, k), (2, v)) if n < len(at.node.outputs)]
    if asked(at, 3):
        b, _, s, t = (positions(d) for d in at.out(3))
        here = key(tag, "scores", q.fixed)
        found.append(Value(here, (b, head, s, t)))
    return found


def biased(at: At, slot: int, xs: Sequence[Value]) -> list[Value]:
    """Queries, keys and values with their parts of a bias that lies end to end."""
    if not at.has(slot):
        return list(xs)
    bias = at.const(slot)
    if bias is None or any(len(x.axes) != 3 for x in xs):
        raise UnknownError("a bias of this form")
    ends = np.cumsum([len(x.axes[2]) for x in xs])
    if bias.shape != (ends[-1],):
        raise UnknownError("operands do not fit")
    parts = np.split(bias.array(), ends[:-1])
    name = key("bias of heads")
    return [combine(name, [x, Const.of(p)], "all") for x, p in zip(xs, parts, strict=True)]


@rules("com.microsoft.MultiHeadAttention")
def _multi_head(at: At) -> Sequence[Term]:
    """Q, K, V, bias, padding mask, scores' bias, past key and value -> Y, present."""
    if at.has(8) or at.has(9) or not at.has(1) or not at.has(2):
        raise UnknownError("a shared cache, or heads packed in one")
    count = int(at.node.attr("num_heads", 0))
    xs = biased(at, 3, [operand(at, n) for n in range(3)])
    q, k, v = (heads_of(x if n < 2 else x.settled(), count) for n, x in enumerate(xs))
    if at.has(6) or at.has(7):
        k, v = (appended(values(at, n, count), y) for n, y in ((6, k), (7, v)))
    mask, labels = by_head(at, 5, -3, count)
    others = key(named(at, (4,)), mask)
    free = not (at.has(4) or at.has(5) or at.node.attr("unidirectional", 0))
    free = free
    o = Operands(q, k, v, scale_of(at, q.flat.shape[1]), others, labels, free)
    y, _, _ = attention(at, o, True)
    cached = key(at.name(*_COUNTED), others)
    ends = [cache(at, n, h, cached) for n, h in ((1, k), (2, v)) if n < len(at.node.outputs)]
    return [y, *ends, *(opaque_output(at, n) for n in range(3, len(at.node.outputs)))]


@rules("com.microsoft.GroupQueryAttention")
def _grouped(at: At) -> Sequence[Term]:
    """Q, K, V (or one tensor), past, lengths, rotary tables, ... -> Y, present."""
    count, shared = (int(at.node.attr(n, 0)) for n in ("num_heads", "kv_num_heads"))
    xs = [at.value(n) for n in range(3)] if at.has(1) else _apart(at.value(0), count, shared)
    q, k, v = (heads_of(x, n) for x, n in zip(xs, (count, shared, shared), strict=True))
    if at.node.attr("do_rotary", 0):
        q, k = turned(q), turned(k)
    if at.has(3) or at.has(4):
        k, v = (appended(values(at, n, shared), y) for n, y in ((3, k), (4, v)))
    mask, more = by_head(at, 10, -3, count)
    sink, labels = by_head(at, 11, -1, count)
    rest = [n for n in range(5, len(at.args)) if n not in (10, 11)]
    others = key(named(at, rest), mask, sink)
    o = Operands(q, k, v, scale_of(at, q.flat.shape[1]), others, [*more, *labels])
    y, _, _ = attention(at, o, True)
    cached = key(at.name(*_COUNTED), others)
    ends = [cache(at, n, h, cached) for n, h in ((1, k), (2, v)) if n < len(at.node.outputs)]
    return [y, *ends, *(opaque_output(at, n) for n in range(3, len(at.node.outputs)))]


def _apart(x: Value, count: int, shared: int) -> list[Value]:
    """Queries, keys and values that lie end to end, in heads of one width."""
    total = len(x.axes[-1])
    width, rest = divmod(total, max(count + 2 * shared, 1))
    if len(x.axes) != 3 or rest:
        raise UnknownError("heads packed in a layout of their own")
    ends = [0, count * width, (count + shared) * width, total]
    return [picked(x, {2: np.arange(a, b)}) for a, b in pairwise(ends)]


def turned(x: Heads) -> Heads:
    """Heads whose positions are mixed with each other by a rotation inside the operator."""
    if x.factors is not None:
        raise UnknownError("a head that is scaled and turned")
    places = positions(x.flat.shape[1])
    flat = np.stack([mix(key("turned", label_digest(row)), places) for row in x.flat])
    return Heads(x.tag, flat, None, None, x.batch, x.places)


@rules("com.microsoft.Attention")
def _packed(at: At) -> Sequence[Term]:
    """Data, weight and bias of all three, mask, past, scores' bias -> Y, present."""
    x, weight, bias = at.args[0], at.const(1), at.const(2)
    if not isinstance(x, Value) or len(x.axes) != 3 or weight is None or len(weight.shape) != 2:
        raise UnknownError("the weight or the data are of the other kind")
    if x.scale is not None and x.scale[0] != 2:
        x = x.settled()
    count, total = int(at.node.attr("num_heads", 0)), weight.shape[1]
    sizes = list(at.node.attr("qkv_hidden_sizes") or [total // 3] * 3)
    if sum(sizes) != total or count < 1:
        raise UnknownError("operands do not fit")
    tag = key("linear", x.tag, 2, 1)
    rows = contracted(at, x, weight, Shaping((1,), (0,)), [2], tag, bias)
    axes, ends = [x.axes[0], x.axes[1]], np.cumsum(sizes)[:-1]
    parts = [Value(tag, (*axes, r)) for r in np.split(rows, ends)]
    q, k, v = (heads_of(p, count) for p in parts)
    if at.node.attr("do_rotary", 0):
        q, k = turned(q), turned(k)
    mask, labels = by_head(at, 5, -3, count)
    if at.has(4):
        past = at.value(4)
        halves = [picked(past, {0: np.array([n])}) for n in (0, 1)]
        k, v = (appended(_half(y, count), new) for y, new in zip(halves, (k, v), strict=True))
    others = key(named(at, (3, 6)), mask)
    o = Operands(q, k, v, scale_of(at, q.flat.shape[1]), others, labels)
    y, _, _ = attention(at, o, True)
    return [y, *(opaque_output(at, n) for n in range(1, len(at.node.outputs)))]


def _half(x: Value, count: int) -> Heads:
    """Keys or values of a cache that holds both."""
    if len(x.axes) != 5:
        raise UnknownError("a cache in a layout of its own")
    tag = key("half", x.tag, int(x.axes[0][0]))
    return heads_of(Value(tag, x.axes[1:]), count)
