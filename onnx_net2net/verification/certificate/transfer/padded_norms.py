"""How means pass: through sums, through what one number multiplies, and wherever data move.

See `mean_units`. Everything else leaves labels that no norm takes for means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_net2net.verification.certificate.domain import Const, Term, Value
from onnx_net2net.verification.certificate.mean_units import Mask, Means, form_of, off_mean
from onnx_net2net.verification.certificate.names import ZERO
from onnx_net2net.verification.certificate.transfer.base import At, Rule
from onnx_net2net.verification.sides import FLOATS

_LINEAR = frozenset(
    "AveragePool Expand Flatten Gather GlobalAveragePool Neg Pad ReduceMean ReduceSum Reshape "
    "Slice Split Squeeze Tile Transpose Unsqueeze".split()
)
_SUMS = frozenset("Add Concat Sub Sum".split())
_PRODUCTS = {"Mul": (0, 1), "Div": (0,)}


def apply(rule: Rule, at: At) -> Sequence[Term]:
    """A node's outputs by its rule, with what is known of means."""
    means = at.registry.means
    if not means.known:
        return rule(at)
    if at.node.op in _SUMS or at.node.op in _PRODUCTS:
        return _combined(rule, at, means)
    found = rule(at)
    x = at.args[0] if at.args else None
    if isinstance(x, Value) and _is_linear(at):
        return [means.moved(x.tag, t) if isinstance(t, Value) else t for t in found]
    return found


def _is_linear(at: At) -> bool:
    if at.node.op == "Cast":
        return at.kinds[0] in FLOATS
    if at.node.op == "Dropout":
        return not at.has(2)  # else it may be training
    return at.node.op in _LINEAR


def _combined(rule: Rule, at: At, means: Means) -> Sequence[Term]:
    """Sums of means are means; the mean itself taken off leaves zeros."""
    terms = [t for t in at.args if t is not None]
    masks = _masks(at, terms, means)
    if not masks:
        return rule(at)
    rank = max(len(t.shape) for t in terms)
    args: list[Term | None] = []
    for term in at.args:
        if isinstance(term, Value):
            x = term.settled()
            for axis, mask in masks.items():  # a common name, so that they disturb nothing
                j = axis - rank + len(x.axes)
                if j >= 0 and len(x.axes[j]) == len(mask):
                    x = x.relabelled(j, np.where(mask, ZERO, x.axes[j]))
            term = x
        args.append(term)
    (found,) = rule(replace(at, args=tuple(args)))
    assert isinstance(found, Value)
    for axis, mask in masks.items():
        labels = found.axes[axis]
        if _centred(at, terms, axis, mask, means):
            labels = np.where(mask, ZERO, labels)
        else:
            mean = means.label(found.tag, form_of(labels[~mask]))
            labels = np.where(mask, mean, labels)
        found = found.relabelled(axis, labels)
    return [found]


def _masks(at: At, terms: Sequence[Term], means: Means) -> dict[int, Mask]:
    """Axis of the output -> positions that hold means in every operand."""
    found: dict[int, Mask] = {}
    op = at.node.op
    if any(isinstance(t, Value) and t.labels is None for t in terms):
        return found
    rank = max(len(t.shape) for t in terms)
    joined = int(at.node.attr("axis", 0)) % rank if op == "Concat" else None
    for axis in range(rank):
        if axis == joined:
            continue
        for term in terms:
            j = axis - rank + len(term.shape)
            if not isinstance(term, Value) or j < 0:
                continue
            x = term.settled()
            mask = means.mask(x.tag, x.axes[j])
            if mask is None:
                continue
            along = {k for k, t in enumerate(terms) if _varies(t, axis - rank)}
            good = op in _SUMS or (len(along) == 1 and along <= set(_PRODUCTS[op]))
            if good and all(_holds(terms[k], axis - rank, mask, means) for k in along):
                found[axis] = mask
            break
    return found


def _varies(term: Term, axis: int) -> bool:
    return len(term.shape) >= -axis and term.shape[axis] != 1


def _holds(term: Term, axis: int, mask: Mask, means: Means) -> bool:
    """Whether an operand has the mean of its other positions wherever the mask says so."""
    if term.shape[axis] != len(mask):
        return False
    if isinstance(term, Const):
        rows = np.moveaxis(term.array(), axis, 0).reshape(len(mask), -1)
        return term.dtype.kind in "fV" and bool((off_mean(rows, mask, ~mask) <= 1.0).all())
    x = term.settled()
    labels = x.axes[axis]
    own = means.mask(x.tag, labels)
    return bool((labels == ZERO).all()) or (own is not None and bool(np.array_equal(own, mask)))


def _centred(at: At, terms: Sequence[Term], axis: int, mask: Mask, means: Means) -> bool:
    """Whether a tensor's own mean along the axis is taken off it."""
    if at.node.op != "Sub" or not all(isinstance(t, Value) for t in terms):
        return False
    x, mean = (t.settled() for t in terms if isinstance(t, Value))
    if len(x.axes) != len(mean.axes) or len(mean.axes[axis]) != 1:
        return False
    others = [k for k in range(len(x.axes)) if k != axis]
    return means.averages.get(mean.tag) == (x.tag, axis, form_of(x.axes[axis][~mask])) and all(
        np.array_equal(x.axes[k], mean.axes[k]) for k in others
    )
