"""Which kind of block is exact at a point, with which activation, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnx_net2net.errors import Reason, Refusal, RefusalError, UsageError
from onnx_net2net.growth.deepen.insertion_point import Point
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
    return _CHOOSERS[kind](analysis, point, values, asked, produced)


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


_CHOOSERS = {
    "identity": _identity,
    "linear": _linear,
    "residual": _residual,
    "pair": _pair,
    "shift": _shift,
}


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
