"""Operators by a line in the notation, a fact or a user's: functions of that structure.

What it computes is not known; that equal operands give equal results is. A name that passes
through names the output's positions; a summed one is a row of linear forms; along all others
the operands are taken as they stand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_net2net.operators.notation import REGISTERED, Axes, Declared, aligned
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.facts.lines import FACTS, Fact
from onnx_net2net.verification.certificate.names import (
    ZERO,
    Labels,
    digest,
    key,
    labels_of,
    mix,
    positions,
)
from onnx_net2net.verification.certificate.transfer.base import At, Rule, no_zero
from onnx_net2net.verification.certificate.transfer.contraction import Shaping, contracted
from onnx_net2net.verification.certificate.transfer.elementwise import elementwise
from onnx_net2net.verification.certificate.transfer.pairs import summed

_REDUCED = ("mean", "max", "sum")


def rule_of(op: str) -> Rule | None:
    """The rule of a registered operator, or of one with a fact; None for any other."""
    said = REGISTERED.get(op)
    if said is not None:
        return lambda at: _named(at, said)
    fact = FACTS.get(op)
    return None if fact is None else lambda at: stated(at, fact)


def stated(at: At, fact: Fact) -> Sequence[Term]:
    """The outputs of an operator by its line."""
    said = fact.declared(at)
    axes = {*said.operands, *said.results}
    return elementwise(at, fact.zero) if axes == {("...",)} else _named(at, said)


def _aligned(at: At, said: Declared) -> tuple[dict[int, list[str]], list[list[str]]]:
    """The words of the axes of each operand, and of each result that is read.

    Raises:
        UnknownError: the node is not what the notation describes.
    """
    try:
        words = {k: aligned(v, _rank(at, k)) for k, v in enumerate(said.operands) if at.has(k)}
        results = [aligned(axes, len(at.out(k))) for k, axes in _asked(at, said)]
    except LookupError as why:
        raise UnknownError(f"the notation of {said.name}: {why}") from None
    if set(words) != {k for k in range(len(at.args)) if at.has(k)}:
        raise UnknownError(f"the notation of {said.name} has another number of inputs")
    for k, axes in words.items():
        if any(w == "1" and d != 1 for w, d in zip(axes, _shape(at, k), strict=True)):
            raise UnknownError(f"input {k} of {said.name} is no single number")
    return words, results


def _named(at: At, said: Declared) -> Sequence[Term]:
    words, results = _aligned(at, said)
    passing = {w for axes in results for w in axes if w[0] != "*" and _role(said, w) != "across"}
    reduced = {w for axes in words.values() for w in axes if _role(said, w) in _REDUCED}
    shared = _summed(said, words, passing)
    tag = key(at.name(*said.sizes.values()), sorted(words))
    parts: dict[str, list[Labels]] = {}
    operands = set(words)
    if shared is not None:
        tag, rows, operands = _contraction(at, words, shared, passing, tag)
        parts |= {w: [v] for w, v in rows.items()}
    count = len(operands) + (shared is not None)
    for k in sorted(operands):
        tag, mine = _opaque(at, k, words[k], passing | reduced, tag)
        for w, v in mine.items():
            parts.setdefault(w, []).append(v)
    merged = {w: _merged(v, said.zero and len(v) == count) for w, v in parts.items()}
    for w in sorted(reduced & set(merged)):
        if " " in w:
            merged[w] = _by_group(at, said, key(tag, w), merged[w], w.split())
        else:
            tag = _along(at, key(tag, w), merged[w], _role(said, w))
    found: list[Term] = [Value(key(tag, "not read"), None)] * len(at.node.outputs)
    for (k, _), axes in zip(_asked(at, said), results, strict=True):
        labels = [
            merged[w] if w in passing and w in merged else positions(d)
            for w, d in zip(axes, at.out(k), strict=True)
        ]
        if [len(v) for v in labels] != list(at.out(k)):
            raise UnknownError(f"the notation of {said.name} gives another shape")
        found[k] = Value(key(tag, "output", k), tuple(labels))
    return found


def _asked(at: At, said: Declared) -> list[tuple[int, Axes]]:
    """The results that are read, by their place."""
    made = [k for k, o in enumerate(at.node.outputs) if o]
    if made and made[-1] >= len(said.results):
        raise UnknownError(f"the notation of {said.name} has fewer outputs")
    return [(k, said.results[k]) for k in made]


def _shape(at: At, slot: int) -> tuple[int, ...]:
    term = at.args[slot]
    return term.shape if isinstance(term, Const) else at.value(slot).shape


def _rank(at: At, slot: int) -> int:
    return len(_shape(at, slot))


def _role(said: Declared, word: str) -> str:
    """The role of a word; a product has its last name's, unless another has one, too."""
    names = ["."] if word.startswith("...") else word.split()
    found = [said.roles.get(n, "") for n in names]
    return "across" if any(found[:-1]) else found[-1]


def _summed(
    said: Declared, words: dict[int, list[str]], passing: set[str]
) -> tuple[int, int, str, str] | None:
    """(data, weight, their words) that are summed over their product, if any are."""
    out = {n for w in passing for n in w.split()}
    found = [
        (a, b, name)
        for a in words
        for b in words
        for name in {n for w in words[a] for n in w.split()} - out - {"1"}
        if a < b and name[0] not in "*~" and any(name in w.split() for w in words[b])
        and said.roles.get(name) is None
    ]  # fmt: skip
    if not found:
        return None
    if len(found) > 1:
        raise UnknownError(f"{said.name} sums over several indices")
    a, b, name = found[0]
    one, two = (next(w for w in words[k] if name in w.split()) for k in (a, b))
    return a, b, one, two


def _contraction(
    at: At, words: dict[int, list[str]], shared: tuple[int, int, str, str], passing: set[str],
    tag: int,
) -> tuple[int, dict[str, Labels], set[int]]:  # fmt: skip
    """Name the rows of a sum of products; then what else the data and the operator have."""
    a, b, one, two = shared
    data, weight, inner, theirs = a, b, one, two
    if isinstance(at.args[a], Const):
        data, weight, inner, theirs = b, a, two, one
    x, w = at.args[data], at.args[weight]
    if not isinstance(x, Value) or not isinstance(w, Const):
        raise UnknownError("a sum of products of two computed tensors")
    outs = [v for v in words[weight] if v in passing and v not in words[data]]
    rest = [v for v in words[weight] if v not in outs and v != theirs and not v.startswith("*")]
    groups = inner.removesuffix(theirs).split()
    prefix = " ".join(groups)
    if rest or len(outs) != 1 or (groups and not outs[0].startswith(f"{prefix} ")):
        raise UnknownError("a sum of products of this form")
    if groups and inner != f"{prefix} {theirs}":
        raise UnknownError("a sum of products of this form")
    axis, row, column = words[data].index(inner), *map(words[weight].index, (outs[0], theirs))
    x = x if x.scale is None or x.scale[0] == axis else x.settled()
    count = len(x.axes[axis]) // w.shape[column]
    if count * w.shape[column] != len(x.axes[axis]) or (count != 1 and not groups):
        raise UnknownError("operands do not fit")
    free = {v: x.axes[k] for k, v in enumerate(words[data]) if v in passing}
    fixed = [digest(x.axes[k]) for k, v in enumerate(words[data]) if v not in passing and k != axis]
    tag = key(tag, x.tag, fixed, [k for k, v in enumerate(words[data]) if v in passing])
    labels = contracted(at, x, w, Shaping((row,), (column,)), [axis], tag, groups=count)
    named = {v: no_zero(labels_of) for v, labels_of in free.items()} | {outs[0]: labels}
    return tag, named, set(words) - {data, weight}


def _opaque(
    at: At, slot: int, words: list[str], kept: set[str], tag: int
) -> tuple[int, dict[str, Labels]]:
    """What an operand adds to the name of the whole, and the labels of the axes that count."""
    term = at.args[slot]
    shape = term.shape if isinstance(term, Const) else at.value(slot).shape
    free = [k for k, w in enumerate(words) if w in kept and shape[k] != 1]
    names = [words[k] for k in free]
    if isinstance(term, Const) and len(free) <= 1:
        content = None if free else term.key
        sizes = [d for k, d in enumerate(shape) if k not in free]
        rows = {words[k]: term.rows(k) for k in free}
        return key(tag, slot, str(term.dtype), content, sizes, names), rows
    x = at.value(slot)
    fixed = [
        len(v) if w.startswith("~") else digest(v)
        for k, (w, v) in enumerate(zip(words, x.axes, strict=True))
        if k not in free
    ]
    return key(tag, slot, x.tag, fixed, names), {words[k]: x.axes[k] for k in free}


def _along(at: At, tag: int, labels: Labels, role: str) -> int:
    """A name for what stands along an axis, in whatever order."""
    if role == "max":
        return key(tag, digest(np.unique(labels)))
    unique, weights = summed(labels, np.ones(len(labels)))
    weights = weights / len(labels) if role == "mean" else weights
    return at.registry.name_sum(tag, unique, weights)


def _by_group(at: At, said: Declared, tag: int, labels: Labels, names: list[str]) -> Labels:
    """Labels of a product along whose last name the positions of each group are reduced."""
    attributes = [said.sizes.get(n, "") for n in names[:-1]]
    sizes = [at.node.attr(a) for a in attributes]
    if not all(isinstance(n, int) and n > 0 for n in sizes):
        raise UnknownError(f"the size of {names[0]} is open")
    groups = labels.reshape(int(np.prod(sizes)), -1)
    forms = [_along(at, tag, g, said.roles[names[-1]]) for g in groups]
    return mix(labels, np.repeat(labels_of(forms), groups.shape[1]))


def _merged(labels: list[Labels], zero: bool) -> Labels:
    """One label for each position of an axis that several operands have."""
    longest = max(len(v) for v in labels)
    if any(len(v) != longest for v in labels):
        raise UnknownError("operands do not fit")
    still = np.logical_and.reduce([v == ZERO for v in labels])
    found = no_zero(labels[0]) if len(labels) == 1 else mix(*labels)
    return np.where(still, ZERO, found) if zero and still.any() else found


__all__ = ["rule_of"]
