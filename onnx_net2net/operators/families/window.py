"""Pooling, resampling and rearranging over the spatial axes; channels pass."""

from __future__ import annotations

import math
from collections.abc import Mapping

from onnx_net2net.operators.intervals import fixed, kept, mean, resized
from onnx_net2net.operators.spec import Grown, RowError, Site, Slot, rule


def _pool(site: Site) -> str:
    if len(site.node.outputs) > 1 and site.node.outputs[1]:
        raise RowError("its second output holds flat positions that count channels")
    return "n c * -> n c *"


def _unpool(site: Site) -> str:
    raise RowError("its positions are flat and count channels")


rule("MaxUnpool", notation=_unpool)
_SPATIAL = dict.fromkeys("uvwxyz", "across")
rule("com.microsoft.NhwcMaxPool", notation="n u v c -> n y z c", roles=_SPATIAL)
rule("MaxPool", notation=_pool, zero=(), blends=True, range=kept)
rule(
    "AveragePool GlobalAveragePool",
    notation="n c * -> n c *",
    zero=(),
    blends=True,
    range=mean,
)
rule("GlobalMaxPool", notation="n c * -> n c *", zero=(), blends=True, range=kept)
rule("LpPool GlobalLpPool", notation="n c * -> n c *", zero=(), range=fixed(0.0, math.inf))
rule("GridSample", notation="n c *, n * -> n c *", zero=(0,))
rule("com.microsoft.GridSample", notation="n c u v, n y z w -> n c y z", roles=_SPATIAL, zero=(0,))
rule("com.microsoft.CropAndResize", notation="x c u v, r w, r, ~ -> r c y z", roles=_SPATIAL)
rule("RoiAlign MaxRoiPool", notation="x c *, r *, r -> r c *", roles={"x": "across"}, zero=(0,))


def _resize(site: Site) -> str:
    """Axes that keep their length at a scale of 1 pass, the others are resampled."""
    before, after = site.dims(0), site.out_dims(0)
    crops = site.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    slot = 1 if site.node.op == "Upsample" or site.node.version < 11 else 2
    scales = site.values[slot] if site.has(slot) else site.attr("scales")
    scale = [1.0] * len(before)
    if scales is not None and len(scales):
        for axis, s in zip(site.attr("axes", range(len(before))), scales, strict=False):
            scale[axis] = float(s)
    same = [a == b and s == 1 and not crops for a, b, s in zip(before, after, scale, strict=True)]
    names = [f"a{k}" if s else f"x{k}" for k, s in enumerate(same)]
    out = [f"a{k}" if s else f"y{k}" for k, s in enumerate(same)]
    return " ".join(names) + " -> " + " ".join(out)


def _sizes(g: Grown) -> list[int] | None:
    sizes = g.teacher.ints(3)
    if not sizes or not any(slot == 0 for slot, _ in g.outs):
        return None
    rank = len(g.teacher.out_dims(0))
    axes = [int(a) % rank for a in g.teacher.attr("axes", range(rank))]
    return [g.out_size(0, a) or v for a, v in zip(axes, sizes, strict=True)]


rule(
    "Resize",
    notation=_resize,
    roles={"x": "across", "y": "across"},
    slots=(Slot(_sizes, input=3),),
    zero=(),
    blends=True,
    range=resized,
)
rule(
    "Upsample",
    notation=_resize,
    roles={"x": "across", "y": "across"},
    zero=(),
    blends=True,
    range=resized,
)


def _blocks(site: Site) -> Mapping[str, int]:
    b = int(site.attr("blocksize", 1))
    return {"p": b, "q": b}


rule(
    "DepthToSpace",
    notation=lambda s: (
        "n (c p q) h w -> n c (h p) (w q)"
        if s.attr("mode", "DCR") == "CRD"
        else "n (p q c) h w -> n c (h p) (w q)"
    ),
    sizes=_blocks,
    roles={"p": "across", "q": "across"},
    zero=(),
    blends=True,
    range=kept,
)
rule(
    "SpaceToDepth",
    notation="n c (h p) (w q) -> n (p q c) h w",
    sizes=_blocks,
    roles={"p": "across", "q": "across"},
    zero=(),
    blends=True,
    range=kept,
)
