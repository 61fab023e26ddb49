"""Operators that treat every element alone: unary, broadcasting, and their fused forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from onnx_net2net.errors import Reason
from onnx_net2net.graph.model import Node
from onnx_net2net.operators.spec import ALL, Operands, RowError, Site, rule

_FOLDED: dict[str, Any] = {
    "Abs": np.abs,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Exp": np.exp,
    "Floor": np.floor,
    "Identity": lambda x: x,
    "Log": np.log,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Reciprocal": lambda x: (1 / x).astype(x.dtype),
    "Relu": lambda x: np.maximum(x, 0),
    "Round": np.rint,
    "Sign": np.sign,
    "Sin": np.sin,
    "Sqrt": np.sqrt,
}
_ZERO = (
    "Abs Asin Asinh Atan Atanh Ceil Celu Elu Erf Floor Gelu HardSwish Identity LeakyRelu Mish "
    "Neg Relu Round Selu Shrink Sign Sin Sinh Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
)
_NOT_ZERO = (
    "Acos Acosh BitwiseNot Cos Cosh Exp HardSigmoid IsInf IsNaN Log Not Reciprocal Sigmoid Softplus"
)
_PARTIAL = "Acos Acosh Asin Atanh Log Reciprocal Sqrt".split()


def _unary(name: str) -> Any:
    f = _FOLDED.get(name)
    return None if f is None else lambda node, args: [f(args[0])]


for _name in _ZERO.split():
    rule(
        _name,
        notation="... -> ...",
        zero=(),
        partial=(0,) if _name in _PARTIAL else (),
        linear=_name in ("Identity", "Neg"),
        fold=_unary(_name),
    )
for _name in _NOT_ZERO.split():
    rule(
        _name,
        notation="... -> ...",
        partial=(0,) if _name in _PARTIAL else (),
        fold=_unary(_name),
    )

rule(
    "com.microsoft.Gelu com.microsoft.QuickGelu com.microsoft.FastGelu com.microsoft.BiasGelu",
    notation=lambda s: "..., ... -> ..." if s.has(1) else "... -> ...",
    zero=(0, 1),
)


def _cast(node: Node, args: list[Any]) -> list[Any]:
    return [args[0].astype(onnx.helper.tensor_dtype_to_np_dtype(node.attr("to")))]


rule("Cast", notation="... -> ...", zero=(), linear=True, fold=_cast)
rule(
    "CastLike",
    notation="..., ~ -> ...",
    zero=(),
    linear=True,
    fold=lambda node, args: [args[0].astype(args[1].dtype)],
)


def _clip_zero(site: Site) -> Operands | None:
    low = site.values[1] if site.has(1) else site.attr("min", -1.0)
    high = site.values[2] if site.has(2) else site.attr("max", 1.0)
    return () if low is not None and high is not None and low <= 0 <= high else None


rule(
    "Clip",
    notation="... -> ...",
    zero=_clip_zero,
    fold=lambda node, args: [
        np.clip(
            args[0],
            args[1] if len(args) > 1 else node.attr("min"),
            args[2] if len(args) > 2 else node.attr("max"),
        )
    ],
)


def _dropout(site: Site) -> str:
    if site.has(2) and (site.values[2] is None or site.values[2].any()):
        raise RowError("it draws at run time when training", Reason.RUNTIME)
    return "... -> ..., ..."


rule("Dropout", notation=_dropout, zero=(), linear=True)
rule("Bernoulli RandomNormalLike RandomUniformLike", random=True)
rule("Multinomial RandomNormal RandomUniform", random=True)


def _divide(a: Any, b: Any) -> Any:
    if a.dtype.kind in "iu":  # ONNX truncates, numpy floors
        q = np.abs(a) // np.maximum(np.abs(b), 1)
        return (q * np.sign(a) * np.sign(b)).astype(a.dtype)
    return a / b


_BINARY: dict[str, Any] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divide,
    "Pow": lambda a, b: np.power(a, b).astype(a.dtype),
    "Mod": None,
    "PRelu": None,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "BitShift": None,
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
}


def _mod(node: Node, args: list[Any]) -> list[Any]:
    return [(np.fmod if node.attr("fmod", 0) else np.mod)(args[0], args[1])]


def _folded(f: Any) -> Any:
    return lambda node, args: [f(args[0], args[1])]


def _pow_partial(site: Site) -> Operands:
    power = site.values[1]
    whole = power is not None and bool(((power >= 0) & (power == np.rint(power))).all())
    return () if whole else (0, 1)


def _pow_zero(site: Site) -> Operands | None:
    power = site.values[1]
    return (0,) if power is not None and bool((power > 0).all()) else None


def _sum_means(slots: set[int]) -> bool:
    return True


_MEANS: dict[str, Any] = {
    "Add": _sum_means,
    "Sub": _sum_means,
    "Mul": lambda slots: len(slots) == 1,
    "Div": lambda slots: slots == {0},
}
_ZEROS: dict[str, Any] = {
    "Add": (0, 1), "Sub": (0, 1), "Mul": (), "Div": (0,), "PRelu": (0,), "Pow": _pow_zero,
}  # fmt: skip

for _name, _f in _BINARY.items():
    rule(
        _name,
        notation="..., ... -> ...",
        zero=_ZEROS.get(_name),
        means=_MEANS.get(_name),
        subtracts=_name == "Sub",
        zero_keeps={"Mul": (0, 1), "Div": (1,), "PRelu": (1,), "Pow": (1,)}.get(_name, ()),
        partial={"Div": (1,), "Pow": _pow_partial, "Mod": (1,)}.get(_name, ()),
        linear=_name in ("Mul", "Div"),
        fold=_mod if _name == "Mod" else None if _f is None else _folded(_f),
    )


def _variadic(site: Site) -> str:
    return ", ".join(["..."] * len(site.node.inputs)) + " -> ..."


def _reduced(f: Any) -> Any:
    def fold(node: Node, args: list[Any]) -> list[Any]:
        total = args[0]
        for a in args[1:]:
            total = f(total, a)
        return [total]

    return fold


rule("Sum", notation=_variadic, zero=ALL, means=_sum_means, fold=_reduced(np.add))
rule("Max", notation=_variadic, zero=ALL, fold=_reduced(np.maximum))
rule("Min", notation=_variadic, zero=ALL, fold=_reduced(np.minimum))
rule("Mean", notation=_variadic, zero=ALL)
rule(
    "Where",
    notation="..., ..., ... -> ...",
    zero=(1, 2),
    fold=lambda node, args: [np.where(args[0], args[1], args[2])],
)
