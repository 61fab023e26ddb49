"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]
PATH = click.Path(readable=False)  # what cannot be read is bad input, not bad usage
_SIZES = "NAME=1x3x224x224"


def _sizes(
    context: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """`NAME=1x3x224x224`, repeated, as input name -> sizes."""
    found: dict[str, tuple[int, ...]] = {}
    for value in values:
        name, _, sizes = value.rpartition("=")
        dims = tuple(int(s) for s in re.split("[x,]", sizes) if re.fullmatch("[0-9]{1,9}", s))
        if not name or 0 in dims or len(dims) != len(re.split("[x,]", sizes)):
            raise click.BadParameter(f"'{value}' is not of the form {_SIZES}", context, option)
        if name in found:
            raise click.BadParameter(f"'{name}' is given twice", context, option)
        found[name] = dims
    return found


def _operators(context: click.Context, option: click.Parameter, files: tuple[str, ...]) -> None:
    """Teach the table the operators of some files, until the command has ended."""
    for path in files:
        from onnx_net2net.operators.registration import forget, register_file

        done = register_file(path)
        context.find_root().call_on_close(lambda names=done: forget(*names))


def _stack(*options: Command) -> Callable[[Command], Command]:
    def decorate(f: Command) -> Command:
        for option in reversed(options):
            f = option(f)
        return f

    return decorate


shaping = _stack(
    click.option("--shape", "shapes", multiple=True, metavar=_SIZES, callback=_sizes,
                 help="Sizes of an input that declares none; may repeat."),
    click.option("--operators", type=click.Path(readable=False), multiple=True, metavar="FILE",
                 expose_value=False, callback=_operators,
                 help="Operators of custom domains, in YAML: `my.domain.Op: n c *, c -> n c *`."),
)  # fmt: skip

speaking = _stack(
    click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
    click.option("--debug", is_flag=True, help="Show a traceback on internal errors."),
)

accepting = _stack(
    click.option("--sizes", metavar="'NAME<=512'",
                 help="Open sizes that you will use, several with commas: a proof for these is "
                 "enough, and no others are run."),
    click.option("--require", type=click.Choice(["proved"]),
                 help="Agreement on runs alone is not enough."),
)  # fmt: skip

writing = _stack(
    click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same bytes."),
    click.option("-o", "--output", type=click.Path(readable=False), help="File to write."),
    click.option("--force", is_flag=True, help="Replace an existing output."),
    click.option("--external-data", is_flag=True,
                 help="Weights in one file beside the model, as always over 2 GiB."),
    click.option("--link-teacher", is_flag=True,
                 help="Refer to the teacher's file, in the same folder, for what is the same."),
    click.option("--save-mapping", type=click.Path(readable=False), metavar="MAP.json",
                 help="Also write how each tensor changed, to grow the checkpoint."),
    click.option("--plan", "plan_only", is_flag=True, help="Say what would change; write nothing."),
    click.option("--verify", type=click.Choice(["auto", "certificate", "full", "off"]),
                 default="auto", show_default=True, help="Checks before the student is written."),
    accepting,
    shaping,
    speaking,
)  # fmt: skip
