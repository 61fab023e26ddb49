"""Shapes and small values of a model as expressions in its interface's symbols.

Runs beside the facts at one set of sizes: what depends on no size costs nothing, and every
expression has the number that the facts give it there. Where no rule says how a size depends
on the symbols, it is an atom named by everything that onnx's inference looks at: the operator,
its attributes, the shapes and the known values of its operands.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from onnx_net2net.graph.model import Model, Node
from onnx_net2net.inference import expressions as ex
from onnx_net2net.inference import size_sequences, size_shapes, size_values, size_windows
from onnx_net2net.inference.expressions import Dim, Expr
from onnx_net2net.inference.onnx_inference import schema_of
from onnx_net2net.inference.shapes import Facts, Inference
from onnx_net2net.inference.size_rules import (
    SHAPES,
    VALUES,
    Described,
    Dims,
    Open,
    Sized,
    is_open,
    objects,
    over_elements,
)
from onnx_net2net.inference.size_symbols import Sizes
from onnx_net2net.inference.symbolic_types import carried
from onnx_net2net.operators.spec import Rule
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array

_MOST_ELEMENTS = 256
_LIMITS = (LookupError, ArithmeticError, TypeError, ValueError)
_ELEMENTWISE = re.compile(r"\.\.\.(, \.\.\.)* -> \.\.\.(, \.\.\.)*")


class Pass:
    """Goes through a model's nodes; `sizes` holds what it has found.

    Args:
        inference: of the model.
        given: shapes of the inputs, as `input_dims` gives them.
        resolved: what is made of each expression (conditions may simplify it).
    """

    def __init__(
        self, inference: Inference, facts: Facts, given: Sizes,
        resolved: Callable[[Dim], Dim] = lambda d: d,
    ) -> None:  # fmt: skip
        self.model: Model = inference.model
        self._inference = inference
        self._unique = itertools.count()
        self.sizes = Sizes(facts, dict(given.shapes), {}, given.known, resolved)
        self._resolved = resolved
        # shapes of what is in sequences; None where open ones are not known one by one
        self._elements: dict[str, size_sequences.Elements | None] = {}

    def run(self) -> Sizes:
        """Everything that depends on sizes."""
        from onnx_net2net.inference.symbolic_bodies import Bodies

        bodies = Bodies(self)
        for node in self.model.nodes:
            bodies.enter(node.scope)
            if node.bodies:
                bodies.leave(node)
            else:
                self.step(node)
        return self.sizes

    def step(self, node: Node) -> None:
        """What depends on sizes of one node's outputs."""
        sizes = self.sizes
        for o in node.outputs:
            sizes.shapes.pop(o, None)
            sizes.values.pop(o, None)
            self._elements.pop(o, None)
        is_static = not any(map(self._is_open, node.inputs))
        if size_sequences.MADE_LISTS.get(node.op):
            inside = self._inside(node)
            if inside is not None or not is_static:
                self._elements[node.outputs[0]] = inside
        if is_static:
            return
        at = self.seen(node)
        known = [bool(o) and o in sizes.facts.values for o in node.outputs]
        if any(known) and all(k or not o for k, o in zip(known, node.outputs, strict=True)):
            self._put_values(node, at)
            return
        self._put_shapes(node, at)

    def seen(self, node: Node) -> Open:
        """The node as rules see it."""
        sizes, facts = self.sizes, self.sizes.facts
        return Open(
            node,
            tuple(sizes.shape(t) if t else None for t in node.inputs),
            tuple(sizes.value(t) if t else None for t in node.inputs),
            tuple(facts.shapes.get(o) if o else None for o in node.outputs),
            tuple(facts.dtype(t) for t in node.inputs),
        )

    def _is_open(self, tensor: str) -> bool:
        if tensor in self.sizes.shapes or tensor in self.sizes.values:
            return True
        inside = self._elements.get(tensor, ())
        return inside is None or any(map(is_open, inside))

    def _inside(self, node: Node) -> size_sequences.Elements | None:
        with suppress(*_LIMITS):
            return size_sequences.MADE_LISTS[node.op](self.seen(node), self._held(node))
        return None

    def _held(self, node: Node) -> size_sequences.Elements | None:
        """Shapes of what is in the sequence that a node reads, if it reads one."""
        return self._elements.get(node.inputs[0]) if node.inputs else None

    # -- values ------------------------------------------------------------------------

    def _put_values(self, node: Node, at: Open) -> None:
        found = self._values(node, at)
        for k, name in enumerate(node.outputs):
            if name:
                self.put_value(name, found[k] if k < len(found) else None, node, at, k)

    def _values(self, node: Node, at: Open) -> Sequence[Sized]:
        held = self._held(node)
        if size_sequences.COUNTING.get(node.op) and held is not None:
            return [np.asarray(len(held))]
        rule = VALUES.get(node.op)
        if rule is None or any(isinstance(v, Described) for v in at.values):
            return []
        try:
            return rule(at)
        except _LIMITS:
            return []

    def put_value(self, name: str, found: Sized | None, node: Node, at: Open, k: int) -> None:
        """Keep a value; where a rule did not give it, what is known of how it is computed."""
        here = np.asarray(self.sizes.facts.values[name])
        if isinstance(found, Described) or found is None or not self._fits(found, here):
            found = self._computed(node, at, k, here)
        if isinstance(found, Described):
            self.sizes.values[name] = found
            if is_open(found.shape):
                self.sizes.shapes[name] = found.shape
            return
        simpler = over_elements(self._resolved, found)
        if any(isinstance(v, Expr) for v in simpler.reshape(-1)):
            self.sizes.values[name] = simpler

    def _fits(self, found: Array, here: Array) -> bool:
        """Whether expressions give the numbers that the facts have."""
        if found.shape != here.shape or found.size > _MOST_ELEMENTS:
            return False
        return all(
            self.sizes.at(a) in (None, b) if isinstance(a, Expr) else a == b
            for a, b in zip(found.reshape(-1), here.reshape(-1).tolist(), strict=True)
        )

    def _computed(self, node: Node, at: Open, k: int, here: Array) -> Sized:
        """A value of which nothing more is known than what it is computed from."""
        row = TABLE.get(node.op)
        if row is not None and _is_elementwise(row, self.sizes, node):
            with suppress(*_LIMITS):
                return self._by_element(node, at, here)
        found = self._shapes(node, at)
        dims = self._dims(here.shape, found[k] if k < len(found) else None, node, at, k)
        return Described(ex.named("value", _label(node), k, _operands(at)), dims)

    def _by_element(self, node: Node, at: Open, here: Array) -> Array:
        arrays = [at.array(j) for j in range(len(node.inputs)) if at.has(j)]
        wide = np.broadcast_arrays(*map(objects, arrays))
        if here.size > _MOST_ELEMENTS or wide[0].shape != here.shape:
            raise LookupError("too large")
        found = np.empty(here.shape, object)
        label = ex.named(_label(node), [str(a.dtype) for a in arrays], at.dtypes)
        for place in np.ndindex(here.shape):
            args = tuple(w[place] for w in wide)
            number = here[place].item()
            if any(isinstance(a, Expr) for a in args):
                found[place] = self.opaque(node.op, label, args, number)
            else:
                found[place] = number
        return found

    # -- shapes ------------------------------------------------------------------------

    def _put_shapes(self, node: Node, at: Open) -> None:
        found = self._shapes(node, at)
        for k, name in enumerate(node.outputs):
            here = self.sizes.facts.shapes.get(name) if name else None
            if here is not None and None not in here:
                dims = self._dims(here, found[k] if k < len(found) else None, node, at, k)
                if is_open(dims):
                    self.sizes.shapes[name] = dims

    def _shapes(self, node: Node, at: Open) -> Sequence[Sequence[Dim | None] | None]:
        """Shapes of a node's outputs, as far as a rule or onnx's inference knows them."""
        rule, row = SHAPES.get(node.op), TABLE.get(node.op, Rule())
        held = self._held(node)
        if size_sequences.TAKEN_OUT.get(node.op) and held is not None:
            with suppress(*_LIMITS):
                return [size_sequences.TAKEN_OUT[node.op](at, held)]
        if rule is None and _is_elementwise(row, self.sizes, node):
            rule = size_shapes.same_shape
        if rule is not None:
            with suppress(*_LIMITS):
                return rule(at)
        return carried(self._inference, node, row, self.sizes)

    def _dims(
        self, here: Sequence[int | None], found: Sequence[Dim | None] | None,
        node: Node, at: Open, k: int,
    ) -> Dims:  # fmt: skip
        """A shape; sizes that are not known, or not those of the facts, are atoms."""
        dims: list[Dim] = []
        for a, size in enumerate(here):
            dim = found[a] if found is not None and len(found) == len(here) else None
            dim = self._simpler(dim) if dim is not None else None
            if dim is None or self._wrong(dim, size or 0):
                if dim is not None and _is_empty(self.sizes.at(dim)) and size is not None:
                    # a window beyond its axis: onnx infers 0 or 1, but nothing runs there
                    dim = self.opaque("window", "", (dim,), size, True)
                else:
                    dim = self._any_size(node, at, k, a, size or 0)
            dims.append(dim)
        return tuple(dims)

    def _simpler(self, dim: Dim) -> Dim:
        """A size as it is where conditions hold, and where the model runs at all."""
        found = self._resolved(dim)
        if not isinstance(found, Expr):
            return found
        atom = next(iter(found.atoms))
        only = size_shapes.size_that_runs(atom)
        if only is None or found != ex.of_atom(atom):
            return found
        self.sizes.checks.add(atom)
        return only

    def _wrong(self, dim: Dim, size: int) -> bool:
        """Whether an expression is not the size that the facts have."""
        if isinstance(dim, Expr):
            atom = next(iter(dim.atoms))  # one that a rule has made stands for what is seen
            if dim == ex.of_atom(atom) and self.sizes.at(dim) is None:
                self.sizes.known[atom] = size
        return self.sizes.at(dim) not in (None, size)

    def _any_size(self, node: Node, at: Open, k: int, axis: int, size: int) -> Dim:
        types = [self.sizes.facts.types.get(t) for t in node.inputs if t]
        if any(t is None or not t.HasField("tensor_type") for t in types):
            args: tuple[Any, ...] = ("", k, axis, self.unique())  # of a sequence's element
        else:
            args = (_operands(at), k, axis)
        return self.opaque(node.op, _label(node), args, size, True)

    def opaque(
        self, op: str, label: str, args: Sequence[Any], here: Any, natural: bool = False
    ) -> Expr:
        """An atom, and its number at the sizes of the facts."""
        found = ex.opaque(op, label or "?", args, natural)
        if isinstance(here, (bool, int)):
            self.sizes.known[next(iter(found.atoms))] = int(here)
        return found

    def unique(self) -> str:
        """A name that nothing else has, in no other model either."""
        return f"{id(self)} {next(self._unique)}"


def _is_empty(size: int | None) -> bool:
    return size is not None and size <= 0


def _label(node: Node) -> str:
    """A name for operator, version and attributes."""
    domain, _, op = node.op.rpartition(".")
    schema = schema_of(op, node.version, domain)
    since = node.version if schema is None else schema.since_version
    return ex.named(node.op, since, sorted(node.signature))


def _operands(at: Open) -> str:
    """A name for everything that inference looks at."""
    parts: list[Any] = []
    for shape, value in zip(at.shapes, at.values, strict=True):
        dims = shape and [d.name if isinstance(d, Expr) else d for d in shape]
        parts.append((dims, value_name(value)))
    return ex.named(parts, at.dtypes)


def value_name(value: Sized | None) -> str:
    """A name for a value; equal for values that are computed alike."""
    if value is None or isinstance(value, Described):
        return "" if value is None else value.name
    array = np.asarray(value)
    if array.dtype == object:
        each = [v.name if isinstance(v, Expr) else v for v in array.reshape(-1)]
        return ex.named("elements", array.shape, each)
    return ex.named("array", str(array.dtype), array.shape, np.ascontiguousarray(array).tobytes())


def _is_elementwise(row: Rule, sizes: Sizes, node: Node) -> bool:
    """Whether an operator treats its operands position by position."""
    text = row.notation
    if callable(text):
        try:
            text = text(sizes.facts.site(node))
        except LookupError:
            return False
    return text is not None and _ELEMENTWISE.fullmatch(text) is not None


def symbolic(
    inference: Inference, facts: Facts, given: Sizes,
    resolved: Callable[[Dim], Dim] = lambda d: d,
) -> Sizes:  # fmt: skip
    """What of a model depends on sizes.

    Args:
        facts: at one set of sizes.
        given: the interface, as `input_dims` gives it.
        resolved: what is made of each expression; for proofs under conditions.
    """
    if not given.shapes:
        return Sizes(facts, resolved=resolved)
    return Pass(inference, facts, given, resolved).run()


FILLED = (size_shapes, size_values, size_windows)
"""Modules that fill in the tables of rules."""

__all__ = ["Pass", "symbolic", "value_name"]
