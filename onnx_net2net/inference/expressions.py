"""Sizes as expressions in the interface's symbols: integer polynomials over atoms.

An atom is a symbol, or a function of expressions that is no polynomial: `floor`, `min`,
`max`, `less`, `equal`, `where`, or an operator of which nothing more is known than that it
gives the same for the same. Equal names are equal expressions. What does not depend on a
symbol is an int.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

_KEY = os.urandom(32)
_LONGEST = 60


def named(*parts: Any) -> str:
    """A name of 128 bits for plain values, keyed anew in each process."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16, key=_KEY).hexdigest()


@dataclass(frozen=True, eq=False)
class Atom:
    """A symbol (no arguments), or what an operator makes of its arguments.

    Attributes:
        function: the symbol's or the function's name.
        args: expressions, numbers, or names of other things.
        natural: it is a size, so never negative.
        label: what tells apart operators of one name (version, attributes, types).
    """

    function: str
    args: tuple[Any, ...] = ()
    natural: bool = True
    label: str = ""

    @cached_property
    def name(self) -> str:
        """Equal for atoms that are computed alike."""
        args = [a.name if isinstance(a, Expr) else (type(a).__name__, a) for a in self.args]
        return named("atom", self.function, self.label, args)

    @cached_property
    def text(self) -> str:
        """For people."""
        if not self.args:
            return self.function
        if self.function == "floor":
            return f"floor({_grouped(self.args[0])} / {_grouped(self.args[1])})"
        inside = ", ".join(str(a) for a in self.args)
        return f"{self.function}({inside if len(inside) < _LONGEST else '...'})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Atom) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


Monomial = tuple[Atom, ...]
Dim: TypeAlias = "int | Expr"


@dataclass(frozen=True, eq=False)
class Expr:
    """A polynomial: monomial (atoms, sorted, with repetition) -> coefficient, none of them 0."""

    terms: Mapping[Monomial, int] = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        """Equal for equal polynomials."""
        return named(sorted(([a.name for a in m], c) for m, c in self.terms.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expr) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __bool__(self) -> bool:
        raise TypeError(f"whether {self} is true depends on a size")

    def __add__(self, other: Dim) -> Dim:
        found = dict(self.terms)
        for m, c in _terms(other).items():
            found[m] = found.get(m, 0) + c
        return _made(found)

    def __mul__(self, other: Dim) -> Dim:
        found: dict[Monomial, int] = {}
        for m, c in self.terms.items():
            for n, d in _terms(other).items():
                both = tuple(sorted((*m, *n), key=lambda a: a.name))
                found[both] = found.get(both, 0) + c * d
        return _made(found)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + -1 * other

    def __rsub__(self, other: Dim) -> Dim:
        return -1 * self + other

    @cached_property
    def atoms(self) -> frozenset[Atom]:
        """Atoms that it is a polynomial of."""
        return frozenset(a for m in self.terms for a in m)

    def __str__(self) -> str:
        parts: list[str] = []
        for m, c in sorted(self.terms.items(), key=lambda t: (-len(t[0]), [a.text for a in t[0]])):
            factors = [a.text for a in sorted(m, key=lambda a: a.text)]
            if abs(c) != 1 or not m:
                factors.insert(0, str(abs(c)))
            sign = ("- " if c < 0 else "+ ") if parts else ("-" if c < 0 else "")
            parts.append(sign + "*".join(factors))
        return " ".join(parts) or "0"

    __repr__ = __str__


def _grouped(x: Dim) -> str:
    return f"({x})" if isinstance(x, Expr) and len(x.terms) > 1 else str(x)


def _terms(x: Dim) -> Mapping[Monomial, int]:
    return x.terms if isinstance(x, Expr) else {(): int(x)}


def _made(terms: Mapping[Monomial, int]) -> Dim:
    live = {m: c for m, c in terms.items() if c}
    if not live:
        return 0
    return live[()] if list(live) == [()] else Expr(live)


def of_atom(atom: Atom) -> Expr:
    """An atom as an expression."""
    return Expr({(atom,): 1})


def symbol(name: str) -> Expr:
    """A size that the interface leaves open."""
    return of_atom(Atom(name))


def opaque(op: str, label: str, args: Sequence[Any], natural: bool = False) -> Expr:
    """What an operator makes, nothing more being known of it."""
    return of_atom(Atom(op, tuple(args), natural, label))


def least(x: Dim) -> float:
    """A number that `x` is never below, whatever the sizes; -inf where there is none."""
    if not isinstance(x, Expr):
        return x
    found = 0.0
    for m, c in x.terms.items():
        if not m:
            found += c
        elif c < 0 or not all(a.natural for a in m):
            return -math.inf
    return found


def product(dims: Sequence[Dim]) -> Dim:
    """All of them multiplied."""
    found: Dim = 1
    for d in dims:
        found = found * d
    return found


def floor_div(a: Dim, b: Dim) -> Dim:
    """a / b rounded down, b not being 0.

    >>> s = symbol("s")
    >>> floor_div(2 * s + 3, 2), floor_div(s * s, s)
    (s + 1, s)
    """
    if isinstance(b, Expr):
        return _divided(a, b)
    if b == 0:
        raise ZeroDivisionError(f"{a} / 0")
    if b < 0:
        return floor_div(-1 * a, -b)
    if not isinstance(a, Expr):
        return a // b
    whole = _made({m: c // b for m, c in a.terms.items() if c % b == 0 or not m})
    rest = a - b * whole
    if not isinstance(rest, Expr):
        return whole + rest // b
    if len(rest.terms) == 1:
        ((m, c),) = rest.terms.items()
        if len(m) == 1 and c == 1 and m[0].function == "floor" and isinstance(m[0].args[1], int):
            return whole + floor_div(m[0].args[0], m[0].args[1] * b)
    return whole + of_atom(Atom("floor", (rest, b), least(rest) >= 0))


def _divided(a: Dim, b: Expr) -> Dim:
    exact = quotient(a, b)
    if exact is not None:
        return exact
    return of_atom(Atom("floor", (a, b), least(a) >= 0 and least(b) >= 0))


def quotient(a: Dim, b: Dim) -> Dim | None:
    """The polynomial that times `b` is `a`, None if there is none of a simple kind."""
    if a == b:
        return 1
    terms = _terms(b)
    if len(terms) != 1:
        first, c = next(iter(_terms(a).items()), ((), 0))
        k = c // terms.get(first, 0) if first in terms else 0
        return k if k and k * b == a else None
    ((divisor, d),) = terms.items()
    found: dict[Monomial, int] = {}
    for m, c in _terms(a).items():
        rest = _without(m, divisor)
        if rest is None or d == 0 or c % d:
            return None
        found[rest] = c // d
    return _made(found)


def _without(monomial: Monomial, divisor: Monomial) -> Monomial | None:
    rest = list(monomial)
    for atom in divisor:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)


def mod(a: Dim, b: Dim) -> Dim:
    """What `floor_div` leaves."""
    return a - b * floor_div(a, b)


def ceil_div(a: Dim, b: int) -> Dim:
    """a / b rounded up, b > 0."""
    return floor_div(a + (b - 1), b)


def minimum(*dims: Dim) -> Dim:
    """The smallest."""
    return _extreme("min", dims, 1)


def maximum(*dims: Dim) -> Dim:
    """The largest."""
    return _extreme("max", dims, -1)


def _extreme(op: str, dims: Sequence[Dim], sign: int) -> Dim:
    flat: list[Dim] = []
    for d in dims:
        one = next(iter(d.atoms)) if isinstance(d, Expr) and len(d.atoms) == 1 else None
        flat += one.args if one is not None and one.function == op and d == of_atom(one) else (d,)
    kept: list[Dim] = []
    for d in flat:
        if any(least(sign * (d - k)) >= 0 for k in kept):
            continue
        kept = [k for k in kept if least(sign * (k - d)) < 0] + [d]
    if len(kept) == 1:
        return kept[0]
    kept.sort(key=lambda d: d.name if isinstance(d, Expr) else str(d))
    bounds = [least(k) >= 0 for k in kept]
    return of_atom(Atom(op, tuple(kept), all(bounds) if op == "min" else any(bounds)))


def at_least(a: Dim, b: Dim) -> Dim:
    """1 where a >= b, else 0."""
    if least(a - b) >= 0:
        return 1
    return 0 if least(b - a) > 0 else of_atom(Atom("at least", (a - b, 0)))


def equal(a: Dim, b: Dim) -> Dim:
    """1 where a = b, else 0."""
    off = a - b
    if not isinstance(off, Expr):
        return int(off == 0)
    if least(off) > 0 or least(-1 * off) > 0:
        return 0
    return of_atom(Atom("equal", tuple(sorted((a, b), key=str))))


def where(condition: Dim, a: Dim, b: Dim) -> Dim:
    """`a` where the condition is 1, `b` where it is 0."""
    if not isinstance(condition, Expr):
        return a if condition else b
    if a == b:
        return a
    return of_atom(Atom("where", (condition, a, b), least(a) >= 0 and least(b) >= 0))


_FUNCTIONS: dict[str, Any] = {
    "floor": lambda a, b: a // b,
    "min": min,
    "max": max,
    "at least": lambda a, b: int(a >= b),
    "equal": lambda a, b: int(a == b),
    "where": lambda c, a, b: a if c else b,
    "broadcast": lambda *dims: 0 if 0 in dims else max(dims),
    "ceil mode": lambda rest, stride, size: min(-(-rest // stride), (size - 1) // stride) + 1,
}


def evaluate(x: Any, known: Mapping[Atom, int]) -> int:
    """The number at some sizes.

    Args:
        known: of symbols, and of atoms of which nothing else is known.

    Raises:
        LookupError: it holds an atom that is not known.
    """
    if not isinstance(x, Expr):
        return int(x)
    return sum(c * math.prod(_value(a, known) for a in monomial) for monomial, c in x.terms.items())


def _value(atom: Atom, known: Mapping[Atom, int]) -> int:
    if atom in known:
        return known[atom]
    if not atom.args or atom.label or atom.function not in _FUNCTIONS:
        raise LookupError(atom.text)
    try:
        return int(_FUNCTIONS[atom.function](*(evaluate(a, known) for a in atom.args)))
    except ZeroDivisionError:
        raise LookupError(f"{atom.text} divides by 0") from None


def primitive(x: Dim) -> Dim:
    """Without the factor that all coefficients share."""
    if not isinstance(x, Expr):
        return 1
    factor = math.gcd(*x.terms.values())
    return _made({m: c // factor for m, c in x.terms.items()})


__all__ = [
    "Atom",
    "Dim",
    "Expr",
    "at_least",
    "ceil_div",
    "equal",
    "evaluate",
    "floor_div",
    "least",
    "maximum",
    "minimum",
    "mod",
    "named",
    "of_atom",
    "opaque",
    "primitive",
    "product",
    "quotient",
    "symbol",
    "where",
]
