"""Simplifications of expressions that hold at some sizes only, and what they take for granted.

`min(s, 512)` is `s` where s <= 512: at sizes at which that is so, an expression is made simpler
and the condition is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from onnx_net2net.inference import expressions as ex
from onnx_net2net.inference.expressions import Atom, Dim, Expr
from onnx_net2net.inference.size_conditions import Condition


class Assumptions:
    """Simplifies expressions as at one set of sizes; `made` are the conditions it used.

    Args:
        known: numbers of the symbols, and of atoms of which nothing else is known.
        denied: conditions that must not be used.

    >>> s = ex.symbol("s")
    >>> found = Assumptions({ex.Atom("s"): 8})
    >>> found(ex.minimum(s, 512) + 1), list(map(str, found.made))
    (s + 1, ['s <= 512'])
    """

    def __init__(self, known: Mapping[Atom, int], denied: Collection[Condition] = ()) -> None:
        self.made: dict[Condition, None] = {}
        self._known, self._denied = known, denied
        self._done: dict[Expr, Dim] = {}

    def __call__(self, x: Dim) -> Dim:
        """The expression as it is at these sizes."""
        if not isinstance(x, Expr):
            return x
        if x not in self._done:
            self._done[x] = self._polynomial(x)
        return self._done[x]

    def _polynomial(self, x: Expr) -> Dim:
        found: Dim = 0
        for monomial, c in x.terms.items():
            found = found + c * ex.product([self._atom(a) for a in monomial])
        return found

    def _atom(self, atom: Atom) -> Dim:
        rule = _SIMPLER.get(atom.function)
        if rule is None or not atom.args or atom.label:
            return ex.of_atom(atom)
        return rule(self, [self(a) for a in atom.args])

    def holds(self, x: Dim, relation: str) -> bool:
        """Whether a relation with 0 holds here, and may be taken for granted."""
        if not isinstance(x, Expr):
            return {">=": x >= 0, "=": x == 0, "!=": x != 0}[relation]
        condition = Condition(x, relation)
        try:
            if condition in self._denied or not condition.holds(self._known):
                return False
        except LookupError:
            return False
        if not condition.always:
            self.made[condition] = None
        return True


Simpler = Callable[[Assumptions, Sequence[Dim]], Dim]


def _extreme(f: Callable[..., Dim], sign: int) -> Simpler:
    def rule(at: Assumptions, args: Sequence[Dim]) -> Dim:
        plain = f(*args)
        if not isinstance(plain, Expr):
            return plain
        (atom, *others) = plain.atoms
        if others or not atom.args or plain != ex.of_atom(atom):
            return plain
        for best in atom.args:
            rest = [sign * (a - best) for a in atom.args if a is not best]
            if _all_hold(at, rest):
                return best
        return plain

    return rule


def _all_hold(at: Assumptions, expressions: Sequence[Dim]) -> bool:
    before = dict(at.made)
    if all(at.holds(x, ">=") for x in expressions):
        return True
    at.made = before
    return False


def _at_least(at: Assumptions, args: Sequence[Dim]) -> Dim:
    off = args[0] - args[1]
    if at.holds(off, ">="):
        return 1
    return 0 if at.holds(-1 * off - 1, ">=") else ex.at_least(*args)


def _equal(at: Assumptions, args: Sequence[Dim]) -> Dim:
    off = args[0] - args[1]
    if at.holds(off, "="):
        return 1
    return 0 if at.holds(off, "!=") else ex.equal(*args)


def _broadcast(at: Assumptions, args: Sequence[Dim]) -> Dim:
    """Sizes that are alike, or 1."""
    kept = [a for a in args if not at.holds(a - 1, "=")] or [args[0]]
    before = dict(at.made)
    if all(at.holds(a - kept[0], "=") for a in kept[1:]):
        return kept[0]
    at.made = before
    return ex.opaque("broadcast", "", args, natural=True)


def _ceil_mode(at: Assumptions, args: Sequence[Dim]) -> Dim:
    """Windows that fill an axis without rounding."""
    rest, stride = args[:2]
    if at.holds(ex.mod(rest, stride), "="):
        return ex.floor_div(rest, stride) + 1
    return ex.opaque("ceil mode", "", args, natural=True)


_SIMPLER: dict[str, Simpler] = {
    "min": _extreme(ex.minimum, 1),
    "max": _extreme(ex.maximum, -1),
    "at least": _at_least,
    "equal": _equal,
    "where": lambda at, args: ex.where(args[0], args[1], args[2]),
    "floor": lambda at, args: ex.floor_div(args[0], args[1]),
    "broadcast": _broadcast,
    "ceil mode": _ceil_mode,
}

__all__ = ["Assumptions"]
