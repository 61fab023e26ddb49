"""The kinds of blocks: where each is exact, with which activation and why, and how it is built.

Each is the identity as a whole (docs/growth-operators.md, 2.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from onnx_net2net.errors import Reason, Refusal, RefusalError, UsageError
from onnx_net2net.inference.activation_patterns import recognise
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.inference.value_ranges import value_range
from onnx_net2net.operators import activations
from onnx_net2net.operators.activations import Activation
from onnx_net2net.operators.intervals import Range
from onnx_net2net.operators.spec import Rule
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array
from .insertion import Graft
from .insertion_point import Point
from .layer_forms import Form, Statistics, batchnorm, dense, identity, random, within

_NO_RULE = Rule()
_NEARBY = 400


@dataclass(frozen=True)
class Choice:
    """The kind that was taken, its activation, what lifts the values (shift), and why."""

    kind: str
    activation: Activation | None
    why: str
    shift: float = 0.0


def choose(analysis: Analysis, point: Point, kind: str, activation: str | None) -> Choice:
    """What to insert at a point.

    Args:
        analysis: of the teacher.
        point: where.
        kind: one of `KINDS`, or auto: identity where that is exact, else residual.
        activation: what a user names, None for the model's own.

    Raises:
        UsageError: an unknown activation, or one that does not go with the kind.
        RefusalError: it would not be exact, or could never train.
    """
    case = _Case(analysis, point, value_range(analysis, point.tensor))
    case = case._replace(asked=_asked(case, activation), produced=_produced(analysis, point.tensor))
    if kind == "auto":
        found = case.asked or case.produced
        kind = "identity" if found is not None and case.exact(found) else "residual"
    return KINDS[kind].choose(case)


class _Case(NamedTuple):
    """What a kind is chosen by.

    `values`: that can stand at the point; `asked`: the activation that a user named;
    `produced`: the one that made the tensor.
    """

    analysis: Analysis
    point: Point
    values: Range
    asked: Activation | None = None
    produced: Activation | None = None

    def exact(self, activation: Activation) -> bool:
        """Whether an activation is the identity on the values."""
        return activation.is_identity_on(self.values.low, self.values.high)

    def hidden(self) -> Activation:
        """What a hidden layer gets."""
        near = self.asked or self.produced or _nearby(self.analysis, self.point)
        return near or Activation("Relu")

    def refused(self, detail: str, hint: str = "") -> RefusalError:
        """Why a kind is not exact; without a hint, what would be."""
        at = (self.point.tensor, self.point.axis)
        hint = hint or self._works()
        return RefusalError(Refusal(Reason.ACTIVATION, self.point.tensor, at, detail, hint))

    def _works(self) -> str:
        low, high = self.values.low, self.values.high
        fits = activations.identities(low, high)
        ways = [f"--activation {' or '.join(fits[:4])}"] if fits else []
        ways += ["--kind residual", "--kind linear", "--kind pair --activation Relu"]
        ways += ["--kind shift"] if low > -math.inf else []
        return "exact here: " + ", ".join(ways)


def _asked(case: _Case, name: str | None) -> Activation | None:
    if name is None:
        return None
    plain = activations.plain(name)
    if plain in activations.NEVER_TRAIN:
        raise case.refused(f"{name} has no derivative to train with")
    if plain in activations.ACROSS:
        raise case.refused(f"{name} is not pointwise, so never the identity")
    return activations.named(name)


def _identity(case: _Case) -> Choice:
    activation = case.asked or case.produced
    if activation is None:
        raise case.refused("no activation makes this tensor")
    if not case.exact(activation):
        raise case.refused(f"{activation.name} changes values in {case.values}")
    why = f"{activation.name} is the identity on {case.values}, the values that can stand here"
    return Choice("identity", activation, why)


def _linear(case: _Case) -> Choice:
    if case.asked is not None:
        raise UsageError("kind linear has no activation", "leave one of the two out")
    return Choice("linear", None, "a layer without activation is exact on all values")


def _residual(case: _Case) -> Choice:
    if case.asked is not None:
        why = f"x + f(x) with f = 0 is exact with any activation, here {case.asked.name}"
    elif case.produced is not None:
        name = case.produced.name
        why = f"{name} is not the identity on {case.values}, so x + f(x) with f = 0"
    else:
        why = "no activation makes this tensor, so x + f(x) with f = 0"
    return Choice("residual", case.hidden(), why)


def _pair(case: _Case) -> Choice:
    activation = case.hidden()
    odd = activation.odd
    if odd is None or not np.all(np.asarray(odd)):
        fitting = ", ".join(n for n in activations.TABLE if Activation(n).odd)
        detail = f"{activation.name}(x) - {activation.name}(-x) is no multiple of x"
        raise case.refused(detail, f"give --activation one of {fitting}")
    if np.ndim(odd) and np.size(odd) != case.point.size:
        alpha = float(np.mean(activation.values["alpha"]))
        activation = Activation(activation.name, {**activation.parameters, "alpha": alpha})
    why = f"{activation.name}(x) - {activation.name}(-x) = c x on all values"
    return Choice("pair", activation, why)


def _shift(case: _Case) -> Choice:
    values = case.values
    if case.asked is not None and case.asked.name != "Relu":
        raise UsageError("kind shift is Relu(h + b) - b", "leave the activation out")
    if values.low == -math.inf:
        raise case.refused("its values have no lower bound")
    lift = max(0.0, -values.low) * (1 + 2.0**-6)  # enough when rounded to bfloat16
    return Choice("shift", Activation("Relu"), f"values here are {values}; b = {lift:g}", lift)


def _produced(analysis: Analysis, tensor: str) -> Activation | None:
    """The activation that made a tensor, looked for behind pooling and rearrangement."""
    for _ in range(_NEARBY):
        found = recognise(analysis, tensor)
        if found is not None:
            return found.activation
        node = analysis.model.producer.get(tensor)
        if node is None or not TABLE.get(node.op, _NO_RULE).blends:
            return None
        tensor = node.inputs[0]
    return None


def _nearby(analysis: Analysis, point: Point) -> Activation | None:
    """The activation nearest to the point in running order, as the model's own taste."""
    nodes = analysis.model.nodes
    here = analysis.model.producer.get(point.tensor)
    start = here.index if here is not None else 0
    around = (k for away in range(min(_NEARBY, len(nodes))) for k in {start + away, start - away})
    near = (nodes[k] for k in around if 0 <= k < len(nodes))
    made = (n.outputs[0] for n in near if n.scope == point.scope and n.outputs)
    found = (f.activation for t in made if (f := recognise(analysis, t)) is not None)
    return next((a for a in found if _inner(a)), None)


def _inner(activation: Activation) -> bool:
    """Whether an activation is one of hidden layers; gates and bounds are not."""
    return activation.name not in ("Sigmoid", "HardSigmoid", "Abs") and (
        activation.name != "Clip" or activation.values["min"] == 0
    )


@dataclass(frozen=True)
class Plan:
    """What one inserted block is made of.

    `width`: channels at the point; `inner`: of the hidden layer of a residual block;
    `shift`: what lifts the values above zero; `statistics`: of the inputs of the
    BatchNormalizations, in the order in which they are written.
    """

    form: Form
    width: int
    activation: Activation | None = None
    kernel: int = 1
    groups: int = 1
    batchnorm: bool = False
    inner: int = 0
    shift: float = 0.0
    random: bool = False
    seed: int = 0
    statistics: tuple[Statistics, ...] = ()


def _layer(
    graft: Graft, plan: Plan, x: str, weights: Array, role: str = "", bias: Array | None = None
) -> str:
    """A layer, and behind it the normalization and the activation of the plan."""
    h = dense(
        graft, plan.form, x, weights, bias=bias, kernel=plan.kernel, groups=plan.groups, role=role
    )
    if plan.batchnorm:
        k = len(graft.normalised)
        statistics = plan.statistics[k] if k < len(plan.statistics) else None
        h = batchnorm(graft, h, len(weights), statistics)
    return plan.activation.compose(graft, h) if plan.activation else h


def _drawn(graft: Graft, plan: Plan, out: int, inside: int, kernel: int, *own: str) -> Array:
    """Random weights, keyed by the seed and the place; `own` tells them from others there."""
    key = (plan.seed, "deepen", graft.point.tensor, len(graft.nodes), *own)
    return random(plan.form, out, inside, kernel, *key)


def _add_layer(graft: Graft, plan: Plan, x: str) -> str:
    """One layer, the identity; with an activation where the plan has one (D1, D4)."""
    n, scale = plan.width, plan.activation.row.scale if plan.activation else 1.0
    weights = identity(n, plan.groups) / scale
    if plan.random:
        weights = _drawn(graft, plan, n, n // plan.groups, plan.kernel)
    return within(graft, plan.form, x, lambda inside: _layer(graft, plan, inside, weights))


def _add_pair(graft: Graft, plan: Plan, x: str) -> str:
    """[I; -I], activation, [I, -I] / c (D5)."""
    assert plan.activation is not None
    eye = identity(plan.width)
    slope = np.broadcast_to(np.asarray(plan.activation.odd, np.float64), plan.width)
    back = np.concatenate([eye, -eye], 1) / slope[:, None]
    doubled = replace(plan, activation=_doubled(plan.activation))

    def body(inside: str) -> str:
        h = _layer(graft, doubled, inside, np.concatenate([eye, -eye]), "0.")
        return dense(graft, plan.form, h, back, role="1.")

    return within(graft, plan.form, x, body)


def _doubled(activation: Activation) -> Activation:
    """With one slope for each hidden unit, where there is one for each channel."""
    alpha = np.asarray(activation.values.get("alpha", 0.0))
    if alpha.ndim == 0:
        return activation
    return Activation(activation.name, {**activation.parameters, "alpha": np.tile(alpha, 2)})


def _add_shift(graft: Graft, plan: Plan, x: str) -> str:
    """Relu(h + b) - b, with b in the layer's bias and an Add of its own behind (D6)."""
    n = plan.width

    def body(inside: str) -> str:
        h = _layer(graft, plan, inside, identity(n, plan.groups), bias=np.full(n, plan.shift))
        back = np.full(plan.form.per_channel(n), -plan.shift)
        return graft.node("Add", [h, graft.constant(back, "shift")])

    return within(graft, plan.form, x, body)


def _add_residual(graft: Graft, plan: Plan, x: str) -> str:
    """x + f(x), the last layer of f zero (D7)."""
    n, inner = plan.width, plan.inner

    def body(inside: str) -> str:
        first = _drawn(graft, plan, inner, n // plan.groups, plan.kernel)
        last = np.zeros((n, inner))
        if plan.random:
            last = _drawn(graft, plan, n, inner, 1, "last")
        h = _layer(graft, plan, inside, first, "0.")
        return dense(graft, plan.form, h, last, role="1.")

    return graft.node("Add", [x, within(graft, plan.form, x, body)])


@dataclass(frozen=True)
class BlockKind:
    """A kind of block: when it is exact, and how it is built.

    `outputs`: of its widest layer, from the channels at the point and the hidden width;
    `random`: it has a random baseline; `mixes`: each channel with its own negative, so that no
    groups can; `hidden`: it has a hidden width; `learns`: what is said of its first steps.
    """

    choose: Callable[[_Case], Choice]
    build: Callable[[Graft, Plan, str], str]
    outputs: Callable[[int, int], int] = lambda channels, hidden: channels
    random: bool = True
    mixes: bool = False
    hidden: bool = False
    learns: str = ""


KINDS = {
    "identity": BlockKind(_identity, _add_layer),
    "linear": BlockKind(_linear, _add_layer),
    "residual": BlockKind(
        _residual, _add_residual, lambda channels, hidden: hidden, hidden=True,
        learns="at the first step only the zero layer learns, from the second on both do",
    ),
    "pair": BlockKind(
        _pair, _add_pair, lambda channels, hidden: 2 * channels, random=False, mixes=True
    ),
    "shift": BlockKind(_shift, _add_shift, random=False),
}  # fmt: skip
