"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import click


class Sizes(click.ParamType[tuple[str, tuple[int, ...]]]):
    """`NAME=1x3x224x224`."""

    name = "NAME=SIZES"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, tuple[int, ...]]:
        """Parse one option; a clear usage error where it is something else."""
        if isinstance(value, tuple):
            return value
        name, _, sizes = str(value).rpartition("=")
        if not name or not re.fullmatch(r"\d+([x,]\d+)*", sizes) or "0" in re.split("[x,]", sizes):
            self.fail(f"'{value}' is not of the form NAME=1x3x224x224", param, ctx)
        return name, tuple(int(s) for s in re.split("[x,]", sizes))


def parse_shapes(pairs: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    """Input name -> sizes."""
    return dict(pairs)


def _stack(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(f: Any) -> Any:
        for option in reversed(options):
            f = option(f)
        return f

    return decorate


growing = _stack(
    click.option("--mapping", default="random", show_default=True, metavar="random|balanced|FILE",
                 help="Which units the new ones copy; FILE: a JSON list."),
    click.option("--split", type=click.Choice(["zero-sum", "even", "one-hot"]), default="zero-sum",
                 show_default=True, help="How copies divide the weights that read them."),
    click.option("--paper", is_flag=True, help="The paper's choices: random mapping, even split."),
    click.option("--multiple-of", type=click.IntRange(1), default=1, help="Round widths up."),
    click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same bytes."),
    click.option("-o", "--output", type=click.Path(), help="File to write."),
    click.option("--force", is_flag=True, help="Replace an existing output."),
    click.option("--plan", "plan_only", is_flag=True, help="Say what would change; write nothing."),
)  # fmt: skip

verifying = _stack(
    click.option("--verify", type=click.Choice(["auto", "certificate", "full", "off"]),
                 default="auto", show_default=True, help="Checks before the student is written."),
    click.option("--shape", "shapes", type=Sizes(), multiple=True,
                 help="NAME=1x3x224x224 of an input that declares none."),
)  # fmt: skip
