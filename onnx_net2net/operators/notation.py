"""What a user says of an operator's axes: the notation, parsed and checked."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from onnx_net2net.errors import UsageError
from onnx_net2net.operators.spec import RowError, Site

Word = tuple[str, ...]
"""One axis: the names of which it is the product, or one of `...`, `*`, `~`, `1`."""
Axes = tuple[Word, ...]

REGISTERED: dict[str, Declared] = {}
"""Operator (`my.domain.Op`) -> what is declared of it; filled by `registration`."""

ROLES = ("mean", "max", "sum", "across")
_STRETCHES = {("...",), ("*",), ("~",)}
_TOKEN = re.compile(r"\s*(->|\.\.\.|[A-Za-z_]+|[*~1(),])")
_EXAMPLE = "'n c *, c -> n c *'"


@dataclass(frozen=True)
class Declared:
    """What is declared of an operator.

    `operands`, `results`: the axes of each; `roles`, `sizes`, `zero`: see `register_operator`.
    """

    name: str
    notation: str
    operands: tuple[Axes, ...]
    results: tuple[Axes, ...]
    roles: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, str] = field(default_factory=dict)
    zero: bool = False


def declared(
    domain: str,
    name: str,
    notation: str,
    roles: Mapping[str, str],
    sizes: Mapping[str, str],
    zero: bool,
) -> Declared:
    """The declaration, checked; raises UsageError that says what was expected."""
    for what, text in (("domain", domain), ("operator", name), ("notation", notation)):
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"the {what} is {text!r}", f"give a text, e.g. {_SAID[what]}")
    if domain == "ai.onnx":
        raise UsageError("domain 'ai.onnx' is ONNX's own", "only custom domains can be registered")
    if not re.fullmatch(r"[^\s.]+", name) or not re.fullmatch(r"\S+", domain):
        raise UsageError(
            f"'{domain}' and '{name}' name no operator",
            "give the domain and the operator apart, e.g. 'my.domain' and 'Op'",
        )
    for what, given in (("roles", roles), ("sizes", sizes)):
        if not isinstance(given, Mapping) or not all(isinstance(n, str) for n in given):
            raise UsageError(f"{what} is {given!r}", "give a mapping from names of the notation")
    operands, results = _parsed(notation)
    known = {n for axes in operands for word in axes for n in word}
    for n in dict.fromkeys(n for axes in results for word in axes for n in word):
        if n not in known and n not in ("1", "*"):
            raise UsageError(
                f"notation '{notation}': '{n}' is in the output alone, so its size is open",
                "name an axis of an input",
            )
    _check_roles(notation, roles, known, {n for axes in results for w in axes for n in w})
    _check_sizes(notation, sizes, (*operands, *results))
    if not isinstance(zero, bool):
        raise UsageError(f"zero is {zero!r}", "give true or false")
    return Declared(f"{domain}.{name}", notation, operands, results, roles, sizes, zero)


_SAID = {"domain": "'my.domain'", "operator": "'Op'", "notation": _EXAMPLE}


def _parsed(notation: str) -> tuple[tuple[Axes, ...], tuple[Axes, ...]]:
    sides: list[list[list[Word]]] = [[[]]]
    open_: list[str] | None = None
    at = 0
    text = notation.rstrip()
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise UsageError(
                f"notation '{notation}': unexpected '{text[at:].strip()[0]}'",
                "expected names of "
                f"letters, '...', '*', '~', '1', parentheses, ',' and '->', e.g. {_EXAMPLE}",
            )
        at, word = token.end(), token[1]
        if open_ is not None and word == ")":
            if len(open_) < 2:
                raise UsageError(f"notation '{notation}': '()' needs two names, e.g. '(g c)'")
            sides[-1][-1].append(tuple(open_))
            open_ = None
        elif open_ is not None and re.fullmatch("[A-Za-z_]+", word):
            open_.append(word)
        elif open_ is not None or word == ")":
            raise UsageError(
                f"notation '{notation}': unexpected '{word}'", "expected '(', names, ')'"
            )
        elif word == "(":
            open_ = []
        elif word == ",":
            sides[-1].append([])
        elif word == "->":
            sides.append([[]])
        else:
            sides[-1][-1].append((word,))
    if open_ is not None:
        raise UsageError(f"notation '{notation}': '(' is not closed", "expected ')'")
    if len(sides) != 2:
        raise UsageError(
            f"notation '{notation}' has {len(sides) - 1} '->'",
            f"expected one between the inputs and the outputs, e.g. {_EXAMPLE}",
        )
    operands, results = (tuple(tuple(axes) for axes in side) for side in sides)
    for axes in (*operands, *results):
        _check_operand(notation, axes)
    return operands, results


def _check_operand(notation: str, axes: Axes) -> None:
    if sum(word in _STRETCHES for word in axes) > 1:
        raise UsageError(
            f"notation '{notation}': one operand has several of '...', '*' and '~', so which "
            "axes they are is open",
            "give one at most",
        )
    names = Counter(n for word in axes for n in word if n != "1")
    twice = next((n for n, k in names.items() if k > 1), None)
    if twice is not None:
        raise UsageError(
            f"notation '{notation}': one operand has '{twice}' twice", "give each axis its own name"
        )


def _check_roles(notation: str, roles: Mapping[str, str], known: set[str], out: set[str]) -> None:
    names = known - {"...", "~", "1", "*"} | ({"."} if "..." in known else set())
    for n, role in roles.items():
        if n not in names:
            raise UsageError(
                f"roles: '{n}' is no name of '{notation}'", f"expected {_listed(sorted(names))}"
            )
        if role not in ROLES:
            raise UsageError(f"roles: '{n}' is {role!r}", f"expected {_listed(ROLES)}")
        if role == "sum" and ("..." if n == "." else n) in out:
            raise UsageError(f"roles: '{n}' is summed, but in the output too", "expected 'across'")


def _check_sizes(notation: str, sizes: Mapping[str, str], sides: Iterable[Axes]) -> None:
    words = [word for axes in sides for word in axes]
    names = {n for word in words for n in word} - {"...", "~", "1", "*"}
    for n, attribute in sizes.items():
        if n not in names:
            raise UsageError(
                f"sizes: '{n}' is no name of '{notation}'", f"expected {_listed(sorted(names))}"
            )
        if not isinstance(attribute, str) or not attribute:
            raise UsageError(f"sizes: '{n}' is {attribute!r}", "give the attribute's name")
    alone = {word[0] for word in words if len(word) == 1} | set(sizes)
    for word in words:
        left = [n for n in word if n not in alone]
        if len(word) > 1 and len(left) > 1:
            raise UsageError(
                f"notation '{notation}': the sizes of {' and '.join(left)} in "
                f"'({' '.join(word)})' are open",
                f'give the attribute that holds one, e.g. sizes {{"{left[0]}": "groups"}}',
            )


def _listed(words: Iterable[str]) -> str:
    return " or ".join(f"'{w}'" for w in words) or "none"


def aligned(axes: Axes, rank: int) -> list[str]:
    """One word for each dimension; `...` is counted from the right, `*` and `~` from the left.

    Raises:
        LookupError: the rank does not fit.

    >>> aligned((("n",), ("*",)), 3)
    ['n', '*0', '*1']
    """
    words = [" ".join(word) for word in axes]
    stretch = next((w for w in words if (w,) in _STRETCHES), None)
    if stretch is None:
        if rank > len(words):
            raise RowError(f"rank {rank} where at most {len(words)} is expected")
        return words[len(words) - rank :]
    k, count = words.index(stretch), rank - len(words) + 1
    if count < 0:
        raise RowError(f"rank {rank} is too small")
    names = range(count - 1, -1, -1) if stretch == "..." else range(count)
    return [*words[:k], *(f"{stretch}{j}" for j in names), *words[k + 1 :]]


def shapes(said: Declared, site: Site) -> list[tuple[int | None, ...]]:
    """The outputs' shapes as far as the operands' sizes tell them; None where they do not."""
    sizes: dict[str, int] = attribute_sizes(said.sizes, site)
    products: list[tuple[list[str], int]] = []
    longest = {"...": 0, "*": 0}
    for slot, axes in enumerate(said.operands):
        if not site.has(slot):
            continue
        shape = site.dims(slot)
        words = aligned(axes, len(shape))
        fixed = "*" in sizes  # `*` has the sizes of the first operand that has it
        for word, d in zip(words, shape, strict=True):
            stem = word.rstrip("0123456789") or word
            if stem in longest:
                longest[stem] = max(longest[stem], sum(w.startswith(stem) for w in words))
            if d is None or stem == "~" or (stem == "*" and fixed):
                continue
            if " " in word:
                products.append((word.split(), d))
            else:
                sizes[word] = max(sizes.get(word, d), d)
                sizes.update({"*": 0} if stem == "*" else {})
    for names, d in products:
        left = [n for n in names if n not in sizes]
        rest = math.prod(sizes[n] for n in names if n in sizes)
        if len(left) == 1 and rest and d % rest == 0:
            sizes[left[0]] = d // rest
    found = []
    for axes in said.results:
        stretch = next((w[0] for w in axes if w[0] in longest), "")
        words = aligned(axes, len(axes) - bool(stretch) + longest.get(stretch, 0))
        found.append(tuple(_size(word.split(), sizes) for word in words))
    return found


def _size(names: Sequence[str], sizes: Mapping[str, int]) -> int | None:
    known = [1 if n == "1" else sizes.get(n) for n in names]
    return None if None in known else math.prod(n for n in known if n is not None)


def attribute_sizes(names: Mapping[str, str], site: Site) -> dict[str, int]:
    """Sizes that attributes hold; raises RowError where one does not."""
    found = {}
    for name, attribute in names.items():
        value = site.attr(attribute)
        if not isinstance(value, int) or value < 1:
            raise RowError(f"attribute '{attribute}' of '{site.node.name}' is {value!r}")
        found[name] = value
    return found


Entry = tuple[int, int]


@lru_cache(maxsize=4096)
def parse(text: str) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """A notation's operands and results; each axis is a tuple-like word, products joined by `.`.

    >>> parse("n (g i) *, (g o) -> n *")
    ((('n', 'g i', '*'), ('g o',)), (('n', '*'),))
    >>> parse("(h d + h v) -> h")
    ((('h d + h v',),), (('h',),))
    """
    left, _, right = text.partition("->")
    return _side(left), _side(right)


def _side(text: str) -> tuple[tuple[str, ...], ...]:
    if not text.strip():
        return ()
    operands = []
    for part in text.split(","):
        axes: list[str] = []
        open_ = False
        for word in part.replace("(", " ( ").replace(")", " ) ").split():
            if word == "(":
                open_ = True
                axes.append("")
            elif word == ")":
                open_ = False
            elif open_:
                axes[-1] = f"{axes[-1]} {word}".strip()
            else:
                axes.append(word)
        operands.append(tuple(axes))
    return tuple(operands)


def _terms(word: str) -> list[list[str]]:
    """The products that lie end to end along an axis, each the list of its names."""
    return [term.split() for term in word.split(" + ")]


def _names(word: str) -> list[str]:
    return [name for term in _terms(word) for name in term]


def _length(word: str, sizes: Mapping[str, int]) -> int | None:
    """How long an axis is; None where a name's size is open."""
    if any(n not in sizes for n in _names(word)):
        return None
    return sum(math.prod(sizes[n] for n in term) for term in _terms(word))


def _aligned(axes: tuple[str, ...], rank: int) -> list[str]:
    """One word per dimension: `...` numbered from the right, `*` and `~` from the left."""
    for stretch in ("...", "*", "~"):
        if stretch in axes:
            k = axes.index(stretch)
            count = rank - (len(axes) - 1)
            if count < 0:
                raise RowError(f"rank {rank} is too small")
            if stretch == "...":
                middle = [f".{count - 1 - j}" for j in range(count)]
            else:
                middle = [f"{stretch}{j}" for j in range(count)]
            return [*axes[:k], *middle, *axes[k + 1 :]]
    if rank > len(axes):
        raise RowError(f"rank {rank} where at most {len(axes)} is expected")
    return list(axes[len(axes) - rank :])


def _solve(
    words: Mapping[Entry, str], dims: Mapping[Entry, int | None], sizes: dict[str, int]
) -> None:
    """Sizes of all names: single names take the largest dimension (1 broadcasts)."""
    for entry, word in words.items():
        d = dims[entry]
        if " " not in word and d is not None:
            sizes[word] = max(sizes.get(word, d), d)
    for _ in range(2):
        for entry, word in words.items():
            names, d = word.split(), dims[entry]
            missing = [n for n in names if n not in sizes]
            if len(names) > 1 and "+" not in names and len(missing) == 1 and d is not None:
                known = int(np.prod([sizes[n] for n in names if n in sizes]))
                if known and d % known == 0:
                    sizes[missing[0]] = d // known


__all__ = [
    "REGISTERED",
    "Axes",
    "Declared",
    "Entry",
    "aligned",
    "attribute_sizes",
    "declared",
    "parse",
    "shapes",
]
