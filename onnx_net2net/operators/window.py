"""Pooling, resampling and rearranging over the spatial axes; channels pass."""

from __future__ import annotations

from collections.abc import Mapping


from onnx_net2net.operators.rule import Grown, Site, Slot, rule


def _pool(site: Site) -> str:
    if len(site.node.outputs) > 1 and site.node.outputs[1]:
        raise LookupError("its second output holds flat positions that count channels")
    return "n c * -> n c *"


rule("MaxPool", notation=_pool, zero=True)
rule(
    "AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool",
    notation="n c * -> n c *",
    zero=True,
)
rule("GridSample", notation="n c *, n * -> n c *", zero=True)
rule("RoiAlign MaxRoiPool", notation="x c *, r *, r -> r c *", roles={"x": "across"}, zero=True)


def _resize(site: Site) -> str:
    """Axes that keep their length pass, the others are resampled."""
    before, after = site.dims(0), site.out_dims(0)
    names = [f"a{k}" if d == after[k] else f"x{k}" for k, d in enumerate(before)]
    out = [f"a{k}" if d == after[k] else f"y{k}" for k, d in enumerate(before)]
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
    zero=True,
)
rule("Upsample", notation=_resize, roles={"x": "across", "y": "across"}, zero=True)


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
    zero=True,
)
rule(
    "SpaceToDepth",
    notation="n c (h p) (w q) -> n (p q c) h w",
    sizes=_blocks,
    roles={"p": "across", "q": "across"},
    zero=True,
)
