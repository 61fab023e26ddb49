"""Cases for the computing rows of the operator table; see `single_node.Case`.

`roles` says by hand, axis by axis, what may grow: `p` copies pass, `s` copies are summed, `m`
equally many, `x` any copies of a maximum, `-` not at all; `.` a scalar, `_` absent.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes

from support.single_node import Case, Operand, c, w, x

CASES: dict[str, list[Case]] = {}


def case(
    op: str, roles: str, *operands: Operand | None, opset: int = 18, outputs: int = 1,
    refuses: str = "", **attributes: Any,
) -> None:  # fmt: skip
    """Add one case for each of the space-separated operators."""
    if "version" in attributes:  # an attribute of that name
        attributes["opset"] = attributes.pop("version")
    for name in op.split():
        CASES.setdefault(name, []).append(
            Case(name, roles, operands, attributes, opset, outputs, refuses)
        )


# elementwise: unary
case(
    "Abs Asinh Atan Ceil Celu Cos Cosh Elu Erf Exp Floor HardSigmoid HardSwish Identity LeakyRelu "
    "Mish Neg Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Tan Tanh "
    "ThresholdedRelu",
    "ppp > ppp", x(2, 5, 3),
)  # fmt: skip
case("Acos Asin Atanh", "ppp > ppp", x(2, 5, 3, low=-0.9, high=0.9))
case("Acosh", "pp > pp", x(2, 5, low=1, high=3))
case("Log Sqrt", "ppp > ppp", x(2, 5, 3, low=0.1))
case("Abs Neg Relu Sign", "p > p", x(5, dtype="i8", low=-9, high=9))
case("Gelu", "ppp > ppp", x(2, 5, 3), opset=20)
case("Gelu", "ppp > ppp", x(2, 5, 3), opset=20, approximate="tanh")
case("Swish", "ppp > ppp", x(2, 5, 3), opset=24, alpha=0.7)
case("IsInf IsNaN", "pp > pp", x(2, 5))
case("Not", "pp > pp", x(2, 5, dtype="?"))
case("BitwiseNot", "pp > pp", x(2, 5, low=0, high=9, dtype="i8"))
case("com.microsoft.Gelu com.microsoft.QuickGelu", "ppp > ppp", x(2, 5, 3))
case("com.microsoft.FastGelu", "ppp > ppp", x(2, 3, 5))
case("com.microsoft.FastGelu com.microsoft.BiasGelu", "ppp p > ppp", x(2, 3, 5), w(5))
for _dtype in ("f2", ml_dtypes.bfloat16, "f8"):
    case("Relu", "ppp > ppp", x(2, 5, 3, dtype=_dtype))
for _to in (1, 6, 7, 9, 10, 11):
    case("Cast", "ppp > ppp", x(2, 5, 3), to=_to)
case("Cast", "p > p", x(5, low=-9, high=9, dtype="i8"), to=1)
case("CastLike", "ppp - > ppp", x(2, 5, 3), x(4, dtype="f8"))
case("Clip", "pp . . > pp", x(2, 5), c(-1.0, dtype="f4"), c(1.0, dtype="f4"))
case("Clip", "pp . > pp", x(2, 5), c(0.5, dtype="f4"))
case("Clip", "pp _ . > pp", x(2, 5), None, c(1.0, dtype="f4"))
case("Clip", "pp > pp", x(2, 5), opset=6, min=-1.0, max=1.0)
case("Clip", "pp > pp", x(2, 5), opset=6, min=0.5)
case("Clip", "pp > pp", x(2, 5))
case("Dropout", "pp > pp", x(2, 5), opset=7)
case("Dropout", "pp > pp pp", x(2, 5), opset=12, outputs=2)
case("Dropout", "pp . . > pp pp", x(2, 5), c(0.3, dtype="f4"), c(False, dtype="?"), outputs=2)
case("Dropout", "", x(2, 5), c(0.3, dtype="f4"), c(True, dtype="?"), refuses="draws at run time")
case(
    "Bernoulli RandomNormalLike RandomUniformLike", "", x(2, 5, low=0.1, high=0.9),
    refuses="draws at run time",
)  # fmt: skip
case("Multinomial", "", x(2, 5), refuses="draws at run time")
case("RandomNormal RandomUniform", "", shape=[2, 3], refuses="draws at run time")

# elementwise: two operands
_TWO = "Add Sub Mul Div"
case(f"{_TWO} PRelu", "ppp ppp > ppp", x(2, 5, 3), x(2, 5, 3, low=0.5))
case(f"{_TWO} PRelu", "ppp p- > ppp", x(2, 5, 3), w(5, 1, low=0.5))
case(f"{_TWO} PRelu", "ppp . > ppp", x(2, 5, 3), c(0.5, dtype="f4"))
case(_TWO, ". ppp > ppp", c(0.5, dtype="f4"), x(2, 5, 3, low=0.5))
case(_TWO, "p- ppp > ppp", w(5, 1), x(2, 5, 3, low=0.5))
case(_TWO, "p-- -pp > ppp", x(2, 1, 1), w(1, 5, 3, low=0.5))
case(_TWO, "-p- p-p > ppp", x(1, 5, 1), x(2, 1, 3, low=0.5))
case("PRelu", "ppp pp > ppp", x(2, 5, 3), x(5, 3, low=0.1))
case(_TWO, "pp pp > pp", x(2, 5, low=-9, high=9, dtype="i8"), x(2, 5, low=1, high=4, dtype="i8"))
case("Div", "p p > p", c([-7, 7, -7, 7]), c([2, -2, -2, 2]))
case("Add", "ppp ppp > ppp", x(2, 5, 3, dtype="f8"), w(2, 5, 3, dtype="f8"))
case("Pow", "pp . > pp", x(2, 5), c(2.0, dtype="f4"))
case("Pow", "pp . > pp", x(2, 5, low=0.1), c(0.5, dtype="f4"))
case("Pow", "pp pp > pp", x(2, 5, low=0.1), x(2, 5))
case("Pow", "p . > p", c([1, 2, 3]), c(3))
case("Mod", "pp pp > pp", x(2, 5, low=-9, high=9, dtype="i8"), x(2, 5, low=1, high=4, dtype="i8"))
case("Mod", "pp pp > pp", x(2, 5), x(2, 5, low=0.5), fmod=1)
case("And Or Xor", "pp p > pp", x(2, 5, dtype="?"), w(5, dtype="?"))
case("Equal Greater GreaterOrEqual Less LessOrEqual", "pp p > pp", x(2, 5), w(5))
case("Equal Greater Less", "pp . > pp", x(2, 5, low=0, high=3, dtype="i8"), c(2))
case("BitShift", "pp p > pp", x(2, 5, low=0, high=9, dtype="u4"), c([1, 2, 3, 1, 2], dtype="u4"),
     direction="LEFT")  # fmt: skip
case("BitwiseAnd BitwiseOr BitwiseXor", "pp p > pp", x(2, 5, low=0, high=9, dtype="i8"),
     w(5, low=0, high=9, dtype="i8"))  # fmt: skip
case("Sum Max Min Mean", "ppp p- . > ppp", x(2, 5, 3), w(5, 1), c(0.5, dtype="f4"))
case("Sum Max Min Mean", "ppp ppp > ppp", x(2, 5, 3), x(2, 5, 3, high=3))
case("Sum Max Min Mean", "pp > pp", x(2, 5))
case("Where", "pp pp pp > pp", x(2, 5, dtype="?"), x(2, 5), x(2, 5, high=3))
case("Where", "p- pp . > pp", x(2, 1, dtype="?"), x(2, 5), c(0.5, dtype="f4"))
case("Where", "p- p -p > pp", x(4, 1, dtype="?"), x(5), w(1, 5))

# linear
case("Conv", "ps-- ps-- > pp--", x(2, 6, 5, 5), w(4, 6, 3, 3))
case("Conv", "ps-- ps-- p > pp--", x(2, 6, 5, 5), w(4, 6, 3, 3), w(4), pads=[1, 1, 1, 1])
case("Conv", "ps- ps- p > pp-", x(2, 6, 9), w(4, 6, 3), w(4), strides=[2], dilations=[2])
case("Conv", "ps--- ps--- > pp---", x(1, 3, 4, 4, 4), w(2, 3, 2, 2, 2))
case("Conv", "p(ps)-- ps-- p > pp--", x(2, 6, 5, 5), w(4, 3, 3, 3), w(4), group=2)
case("Conv", "pp-- p--- > pp--", x(2, 6, 5, 5), w(6, 1, 3, 3), group=6)
case("Conv", "pp-- p--- p > pp--", x(2, 3, 5, 5), w(6, 1, 3, 3), w(6), group=3)
case("Conv", "ps-- ps-- > pp--", x(2, 6, 5, 5, dtype="f8"), w(4, 6, 1, 1, dtype="f8"), opset=11)
case("Conv", "ps-- ps-- > pp--", x(2, 4, 5, 5), x(3, 4, 2, 2), auto_pad="SAME_UPPER")
case("ConvTranspose", "ps-- sp-- p > pp--", x(2, 6, 5, 5), w(6, 4, 3, 3), w(4), strides=[2, 2])
case("ConvTranspose", "p(ps)-- (ps)p-- p > pp--", x(2, 6, 5, 5), w(6, 2, 3, 3), w(4), group=2)
case("ConvTranspose", "pp-- p--- p > pp--", x(2, 6, 5, 5), w(6, 1, 3, 3), w(6), group=6)
case("ConvTranspose", "ps- sp- > pp-", x(2, 3, 5), w(3, 4, 3), output_padding=[1], strides=[2])
case("com.microsoft.FusedConv", "ps-- ps-- p > pp--", x(2, 6, 5, 5), w(4, 6, 3, 3), w(4),
     activation="Relu")  # fmt: skip
case("com.microsoft.FusedConv", "ps-- ps-- p > pp--", x(2, 6, 5, 5), w(4, 6, 3, 3), w(4),
     activation="Sigmoid")  # fmt: skip
case("com.microsoft.FusedConv", "p(ps)-- ps-- p pp-- > pp--", x(2, 6, 5, 5), w(4, 3, 3, 3), w(4),
     x(2, 4, 3, 3), group=2)  # fmt: skip
case("Gemm", "ps sp p > pp", x(2, 6), w(6, 4), w(4))
case("Gemm", "ps ps > pp", x(2, 6), w(4, 6), transB=1, alpha=0.5)
case("Gemm", "sp sp . > pp", x(6, 2), w(6, 4), c(0.5, dtype="f4"), transA=1, beta=2.0)
case("Gemm", "sp ps p- > pp", x(6, 3), w(4, 6), w(3, 1), transA=1, transB=1)
case("Gemm", "sp ps pp > pp", w(6, 3), x(4, 6), x(3, 4), transA=1, transB=1, opset=9)
case("com.microsoft.FusedGemm", "ps ps p > pp", x(2, 6), w(4, 6), w(4), transB=1,
     activation="Relu")  # fmt: skip
case("com.microsoft.FusedGemm", "ps sp p > pp", x(2, 6), w(6, 4), w(4), activation="Sigmoid")
case("MatMul", "ps sp > pp", x(2, 6), w(6, 4))
case("MatMul", "s sp > p", x(6), w(6, 4))
case("MatMul", "ps s > p", x(2, 6), w(6))
case("MatMul", "s s > .", x(6), w(6))
case("MatMul", "pps sp > ppp", x(3, 2, 6), w(6, 4))
case("MatMul", "ps psp > ppp", w(2, 6), x(3, 6, 4))
case("MatMul", "ppps ppsp > pppp", x(3, 2, 4, 6), x(3, 2, 6, 5))
case("MatMul", "p-ps psp > pppp", x(3, 1, 4, 6), x(2, 6, 5))
case("MatMul", "pps s > pp", x(3, 2, 6), w(6))
case("MatMul", "s psp > pp", w(6), x(3, 6, 4))
case("MatMul", "ps sp > pp", x(2, 6, dtype="f8"), w(6, 4, dtype="f8"))
case("com.microsoft.FusedMatMul", "pps psp > ppp", x(3, 2, 6), x(3, 6, 4), alpha=0.5)
case("com.microsoft.FusedMatMul", "psp pps > ppp", x(3, 6, 2), x(3, 4, 6), transA=1, transB=1)
case("com.microsoft.FusedMatMul", "", x(3, 6, 2), x(3, 6, 4), transBatchA=1, refuses="transBatch")
case("Einsum", "ps sp > pp", x(2, 6), w(6, 4), equation="ij,jk->ik")
case("Einsum", "pps ps > ppp", x(2, 3, 6), w(4, 6), equation="bsd, hd -> bsh")
case("Einsum", "ps sp > pp", x(2, 6), w(6, 4), equation="ij,jk")
case("Einsum", "ppps ppsp > pppp", x(2, 3, 2, 4), x(2, 3, 4, 5), equation="...ij,...jk->...ik")
case("Einsum", "p- > p", x(2, 6), equation="ij->i")
case("Einsum", "", x(4, 4), equation="ii->i", refuses="repeated")

# normalization
_C = (w(6), w(6), w(6), w(6, low=0.5))
case("BatchNormalization", "pppp p p p p > pppp", x(2, 6, 3, 3), *_C, opset=15)
case("BatchNormalization", "pp p p p p > pp", x(2, 6), *_C, opset=9)
case("BatchNormalization", "ppp p p p p > ppp", x(2, 6, 3), *_C, opset=14, epsilon=0.1)
case("BatchNormalization", "pppp p p p p > pppp", x(2, 6, 3, 3), *_C, opset=7)
case("BatchNormalization", "-p-- p p p p > -p-- p p", x(2, 6, 3, 3), *_C, opset=15, outputs=3,
     training_mode=1)  # fmt: skip
case("InstanceNormalization", "ppmm p p > ppmm", x(2, 6, 3, 4), w(6), w(6))
case("InstanceNormalization", "ppm p p > ppm", x(2, 6, 4), w(6), w(6), opset=6)
case("LayerNormalization", "ppm m m > ppm", x(2, 3, 6), w(6), w(6))
case("LayerNormalization", "pmm mm > pmm", x(2, 3, 6), w(3, 6), axis=1)
case("LayerNormalization", "pppm m m > pppm ppp- ppp-", x(2, 3, 2, 6), w(6), w(6), outputs=3)
case("RMSNormalization", "ppm m > ppm", x(2, 3, 6), w(6), opset=23)
case("SimplifiedLayerNormalization", "ppm m > ppm", x(2, 3, 6), w(6), axis=-1)
case("GroupNormalization", "p(mp)-- (mp) (mp) > p(mp)--", x(2, 6, 3, 4), w(6), w(6), opset=21,
     num_groups=3)  # fmt: skip
case("GroupNormalization", "p(mp)-- p p > p(mp)--", x(2, 6, 3, 4), w(2), w(2), opset=18,
     num_groups=2)  # fmt: skip
case("GroupNormalization", "pp-- p p > pp--", x(2, 6, 3, 4), w(6), w(6), opset=21, num_groups=6)
case("GroupNormalization", "pm-- m m > pm--", x(2, 6, 3, 4), w(6), w(6), opset=21, num_groups=1)
case("LRN", "p--- > p---", x(2, 6, 3, 3), size=3)
case("Softmax LogSoftmax", "ppp > ppp", x(2, 3, 5), opset=13)
case("Hardmax", "pp- > pp-", x(2, 3, 5), opset=13)
case("Softmax LogSoftmax", "ppp > ppp", x(2, 3, 5), opset=13, axis=1)
case("Hardmax", "p-p > p-p", x(2, 3, 5), opset=13, axis=1)
case("Softmax LogSoftmax", "ppp > ppp", x(2, 3, 5), opset=11)
case("Hardmax", "p-- > p--", x(2, 3, 5), opset=11)
case("Softmax LogSoftmax", "ppp > ppp", x(2, 3, 5), opset=11, axis=2)
case("Hardmax", "pp- > pp-", x(2, 3, 5), opset=11, axis=2)
case("LpNormalization", "ppp > ppp", x(2, 3, 5))
case("LpNormalization", "ppp > ppp", x(2, 3, 5), axis=1, p=1)
case("TopK", "pp- - > pp- pp-", x(2, 3, 5), c([2]), outputs=2)
case("TopK", "p-p - > p-p p-p", x(2, 4, 5), c([2]), outputs=2, axis=1, opset=11)
case("TopK", "pp- > pp- pp-", x(2, 3, 5), outputs=2, k=2, opset=9)
case("CumSum", "p-p . > p-p", x(2, 4, 5), c(1))
case("CumProd", "p-p . > p-p", x(2, 4, 5), c(1), opset=26)
case("MeanVarianceNormalization", "mpmm > mpmm", x(2, 6, 3, 3))
case("MeanVarianceNormalization", "ppmm > ppmm", x(2, 6, 3, 3), axes=[2, 3], opset=9)

# reductions
_EVENED = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare"
_POSITIVE = x(2, 4, 5, low=0.5)
for _op, _r in (
    ("ReduceSum", "s"),
    ("ReduceMean", "m"),
    (f"ReduceMax ReduceMin {_EVENED}", "x"),
    ("ReduceProd", "-"),
):
    case(_op, f"p{_r}p > p-p", _POSITIVE, opset=11, axes=[1])
    case(_op, f"{_r * 3} > ---", _POSITIVE, opset=11)
    case(_op, f"p{_r}{_r} > p", _POSITIVE, opset=11, axes=[-1, 1], keepdims=0)
    case(_op, f"{_r * 3} > .", _POSITIVE, opset=11, keepdims=0)
    case(_op, f"p{_r}p - > p-p", _POSITIVE, c([1]), opset=18)
    case(_op, f"{_r}p{_r} - > p", _POSITIVE, c([0, -1]), opset=18, keepdims=0)
    case(_op, f"{_r * 3} > ---", _POSITIVE, opset=18)
    case(_op, "ppp > ppp", _POSITIVE, opset=18, noop_with_empty_axes=1)
case("ReduceSum", "psp - > p-p", _POSITIVE, c([1]), opset=13)
case("ReduceMax", "px > p", x(2, 4, dtype="i8"), opset=11, axes=[1], keepdims=0)
case("ArgMax ArgMin", "p-p > p-p", x(2, 4, 5), axis=1)
case("ArgMax ArgMin", "pp- > pp", x(2, 4, 5), axis=-1, keepdims=0, select_last_index=1)

# windows
case("MaxPool", "pp-- > pp--", x(2, 3, 6, 6), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
case("MaxPool", "pp- > pp-", x(2, 3, 6), kernel_shape=[2], ceil_mode=1, opset=10)
case("MaxPool", "", x(2, 3, 6, 6), kernel_shape=[2, 2], outputs=2, refuses="flat positions")
case("AveragePool", "pp-- > pp--", x(2, 3, 6, 6), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
case("AveragePool", "pp--- > pp---", x(2, 3, 4, 4, 4), kernel_shape=[2, 2, 2],
     count_include_pad=1, opset=19)  # fmt: skip
case("LpPool", "pp-- > pp--", x(2, 3, 6, 6), kernel_shape=[2, 2], p=2)
case("GlobalAveragePool GlobalMaxPool GlobalLpPool", "pp-- > pp--", x(2, 3, 6, 6))
case("GlobalAveragePool", "pp- > pp-", x(2, 3, 6))
case("GridSample", "pp-- p--- > pp--", x(2, 3, 6, 6), x(2, 4, 5, 2, low=-1, high=1), opset=16)
case("RoiAlign", "-p-- p- p > pp--", x(2, 3, 6, 6), w(4, 4, low=1, high=4), c([0, 1, 0, 1]),
     output_height=2, output_width=2)  # fmt: skip
case("MaxRoiPool", "-p-- p- > pp--", x(2, 3, 6, 6),
     c([[0, 1, 1, 4, 4], [1, 0, 0, 5, 3]], dtype="f4"), pooled_shape=[2, 2])  # fmt: skip
_UP = c([1, 1, 2, 2], dtype="f4")
_ROI = c([], dtype="f4")
case("Upsample", "pp-- - > pp--", x(2, 3, 4, 4), _UP, opset=9)
case("Upsample", "pp-- > pp--", x(2, 3, 4, 4), opset=7, scales=[1.0, 1.0, 2.0, 2.0], mode="linear")
case("Resize", "pp-- - > pp--", x(2, 3, 4, 4), _UP, opset=10)
case("Resize", "pp-- - - > pp--", x(2, 3, 4, 4), _ROI, _UP, opset=11, mode="linear")
case("Resize", "pp-- _ - > pp--", x(2, 3, 4, 4), None, _UP, opset=13)
case("Resize", "pp-- _ _ - > pp--", x(2, 3, 4, 4), None, None, c([2, 3, 8, 6]), opset=13,
     mode="cubic")  # fmt: skip
case("Resize", "pp-- _ _ - > pp--", x(2, 3, 4, 4), None, None, c([8, 6]), opset=18, axes=[2, 3])
case("Resize", "pppp _ _ - > pppp", x(2, 3, 4, 4), None, None, c([2, 3, 4, 4]), opset=19)
case("Resize", "p-pp _ - > p-pp", x(2, 3, 4, 4), None, c([1, 1.2, 1, 1], dtype="f4"), opset=13,
     mode="linear")  # fmt: skip
case("Resize", "---- - - > ----", x(1, 3, 4, 4), c([0, 0, 0.2, 0.2, 1, 1, 0.8, 0.8], dtype="f4"),
     c([1, 1, 1, 1], dtype="f4"), opset=13, coordinate_transformation_mode="tf_crop_and_resize",
     mode="linear")  # fmt: skip
case("DepthToSpace", "pppp > pppp", x(2, 12, 3, 2), blocksize=2)
case("DepthToSpace", "pppp > pppp", x(2, 12, 3, 2), blocksize=2, mode="CRD")
case("DepthToSpace", "pppp > pppp", x(2, 12, 3, 2), blocksize=2, opset=1)
case("DepthToSpace", "p-pp > p-pp", x(2, 4, 3, 2), blocksize=2)
case("SpaceToDepth", "p-pp > p-pp", x(2, 1, 4, 6), blocksize=2)
case("SpaceToDepth", "pppp > pppp", x(2, 3, 4, 6), blocksize=2)

# positions known at run time
_I: Any = {"low": 0, "high": 3, "dtype": "i8"}
case("GatherElements", "p-p p-p > p-p", x(2, 4, 5), w(2, 3, 5, **_I), axis=1)
case("GatherElements", "-- -- > --", x(4, 5), w(2, 3, **_I))
case("ScatterElements", "-p -p -p > -p", x(4, 5), c([[0, 1, 2, 3, 0]]), x(1, 5))
case("ScatterElements", "-- -- -- > --", x(4, 5), c([[0, 1, 2]]), x(1, 3))
case("Scatter", "-p -p -p > -p", x(4, 5), c([[0, 1, 2, 3, 0]]), x(1, 5), opset=9)
case("GatherND", "--p p- > pp", x(2, 2, 5), c([[0, 1], [1, 1], [0, 0]]))
case("GatherND", "p-p pp- > ppp", x(2, 2, 5), c([[[1], [0]], [[0], [0]]]), batch_dims=1)
case("ScatterND", "-p -- -p > -p", x(4, 5), c([[0], [2]]), x(2, 5))
case("ScatterND", "--p --- --p > --p", x(2, 2, 5), c([[[0, 1]], [[1, 0]]]), x(2, 1, 5))
case("ReverseSequence", "-pp p > -pp", x(4, 3, 5), c([2, 4, 1]))
case("ReverseSequence", "p-p p > p-p", x(3, 4, 5), c([2, 4, 1]), batch_axis=0, time_axis=1)
case("Compress", "p-p - > p-p", x(2, 4, 5), c([True, False, True], dtype="?"), axis=1)
case("Compress", "", x(2, 4), c([True, False], dtype="?"), refuses="flattened")
case("Trilu", "p-- > p--", x(2, 4, 4))
case("Trilu", "p-- . > p--", x(2, 4, 4), c(1), upper=0)

# sizes
case("Shape", "--- > -", x(2, 3, 4))
case("Shape", "--- > -", x(2, 3, 4), start=1, end=-1, opset=15)
case("Size", "--- > .", x(2, 3, 4))
case("Range", ". . . > -", c(1), c(9), c(2))
case("Range", ". . . > -", c(3.0, dtype="f4"), c(-1.0, dtype="f4"), c(-0.5, dtype="f4"))

# nothing passes
case("OneHot", "-- . - > ---", x(2, 3, **_I), c(4), c([0.0, 1.0], dtype="f4"))
case("EyeLike", "-- > --", x(3, 4))
case("NonZero", "-- > --", x(3, 4))
case("Unique", "- > -", x(5))
case("NonMaxSuppression", "--- --- > --", x(1, 4, 4), x(1, 1, 4))
case("DFT", "--- > ---", x(2, 4, 1), opset=17)
case("STFT", "-- . - > ----", x(2, 16), c(4), c([1.0] * 8, dtype="f4"), opset=17,
     onesided=0)  # fmt: skip
case("Det", "--- > -", x(2, 3, 3))
case("Col2Im", "--- - - > ----", x(1, 5, 5), c([5, 5]), c([1, 5]))
case("CenterCropPad", "-- - > --", x(4, 6), c([2, 8]))

# every index of movement rows that the notation stands in for
case("Gather", "-p pp > ppp", x(4, 5), x(2, 3, **_I))
case("Gather", "p-p p > ppp", w(2, 4, 5), x(3, **_I), axis=1)
