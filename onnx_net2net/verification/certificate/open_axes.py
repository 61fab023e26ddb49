"""Axes of open size: what an operator does along them, as names that hold for every size.

Labels are numbers at one size. So along an open axis they say nothing of other sizes: whatever
an operator does there (a slice, a repetition, a sum of sizes) goes into the tensor's tag, with
its bounds as expressions. Equal tags then mean the same along open axes at every size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnx_net2net.graph.model import Node
from onnx_net2net.inference import expressions as ex
from onnx_net2net.inference.expressions import Dim, Expr
from onnx_net2net.inference.size_rules import Dims, Open, Sized, is_open
from onnx_net2net.inference.size_symbols import Sizes
from onnx_net2net.inference.symbolic import value_name
from onnx_net2net.verification.certificate.domain import UnknownError, Value
from onnx_net2net.verification.certificate.names import key, label_digest
from onnx_net2net.verification.certificate.registry import Registry

Blocks = list[tuple[tuple[int, ...], tuple[int, ...]]]
_FIRST_PRIME = 101


@dataclass(frozen=True)
class Opened:
    """A node that has an open axis or reads sizes.

    Attributes:
        seen: its operands as expressions.
        made: shapes of its outputs, None where unknown.
        sizes: of the model.
    """

    seen: Open
    made: tuple[Dims | None, ...]
    sizes: Sizes

    def shape(self, slot: int = 0) -> Dims:
        """Shape of an operand; raises UnknownError where it is unknown."""
        found = self.seen.shapes[slot] if slot < len(self.seen.shapes) else None
        if found is None:
            raise UnknownError(f"the shape of input {slot} is unknown")
        return found

    def out(self, k: int = 0) -> Dims:
        """Shape of an output; raises UnknownError where it is unknown."""
        found = self.made[k] if k < len(self.made) else None
        if found is None:
            raise UnknownError("the shape of an output is unknown")
        return found

    def ints(self, slot: int, attribute: str = "") -> list[Dim] | None:
        """Sizes that an operand or attribute gives; None: absent.

        Raises:
            UnknownError: they are not known one by one.
        """
        try:
            return self.seen.ints(slot, attribute)
        except LookupError as why:
            raise UnknownError(str(why)) from None

    def kept(self, dim: Dim, before: Dim) -> bool:
        """Whether a size is what it was."""
        return bool(self.sizes.resolved(dim) == before)


def opened(node: Node, sizes: Sizes) -> Opened | None:
    """What a node does with open sizes; None where it has to do with none."""
    tensors = (*node.inputs, *node.outputs)
    if not any(t in sizes.shapes or t in sizes.values for t in tensors):
        return None
    seen = Open(
        node,
        tuple(sizes.shape(t) if t else None for t in node.inputs),
        tuple(sizes.value(t) if t else None for t in node.inputs),
        tuple(sizes.facts.shapes.get(o) if o else None for o in node.outputs),
        tuple(sizes.facts.dtype(t) for t in node.inputs),
    )
    return Opened(seen, tuple(sizes.shape(o) if o else None for o in node.outputs), sizes)


def same_open(a: Dims, b: Dims) -> bool:
    """Whether two shapes have the same open sizes on the same axes."""
    pairs = zip(a, b, strict=False)
    return len(a) == len(b) and all(x == y for x, y in pairs if is_open((x, y)))


def name_of(x: Any) -> Any:
    """A plain name for an expression, a size, or a list of these."""
    if isinstance(x, (list, tuple)):
        return [name_of(v) for v in x]
    return x.name if isinstance(x, Expr) else x


def sized(value: Sized, dtype: int) -> int:
    """A name for a value that depends on sizes."""
    return key("sized", dtype, value_name(value))


def acted(x: Value, what: Any, axes: Sequence[int], registry: Registry) -> Value:
    """What an operator makes of `x` along open axes: a tensor of its own name.

    Args:
        what: the operator, and what it does there for every size.
        axes: along which it does it; what stands there now is part of the name.
    """
    tag = key("open", what, x.tag, [(a, label_digest(x.axes[a])) for a in axes])
    return registry.means.moved(x.tag, replace(x, tag=tag))


def blocks_of(before: Sequence[int], after: Sequence[int]) -> Blocks:
    """The smallest groups of axes with equal products; axes of one position are in none.

    >>> blocks_of([2, 6, 5], [2, 2, 3, 5])
    [((0,), (0,)), ((1,), (1, 2)), ((2,), (3,))]
    """
    ins = [k for k, d in enumerate(before) if d != 1]
    outs = [k for k, d in enumerate(after) if d != 1]
    found = []
    while ins:
        a, b = [ins.pop(0)], [outs.pop(0)]
        m, n = before[a[0]], after[b[0]]
        while m != n:
            if m < n:
                a.append(ins.pop(0))
                m *= before[a[-1]]
            else:
                b.append(outs.pop(0))
                n *= after[b[-1]]
        found.append((tuple(a), tuple(b)))
    return found


def open_blocks(before: Dims, after: Dims) -> tuple[Blocks, list[Any]]:
    """The blocks of a reshape that are blocks at every size, and a name for the open ones.

    A factor that does not depend on sizes may differ between teacher and student: labels
    tell, as on other axes.

    Raises:
        UnknownError: there is no such partition.
    """
    chosen: dict[ex.Atom, int] = {}
    generic = _generic([*before, *after], chosen)
    ins, outs = generic[: len(before)], generic[len(before) :]
    if math.prod(ins) != math.prod(outs):
        raise UnknownError("a reshape of open sizes")
    names: list[Any] = []
    blocks = blocks_of(ins, outs)
    for i, o in blocks:
        mine, theirs = [before[k] for k in i], [after[k] for k in o]
        if ex.product(mine) != ex.product(theirs):
            raise UnknownError("a reshape of open sizes")
        if len(i) != len(o) or len(i) > 1:
            shown = [[_open_part(d) for d in dims] for dims in (mine, theirs)]
            names.append(shown if is_open([*mine, *theirs]) else None)
    return blocks, names if any(n is not None for n in names) else []


def _open_part(d: Dim) -> Any:
    return name_of(ex.primitive(d)) if isinstance(d, Expr) else None


def _generic(dims: Sequence[Dim], chosen: dict[ex.Atom, int]) -> list[int]:
    """Numbers for expressions, with a prime for each atom, so that nothing is equal by chance."""
    found = []
    for d in dims:
        for atom in sorted(d.atoms, key=lambda a: a.name) if isinstance(d, Expr) else ():
            if atom not in chosen:
                chosen[atom] = _prime_from(max(chosen.values(), default=_FIRST_PRIME) + 2)
        number = ex.evaluate(d, chosen)
        if number <= 0:
            raise UnknownError("an empty size")
        found.append(number)
    return found


def _prime_from(n: int) -> int:
    while any(n % k == 0 for k in range(2, math.isqrt(n) + 1)):
        n += 1
    return n


__all__ = ["Opened", "acted", "blocks_of", "name_of", "open_blocks", "opened", "same_open", "sized"]
