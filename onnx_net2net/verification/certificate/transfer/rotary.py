"""Rotary embeddings: positions of a head turn in pairs, each by the tables' column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_net2net.verification.certificate.domain import Term, UnknownError, Value
from onnx_net2net.verification.certificate.names import (
    ZERO,
    Labels,
    key,
    label_digest,
    mix,
    positions,
)
from onnx_net2net.verification.certificate.transfer.attention import by_head, named
from onnx_net2net.verification.certificate.transfer.base import At, rules


@rules("RotaryEmbedding com.microsoft.RotaryEmbedding")
def _rotary(at: At) -> Sequence[Term]:
    """X, cosines, sines, positions; com.microsoft has the positions second."""
    x = at.value()
    cos, sin, ids = (1, 2, 3) if at.node.op == "RotaryEmbedding" else (2, 3, 1)
    table = at.args[cos]
    if table is None or len(x.axes) not in (3, 4):
        raise UnknownError("heads packed in a layout of their own")
    half, count = table.shape[-1], int(at.node.attr("num_heads", 0))
    last = x.axes[-1]
    if len(x.axes) == 4:
        count = 1
    elif not count and cos == 2:
        count = len(last) // max(2 * half, 1)
    if count < 1 or len(last) % count:
        raise UnknownError("a width that is no multiple of the heads")
    width = len(last) // count
    turned = int(at.node.attr("rotary_embedding_dim", 0)) or width
    if turned != 2 * half or turned > width:
        raise UnknownError("tables of another width")
    names, columns = zip(*(by_head(at, slot, -1, half) for slot in (cos, sin)), strict=True)
    known = [c[0] for c in columns if c] or [positions(half)]
    by_column = mix(key("columns"), *known)
    pairs = bool(at.node.attr("interleaved", 0))
    flat = np.concatenate([_turned(h, by_column, pairs) for h in last.reshape(count, width)])
    batch, places = (0, 2) if len(x.axes) == 4 else (0, 1)
    fixed = [label_digest(x.axes[a]) for a in (batch, places)]
    name = at.name("num_heads", "rotary_embedding_dim")
    tag = key("rotary", name, x.tag, fixed, len(x.axes), named(at, [ids]), names)
    labels = [positions(len(v)) for v in x.axes]
    labels[-1] = flat
    if len(x.axes) == 4:
        labels[1] = x.axes[1]
    return [Value(tag, tuple(labels))]


def _turned(head: Labels, columns: Labels, pairs: bool) -> Labels:
    """Labels of one head's positions; those behind the turned ones stay."""
    half = len(columns)
    first = 2 * np.arange(half) if pairs else np.arange(half)
    second = first + (1 if pairs else half)
    still = (head[first] == ZERO) & (head[second] == ZERO)
    found = np.where(head == ZERO, ZERO, mix(key("not turned"), head))
    for k, at in enumerate((first, second)):
        turned = mix(key("turned", k), head[first], head[second], columns)
        found[at] = np.where(still, ZERO, turned)
    return found
