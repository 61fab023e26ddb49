"""Operators on integers with steps and zero points; products of these are named by content."""

from __future__ import annotations

from onnx_net2net.verification.certificate.domain import UnknownError
from onnx_net2net.verification.certificate.facts.lines import fact
from onnx_net2net.verification.certificate.transfer.base import At

_M = "com.microsoft"
fact("DynamicQuantizeLinear", "... -> ..., , ", **{".": "max"})
fact(f"{_M}.QLinearSigmoid {_M}.QLinearLeakyRelu", "..., 1, 1, 1, 1 -> ...")
fact(f"{_M}.QLinearAdd {_M}.QLinearMul", "..., 1, 1, ..., 1, 1, 1, 1 -> ...")
fact(f"{_M}.QLinearWhere", "..., ..., 1, 1, ..., 1, 1, 1, 1 -> ...")
fact(f"{_M}.MulInteger", "..., 1, ..., 1 -> ...")


fact("MatMulInteger", "... m k, k n, m, n -> ... m n", k="across")
fact(f"{_M}.MatMulInteger16", "... m k, k n -> ... m n", k="across")
fact(
    "QLinearMatMul", "... m k, m, m, k n, n, n, 1, 1 -> ... m n", k="across",
)  # fmt: skip
fact(f"{_M}.MatMulIntegerToFloat", "... m k, k n, 1, n, 1, n, n -> ... m n", k="across")
fact(
    f"{_M}.DynamicQuantizeMatMul", "... m k, k n, n, n, n -> ... m n",
    k="across", m="max", **{".": "max"},
)  # fmt: skip


def _gemm(at: At) -> str:
    a = "k m" if at.node.attr("transA", 0) else "m k"
    b = "n k" if at.node.attr("transB", 0) else "k n"
    return f"{a}, 1, 1, {b}, n, n, m n, 1, 1 -> m n"


fact(f"{_M}.QGemm", _gemm, k="across")


def _convolution(at: At) -> str:
    """An output channel reads every channel of the data in the order in which they stand."""
    if at.node.attr("group", 1) != 1 or at.node.attr("channels_last", 0):
        raise UnknownError("several groups, or channels last")
    if at.node.op == "ConvInteger":
        return "n i *, o j *, 1, o -> n o *"
    return "n i *, 1, 1, o j *, o, o, 1, 1, o -> n o *"


fact(f"ConvInteger QLinearConv {_M}.QLinearConv", _convolution, i="across", j="across")


def _pool(at: At) -> str:
    axes = "n * c" if at.node.attr("channels_last", 0) else "n c *"
    return f"{axes}, 1, 1, 1, 1 -> {axes}"


fact(f"{_M}.QLinearGlobalAveragePool {_M}.QLinearAveragePool", _pool)


def _softmax(at: At) -> str:
    if int(at.node.attr("opset", 13)) < 13:
        raise UnknownError("axes that are taken as one")
    names = [f"{c}" for c in "abcdefgh"[: len(at.value().axes)]]
    names[int(at.node.attr("axis", -1)) % len(names)] = "x"
    return f"{' '.join(names)}, 1, 1, 1, 1 -> {' '.join(names)}"


fact(f"{_M}.QLinearSoftmax", _softmax, x="across")
