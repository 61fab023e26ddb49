"""The notation of an operator's axes, parsed once; `spec` says what it means."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from .spec import RowError

Axes = tuple[str, ...]
"""An operand, a word for each axis: a name, `...`, `*`, `~`, `1`; the names of a product with
spaces between (`g c`); products end to end with ` + ` between (`h d + h v`)."""
Entry = tuple[int, int]
"""(slot, dimension): slots 0, 1, ... are inputs, -1, -2, ... outputs."""

EXAMPLE = "'n c *, c -> n c *'"
STRETCHES = ("...", "*", "~")
_TOKEN = re.compile(r"\s*(->|\.\.\.|[A-Za-z_][A-Za-z_0-9]*|[*~1(),+])")


class NotationError(ValueError):
    """A text is no notation: why, and what was expected. Whoever gave it knows whose mistake."""

    def __init__(self, reason: str, expected: str) -> None:
        super().__init__(f"{reason}; {expected}")
        self.reason, self.expected = reason, expected


@dataclass(frozen=True)
class Declared:
    """What a user declares of an operator.

    `operands`, `results`: the axes of each; `roles`, `sizes`, `zero`: see `register_operator`.
    """

    name: str
    notation: str
    operands: tuple[Axes, ...]
    results: tuple[Axes, ...]
    roles: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, str] = field(default_factory=dict)
    zero: bool = False


REGISTERED: dict[str, Declared] = {}
"""Operator (`my.domain.Op`) -> what is declared of it; filled by `registration`."""


@lru_cache(maxsize=4096)
def parse(text: str) -> tuple[tuple[Axes, ...], tuple[Axes, ...]]:
    """A notation's operands and results.

    Raises:
        NotationError: it is no notation.

    >>> parse("n (g i) *, (g o) -> n *")
    ((('n', 'g i', '*'), ('g o',)), (('n', '*'),))
    >>> parse("(h d + h v) -> h")
    ((('h d + h v',),), (('h',),))
    """
    sides: list[tuple[Axes, ...]] = []
    axes: list[Axes] = []
    words: list[str] = []
    for word in [*_tokens(text), "->"]:
        if word in (",", "->"):
            axes.append(tuple(words))
            words = []
        else:
            words.append(word)
        if word == "->":
            sides.append(() if axes == [()] else tuple(axes))
            axes = []
    if len(sides) != 2:
        raise NotationError(
            f"notation '{text}' has {len(sides) - 1} '->'",
            f"expected one between the inputs and the outputs, e.g. {EXAMPLE}",
        )
    return sides[0], sides[1]


def _tokens(text: str) -> Iterator[str]:
    """The words of a notation, a product as one."""
    product: list[str] | None = None
    for word in _words(text):
        if product is None and word not in ("(", ")", "+"):
            yield word
        elif product is None and word == "(":
            product = []
        elif product and len(product) > 1 and word == ")":
            yield " ".join(product)
            product = None
        elif product is not None and word == ")":
            raise NotationError(f"notation '{text}': '()' needs two names", "expected e.g. '(g c)'")
        elif product is not None and (word == "+" or word.isidentifier()):
            product.append(word)
        else:
            raise NotationError(
                f"notation '{text}': unexpected '{word}'", "expected '(', names, ')'"
            )
    if product is not None:
        raise NotationError(f"notation '{text}': '(' is not closed", "expected ')'")


def _words(text: str) -> Iterator[str]:
    at, end = 0, len(text.rstrip())
    while at < end:
        token = _TOKEN.match(text, at)
        if token is None:
            raise unexpected(text, text[at:].strip()[0])
        yield token[1]
        at = token.end()


def unexpected(text: str, word: str) -> NotationError:
    """The error for what is no part of a notation."""
    return NotationError(
        f"notation '{text}': unexpected '{word}'",
        "expected names of letters, '...', '*', '~', '1', parentheses, ',' and '->', "
        f"e.g. {EXAMPLE}",
    )


def terms(word: str) -> list[list[str]]:
    """The products that lie end to end along an axis, each the list of its names.

    >>> terms("h d + h v")
    [['h', 'd'], ['h', 'v']]
    """
    return [term.split() for term in word.split(" + ")]


def names(word: str) -> list[str]:
    """All names of an axis."""
    return [name for term in terms(word) for name in term]


def length(word: str, sizes: Mapping[str, int]) -> int | None:
    """How long an axis is; None where a name's size is open."""
    if any(n not in sizes and n != "1" for n in names(word)):
        return None
    return sum(math.prod(1 if n == "1" else sizes[n] for n in term) for term in terms(word))


def aligned(axes: Axes, rank: int) -> list[str]:
    """One word for each dimension; `...` is counted from the right, `*` and `~` from the left.

    Raises:
        RowError: the rank does not fit.

    >>> aligned(("n", "*"), 3)
    ['n', '*0', '*1']
    """
    stretch = next((word for word in axes if word in STRETCHES), None)
    if stretch is None:
        if rank > len(axes):
            raise RowError(f"rank {rank} where at most {len(axes)} is expected")
        return list(axes[len(axes) - rank :])
    k, count = axes.index(stretch), rank - len(axes) + 1
    if count < 0:
        raise RowError(f"rank {rank} is too small")
    numbers = range(count - 1, -1, -1) if stretch == "..." else range(count)
    return [*axes[:k], *(f"{stretch}{j}" for j in numbers), *axes[k + 1 :]]


def solve(
    words: Mapping[Entry, str], dims: Mapping[Entry, int | None], sizes: dict[str, int]
) -> None:
    """Find the sizes of all names: single names take the largest dimension (1 broadcasts).

    Args:
        words: of the axes, as `aligned` gives them.
        dims: their lengths, None where these are not known.
        sizes: those that are known; the others are added.
    """
    for entry, word in words.items():
        d = dims[entry]
        if " " not in word and d is not None:
            sizes[word] = max(sizes.get(word, d), d)
    for _ in range(2):
        for entry, word in words.items():
            if " " in word and "+" not in word:
                _divide(word.split(), dims[entry], sizes)


def _divide(product: list[str], d: int | None, sizes: dict[str, int]) -> None:
    """Find the size of the one name of a product whose size is not known."""
    missing = [n for n in product if n not in sizes]
    known = math.prod(sizes[n] for n in product if n in sizes)
    if len(missing) == 1 and known and d is not None and d % known == 0:
        sizes[missing[0]] = d // known
