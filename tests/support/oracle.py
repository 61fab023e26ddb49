"""The oracle over the operator table: op(copies of x) must be copies of op(x).

It executes every claim of a row on random numbers and shares no code with the engine but
the row, its factors and, for data movements, the index proof that is under test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_net2net.errors import RefusalError
from onnx_net2net.growth.widen.shares import divided
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.notation import Entry
from onnx_net2net.operators.spec import Grown, Rule
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array
from support.single_node import Case, letters

Sources = Mapping[Entry, Array]


class WrongError(AssertionError):
    """A row says something that execution does not bear out."""


@dataclass(frozen=True)
class Growth:
    """Student position -> teacher position of a factor's index; `new`: the added ones."""

    source: Array
    new: Array

    def along(self, index: Array, size: int) -> tuple[Array, Array]:
        """The same for an axis that is a product with this factor in it."""
        source, new = [], []
        ends = np.flatnonzero((np.diff(index) < 0) | (np.diff(index < 0) != 0)) + 1
        for places in np.split(np.arange(len(index)), ends):
            if index[places[0]] < 0:
                source.append(places)
                new.append(np.zeros(len(places), bool))
                continue
            each = places.reshape(size, -1)
            source.append(each[self.source].reshape(-1))
            new.append(np.repeat(self.new, each.shape[1]))
        return np.concatenate(source), np.concatenate(new)


def growths(f: Factor, rng: np.random.Generator) -> Iterator[Growth]:
    """Random copies in random places; equally many where the factor is averaged."""
    n = f.size
    extra = np.tile(np.arange(n), 2) if f.role == "mean" else rng.integers(0, n, n // 2 + 1)
    source = np.concatenate([np.arange(n), extra])
    new = np.arange(len(source)) >= n
    order = rng.permutation(len(source))
    yield Growth(source[order], new[order])
    if f.role == "mean":
        source = np.repeat(np.arange(n), 2)
        yield Growth(source, np.arange(len(source)) % 2 == 1)


def close(got: Array, want: Array) -> bool:
    """Same shape, type and, to rounding, numbers."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return False
    if got.dtype.kind in "biuOU":
        return np.array_equal(got, want)
    scale = max(np.abs(want[np.isfinite(want)]).max(initial=0), 1e-3)
    room = 32 * scale * float(np.finfo(np.float32).eps if got.itemsize > 2 else 2**-8)
    return np.allclose(got.astype("f8"), want.astype("f8"), 0, room, equal_nan=True)


def rewritten(case: Case, sources: Sources) -> tuple[list[Array | None], dict[str, Any]]:
    """The operands and attributes of the student, sizes and positions as the row wants them.

    Raises:
        LookupError: the row cannot tell.
    """
    ins = {e: s for e, s in sources.items() if e[0] >= 0}
    outs = {(-1 - slot, dim): s for (slot, dim), s in sources.items() if slot < 0}
    arrays, attributes = case.arrays, dict(case.attributes)
    for slot in TABLE[case.op].slots:
        wanted = slot.want(Grown(case.site, ins, outs))
        if wanted is None:
            continue
        k = slot.input
        if k is not None and (case.site.has(k) or case.opset >= slot.since):
            arrays += [None] * (k + 1 - len(arrays))
            old = arrays[k]
            new = np.asarray(wanted, np.int64 if old is None else old.dtype)
            arrays[k] = new.reshape(old.shape) if old is not None and old.size == new.size else new
            attributes.pop(slot.replaces, None)
        else:
            attributes[slot.attribute] = wanted
    return arrays, attributes


def _kinds(case: Case, row: Rule, f: Factor) -> Iterator[str]:
    yield "copy"
    slots = {s for s, _ in f.at if s >= 0}
    floats = all(case.arrays[s].dtype.kind not in "biuOSU" for s in slots)  # type: ignore[union-attr]
    if f.role in ("mean", "max") or not slots or not floats:
        return
    if row.evening(case.site, f.name) is not None:
        return
    constant = {s for s in slots if case.operands[s].constant}  # type: ignore[union-attr]
    ends = f.role == "sum" or not any(s < 0 for s, _ in f.at)
    if ends or row.passes_zero(case.site, slots, constant):
        yield "zero"
    if row.passes_free(case.site, slots, constant):
        yield "free"


def _rows(array: Array, dim: int, new: Array, kind: str, rng: np.random.Generator) -> Array:
    """Zero or arbitrary numbers at the new positions of an axis."""
    at = (slice(None),) * dim + (np.flatnonzero(new),)
    if kind == "zero":
        array[at] = 0
    elif kind == "free":
        array[at] = rng.uniform(-3, 3, array[at].shape).astype(array.dtype)
    return array


def _student(
    case: Case, given: list[Array | None], f: Factor, g: Growth, kind: str,
    split: Entry | None, rng: np.random.Generator,
) -> list[Array | None]:  # fmt: skip
    row, arrays = TABLE[case.op], list(given)
    weights = case.analysis.weights(case.node)
    for slot, dim in f.at:
        array = arrays[slot] if slot >= 0 else None
        if array is None:
            continue
        source, new = g.along(f.at[slot, dim], f.size)
        if (slot, dim) == split or (slot, dim) in row.divides:
            live = ~new if kind != "copy" else None
            at = row.offsets.get(slot, len(given))
            zero = given[at] if at < len(given) else None
            offset = int(zero.flat[0]) if zero is not None else 0
            arrays[slot] = divided(array, source, dim, "zero-sum", live, offset, "oracle", slot)
            continue
        array = np.take(array, source, axis=dim)
        kept = case.operands[slot].constant and (  # type: ignore[union-attr]
            slot in row.zero_keeps if kind == "zero" else slot not in weights
        )
        arrays[slot] = array if kept else _rows(array, dim, new, kind, rng)
    return arrays


def _evened(case: Case, f: Factor, sources: Sources, at: tuple[int, Any]) -> Any:
    """Input 0 or output 0 with what the row says that copies need."""
    slot, array = at
    evening = TABLE[case.op].evening(case.site, f.name)
    step = evening and {0: evening.before, -1: evening.after}.get(slot)
    for entry, source in sources.items() if step else ():
        if entry[0] == slot and array is not None:
            counts = np.bincount(source)[source].astype(np.float64)
            shape = [1] * array.ndim
            shape[entry[1]] = -1
            operand = step[1](counts).reshape(shape)
            ufunc = {"Sub": np.subtract, "Add": np.add, "Mul": np.multiply, "Div": np.divide}
            array = ufunc[step[0]](array, operand).astype(array.dtype)
    return array


def _expected(case: Case, f: Factor, g: Growth, k: int) -> tuple[Array, list[tuple[int, Array]]]:
    """An output as it must be, and the new positions along its axes."""
    want, made = case.teacher[k], []
    for slot, dim in f.at:
        if slot == -1 - k:
            source, new = g.along(f.at[slot, dim], f.size)
            want = np.take(want, source, axis=dim)
            made.append((dim, new))
    return want, made


def _compare(
    what: str, kind: str, k: int, result: Array, want: Array, made: list[tuple[int, Array]]
) -> None:
    """Output k against what it must be; `made`: the new positions along its axes."""
    if result.shape != want.shape:
        raise WrongError(f"{what}: {result.shape}, expected {want.shape}")
    for dim, new in made if kind != "copy" else ():
        if kind == "zero" and k == 0 and np.any(np.compress(new, result, dim)):
            raise WrongError(f"{what}: zero rows do not stay zero")
        if kind == "free" and not np.isfinite(result.astype("f8")).all():
            raise WrongError(f"{what}: free rows make numbers that are none")
        want = np.compress(~new, want, dim)
        result = np.compress(~new, result, dim)
    if not close(result, want):
        raise WrongError(f"{what}: output {k} differs")


def check_factor(case: Case, f: Factor, seed: int = 0) -> int:
    """Execute one claim of a row; returns how many students were run."""
    row, rng, done = TABLE[case.op], np.random.default_rng(seed), 0
    inputs = [e for e in f.at if e[0] >= 0]
    known = {o.name: o.size for o in case.analysis.known_factors(case.node)}
    whole = {k for k, a in enumerate(case.arrays) if a is not None and a.dtype.kind in "iu"}
    absorb = [e for e in inputs if e[0] not in whole - row.offsets.keys()]
    splits: list[Entry | None] = list(absorb) if f.role == "sum" else [None]
    for g in growths(f, rng):
        sources = {e: g.along(index, f.size)[0] for e, index in f.at.items()}
        given, attributes = rewritten(case, sources)
        attributes |= row.held(case.site, {f.name: len(g.source)}, known)
        for kind in _kinds(case, row, f):
            for split in splits:
                arrays = _student(case, given, f, g, kind, split, rng)
                arrays[:1] = [_evened(case, f, sources, (0, a)) for a in arrays[:1]]
                what = f"{case}: '{f.name}' {f.role} {kind} split {split}"
                try:
                    got = case.run(arrays, attributes)
                except Exception as why:  # onnxruntime's exceptions share no base
                    raise WrongError(f"{what}: the student does not run: {why}") from None
                for k, result in enumerate(got):
                    result = _evened(case, f, sources, (-1 - k, result))
                    _compare(what, kind, k, result, *_expected(case, f, g, k))
                done += 1
    return done


def check(case: Case) -> int:
    """Execute everything that a computing row claims about a case."""
    try:
        fs = case.analysis.factors(case.node)
    except RefusalError as why:
        if not case.refuses or case.refuses not in str(why):
            raise WrongError(f"{case}: refused: {why}") from None
        return 0
    if case.refuses:
        raise WrongError(f"{case}: not refused")
    said = letters(case, fs)
    if said != case.roles:
        raise WrongError(f"{case}: '{said}', expected '{case.roles}'")
    return execute(case, fs)


def execute(case: Case, fs: list[Factor]) -> int:
    """Execute all claims; returns how many students were run."""
    return sum(check_factor(case, f) for f in fs if f.role not in ("across", "size"))


def check_shapes(case: Case) -> None:
    """The engine's shapes, and where the row folds its values, are what execution gives."""
    facts = case.analysis.first
    for name, result in zip(case.node.outputs, case.teacher, strict=True):
        said = facts.shapes[name]
        pairs = zip(said or (), result.shape, strict=False)
        if said is None or len(said) != result.ndim or any(d not in (None, n) for d, n in pairs):
            raise WrongError(f"{case}: shape {said}, expected {result.shape}")
    row = TABLE[case.op]
    if row.fold is None:
        return
    with np.errstate(all="ignore"):
        found: list[Any] = [np.asarray(r) for r in row.fold(case.node, case.arrays)]
    for got, want in zip(found, case.teacher, strict=False):
        if not close(got, want):
            raise WrongError(
                f"{case}: folds to {got.dtype}{got.shape}, not {want.dtype}{want.shape}"
            )


__all__ = [
    "Sources",
    "WrongError",
    "check",
    "check_factor",
    "check_shapes",
    "close",
    "execute",
    "rewritten",
]
