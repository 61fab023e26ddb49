"""Factors: the indices that a node shares between axes, read off its row of the table.

A notation gives one factor for each name. A data movement gives one for each pair of axes whose
positions it ties: a Reshape of [6] to [2, 3] one with the indices [0 0 0 1 1 1] on the input and
[0 1] on the first output axis, one with [0 1 2 0 1 2] and [0 1 2] on the second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from onnx_net2net.errors import Reason
from onnx_net2net.graph.union_find import components
from onnx_net2net.typing import Array, Shape
from .notation import STRETCHES, Axes, Entry, aligned, length, names, parse, solve, terms
from .spec import MADE, Block, RowError, Rule, Site
from .table import TABLE


@dataclass(frozen=True, eq=False)
class Factor:
    """An index shared by axes; `at[entry][position]` is its value there, -1 where it has none.

    Of a Conv in 2 groups of 3 output channels, `(g o)`, the factor o has `size` 3 and is
    [0 1 2 0 1 2] at (1, 0), the weights' rows, at (2, 0), the bias, and at (-1, 1).
    `role`: parallel, sum, mean, max, size or across. `inner`: how far inside a product its
    name stands (larger is further in); the innermost is what grows by default.
    """

    name: str
    size: int
    role: str
    at: Mapping[Entry, Array]
    inner: int = 0

    @property
    def averaged(self) -> bool:
        """Whether copies must be equally many."""
        return self.role == "mean"


def _role(name: str, roles: Mapping[str, str], inputs: int, in_output: bool) -> str:
    stem = name[0] if name[0] in ".*~" else name.rstrip("0123456789")
    if stem == "~":
        return "size"
    if stem in roles:
        return roles[stem]
    if in_output:
        return "parallel"
    return "sum" if inputs > 1 else "across"


def _notated(row: Rule, site: Site) -> list[Factor]:
    text = _text(row, site)
    operands, results = parse(text)
    here = [slot for slot in range(len(operands)) if site.has(slot)]
    here += [-1 - k for k in range(min(len(results), len(site.outs))) if site.node.outputs[k]]
    shapes: list[tuple[int, Shape]] = []
    for slot in here:
        shape = site.shapes[slot] if slot >= 0 else site.outs[-1 - slot]
        if shape is None:
            raise RowError(
                f"the shape of operand {slot} of '{site.node.name}' is unknown",
                Reason.UNKNOWN_SHAPE,
            )
        shapes.append((slot, shape))
    sizes = row.sizes(site) if row.sizes else {}
    return [*_shared(text, tuple(row.roles.items()), tuple(sizes.items()), tuple(shapes))]


@lru_cache(maxsize=512)
def _shared(
    text: str, roled: tuple[tuple[str, str], ...], given: tuple[tuple[str, int], ...],
    shapes: tuple[tuple[int, Shape], ...],
) -> tuple[Factor, ...]:  # fmt: skip
    """The factors of all nodes that have this notation and these shapes."""
    roles, sizes = dict(roled), dict(given)
    words = _words(text, shapes, "*" in roles)
    dims = {(slot, k): shape[k] for slot, shape in shapes for k in range(len(shape))}
    solve(words, dims, sizes)
    each = dict.fromkeys(n for w in words.values() for n in names(w))
    found = (_factor(name, words, dims, sizes, roles) for name in each if name in sizes)
    return tuple(f for f in found if f is not None)


def _words(text: str, shapes: tuple[tuple[int, Shape], ...], windows: bool) -> dict[Entry, str]:
    """The word of each axis; without those of `*` unless these have a role."""
    operands, results = parse(text)
    words: dict[Entry, str] = {}
    for slot, shape in shapes:
        axes = operands[slot] if slot >= 0 else results[-1 - slot]
        for k, word in enumerate(aligned(axes, len(shape))):
            if word.startswith("~"):  # every operand has its own
                word = f"{word}@{slot}"
            if word != "1" and (windows or not word.startswith("*")):
                words[slot, k] = word
    return words


def _factor(
    name: str, words: Mapping[Entry, str], dims: Mapping[Entry, int | None],
    sizes: Mapping[str, int], roles: Mapping[str, str],
) -> Factor | None:  # fmt: skip
    """The factor of one name, on all axes that have it."""
    axes = {e: (w, _labels(w, name, sizes, dims[e])) for e, w in words.items() if name in names(w)}
    at = {e: labels for e, (_, labels) in axes.items() if labels is not None}
    if not at:
        return None
    for labels in at.values():
        labels.flags.writeable = False
    inner = max(t.index(name) for e in at for t in terms(words[e]) if name in t)
    role = _role(name, roles, sum(slot >= 0 for slot, _ in at), any(s < 0 for s, _ in axes))
    if any(_stops(w, name, dims[e], sizes) for e, (w, _) in axes.items() if e not in at):
        role = "across"
    return Factor(name, sizes[name], role, at, inner)


def _stops(word: str, name: str, d: int | None, sizes: Mapping[str, int]) -> bool:
    """Whether a name cannot grow since an axis that has it may be there or broadcast."""
    if d is None:
        return name[0] != "~"
    return " " in word and (d != 1 or length(word, sizes) in (None, 1))


def pointwise(row: Rule, site: Site) -> bool:
    """Whether a node treats every element alone."""
    try:
        sides = parse(_text(row, site))
    except LookupError:
        return False
    return sides[1] != () and all(axes in (("...",), ("~",)) for side in sides for axes in side)


def slides(row: Rule, site: Site, slot: int) -> bool:
    """Whether an operand is a kernel that slides over an image.

    Args:
        row: of the operator.
        site: the node.
        slot: of the operand.
    """
    operands = parse(_text(row, site))[0]
    return slot < len(operands) and operands[slot][-1:] == ("*",)


def beside_weights(row: Rule, site: Site, side: int) -> tuple[tuple[str, ...], Mapping[int, int]]:
    """Which axes of a product's input or output its weights, input 1, tell, whatever its shape.

    Args:
        row: of the operator.
        site: where only the weights' shape has to be known.
        side: 0 for input 0, 1 for output 0.

    Returns:
        The axes in the notation, and those that share names with the weights: position -> size.

    Raises:
        LookupError: the notation depends on what is not known.
    """
    operands, results = parse(_text(row, site))
    if len(operands) < 2 or not results:
        return (), {}
    sizes, shape = dict(row.sizes(site)) if row.sizes else {}, site.dims(1)
    words = {(1, k): word for k, word in enumerate(aligned(operands[1], len(shape)))}
    solve(words, {entry: shape[entry[1]] for entry in words}, sizes)
    known = {n for word in words.values() for n in names(word)}
    axes = (operands[0], results[0])[side]
    sized = {k: length(w, sizes) for k, w in enumerate(axes) if known & set(names(w))}
    return axes, {k: size for k, size in sized.items() if size is not None}


def _text(row: Rule, site: Site) -> str:
    """The notation at a node; that of nothing where the row has none."""
    if row.notation is None:
        return "->"
    return row.notation if isinstance(row.notation, str) else row.notation(site)


def misfit(row: Rule, site: Site) -> str:
    """Two sizes of one index that no broadcast reconciles, in words; "" if all fit.

    Raises:
        LookupError: a shape that is not known, or of a rank that the notation does not take.
    """
    text = _text(row, site)
    sizes = row.sizes(site) if row.sizes else {}
    shapes = tuple(s if site.has(slot) else None for slot, s in enumerate(site.shapes))
    return _misfit(text, tuple(sizes.items()), shapes)


@lru_cache(maxsize=1024)
def _misfit(text: str, sizes: tuple[tuple[str, int], ...], shapes: tuple[Shape | None, ...]) -> str:
    known = dict(sizes)
    given = zip(parse(text)[0], shapes, strict=False)
    operands = [(slot, axes, s) for slot, (axes, s) in enumerate(given) if s is not None]
    ranks: dict[int, int] = {}
    for slot, axes, shape in operands:
        # a kernel has as many spatial axes as the image
        rank = ranks.setdefault(len(axes), len(shape)) if axes[-1:] == ("*",) else len(shape)
        if rank != len(shape):
            return f"operand {slot} has {len(shape)} axes where {rank} are expected"
    sized = [
        (slot, word, d)
        for slot, axes, shape in operands
        for word, d in zip(aligned(axes, len(shape)), shape, strict=True)
        if d not in (None, 1) and word[0] not in "*~1" and (d or " " not in word)
    ]
    # names alone first: they tell the sizes of products
    for slot, word, d in sorted(sized, key=lambda s: " " in s[1]):
        wanted = length(word, known) if " " in word else known.setdefault(word, d or 0)
        if wanted not in (None, d):
            return f"operand {slot} has {d} where {wanted} is expected"
    return ""


def result_shape(row: Rule, site: Site, result: int = 0) -> Shape | None:
    """An output's shape where the notation says it; None where `*` or sizes are open.

    Args:
        row: of the operator; a user's keeps the sizes of `*` that its first operand has.
        site: with the shapes of all operands.
        result: which output.

    Raises:
        RowError: a shape that is not known, or of a rank that the notation does not take.
    """
    operands, results = parse(_text(row, site))
    if result >= len(results):
        return None
    wanted = results[result]
    here = [slot for slot in range(len(operands)) if site.has(slot)]
    same = [slot for slot in here if operands[slot] == wanted]
    if same and "*" in wanted:
        return site.dims(same[0])
    words = _once(operands, {slot: len(site.dims(slot)) for slot in here})
    if "*" in wanted and not row.custom:
        return None
    sizes = dict(row.sizes(site)) if row.sizes else {}
    solve(words, {(slot, k): site.dims(slot)[k] for slot, k in words}, sizes)
    stretch = next((word for word in wanted if word in STRETCHES), "?")
    count = len({w for w in words.values() if w.startswith(stretch)})
    found = aligned(wanted, len(wanted) - (stretch in wanted) + count)
    return tuple(length(word, sizes) for word in found)


def fixed_axes(row: Rule, site: Site) -> dict[Entry, int]:
    """Open axes of operands whose size another operand fixes: an index is summed over both."""
    if row.notation is None:
        return {}
    text = row.notation if isinstance(row.notation, str) else row.notation(site)
    operands, results = parse(text)
    made = {n for axes in results for word in axes for n in names(word)}
    words: dict[Entry, str] = {}
    dims: dict[Entry, int | None] = {}
    for slot, axes in enumerate(operands):
        if site.has(slot) and site.rank(slot):
            for k, word in enumerate(aligned(axes, site.rank(slot))):
                words[slot, k], dims[slot, k] = word, site.dims(slot)[k]
    sizes = dict(row.sizes(site)) if row.sizes else {}
    solve(words, dims, sizes)
    summed = {
        e for e, w in words.items() if any(n not in made and n[0] not in ".*~" for n in names(w))
    }
    found = {e: length(words[e], sizes) for e in summed if dims[e] is None}
    return {e: size for e, size in found.items() if size}


def _once(operands: Sequence[Axes], ranks: Mapping[int, int]) -> dict[Entry, str]:
    """The word of each axis; of those of `*` only the first operand's."""
    words: dict[Entry, str] = {}
    for slot, rank in ranks.items():
        seen = {w for w in words.values() if w.startswith("*")}
        mine = enumerate(aligned(operands[slot], rank))
        words |= {(slot, k): word for k, word in mine if word not in seen}
    return words


def _labels(word: str, name: str, sizes: Mapping[str, int], d: int | None) -> Array | None:
    """The factor's index at each position of an axis; None where the axis broadcasts it."""
    if d is None or length(word, sizes) is None:
        return None
    parts = terms(word)
    if parts == [[name]]:
        return np.arange(d) if d == sizes[name] else None
    if length(word, sizes) != d:
        return None
    # a factor of one position is not an index, unless the whole axis has one
    if sizes[name] == 1 and not (d == 1 and name == parts[0][-1]):
        return None
    return np.concatenate([_term_labels(term, name, sizes) for term in parts])


def _term_labels(term: list[str], name: str, sizes: Mapping[str, int]) -> Array:
    count = math.prod(sizes[n] for n in term)
    if name not in term:
        return np.full(count, -1)
    inside = math.prod(sizes[n] for n in term[term.index(name) + 1 :])
    return (np.arange(count) // inside) % sizes[name]


def _components(rows: Array, columns: Array, n: int, m: int) -> tuple[int, Array, Array]:
    """Connected components of a relation given as pairs; unrelated positions get -1."""
    whole = components(n + m, rows, n + columns)
    live = np.zeros(n + m, bool)
    live[rows] = live[n + columns] = True
    roots, names = np.unique(whole[live], return_inverse=True)
    index = np.full(n + m, -1)
    index[live] = names
    return len(roots), index[:n], index[n:]


def _ending(name: str, block: Block, ins: list[int | None], made: list[Entry]) -> Iterator[Factor]:
    """Positions that begin here, and an axis of which one position is picked: it ends here."""
    table = block.table.reshape(-1)
    if len(made) == 1 and (table == MADE).any():
        labels = np.where(table == MADE, np.cumsum(table == MADE) - 1, -1)
        yield Factor(f"{name} made", int(labels.max()) + 1, "parallel", {made[0]: labels})
    if block.ins and not made:  # any copies will do
        labels = np.full(ins[0] or 1, -1)
        labels[np.unravel_index(table[table >= 0], [d or 1 for d in ins])[0]] = 0
        yield Factor(name, 1, "size", {block.ins[0]: labels})


def _moved(block: Block, site: Site) -> Iterator[Factor]:
    ins = [site.dims(slot)[k] for slot, k in block.ins]
    outs = [site.out_dims(slot)[k] for slot, k in block.outs]
    if any(d is None for d in (*ins, *outs)):
        return
    name = ",".join(f"{s}.{k}" for s, k in block.outs) or "picked"
    made = [(-1 - s, k) for s, k in block.outs]
    if block.aligned:
        labels = np.arange(len(block.table))
        yield Factor(name, len(labels), "parallel", dict.fromkeys((*block.ins, *made), labels))
        return
    yield from _ending(name, block, ins, made)
    if not block.ins or not made:
        return
    table = block.table.reshape(-1)
    live = table >= 0
    source = np.unravel_index(table[live], [d or 1 for d in ins])
    target = np.unravel_index(np.flatnonzero(live), [d or 1 for d in outs])
    for (i, n), (o, m) in product(enumerate(ins), enumerate(outs)):
        count, left, right = _components(source[i], target[o], n or 1, m or 1)
        alone = len(ins) == len(outs) == count == n == 1
        if count > 1 or n == m == 1 or alone:
            at = {block.ins[i]: left, made[o]: right}
            yield Factor(f"{name} {i}:{o}", count, "parallel", at)


def dropped(site: Site) -> Mapping[Entry, Array]:
    """Positions of each input axis that a movement leaves out: they end here."""
    row = TABLE.get(site.node.op)
    if row is None or row.movement is None:
        return {}
    reached: dict[Entry, Array] = {}
    for block in row.movement(site):
        if block.aligned or len(block.ins) != 1:
            continue
        (entry,) = block.ins
        mask = reached.setdefault(entry, np.zeros(site.dims(entry[0])[entry[1]] or 0, bool))
        mask[block.table[block.table >= 0]] = True
    return {e: ~m for e, m in reached.items() if not m.all()}


def factors(site: Site) -> list[Factor]:
    """All factors of a node.

    Raises:
        KeyError: the operator has no row.
        LookupError: something that the row needs is known only at run time.
    """
    row = TABLE[site.node.op]
    if row.movement is not None:
        try:
            return [f for block in row.movement(site) for f in _moved(block, site)]
        except LookupError:
            if row.notation is None:
                raise
    if row.ties is not None:
        return [f for group in row.ties(site) for f in _tied(group, site)]
    return _notated(row, site)


def _tied(group: tuple[Entry, ...], site: Site) -> Iterator[Factor]:
    """Axes that are one; where their sizes differ it may not grow."""
    sizes = {e: site.axis(e) for e in group}
    name = ",".join(f"{s}.{k}" for s, k in group)
    known = {e: np.arange(d) for e, d in sizes.items() if d is not None}
    if len(known) == len(group) and len(set(sizes.values())) == 1:
        yield Factor(name, next(iter(sizes.values())) or 0, "parallel", known)
        return
    for e, labels in known.items():
        yield Factor(name, len(labels), "across", {e: labels})
