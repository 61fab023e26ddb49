"""Contractions of two tensors that both depend on the inputs: sums over pairs of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.domain import UnknownError, Value
from onnx_net2net.verification.certificate.names import ZERO, Labels, key, mix, positions
from onnx_net2net.verification.certificate.transfer.base import At, no_zero


def pairs(
    at: At, a: Value, b: Value, left: list[str], right: list[str], result: list[str]
) -> Value:
    """A contraction of two tensors that both depend on the inputs."""
    inner = [c for c in left if c in right and c not in result]
    if any(c not in result and c not in inner for c in (*left, *right)):
        raise UnknownError("an index is summed in one operand alone")
    a = a if a.scale is None or left[a.scale[0]] in inner else a.settled()
    b = b if b.scale is None or right[b.scale[0]] in inner else b.settled()
    la, sa = flattened(a, [left.index(c) for c in inner]) if inner else (positions(1), None)
    lb, sb = flattened(b, [right.index(c) for c in inner]) if inner else (positions(1), None)
    if len(la) != len(lb):
        raise UnknownError("operands do not fit")
    weights = np.ones(len(la)) if sa is None else sa.astype(np.float64)
    weights = weights if sb is None else weights * sb
    both_zero = np.where((la == ZERO) | (lb == ZERO), ZERO, mix(la, lb))
    tag = key("pairs", a.tag, b.tag, left, right, result)
    form = at.registry.name_sum(tag, *summed(both_zero, weights), within=at.rounding)
    labels, modes = [], []
    for c in result:
        both = [v.axes[names.index(c)] for v, names in ((a, left), (b, right)) if c in names]
        longest = max(len(v) for v in both)
        single = [int(v[0]) for v in both if len(v) < longest]
        both = [v for v in both if len(v) == longest]
        same = all(np.array_equal(v, both[0]) for v in both[1:])
        modes.append((len(both), same, single))
        labels.append(no_zero(both[0] if same else mix(*both)))
    return Value(key(tag, form, modes), tuple(labels))


def summed(kinds: Labels, weights: Array) -> tuple[Labels, Array]:
    """The distinct labels, ZERO left out, and the weights added up for each."""
    unique, inverse = np.unique(kinds, return_inverse=True)
    totals = np.bincount(inverse.reshape(-1), weights, len(unique))
    live = unique != ZERO
    return unique[live], totals[live]


def flattened(x: Value, axes: Sequence[int]) -> tuple[Labels, Array | None]:
    """Labels and factors over several axes, the last one running fastest."""
    labels = product([x.axes[a] for a in axes])
    if x.scale is None or x.scale[0] not in axes:
        return labels, None
    shape = [1] * len(axes)
    shape[list(axes).index(x.scale[0])] = -1
    sizes = [len(x.axes[a]) for a in axes]
    return labels, np.broadcast_to(x.scale[1].reshape(shape), sizes).reshape(-1)


def product(axes: Sequence[Labels]) -> Labels:
    """Labels of the positions of several axes taken as one."""
    if len(axes) == 1:
        return axes[0]
    sizes = [len(x) for x in axes]
    grids = [
        np.broadcast_to(x.reshape([-1 if j == k else 1 for j in range(len(axes))]), sizes)
        for k, x in enumerate(axes)
    ]
    zero = np.logical_or.reduce([g == ZERO for g in grids])
    found = mix(*[np.ascontiguousarray(g).reshape(-1) for g in grids])
    return np.where(zero.reshape(-1), ZERO, found)


def matmul_letters(a: int, b: int) -> tuple[list[str], list[str], list[str]]:
    """Letters of the axes; batch axes are named from the right."""
    batch = [f"b{k}" for k in range(max(a, b, 2) - 3, -1, -1)]
    left = ["k"] if a == 1 else [*batch[len(batch) - (a - 2) :], "m", "k"]
    right = ["k"] if b == 1 else [*batch[len(batch) - (b - 2) :], "k", "n"]
    out = [*batch, *["m"] * (a > 1), *["n"] * (b > 1)]
    return left, right, [x for x in out if x in left or x in right]
