"""Normalizations over the last axes; what pads their axis does not count.

Without its pads a norm is one of another epsilon and scale: `epsilon / part` and
`scale / sqrt(part)` if only this part of the axis counts. What is rounded of them in the
student is compared with the teacher's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.linear_forms import tolerance
from onnx_net2net.verification.certificate.mean_units import Mask
from onnx_net2net.verification.certificate.names import ZERO, Labels, key, positions
from onnx_net2net.verification.certificate.transfer.base import At, attach, no_zero, rules
from onnx_net2net.verification.certificate.transfer.pairs import flattened, summed

_ATTRIBUTE = np.dtype(np.float32)


@rules("LayerNormalization RMSNormalization SimplifiedLayerNormalization")
def _layer_norm(at: At) -> Sequence[Term]:
    x, registry = at.value(), at.registry
    if any(at.node.outputs[1:]):
        raise UnknownError("its statistics are read")
    rank = len(x.axes)
    axis = int(at.node.attr("axis", -1)) % rank
    labels, _ = flattened(x, range(axis, rank))
    pads = _pads(at, x) if axis == rank - 1 else np.zeros(len(labels), bool)
    live = labels[~pads]
    part = len(live) / len(labels)
    tag = key("layer norm", at.name("epsilon"), x.tag)
    tag = registry.name_sum(tag, *summed(live, np.full(len(live), 1 / len(live))))
    epsilon = float(at.node.attr("epsilon", np.float32(1e-5))) / part
    within = 0.0 if part == 1 else min(tolerance(_ATTRIBUTE), at.rounding)
    tag = registry.name_sum(key(tag, "epsilon"), positions(1), np.full(1, epsilon), within)
    scale, bias = (at.const(k) if at.has(k) else None for k in (1, 2))
    if scale is None or scale.size != len(labels):
        tag = key(tag, "part", part)  # nothing makes up for it
    else:
        scale = _without_pads(at, tag, labels, pads, scale)
    found = _scaled_and_shifted(Value(tag, x.axes), scale, bias)
    if pads.any():
        still = pads if bias is None else pads & np.broadcast_to(bias.array() == 0, len(pads))
        found = found.relabelled(axis, np.where(still, ZERO, found.axes[axis]))
    if not registry.teaching and (pads.any() or (labels == ZERO).any()):
        _note(at, x, found, bool(pads.any()))
    return [found]


def _pads(at: At, x: Value) -> Mask:
    """Positions of the last axis that add nothing to its statistics."""
    labels = x.axes[-1]
    if at.node.op == "LayerNormalization":
        found = at.registry.means.mask(x.tag, labels)
        return np.zeros(len(labels), bool) if found is None else found
    found = labels == ZERO
    return found & ~found.all()


def _without_pads(at: At, tag: int, labels: Labels, pads: Mask, scale: Const) -> Const:
    """What the scale would be without pads; the teacher's where it only differs by rounding."""
    known = at.registry.scales.setdefault(tag, [])
    part = 1 - np.count_nonzero(pads) / len(pads)
    if not pads.any():
        if at.registry.teaching:
            known.append((labels, scale))
        return scale
    own = scale.array().reshape(-1).astype(np.float64) / math.sqrt(part)
    if at.registry.teaching:
        known.append((labels, Const.of(np.where(pads, 0.0, own))))
        return known[-1][1]
    restored, off, lost = np.where(pads, 0.0, own), 0.0, False
    theirs: dict[int, list[float]] = {}
    for names, values in known:
        for name, value in zip(names.tolist(), values.array().reshape(-1).tolist(), strict=True):
            theirs.setdefault(name, []).append(float(value))
    for k in np.flatnonzero(~pads):
        candidates = np.array(theirs.get(int(labels[k]), [math.inf]))
        near = float(candidates[np.argmin(np.abs(candidates - own[k]))])
        if abs(near - own[k]) <= tolerance(scale.dtype) * abs(near) < math.inf:
            restored[k], off = near, max(off, abs(near - own[k]) / (abs(near) or 1.0))
        else:
            lost = True
    at.registry.accept(off)
    if lost:
        at.registry.doubts[at.node.name] = "its scale does not make up for its pads"
    return Const.of(restored.astype(known[0][1].dtype if known else scale.dtype))


def _note(at: At, x: Value, found: Value, padded: bool) -> None:
    """Remember that a norm has pads, and doubt it if it is none of the teacher's."""
    if padded:
        at.registry.leave_out(at.node.name)
    if x.tag in at.registry.seen and found.tag not in at.registry.seen:
        why = "its epsilon or its zeros do not make up for its pads"
        at.registry.doubts.setdefault(at.node.name, why)


def _scaled_and_shifted(x: Value, *params: Const | None) -> Value:
    """Apply broadcast parameters, one after another."""
    labels: list[Labels | None] = [no_zero(v) for v in x.axes]
    parts = [None if c is None else attach(labels, c)[0] for c in params]
    return Value(key(x.tag, parts), tuple(v for v in labels if v is not None))
