"""Rotary embeddings, linear attention, causal convolutions, tables of relative positions."""

from __future__ import annotations

from collections.abc import Mapping

from onnx_net2net.errors import Reason
from onnx_net2net.operators.families.attention import ACROSS, WIDTHS, heads
from onnx_net2net.operators.spec import RowError, Site, blocked, rule


def _cosines(site: Site) -> int:
    return 2 if "." in site.node.op else 1


def _head_width(site: Site) -> int:
    width, count = site.dims(0)[-1], int(site.attr("num_heads", 0))
    if width is None:
        raise RowError("the width of a head is known only at run time", Reason.RUNTIME)
    if site.rank(0) == 4:
        return width
    return width // count if count else 2 * (site.dims(_cosines(site))[-1] or 0)


def _rotary(site: Site) -> str:
    """Pairs that turn together stay together; where some positions do not turn, none may grow."""
    whole = int(site.attr("rotary_embedding_dim", 0)) in (0, _head_width(site))
    pairs = "d q" if site.attr("interleaved", 0) else "q d"
    head, half = (pairs, "d") if whole else ("y", "w")
    ours = site.node.op == "RotaryEmbedding"
    s = "s" if site.rank(3 if ours else 1) == 2 or (ours and site.rank(1) == 3) else "x"
    x = f"b {s} (h {head})" if site.rank(0) == 3 else f"b h {s} ({head})"
    x = x.replace("(y)", "y")
    cache = f"b {s} {half}" if site.rank(_cosines(site)) == 3 else f"t {half}"
    ids = f"b {s}" if site.rank(3 if ours else 1) == 2 else "~"
    return (
        f"{x}, {cache}, {cache}, {ids} -> {x}" if ours else f"{x}, {ids}, {cache}, {cache} -> {x}"
    )


def _rotary_sizes(site: Site) -> Mapping[str, int]:
    width, last = _head_width(site), site.dims(0)[-1] or 0
    flat = {"h": last // max(width, 1), "y": width} if site.rank(0) == 3 else {}
    return {"q": 2, **flat}


def _rotary_attributes(site: Site) -> Mapping[str, str]:
    wanted = {"rotary_embedding_dim": "q d", "num_heads": "h"}
    return {name: word for name, word in wanted.items() if site.attr(name, 0)}


rule(
    "RotaryEmbedding com.microsoft.RotaryEmbedding",
    notation=_rotary,
    sizes=_rotary_sizes,
    roles={**ACROSS, "q": "across"},
    attributes=_rotary_attributes,
    offers=WIDTHS,
    zero=(0,),
)
rule(
    "com.microsoft.GemmaRotaryEmbedding com.microsoft.MRotaryEmbedding com.microsoft.RMSNormRotary",
    notation=blocked("turns pairs in a layout that this row does not describe"),
)


def _linear_attention(site: Site) -> str:
    if not heads(site) or site.attr("state_window", 0):
        raise RowError("fewer heads of queries than of keys, or a window of states")
    decay = "b t g" if site.has(4) and site.dims(4)[-1] == heads(site)["g"] else "b t (g y)"
    state = "b g y v"
    return f"b t (g r y), b t (g y), b t (g v), {state}, {decay}, b t g -> b t (g r v), {state}"


rule(
    "LinearAttention com.microsoft.LinearAttention",
    notation=_linear_attention,
    sizes=heads,
    roles=ACROSS,
    attributes={"q_num_heads": "g r", "kv_num_heads": "g"},
    offers=WIDTHS,
)


def _causal(site: Site) -> str:
    unusual = ("channels_last", "state_window", "state_update_capacity", "input_channels")
    if any(site.attr(a, 0) for a in unusual) or site.attr("ndim", 1) != 1:
        raise RowError("a state or channels in another order")
    return "b c x, c 1 y, c, b c z -> b c x, b c z"


rule(
    "CausalConvWithState com.microsoft.CausalConvWithState",
    notation=_causal,
    roles=ACROSS,
    zero=(2, 3),
)
rule(
    "com.microsoft.ConvStateReplay com.microsoft.GatedDeltaNet "
    "com.microsoft.GatedDeltaNetStateReplay com.microsoft.LinearAttentionGate "
    "com.microsoft.Mamba2Verify com.microsoft.VarlenCausalConvWithState "
    "com.microsoft.GatedRelativePositionBias",
    notation=blocked("carries a state whose layout this row does not describe"),
)
rule("com.microsoft.RelativePositionBias", notation="t h, ~, ~ -> 1 h x y", roles=ACROSS, zero=(0,))


def _scattered(site: Site) -> str:
    rank = site.rank(0)
    axis = int(site.attr("axis", -2)) % rank
    before = [f"x{k}" if k == axis else f"a{k}" for k in range(rank)]
    update = [f"y{k}" if k == axis else f"a{k}" for k in range(rank)]
    return f"{' '.join(before)}, {' '.join(update)}, a0 -> {' '.join(before)}"


rule("TensorScatter", notation=_scattered, roles=ACROSS, zero=(0, 1))
