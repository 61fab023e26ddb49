"""The kinds of blocks: where each is exact, with which activation and why, and how it is built.

Each is the identity as a whole (docs/growth-operators.md, 2.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnx_net2net.errors import Reason, Refusal, RefusalError, UsageError
from onnx_net2net.growth.deepen.insertion import Graft
from onnx_net2net.growth.deepen.insertion_point import Point
from onnx_net2net.growth.deepen.layer_forms import (
    Form,
    Statistics,
    batchnorm,
    dense,
    identity,
    random,
    within,
)
from onnx_net2net.inference.activation_patterns import recognise
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.inference.value_ranges import value_range
from onnx_net2net.operators.activations import (
    ACROSS,
    NEVER_TRAIN,
    TABLE,
    Activation,
    identities,
    named,
    plain,
)
from onnx_net2net.operators.intervals import Range
from onnx_net2net.operators.spec import Rule
from onnx_net2net.operators.table import TABLE as OPERATORS

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
    values = value_range(analysis, point.tensor)
    asked = _asked(point, values, activation)
    produced = _produced(analysis, point.tensor)
    if kind == "auto":
        found = asked or produced
        legal = found is not None and found.is_identity_on(values.low, values.high)
        kind = "identity" if legal else "residual"
    return KINDS[kind].choose(analysis, point, values, asked, produced)


def _asked(point: Point, values: Range, name: str | None) -> Activation | None:
    if name is None:
        return None
    if plain(name) in NEVER_TRAIN:
        raise _refused(point, f"{name} has no derivative to train with", _works(values))
    if plain(name) in ACROSS:
        raise _refused(point, f"{name} is not pointwise, so never the identity", _works(values))
    return named(name)


def _identity(
    analysis: Analysis, point: Point, values: Range, asked: Activation | None,
    produced: Activation | None,
) -> Choice:  # fmt: skip
    activation = asked or produced
    if activation is None:
        raise _refused(point, "no activation makes this tensor", _works(values))
    if not activation.is_identity_on(values.low, values.high):
        detail = f"{activation.name} changes values in {values}"
        raise _refused(point, detail, _works(values))
    why = f"{activation.name} is the identity on {values}, the values that can stand here"
    return Choice("identity", activation, why)


def _linear(
    analysis: Analysis, point: Point, values: Range, asked: Activation | None,
    produced: Activation | None,
) -> Choice:  # fmt: skip
    if asked is not None:
        raise UsageError("kind linear has no activation", "leave one of the two out")
    return Choice("linear", None, "a layer without activation is exact on all values")


def _residual(
    analysis: Analysis, point: Point, values: Range, asked: Activation | None,
    produced: Activation | None,
) -> Choice:  # fmt: skip
    activation = asked or produced or _nearby(analysis, point) or Activation("Relu")
    if asked is None and produced is not None:
        why = f"{produced.name} is not the identity on {values}, so x + f(x) with f = 0"
    elif asked is None:
        why = "no activation makes this tensor, so x + f(x) with f = 0"
    else:
        why = f"x + f(x) with f = 0 is exact with any activation, here {asked.name}"
    return Choice("residual", activation, why)


def _pair(
    analysis: Analysis, point: Point, values: Range, asked: Activation | None,
    produced: Activation | None,
) -> Choice:  # fmt: skip
    activation = asked or produced or _nearby(analysis, point) or Activation("Relu")
    odd = activation.odd
    if odd is None or not np.all(np.asarray(odd)):
        fitting = ", ".join(n for n in TABLE if Activation(n).odd)
        detail = f"{activation.name}(x) - {activation.name}(-x) is no multiple of x"
        raise _refused(point, detail, f"give --activation one of {fitting}")
    if np.ndim(odd) and np.size(odd) != point.size:
        alpha = float(np.mean(activation.values["alpha"]))
        activation = Activation(activation.name, {**activation.parameters, "alpha": alpha})
    why = f"{activation.name}(x) - {activation.name}(-x) = c x on all values"
    return Choice("pair", activation, why)


def _shift(
    analysis: Analysis, point: Point, values: Range, asked: Activation | None,
    produced: Activation | None,
) -> Choice:  # fmt: skip
    if asked is not None and asked.name != "Relu":
        raise UsageError("kind shift is Relu(h + b) - b", "leave the activation out")
    if values.low == -math.inf:
        raise _refused(point, "its values have no lower bound", _works(values))
    lift = max(0.0, -values.low) * (1 + 2.0**-6)  # enough when rounded to bfloat16
    return Choice("shift", Activation("Relu"), f"values here are {values}; b = {lift:g}", lift)


def _produced(analysis: Analysis, tensor: str) -> Activation | None:
    """The activation that made a tensor, looked for behind pooling and rearrangement."""
    for _ in range(_NEARBY):
        found = recognise(analysis, tensor)
        if found is not None:
            return found.activation
        node = analysis.model.producer.get(tensor)
        if node is None or not OPERATORS.get(node.op, _NO_RULE).blends:
            return None
        tensor = node.inputs[0]
    return None


def _nearby(analysis: Analysis, point: Point) -> Activation | None:
    """The activation nearest to the point in running order, as the model's own taste."""
    nodes = analysis.model.nodes
    here = analysis.model.producer.get(point.tensor)
    start = here.index if here is not None else 0
    for away in range(min(_NEARBY, len(nodes))):
        for k in {start + away, start - away}:
            if 0 <= k < len(nodes) and nodes[k].scope == point.scope:
                found = recognise(analysis, nodes[k].outputs[0]) if nodes[k].outputs else None
                if found is not None and _inner(found.activation):
                    return found.activation
    return None


def _inner(activation: Activation) -> bool:
    """Whether an activation is one of hidden layers; gates and bounds are not."""
    return activation.name not in ("Sigmoid", "HardSigmoid", "Abs") and (
        activation.name != "Clip" or activation.values["min"] == 0
    )


def _works(values: Range) -> str:
    """What would be exact for a range of values."""
    fits = identities(values.low, values.high)
    ways = [f"--activation {' or '.join(fits[:4])}"] if fits else []
    ways += ["--kind residual", "--kind linear", "--kind pair --activation Relu"]
    ways += ["--kind shift"] if values.low > -math.inf else []
    return "exact here: " + ", ".join(ways)


def _refused(point: Point, detail: str, hint: str) -> RefusalError:
    axis = (point.tensor, point.axis)
    return RefusalError(Refusal(Reason.ACTIVATION, point.tensor, axis, detail, hint))


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


def _normalized(graft: Graft, plan: Plan, x: str, size: int) -> str:
    if not plan.batchnorm:
        return x
    k = len(graft.normalised)
    return batchnorm(graft, x, size, plan.statistics[k] if k < len(plan.statistics) else None)


def _add_layer(graft: Graft, plan: Plan, x: str) -> str:
    """One layer, the identity; with an activation where the plan has one (D1, D4)."""
    n, scale = plan.width, plan.activation.row.scale if plan.activation else 1.0
    weights = identity(n, plan.groups) / scale
    if plan.random:
        key = (plan.seed, "deepen", graft.point.tensor, len(graft.nodes))
        weights = random(plan.form, n, n // plan.groups, plan.kernel, *key)

    def body(inside: str) -> str:
        h = dense(graft, plan.form, inside, weights, kernel=plan.kernel, groups=plan.groups)
        h = _normalized(graft, plan, h, n)
        return plan.activation.compose(graft, h) if plan.activation else h

    return within(graft, plan.form, x, body)


def _add_pair(graft: Graft, plan: Plan, x: str) -> str:
    """[I; -I], activation, [I, -I] / c (D5)."""
    assert plan.activation is not None
    eye = identity(plan.width)
    slope = np.broadcast_to(np.asarray(plan.activation.odd, np.float64), plan.width)
    back = np.concatenate([eye, -eye], 1) / slope[:, None]
    activation = _doubled(plan.activation)

    def body(inside: str) -> str:
        h = dense(
            graft, plan.form, inside, np.concatenate([eye, -eye]), kernel=plan.kernel, role="0."
        )
        h = _normalized(graft, plan, h, 2 * plan.width)
        return dense(graft, plan.form, activation.compose(graft, h), back, role="1.")

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
        h = dense(
            graft, plan.form, inside, identity(n, plan.groups), bias=np.full(n, plan.shift),
            kernel=plan.kernel, groups=plan.groups,
        )  # fmt: skip
        h = graft.node("Relu", [_normalized(graft, plan, h, n)])
        back = np.full(plan.form.per_channel(n), -plan.shift)
        return graft.node("Add", [h, graft.constant(back, "shift")])

    return within(graft, plan.form, x, body)


def _add_residual(graft: Graft, plan: Plan, x: str) -> str:
    """x + f(x), the last layer of f zero (D7)."""
    n, inner = plan.width, plan.inner

    def body(inside: str) -> str:
        key = (plan.seed, "deepen", graft.point.tensor, len(graft.nodes))
        first = random(plan.form, inner, n // plan.groups, plan.kernel, *key)
        last = np.zeros((n, inner))
        if plan.random:
            last = random(plan.form, n, inner, 1, *key, "last")
        h = dense(
            graft, plan.form, inside, first, kernel=plan.kernel, groups=plan.groups, role="0."
        )
        h = _normalized(graft, plan, h, inner)
        assert plan.activation is not None
        return dense(graft, plan.form, plan.activation.compose(graft, h), last, role="1.")

    return graft.node("Add", [x, within(graft, plan.form, x, body)])


@dataclass(frozen=True)
class BlockKind:
    """A kind of block: when it is exact, and how it is built.

    `outputs`: of its widest layer, from the channels at the point and the hidden width;
    `random`: it has a random baseline; `mixes`: each channel with its own negative, so that no
    groups can; `hidden`: it has a hidden width; `learns`: what is said of its first steps.
    """

    choose: Callable[[Analysis, Point, Range, Activation | None, Activation | None], Choice]
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
