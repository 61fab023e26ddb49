"""What a row of the operator table can say.

A computing operator is one line in einops-like notation, e.g. Conv:

    n (g i) *, (g o) i *, (g o) -> n (g o) *

- a name is an index that axes share; `(g i)` is an axis that is a product, `g` outermost;
- `(h d + h v)` is an axis that lies end to end: first `h d` positions, then `h v`;
- `...` are axes that pass through one by one, aligned from the right (broadcasting);
- `*` are axes that the operator works across (windows, sorted axes): they cannot grow,
  unless the row gives them a role;
- `~` are axes of which only the size or the type is read.

A name in the output passes through (`parallel`); a name in two inputs only is contracted
(`sum`); a name in one input only has the role that the row gives, else it is `across`.
An operand shorter than its pattern lacks the leading names; a dimension of 1 broadcasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnx_net2net.errors import Reason
from onnx_net2net.graph.model import Node
from onnx_net2net.typing import Array, Shape
from .activations import Activation
from .intervals import Derive


class RowError(LookupError):
    """A row cannot tell what a node does with its axes; `reason` is that of the refusal."""

    def __init__(self, detail: str, reason: Reason = Reason.ACROSS) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Site:
    """A node with what is known about its operands at one set of input sizes.

    `shapes`/`outs`: per input/output, None where the rank is unknown;
    `values`: per input, the array where it is small and known, else None.
    """

    node: Node
    shapes: tuple[Shape | None, ...]
    outs: tuple[Shape | None, ...]
    values: tuple[Array | None, ...]

    def attr(self, name: str, default: Any = None) -> Any:
        """The node's attribute, or `default`."""
        return self.node.attr(name, default)

    def rank(self, slot: int = 0) -> int:
        """Rank of an input; 0 where it is absent or unknown."""
        s = self.shapes[slot] if slot < len(self.shapes) else None
        return len(s) if s is not None else 0

    def dims(self, slot: int = 0) -> Shape:
        """Shape of an input; raises RowError where it is unknown."""
        return self._known(self.shapes, slot, "input")

    def out_dims(self, slot: int = 0) -> Shape:
        """Shape of an output; raises RowError where it is unknown."""
        return self._known(self.outs, slot, "output")

    def _known(self, shapes: Sequence[Shape | None], slot: int, what: str) -> Shape:
        s = shapes[slot] if slot < len(shapes) else None
        if s is None:
            raise RowError(
                f"shape of {what} {slot} of '{self.node.name}' is unknown", Reason.UNKNOWN_SHAPE
            )
        return s

    def axis(self, entry: tuple[int, int]) -> int | None:
        """Length of an axis by slot (outputs are -1, -2, ...) and dimension; None if unknown."""
        slot, dim = entry
        at, k = (self.shapes, slot) if slot >= 0 else (self.outs, -1 - slot)
        shape = at[k] if k < len(at) else None
        return shape[dim] if shape is not None and dim < len(shape) else None

    def has(self, slot: int) -> bool:
        """Whether input `slot` is present."""
        return slot >= 0 and bool(self.node.tensor(slot))

    def gives(self, slot: int) -> bool:
        """Whether output `slot` is asked for."""
        return slot < len(self.node.outputs) and bool(self.node.outputs[slot])

    def ints(self, slot: int, attribute: str = "") -> list[int] | None:
        """Integers given by input `slot` or, in old opsets, by `attribute`.

        None: absent. Raises RowError: computed at run time.
        """
        if self.has(slot):
            v = self.values[slot]
            if v is None:
                raise RowError(
                    f"input {slot} of '{self.node.name}' is computed at run time", Reason.RUNTIME
                )
            return [int(x) for x in np.atleast_1d(v)]
        v = self.attr(attribute) if attribute else None
        return None if v is None else [int(x) for x in np.atleast_1d(v)]


MADE, ELSEWHERE = -1, -2


@dataclass(frozen=True)
class Block:
    """A part of a data movement that is independent of the other axes.

    `ins`: the (input, dimension) pairs whose indices it mixes; `outs` likewise.
    `table[out index]` is the flat index into the `ins` dimensions, `MADE` where the output
    is made here (padding), `ELSEWHERE` where another block supplies it (Concat). One number
    padded in front of two is [MADE, 0, 1]; a Concat's second input [ELSEWHERE, ELSEWHERE, 0, 1].
    `aligned`: the `ins` and `outs` are one index each, all the same.
    `contiguous`: a reshape, so the table follows from the sizes.
    """

    ins: tuple[tuple[int, int], ...]
    outs: tuple[tuple[int, int], ...]
    table: Array
    aligned: bool = False
    contiguous: bool = False


_Source = Array
"""Student position -> teacher position along one axis."""


@dataclass(frozen=True)
class Grown:
    """A site in the student: the teacher's site and the sources of the axes that grow.

    `ins`/`outs`: (slot, dimension) -> source; absent where the axis is as it was.
    """

    teacher: Site
    ins: Mapping[tuple[int, int], _Source]
    outs: Mapping[tuple[int, int], _Source]

    def out_size(self, slot: int, dim: int) -> int | None:
        """The student's size of an output dimension."""
        s = self.outs.get((slot, dim))
        return self.teacher.out_dims(slot)[dim] if s is None else len(s)


_Wanted = Callable[[Grown], "list[int] | None"]
"""The integers that an operand must hold in the student; None: nothing to do."""


@dataclass(frozen=True)
class Slot:
    """An operand that holds sizes or positions: an input, in old opsets an attribute.

    `since`: the opset from which it is an input. `replaces`: an attribute that must go once
    the operand is given (Split's num_outputs).
    """

    want: _Wanted
    input: int | None = None
    attribute: str = ""
    since: int = 1
    replaces: str = ""


Counts = Callable[[Array], Array]


@dataclass(frozen=True)
class Evening:
    """What makes r copies count as one where an operator works along their axis.

    `before` is applied to input 0, `after` to the output: an operator and its second operand
    at each position, a function of how many copies the position is one of. A Softmax over r
    copies of each logit wants log r taken off them, and its output times r.
    """

    before: tuple[str, Counts] | None = None
    after: tuple[str, Counts] | None = None


Constants = Callable[[int], "Array | None"]
"""Reads a constant operand, however large; None where it is computed."""

Operands = Collection[int]
ALL: Operands = range(1 << 20)


@dataclass(frozen=True)
class Rule:
    """One operator. See the module's docstring for `notation`.

    Args:
        notation: the line, or a function of the site where attributes decide.
        sizes: sizes of names inside products, e.g. `g` of a grouped convolution.
        roles: role by name where it is not what the notation says:
            `mean` (averaged or normalised: equal counts), `max`, `sum` (summed without a
            second operand), `across`. Digits at the end of a name do not count; `.` stands
            for the axes of `...`.
        attributes: integer attribute -> the name, or product of names, whose size it must
            equal; `h d, h v` where it is a list.
        pins: attribute -> the name on whose size its default depends, and that default at the
            teacher's size (None: it is given): written down when the name grows. Attention's
            `scale` is 1 / sqrt(d) unless said.
        movement: blocks that say where each output element comes from; instead of notation.
        moved: the operands whose elements a movement moves.
        slots: operands that hold sizes and must follow.
        fold: the operator on small known arrays, for shape arithmetic.
        zero: zero rows stay zero, f(0) = 0, where these operands (if present) have the
            axis (of Conv the bias, 2, which must be zero there, too); None: they do not.
            Constant operands' rows become 0 too, except those in `zero_keeps`.
        partial: operands that may not be just any number (of a logarithm, a divisor).
        linear: input 0 enters linearly, so a division may be done before this node.
        evens: name -> what makes copies count as one on its axis; digits at its end do not
            count.
        means: whether the mean of all rows stays their mean where these operands have the
            axis; None: what is `linear` does.
        subtracts: output is input 0 less input 1.
        pads: what rows beyond whole copies may be on an averaged axis (`mean`, `zero`) -> what
            they become in the output: a LayerNormalization makes zeros of means.
        rescaled: input with the scale of a norm; it and the attribute `epsilon` follow the
            width of a padded axis.
        divides: (input, dimension) pairs that pass a name on and contract it as well (the
            state that a recurrent layer feeds back to itself, the scales of packed weights).
        offsets: input with quantised weights -> input with their zero point.
        like: infer shapes as this ai.onnx operator (for operators that onnx lacks).
        typed: output -> the input whose element type it has, where that is not input 0.
        ties: axes that are one: (input or output slot, dimension) each; for bodies.
        sized: reads nothing but its input's size.
        random: draws at run time, so copies would differ.
        offers: name in its products that is a width of its own -> what a user calls it.
        ranged: rounds in steps of the largest number that it meets: a free row of 100 beside
            numbers below 1 would coarsen the steps for all.
        custom: registered by a user: sizes that the file declares come first.
        range: the interval in which the numbers of the output lie, from those of the inputs.
        activation: reads the pointwise function that the node applies.
        blends: every number of the output is one of input 0, a mean of some, or a border.
        repeats: the output is input 0.
        adds: the output is the sum of the inputs.
        behind_layer: stands behind a layer as a part of it (a norm of each channel).
        window: how a kernel slides over the image: `forward`, `transposed`, "" if none does.
        borders: puts positions around those of input 0.
        same_shape: the output has the shape of input 0, whatever that is.
        rank: that input 0 must have; 0 where several will do.
        lists: the elements of the sequence that the node makes, from those of its inputs (None
            where it is no known sequence), the inputs themselves and their values.
        takes: the elements that it takes out of those of input 0, given the inputs' values.
        cuts: makes the elements of a sequence itself.
    """

    notation: str | Callable[[Site], str] | None = None
    sizes: Callable[[Site], Mapping[str, int]] | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] | Callable[[Site], Mapping[str, str]] = field(
        default_factory=dict
    )
    pins: Mapping[str, tuple[str, Callable[[Site], float | None]]] = field(default_factory=dict)
    movement: Callable[[Site], Sequence[Block]] | None = None
    moved: Operands = (0,)
    slots: tuple[Slot, ...] = ()
    fold: Callable[[Node, list[Any]], Sequence[Any]] | None = None
    zero: Operands | Callable[[Site], Operands | None] | None = None
    zero_keeps: tuple[int, ...] = ()
    partial: Operands | Callable[[Site], Operands] = ()
    linear: bool = False
    offsets: Mapping[int, int] = field(default_factory=dict)
    evens: Mapping[str, Evening] | Callable[[Site], Mapping[str, Evening]] = field(
        default_factory=dict
    )
    means: Callable[[set[int]], bool] | None = None
    subtracts: bool = False
    pads: Mapping[str, str] = field(default_factory=dict)
    rescaled: int | None = None
    divides: tuple[tuple[int, int], ...] = ()
    like: str = ""
    typed: Mapping[int, int] = field(default_factory=dict)
    ties: Callable[[Site], Iterable[tuple[tuple[int, int], ...]]] | None = None
    sized: bool = False
    random: bool = False
    offers: Mapping[str, str] = field(default_factory=dict)
    ranged: bool = False
    custom: bool = False
    range: Derive | None = None
    activation: Callable[[Site, Constants], Activation | None] | None = None
    blends: bool = False
    repeats: bool = False
    adds: bool = False
    behind_layer: bool = False
    window: str = ""
    borders: bool = False
    same_shape: bool = False
    rank: int = 0
    lists: Callable[[Node, Any, Any, Any], list[Any] | None] | None = None
    takes: Callable[[Any, Any], list[Any] | None] | None = None
    cuts: bool = False

    @property
    def averages(self) -> bool:
        """Whether it averages or normalises over an axis."""
        return "mean" in self.roles.values()

    def held(
        self, site: Site, grown: Mapping[str, int], sizes: Mapping[str, int]
    ) -> dict[str, int | float | list[int]]:
        """What attributes must hold in the student.

        Args:
            site: the teacher's site.
            grown: name -> its new size.
            sizes: name -> its old size; names of one position may be missing.
        """
        found: dict[str, int | float | list[int]] = {}
        wanted = self.attributes(site) if callable(self.attributes) else self.attributes
        now = {**(self.sizes(site) if self.sizes else {}), **sizes, **grown}
        for attribute, words in wanted.items():
            if grown.keys() & set(words.replace(",", " ").split()):
                each = [math.prod(now.get(n, 1) for n in word.split()) for word in words.split(",")]
                found[attribute] = each if "," in words else each[0]
        pinned = {a: default(site) for a, (n, default) in self.pins.items() if n in grown}
        return found | {a: value for a, value in pinned.items() if value is not None}

    def passes_zero(self, site: Site, slots: set[int], constant: set[int]) -> bool:
        """Whether zero rows stay zero on an axis that `slots` have, `constant` among them.

        Args:
            site: the node.
            slots: inputs that have the axis.
            constant: those among them that are constant.
        """
        needs = self.zero(site) if callable(self.zero) else self.zero
        present = {k for k in range(len(site.node.inputs)) if site.has(k)}
        if needs is None or any(k in needs for k in present - slots):
            return False
        kept = slots & constant & set(self.zero_keeps)
        return kept != slots and not (slots - constant) & set(self.zero_keeps) & self._partial(site)

    def evening(self, site: Site, name: str) -> Evening | None:
        """What makes copies count as one on the axis of a name."""
        known = self.evens(site) if callable(self.evens) else self.evens
        return known.get(name.rstrip("0123456789"))

    def passes_mean(self, slots: set[int]) -> bool:
        """Whether a mean row stays the mean of the rows on an axis that `slots` have."""
        return self.means(slots) if self.means else self.linear and slots == {0}

    def silences(self, site: Site, slot: int) -> bool:
        """Whether the output is linear in one input, so that its zeros make it zero."""
        return self.passes_mean({slot}) and self.passes_zero(site, {slot}, set())

    def passes_free(self, site: Site, slots: set[int], constant: set[int]) -> bool:
        """Whether rows of arbitrary numbers stay numbers on an axis that `slots` have.

        Args:
            site: the node.
            slots: inputs that have the axis.
            constant: those among them that are constant.
        """
        return not self.ranged and not (slots - constant) & self._partial(site)

    def _partial(self, site: Site) -> set[int]:
        return set(self.partial(site) if callable(self.partial) else self.partial)


TABLE: dict[str, Rule] = {}


def rule(names: str, **fields: Any) -> None:
    """Add one row for each of the space-separated operator names.

    >>> rule("my.domain.Scale", notation="n c *, c -> n c *")
    >>> TABLE.pop("my.domain.Scale").notation
    'n c *, c -> n c *'
    """
    for name in names.split():
        if name in TABLE:
            raise ValueError(f"operator {name} has a row already")
        TABLE[name] = Rule(**fields)


def blocked(why: str) -> Callable[[Site], str]:
    """A notation that applies to no axis at all, and says why."""

    def notation(site: Site) -> str:
        raise RowError(f"{site.node.op.rpartition('.')[2]} {why}")

    return notation
