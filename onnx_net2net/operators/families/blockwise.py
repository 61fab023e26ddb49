"""Weights packed in blocks, and mixtures of experts.

A block has one scale, which divides among copies exactly (halves of a scale), so that what
is contracted may grow by whole blocks; the other side grows freely.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx_net2net.operators.spec import RowError, Site, blocked, rule

_ACROSS = dict.fromkeys("wxyz", "across")


def _block(site: Site) -> Mapping[str, int]:
    return {"x": int(site.attr("block_size", 1)), "n": int(site.attr("N", 1))}


def _n_bits(site: Site) -> str:
    if site.has(4):
        raise RowError("columns in an order of their own")
    if site.attr("weight_prepacked", 0):
        raise RowError("weights in the layout of one device")
    zeros = site.dims(3) if site.has(3) else ()
    bits = int(site.attr("bits", 4))
    blocks = site.dims(1)[1]
    # zero points of less than a byte are packed over the blocks; flat scales are no rows
    whole = site.rank(2) == 2 and (not zeros or (len(zeros) == 2 and zeros[1] == blocks))
    k = "k" if whole and (not zeros or bits == 8 or zeros[1] == blocks) else "z"
    scale = f"n {k}" if site.rank(2) == 2 else f"(n {k})"
    zero = "n ~" if len(zeros) == 2 and k == "z" else f"n {k}" if len(zeros) == 2 else "(n w)"
    return f"... ({k} x), n {k} y, {scale}, {zero}, ~, n -> ... n"


rule(
    "com.microsoft.MatMulNBits",
    notation=_n_bits,
    sizes=_block,
    roles={**_ACROSS, "k": "parallel"},
    attributes={"N": "n", "K": "k x"},
    divides=((2, 1),),
)


def _gathered(site: Site) -> str:
    """Rows are picked from; their width grows by whole blocks."""
    rank = site.rank(0)
    if rank != 2 or site.attr("gather_axis", 0) % 2 or site.attr("quantize_axis", 1) % 2 != 1:
        raise RowError("rows that are not quantised along their width")
    index = " ".join(f"i{k}" for k in range(len(site.dims(1))))
    k = "w" if site.has(3) else "k"
    return f"t ({k} z), {index}, t {k}, t ~ -> {index} ({k} y)"


def _gathered_sizes(site: Site) -> Mapping[str, int]:
    blocks, packed, size = site.dims(2)[-1], site.dims(0)[-1], int(site.attr("block_size", 128))
    if not blocks or not packed or packed % blocks:
        return {}
    return {"k": blocks, "w": blocks, "z": packed // blocks, "y": size}


rule(
    "com.microsoft.GatherBlockQuantized",
    notation=_gathered,
    sizes=_gathered_sizes,
    roles={**_ACROSS, "t": "across"},
    typed={0: 2},
)
rule(
    "com.microsoft.MatMulBlockQuantizedFp4Weight com.microsoft.MatMulBlockQuantizedFp8Weight "
    "com.microsoft.MatMulBnb4 com.microsoft.MatMulFpQ4 com.microsoft.MatMulNBitsMlp "
    "com.microsoft.MatMulNBitsQLoRA com.microsoft.MatMulNBitsQkv com.microsoft.MatMulPacked "
    "com.microsoft.MoEPacked com.microsoft.QMoE com.microsoft.GatherPacked "
    "com.microsoft.GemmFloat8",
    notation=blocked("packs its weights in a layout that this row does not describe"),
)


def _experts(site: Site) -> str:
    """Tokens and experts are chosen among; units of the experts and the stream's width pass."""
    fused = {1: "(f q)", 2: "(q f)"}.get(int(site.attr("swiglu_fusion", 0)), "f")
    if site.attr("activation_type", "relu") not in ("swiglu", "geglu"):
        fused = "f"
    x = "x0 x1 m" if site.rank(0) == 3 else "x m"
    first, second, third = f"e {fused} m, e {fused}", "e m f, e m", "e f m, e f"
    return f"{x}, y e, {first}, {second}, {third} -> {x}"


rule(
    "com.microsoft.MoE",
    notation=_experts,
    sizes=lambda s: {"q": 2},
    roles={**_ACROSS, "e": "across", "q": "across", "f": "parallel"},
    divides=((2, 2), (4, 2), (6, 2)),
)
rule(
    "com.microsoft.MoEGroupRouter",
    notation=blocked("chooses among all experts"),
)
