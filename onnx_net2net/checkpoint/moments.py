r"""Optimiser state of a grown checkpoint: what can be derived, and what cannot.

With h' = h[g] for the widened units (r copies each), a reader's weights W' (W'E = W) and the
gradient d at its output, which is the teacher's:

- a reader's gradient is d^T h', so dW'[:, j] = dW[:, g(j)] for any split;
- a unit's gradient is W'^T d. `even`: W'[:, j] = W[:, g(j)] / r, so everything that makes
  the unit (weight rows, biases, norms) has 1/r of the teacher's gradient, through a norm
  over the units too, as its means are of equal shares. `one-hot`: the first copy has all of
  it, the others none, unless such a norm mixes them. Any other split: W'[:, j]^T d depends on the
  shares entry by entry, and the teacher's state holds only sums over entries: it cannot be
  derived, and only its mean over the draws is 1/r.

First moments scale like gradients, second moments with the square. Old state is a weighted
sum of old gradients, so what holds for one gradient holds for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from onnx_net2net.growth.record import Replay
from onnx_net2net.growth.widen.changes import nominal
from onnx_net2net.typing import Array
from .folding import Norm
from .growing import Follower

POWERS = {"momentum_buffer": 1, "exp_avg": 1, "exp_avg_sq": 2, "max_exp_avg_sq": 2}
"""State of SGD and Adam(W), with the power of the gradient that it holds."""


@dataclass(frozen=True)
class _Moment:
    """What a step does to the state of a parameter; `power` of the gradient."""

    power: int

    def constant(self, replay: Replay, array: Array) -> Array:
        if replay.ring:
            return np.pad(array, replay.ring)
        change = replay.change
        for dim in sorted(change.source, key=lambda d: d in change.split):
            source = change.source[dim]
            if dim in change.split and dim in change.grouped:
                rows = np.split(array, len(change.grouped[dim][0]))
                maps = zip(rows, *change.grouped[dim], strict=True)
                array = np.concatenate([self._read(r, dim, s, u, replay) for r, s, u in maps])
            elif dim in change.split:
                array = self._read(array, dim, source, change.unit[dim], replay)
            else:
                array = self._written(array, dim, replay)
        return array

    def channel(self, replay: Replay, array: Array, role: str, axis: int) -> Array:
        if axis not in replay.change.source:
            return array
        return _scaled(np.take(array, replay.change.source[axis]), 0, self._factors(replay, axis))

    def _read(self, array: Array, dim: int, source: Array, unit: Array, replay: Replay) -> Array:
        """New units have no history; copies have their source's."""
        live = np.array([u < 0 or replay.kinds[u].value == "copy" for u in unit])
        return _scaled(np.take(array, source, dim), dim, live.astype(np.float64))

    def _written(self, array: Array, dim: int, replay: Replay) -> Array:
        array = np.take(array, replay.change.source[dim], dim)
        return _scaled(array, dim, self._factors(replay, dim))

    def _factors(self, replay: Replay, dim: int) -> Array:
        return factors(replay, dim) ** self.power


def factors(replay: Replay, dim: int) -> Array:
    """A unit's gradient in terms of its source's; NaN where that cannot be told."""
    split = replay.gradients
    found = np.array(nominal(replay.change, dim, replay.kinds, split == "one-hot"))
    return found if split else np.where((found == 0) | (found == 1), found, np.nan)


def _scaled(array: Array, dim: int, factor: Array) -> Array:
    shape = [1] * array.ndim
    shape[dim] = len(factor)
    return (array * factor.reshape(shape)).astype(array.dtype)


def grow_moments(
    follower: Follower, state: Mapping[str, Array], power: int
) -> tuple[dict[str, Array], list[str]]:
    """One kind of state, by base name, for the grown parameters.

    Args:
        state: of every parameter, in its shape.
        power: of the gradient.

    Returns:
        The new state, and the parameters whose state cannot be derived.
    """
    moment = _Moment(power)
    wanted = [replace(k, norm=_trained(k.norm, state)) if k.norm else k for k in follower.links]
    arrays = dict(state)
    for link in wanted:  # parameters without state, such as frozen ones
        for name, shape in zip(link.parameters, link.view.shapes, strict=True):
            arrays.setdefault(name, np.zeros(shape, np.float32))
    made = Follower(follower.steps, wanted).follow(arrays, moment.constant, moment.channel)
    found = {n: made.get(n, a) for n, a in state.items()}
    unknown = [n for n, a in found.items() if np.isnan(a).any() and not np.isnan(state[n]).any()]
    return found, unknown


def _trained(norm: Norm, state: Mapping[str, Array]) -> Norm:
    return replace(norm, names={r: n for r, n in norm.names.items() if n in state})
