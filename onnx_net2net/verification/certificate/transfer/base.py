"""What a rule is given, the table of rules, and what many rules do alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnx_net2net.graph.model import Node
from onnx_net2net.typing import Array, Shape
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.linear_forms import tolerance
from onnx_net2net.verification.certificate.names import (
    ZERO,
    Labels,
    digest,
    dtype_name,
    is_positions,
    key,
    label_digest,
    mix,
    positions,
    repeats,
    rows_along,
    same_bits,
)
from onnx_net2net.verification.certificate.open_axes import Opened
from onnx_net2net.verification.certificate.registry import Registry


@dataclass(frozen=True)
class At:
    """A node with its operands.

    Attributes:
        args: per input a Value, a Const, or None where absent.
        outs: shape of each output.
        kinds: element type of each output.
        attributes: attribute name -> a plain value that names its content.
        registry: what teacher and student have in common.
        since: the opset version in which the operator got its meaning.
        open: what it does with open sizes, None where it has to do with none.
    """

    node: Node
    args: tuple[Term | None, ...]
    outs: tuple[Shape | None, ...]
    kinds: tuple[int, ...]
    attributes: Mapping[str, Any]
    registry: Registry
    since: int
    open: Opened | None = None

    def name(self, *without: str) -> int:
        """A name for operator, version and attributes, some left out."""
        kept = sorted((k, v) for k, v in self.attributes.items() if k not in without)
        return key(self.node.op, self.since, kept)

    def has(self, slot: int) -> bool:
        """Whether input `slot` is present."""
        return slot < len(self.args) and self.args[slot] is not None

    @property
    def rounding(self) -> float:
        """How far sums in the type of the output may be off."""
        try:
            return tolerance(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.kinds[0])))
        except (IndexError, KeyError, TypeError):
            return 0.0

    def value(self, slot: int = 0) -> Value:
        """An operand as a Value without factors."""
        term = self.args[slot] if slot < len(self.args) else None
        if term is None:
            raise UnknownError(f"input {slot} is missing")
        if isinstance(term, Const):
            return Value(key("constant", term.key), tuple(positions(d) for d in term.shape))
        return term.settled()

    def const(self, slot: int) -> Const | None:
        """A constant operand, None where absent; raises UnknownError if it is computed."""
        term = self.args[slot] if slot < len(self.args) else None
        if isinstance(term, Value):
            raise UnknownError(f"input {slot} is computed at run time")
        return term

    def ints(self, slot: int, attribute: str = "") -> list[int] | None:
        """Integers given by an input or, in old opsets, by an attribute; None: absent."""
        found = self.const(slot)
        if found is not None:
            return [int(v) for v in found.array().reshape(-1)]
        given = self.node.attr(attribute) if attribute else None
        return None if given is None else [int(v) for v in np.atleast_1d(given)]

    def numbers(self, slot: int, attribute: str = "") -> list[int] | None:
        """The same at the sizes that are looked at, also where it depends on sizes.

        Whoever asks names what it does by `open`.
        """
        name = self.node.tensor(slot)
        if self.open is not None and name in self.open.sizes.values:
            return [int(v) for v in self.open.sizes.facts.values[name].reshape(-1)]
        return self.ints(slot, attribute)

    def out(self, k: int = 0) -> tuple[int, ...]:
        """Shape of an output; raises UnknownError where a size is unknown."""
        shape = self.outs[k] if k < len(self.outs) else None
        if shape is None or any(d is None for d in shape):
            raise UnknownError("the shape of an output is unknown")
        return tuple(d for d in shape if d is not None)


Rule = Callable[[At], Sequence[Term]]
RULES: dict[str, Rule] = {}


def rules(names: str) -> Callable[[Rule], Rule]:
    """Put a rule into the table under each of the space-separated operator names.

    Raises:
        ValueError: one of them has a rule already, which this one would replace unseen.
    """

    def put(f: Rule) -> Rule:
        for name in names.split():
            if name in RULES:
                raise ValueError(f"two rules for {name}")
            RULES[name] = f
        return f

    return put


def no_zero(labels: Labels) -> Labels:
    """Labels for an operator that does not map zero to zero."""
    if labels is positions(len(labels)):
        return labels
    at = labels == ZERO
    return np.where(at, mix(int(ZERO)), labels) if at.any() else labels


def passing(
    at: At, x: Value, keep: Mapping[int, int], name: int, zero: bool = True,
    sizes: tuple[int, ...] | None = None,
) -> Value:  # fmt: skip
    """Some axes pass through, everything else of the operand is taken as it is.

    Args:
        keep: output axis -> axis of `x`.
        name: what the operator does, other operands included.
        zero: it maps zero to zero.
        sizes: the output's shape, if it is not the first output's.
    """
    shape = sizes if sizes is not None else at.out()
    fixed = [label_digest(v) for k, v in enumerate(x.axes) if k not in keep.values()]
    made = [(a, d) for a, d in enumerate(shape) if a not in keep]
    labels = [x.axes[keep[a]] if a in keep else positions(d) for a, d in enumerate(shape)]
    tag = key("passing", name, x.tag, fixed, made, sorted(keep.items()))
    return Value(tag, tuple(labels if zero else map(no_zero, labels)))


def attach(labels: list[Labels | None], const: Const) -> tuple[Any, dict[int, Labels]]:
    """Let a broadcast constant take part in labels.

    Args:
        labels: the result's, changed in place; None where only constants have the axis.

    Returns:
        What names the constant's part, and its own labels along the axis that carries it.

    Raises:
        UnknownError: it tells positions apart that have one label.
    """
    lead = len(labels) - len(const.shape)
    if sum(d > 1 for d in const.shape) > 1:
        const = _narrowed(const, labels)
    along = [lead + k for k, d in enumerate(const.shape) if d > 1]
    if not along:
        return ("one", dtype_name(const.dtype), const.array().tobytes().hex()), {}
    known = [labels[a] for a in along]
    if all(x is not None and is_positions(x) for x in known):
        return ("all", const.key, const.shape), {}
    carrier = next(
        (a for a in reversed(along) if labels[a] is None or not is_positions(_known(labels, a))),
        along[-1],
    )
    array, salt = const.array(), []
    for a in along:
        if a == carrier:
            continue
        other = labels[a]
        if other is None:
            labels[a] = positions(const.shape[a - lead])
        elif not is_positions(other):
            array, name = _by_label(array, a - lead, other)
            salt.append((a - len(labels), name))
    at = carrier - lead
    rows = rows_along(array, at, salt) if salt else const.rows(at)
    before = labels[carrier]
    labels[carrier] = rows if before is None else mix(before, rows)
    return ("along", carrier - len(labels), dtype_name(const.dtype)), {carrier: rows}


def _narrowed(const: Const, labels: list[Labels | None]) -> Const:
    """Without the axes along which it is the same everywhere, as after an Expand."""
    array, lead = const.array(), len(labels) - len(const.shape)
    for k, d in enumerate(const.shape):
        first = np.take(array, [0], k)
        if d == 1 or not repeats(array, k):
            continue
        array = first
        if labels[lead + k] is None:
            labels[lead + k] = np.zeros(d, np.uint64)
    return const if array.shape == const.shape else Const.of(array)


def _known(labels: Sequence[Labels | None], axis: int) -> Labels:
    found = labels[axis]
    assert found is not None
    return found


def _by_label(array: Array, axis: int, labels: Labels) -> tuple[Array, int]:
    """A constant with one position for each label; and a name for the labels."""
    kinds, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    once = np.take(array, first, axis)
    if len(kinds) < len(labels) and not same_bits(np.take(once, inverse.reshape(-1), axis), array):
        raise UnknownError("a constant differs between copies")
    return once, digest(kinds)
