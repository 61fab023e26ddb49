"""Sizes to run models at: odd and even, and beyond what the graph compares sizes with."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from difflib import get_close_matches
from itertools import permutations, product

import numpy as np
from onnx import TypeProto

from onnx_net2net.graph.model import Model, Node
from onnx_net2net.inference.input_sizes import evaluated, symbols
from onnx_net2net.inference.onnx_inference import tensor_type
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.inference.size_conditions import SizeInterval
from onnx_net2net.typing import Array, Shape
from onnx_net2net.verification.runtime.inputs import Sizes

Wanted = Mapping[str, SizeInterval]
"""The sizes of each symbol that count; a symbol that is not there may have any."""
Binding = Mapping[str, int]
Comparison = tuple[int, int, int]
"""A number, and what is compared with it at one binding of the open sizes and at the other."""
_LARGEST = 1 << 20  # of the numbers that may stand for a size
_MOST_ELEMENTS = 1 << 22  # of all inputs together
_MOST_TELLING = 12
_LARGEST_BATCH = 16
_LENGTHS = (16, 32, 128, 256, 512, 576, 1024, 2048, 4096, 16000, 48000)


def open_axes(model: Model) -> dict[str, tuple[int | str, ...]]:
    """Input -> each axis's size, or the symbol that stands for it: `INPUT.AXIS` if unnamed."""
    return {
        name: tuple(f"{name}.{k}" if d is None else d for k, d in enumerate(dims))
        for name, dims in symbols(model).items()
        if dims is not None
    }


class OpenSizes:
    """The open sizes of a model's inputs, and what they were where its shapes were looked at.

    Args:
        facts: at two bindings of the open sizes.
        wanted: the sizes that count; others are drawn to the nearest of these.
        fixed: the facts are at the sizes that the caller gave.

    Raises:
        LookupError: an input of which no size is known.
    """

    def __init__(
        self,
        model: Model,
        facts: Sequence[Facts],
        wanted: Wanted | None = None,
        fixed: bool = False,
    ) -> None:
        self._axes, self._wanted, self._fixed = open_axes(model), wanted or {}, fixed
        self._sums: Mapping[str, tuple[str, str]] = {}
        self._shapes = [{n: _known(f, n) for n in model.inputs} for f in facts[:2]]
        self.first, self.second = (self._bound(s) for s in self._shapes)
        self._line = self.first, self.second

    def _bound(self, shapes: Sizes) -> Binding:
        found: dict[str, int] = {}
        for name, axes in self._axes.items():
            for d, size in zip(axes, shapes[name], strict=True):
                if isinstance(d, str):
                    found.setdefault(d, size)
        return {d: n for d, n in found.items() if _evaluated(d, _plain(found)) is None}

    def at(self, binding: Binding) -> Sizes:
        """The inputs' sizes where each open one is what the binding says, if that counts."""
        drawn = {d: _drawn(n, self._wanted.get(d)) for d, n in binding.items()}
        for d, (a, b) in self._sums.items():
            drawn[d] = drawn[a] + drawn[b]
        found = dict(self._shapes[0])
        for name, axes in self._axes.items():
            known = zip(axes, self._shapes[0][name], strict=True)
            found[name] = tuple(_size(d, drawn, old) for d, old in known)
        return found

    def fittings(self) -> Iterator[OpenSizes]:
        """These and others, should the teacher run at none of them: with one size the sum of two
        others, as a mask is as long as past and present; and one length after the other.

        None but these where the caller has said at which sizes to run.
        """
        if self._fixed:
            yield self
            return
        others = sorted(set(self.first) - self.batches)
        usual = self
        if self.first == self.second:  # shapes fitted at no sizes but these, the least ones
            usual = self._with(self._all(8, 2, others), self._all(12, 3, others))
        yield usual
        for d, a, b in permutations(others, 3):
            if a < b:
                yield usual._with(usual.first, usual.second, {d: (a, b)})
        yield self
        for length, batch in product(_LENGTHS, (2, 1)):
            for long in (others, *([d] for d in self.first)):
                first = self._all(length, batch, long)
                if _elements(self.at(first)) <= _MOST_ELEMENTS:
                    yield self._with(first, {d: 2 * n for d, n in first.items()})

    def _odd(self, d: str, size: int) -> int:
        return 1 if d in self.batches else size + 1 - size % 2

    def _all(self, length: int, batch: int, long: Sequence[str]) -> Binding:
        return {d: length if d in long else batch for d in self.first}

    def _with(
        self, first: Binding, second: Binding, sums: Mapping[str, tuple[str, str]] | None = None
    ) -> OpenSizes:
        found = copy(self)
        found.first, found.second, found._sums = first, second, sums or {}
        return found

    @property
    def batches(self) -> set[str]:
        """Open sizes that only count examples: they come first, and alone there."""
        first = {axes[0] for axes in self._axes.values() if axes and isinstance(axes[0], str)}
        other = {d for axes in self._axes.values() for d in axes[1:]}
        return {str(d) for d in first - other} & set(self.first)

    def skewed(self) -> Binding | None:
        """One at which no two open sizes are alike, so that a swapped pair would show."""
        seen: dict[tuple[int, int], int] = {}
        found = {}
        for d, a in self.first.items():
            pair = a, self.second[d]
            found[d] = a + seen.setdefault(pair, 0) * (pair[1] - a)
            seen[pair] += 1
        return found if any(n > 1 for n in seen.values()) else None

    def stages(self) -> list[list[Sizes]]:
        """Sizes to run at; of several in one place the first at which the teacher runs."""
        a, b = self.first, self.second
        stages = [[self.at(a)]]
        if a != b:
            odd = {d: n if n == a[d] else self._odd(d, n) for d, n in b.items()}
            down = {d: max(1, 2 * n - b[d]) for d, n in a.items()}
            skewed = self.skewed()
            stages += [[self.at(b)], *([[self.at(skewed)]] if skewed else [])]
            stages += [[self.at(odd), self.at(down), self.at({d: 2 * b[d] - a[d] for d in a})]]
        elif self._shapes[0] != self._shapes[1]:
            stages.append([self._shapes[1]])
        return [s for k, s in enumerate(stages) if s not in stages[:k]]

    def telling(self, compared: Iterable[Comparison]) -> list[list[Sizes]]:
        """Sizes beyond every number that a size is compared with, or at it where the teacher
        runs at no larger one; first where no size has been so far, the least ones first."""
        most = max(self.second.values(), default=0)
        found: dict[tuple[bool, int], list[Sizes]] = {}
        for number, *pair in sorted(set(compared)):
            if number > _LARGEST_BATCH and self._moving(pair) <= self.batches:
                continue
            beyond, at = (self.at(self._moved(aim, pair)) for aim in (number + 1, number))
            stage = [s for s in (beyond, at) if _elements(s) <= _MOST_ELEMENTS]
            if stage:
                found.setdefault((number <= most, _elements(stage[0])), stage)
        return [found[k] for k in sorted(found)][:_MOST_TELLING]

    def _moved(self, aim: int, pair: Sequence[int]) -> Binding:
        """Along the line through the two bindings to where what went from the one number of the
        pair to the other reaches its aim; batches stay small unless they alone fit."""
        (a, b), batches = self._line, self.batches
        scale, moving = (aim - pair[0]) / (pair[1] - pair[0]), self._moving(pair)
        still = {
            d: 1 if d in batches and not moving & batches else n for d, n in self.first.items()
        }
        return still | {d: max(1, math.ceil(a[d] + scale * (b[d] - a[d]))) for d in moving}

    def _moving(self, pair: Sequence[int]) -> set[str]:
        """The open sizes that may have made the one number of a pair and the other."""
        first, second = self._line
        others = set(first) - self.batches
        fit = {d for d, n in first.items() if [n, second[d]] == [*pair]}
        return others if fit & others or not fit else fit


def sizes_of(model: Model, shapes: Sizes) -> dict[str, SizeInterval]:
    """What each open size is where the inputs have these shapes."""
    found: dict[str, SizeInterval] = {}
    for name, axes in open_axes(model).items():
        for d, size in zip(axes, shapes[name], strict=True):
            if isinstance(d, str):
                found[d] = size, size
    return found


def skewed_types(model: Model, facts: Sequence[Facts]) -> dict[str, TypeProto] | None:
    """Input types at sizes that differ among symbols; None where no two symbols are alike."""
    try:
        sizes = OpenSizes(model, facts)
    except LookupError:
        return None
    binding = sizes.skewed()
    if binding is None:
        return None
    return {n: tensor_type(facts[0].dtype(n), s) for n, s in sizes.at(binding).items()}


def _known(facts: Facts, name: str) -> tuple[int, ...]:
    shape = facts.shapes.get(name)
    if shape is None or any(d is None for d in shape):
        raise LookupError(f"no size is known for input '{name}'; give one with --shape")
    return tuple(d for d in shape if d is not None)


def _plain(binding: Binding) -> dict[str, int]:
    return {d: n for d, n in binding.items() if d.isidentifier()}


def _evaluated(expression: str, binding: Binding) -> int | None:
    """Value of `past + seq`; names that no input has are taken for the most similar."""
    if expression in binding:
        return None
    names = _plain(binding)
    similar = {
        n: names[m]
        for n in re.findall(r"[A-Za-z_]\w*", expression)
        for m in get_close_matches(n, names, 1)
    }
    return evaluated(expression, similar)


def _size(d: int | str, binding: Binding, otherwise: int) -> int:
    if isinstance(d, int) or d in binding:
        return d if isinstance(d, int) else binding[d]
    found = _evaluated(d, binding)
    return otherwise if found is None else found


def _drawn(size: int, wanted: SizeInterval | None) -> int:
    return size if wanted is None else int(min(max(size, wanted[0]), wanted[1]))


def _elements(sizes: Sizes) -> int:
    return sum(math.prod(s) for s in sizes.values())


def compared(model: Model, facts: Sequence[Facts]) -> Iterator[Comparison]:
    """Numbers and sizes that one node reads together.

    Numbers are integer constants, and the lengths of constants from which is picked.
    """
    first, second = facts[:2]
    for node in model.nodes:
        sizes = set(_sizes(node, first, second))
        if not sizes:
            continue
        for number in set(_numbers(node, model, first, second)):
            if 1 < number < _LARGEST:
                yield from ((number, a, b) for a, b in sizes)


def _sizes(node: Node, first: Facts, second: Facts) -> Iterator[tuple[int, int]]:
    """What depends on a size: axes of operands, and the values that are computed of sizes."""
    for t in node.inputs:
        if t:
            yield from _differing(first.shapes.get(t), second.shapes.get(t))
            a, b = first.values.get(t), second.values.get(t)
            if a is not None and b is not None and a.shape == b.shape and _small(a):
                yield from _differing(a.reshape(-1).tolist(), b.reshape(-1).tolist())
            elif a is not None and b is not None:  # as many positions as the size says
                yield from _differing(a.shape, b.shape)


def _differing(
    a: Shape | Sequence[int] | None, b: Shape | Sequence[int] | None
) -> Iterator[tuple[int, int]]:
    if a is not None and b is not None and len(a) == len(b):
        for x, y in zip(a, b, strict=True):
            if x is not None and y is not None and x != y:
                yield int(x), int(y)


def _numbers(node: Node, model: Model, first: Facts, second: Facts) -> Iterator[int]:
    for k, t in enumerate(node.inputs):
        if not t:
            continue
        a, b = first.values.get(t), second.values.get(t)
        if a is not None and b is not None and _small(a) and np.array_equal(a, b):
            yield from (int(n) for n in a.reshape(-1))
        if k == 0 and t in model.constant and _picks(node, model, first):
            yield from (d for d in first.shapes.get(t) or () if d is not None)


def _picks(node: Node, model: Model, facts: Facts) -> bool:
    """Whether a node's other operands are integers, one of which no constant."""
    others = [t for t in node.inputs[1:] if t]
    whole = all(np.issubdtype(_dtype(facts, t), np.integer) for t in others)
    return whole and any(t not in model.constant for t in others)


def _dtype(facts: Facts, tensor: str) -> np.dtype[np.generic]:
    import onnx

    code = facts.dtype(tensor)
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code)) if code else np.dtype(object)


def _small(a: Array) -> bool:
    return a.size <= 16 and a.dtype.kind in "iu"
