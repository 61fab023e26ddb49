"""Operators with weights: convolutions, matrix products, Einsum."""

from __future__ import annotations

from collections.abc import Mapping

from onnx_net2net.operators.families.activation import fused
from onnx_net2net.operators.spec import Operands, RowError, Site, rule


def _groups(site: Site) -> Mapping[str, int]:
    return {"g": int(site.attr("group", 1))}


def _activated(site: Site, needs: Operands) -> Operands | None:
    return needs if site.attr("activation", "") in ("", "Relu", "LeakyRelu", "Tanh") else None


_CONV = "n (g i) *, (g o) i *, (g o) -> n (g o) *"

rule(
    "Conv",
    notation=_CONV,
    sizes=_groups,
    attributes={"group": "g"},
    zero=(2,),
    window="forward",
)
rule(
    "com.microsoft.FusedConv",
    notation="n (g i) *, (g o) i *, (g o), n (g o) * -> n (g o) *",
    sizes=_groups,
    attributes={"group": "g"},
    zero=lambda s: _activated(s, (2, 3)),
    like="Conv",
    activation=fused,
    window="forward",
)
rule(
    "ConvTranspose",
    notation="n (g i) *, (g i) o *, (g o) -> n (g o) *",
    sizes=_groups,
    attributes={"group": "g"},
    zero=(2,),
    window="transposed",
)


rule(
    "com.microsoft.ConvTransposeWithDynamicPads",
    notation="n (g i) *, (g i) o *, ~, (g o) -> n (g o) y z",
    sizes=_groups,
    roles={"y": "across", "z": "across"},
    attributes={"group": "g"},
)


def _deformed(site: Site) -> str:
    """Channels in groups that move together: those of the weight, or those of the offsets."""
    group, moved = int(site.attr("group", 1)), int(site.attr("offset_group", 1))
    if group > 1 and moved > 1:
        raise RowError("groups of channels and groups of offsets")
    w = "(g o) i *" if moved == 1 else "(g o) (q i) *"
    x = "n (g i) *" if moved == 1 else "n (q i) *"
    return f"{x}, {w}, n *, (g o), n * -> n (g o) *"


rule(
    "DeformConv",
    notation=_deformed,
    sizes=lambda s: {**_groups(s), "q": int(s.attr("offset_group", 1))},
    roles={"q": "across"},
    attributes={"group": "g"},
)


def _gemm(site: Site) -> str:
    a = "k m" if site.attr("transA", 0) else "m k"
    b = "n k" if site.attr("transB", 0) else "k n"
    return f"{a}, {b}, m n -> m n"


rule("Gemm", notation=_gemm, zero=(2,), rank=2)
rule(
    "com.microsoft.FusedGemm",
    notation=_gemm,
    zero=lambda s: _activated(s, (2,)),
    like="Gemm",
    activation=fused,
    rank=2,
)


def _matmul(site: Site) -> str:
    """Rank 1 operands lose their axis; an unknown rank may be any."""
    a, b = site.rank(0), site.rank(1)
    left = {1: "k", 2: "m k"}.get(a, "... m k")
    right = {1: "k", 2: "k n"}.get(b, "... k n")
    batch = "... " if "..." in left + right else ""
    return f"{left}, {right} -> {batch}{'m ' * (a != 1)}{'n' * (b != 1)}"


def _fused_matmul(site: Site) -> str:
    if site.attr("transBatchA", 0) or site.attr("transBatchB", 0):
        raise RowError("transBatchA/transBatchB")
    a = "... k m" if site.attr("transA", 0) else "... m k"
    b = "... n k" if site.attr("transB", 0) else "... k n"
    return f"{a}, {b} -> ... m n"


rule("MatMul", notation=_matmul, zero=())
rule("com.microsoft.FusedMatMul com.microsoft.TransposeMatMul", notation=_fused_matmul, zero=())
rule("com.microsoft.FusedMatMulActivation", notation=_fused_matmul)
rule("com.microsoft.GemmFastGelu", notation="... m k, k n, n -> ... m n", zero=(2,))


def _einsum(site: Site) -> str:
    equation = str(site.attr("equation", "")).replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        out = ("..." if "..." in left else "") + "".join(
            sorted(c for c in set(letters) if letters.count(c) == 1)
        )
    if any(len(set(t.replace(".", ""))) < len(t.replace(".", "")) for t in [*terms, out]):
        raise RowError(f"a repeated index in '{equation}'")
    return (
        ", ".join(" ".join(t.replace("...", ".")).replace(".", "...") for t in terms)
        + " -> "
        + " ".join(out.replace("...", ".")).replace(".", "...")
    )


rule("Einsum", notation=_einsum, zero=())
