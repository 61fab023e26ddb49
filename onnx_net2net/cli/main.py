"""The command line. Heavy modules are imported inside the commands, so that help is quick."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from onnx_net2net import __version__
from .delivery import GROWN, deliver, form, free
from .exit_codes import run
from .growing import Commands
from .options import PATH, accepting, shaping, speaking, writing

NAME = "onnx-net2net"


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
    no_args_is_help=False,
)
@click.version_option(__version__, prog_name=NAME)
def cli() -> None:
    """Grow trained ONNX models without changing what they compute (Net2Net).

    Exit codes: 0 done or equivalent, 1 not equivalent, 2 usage, 3 bad input, 4 refused,
    5 inconclusive, 6 environment, 70 internal error, 130 interrupted.
    """


def main() -> None:
    """Entry point of the console script; exits with the contract's codes."""
    gc.set_threshold(200_000, 50, 100)  # graphs of many nodes are many objects, none in a cycle
    sys.exit(run(cli, sys.argv[1:], NAME))


@cli.command(short_help="What can grow, how wide it is, and what blocks the rest.")
@click.argument("model", type=PATH)
@click.option("--node", help="Report on one layer: node, tensor, parameter or part of its path.")
@shaping
@speaking
def inspect(model: str, node: str | None, shapes: Any, as_json: bool, debug: bool) -> None:
    """Say what can grow in MODEL, how wide it is, and what blocks the rest."""
    from onnx_net2net.plans.inspection import inspect as look
    from onnx_net2net.report.inspection import inspection
    from onnx_net2net.report.text import show

    report = look(model, shapes=shapes, node=node)
    text = inspection(report, Path(model).name, every_layer=node is not None)
    show(report.to_json() if as_json else text, as_json)


@cli.command(short_help="Several steps, from a recipe or a student's provenance.")
@click.argument("model", type=PATH)
@click.argument("recipe", type=PATH)
@click.option("--calibrate", type=click.Path(), multiple=True, metavar="DATA.npz",
              help="Data that a student's provenance asks for; may repeat.")  # fmt: skip
@writing
def apply(model: str, recipe: str, calibrate: tuple[str, ...], **options: Any) -> None:
    """Do the steps of RECIPE, a YAML file, on MODEL (docs/recipes.md).

    RECIPE may also be a student: the steps in its provenance are done again, and the same bytes
    come out. --seed comes before the recipe's.

    \b
    onnx-net2net apply model.onnx recipe.yaml --plan
    onnx-net2net apply model.onnx model.grown.onnx -o again.onnx
    """
    from onnx_net2net.plans.plan import plan

    data = []
    if calibrate:
        from onnx_net2net.files.archive import archive

        data = [archive(path) for path in calibrate]
    given = click.get_current_context().get_parameter_source("seed") is not ParameterSource.DEFAULT
    seed = options["seed"] if given else None
    made = plan(model, recipe, seed=seed, shapes=options["shapes"], calibrate=data)
    deliver(made, form(made.source, model, GROWN, options), "apply", options)


@cli.command(short_help="Tell whether two models are the same function.")
@click.argument("teacher", type=PATH)
@click.argument("student", type=PATH)
@click.option("--inputs", type=PATH, help="Your own data, data.npz: input name -> array.")
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    metavar="N",
    help="How many random inputs.",
)
@click.option("--layers", type=click.Choice(["auto", "certificate", "full"]), default="auto",
              show_default=True, help="Which checks to run.")  # fmt: skip
@accepting
@click.option(
    "--max-rounding",
    type=click.FloatRange(0, min_open=True),
    metavar="SHARE",
    help="How far rounding may move an output, as a share of its largest value.  [default: "
    "1e-3; 1e-1 with 16 bits]",
)
@click.option("--full-hash", is_flag=True, help="Compare linked weights byte by byte, too.")
@click.option("--save-inputs", type=PATH, help="Where they differ, write the inputs here.")
@shaping
@speaking
def verify(teacher: str, student: str, as_json: bool, debug: bool, **options: Any) -> int:
    """Tell whether TEACHER and STUDENT are the same function, and how far that is known.

    \b
    The claim, and the exit code:
    proved             0  the same in exact arithmetic, at every input and size
    proved to rounding 0  the same but for a measured rounding
    proved for SIZES   5  either, at these; 0 where --sizes names no others
    agrees on runs     0  no proof, but all runs agree; 5 with --require proved
    different          1  an input, a tensor or an interface shows it
    cannot tell        5  no proof, and no runs that tell
    """
    free(options["save_inputs"])
    from onnx_net2net.files.reader import read
    from onnx_net2net.report.progress import waiting
    from onnx_net2net.report.text import show
    from onnx_net2net.verification.verify import verify as compare

    sources = read(teacher), read(student)
    with waiting("comparing the models", max(s.size for s in sources)):
        verdict = compare(*sources, **options)
    show(verdict.to_json() if as_json else str(verdict), as_json)
    return int(verdict.exit_code)


@cli.command("export-weights", short_help="Write the weights as a safetensors file.")
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, help="File to write; beside the model if not given.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@speaking
def export_weights(model: str, output: str | None, force: bool, as_json: bool, debug: bool) -> None:
    """Write every weight of MODEL, under its name, to a safetensors file.

    \b
    onnx-net2net export-weights student.onnx -o weights.safetensors
    """
    from onnx_net2net.checkpoint.export import export_weights as export
    from onnx_net2net.files.reader import read
    from onnx_net2net.report.progress import copying
    from onnx_net2net.report.text import show

    source = read(model)
    target = Path(model).with_suffix(".safetensors") if output is None else Path(output)
    if not force:
        free(str(target))
    with copying("writing the weights", source.size) as progress:
        made = export(source, target, force=force, progress=progress)
    show(made.to_json() if as_json else made, as_json)
