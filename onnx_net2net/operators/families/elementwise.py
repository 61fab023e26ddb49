"""Operators that treat every element alone: unary, broadcasting, and their fused forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx

from onnx_net2net.errors import Reason
from onnx_net2net.graph.model import Node
from onnx_net2net.operators.intervals import (
    cast,
    chosen,
    difference,
    fixed,
    interval_maximum,
    interval_minimum,
    interval_quotient,
    kept,
    mean_of_all,
    negative,
    power,
    product,
    reciprocal,
    total,
)
from onnx_net2net.operators.spec import ALL, Operands, RowError, Site, rule

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _unary(name: str, f: Any = None, *, partial: bool = False, **fields: Any) -> None:
    """Rows of one operand; `f`: the operator on arrays; `partial`: not of every number."""
    fold = None if f is None else lambda node, args: [np.asarray(f(args[0])).astype(args[0].dtype)]
    for one in name.split():
        rule(one, notation="... -> ...", partial=(0,) if partial else (), fold=fold, **fields)


_UNIT = fixed(-1.0, 1.0)
_unary(
    "Identity",
    lambda x: x,
    zero=(),
    linear=True,
    repeats=True,
    blends=True,
    range=kept,
    lists=lambda node, held, own, values: None if held[0] is None else list(held[0]),
)
_unary("Neg", np.negative, zero=(), linear=True, range=negative)
_unary("Ceil", np.ceil, zero=())
_unary("Erf", _erf, zero=(), range=_UNIT)
_unary("Floor", np.floor, zero=())
_unary("Round", np.rint, zero=())
_unary("Sign", np.sign, zero=())
_unary("Sin", np.sin, zero=(), range=_UNIT)
_unary("Sqrt", np.sqrt, zero=(), partial=True, range=fixed(0.0, math.inf))
_unary("Asin Atanh", zero=(), partial=True)
_unary("Asinh Atan Shrink Sinh Tan", zero=())
_unary("Cos", np.cos, range=_UNIT)
_unary("Exp", np.exp, range=fixed(0.0, math.inf))
_unary("Log", np.log, partial=True)
_unary("Reciprocal", lambda x: 1 / x, partial=True, range=reciprocal)
_unary("Acos Acosh", partial=True)
_unary("BitwiseNot Cosh IsInf IsNaN")
rule("Not", notation="... -> ...", fold=lambda node, args: [np.logical_not(args[0])])


def _cast(node: Node, args: list[Any]) -> list[Any]:
    return [args[0].astype(onnx.helper.tensor_dtype_to_np_dtype(node.attr("to")))]


rule(
    "Cast",
    notation="... -> ...",
    zero=(),
    linear=True,
    fold=_cast,
    repeats=True,
    blends=True,
    range=cast,
)
rule(
    "CastLike",
    notation="..., ~ -> ...",
    zero=(),
    linear=True,
    repeats=True,
    fold=lambda node, args: [args[0].astype(args[1].dtype)],
)


def _dropout(site: Site) -> str:
    if site.has(2) and (site.values[2] is None or site.values[2].any()):
        raise RowError("it draws at run time when training", Reason.RUNTIME)
    return "... -> ..., ..."


rule("Dropout", notation=_dropout, zero=(), linear=True, repeats=True, blends=True, range=kept)
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
_RANGES: dict[str, Any] = {
    "Add": total, "Sub": difference, "Mul": product, "Div": interval_quotient, "Pow": power,
}  # fmt: skip
_ZEROS: dict[str, Any] = {
    "Add": (0, 1), "Sub": (0, 1), "Mul": (), "Div": (0,), "Pow": _pow_zero,
}  # fmt: skip

for _name, _f in _BINARY.items():
    rule(
        _name,
        notation="..., ... -> ...",
        zero=_ZEROS.get(_name),
        means=_MEANS.get(_name),
        subtracts=_name == "Sub",
        adds=_name == "Add",
        range=_RANGES.get(_name),
        zero_keeps={"Mul": (0, 1), "Div": (1,), "Pow": (1,)}.get(_name, ()),
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


rule(
    "Sum",
    notation=_variadic,
    zero=ALL,
    means=_sum_means,
    adds=True,
    fold=_reduced(np.add),
    range=total,
)
rule("Max", notation=_variadic, zero=ALL, fold=_reduced(np.maximum), range=interval_maximum)
rule("Min", notation=_variadic, zero=ALL, fold=_reduced(np.minimum), range=interval_minimum)
rule("Mean", notation=_variadic, zero=ALL, range=mean_of_all)
rule(
    "Where",
    notation="..., ..., ... -> ...",
    zero=(1, 2),
    fold=lambda node, args: [np.where(args[0], args[1], args[2])],
    range=chosen,
)
