"""Layers with several widths: heads, query/key head width and value head width.

A projection's output axis is a product (heads x width), or several side by side (packed
QKV). Each factor that can grow is a space of its own, told apart by what it is to a
product of two computed tensors: shared by both (heads), summed (qk), or kept (v).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from onnx_net2net.graph.model import Node
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.notation import Entry
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array
from .closure import closures
from .segments import segments
from .space import Axis, Instance, Signature, Space, axis_of


def alternatives(analysis: Analysis, axis: tuple[str, int]) -> list[Space]:
    """All widths that an axis has, default first.

    Returns:
        Spaces with `part` and `default` set; no default where the axis holds queries or keys
        beside values, so that a user has to choose.

    Raises:
        RefusalError: the axis cannot grow.
    """
    tried = closures(analysis, [axis])
    first = next(tried)
    if not first.choices:
        return [first]
    whole = [first, *tried]
    whole = [s for s in whole if not any(_refines(other, s) for other in whole)]
    pieces = [piece for space in whole for piece in _pieces(analysis, space)]
    once: dict[Signature, tuple[Space, frozenset[str]]] = {}
    for piece in pieces:  # two products may be cut into the same one
        once.setdefault(piece[0].signature, piece)
    found = list(once.values())
    if len(found) == 1:
        return [first]
    packed = {"qk", "v"} <= frozenset().union(*(parts for _, parts in found))
    names = [_name(parts) for _, parts in found]
    result = []
    for k, (space, _) in enumerate(found):
        again = names[:k].count(names[k])
        name = f"{names[k]}{again + 1}" if again else names[k]
        default = k == 0 and not packed
        result.append(replace(space, part="" if default else name, default=default))
    return result


def _name(parts: frozenset[str]) -> str:
    return "heads" if "heads" in parts else {"qk": "qk", "v": "v"}.get("".join(parts), "width")


def _pieces(analysis: Analysis, space: Space) -> list[tuple[Space, frozenset[str]]]:
    """A space cut where its classes play different parts and stand side by side everywhere."""
    parts = _parts(analysis, space)
    if space.uniform or len(set(parts)) == 1:
        return [(space, frozenset().union(*parts))]
    segment = segments(space)
    of: dict[int, frozenset[str]] = {
        int(s): frozenset().union(*(parts[c] for c in np.flatnonzero(segment == s)))
        for s in np.unique(segment)
    }
    result = []
    for wanted in sorted(set(of.values()), key=_name):
        classes = np.flatnonzero([of[int(s)] == wanted for s in segment])
        result.append((_restricted(analysis, space, classes), wanted))
    return result


def _restricted(analysis: Analysis, space: Space, classes: Array) -> Space:
    """The part of a space that holds some of its classes."""
    table = np.full(space.size + 1, -1)
    table[classes] = np.arange(len(classes))
    labels = {a: table[v] for a, v in space.labels.items() if (table[v] >= 0).any()}
    passages = {}
    for instance, carried in space.passages.items():
        kept = [f for f in carried if _classes(analysis, labels, instance, f, f.at)]
        if kept:
            passages[instance] = kept
    return replace(space, size=len(classes), labels=labels, passages=passages)


def _classes(
    analysis: Analysis, labels: Mapping[Axis, Array], instance: Instance, f: Factor,
    entries: Iterable[Entry],
) -> set[int]:  # fmt: skip
    """The classes that a factor of a node meets at some of its entries."""
    found = set[int]()
    for entry in entries:
        held = labels.get(axis_of(analysis, instance, entry))
        if held is not None:
            found.update(np.unique(held[(held >= 0) & (f.at[entry] >= 0)]).tolist())
    return found


def _parts(analysis: Analysis, space: Space) -> list[frozenset[str]]:
    """For each class: what it is to products of two computed tensors."""
    found: list[set[str]] = [set() for _ in range(space.size)]
    for (index, use), carried in space.passages.items():
        node = analysis.model.nodes[index]
        summed = _computed_sums(analysis, node) if use is None else []
        offers = TABLE[node.op].offers
        for f in carried if summed or offers else ():
            at = [e for e in f.at if e[0] >= 0]
            part = offers.get(f.name) or _part(at, f in summed)
            for c in _classes(analysis, space.labels, (index, use), f, at):
                found[c].add(part)
    return [frozenset(p) for p in found]


def _part(inputs: list[Entry], summed: bool) -> str:
    """What an index is to a product of two computed tensors that has it at these inputs."""
    return "qk" if summed else "heads" if len(inputs) > 1 else "v"


def _computed_sums(analysis: Analysis, node: Node) -> list[Factor]:
    """Indices that a node sums over between two tensors that are both computed."""
    constant = analysis.model.constant
    return [
        f
        for f in analysis.factors(node)
        if f.role == "sum"
        and len({e[0] for e in f.at if e[0] >= 0 and node.inputs[e[0]] not in constant}) > 1
    ]


def _refines(fine: Space, coarse: Space) -> bool:
    """Whether each class of `fine` lies within one of `coarse` on the axis they were closed from.

    What mixes heads and widths is one class of everything; nobody means that.
    """
    pairs = np.unique(np.stack([fine.labels[fine.seed], coarse.labels[fine.seed]]), axis=1)
    return pairs.shape[1] == len(np.unique(pairs[0])) and fine.size > coarse.size
