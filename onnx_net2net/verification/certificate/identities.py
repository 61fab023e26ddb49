"""Layers that do nothing: what a deeper student has and its teacher has not.

Tried only where the teacher has nothing of the kind; each holds for every input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice, product

import numpy as np

from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.linear_forms import tolerance
from onnx_net2net.verification.certificate.names import ZERO, Labels, key
from onnx_net2net.verification.certificate.open_axes import same_open
from onnx_net2net.verification.certificate.row_matching import summed_by_label
from onnx_net2net.verification.certificate.transfer.contraction import (
    contraction_of,
    padding,
    steps,
)
from onnx_net2net.verification.certificate.transfer.table import RULES, At

_IDEMPOTENT = frozenset("Abs Ceil Clip Floor Relu Round Sign".split())
_POSITIVE = frozenset("Abs Exp HardSigmoid Relu Sigmoid Softmax Softplus Sqrt".split())
_KEEPS_SIGN = frozenset(
    "AveragePool Expand Flatten Gather GlobalAveragePool GlobalMaxPool Identity MaxPool "
    "ReduceMax ReduceMean ReduceMin ReduceSum Reshape Squeeze Tile Transpose Unsqueeze".split()
)
_MOST_CUTS = 512


def note(at: At, found: Sequence[Term]) -> None:
    """Remember which tensors an operator leaves as they are."""
    fixed, op, x = at.registry.fixed, at.node.op, at.args[0]
    for term in found[:1]:
        if not isinstance(term, Value):
            continue
        if op in _IDEMPOTENT and not _moves_zero(at):
            fixed.setdefault(term.tag, set()).add(_named(at))
        kept = op in _KEEPS_SIGN and isinstance(x, Value) and _is_positive(at, x)
        if op in _POSITIVE or kept:
            fixed.setdefault(term.tag, set()).add("+")


def _is_positive(at: At, x: Value) -> bool:
    turned = x.scale is not None and bool((x.scale[1] < 0).any())
    return "+" in at.registry.fixed.get(x.tag, ()) and not turned


def _moves_zero(at: At) -> bool:
    """Whether a Clip's bounds leave zero out: a tensor may hold zeros beside what was clipped."""
    if at.node.op != "Clip":
        return False
    low, high = (_bound(at, k, name) for k, name in ((1, "min"), (2, "max")))
    return not ((low is None or low <= 0) and (high is None or high >= 0))


def _bound(at: At, slot: int, attribute: str) -> float | None:
    given = at.const(slot) if at.has(slot) else None
    if given is not None:
        return float(given.array().reshape(-1)[0])
    return at.attributes.get(attribute)


def simplified(at: At) -> Term | None:
    """What the node's output is where the node does nothing; None where it does something."""
    rule = _SIMPLER.get(at.node.op)
    if rule is None or not at.args or sum(bool(o) for o in at.node.outputs) != 1:
        return None
    try:
        found = rule(at)
    except UnknownError:
        return None
    return found if found is None or _keeps_sizes(at, found) else None


def _keeps_sizes(at: At, found: Term) -> bool:
    """Whether what is said to be an operand has that operand's shape at every size."""
    if at.open is None:
        return True
    mine = [
        k
        for k, a in enumerate(at.args)
        if isinstance(a, Value) and isinstance(found, Value) and a.tag == found.tag
    ]
    return not mine or any(same_open(at.open.shape(k), at.open.out()) for k in mine)


def _named(at: At) -> str:
    others = [a.array().tobytes() if isinstance(a, Const) else None for a in at.args[1:]]
    return str(key(at.name(), others))


def _again(at: At) -> Term | None:
    """The same once more, as in Relu(Relu(x))."""
    x = at.args[0]
    if not isinstance(x, Value) or any(isinstance(a, Value) for a in at.args[1:]):
        return None
    fixed = at.registry.fixed.get(x.tag, ())
    # a factor would have to be positive, and what it scales is no longer clipped
    if x.scale is None and (
        _named(at) in fixed or (at.node.op in ("Relu", "Abs") and "+" in fixed)
    ):
        return x
    return None


def _nothing_added(at: At) -> Term | None:
    """x + 0."""
    a, b = at.args[:2]
    for x, other in ((a, b), (b, a)):
        if isinstance(x, Value) and other is not None and _is_zero(other):
            same = len(other.shape) <= len(x.shape)
            if same and np.broadcast_shapes(x.shape, other.shape) == x.shape:
                return x
    return None


def _is_zero(term: Term) -> bool:
    if isinstance(term, Const):
        return not term.array().astype(bool).any()
    return any(len(v) > 0 and bool((v == ZERO).all()) for v in term.axes)


def _unchanged(at: At) -> Term | None:
    """A contraction whose every row is one position of its input, times 1."""
    rows, x, axis, output_axis = contraction_of(at)
    tap = _tap(at, x) if at.node.op == "Conv" else 0
    if tap is None or at.node.op == "ConvTranspose" or axis != output_axis:
        return None
    if rows.raw.shape[3] <= tap or rows.biases.any():
        return None
    labels = []
    for g in range(len(rows.raw)):
        found = _rows_as_labels(rows.wide_group(g), rows.labels[g], tap)
        if found is None:
            return None
        labels.append(found)
    return Value(x.tag, x.axes).relabelled(axis, np.concatenate(labels))


def _rows_as_labels(weights: Array, labels: Labels, tap: int) -> Labels | None:
    union = np.unique(labels[labels != ZERO])
    window = summed_by_label(weights, labels, union)
    sums = window[:, :, tap].copy()
    window[:, :, tap] = 0
    live = sums != 0
    if window.any() or (live.sum(1) > 1).any() or (sums[live] != 1).any():
        return None
    picked = union[np.argmax(live, 1)] if len(union) else np.full(len(sums), ZERO)
    return np.where(live.any(1), picked, ZERO)


def _tap(at: At, x: Value) -> int | None:
    """The position in the window that lies on the output's own place; None if there is none."""
    weight = at.const(1)
    if weight is None or at.out()[2:] != x.shape[2:]:
        return None
    strides, dilations = steps(at, x)
    pads = padding(at, x, weight)
    if any(s != 1 for s in strides):
        return None
    index = 0
    for k, size in enumerate(weight.shape[2:]):
        step, rest = divmod(pads[k], dilations[k])
        if rest or not 0 <= step < size:
            return None
        index = index * size + step
    return index


def _no_ring(at: At) -> Term | None:
    """A convolution without the rings of zeros around its kernel."""
    x, weight = at.args[0], at.const(1)
    if not isinstance(x, Value) or weight is None:
        return None
    _, dilations = steps(at, x)
    pads, array = padding(at, x, weight), weight.array()
    rings = [_ring(array, 2 + k) for k in range(len(dilations))]
    cuts = product(*[[(a, b) for a in range(lo + 1) for b in range(hi + 1)] for lo, hi in rings])
    for cut in islice(sorted(cuts, key=lambda c: sum(map(sum, c))), 1, _MOST_CUTS):
        kept = [slice(a, array.shape[2 + k] - b) for k, (a, b) in enumerate(cut)]
        fewer = [side[k] * dilations[k] for side in zip(*cut, strict=True) for k in range(len(cut))]
        attributes = {n: v for n, v in at.attributes.items() if n != "auto_pad"}
        attributes["pads"] = [p - f for p, f in zip(pads, fewer, strict=True)]
        smaller = Const.of(np.ascontiguousarray(array[(slice(None), slice(None), *kept)]))
        args = (x, smaller, *at.args[2:])
        found = RULES[at.node.op](replace(at, args=args, attributes=attributes))[0]
        if isinstance(found, Value) and found.tag in at.registry.seen:
            return found
    return None


def _ring(array: Array, axis: int) -> tuple[int, int]:
    """How many slices of zeros an axis of a kernel starts and ends with; one slice stays."""
    live = np.flatnonzero(np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).any(1))
    size = array.shape[axis]
    return (int(live[0]), int(size - 1 - live[-1])) if len(live) else (0, 0)


def _identity_norm(at: At) -> Term | None:
    """A BatchNormalization that gives back what comes in, to rounding."""
    x = at.value()
    params = [at.const(k) for k in range(1, 5)]
    if any(c is None for c in params) or at.node.attr("training_mode", 0):
        return None
    wide = [c.array().astype(np.float64) for c in params if c is not None]
    scale, bias, mean, variance = wide
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = scale / np.sqrt(variance + float(at.node.attr("epsilon", 1e-5)))
    shift = bias - mean * factor
    within = tolerance(params[0].dtype) if params[0] is not None else 0.0
    off = max(
        float(np.abs(factor - 1).max(initial=0.0)),
        float((np.abs(shift) / np.maximum(np.abs(mean), np.sqrt(variance))).max(initial=0.0)),
    )
    if not off <= within:
        return None
    at.registry.accept(off)
    return x


def _contraction(at: At) -> Term | None:
    return _unchanged(at) or (_no_ring(at) if at.node.op.startswith("Conv") else None)


_SIMPLER: dict[str, Callable[[At], Term | None]] = {
    **dict.fromkeys(_IDEMPOTENT, _again),
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), _contraction),
    "Add": _nothing_added,
    "BatchNormalization": _identity_norm,
}
