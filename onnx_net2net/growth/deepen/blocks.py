"""The blocks that `deepen` inserts; each is the identity as a whole (growth-operators.md 2.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnx_net2net.growth.deepen.insertion import Graft
from onnx_net2net.growth.deepen.layer_forms import (
    Form,
    Statistics,
    batchnorm,
    dense,
    identity,
    random,
    within,
)
from onnx_net2net.operators.activations import Activation


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


def _single(graft: Graft, plan: Plan, x: str) -> str:
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


def _pair(graft: Graft, plan: Plan, x: str) -> str:
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


def _shift(graft: Graft, plan: Plan, x: str) -> str:
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


def _residual(graft: Graft, plan: Plan, x: str) -> str:
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


BLOCKS: dict[str, Callable[[Graft, Plan, str], str]] = {
    "identity": _single,
    "linear": _single,
    "pair": _pair,
    "shift": _shift,
    "residual": _residual,
}
