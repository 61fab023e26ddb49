"""Operators that work across some axes: windows, normalizations, reductions, orderings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnx_net2net.inference.expressions import Expr
from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.mean_units import form_of
from onnx_net2net.verification.certificate.names import (
    ZERO,
    Labels,
    digest,
    key,
    labels_of,
    mix,
    positions,
)
from onnx_net2net.verification.certificate.open_axes import name_of
from onnx_net2net.verification.certificate.transfer.base import At, no_zero, passing, rules
from onnx_net2net.verification.certificate.transfer.elementwise import parameters
from onnx_net2net.verification.certificate.transfer.pairs import flattened, summed
from onnx_net2net.verification.sides import FLOATS


@rules("MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool")
def _pool(at: At) -> Sequence[Term]:
    if len(at.node.outputs) > 1 and at.node.outputs[1]:
        raise UnknownError("the second output counts positions over channels")
    name = key(at.name("ceil_mode"), _rounds_up(at))
    return [passing(at, at.value(), {0: 0, 1: 1}, name)]


def _rounds_up(at: At) -> bool:
    """Whether a last window may reach beyond the axis."""
    if not at.node.attr("ceil_mode", 0):
        return False
    dims = () if at.open is None else at.open.out()[2:]
    atoms = [a.function for d in dims if isinstance(d, Expr) for a in d.atoms]
    return "ceil mode" in atoms or not all(isinstance(d, Expr) for d in dims or (0,))


@rules("Resize Upsample")
def _resize(at: At) -> Sequence[Term]:
    """Axes that are not resampled pass; what is said about them names nothing."""
    x, out = at.value(), at.out()
    if at.node.attr("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise UnknownError("it crops")
    rank = len(out)
    axes = [int(a) % rank for a in at.node.attr("axes", range(rank))]
    slot = 1 if len(at.args) < 3 or at.node.op == "Upsample" else 2
    given = at.const(slot) if at.has(slot) else None
    scales = None if given is None else given.array().reshape(-1)
    if scales is None and at.node.attr("scales") is not None:
        scales = np.asarray(at.node.attr("scales"))
    factor = dict.fromkeys(range(rank), 1.0)
    if scales is not None and len(scales):
        factor |= {a: float(s) for a, s in zip(axes, scales, strict=True)}
    else:
        factor |= {a: 0.0 for a in range(rank) if out[a] != len(x.axes[a])}
    keep = {a: a for a in range(rank) if factor[a] == 1.0 and out[a] == len(x.axes[a])}
    resampled: list[Any] = [(a, f) for a, f in factor.items() if a not in keep]
    if at.open is not None:
        before, after = at.open.shape(), at.open.out()
        keep = {a: a for a in keep if before[a] == after[a]}
        resampled = [(a, factor[a], name_of(after[a])) for a in range(rank) if a not in keep]
    return [passing(at, x, keep, key(at.name("scales"), resampled))]


@rules("GridSample com.microsoft.GridSample")
def _grid_sample(at: At) -> Sequence[Term]:
    name = key(at.name(), at.value(1).whole)
    return [passing(at, at.value(), {1: 1}, name)]


@rules("RoiAlign MaxRoiPool")
def _regions(at: At) -> Sequence[Term]:
    name = key(at.name(), [at.value(k).whole for k in range(1, len(at.args))])
    return [passing(at, at.value(), {1: 1}, name)]


@rules("BatchNormalization InstanceNormalization")
def _channel_norm(at: At) -> Sequence[Term]:
    x = at.value()
    params = [at.const(k) for k in range(1, 5 if at.node.op[0] == "B" else 3)]
    training = at.node.attr("training_mode", 0) or (
        at.node.op[0] == "B" and at.since < 7 and not at.node.attr("is_test", 0)
    )
    if any(c is None for c in params) or training or not at.node.attr("spatial", 1):
        raise UnknownError("its parameters are not constant")
    name = at.name()
    if at.node.op == "InstanceNormalization" and len(x.axes) > 2:
        # what stands in a channel, in whatever order
        name = _multiset(at, x, range(2, len(x.axes)), key(name, x.tag), True)
    # zero stays zero without a shift: no offset, and no mean to subtract
    return [parameters(x, name, [c for c in params if c is not None], 1, (1, 2))]


def _multiset(at: At, x: Value, axes: Sequence[int], tag: int, shares: bool) -> int:
    """A name for what stands along some axes, whatever its order."""
    return _named(at, *flattened(x, axes), tag, shares)


def _named(at: At, labels: Labels, scale: Array | None, tag: int, shares: bool) -> int:
    weights = np.ones(len(labels)) if scale is None else scale
    unique, totals = summed(labels, weights)
    totals = totals / len(labels) if shares else totals
    return at.registry.name_sum(tag, unique, totals, at.rounding if scale is not None else 0.0)


_MEAN = frozenset(["ReduceMean"])
_SET = frozenset(["ReduceMax", "ReduceMin"])
_LINEAR = frozenset(["ReduceMean", "ReduceSum"])


@rules("ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd")
def _reduce(at: At) -> Sequence[Term]:
    op, term = at.node.op, at.args[0]
    if not isinstance(term, Value):
        raise UnknownError("the data are constant")
    rank = len(term.axes)
    given = at.ints(1, "axes")
    if not given and at.node.attr("noop_with_empty_axes", 0):
        return [term]
    axes = sorted({a % rank for a in given}) if given else list(range(rank))
    x = term if op in _LINEAR and term.scale and term.scale[0] in axes else term.settled()
    tag = key("reduce", op, x.tag, axes)
    floats = at.kinds[0] in FLOATS
    if op in _MEAN and at.node.attr("keepdims", 1) and floats:
        return [_mean(at, x, axes, tag)]
    labels, _ = flattened(x, axes)
    if op in _SET:
        kind = key(tag, digest(np.unique(labels)))
    elif op == "ReduceProd":
        kind = key(tag, [digest(v) for v in np.unique(labels, return_counts=True)])
    else:
        kind = _multiset(at, x, axes, tag, op in _MEAN)
    keep = bool(at.node.attr("keepdims", 1))
    kept = [positions(1) if k in axes else v for k, v in enumerate(x.axes) if keep or k not in axes]
    return [Value(key(kind, keep), tuple(kept))]


def _mean(at: At, x: Value, axes: Sequence[int], tag: int) -> Value:
    """An average: pads that hold the mean of the others do not count, zeros only lessen it."""
    labels, scale = flattened(x, axes)
    means = at.registry.means
    pads = means.mask(x.tag, labels) if len(axes) == 1 and scale is None else None
    part = 1.0
    if pads is not None:
        labels = labels[~pads]
    else:
        live = labels != ZERO
        if live.any() and not live.all():
            part = np.count_nonzero(live) / len(live)
            labels, scale = labels[live], None if scale is None else scale[live]
    kind = key(_named(at, labels, scale, tag, True), True)
    if pads is not None:
        means.averages[kind] = (x.tag, axes[0], form_of(labels))
    if (pads is not None or part != 1.0) and not at.registry.teaching:
        at.registry.leave_out(at.node.name)
    kept = tuple(positions(1) if k in axes else v for k, v in enumerate(x.axes))
    return Value(kind, kept, None if part == 1.0 else (axes[0], np.full(1, part)))


@rules("Hardmax CumSum TopK")
def _ordered(at: At) -> Sequence[Term]:
    """Operators for which the order along an axis matters."""
    x = at.value()
    axis = int(at.node.attr("axis", -1))
    others = [at.value(k).whole for k in range(1, len(at.args)) if at.has(k)]
    if at.node.op == "CumSum":
        axis = (at.ints(1) or [0])[0]
    rank = len(x.axes)
    axes = {axis % rank}
    if at.node.op == "Hardmax" and at.since < 13:  # all axes from this one on are taken as one
        axes = set(range(int(at.node.attr("axis", 1)) % rank, rank))
    keep = {k: k for k in range(rank) if k not in axes}
    name = key(at.name(), others)
    return [
        passing(at, x, keep, key(name, k), zero=False, sizes=at.out(k))
        for k in range(len(at.node.outputs))
    ]


@rules("GroupNormalization")
def _group_norm(at: At) -> Sequence[Term]:
    x = at.value()
    groups = int(at.node.attr("num_groups", 1))
    scale, bias = at.const(1), at.const(2)
    if scale is None or bias is None:
        raise UnknownError("its parameters are not constant")
    name = key(at.name("num_groups"), x.tag, [digest(v) for v in x.axes[2:]])
    channels = x.axes[1].reshape(groups, -1)
    forms = [at.registry.name_sum(name, *summed(g, np.full(len(g), 1 / len(g)))) for g in channels]
    by_channel = np.repeat(labels_of(forms), channels.shape[1])
    x = Value(name, x.axes).relabelled(1, mix(no_zero(x.axes[1]), by_channel))
    if scale.size != len(by_channel):  # one parameter a group before opset 21
        scale, bias = (_repeated(c, channels.shape[1]) for c in (scale, bias))
    return [parameters(x, name, [scale, bias], 1, ())]


def _repeated(c: Const, times: int) -> Const:
    array: Array = np.repeat(c.array().reshape(-1), times)
    return Const.of(array)


@rules("MeanVarianceNormalization")
def _mean_variance(at: At) -> Sequence[Term]:
    x = at.value()
    axes = sorted({int(a) % len(x.axes) for a in at.node.attr("axes", [0, 2, 3])})
    tag = _multiset(at, x, axes, key(at.name("axes"), x.tag, axes), True)
    return [Value(tag, tuple(no_zero(v) for v in x.axes))]
