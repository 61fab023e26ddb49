"""Sizes for which two models are the same function, where they are not for all.

At some sizes, what depends on sizes is made as simple as it is there, and the conditions are
kept that this takes. If the outputs then match, they do so wherever the conditions hold. A
condition without which they match as well is dropped; beyond those that stay, other sizes are
looked at in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from onnx_net2net.errors import ModelError
from onnx_net2net.inference.expressions import Atom, evaluate
from onnx_net2net.inference.input_sizes import inference_of
from onnx_net2net.inference.onnx_inference import tensor_type
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.inference.size_assumptions import Assumptions
from onnx_net2net.inference.size_conditions import Condition, Covered, Region
from onnx_net2net.verification.certificate.registry import Registry
from onnx_net2net.verification.certificate.trial import Trial

_MOST_REGIONS = 4
_MOST_CONDITIONS = 12
_LARGEST = 4096
_SECONDS = 10.0


@dataclass
class Regions:
    """Looks for sizes at which two models match.

    Args:
        trial: the two models.
        fresh: makes a registry in which nothing is known yet.
        seconds: after which no further sizes are looked at.
    """

    trial: Trial
    fresh: Callable[[], Registry]
    seconds: float = _SECONDS

    def covered(self, facts: Facts) -> tuple[Covered, Registry] | None:
        """The sizes for which they match, found from those of the teacher's facts.

        With them, what was compared; None where they do not match there.
        """
        self._started = time.monotonic()
        first = self._region(facts)
        if first is None or not first[0]:  # without any condition they did not match before
            return None
        region, registry = first
        found, todo = [region], list(_beyond(region))
        while todo and len(found) < _MOST_REGIONS and not Covered(tuple(found)).every:
            sizes = todo.pop(0)
            other = self._elsewhere(facts, sizes, found)
            if other is not None:
                found.append(other)
                todo += _beyond(other)
            if time.monotonic() - self._started > self.seconds:
                break
        return Covered(tuple(found)), registry

    def _elsewhere(
        self, facts: Facts, sizes: dict[str, int], found: Collection[Region]
    ) -> Region | None:
        """The region in which some sizes lie, unless they lie in a known one."""
        known = self.trial.inputs(facts).known
        known = {**known, **{Atom(s): n for s, n in sizes.items()}}
        if any(_holds(region, known) for region in found):
            return None
        there = self._facts(facts, known)
        region = self._region(there) if there is not None else None
        return region[0] if region is not None and region[0] else None

    def _facts(self, facts: Facts, known: dict[Atom, int]) -> Facts | None:
        """The teacher's facts at other sizes; None where it does not run there."""
        side = self.trial.sides.teacher
        dims = self.trial.inputs(facts)
        types = {}
        for name in side.model.inputs:
            types[name] = facts.types[name]
            shape = dims.shape(name)
            if shape is not None:
                sizes = [evaluate(d, known) for d in shape]
                types[name] = tensor_type(facts.dtype(name), sizes)
        try:
            there = inference_of(side.source, side.model).run(types)
        except ModelError:
            return None
        return None if len(there.failed) > len(facts.failed) else there

    def _region(self, facts: Facts) -> tuple[Region, Registry] | None:
        """Conditions under which the models match, that hold at the facts' sizes."""
        first = self._tried(facts, ())
        if first is None:
            return None
        needed, registry = first
        denied: list[Condition] = []
        for condition in sorted(needed, key=str) if len(needed) <= _MOST_CONDITIONS else ():
            if condition not in needed or time.monotonic() - self._started > self.seconds:
                continue
            fewer = self._tried(facts, [*denied, condition])
            if fewer is not None and len(fewer[0]) <= len(needed):
                denied.append(condition)
                needed, registry = fewer
        return _fewest(needed), registry

    def _tried(self, facts: Facts, denied: Collection[Condition]) -> tuple[Region, Registry] | None:
        registry = self.fresh()
        known = self.trial.inputs(facts).known
        assumed = Assumptions(known, denied)
        try:
            outcome = self.trial.again(registry).at(facts, assumed)
        except ModelError:
            return None
        if outcome.wrong:
            return None
        return frozenset(assumed.made), registry


def _holds(region: Region, known: dict[Atom, int]) -> bool:
    try:
        return all(c.holds(known) for c in region)
    except LookupError:
        return False


def _beyond(region: Region) -> Iterator[dict[str, int]]:
    """Sizes just outside a region: one for each condition on one symbol."""
    for condition in sorted(region, key=str):
        for other in condition.negated():
            line, spans = other.linear(), other.intervals()
            if line is None or not spans:
                continue
            low, high = spans[0]
            size = int(max(low, 1))
            if size <= min(high, _LARGEST):
                yield {line[0]: size}


def _fewest(region: Region) -> Region:
    """Without conditions that others imply."""
    kept = set(region)
    for condition in sorted(region, key=str):
        rest = kept - {condition}
        if any(_implies(other, condition) for other in rest):
            kept = rest
    return frozenset(kept)


def _implies(one: Condition, other: Condition) -> bool:
    a, b = one.linear(), other.linear()
    if a is None or b is None or a[0] != b[0]:
        return False
    mine, theirs = one.intervals() or [], other.intervals() or []
    return all(any(x <= p and q <= y for x, y in theirs) for p, q in mine)


__all__ = ["Regions"]
