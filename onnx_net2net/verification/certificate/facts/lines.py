"""The table of facts: a line in the notation for each operator, or a sentence why it has none.

A name in the output passes: equal operands at two of its positions give equal results there.
Any other name's operands count as they stand, or by its role: `mean`, `sum` and `max` in
whatever order, `across` in their order even where the name is in the output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from onnx_net2net.operators.notation import Declared, names, parse
from onnx_net2net.verification.certificate.transfer.base import At

Line = str | Callable[[At], str]
ZEROS = ("", "first", "all", "any", "over")


@dataclass(frozen=True)
class Fact:
    """What is known of an operator.

    Attributes:
        line: the notation, or how it follows from a node's attributes and shapes.
        zero: when an element is zero: `first`, f(0, ...) = 0; `all`, f(0, 0, ...) = 0; `any`,
            where one operand is zero; `over`, 0 / x; "" never for sure.
        roles: name -> `mean`, `sum`, `max` or `across`.
    """

    name: str
    line: Line
    zero: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)

    def declared(self, at: At) -> Declared:
        """The line for a node, parsed."""
        text = self.line if isinstance(self.line, str) else self.line(at)
        operands, results = parse(text)
        known = {n for axes in (*operands, *results) for word in axes for n in names(word)}
        roles = {n: r for n, r in self.roles.items() if n in known or n == "."}
        return Declared(self.name, text, operands, results, roles, {}, bool(self.zero))


FACTS: dict[str, Fact] = {}
WITHOUT: dict[str, str] = {}
"""Operators without a fact -> why: their outputs are named as a whole."""


def fact(operators: str, line: Line, zero: str = "", **roles: str) -> None:
    """Put a line into the table for each of the space-separated operators.

    Raises:
        ValueError: one of them stands there already.
    """
    if zero not in ZEROS:
        raise ValueError(f"zeros pass in a way '{zero}'; expected one of {ZEROS}")
    for name in operators.split():
        _free(name)
        FACTS[name] = Fact(name, line, zero, roles)


def no_fact(operators: str, why: str) -> None:
    """Say for each of the space-separated operators why it has no line.

    Raises:
        ValueError: one of them stands there already.
    """
    for name in operators.split():
        _free(name)
        WITHOUT[name] = why


def _free(name: str) -> None:
    if name in FACTS or name in WITHOUT:
        raise ValueError(f"two facts about {name}")


__all__ = ["FACTS", "WITHOUT", "Fact", "Line", "fact", "no_fact"]
