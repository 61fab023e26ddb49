"""The student's array of a constant, from the teacher's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_net2net.errors import UsageError
from onnx_net2net.growth.random_weights import drawn, jittered, noise
from onnx_net2net.growth.widen.changes import Change
from onnx_net2net.growth.widen.scheme import Scheme
from onnx_net2net.growth.widen.shares import divided
from onnx_net2net.growth.widen.units import Row, live
from onnx_net2net.typing import Array


def grown_array(
    array: Array, change: Change, kinds: tuple[Row, ...], scheme: Scheme, name: str
) -> Array:
    """The student's array of a constant: re-indexed, then divided among copies.

    Args:
        array: the teacher's array.
        change: which dimensions grow and which one divides.
        kinds: the kind of each new unit.
        scheme: how new units come about; its seed and `name` key everything random.

    Returns:
        The student's array, same dtype.
    """
    teacher = array
    for dim, source in change.source.items():
        if dim not in change.split:
            array = np.take(array, source, axis=dim)
            array[_at(dim, _zeros(change, dim, kinds))] = change.offset
            if change.pads.get(dim) is Row.MEAN:
                _average(array, dim, change.unit[dim], kinds)
            _own(array, teacher, dim, change, kinds, scheme, name)
    for dim in change.split:
        if dim not in change.grouped:
            source, unit = change.source[dim], change.unit[dim]
            key = (name, dim)
            array = _read(array, teacher, dim, source, unit, change.offset, kinds, scheme, key)
            pads = _of(unit, kinds, Row.PAD)
            if len(pads) and change.pads.get(dim) is Row.FREE:  # they meet zeros
                at = _at(dim, pads)
                array[at] = drawn(array[at].shape, teacher, scheme.seed, "pads", *key)
            continue
        # each group of a grouped convolution's rows has its own map
        sources, units = change.grouped[dim]
        parts = np.split(array, len(sources))
        array = np.concatenate([
            _read(p, teacher, dim, sources[k], units[k], change.offset, kinds, scheme,
                  (name, dim, k))
            for k, p in enumerate(parts)
        ])  # fmt: skip
    for dim in change.source.keys() - set(change.split):  # twins read one another alike
        first, second = twins(change.source[dim], change.unit[dim], kinds)
        array[_at(dim, second)] = array[_at(dim, first)]
        if change.split:  # shares of zero that cancel are zero up to rounding; a Floor sees that
            array[_at(dim, _zeros(change, dim, kinds))] = change.offset
    if change.scale != 1:
        array = (array.astype(np.float64) * change.scale).astype(array.dtype)
    return np.ascontiguousarray(array)


def _zeros(change: Change, dim: int, kinds: tuple[Row, ...]) -> Array:
    """The positions along an axis that hold zero: zero units, and pads that are to be zero."""
    wanted = [] if change.keeps else [Row.ZERO]
    wanted += [Row.PAD] if change.pads.get(dim) is Row.ZERO else []
    return _of(change.unit[dim], kinds, *wanted)


def _average(array: Array, dim: int, unit: Array, kinds: tuple[Row, ...]) -> None:
    """Let the pads of a normalised axis hold the mean of the originals, in place."""
    pads = _of(unit, kinds, Row.PAD)
    if len(pads):
        own = array[_at(dim, np.flatnonzero(unit < 0))].astype(np.float64)
        array[_at(dim, pads)] = own.mean(dim, keepdims=True).astype(array.dtype)


def twins(source: Array, unit: Array, kinds: tuple[Row, ...]) -> tuple[Array, Array]:
    """The positions of first twins on an axis, and those of their seconds in the same order.

    Args:
        source, unit: of each position, see `Layout`.
        kinds: of the new units.
    """
    found = [np.flatnonzero([u >= 0 and kinds[u] is Row.TWIN and u % 2 == k for u in unit])
             for k in range(2)]  # fmt: skip
    first, second = (p[np.lexsort((p, source[p], unit[p] // 2))] for p in found)
    return first, second


def _at(dim: int, positions: Array) -> Any:
    return (slice(None),) * dim + (positions,)


def _of(unit: Array, kinds: tuple[Row, ...], *wanted: Row) -> Array:
    """The positions of new units of some kinds."""
    return np.flatnonzero([u >= 0 and kinds[u] in wanted for u in unit])


def _again(source: Array) -> Array:
    """The positions whose source stood before: copies, wherever they lie."""
    first = np.unique(source, return_index=True)[1]
    return np.setdiff1d(np.arange(len(source)), first)


def _made(kind: Row, source: Array, unit: Array, kinds: tuple[Row, ...]) -> Array:
    """The positions that an init makes: rows of its kind, the first of each pair of twins."""
    if kind is Row.TWIN:
        return twins(source, unit, kinds)[0]
    if kind is not Row.COPY:
        return _of(unit, kinds, kind)
    others = _of(unit, kinds, Row.FREE, Row.TWIN, Row.ZERO)
    return np.setdiff1d(_again(source), others)


@dataclass(frozen=True)
class Place:
    """What an init is shown: rows of one axis of a constant, all of which it makes.

    `rows`: what stands there, the teacher's rows at `source` (along `dim`); `teacher`: its
    whole array; `key`: the constant's name and what else tells this place from others.
    """

    rows: Array
    teacher: Array
    dim: int
    source: Array
    key: tuple[Any, ...]
    scheme: Scheme

    def drawn(self, what: str) -> Array:
        """Random weights, as large as the teacher's."""
        return drawn(self.rows.shape, self.teacher, self.scheme.seed, what, *self.key)

    def noise(self, what: str) -> Array:
        """Random weights, as large as those that stand there."""
        if self.rows.dtype.kind != "f":
            return self.drawn(what)
        return noise(self.rows, self.scheme.seed, what, *self.key)

    def jittered(self) -> Array:
        """What stands there, with the scheme's noise."""
        size, seed = self.scheme.noise, self.scheme.seed
        return jittered(self.rows, self.teacher, size, seed, "noise", *self.key)

    def evidence(self, kind: str) -> Array:
        """An array of the teacher's constant's shape, such as its gradient.

        Raises:
            UsageError: it was not given, or has another shape.
        """
        name = f"{kind}/{self.key[0]}"
        found = self.scheme.evidence.get(name)
        if found is None or np.shape(found) != self.teacher.shape:
            said = "is missing" if found is None else f"has the shape {list(np.shape(found))}"
            raise UsageError(
                f"the evidence '{name}' {said}", f"give an array of {list(self.teacher.shape)}"
            )
        return np.asarray(found)


def _own(
    array: Array, teacher: Array, dim: int, change: Change, kinds: tuple[Row, ...],
    scheme: Scheme, name: str,
) -> None:  # fmt: skip
    """Give new units weights of their own, in place."""
    source, unit = change.source[dim], change.unit[dim]
    if not change.weight:
        return
    for kind, init in scheme.makers.items():
        made = _made(kind, source, unit, kinds)
        at = _at(dim, made)
        place = Place(array[at], teacher, dim, source[made], (name, dim), scheme)
        new = init.own(place) if len(made) else None
        if new is not None:
            array[at] = new


def _read(
    array: Array, teacher: Array, dim: int, source: Array, unit: Array, offset: int,
    kinds: tuple[Row, ...], scheme: Scheme, key: tuple[Any, ...],
) -> Array:  # fmt: skip
    """Divide what reads new units among copies; twins are read with opposite signs."""
    divides, makers = live(unit, kinds), scheme.makers
    if makers[Row.COPY].divides:
        del makers[Row.COPY]  # the shares are what reads copies
    else:
        divides[_made(Row.COPY, source, unit, kinds)] = False
    array = divided(array, source, dim, scheme.split, divides, offset, scheme.seed, "split", *key)
    for kind, init in makers.items():
        made = _made(kind, source, unit, kinds)
        at = _at(dim, made)
        place = Place(array[at], teacher, dim, source[made], key, scheme)
        new = init.read(place) if len(made) else None
        if new is not None:
            array[at] = new
            if kind is Row.TWIN:
                second = _at(dim, twins(source, unit, kinds)[1])
                array[at], array[second] = _opposite(new, offset)
    return array


def _opposite(w: Array, offset: int) -> tuple[Array, Array]:
    """Weights and their negatives; integers about their zero point, within their range."""
    if w.dtype.kind not in "iu":
        return w, -w
    info = np.iinfo(w.dtype)
    most = min(info.max - offset, offset - info.min)
    above = np.clip(w.astype(np.int64) - offset, -most, most)
    return (offset + above).astype(w.dtype), (offset - above).astype(w.dtype)
