"""Quantised operators: integer weights divide exactly, scales and zero points are carried."""

from __future__ import annotations

from collections.abc import Mapping

from onnx_net2net.operators.spec import RowError, Site, rule


def _vector(site: Site, slot: int, name: str) -> str:
    """`name` where a scale or zero point has one entry per channel, `~` where it has one."""
    shape = site.shapes[slot] if slot < len(site.shapes) else None
    return name if shape and len(shape) == 1 and shape[0] != 1 else "~"


def _linear(site: Site) -> str:
    if site.attr("block_size", 0):
        raise RowError("block-wise scales")
    rank = len(site.dims(0))
    if _vector(site, 1, "c") == "~":
        return "..., ~, ~ -> ..."
    axis = int(site.attr("axis", 1)) % rank
    names = " ".join(f"a{k}" for k in range(rank))
    return f"{names}, a{axis}, {_vector(site, 2, f'a{axis}')} -> {names}"


rule("QuantizeLinear com.microsoft.QuantizeLinear", notation=_linear, typed={0: 2})
rule(
    "DequantizeLinear com.microsoft.DequantizeLinear",
    notation=_linear,
    linear=True,
    offsets={0: 2},
    typed={0: 1},
)
# its scale comes from the smallest and the largest value, which copies do not move
rule("DynamicQuantizeLinear", notation="... -> ..., ~, ~", roles={".": "max"})


def _groups(site: Site) -> Mapping[str, int]:
    return {"g": int(site.attr("group", 1))}


def _conv(site: Site) -> str:
    scale, zero = _vector(site, 4, "(g o)"), _vector(site, 5, "(g o)")
    if site.attr("channels_last", 0):
        raise RowError("channels last")
    return f"n (g i) *, ~, ~, (g o) i *, {scale}, {zero}, ~, ~, (g o) -> n (g o) *"


for _name, _like in (("QLinearConv", ""), ("com.microsoft.QLinearConv", "QLinearConv")):
    rule(
        _name,
        notation=_conv,
        sizes=_groups,
        attributes={"group": "g"},
        offsets={3: 5},
        like=_like,
    )
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


rule("com.microsoft.QGemm", notation=_gemm, offsets={3: 5}, rank=2)
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
        raise RowError("channels last")
    return "n c *, ~, ~, ~, ~ -> n c *"


rule("com.microsoft.QLinearGlobalAveragePool", notation=_pool, like="GlobalAveragePool")
rule("com.microsoft.QLinearAveragePool", notation=_pool, like="AveragePool")


def _product(site: Site) -> str:
    left = "... m k" if site.rank(0) > 2 else "m k"
    right = "... k n" if site.rank(1) > 2 else "k n"
    out = "... m n" if max(site.rank(0), site.rank(1)) > 2 else "m n"
    return f"{left}, {right} -> {out}"


def _dynamic(site: Site) -> str:
    ins, _, out = _product(site).partition(" -> ")
    return f"{ins}, {_vector(site, 2, 'n')}, {_vector(site, 3, 'n')}, n -> {out}"


# what is contracted must divide in the integers: input 0 is rounded by its largest number
rule(
    "com.microsoft.DynamicQuantizeMatMul",
    notation=_dynamic,
    roles={"k": "parallel"},
    divides=((1, 0),),
    offsets={1: 3},
    ranged=True,
)


def _to_float(site: Site) -> str:
    ins, _, out = _product(site).partition(" -> ")
    scale, zero = _vector(site, 3, "n"), _vector(site, 5, "n")
    return f"{ins}, {_vector(site, 2, 'm')}, {scale}, {_vector(site, 4, 'm')}, {zero}, n -> {out}"


rule("com.microsoft.MatMulIntegerToFloat", notation=_to_float, offsets={1: 5}, typed={0: 2})
rule("com.microsoft.MatMulInteger16", notation=_product, offsets={1: 2})
rule("com.microsoft.MulInteger", notation="..., ~, ..., ~ -> ...")
rule("com.microsoft.QLinearWhere", notation="..., ..., ~, ~, ..., ~, ~, ~, ~ -> ...", typed={0: 1})


def _softmax(site: Site) -> str:
    rank = len(site.dims(0))
    axis = int(site.attr("axis", -1)) % max(rank, 1)
    flat = site.attr("opset", 13) < 13
    names = " ".join(f"{'x' if k == axis or (flat and k > axis) else 'a'}{k}" for k in range(rank))
    return f"{names}, ~, ~, ~, ~ -> {names}"


rule("com.microsoft.QLinearSoftmax", notation=_softmax, roles={"x": "across"})


def _reduced(site: Site) -> str:
    rank, keep = len(site.dims(0)), site.attr("keepdims", 1)
    axes = {int(a) % rank for a in site.attr("axes", [])} or set(range(rank))
    before = " ".join(f"{'r' if k in axes else 'a'}{k}" for k in range(rank))
    after = " ".join("1" if k in axes else f"a{k}" for k in range(rank) if keep or k not in axes)
    return f"{before}, ~, ~, ~, ~ -> {after}"


rule("com.microsoft.QLinearReduceMean", notation=_reduced, roles={"r": "mean"})
rule("com.microsoft.ReduceSumInteger", notation=_reduced, roles={"r": "sum"})


def _concatenated(site: Site) -> str:
    """Data, scale and zero point in turn; the data lie end to end."""
    rank = len(site.dims(2))
    axis = int(site.attr("axis", 0)) % rank
    ins, parts = ["~", "~"], []
    for k in range((len(site.shapes) - 2) // 3):
        names = [f"x{k}" if d == axis else f"a{d}" for d in range(rank)]
        ins += [" ".join(names), "~", "~"]
        parts.append(f"x{k}")
    whole = f"({' + '.join(parts)})" if len(parts) > 1 else parts[0]
    out = " ".join(whole if d == axis else f"a{d}" for d in range(rank))
    return f"{', '.join(ins)} -> {out}"


rule("com.microsoft.QLinearConcat", notation=_concatenated, typed={0: 2})
