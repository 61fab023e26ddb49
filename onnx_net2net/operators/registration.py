"""Operators that a user teaches: rows for those of custom domains, one by one or by a file.

What a user declares makes a row of the table that grows models; the certificate interprets the
declaration by itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from onnx_net2net.errors import UsageError
from onnx_net2net.files.yaml_text import parse_file
from .notation import (
    EXAMPLE,
    REGISTERED,
    STRETCHES,
    Axes,
    Declared,
    NotationError,
    parse,
    unexpected,
)
from .spec import ALL, RowError, Rule, Site
from .table import TABLE

ROLES = ("mean", "max", "sum", "across")
_SAID = {"domain": "'my.domain'", "operator": "'Op'", "notation": EXAMPLE}
_KEYS = {
    "notation": (str, "a notation such as n c *, c -> n c *"),
    "roles": (dict, "a mapping such as {c: mean}"),
    "sizes": (dict, "a mapping such as {g: groups}"),
    "zero": (bool, "true or false"),
}
_FORM = "my.domain.Op: n c *, c -> n c *"


def register_operator(
    domain: str,
    name: str,
    notation: str,
    *,
    roles: Mapping[str, str] | None = None,
    sizes: Mapping[str, str] | None = None,
    zero: bool = False,
) -> None:
    """Say what an operator of a custom domain does with its axes, so that they can grow.

    The notation has the axes of the inputs, `->`, and those of the outputs. A name is an index
    that axes share: in the output it passes through, the operator treats its positions alike
    and apart; two inputs' name that no output has is summed over their product. `(g c)` is an
    axis that is a product; `...` are axes that pass through one by one; `*` are axes that are
    worked across (their sizes stay unless the file declares others); `~` are axes of which
    only the size is read; `1` has one position.

    Args:
        roles: what else happens along a name (`.`: along `...`): `mean` (averaged or
            normalised), `max`, `sum` (summed in one input alone), `across` (cannot grow).
        sizes: the integer attribute that holds a name's size, e.g. `{"g": "groups"}`.
        zero: where all operands are zero the output is, too.

    Raises:
        UsageError: it contradicts itself, or the operator has a row of our own.

    >>> register_operator("my.domain", "Scale", "n c *, c -> n c *")
    >>> forget("my.domain.Scale")
    """
    found = _declared(domain, name, notation, roles or {}, sizes or {}, zero)
    if found.name in TABLE and found.name not in REGISTERED:
        raise UsageError(
            f"operator {found.name} has a row already", "only others can be registered"
        )
    REGISTERED[found.name] = found
    attributes = {attribute: n for n, attribute in found.sizes.items()}
    TABLE[found.name] = Rule(
        notation=notation,
        sizes=partial(_attribute_sizes, found.sizes) if found.sizes else None,
        roles=dict(found.roles),
        attributes=attributes,
        zero=ALL if zero else None,
        custom=True,
    )


def forget(*names: str) -> None:
    """Take registered operators (`my.domain.Op`) out of the table again."""
    for name in names:
        if REGISTERED.pop(name, None) is not None:
            del TABLE[name]


def register_file(path: str) -> list[str]:
    """Register the operators of a YAML file; their names, for `forget`.

        my.domain.Scale: n c *, c -> n c *
        my.domain.GroupedScale:
          notation: n (g c) *, (g c) -> n (g c) *
          sizes: {g: groups}
          roles: {c: mean}
          zero: true

    Raises:
        UsageError: with file and line, what stands there and what was expected.
        OSError: the file cannot be read.
    """
    done: list[str] = []
    try:
        for name, fields, mark in _entries(path):
            domain, _, op = name.rpartition(".")
            try:
                fresh = name not in REGISTERED
                register_operator(domain, op, **fields)
            except UsageError as why:
                why.prefix(mark)
                raise
            done += [name] if fresh else []
    except UsageError:
        forget(*done)
        raise
    return done


def _entries(path: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(operator, arguments of `register_operator`, file and line)."""
    root, lines = parse_file(path)
    if not isinstance(root, dict):
        raise UsageError(f"{path}:1: expected operators, each like `{_FORM}`")
    for name, value in root.items():
        mark = f"{path}:{lines[name,]}"
        if isinstance(value, str):
            yield name, {"notation": value}, mark
            continue
        _expect(value, dict, mark, f"a notation, or {', '.join(_KEYS)}")
        for key, field in value.items():
            here = f"{path}:{lines[name, key]}"
            if key not in _KEYS:
                raise UsageError(f"{here}: unknown key '{key}'", f"expected {', '.join(_KEYS)}")
            kind, expected = _KEYS[key]
            _expect(field, kind, here, expected)
        if "notation" not in value:
            raise UsageError(f"{mark}: '{name}' has no notation", f"give one like `{_FORM}`")
        yield name, value, mark


def _expect(value: Any, kind: type, mark: str, expected: str) -> None:
    if not isinstance(value, kind):
        raise UsageError(f"{mark}: {value!r:.60} stands here", f"expected {expected}")


def _declared(
    domain: str, name: str, notation: str, roles: Mapping[str, str], sizes: Mapping[str, str],
    zero: bool,
) -> Declared:  # fmt: skip
    """The declaration, checked; raises UsageError that says what was expected."""
    _check_names(domain, name, notation)
    for what, given in (("roles", roles), ("sizes", sizes)):
        if not isinstance(given, Mapping) or not all(isinstance(n, str) for n in given):
            raise UsageError(f"{what} is {given!r}", "give a mapping from names of the notation")
    try:
        operands, results = (side or ((),) for side in parse(notation))
        for axes in (*operands, *results):
            _check_operand(notation, axes)
    except NotationError as why:
        raise UsageError(why.reason, why.expected) from None
    known = {n for axes in operands for word in axes for n in word.split()}
    made = [n for axes in results for word in axes for n in word.split()]
    open_ = next((n for n in made if n not in known and n not in ("1", "*")), None)
    if open_ is not None:
        raise UsageError(
            f"notation '{notation}': '{open_}' is in the output alone, so its size is open",
            "name an axis of an input",
        )
    _check_roles(notation, roles, known, set(made))
    _check_sizes(notation, sizes, (*operands, *results))
    if not isinstance(zero, bool):
        raise UsageError(f"zero is {zero!r}", "give true or false")
    return Declared(f"{domain}.{name}", notation, operands, results, roles, sizes, zero)


def _check_names(domain: str, name: str, notation: str) -> None:
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


def _check_operand(notation: str, axes: Axes) -> None:
    if sum(word in STRETCHES for word in axes) > 1:
        raise UsageError(
            f"notation '{notation}': one operand has several of '...', '*' and '~', so which "
            "axes they are is open",
            "give one at most",
        )
    found = [n for word in axes for n in word.split()]
    odd = next((n for n in found if n == "+" or any(c.isdigit() for c in n[1:])), None)
    if odd is not None:
        raise unexpected(notation, odd)
    names = Counter(n for n in found if n != "1")
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
    names = {n for word in words for n in word.split()} - {"...", "~", "1", "*"}
    for n, attribute in sizes.items():
        if n not in names:
            raise UsageError(
                f"sizes: '{n}' is no name of '{notation}'", f"expected {_listed(sorted(names))}"
            )
        if not isinstance(attribute, str) or not attribute:
            raise UsageError(f"sizes: '{n}' is {attribute!r}", "give the attribute's name")
    alone = {word for word in words if " " not in word} | set(sizes)
    for word in words:
        left = [n for n in word.split() if n not in alone]
        if len(left) > 1:
            raise UsageError(
                f"notation '{notation}': the sizes of {' and '.join(left)} in '({word})' are open",
                f'give the attribute that holds one, e.g. sizes {{"{left[0]}": "groups"}}',
            )


def _listed(words: Iterable[str]) -> str:
    return " or ".join(f"'{w}'" for w in words) or "none"


def _attribute_sizes(names: Mapping[str, str], site: Site) -> dict[str, int]:
    """Sizes that attributes hold; raises RowError where one does not."""
    found = {}
    for name, attribute in names.items():
        value = site.attr(attribute)
        if not isinstance(value, int) or value < 1:
            raise RowError(f"attribute '{attribute}' of '{site.node.name}' is {value!r}")
        found[name] = value
    return found
