"""The sizes that a caller will use: `sequence<=512, batch<=8`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from onnx_net2net.errors import UsageError
from onnx_net2net.graph.model import Model
from onnx_net2net.inference.input_sizes import symbols

_TERM = re.compile(r"\s*(?P<name>.+?)\s*(?P<relation><=|>=|==|=|<|>)\s*(?P<size>[0-9]{1,18})\s*")
_FORM = "'NAME<=512', several with commas; relations are <= < >= > ="


@dataclass(frozen=True)
class Interval:
    """The integers from `least` to `most`; None: to any."""

    least: int = 1
    most: int | None = None

    @property
    def empty(self) -> bool:
        """Whether no integer is left."""
        return self.most is not None and self.most < self.least

    def __contains__(self, size: int) -> bool:
        return self.least <= size and (self.most is None or size <= self.most)

    def __and__(self, other: Interval) -> Interval:
        ends = [m for m in (self.most, other.most) if m is not None]
        return Interval(max(self.least, other.least), min(ends, default=None))


Sizes = Mapping[str, Interval]


class Condition(Protocol):
    """What a proof needs of the sizes; as text, it reads like what `parsed` takes."""

    def implied_by(self, sizes: Sizes) -> bool:
        """Whether it holds at all of these sizes."""


def open_axes(model: Model) -> dict[str, tuple[int | str, ...]]:
    """Input -> each axis's size, or the symbol that stands for it: `INPUT.AXIS` if unnamed."""
    return {
        name: tuple(f"{name}.{k}" if d is None else d for k, d in enumerate(dims))
        for name, dims in symbols(model).items()
        if dims is not None
    }


def parsed(text: str | Iterable[str] | None, model: Model) -> dict[str, Interval]:
    """The sizes that each symbol may take; symbols that are not mentioned may take any.

    Args:
        text: relations between a symbol and an integer, or several such texts.
        model: whose inputs declare the symbols.

    Raises:
        UsageError: what is no such relation, an unknown symbol, or no size at all.
    """
    if text is None:
        return {}
    known = {d: None for dims in open_axes(model).values() for d in dims if isinstance(d, str)}
    found: dict[str, Interval] = {}
    for term in [
        t for part in ([text] if isinstance(text, str) else text) for t in part.split(",")
    ]:
        match = _TERM.fullmatch(term)
        if match is None:
            raise UsageError(f"sizes '{term.strip()}' cannot be read", f"write {_FORM}")
        name = match["name"]
        if name not in known:
            names = ", ".join(known) or "none: every size is fixed"
            raise UsageError(f"sizes name '{name}', which is no open size", f"these are: {names}")
        found[name] = found.get(name, Interval()) & _interval(match["relation"], int(match["size"]))
        if found[name].empty:
            raise UsageError(f"sizes leave nothing for '{name}'", "give some that it can take")
    return found


def _interval(relation: str, size: int) -> Interval:
    return {
        "<=": Interval(most=size),
        "<": Interval(most=size - 1),
        ">=": Interval(least=size),
        ">": Interval(least=size + 1),
    }.get(relation, Interval(size, size))


__all__ = ["Condition", "Interval", "Sizes", "open_axes", "parsed"]
