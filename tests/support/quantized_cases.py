"""Cases for quantised rows; see `operator_cases`."""

from __future__ import annotations

from typing import Any

from support.operator_cases import case
from support.single_node import Operand, c, w, x


def u(*shape: int) -> Operand:
    """Quantised data."""
    return x(*shape, low=0, high=255, dtype="u1")


def q(*shape: int, low: int = -60, high: int = 60, dtype: Any = "i1") -> Operand:
    """A quantised weight."""
    return w(*shape, low=low, high=high, dtype=dtype)


def s(*values: float) -> Operand:
    """A scale."""
    return c(values[0] if len(values) == 1 else list(values), dtype="f4")


def z(*values: int, dtype: Any = "u1") -> Operand:
    """A zero point."""
    return c(values[0] if len(values) == 1 else list(values), dtype=dtype)


_S4, _Z4 = s(0.02, 0.01, 0.03, 0.04), z(0, 0, 0, 0, dtype="i1")
_X, _Y = (s(0.02), z(128)), (s(0.3), z(100))

case("QuantizeLinear", "ppp . . > ppp", x(2, 4, 3), s(0.02), z(7))
case("QuantizeLinear", "ppp p p > ppp", x(2, 4, 3), _S4, _Z4, axis=1)
case("QuantizeLinear", "pp . > pp", x(2, 4), s(0.02), opset=10)
case("QuantizeLinear", "", x(2, 4), w(2, 2), opset=21, block_size=2, refuses="block-wise")
case("DequantizeLinear", "ppp . . > ppp", u(2, 4, 3), s(0.02), z(7))
case("DequantizeLinear", "ppp p p > ppp", q(2, 3, 4), _S4, _Z4, axis=2)
case("DequantizeLinear", "ppp p _ > ppp", q(2, 3, 4), _S4, None, axis=-1)
case("DequantizeLinear", "p . > p", q(4, low=-999, high=999, dtype="i4"), s(0.02), opset=10)
case("DynamicQuantizeLinear", "xxx > xxx . .", x(2, 4, 3), outputs=3)

case("QLinearConv", "ps-- . . ps-- . . . . > pp--", u(2, 6, 5, 5), *_X, q(4, 6, 3, 3), s(0.02),
     z(0, dtype="i1"), *_Y)  # fmt: skip
case("QLinearConv", "ps-- . . ps-- p p . . p > pp--", u(2, 6, 5, 5), *_X, q(4, 6, 3, 3), _S4, _Z4,
     *_Y, q(4, low=-999, high=999, dtype="i4"))  # fmt: skip
case("QLinearConv", "p(ps)-- . . ps-- p p . . > pp--", u(2, 6, 5, 5), *_X, q(4, 3, 3, 3), _S4,
     _Z4, *_Y, group=2)  # fmt: skip
case("QLinearConv", "ps-- . . ps-- . . . . > pp--", u(2, 6, 5, 5), *_X,
     q(4, 6, 3, 3, low=60, high=200, dtype="u1"), s(0.02), z(130), *_Y)  # fmt: skip
case("ConvInteger", "ps-- ps-- . . > pp--", u(2, 6, 5, 5),
     q(4, 6, 3, 3, low=60, high=200, dtype="u1"), z(128), z(130))  # fmt: skip
case("ConvInteger", "ps-- ps-- > pp--", u(2, 6, 5, 5), q(4, 6, 3, 3))
case(
    "QLinearMatMul", "ps . . sp . . . . > pp", u(2, 6), *_X, q(6, 4), s(0.02), z(0, dtype="i1"), *_Y
)
case("QLinearMatMul", "pps . . sp p p . . > ppp", u(3, 2, 6), *_X, q(6, 4), _S4, _Z4, *_Y)
case(
    "MatMulInteger",
    "ps sp . . > pp",
    u(2, 6),
    q(6, 4, low=60, high=200, dtype="u1"),
    z(128),
    z(130),
)
case("MatMulInteger", "ps sp _ p > pp", u(2, 6), q(6, 4), None, _Z4)
case("com.microsoft.QGemm", "ps . . sp . . p . . > pp", u(2, 6), *_X, q(6, 4), s(0.02),
     z(0, dtype="i1"), q(4, dtype="i4"), *_Y)  # fmt: skip
case("com.microsoft.QGemm", "ps . . ps p p p . . > pp", u(2, 6), *_X, q(4, 6), _S4, _Z4,
     q(4, dtype="i4"), *_Y, transB=1)  # fmt: skip
case("com.microsoft.QLinearAdd com.microsoft.QLinearMul", "ppp . . ppp . . . . > ppp", u(2, 4, 3),
     *_X, u(2, 4, 3), *_X, *_Y)  # fmt: skip
case("com.microsoft.QLinearAdd com.microsoft.QLinearMul", "ppp . . p- . . . . > ppp", u(2, 4, 3),
     *_X, q(4, 1, low=0, high=200, dtype="u1"), *_X, *_Y)  # fmt: skip
case("com.microsoft.QLinearSigmoid", "ppp . . . . > ppp", u(2, 4, 3), *_X, *_Y)
case("com.microsoft.QLinearLeakyRelu", "ppp . . . . > ppp", u(2, 4, 3), *_X, *_Y, alpha=0.1)
case("com.microsoft.QLinearGlobalAveragePool", "pp-- . . . . > pp--", u(2, 4, 3, 3), *_X, *_Y)
case("com.microsoft.QLinearGlobalAveragePool", "", u(2, 3, 3, 4), *_X, *_Y, channels_last=1,
     refuses="channels last")  # fmt: skip
case("com.microsoft.QLinearAveragePool", "pp-- . . . . > pp--", u(2, 4, 6, 6), *_X, *_Y,
     kernel_shape=[2, 2])  # fmt: skip

case("com.microsoft.QuantizeLinear", "ppp p p > ppp", x(2, 4, 3), _S4, _Z4, axis=1)
case("com.microsoft.DequantizeLinear", "ppp . . > ppp", u(2, 4, 3), s(0.02), z(7))
case("com.microsoft.QLinearConv", "ps-- . . ps-- p p . . p > pp--", u(2, 6, 5, 5), *_X,
     q(4, 6, 3, 3), _S4, _Z4, *_Y, q(4, low=-999, high=999, dtype="i4"))  # fmt: skip
case("com.microsoft.QLinearConv", "", u(2, 5, 5, 6), *_X,
     q(4, 6, 3, 3), _S4, _Z4, *_Y, channels_last=1, refuses="channels last")  # fmt: skip
case("com.microsoft.DynamicQuantizeMatMul", "pp pp . . p > pp", x(3, 6), q(6, 4), s(0.02),
     z(3, dtype="i1"), w(4))  # fmt: skip
case("com.microsoft.DynamicQuantizeMatMul", "ppp pp p p > ppp", x(2, 3, 6), q(6, 4), _S4, _Z4)
case("com.microsoft.MatMulIntegerToFloat", "pps sp . p . p p > ppp", u(2, 3, 6), q(6, 4), s(0.02),
     _S4, z(128), _Z4, w(4))  # fmt: skip
case("com.microsoft.MatMulInteger16", "ps sp > pp", x(3, 6, low=-90, high=90, dtype="i2"),
     q(6, 4, dtype="i2"))  # fmt: skip
case("com.microsoft.MulInteger", "pp . p . > pp", u(3, 6), z(7), q(6, low=0, dtype="u1"), z(9))
case("com.microsoft.QLinearWhere", "pp pp . . pp . . . . > pp", x(2, 5, dtype="?"), u(2, 5), *_X,
     u(2, 5), *_X, *_Y)  # fmt: skip
case("com.microsoft.QLinearSoftmax", "pp- . . . . > pp-", u(2, 3, 5), *_X, s(1 / 256), z(0),
     axis=-1, version=13)  # fmt: skip
case("com.microsoft.QLinearReduceMean", "pmp . . . . > pp", u(2, 4, 3), *_X, *_Y, axes=[1],
     keepdims=0)  # fmt: skip
case("com.microsoft.ReduceSumInteger", "psp > p-p", q(2, 4, 3), axes=[1], keepdims=1)
case("com.microsoft.QEmbedLayerNormalization", "p- p- -m -m -m m m _ . . . . . . . . . . > p-m p",
     x(2, 3, low=0, high=3, dtype="i4"), x(2, 3, low=0, high=3, dtype="i4"), q(9, 6, dtype="u1"),
     q(9, 6, dtype="u1"), q(4, 6, dtype="u1"), q(6, dtype="u1"), q(6, dtype="u1"), None,
     *[s(0.02)] * 5, *[z(3)] * 5, outputs=2)  # fmt: skip
case("com.microsoft.QAttention", "p-s sp p . . _ . . > p-p", u(2, 3, 5), q(5, 72), w(72), s(0.02),
     s(0.02), None, z(128), z(3, dtype="i1"), num_heads=4)  # fmt: skip
case("com.microsoft.QLinearConcat", ". . pp . . pp . . > pp", *_Y, u(2, 4), *_X, u(2, 3), *_X,
     axis=1)  # fmt: skip
case("com.microsoft.QLinearConcat", ". . pp . . pp . . pp . . > pp", *_Y, u(4, 2), *_X, u(3, 2),
     *_X, u(5, 2), *_X, axis=0)  # fmt: skip
