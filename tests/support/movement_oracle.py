"""The oracle over data movements: the index proof accepts exactly what execution bears out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from onnx_net2net.growth.widen.index_proof import movement_commutes
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.notation import Entry
from onnx_net2net.operators.spec import Site
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array
from support.oracle import Sources, WrongError, rewritten
from support.single_node import Case

Placed = dict[Entry, tuple[Array, Array]]
"""Entry -> (student -> teacher position, which are new)."""


def placed(labels: Array, units: list[int], inline: bool) -> tuple[Array, Array]:
    """Copies of the classes `units` on an axis: after their run, or where the stretch of
    distinct classes ends.
    """
    edges = np.flatnonzero(np.diff(labels)) + 1
    runs = np.split(np.arange(len(labels)), edges)
    source: list[int] = []
    new: list[bool] = []
    stretch: dict[int, Array] = {}

    def flush() -> None:
        for u in units:
            if u in stretch:
                source.extend(stretch[u])
                new.extend([True] * len(stretch[u]))
        stretch.clear()

    for run in runs:
        label = int(labels[run[0]])
        if inline or label < 0 or label in stretch:
            flush()
        source.extend(run)
        new.extend([False] * len(run))
        if label >= 0:
            stretch[label] = run
    flush()
    return np.asarray(source, np.int64), np.asarray(new, bool)


def right(fs: list[Factor], rng: np.random.Generator) -> Iterator[tuple[Factor, Placed]]:
    """Copies that agree on all axes of a factor."""
    for f in fs:
        for inline in (False, True):
            for units in (rng.integers(0, f.size, rng.integers(1, 4)), np.arange(f.size)):
                yield f, {e: placed(v, units.tolist(), inline) for e, v in f.at.items()}


def wrong(case: Case, fs: list[Factor], rng: np.random.Generator) -> Iterator[dict[Entry, Array]]:
    """Copies that need not agree: one axis shuffled, or drawn on its own."""
    for _, growth in right(fs, rng):
        sources = {e: s for e, (s, _) in growth.items()}
        entry = list(sources)[rng.integers(len(sources))]
        yield {**sources, entry: rng.permutation(sources[entry])}
        slot, dim = entry
        size = (case.arrays[slot] if slot >= 0 else case.teacher[-1 - slot]).shape[dim]  # type: ignore[union-attr]
        yield {**sources, entry: rng.integers(0, size, len(sources[entry]))}
        yield {e: s for e, s in sources.items() if e != entry}


def _student(
    case: Case, arrays: list[Array | None], attributes: dict[str, Any], sources: Sources
) -> Site:
    """The node as it is in the student."""
    node = replace(case.node)
    node.__dict__["attributes"] = attributes

    def sized(slot: int, shape: tuple[int | None, ...] | None) -> tuple[int | None, ...]:
        return tuple(
            len(sources[slot, k]) if (slot, k) in sources else d for k, d in enumerate(shape or ())
        )

    site = case.site
    constant = {k for k, o in enumerate(case.operands) if o is None or o.constant}
    values = tuple(
        a if k >= len(site.values) or k in constant else None for k, a in enumerate(arrays)
    )
    if len(arrays) > len(node.inputs):
        node.inputs = (*node.inputs, *[f"x{k}" for k in range(len(node.inputs), len(arrays))])
    return Site(
        node,
        tuple(sized(k, s) for k, s in enumerate(site.shapes)),
        tuple(sized(-1 - k, s) for k, s in enumerate(site.outs)),
        values,
    )


def _taken(array: Array, slot: int, sources: Sources) -> Array:
    for (s, dim), source in sources.items():
        if s == slot:
            array = np.take(array, source, axis=dim)
    return array


def agree(case: Case, sources: Sources, growth: Placed | None = None) -> bool:
    """Whether the proof accepts; raises WrongError where execution says otherwise."""
    sources = {
        e: s for e, s in sources.items()
        if len(s) != (case.arrays[e[0]] if e[0] >= 0 else case.teacher[-1 - e[0]]).shape[e[1]]  # type: ignore[union-attr]
    }  # fmt: skip
    try:
        arrays, attributes = rewritten(case, sources)
    except LookupError:
        return False
    what = f"{case} with { ({e: s.tolist() for e, s in sources.items()}) }"
    accepted = movement_commutes(case.site, _student(case, arrays, attributes, sources), sources)
    arrays = [a if a is None else _taken(a, k, sources) for k, a in enumerate(arrays)]
    want = [_taken(y, -1 - k, sources) for k, y in enumerate(case.teacher)]
    try:
        got = case.run(arrays, attributes)
    except Exception as why:  # onnxruntime's exceptions share no base
        if accepted:
            raise WrongError(f"{what}: accepted, but does not run: {why}") from None
        return False
    equal = all(np.array_equal(g, y) for g, y in zip(got, want, strict=True))
    if accepted != equal:
        raise WrongError(f"{what}: accepted {accepted}, equal {equal}")
    if accepted and growth is not None and any(s >= 0 for s, _ in growth):
        slots = {s for s, _ in growth if s >= 0}
        if TABLE[case.op].passes_zero(case.site, slots, set()):
            student = _student(case, arrays, attributes, sources)
            new = {e: m for e, (_, m) in growth.items() if e in sources}
            said = movement_commutes(case.site, student, sources, new)
            if said != _zeros_pass(case, arrays, attributes, growth, want):
                raise WrongError(f"{what}: zero rows accepted {said}")
    return accepted


def _zeros_pass(
    case: Case,
    arrays: list[Array | None],
    attributes: dict[str, Any],
    growth: Placed,
    want: list[Array],
) -> bool:
    """Whether zero rows come out where the copies do."""

    def cleared(array: Array, slot: int) -> Array:
        array = array.copy()
        for (s, dim), (_, new) in growth.items():
            if s == slot:
                array[(slice(None),) * dim + (np.flatnonzero(new),)] = 0
        return array

    slots = {s for s, _ in growth}
    given = [cleared(a, k) if k in slots and a is not None else a for k, a in enumerate(arrays)]
    expected = [cleared(y, -1 - k) for k, y in enumerate(want)]
    got = case.run(given, attributes)
    return all(np.array_equal(g, y) for g, y in zip(got, expected, strict=True))


def check(case: Case, seed: int = 0) -> tuple[int, int]:
    """Random students of a movement; returns how many were accepted and how many refused."""
    fs = case.analysis.factors(case.node)
    rng = np.random.default_rng(seed)
    counts = [0, 0]
    accepted: dict[int, bool] = {}
    for f, growth in right(fs, rng):
        good = agree(case, {e: s for e, (s, _) in growth.items()}, growth)
        accepted[id(f)] = accepted.get(id(f), False) or good
        counts[not good] += 1
    for sources in wrong(case, fs, rng):
        counts[not agree(case, sources)] += 1
    for f in fs:
        if accepted[id(f)] == (f.name in case.refuses.split("; ")):
            raise WrongError(f"{case}: copies of '{f.name}' accepted: {accepted[id(f)]}")
    return counts[0], counts[1]


__all__ = ["agree", "check", "placed", "right", "wrong"]
