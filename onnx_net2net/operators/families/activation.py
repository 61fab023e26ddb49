"""Activations: how their parameters are read off a node. The functions are in `activations`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnx_net2net.graph.model import Node
from onnx_net2net.operators.activations import TABLE as FUNCTIONS
from onnx_net2net.operators.activations import Activation
from onnx_net2net.operators.spec import Constants, Operands, Site, rule

Read = Callable[[Site, Constants], "Activation | None"]


def _attributes(name: str, *names: str) -> Read:
    def read(site: Site, constant: Constants) -> Activation:
        given = {n: site.attr(n) for n in names if site.attr(n) is not None}
        return Activation(name, given)

    return read


def _clip(site: Site, constant: Constants) -> Activation | None:
    bounds = {"min": site.attr("min"), "max": site.attr("max")}
    for slot, name in ((1, "min"), (2, "max")):
        if site.has(slot):
            value = site.values[slot]
            if value is None:
                return None
            bounds[name] = value.reshape(-1)[0]
    # exporters write the largest float for "no bound"
    known = {n: float(v) for n, v in bounds.items() if v is not None and abs(v) < 3.4e38}
    return Activation("Clip", known)


def _prelu(site: Site, constant: Constants) -> Activation | None:
    found = constant(1)
    if found is None:
        return None
    slope = np.asarray(found, np.float64).reshape(-1)
    return Activation("PRelu", {"alpha": slope if len(slope) > 1 else float(slope[0])})


def fused(site: Site, constant: Constants) -> Activation | None:
    """The activation behind a product that an attribute names."""
    name = site.attr("activation", "")
    given = list(site.attr("activation_params", []))
    names = {"Clip": ("min", "max"), "HardSigmoid": ("alpha", "beta")}.get(name, ("alpha",))
    if name not in FUNCTIONS:
        return None
    taken = {"alpha": site.attr("activation_alpha")} if site.attr("activation_alpha") else {}
    return Activation(name, taken | dict(zip(names, given, strict=False)))


def _pointwise(names: str, *parameters: str, **fields: Any) -> None:
    """Rows of activations with some attributes."""
    for name in names.split():
        read = _attributes(name, *parameters)
        rule(name, notation="... -> ...", activation=read, **fields)


_pointwise("HardSwish Mish Softsign Tanh", zero=())
_pointwise("Relu", zero=(), fold=lambda node, args: [np.maximum(args[0], 0)])
_pointwise("Abs", zero=(), fold=lambda node, args: [np.abs(args[0])])
_pointwise("Celu Elu LeakyRelu Swish ThresholdedRelu", "alpha", zero=())
_pointwise("Selu", "alpha", "gamma", zero=())
_pointwise("Gelu", "approximate", zero=())
_pointwise("Sigmoid Softplus")
_pointwise("HardSigmoid", "alpha", "beta")
rule(
    "PRelu",
    notation="..., ... -> ...",
    zero=(0,),
    zero_keeps=(1,),
    activation=_prelu,
)


def _clip_zero(site: Site) -> Operands | None:
    low = site.values[1] if site.has(1) else site.attr("min", -1.0)
    high = site.values[2] if site.has(2) else site.attr("max", 1.0)
    return () if low is not None and high is not None and low <= 0 <= high else None


def _clipped(node: Node, args: list[Any]) -> list[Any]:
    bounds = [args[k] if len(args) > k else node.attr(n) for k, n in ((1, "min"), (2, "max"))]
    return [np.clip(args[0], *bounds)]


rule("Clip", notation="... -> ...", zero=_clip_zero, fold=_clipped, activation=_clip)


def _biased(site: Site) -> str:
    return "..., ... -> ..." if site.has(1) else "... -> ..."


def _quick(site: Site, constant: Constants) -> Activation:
    return Activation("Swish", {"alpha": site.attr("alpha", 1.702)})


for _name, _read in {
    "Gelu": _attributes("Gelu"),
    "BiasGelu": _attributes("Gelu"),
    "FastGelu": lambda site, constant: Activation("Gelu", {"approximate": "tanh"}),
    "QuickGelu": _quick,
}.items():
    rule(f"com.microsoft.{_name}", notation=_biased, zero=(0, 1), activation=_read)
