"""Contractions with a constant: the output's channels are rows of linear forms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_net2net.inference.size_rules import is_open
from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.linear_forms import Rows
from onnx_net2net.verification.certificate.names import (
    ZERO,
    Labels,
    key,
    label_digest,
    mix,
    positions,
)
from onnx_net2net.verification.certificate.transfer.base import At, no_zero, rules
from onnx_net2net.verification.certificate.transfer.elementwise import combine
from onnx_net2net.verification.certificate.transfer.pairs import (
    flattened,
    matmul_letters,
    pairs,
    product,
)


@dataclass(frozen=True)
class Shaping:
    """How a weight becomes [group, output, input, window].

    Attributes:
        outs, ins: its axes that stand for outputs and inputs; the rest is the window.
        grouped_inputs: the groups are on the input axis (ConvTranspose), not on the output's.
        factor: what it is multiplied by.
    """

    outs: tuple[int, ...]
    ins: tuple[int, ...]
    grouped_inputs: bool = False
    factor: float = 1.0

    @property
    def key(self) -> int:
        """A name for it."""
        return key(self.outs, self.ins, self.grouped_inputs, self.factor)

    def count(self, weight: Const, groups: int) -> int:
        """How many rows a weight has."""
        found = math.prod([weight.shape[a] for a in self.outs])
        return found * groups if self.grouped_inputs else found

    def __call__(self, array: Array, groups: int) -> Array:
        """[g, o, i, window]."""
        window = [a for a in range(array.ndim) if a not in (*self.outs, *self.ins)]
        moved = array.transpose(*self.outs, *self.ins, *window)
        outs = math.prod([array.shape[a] for a in self.outs])
        ins = math.prod([array.shape[a] for a in self.ins])
        if self.grouped_inputs:
            found = moved.reshape(outs, groups, ins // groups, -1).transpose(1, 0, 2, 3)
        else:
            found = moved.reshape(groups, outs // groups, ins, -1)
        return found if self.factor == 1.0 else found.astype(np.float64) * self.factor


def contracted(
    at: At, x: Value, weight: Const, shaping: Shaping, axes: Sequence[int], tag: int,
    bias: Const | None = None, groups: int = 1, bias_factor: float = 1.0,
) -> Labels:  # fmt: skip
    """Labels of a contraction's output channels.

    Args:
        axes: the axes of `x` that the weight's input axes run over, in their order.
        tag: what the output will be called; rows are compared among equal tags.
    """
    labels, scale = flattened(x, axes)
    if labels.size * math.prod(weight.shape) == 0:
        raise UnknownError("an empty contraction")
    rows = Rows(
        weight, shaping, labels.reshape(groups, -1),
        None if scale is None else scale.reshape(groups, -1), bias, bias_factor,
    )  # fmt: skip
    apart = at.registry.is_shared(at.node, [k for k, a in enumerate(at.args) if a is weight])
    at.registry.latest = (at.node.index, rows, x, list(axes))
    linear = "." not in at.node.op  # the others may have an activation behind
    return at.registry.name_rows(at.node.name, tag, rows, apart, linear)


def contraction_of(at: At) -> tuple[Rows, Value, int, int]:
    """The rows of a node just evaluated, its data, and the axis that is contracted and made.

    Raises:
        UnknownError: it was no contraction of one axis.
    """
    latest = at.registry.latest
    if latest is None or latest[0] != at.node.index or len(latest[3]) != 1:
        raise UnknownError("no contraction of one axis")
    _, rows, x, (axis,) = latest
    made = axis
    if at.node.op == "Gemm":  # the data come first or last, and may be transposed
        made = 1 if x is at.args[0] or at.args[0] is None or isinstance(at.args[1], Const) else 0
    return rows, x, axis, made


_KEEPS_ZERO = (b"Relu", b"Tanh", b"LeakyRelu")
_WINDOW = ("auto_pad", "dilations", "kernel_shape", "pads", "strides")


def steps(at: At, x: Value) -> tuple[list[int], list[int]]:
    """Strides and dilations of a convolution."""
    ones = [1] * (len(x.axes) - 2)
    return tuple(list(at.attributes.get(n) or ones) for n in ("strides", "dilations"))  # type: ignore[return-value]


def padding(at: At, x: Value, weight: Const) -> list[int]:
    """Pads of a convolution, computed where the node leaves them to the operator.

    Raises:
        UnknownError: a transposed convolution that leaves them, or they depend on a size.
    """
    rank = len(x.axes) - 2
    how = (at.attributes.get("auto_pad") or b"NOTSET").decode()
    if how in ("NOTSET", "VALID"):
        return list(at.attributes.get("pads") or [0] * 2 * rank)
    if at.node.op == "ConvTranspose":
        raise UnknownError("pads that the operator chooses")
    strides, dilations = steps(at, x)
    if at.open is not None and is_open(at.open.shape()[2:]) and any(s != 1 for s in strides):
        raise UnknownError("pads that depend on a size")
    begin, end = [], []
    for k, (size, made) in enumerate(zip(x.shape[2:], at.out()[2:], strict=True)):
        reach = (weight.shape[2 + k] - 1) * dilations[k] + 1
        total = max((made - 1) * strides[k] + reach - size, 0)
        few, many = total // 2, total - total // 2
        begin.append(few if how == "SAME_UPPER" else many)
        end.append(many if how == "SAME_UPPER" else few)
    return begin + end


def _pads(at: At, x: Value, weight: Const) -> list[int] | bytes:
    """Pads as numbers; how they are chosen, where they depend on a size."""
    how: bytes = at.attributes.get("auto_pad") or b"NOTSET"
    try:
        return padding(at, x, weight)
    except UnknownError:
        if at.open is None or at.node.op == "ConvTranspose":
            raise
        return how


@rules("Conv ConvTranspose com.microsoft.FusedConv")
def _convolution(at: At) -> Sequence[Term]:
    x, weight, bias = at.args[0], at.const(1), at.const(2)
    if not isinstance(x, Value) or weight is None:
        raise UnknownError("the weight or the data are of the other kind")
    if x.scale is not None and x.scale[0] != 1:
        x = x.settled()
    transposed = at.node.op == "ConvTranspose"
    shaping = Shaping((1,), (0,), True) if transposed else Shaping((0,), (1,))
    groups = int(at.node.attr("group", 1))
    spatial, out = x.axes[2:], at.out()
    window = key(at.name("group", *_WINDOW), _pads(at, x, weight), steps(at, x))
    tag = key(window, x.tag, [label_digest(v) for v in spatial], weight.shape[2:], out[2:])
    channels = _activated(at, contracted(at, x, weight, shaping, [1], tag, bias, groups))
    places = [positions(d) for d in out[2:]]
    found = Value(tag, (no_zero(x.axes[0]), channels, *places))
    if at.has(3):  # a fused convolution adds another tensor before its activation
        found = combine(key("fused sum"), [found, at.value(3)], "")
    return [found]


@rules("Gemm com.microsoft.FusedGemm")
def _gemm(at: At) -> Sequence[Term]:
    flips = [int(at.node.attr("transA", 0)), int(at.node.attr("transB", 0))]
    alpha, beta = float(at.node.attr("alpha", 1.0)), float(at.node.attr("beta", 1.0))
    a, b = at.args[0], at.args[1]
    bias = at.const(2)
    slot = 1 if isinstance(b, Const) else 0
    x, weight = (a, b) if slot else (b, a)
    if not isinstance(x, Value) or not isinstance(weight, Const) or len(x.axes) != 2:
        raise UnknownError("a Gemm of two constants, or of none")
    # axis that is contracted: the last of A, the first of B, unless transposed
    inner = (1 - flips[0], flips[1])
    mine, theirs = inner[1 - slot], inner[slot]
    if x.scale is not None and x.scale[0] != mine:
        x = x.settled()
    fused = sorted((k, v) for k, v in at.attributes.items() if k.startswith("activation"))
    tag = key("linear", x.tag, mine, slot, *fused)
    shaping = Shaping((1 - theirs,), (theirs,), factor=alpha)
    vector = bias if bias is not None and _is_vector(bias, slot) else None
    if fused and vector is not bias:
        raise UnknownError("a fused activation behind a bias of two axes")
    rows = contracted(at, x, weight, shaping, [mine], tag, vector, bias_factor=beta)
    rows = _activated(at, rows)
    other = no_zero(x.axes[1 - mine])
    found = Value(tag, (other, rows) if slot else (rows, other))
    if bias is not None and vector is None:
        found = combine(key("bias", beta), [found, bias], "all")
    return [found]


def _activated(at: At, rows: Labels) -> Labels:
    """What a fused activation leaves of zero rows."""
    named = at.attributes.get("activation") or at.attributes.get("activation_type") or b"Relu"
    return rows if named in _KEEPS_ZERO else no_zero(rows)


def _is_vector(bias: Const, slot: int) -> bool:
    """Whether a Gemm's bias runs along the rows of the weight alone."""
    shape = (1, 1, *bias.shape)[-2:]
    return shape[0] == 1 if slot else shape[1] == 1


@rules("MatMul")
def _matmul(at: At) -> Sequence[Term]:
    a, b = at.args[0], at.args[1]
    if isinstance(a, Value) and isinstance(b, Value):
        return [pairs(at, a, b, *matmul_letters(len(a.axes), len(b.axes)))]
    slot = 1 if isinstance(b, Const) else 0
    x, weight = (a, b) if slot else (b, a)
    if not isinstance(x, Value) or not isinstance(weight, Const):
        raise UnknownError("a product of constants")
    rank = len(x.axes)
    shape = weight.shape
    if rank < 2 or len(shape) < 2 or len(shape) > rank:
        raise UnknownError("a vector, or a weight of higher rank than the data")
    mine = rank - 1 if slot else rank - 2
    theirs = len(shape) - (2 if slot else 1)
    outs = len(shape) - (1 if slot else 2)
    if x.scale is not None and x.scale[0] != mine:
        x = x.settled()
    if any(d != 1 for d in shape[:-2]):
        return [_batched(at, x, weight, mine, outs, theirs)]
    tag = key("linear", x.tag, mine, slot)
    shaping = Shaping((outs,), (theirs,))
    rows = contracted(at, x, weight, shaping, [mine], tag)
    labels = [no_zero(v) for v in x.axes]
    labels[mine] = rows
    return [Value(tag, tuple(labels))]


def _batched(at: At, x: Value, weight: Const, mine: int, outs: int, theirs: int) -> Value:
    """A weight for each position of some batch axes: rows of groups that share nothing."""
    lead = len(x.axes) - len(weight.shape)
    batch = [k for k, d in enumerate(weight.shape[:-2]) if d != 1]
    sizes = [weight.shape[k] for k in batch]
    inner, scale = flattened(x, [mine])
    own = [x.axes[lead + k] for k in batch]
    wide = [np.repeat(v, d) if len(v) == 1 else v for v, d in zip(own, sizes, strict=True)]
    if [len(v) for v in wide] != sizes:
        raise UnknownError("operands do not fit")
    places = product(wide)
    labels = np.stack([np.where(inner == ZERO, ZERO, mix(inner, int(p))) for p in places])
    rows = Rows(
        weight, Shaping((*batch, outs), (theirs,)), labels,
        None if scale is None else np.broadcast_to(scale, labels.shape), None,
    )  # fmt: skip
    tag = key("batched", x.tag, mine, outs - len(weight.shape), batch)
    apart = at.registry.is_shared(at.node, [k for k, a in enumerate(at.args) if a is weight])
    names = at.registry.name_rows(at.node.name, tag, rows, apart)
    count = weight.shape[outs]
    split = at.registry.split(key("rows", tag), names.reshape(*sizes, count))
    found = [no_zero(v) for v in x.axes]
    found[mine] = split[-1]
    for k, labels_of in zip(batch, split[:-1], strict=True):
        found[lead + k] = labels_of
    return Value(tag, tuple(found))


@rules("Einsum")
def _einsum(at: At) -> Sequence[Term]:
    equation = str(at.node.attr("equation", "")).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    letters = [list(t) for t in terms.split(",")]
    if not arrow or "." in equation or len(letters) != 2 or len(at.args) != 2:
        raise UnknownError(f"the equation '{equation}'")
    if any(len(set(t)) < len(t) for t in [*letters, list(result)]):
        raise UnknownError("a repeated index")
    a, b = at.args
    if isinstance(a, Value) and isinstance(b, Value):
        return [pairs(at, a, b, letters[0], letters[1], list(result))]
    slot = 1 if isinstance(b, Const) else 0
    x, weight = (a, b) if slot else (b, a)
    mine, theirs = (letters[0], letters[1]) if slot else (letters[1], letters[0])
    if not isinstance(x, Value) or not isinstance(weight, Const):
        raise UnknownError("a product of constants")
    inner = [c for c in mine if c in theirs]
    free = [c for c in result if c in theirs]
    if any(c in result for c in inner) or len(inner) + len(free) < len(theirs):
        raise UnknownError(f"the equation '{equation}'")
    if any(c not in result and c not in inner for c in mine):
        raise UnknownError(f"the equation '{equation}'")
    if x.scale is not None and mine[x.scale[0]] not in inner:
        x = x.settled()
    tag = key("einsum", equation, slot, x.tag)
    axes = [mine.index(c) for c in inner]
    shaping = Shaping(tuple(theirs.index(c) for c in free), tuple(theirs.index(c) for c in inner))
    rows = contracted(at, x, weight, shaping, axes, tag)
    labels: dict[str, Labels] = {c: no_zero(x.axes[k]) for k, c in enumerate(mine)}
    if len(free) == 1:
        labels[free[0]] = rows
    elif free:
        sizes = [weight.shape[theirs.index(c)] for c in free]
        split = at.registry.split(key("rows", tag), rows.reshape(sizes))
        labels |= dict(zip(free, split, strict=True))
    else:
        tag = key(tag, "row", int(rows[0]))
    return [Value(tag, tuple(labels[c] for c in result))]
