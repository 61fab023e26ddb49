"""Reductions: what a reduced axis asks of its copies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onnx_net2net.graph.model import Node
from onnx_net2net.operators.intervals import fixed, kept, mean, signed_total
from onnx_net2net.operators.spec import Evening, Site, rule


def _axes(site: Site) -> list[int]:
    rank = len(site.dims(0))
    axes = site.ints(1, "axes")
    if not axes:
        return [] if site.attr("noop_with_empty_axes", 0) else list(range(rank))
    return [a % rank for a in axes]


def _reduce(site: Site) -> str:
    rank, axes, keep = len(site.dims(0)), _axes(site), site.attr("keepdims", 1)
    before = [f"r{k}" if k in axes else f"a{k}" for k in range(rank)]
    after = ["1" if k in axes else f"a{k}" for k in range(rank) if keep or k not in axes]
    return " ".join(before) + " -> " + " ".join(after)


def _folded(f: Any) -> Any:
    def fold(node: Node, args: list[Any]) -> list[Any]:
        axes = args[1] if len(args) > 1 and args[1] is not None else node.attr("axes")
        if axes is None or len(np.atleast_1d(axes)) == 0:
            if node.attr("noop_with_empty_axes", 0):
                return [args[0]]
            axes = range(args[0].ndim)
        at = tuple(int(a) for a in np.atleast_1d(np.asarray(list(axes))))
        r = f(args[0], axis=at, keepdims=bool(node.attr("keepdims", 1)))
        return [np.asarray(r).astype(args[0].dtype)]

    return fold


rule(
    "ReduceSum",
    notation=_reduce,
    roles={"r": "sum"},
    zero=(),
    fold=_folded(np.sum),
    range=signed_total,
)
rule(
    "ReduceMean",
    notation=_reduce,
    roles={"r": "mean"},
    zero=(),
    pads={"mean": "", "zero": ""},
    fold=_folded(np.mean),
    blends=True,
    range=mean,
)
for _name, _f in (("ReduceMax", np.max), ("ReduceMin", np.min)):
    rule(
        _name,
        notation=_reduce,
        roles={"r": "max"},
        zero=(),
        fold=_folded(_f),
        blends=True,
        range=kept,
    )
rule("ReduceProd", notation=_reduce, roles={"r": "across"}, fold=_folded(np.prod))
_LENGTH = fixed(0.0, math.inf)
for _name, _even, _fields in (
    ("ReduceL1", Evening(("Div", np.asarray)), {"range": _LENGTH}),
    ("ReduceL2", Evening(("Div", np.sqrt)), {"range": _LENGTH}),
    ("ReduceSumSquare", Evening(("Div", np.sqrt)), {"range": _LENGTH}),
    ("ReduceLogSum", Evening(("Div", np.asarray)), {"partial": (0,)}),
    ("ReduceLogSumExp", Evening(("Sub", np.log)), {}),
):
    rule(_name, notation=_reduce, roles={"r": "max"}, evens={"r": _even}, **_fields)


def _arg(site: Site) -> str:
    rank, keep = len(site.dims(0)), site.attr("keepdims", 1)
    axis = int(site.attr("axis", 0)) % max(rank, 1)
    before = [f"r{k}" if k == axis else f"a{k}" for k in range(rank)]
    after = ["1" if k == axis else f"a{k}" for k in range(rank) if keep or k != axis]
    return " ".join(before) + " -> " + " ".join(after)


# Copies are equal but for rounding, which may well be another column's in a matrix product:
# of such equals the first is not always the one that is picked.
rule("ArgMax ArgMin", notation=_arg, roles={"r": "across"})
