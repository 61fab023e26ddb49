"""The interface's open sizes as symbols, and what of a model depends on them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from onnx_net2net.inference import expressions as ex
from onnx_net2net.inference.expressions import Atom, Dim, Expr
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.inference.size_rules import Dims, Sized, is_open

_OPERATIONS: dict[type, Callable[[Dim, Dim], Dim]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: ex.floor_div,
    ast.Div: ex.floor_div,
}


@dataclass
class Sizes:
    """What of a model depends on sizes.

    Attributes:
        shapes: tensors with an open axis.
        values: known values that depend on sizes.
        known: the number of each atom at the sizes of the facts.
        resolved: what is made of each expression; conditions may simplify it.
        checks: atoms that were made simpler because the model runs at no other sizes.
        choices: tensors that decide about sizes at run time, by which atoms are named.
    """

    facts: Facts
    shapes: dict[str, Dims] = field(default_factory=dict)
    values: dict[str, Sized] = field(default_factory=dict)
    known: dict[Atom, int] = field(default_factory=dict)
    resolved: Callable[[Dim], Dim] = lambda d: d
    checks: set[Atom] = field(default_factory=set)
    choices: set[str] = field(default_factory=set)
    _numbers: dict[Expr, int] = field(default_factory=dict)

    def shape(self, tensor: str) -> Dims | None:
        """Sizes of a tensor's axes; None where the rank or a size is unknown."""
        if tensor in self.shapes:
            return self.shapes[tensor]
        found = self.facts.shapes.get(tensor)
        if found is None or any(d is None for d in found):
            return None
        return tuple(d for d in found if d is not None)

    def value(self, tensor: str) -> Sized | None:
        """A small known value."""
        return self.values.get(tensor, self.facts.values.get(tensor))

    def at(self, x: Dim) -> int | None:
        """The number of an expression at the sizes of the facts."""
        if not isinstance(x, Expr):
            return int(x)
        if x not in self._numbers:
            try:
                self._numbers[x] = ex.evaluate(x, self.known)
            except LookupError:
                return None
        return self._numbers[x]


def input_dims(declared: Mapping[str, Sequence[int | str | None] | None], facts: Facts) -> Sizes:
    """The interface's symbols: each input's shape as expressions.

    Args:
        declared: by input, sizes, names or formulas of symbols, None where nothing is said.
        facts: at sizes of which equal symbols have equal ones.
    """
    sizes = Sizes(facts)
    later: list[tuple[str, int]] = []
    dims: dict[str, list[Dim]] = {}
    for name, said in declared.items():
        shape = facts.shapes.get(name)
        if shape is None or any(d is None for d in shape):
            continue
        words = list(said) if said is not None and len(said) == len(shape) else [None] * len(shape)
        dims[name] = [d or 0 for d in shape]
        for axis, word in enumerate(words):
            if isinstance(word, str) and not word.isidentifier():
                later.append((name, axis))
            elif not isinstance(word, int):
                dims[name][axis] = _bound(
                    word or f"{name}.{axis}", f"{name}.{axis}", shape[axis] or 0, sizes
                )
    for name, axis in later:  # formulas of symbols that are known by now
        said, size = declared[name], (facts.shapes[name] or ())[axis] or 0
        text = str((said or ())[axis])
        found = _formula(text, sizes)
        if found is None or sizes.at(found) != size:
            found = _bound(text, f"{name}.{axis}", size, sizes)
        dims[name][axis] = found
    sizes.shapes = {n: tuple(d) for n, d in dims.items() if is_open(d)}
    return sizes


def _bound(word: str, otherwise: str, size: int, sizes: Sizes) -> Expr:
    """A symbol of its size; by another name where it already has another size."""
    for name in (word, otherwise):
        if sizes.known.setdefault(Atom(name), size) == size:
            return ex.symbol(name)
    raise ValueError(f"{otherwise} has two sizes")


def _formula(text: str, sizes: Sizes) -> Dim | None:
    def walk(node: ast.AST) -> Dim:
        if isinstance(node, ast.Expression):
            return walk(node.body)
        if isinstance(node, ast.Name) and Atom(node.id) in sizes.known:
            return ex.symbol(node.id)
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
            return _OPERATIONS[type(node.op)](walk(node.left), walk(node.right))
        raise LookupError(text)

    try:
        return walk(ast.parse(text, mode="eval"))
    except (LookupError, ArithmeticError, SyntaxError, RecursionError):
        return None


__all__ = ["Sizes", "input_dims"]
