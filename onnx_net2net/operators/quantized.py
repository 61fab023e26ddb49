"""Quantised operators: integer weights divide exactly, scales and zero points are carried."""

from __future__ import annotations

from collections.abc import Mapping

from onnx_net2net.operators.rule import Site, rule


def _vector(site: Site, slot: int, name: str) -> str:
    """`name` where a scale or zero point has one entry per channel, `~` where it has one."""
    shape = site.shapes[slot] if slot < len(site.shapes) else None
    return name if shape and len(shape) == 1 and shape[0] != 1 else "~"


def _linear(site: Site) -> str:
    if site.attr("block_size", 0):
        raise LookupError("block-wise scales")
    rank = len(site.dims(0))
    if _vector(site, 1, "c") == "~":
        return "..., ~, ~ -> ..."
    axis = int(site.attr("axis", 1)) % rank
    names = " ".join(f"a{k}" for k in range(rank))
    return f"{names}, a{axis}, {_vector(site, 2, f'a{axis}')} -> {names}"


rule("QuantizeLinear", notation=_linear)
rule("DequantizeLinear", notation=_linear, linear=True, offsets={0: 2})
# its scale comes from the smallest and the largest value, which copies do not move
rule("DynamicQuantizeLinear", notation="... -> ..., ~, ~", roles={".": "max"})


def _groups(site: Site) -> Mapping[str, int]:
    return {"g": int(site.attr("group", 1))}


def _conv(site: Site) -> str:
    scale, zero = _vector(site, 4, "(g o)"), _vector(site, 5, "(g o)")
    return f"n (g i) *, ~, ~, (g o) i *, {scale}, {zero}, ~, ~, (g o) -> n (g o) *"


rule("QLinearConv", notation=_conv, sizes=_groups, attributes={"group": "g"}, offsets={3: 5})
rule(
    "ConvInteger",
    notation=lambda s: f"n (g i) *, (g o) i *, ~, {_vector(s, 3, '(g o)')} -> n (g o) *",
    sizes=_groups,
    attributes={"group": "g"},
    offsets={1: 3},
)


def _matmul(site: Site) -> str:
    left = "... m k" if site.rank(0) > 2 else "m k"
    right = "... k n" if site.rank(3) > 2 else "k n"
    out = "... m n" if max(site.rank(0), site.rank(3)) > 2 else "m n"
    scale, zero = _vector(site, 4, "n"), _vector(site, 5, "n")
    return f"{left}, ~, ~, {right}, {scale}, {zero}, ~, ~ -> {out}"


rule("QLinearMatMul", notation=_matmul, offsets={3: 5})


def _matmul_integer(site: Site) -> str:
    left = "... m k" if site.rank(0) > 2 else "m k"
    right = "... k n" if site.rank(1) > 2 else "k n"
    out = "... m n" if max(site.rank(0), site.rank(1)) > 2 else "m n"
    return f"{left}, {right}, {_vector(site, 2, 'm')}, {_vector(site, 3, 'n')} -> {out}"


rule("MatMulInteger", notation=_matmul_integer, offsets={1: 3})


def _gemm(site: Site) -> str:
    a = "k m" if site.attr("transA", 0) else "m k"
    b = "n k" if site.attr("transB", 0) else "k n"
    scale, zero = _vector(site, 4, "n"), _vector(site, 5, "n")
    return f"{a}, ~, ~, {b}, {scale}, {zero}, m n, ~, ~ -> m n"


rule("com.microsoft.QGemm", notation=_gemm, offsets={3: 5})
rule(
    "com.microsoft.QLinearAdd com.microsoft.QLinearMul",
    notation="..., ~, ~, ..., ~, ~, ~, ~ -> ...",
)
rule(
    "com.microsoft.QLinearSigmoid com.microsoft.QLinearLeakyRelu",
    notation="..., ~, ~, ~, ~ -> ...",
)


def _pool(site: Site) -> str:
    if site.attr("channels_last", 0):
        raise LookupError("channels last")
    return "n c *, ~, ~, ~, ~ -> n c *"


rule("com.microsoft.QLinearGlobalAveragePool", notation=_pool, like="GlobalAveragePool")
rule("com.microsoft.QLinearAveragePool", notation=_pool, like="AveragePool")
