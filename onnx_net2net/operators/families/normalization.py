"""Normalizations and softmaxes: what they average over needs equal counts."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from onnx_net2net.operators.intervals import SLACK, fixed, kept
from onnx_net2net.operators.spec import Evening, Site, rule


def _batch(site: Site) -> str:
    training = site.attr("training_mode", int(len([o for o in site.node.outputs if o]) > 1))
    data = "x c *" if training else "n c ..."
    return f"{data}, c, c, c, c -> {data}, c, c, c, c"


rule(
    "BatchNormalization",
    notation=_batch,
    roles={"x": "across"},
    zero=(2,),
    zero_keeps=(1, 4),
    behind_layer=True,
)
rule(
    "InstanceNormalization",
    notation="n c *, c, c -> n c *",
    roles={"*": "mean"},
    zero=(2,),
    zero_keeps=(1,),
    behind_layer=True,
)


def _last_axes(site: Site) -> str:
    """Axes from `axis` on are averaged over; scale and bias have their shape."""
    rank = len(site.dims(0))
    axis = int(site.attr("axis", -1)) % rank
    kept, mean = [f"a{k}" for k in range(axis)], [f"m{k}" for k in range(axis, rank)]
    x, w, ones = " ".join(kept + mean), " ".join(mean), " ".join(kept + ["1"] * len(mean))
    return f"{x}, {w}, {w} -> {x}, {ones}, {ones}"


rule(
    "LayerNormalization",
    notation=_last_axes,
    roles={"m": "mean"},
    pads={"mean": "zero"},
    rescaled=1,
)
rule(
    "RMSNormalization",
    notation=_last_axes,
    roles={"m": "mean"},
    pads={"zero": "zero"},
    rescaled=1,
)
rule(
    "SimplifiedLayerNormalization",
    notation=_last_axes,
    roles={"m": "mean"},
    like="LayerNormalization",
    pads={"zero": "zero"},
    rescaled=1,
)


def _groups(site: Site) -> Mapping[str, int]:
    return {"g": int(site.attr("num_groups", 1))}


rule(
    "GroupNormalization",
    notation=lambda s: (
        "n (g c) *, (g c), (g c) -> n (g c) *"
        if s.node.version >= 21
        else "n (g c) *, g, g -> n (g c) *"
    ),
    sizes=_groups,
    roles={"c": "mean"},
    attributes={"num_groups": "g"},
    behind_layer=True,
)
rule("LRN", notation="n x * -> n x *", roles={"x": "across"})


def along(default: int) -> object:
    """A notation that works across one axis, given by attribute `axis`; the others pass."""

    def notation(site: Site) -> str:
        rank = len(site.dims(0))
        axis = int(site.attr("axis", default)) % max(rank, 1)
        names = " ".join(f"{'x' if k == axis else 'a'}{k}" for k in range(rank))
        return f"{names} -> " + ", ".join([names] * len(site.node.outputs))

    return notation


def _softmax(site: Site) -> str:
    rank = len(site.dims(0))
    if site.node.version >= 13:
        return str(along(-1)(site))  # type: ignore[operator]
    axis = int(site.attr("axis", 1)) % max(rank, 1)  # flattened to two axes before opset 13
    names = " ".join(f"{'x' if k >= axis else 'a'}{k}" for k in range(rank))
    return f"{names} -> {names}"


rule(
    "Softmax",
    notation=_softmax,
    evens={"x": Evening(("Sub", np.log), ("Mul", np.asarray))},
    same_shape=True,
    range=fixed(0.0, 1.0 + SLACK),
)
rule(
    "LogSoftmax",
    notation=_softmax,
    evens={"x": Evening(("Sub", np.log), ("Add", np.log))},
    same_shape=True,
    range=fixed(-math.inf, SLACK),
)
rule(
    "Hardmax",
    notation=_softmax,
    roles={"x": "across"},
    same_shape=True,
    range=fixed(0.0, 1.0),
)


def _lp(site: Site) -> Mapping[str, Evening]:
    p = int(site.attr("p", 2))
    return {"x": Evening(("Div", lambda r: r ** (1 / p)), ("Mul", lambda r: r ** (1 / p)))}


rule("LpNormalization", notation=along(-1), evens=_lp)
rule("TopK", notation=along(-1), roles={"x": "across"}, blends=True, range=kept)


def _cumulative(site: Site) -> str:
    rank = len(site.dims(0))
    axes = site.ints(1)
    axis = (axes[0] if axes else 0) % max(rank, 1)
    names = " ".join(f"{'x' if k == axis else 'a'}{k}" for k in range(rank))
    return f"{names} -> {names}"


rule("CumSum CumProd", notation=_cumulative, roles={"x": "across"})


def _mean_variance(site: Site) -> str:
    rank = len(site.dims(0))
    axes = {int(a) % rank for a in site.attr("axes", [0, 2, 3])}
    names = " ".join(f"{'m' if k in axes else 'a'}{k}" for k in range(rank))
    return f"{names} -> {names}"


rule("MeanVarianceNormalization", notation=_mean_variance, roles={"m": "mean"})
