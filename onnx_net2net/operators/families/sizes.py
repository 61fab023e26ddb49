"""Operators that read or make sizes and positions: shape arithmetic lives here."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_net2net.graph.model import Node
from onnx_net2net.operators.spec import Block, Grown, Site, Slot, rule


def _shape(node: Node, args: list[Any]) -> list[Any]:
    shape = np.array(args[0].shape, np.int64)
    return [shape[slice(node.attr("start", 0), node.attr("end"))]]


rule("Shape", notation="~ ->", sized=True, fold=_shape)
rule(
    "Size",
    notation="~ ->",
    sized=True,
    fold=lambda node, args: [np.array(args[0].size, np.int64)],
)


def _made(site: Site) -> list[Block]:
    """Every axis is made here, so any rows will do."""
    return [
        Block((), ((0, k),), np.full(d, -1))
        for k, d in enumerate(site.out_dims(0))
        if d is not None
    ]


def _out_dims(g: Grown) -> list[int] | None:
    sizes = g.teacher.ints(0)
    return sizes and [g.out_size(0, k) or 0 for k in range(len(sizes))]


def _filled(node: Node, args: list[Any]) -> list[Any]:
    value = node.attr("value")
    if value is None:
        return [np.zeros(args[0], np.float32)]
    from onnx.numpy_helper import to_array

    fill = to_array(value)
    return [np.full(args[0], fill.reshape(-1)[0], fill.dtype)]


rule("ConstantOfShape", movement=_made, slots=(Slot(_out_dims, input=0),), fold=_filled, zero=())
rule(
    "Range",
    roles={"x": "across"},
    notation="-> x",
    fold=lambda node, args: [np.arange(*(a.reshape(()) for a in args), dtype=args[0].dtype)],
)
rule("com.microsoft.Range", like="Range")
rule("com.microsoft.Unique", like="Unique")
rule("OneHot EyeLike NonZero Unique NonMaxSuppression DFT STFT Det Col2Im CenterCropPad")
