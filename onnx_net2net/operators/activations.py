"""The table of activations: where each is the identity, its odd part, its lowest value, how
to write it at an opset.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from onnx_net2net.errors import UsageError
from onnx_net2net.typing import Array

Interval = tuple[float, float]
Parameters = Mapping[str, Any]
POSITIVE: Interval = (0.0, math.inf)


class Composer(Protocol):
    """What an activation is written with."""

    opset: int

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node; its output's name."""

    def scalar(self, value: float) -> str:
        """Add a constant of the tensor's type; its name."""

    def slope(self, value: Any) -> str:
        """Add one constant per channel; its name."""


@dataclass(frozen=True)
class Activation:
    """A pointwise function: a row of `TABLE` and its parameters (`alpha`, `min`, ...)."""

    name: str
    parameters: Parameters = field(default_factory=dict)

    @property
    def row(self) -> Row:
        """Its row of the table."""
        return TABLE[self.name]

    @property
    def values(self) -> dict[str, Any]:
        """Parameters with the row's defaults filled in."""
        return {**self.row.defaults, **self.parameters}

    def __call__(self, x: Array) -> Array:
        """The function on an array.

        >>> Activation("Relu")(np.array([-1.0, 2.0]))
        array([0., 2.])
        """
        return np.asarray(self.row.f(np.asarray(x, np.float64), self.values))

    def is_identity_on(self, low: float, high: float) -> bool:
        """Whether it returns every value of [low, high] times the row's scale unchanged.

        >>> Activation("Elu").is_identity_on(0, math.inf), Activation("Elu").is_identity_on(-1, 1)
        (True, False)
        """
        legal = self.row.identity(self.values)
        return legal is not None and legal[0] <= low and high <= legal[1]

    @property
    def odd(self) -> Any:
        """c with f(x) - f(-x) = c x (per channel for PRelu), None where there is none."""
        return self.row.odd(self.values)

    @property
    def lowest(self) -> float:
        """A number that no value of the function is below."""
        return float(self.row.lowest(self.values))

    @property
    def highest(self) -> float:
        """A number that no value of the function is above."""
        return float(self.row.highest(self.values))

    def compose(self, composer: Composer, x: str) -> str:
        """Write it on tensor `x`; the name of the result."""
        return self.row.compose(composer, x, self.values)


@dataclass(frozen=True)
class Row:
    """One activation.

    Args:
        f: on float64 arrays; what a chain of nodes is recognised by.
        compose: writes it as nodes.
        identity: the interval on which it is the identity (growth-operators.md 0.6).
        odd: c where f(x) - f(-x) = c x (growth-operators.md D5).
        lowest: its infimum (growth-operators.md 0.5).
        highest: its supremum.
        rising: it never falls (where a parameter `alpha` is not negative).
        exact: nothing is rounded.
        scale: the identity holds for values that were divided by this.
        defaults: of ONNX.
    """

    f: Callable[[Array, Parameters], Array]
    compose: Callable[[Composer, str, Parameters], str]
    identity: Callable[[Parameters], Interval | None] = lambda p: None
    odd: Callable[[Parameters], Any] = lambda p: None
    lowest: Callable[[Parameters], float] = lambda p: -math.inf
    highest: Callable[[Parameters], float] = lambda p: math.inf
    rising: bool = False
    exact: bool = False
    scale: float = 1.0
    defaults: Parameters = field(default_factory=dict)


def _native(op: str, *names: str) -> Callable[[Composer, str, Parameters], str]:
    """One node with the parameters as attributes."""
    return lambda c, x, p: c.node(op, [x], **{n: p[n] for n in names})


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


_erf: Any = np.vectorize(math.erf, otypes=[np.float64])
_ROOT = math.sqrt(2.0 / math.pi)


def _gelu(x: Array, p: Parameters) -> Array:
    if p["approximate"] == "tanh":
        return np.asarray(0.5 * x * (1.0 + np.tanh(_ROOT * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))))


def _compose_gelu(c: Composer, x: str, p: Parameters) -> str:
    if c.opset >= 20:
        return c.node("Gelu", [x], approximate=p["approximate"])
    if p["approximate"] == "tanh":
        cube = c.node("Mul", [c.node("Mul", [x, x]), x])
        inner = c.node("Add", [x, c.node("Mul", [cube, c.scalar(0.044715)])])
        gate = c.node("Tanh", [c.node("Mul", [inner, c.scalar(_ROOT)])])
    else:
        gate = c.node("Erf", [c.node("Div", [x, c.scalar(math.sqrt(2.0))])])
    one = c.node("Add", [gate, c.scalar(1.0)])
    return c.node("Mul", [c.node("Mul", [x, one]), c.scalar(0.5)])


def _compose_swish(c: Composer, x: str, p: Parameters) -> str:
    scaled = x if p["alpha"] == 1.0 else c.node("Mul", [x, c.scalar(p["alpha"])])
    return c.node("Mul", [x, c.node("Sigmoid", [scaled])])


def _compose_hard_swish(c: Composer, x: str, p: Parameters) -> str:
    if c.opset >= 14:
        return c.node("HardSwish", [x])
    return c.node("Mul", [x, c.node("HardSigmoid", [x], alpha=1.0 / 6.0, beta=0.5)])


def _compose_celu(c: Composer, x: str, p: Parameters) -> str:
    if c.opset >= 12:
        return c.node("Celu", [x], alpha=p["alpha"])
    alpha = c.scalar(p["alpha"])
    return c.node("Mul", [c.node("Elu", [c.node("Div", [x, alpha])]), alpha])


def _compose_thresholded(c: Composer, x: str, p: Parameters) -> str:
    if c.opset >= 10:
        return c.node("ThresholdedRelu", [x], alpha=p["alpha"])
    above = c.node("Greater", [x, c.scalar(p["alpha"])])
    return c.node("Where", [above, x, c.scalar(0.0)])


def _compose_clip(c: Composer, x: str, p: Parameters) -> str:
    if c.opset < 11:
        bounds = {n: p[n] for n in ("min", "max") if math.isfinite(p[n])}
        return c.node("Clip", [x], **bounds)
    ends = [c.scalar(p[n]) if math.isfinite(p[n]) else "" for n in ("min", "max")]
    return c.node("Clip", [x, *ends] if ends[1] else [x, ends[0]])


def _one_plus(p: Parameters) -> Any:
    return 1.0 + p["alpha"]


TABLE: dict[str, Row] = {
    "Relu": Row(
        lambda x, p: np.maximum(x, 0), _native("Relu"),
        lambda p: POSITIVE, lambda p: 1.0, lambda p: 0.0, rising=True, exact=True,
    ),
    "LeakyRelu": Row(
        lambda x, p: np.where(x < 0, p["alpha"] * x, x), _native("LeakyRelu", "alpha"),
        lambda p: POSITIVE, _one_plus, defaults={"alpha": 0.01}, rising=True,
    ),
    "PRelu": Row(
        lambda x, p: np.where(x < 0, p["alpha"] * x, x),
        lambda c, x, p: c.node("PRelu", [x, c.slope(p["alpha"])]),
        lambda p: POSITIVE, _one_plus, defaults={"alpha": 0.25},
    ),
    "Elu": Row(
        lambda x, p: np.where(x < 0, p["alpha"] * np.expm1(np.minimum(x, 0)), x),
        _native("Elu", "alpha"),
        lambda p: POSITIVE, lowest=lambda p: -abs(p["alpha"]), defaults={"alpha": 1.0}, rising=True,
    ),
    "Celu": Row(
        lambda x, p: np.where(x < 0, p["alpha"] * np.expm1(np.minimum(x, 0) / p["alpha"]), x),
        _compose_celu,
        lambda p: POSITIVE, lowest=lambda p: -abs(p["alpha"]), defaults={"alpha": 1.0}, rising=True,
    ),
    "Selu": Row(
        lambda x, p: p["gamma"] * np.where(x < 0, p["alpha"] * np.expm1(np.minimum(x, 0)), x),
        _native("Selu", "alpha", "gamma"),
        lambda p: POSITIVE if abs(p["gamma"] - 1.0507009) < 1e-6 else None,
        lowest=lambda p: -1.001 * p["alpha"] * p["gamma"], scale=1.05070102214813232421875,
        defaults={"alpha": 1.6732631921768188, "gamma": 1.0507010221481323}, rising=True,
    ),
    "ThresholdedRelu": Row(
        lambda x, p: np.where(x > p["alpha"], x, 0), _compose_thresholded,
        lambda p: (math.nextafter(p["alpha"], math.inf) if p["alpha"] else 0.0, math.inf),
        lambda p: None if p["alpha"] else 1.0, lambda p: min(p["alpha"], 0.0),
        defaults={"alpha": 1.0},
    ),
    "Clip": Row(
        lambda x, p: np.clip(x, p["min"], p["max"]), _compose_clip,
        lambda p: (p["min"], p["max"]),
        lambda p: 1.0 if p["min"] == 0 and p["max"] == math.inf else None, lambda p: p["min"],
        defaults={"min": -math.inf, "max": math.inf}, highest=lambda p: p["max"],
        rising=True, exact=True,
    ),
    "Abs": Row(lambda x, p: np.abs(x), _native("Abs"), lambda p: POSITIVE, lowest=lambda p: 0.0),
    "HardSwish": Row(
        lambda x, p: x * np.clip(x / 6 + 0.5, 0, 1), _compose_hard_swish,
        lambda p: (3.0, math.inf), lambda p: 1.0, lambda p: -0.376,
    ),
    "Gelu": Row(
        _gelu, _compose_gelu, odd=lambda p: 1.0, lowest=lambda p: -0.1701,
        defaults={"approximate": "none"},
    ),
    "Swish": Row(
        lambda x, p: x * _sigmoid(p["alpha"] * x), _compose_swish, odd=lambda p: 1.0,
        lowest=lambda p: -0.2786 / p["alpha"] if p["alpha"] > 0 else -math.inf,
        defaults={"alpha": 1.0},
    ),
    "Mish": Row(
        lambda x, p: x * np.tanh(np.logaddexp(0, x)),
        lambda c, x, p: c.node("Mul", [x, c.node("Tanh", [c.node("Softplus", [x])])]),
        lowest=lambda p: -0.309,
    ),
    "Softplus": Row(
        lambda x, p: np.logaddexp(0, x), _native("Softplus"),
        odd=lambda p: 1.0, lowest=lambda p: 0.0, rising=True,
    ),
    "LogSigmoid": Row(
        lambda x, p: -np.logaddexp(0, -x),
        lambda c, x, p: c.node("Neg", [c.node("Softplus", [c.node("Neg", [x])])]),
        odd=lambda p: 1.0, highest=lambda p: 0.0,
    ),
    "Sigmoid": Row(
        lambda x, p: _sigmoid(x), _native("Sigmoid"),
        lowest=lambda p: 0.0, highest=lambda p: 1.0, rising=True,
    ),
    "HardSigmoid": Row(
        lambda x, p: np.clip(p["alpha"] * x + p["beta"], 0, 1),
        _native("HardSigmoid", "alpha", "beta"),
        lowest=lambda p: 0.0, highest=lambda p: 1.0, rising=True,
        defaults={"alpha": 0.2, "beta": 0.5},
    ),
    "Tanh": Row(
        lambda x, p: np.tanh(x), _native("Tanh"),
        lowest=lambda p: -1.0, highest=lambda p: 1.0, rising=True,
    ),
    "Softsign": Row(
        lambda x, p: x / (1 + np.abs(x)), _native("Softsign"),
        lowest=lambda p: -1.0, highest=lambda p: 1.0,
    ),
}  # fmt: skip

_ALIASES = {
    "silu": Activation("Swish"),
    "quickgelu": Activation("Swish", {"alpha": 1.702}),
    "relu6": Activation("Clip", {"min": 0.0, "max": 6.0}),
    "gelutanh": Activation("Gelu", {"approximate": "tanh"}),
    "fastgelu": Activation("Gelu", {"approximate": "tanh"}),
    **{name.lower(): Activation(name) for name in TABLE},
}
NEVER_TRAIN = frozenset("sign floor ceil round hardmax".split())
"""Their derivative is zero wherever it exists (growth-operators.md 0.7)."""
ACROSS = frozenset("softmax logsoftmax".split())
"""Not pointwise, so never the identity."""


def named(name: str) -> Activation:
    """The activation that a user names: an operator, or `silu`, `relu6`, `quick_gelu`, ...

    Raises:
        UsageError: not in the table.

    >>> named("leaky_relu").name, named("relu6").values["max"]
    ('LeakyRelu', 6.0)
    """
    found = _ALIASES.get(plain(name))
    if found is None:
        raise UsageError(
            f"activation '{name}' is not known", f"known are {', '.join(sorted(TABLE))}"
        )
    return found


def plain(name: str) -> str:
    """A name without case, hyphens and underscores."""
    return name.lower().replace("_", "").replace("-", "")


def identities(low: float, high: float) -> list[str]:
    """Names of the activations that are the identity on [low, high].

    >>> identities(0.0, math.inf)[:4]
    ['Relu', 'LeakyRelu', 'PRelu', 'Elu']
    """
    return [n for n in TABLE if n != "Clip" and Activation(n).is_identity_on(low, high)]
