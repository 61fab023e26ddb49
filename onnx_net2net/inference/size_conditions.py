"""Conditions on sizes: what a claim is restricted to, and what a user's sizes imply."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod

from onnx_net2net.errors import UsageError
from onnx_net2net.inference import expressions as ex
from onnx_net2net.inference.expressions import Dim, Expr

SizeInterval = tuple[float, float]
"""The smallest and the largest size, both included."""
_WORDS = {">=": "<=", "=": "=", "!=": "!="}
_GIVEN = re.compile(r"\s*([^<>=!,\s]+)\s*(<=|>=|==|=|<|>)\s*(\d+)\s*")


@dataclass(frozen=True)
class Condition:
    """An expression compared with 0: `>=`, `=` or `!=`.

    >>> s = ex.symbol("s")
    >>> str(Condition(512 - s, ">=")), str(Condition(s - 7, "="))
    ('s <= 512', 's = 7')
    """

    expr: Expr
    relation: str

    def __str__(self) -> str:
        for atom in self.expr.atoms:
            if atom.function == "floor" and self.expr in (_left(atom), -1 * _left(atom)):
                return f"{atom.args[0]} mod {atom.args[1]} {self.relation} 0"
        more = {m: c for m, c in self.expr.terms.items() if c > 0}
        less = {m: -c for m, c in self.expr.terms.items() if c < 0}
        left, right = (str(Expr(t)) if t else "0" for t in (less, more))
        if self.relation == ">=" and list(less) in ([], [()]):  # s >= 3 rather than 3 <= s
            return f"{right} >= {left}"
        if list(less) in ([], [()]):
            left, right = right, left
        return f"{left} {_WORDS[self.relation]} {right}"

    def holds(self, known: Mapping[ex.Atom, int]) -> bool:
        """Whether it holds at some sizes; raises LookupError where that cannot be told."""
        number = ex.evaluate(self.expr, known)
        return {">=": number >= 0, "=": number == 0, "!=": number != 0}[self.relation]

    def negated(self) -> list[Condition]:
        """What holds where it does not, as alternatives."""
        if self.relation == ">=":
            return _one(-1 * self.expr - 1, ">=")
        if self.relation == "=":
            return _one(self.expr - 1, ">=") + _one(-1 * self.expr - 1, ">=")
        return [Condition(self.expr, "=")]

    def linear(self) -> tuple[str, int, int] | None:
        """(symbol, a, b) of a * symbol + b; None where it is no such expression."""
        atoms = list(self.expr.atoms)
        if len(atoms) != 1 or atoms[0].args or any(len(m) > 1 for m in self.expr.terms):
            return None
        return atoms[0].function, self.expr.terms[(atoms[0],)], self.expr.terms.get((), 0)

    def intervals(self) -> list[SizeInterval] | None:
        """Sizes of the one symbol that it is linear in at which it holds; None: it is not."""
        found = self.linear()
        if found is None:
            return None
        _, a, b = found
        if self.relation == ">=":
            return [(-(b // a), inf)] if a > 0 else [(0, b // -a)]
        exact = -b // a if b % a == 0 else None
        if self.relation == "=":
            return [] if exact is None or exact < 0 else [(exact, exact)]
        return [(0, inf)] if exact is None else [(0, exact - 1), (exact + 1, inf)]

    @property
    def always(self) -> bool:
        """Whether it is known to hold at every size."""
        return self.implied({})

    def implied(self, sizes: Mapping[str, SizeInterval]) -> bool:
        """Whether it holds at all sizes within the intervals; False where that cannot be told."""
        line, found = self.linear(), self.intervals()
        if line is not None and found is not None:
            return _within(sizes.get(line[0], (0.0, inf)), found)
        low, high = _range(self.expr, sizes)
        return {">=": low >= 0, "=": low == high == 0, "!=": low > 0 or high < 0}[self.relation]


def _left(atom: ex.Atom) -> Dim:
    """What a division rounded down leaves."""
    whole, divisor = atom.args
    return whole - divisor * ex.of_atom(atom)


def _one(expr: Dim, relation: str) -> list[Condition]:
    return [Condition(expr, relation)] if isinstance(expr, Expr) else []


def _range(x: Expr, sizes: Mapping[str, SizeInterval]) -> SizeInterval:
    low = high = 0.0
    for monomial, c in x.terms.items():
        spans = [sizes.get(a.function, (0.0, inf)) if not a.args else (0.0, inf) for a in monomial]
        if not all(a.natural for a in monomial):
            return -inf, inf
        least = prod(s[0] for s in spans)
        most = 0.0 if any(s[1] == 0 for s in spans) else prod(s[1] for s in spans)
        low += c * (least if c > 0 else most)
        high += c * (most if c > 0 else least)
    return low, high


Region = frozenset[Condition]
"""Conditions that hold together."""


@dataclass(frozen=True)
class Covered:
    """The sizes that a proof holds for: at least one of the regions.

    >>> s = ex.symbol("s")
    >>> str(Covered((frozenset([Condition(512 - s, ">=")]),)))
    's <= 512'
    """

    regions: tuple[Region, ...]

    @property
    def every(self) -> bool:
        """Whether it holds at every size."""
        spans = self._spans()
        return any(not r for r in self.regions) or (
            spans is not None and _within((0.0, inf), spans[1])
        )

    def __str__(self) -> str:
        if self.every:
            return "every size"
        spans = self._spans()
        if spans is not None:
            return " or ".join(_said(spans[0], *span) for span in _merged(spans[1]))
        parts = [" and ".join(sorted(map(str, r))) for r in self.regions]
        return parts[0] if len(parts) == 1 else " or ".join(f"({p})" for p in parts)

    def accepted(self, sizes: Mapping[str, SizeInterval]) -> bool:
        """Whether sizes that a user gives lie within."""
        if self.every or any(all(c.implied(sizes) for c in r) for r in self.regions):
            return True
        spans = self._spans()
        return spans is not None and _within(sizes.get(spans[0], (0.0, inf)), spans[1])

    def _spans(self) -> tuple[str, list[SizeInterval]] | None:
        """The symbol and its sizes, where all conditions are linear in one symbol."""
        symbols: set[str] = set()
        found: list[SizeInterval] = []
        for region in self.regions:
            mine: list[SizeInterval] = [(0.0, inf)]
            for c in region:
                line, spans = c.linear(), c.intervals()
                if line is None or spans is None:
                    return None
                symbols.add(line[0])
                mine = [
                    (max(a, x), min(b, y)) for a, b in mine for x, y in spans
                    if max(a, x) <= min(b, y)
                ]  # fmt: skip
            found += mine
        return (symbols.pop(), found) if len(symbols) == 1 else None


def _merged(spans: Sequence[SizeInterval]) -> list[SizeInterval]:
    found: list[SizeInterval] = []
    for low, high in sorted(spans):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found


def _within(span: SizeInterval, spans: Sequence[SizeInterval]) -> bool:
    return any(low <= span[0] and span[1] <= high for low, high in _merged(spans))


def _said(symbol: str, low: float, high: float) -> str:
    if low == high:
        return f"{symbol} = {low:.0f}"
    if low <= 0:
        return f"{symbol} <= {high:.0f}"
    return f"{symbol} >= {low:.0f}" if high == inf else f"{low:.0f} <= {symbol} <= {high:.0f}"


def parsed(text: str, symbols: Sequence[str]) -> dict[str, SizeInterval]:
    """Sizes that a user accepts, as `sequence<=512, x.1>=2`.

    Args:
        text: comparisons of a symbol with a number, separated by commas.
        symbols: names of the interface's open sizes.

    Raises:
        UsageError: it is empty, no such comparison, of no open size, or leaves no size.

    >>> parsed("s<=512,s>=2", ["s"])
    {'s': (2, 512)}
    """
    known = ", ".join(symbols) or "none"
    found: dict[str, SizeInterval] = {}
    for part in text.split(","):
        match = _GIVEN.fullmatch(part)
        if match is None:
            raise UsageError(
                f"sizes '{text}': '{part.strip()}' is no comparison of an open size with a number",
                f"give it as sequence<=512; the open sizes are {known}",
            )
        name, relation, number = match[1], match[2], int(match[3])
        if name not in symbols:
            raise UsageError(
                f"sizes '{text}': '{name}' is no open size", f"the open sizes are {known}"
            )
        low, high = found.get(name, (0, inf))
        span = {
            "<=": (0, number), "<": (0, number - 1), ">=": (number, inf), ">": (number + 1, inf),
        }.get(relation, (number, number))  # fmt: skip
        found[name] = max(low, span[0]), min(high, span[1])
        if found[name][0] > found[name][1]:
            raise UsageError(
                f"sizes '{text}': no size of '{name}' is left", "give some that it can take"
            )
    return found


__all__ = ["Condition", "Covered", "Region", "SizeInterval", "parsed"]
