"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]
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


def _mapping(context: click.Context, option: click.Parameter, value: str) -> Any:
    """`random`, `balanced`, or what a file says."""
    if value in ("random", "balanced"):
        return value
    from onnx_net2net.plans.recipe_data import read_mapping

    return read_mapping(value)


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

replicating = _stack(
    click.option("--mapping", default="random", show_default=True, metavar="random|balanced|FILE",
                 callback=_mapping, help="Which units the new ones copy; FILE: a JSON list."),
    click.option("--init", type=click.Choice(["replicate", "fresh", "twin", "random-pad"]),
                 default="replicate", show_default=True,
                 help="New units: copies; random in, zero out; random pairs that cancel; or the "
                 "paper's baseline, not preserving."),
    click.option("--split", type=click.Choice(["zero-sum", "even", "one-hot", "uneven"]),
                 default="zero-sum", show_default=True,
                 help="How copies divide the weights that read them."),
    click.option("--noise", type=float, default=0.0, metavar="SIGMA",
                 help="On the copies' own weights, in terms of their standard deviation; not "
                 "preserving."),
    click.option("--paper", is_flag=True, help="The paper's choices: random mapping, even split."),
    click.option("--multiple-of", type=click.IntRange(1), default=1, metavar="N",
                 help="Round widths up to a multiple of N."),
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
    shaping,
    speaking,
)  # fmt: skip

inserting = _stack(
    click.option("--kind", default="auto", show_default=True,
                 type=click.Choice(["auto", "identity", "linear", "residual", "pair", "shift"]),
                 help="The block; auto: identity where it is exact, else residual."),
    click.option("--activation", help="Instead of the one that made the tensor."),
    click.option("--kernel", type=click.IntRange(1), help="Window size of a convolution."),
    click.option("--groups", type=click.IntRange(1), default=1, help="Groups of a convolution."),
    click.option("--depthwise", is_flag=True, help="One group for each channel."),
    click.option("--inner", type=click.IntRange(1), help="Hidden width of a residual block."),
    click.option("--batchnorm", is_flag=True, help="With a BatchNormalization."),
    click.option("--calibrate", type=click.Path(), help="Data for its statistics, data.npz."),
    click.option("--count", type=click.IntRange(1), default=1, help="How many, in a row."),
    click.option("--only-into", help="The one reader to feed, where a tensor has several."),
    click.option("--init", type=click.Choice(["identity", "random"]), default="identity",
                 show_default=True, help="random: the paper's baseline, not preserving."),
    click.option("--paper", is_flag=True, help="The paper's choice: --kind identity."),
)  # fmt: skip
