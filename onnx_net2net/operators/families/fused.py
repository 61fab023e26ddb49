"""Fused forms that com.microsoft adds: sums with a norm or an activation behind them."""

from __future__ import annotations

from collections.abc import Mapping

from onnx_net2net.errors import Reason
from onnx_net2net.operators.spec import RowError, Site, blocked, rule

_ACROSS = dict.fromkeys("wxyz", "across")
_HALVES = {"q": "across"}


def _two(site: Site) -> Mapping[str, int]:
    return {"q": 2}


rule("SwiGLU", notation="..., ... -> ...", zero=())
rule(
    "com.microsoft.SwiGLU",
    notation=lambda s: "..., ... -> ..." if s.has(1) else "... (q c) -> ... c",
    sizes=_two,
    roles=_HALVES,
)
rule("com.microsoft.ScaledSiLU", notation="..., ~ -> ...", zero=())
rule("com.microsoft.BiasAdd", notation="n s c, c, n s c -> n s c", zero=(1, 2))
rule("com.microsoft.BiasSplitGelu", notation="n s (q c), (q c) -> n s c", sizes=_two, roles=_HALVES)
rule(
    "com.microsoft.ComplexMul com.microsoft.ComplexMulConj",
    notation="... q, ... q -> ... q",
    roles=_HALVES,
    zero=(),
)
rule(
    "com.microsoft.GatedAdd",
    notation=lambda s: "... c, ... c, ... k, k 1 -> ... c" if s.has(3) else "..., ..., ... -> ...",
    roles={"k": "sum"},
)


def _dropout(site: Site) -> str:
    """Bias and residual are added; drawn only in training."""
    op = site.node.op.rpartition(".")[2]
    before = {"BitmaskDropout": 1}.get(op, 3)
    flag = before + 1
    if site.has(flag) and (site.values[flag] is None or site.values[flag].any()):  # type: ignore[union-attr]
        raise RowError("it draws at run time when training", Reason.RUNTIME)
    if op.startswith("Bitmask") and site.gives(1):
        raise RowError("a mask whose bits are packed")
    return ", ".join(["..."] * before) + ", ~, ~ -> ..., ..."


rule(
    "com.microsoft.BiasDropout com.microsoft.BitmaskBiasDropout com.microsoft.BitmaskDropout",
    notation=_dropout,
)

# norms

rule(
    "com.microsoft.SkipLayerNormalization",
    notation="... m, ... m, m, m, m -> ... m, ... 1, ... 1, ... m",
    roles={"m": "mean"},
)
rule(
    "com.microsoft.SkipSimplifiedLayerNormalization",
    notation="... m, ... m, m, m -> ... m, ... 1, ... 1, ... m",
    roles={"m": "mean"},
)


def _embedded(site: Site) -> str:
    """Word, position and segment tables, each picked from by run-time indices."""
    placed = site.has(8) and site.node.op == "com.microsoft.EmbedLayerNormalization"
    s = "s" if placed else "x"
    ids = f"b {s}"
    ins = [ids, ids, "w m", "y m", "z m", "m", "m", ids, ids if placed else "~"]
    return f"{', '.join(ins)} -> b {s} m, b, b {s} m"


rule(
    "com.microsoft.EmbedLayerNormalization com.microsoft.QEmbedLayerNormalization",
    notation=_embedded,
    roles={**_ACROSS, "m": "mean"},
    typed={0: 5, 1: 0, 2: 5},
)


def _groups(site: Site) -> Mapping[str, int]:
    return {"g": int(site.attr("groups", 1))}


def _group_norm(site: Site) -> str:
    last, c = site.attr("channels_last", 1), "(g c)"
    x = f"n * {c}" if last else f"n {c} *"
    skip = f"n {c}" if site.rank(3) == 2 else x
    return f"{x}, {c}, {c}, {skip}, {c} -> {x}, {x}"


rule(
    "com.microsoft.GroupNorm com.microsoft.SkipGroupNorm",
    notation=_group_norm,
    sizes=_groups,
    roles={"c": "mean"},
    attributes={"groups": "g"},
)
rule(
    "com.microsoft.GatedRMSNorm",
    notation="... (h c), c, ... (h c) -> ... (h c)",
    sizes=lambda s: {"c": s.dims(1)[-1] or 1},
    roles={"c": "mean"},
)


def _branches(site: Site) -> Mapping[str, int]:
    count = site.attr("num_branches", 0)
    return {"c": int(count)} if count else {}


def _branch(site: Site) -> str:
    """Branches stand on an axis of their own, or flat where their number is an attribute."""
    return "(c h)" if site.attr("num_branches", 0) else "c h"


def _held_branches(site: Site) -> Mapping[str, str]:
    return {"num_branches": "c"} if site.attr("num_branches", 0) else {}


def _branch_norm(site: Site) -> str:
    x = f"... {_branch(site)}"
    dims, width = site.dims(1) if site.has(1) else (), site.dims(0)[-1]
    scale = "c h" if len(dims) == 2 else "(c h)"
    if len(dims) == 1 and not (site.attr("num_branches", 0) and dims[0] == width):
        scale = "h"
    if len(dims) == 1 and not site.attr("num_branches", 0) and dims[0] != width:
        scale = "(c h)"
    return f"{x}, {scale} -> {x}"


rule(
    "com.microsoft.BranchwiseRMSNorm",
    notation=_branch_norm,
    sizes=_branches,
    roles={"h": "mean"},
    attributes=_held_branches,
)


def _pre_mix(site: Site) -> str:
    if site.attr("num_branches", 0):
        raise RowError("branches that lie end to end")
    gates = "... c h" if site.rank(1) == site.rank(0) else "... c"
    return f"... c h, {gates} -> ... h"


def _post_mix(site: Site) -> str:
    if site.attr("num_branches", 0):
        raise RowError("branches that lie end to end")
    c = "x" if site.has(3) else "c"
    gates = f"... {c} h" if site.rank(2) == site.rank(0) else f"... {c}"
    return f"... {c} h, ... h, {gates}, ... {c} {c} -> ... {c} h"


rule("com.microsoft.HyperConnectionPreMix", notation=_pre_mix)
rule("com.microsoft.HyperConnectionPostMix", notation=_post_mix, roles=_ACROSS)
rule(
    "com.microsoft.EngramGate",
    notation="b s m x, b s m x, b s x, m x, m x, m x -> b s m x, b s m x",
    roles=_ACROSS,
)
rule(
    "com.microsoft.BiasSoftmax com.microsoft.HyperConnectionLowRankMix "
    "com.microsoft.RouterGateUpProj",
    notation=blocked("fuses a product and a softmax in a layout that this row does not describe"),
)
