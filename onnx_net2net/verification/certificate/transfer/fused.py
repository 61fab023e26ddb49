"""Fused forms, read as the chain of their parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_net2net.inference.size_rules import is_open
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.names import key, positions
from onnx_net2net.verification.certificate.transfer.attention import asked, named, opaque_output
from onnx_net2net.verification.certificate.transfer.base import RULES, At, rules
from onnx_net2net.verification.certificate.transfer.elementwise import combine
from onnx_net2net.verification.certificate.transfer.movement import transposed


def part(at: At, op: str, args: Sequence[Term | None], slots: Sequence[int] = ()) -> Term:
    """What a plain operator makes of some operands, with the attributes of the fused one.

    Args:
        slots: the node's inputs that the operands come from, where they are tables.
    """
    inputs = tuple(at.node.inputs[k] for k in slots) or at.node.inputs
    node = replace(at.node, op=op, inputs=inputs, outputs=at.node.outputs[:1])
    attributes = {**at.attributes, "fused": at.node.op}
    return RULES[op](replace(at, node=node, args=tuple(args), attributes=attributes))[0]


def _argument(at: At, slot: int) -> Term | None:
    return at.args[slot] if at.has(slot) else None


@rules("com.microsoft.SkipLayerNormalization com.microsoft.SkipSimplifiedLayerNormalization")
def _skip_norm(at: At) -> Sequence[Term]:
    """Data, what is added, scale, shift (not simplified), bias -> result, statistics, sum."""
    simple = "Simplified" in at.node.op
    terms = [_argument(at, k) for k in (0, 1, 3 if simple else 4)]
    x = combine(key("skip sum"), [t for t in terms if t is not None], "all")
    op = "SimplifiedLayerNormalization" if simple else "LayerNormalization"
    params = [_argument(at, 2), None if simple else _argument(at, 3)]
    found: list[Term] = [part(at, op, [x, *params])]
    return [
        *found,
        *(x if k == 3 else opaque_output(at, k) for k in range(1, len(at.node.outputs))),
    ]


@rules("com.microsoft.EmbedLayerNormalization")
def _embedded(at: At) -> Sequence[Term]:
    """Ids, segments, three tables, scale, shift, mask, positions -> result, mask index, sum."""
    places = at.const(3)
    if places is None:
        raise UnknownError("no table of positions")
    parts = [part(at, "Gather", [_argument(at, 2), at.value(0)], (2, 0))]
    if at.has(1) and at.has(4):
        parts.append(part(at, "Gather", [at.const(4), at.value(1)], (4, 1)))
    if at.has(8):
        parts.append(part(at, "Gather", [places, at.value(8)], (3, 8)))
    else:
        parts.append(_from_the_front(at, places))
    x = combine(key("embedded"), parts, "all")
    found: list[Term] = [part(at, "LayerNormalization", [x, _argument(at, 5), _argument(at, 6)])]
    if len(at.node.outputs) > 1:
        index = Value(key("mask index", at.name(), named(at, [7])), None)
        if asked(at, 1):
            index = replace(index, labels=tuple(positions(d) for d in at.out(1)))
        found.append(index)
    return [*found, *[x] * (len(at.node.outputs) > 2)]


def _from_the_front(at: At, table: Const) -> Term:
    """The first rows of a table, as many as there are positions."""
    count = at.out()[1]
    if at.open is None or not is_open(at.open.out()[1:2]):
        return Const.of(table.array()[:count])
    rows = Value(key("from the front"), (positions(count),))
    return part(at, "Gather", [table, rows], (3, 3))


@rules("com.microsoft.FusedMatMul com.microsoft.TransposeMatMul")
def _fused_matmul(at: At) -> Sequence[Term]:
    if at.node.attr("transBatchA", 0) or at.node.attr("transBatchB", 0):
        raise UnknownError("batch axes that are transposed")
    terms = [_flipped(at, k, n) for k, n in enumerate(("transA", "transB"))]
    found = part(at, "MatMul", terms)
    factor = float(at.node.attr("alpha", 1.0))
    if not isinstance(found, Value):
        raise UnknownError("a product of constants")
    return [found if factor == 1 else replace(found, tag=key("alpha", factor, found.tag))]


def _flipped(at: At, slot: int, attribute: str) -> Term | None:
    """An operand with its last two axes exchanged where the node says so."""
    term = at.args[slot]
    if term is None or not at.node.attr(attribute, 0) or len(term.shape) < 2:
        return term
    perm = [*range(len(term.shape) - 2), len(term.shape) - 1, len(term.shape) - 2]
    if isinstance(term, Value):
        return transposed(term, perm, at.registry)
    array = term.array
    shape = [term.shape[p] for p in perm]
    return Const(
        key("transposed", term.key), shape, term.dtype,
        lambda: np.ascontiguousarray(array().transpose(perm)),
    )  # fmt: skip
