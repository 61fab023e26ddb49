"""Operators that treat every element alone, with operands that broadcast."""

from __future__ import annotations

from onnx_net2net.verification.certificate.domain import UnknownError
from onnx_net2net.verification.certificate.facts.lines import fact
from onnx_net2net.verification.certificate.transfer.base import At

_M = "com.microsoft"
fact(
    "Abs Asin Asinh Atan Atanh Cast Ceil Celu Elu Erf Floor Gelu HardSwish LeakyRelu Mish Neg "
    "PRelu Relu Round Selu Sign Sin Sinh Softsign Sqrt Swish Tan Tanh ThresholdedRelu "
    f"{_M}.Gelu {_M}.QuickGelu",
    "... -> ...", "first",
)  # fmt: skip
fact(f"Sum Mean Max Min {_M}.BiasGelu {_M}.FastGelu {_M}.BiasAdd", "... -> ...", "all")
fact(
    "Acos Acosh And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Clip Cos Cosh Equal Exp "
    "Greater GreaterOrEqual HardSigmoid IsInf IsNaN Less LessOrEqual Log Mod Not Or Reciprocal "
    "RegexFullMatch Shrink Sigmoid Softplus StringConcat Where Xor "
    f"{_M}.MurmurHash3",
    "... -> ...",
)  # fmt: skip
fact(f"{_M}.ScaledSiLU", "..., 1 -> ...")
fact(f"{_M}.BiasSplitGelu", "n s x, x -> n s y", x="across", y="across")
fact(f"{_M}.ComplexMul {_M}.ComplexMulConj", "... x, ... x -> ... x", x="across")
fact("SwiGLU", "..., ... -> ...")
fact(f"{_M}.LinearAttentionGate", "..., ..., ..., ... -> ..., ...")


def _gated(at: At) -> str:
    if not at.has(1):
        raise UnknownError("gates and data lie in one axis")
    return "..., ... -> ..."


fact(f"{_M}.SwiGLU", _gated)
