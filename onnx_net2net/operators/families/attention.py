"""Attention: heads and head widths are factors; a default scale is pinned to the old width.

Names: b batch, g heads of keys and values, r queries' heads for each of them, h heads where
both have as many, d width of a query's or key's head, v of a value's, s and t positions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

from onnx_net2net.operators.spec import RowError, Site, blocked, rule

# t, u, p: positions of keys; w, x, y, z: what is named so below is worked across
ACROSS = dict.fromkeys("tupwxyz", "across")
WIDTHS = {"g": "heads", "r": "heads", "h": "heads", "d": "qk", "v": "v"}


def heads(site: Site) -> Mapping[str, int]:
    """Heads that attributes give: of keys and values, and queries' for each."""
    query = int(site.attr("q_num_heads", 0) or site.attr("num_heads", 0))
    shared = int(site.attr("kv_num_heads", 0) or query)
    return {} if not query or query % shared else {"g": shared, "r": query // shared, "h": query}


def _scale(site: Site, parts: int = 1) -> float | None:
    """The default scale, 1 / sqrt(width of a head); None where the node gives one."""
    width = site.dims(0)[-1]
    if site.attr("scale", 0.0) or width is None:
        return None
    if site.rank(0) == 3:
        width //= heads(site)["h"] * parts
    return 1 / math.sqrt(width)


def _positions(site: Site, lengths: int) -> str:
    """Queries are treated alike unless their order counts."""
    ordered = site.attr("is_causal", 0) or site.attr("unidirectional", 0)
    windows = any(site.attr(a, -1) != -1 for a in ("left_window_size", "right_window_size"))
    return "x" if ordered or windows or site.has(lengths) else "s"


def _attention(site: Site) -> str:
    s, flat, cached = _positions(site, 6), site.rank(0) == 3, site.gives(1) or site.has(4)
    d = "y" if cached else "d"  # the cache passes keys on that the scores contract
    q, k, v, out = f"b (g r) {s} {d}", f"b g t {d}", "b g t v", f"b (g r) {s} v"
    if flat:
        q, k, v, out = f"b {s} (g r {d})", f"b t (g {d})", "b t (g v)", f"b {s} (g r v)"
    scores = f"b (g r) {s} u"
    present = f"b g u {d}, b g u v, {scores}"
    return f"{q}, {k}, {v}, {scores}, b g p {d}, b g p v, b -> {out}, {present}"


def _attention_sizes(site: Site) -> Mapping[str, int]:
    if site.rank(0) == 3:
        return heads(site)
    query, shared = site.dims(0)[1], site.dims(1)[1]
    return {"g": shared, "r": query // shared} if query and shared else {}


rule(
    "Attention",
    notation=_attention,
    sizes=_attention_sizes,
    roles=ACROSS,
    offers=WIDTHS,
    attributes=lambda s: {"q_num_heads": "g r", "kv_num_heads": "g"} if s.rank(0) == 3 else {},
    pins={"scale": ("d", _scale)},
)


def _mask(site: Site, slot: int) -> tuple[str, str]:
    """The axes of a padding mask, and what to call the batch."""
    rank = site.rank(slot)
    if not site.has(slot) or rank > 1:
        return {3: "b s t", 4: "b ~"}.get(rank, "b t"), "b"
    return "~", "w"  # lengths, or lengths and offsets end to end


def _multi_head(site: Site) -> str:
    if 5 in (site.rank(0), site.rank(1)):
        raise RowError("queries, keys and values packed in one")
    if site.has(8) or site.has(9):
        raise RowError("a cache buffer that is shared")
    s, (mask, b) = _positions(site, 99), _mask(site, 4)
    # the bias and the cache pass widths on that the scores contract
    cached = site.rank(1) == 4 or site.has(6)
    d = "y" if site.has(3) or cached or site.gives(1) else "d"
    width = "z" if cached else "v"  # the cache asks for one width
    k = f"{b} h t {d}" if site.rank(1) == 4 else f"{b} t (h {d})"
    v = f"{b} h t {width}" if site.rank(2) == 4 else f"{b} t (h {width})"
    bias, scores = f"(h {d} + h {d} + h {width})", f"{b} h {s} u"
    ins = f"{b} {s} (h {d}), {k}, {v}, {bias}, {mask.replace('s', s)}, {scores}"
    out = f"{b} {s} (h {width}), {b} h u {d}, {b} h u {width}, {scores}"
    return f"{ins}, {b} h p {d}, {b} h p {width} -> {out}"


def _multi_head_sizes(site: Site) -> Mapping[str, int]:
    found, width = dict(heads(site)), site.dims(0)[-1]
    if site.rank(0) == 3 and width:
        found["y"] = found["d"] = width // found["h"]
        values = site.dims(2) if site.has(2) else (None,)
        if values[-1]:
            found["v"] = found["z"] = values[-1] // (1 if len(values) == 4 else found["h"])
    return found


rule(
    "com.microsoft.MultiHeadAttention",
    notation=_multi_head,
    sizes=_multi_head_sizes,
    roles=ACROSS,
    offers=WIDTHS,
    attributes={"num_heads": "h"},
    pins={"scale": ("d", _scale)},
)


def _grouped(site: Site) -> str:
    if "PER_CHANNEL" in (site.attr("k_quant_type", ""), site.attr("v_quant_type", "")):
        raise RowError("a cache quantised by channel")
    q = "b x (g r y)" if site.has(1) else "b x (g r y + g y + g y)"
    scores, cache = "b (g r) x u", "b g p z"
    rope = "~, ~, b ~"
    ins = [q, "b t (g y)", "b t (g y)", cache, cache, "b", "~", rope, scores, "(g r)"]
    out = f"b x (g r y), {cache}, {cache}, {scores}"
    return f"{', '.join(ins)}, ~, ~, ~, ~, b -> {out}"


def _grouped_sizes(site: Site) -> Mapping[str, int]:
    found, width = dict(heads(site)), site.dims(0)[-1]
    parts = found["h"] + (0 if site.has(1) else 2 * found["g"])
    return {**found, "y": width // parts} if width else found


rule(
    "com.microsoft.GroupQueryAttention",
    notation=_grouped,
    sizes=_grouped_sizes,
    roles=ACROSS,
    offers=WIDTHS,
    attributes={"num_heads": "g r", "kv_num_heads": "g"},
)


def _packed(site: Site, slots: tuple[int, ...]) -> str:
    """One weight for queries, keys and values, end to end. `slots`: mask, past, scores' bias."""
    mask_at, past_at, bias_at = slots
    s, (mask, b) = "x", _mask(site, mask_at)  # queries and keys are the same positions
    v = "y" if site.has(past_at) or site.gives(1) or not bias_at else "v"
    weights = f"(h y + h y + h {v})"
    past = f"z {b} h p y"
    mask = mask.replace("s", s)
    out = f"{b} {s} (h {v}), z {b} h u y"
    if bias_at:
        scores = f"{b} h {s} u"
        return f"{b} {s} i, i {weights}, {weights}, {mask}, {past}, {scores} -> {out}"
    scale = weights if len(site.dims(4)) and site.dims(4) != (1,) else "~"
    zero = weights if site.rank(7) and site.dims(7) != (1,) else "~"
    ins = f"{b} {s} i, i {weights}, {weights}, ~, {scale}, {mask}, ~, {zero}, {past}"
    return f"{ins} -> {out}"


def _packed_sizes(site: Site) -> Mapping[str, int]:
    count, total = heads(site)["h"], site.dims(1)[-1]
    given = site.attr("qkv_hidden_sizes") or [(total or 0) // 3] * 3
    return {"h": count, "y": given[0] // count, "v": given[2] // count}


rule(
    "com.microsoft.Attention",
    notation=partial(_packed, slots=(3, 4, 5)),
    sizes=_packed_sizes,
    roles=ACROSS,
    offers=WIDTHS,
    attributes={"num_heads": "h", "qkv_hidden_sizes": "h y, h y, h v"},
)
rule(
    "com.microsoft.QAttention",
    notation=partial(_packed, slots=(5, 8, 0)),
    sizes=_packed_sizes,
    roles=ACROSS,
    offers=WIDTHS,
    attributes={"num_heads": "h"},
    offsets={1: 7},
    typed={0: 3, 1: 3},
)


def _decoder(site: Site) -> str:
    if site.has(9) or not site.has(1):
        raise RowError("beams, or queries, keys and values packed in one")
    keys = ("b h t y", "b h t v") if site.rank(1) == 4 else ("b t (h y)", "b t (h v)")
    cache = "b h p y, b h p v"
    bias = "(h y + h y + h v)"
    ins = f"b x (h y), {keys[0]}, {keys[1]}, b ~, b h x u, {cache}, ~, ~, ~, {bias}"
    return f"{ins} -> b x (h v), {cache}, b h x u"


rule(
    "com.microsoft.DecoderMaskedMultiHeadAttention",
    notation=_decoder,
    sizes=_multi_head_sizes,
    roles={**ACROSS, "v": "across"},
    offers=WIDTHS,
    attributes={"num_heads": "h"},
)
rule(
    "com.microsoft.DecoderAttention com.microsoft.DecoderMaskedSelfAttention "
    "com.microsoft.DynamicSparseAttention com.microsoft.LongformerAttention "
    "com.microsoft.PackedAttention com.microsoft.PackedMultiHeadAttention "
    "com.microsoft.PackedSparseAttentionIndexer com.microsoft.PackedSparseAttentionIndexerMerge "
    "com.microsoft.PagedAttention com.microsoft.QOrderedAttention "
    "com.microsoft.QOrderedLongformerAttention com.microsoft.SparseAttention "
    "com.microsoft.SparseAttentionIndexer com.microsoft.SparsePagedAttention",
    notation=blocked("packs heads and tokens in a layout that this row does not describe"),
)
