"""The command line. Heavy modules are imported inside the commands, so that help is quick."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from onnx_net2net import __version__
from onnx_net2net.failures import run
from onnx_net2net.options import Sizes, growing, parse_shapes, verifying

_SUFFIXES = (".widened", ".deepened", ".grown")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88})
@click.version_option(__version__, prog_name="onnx-net2net")
def cli() -> None:
    """Grow trained ONNX models without changing what they compute (Net2Net).

    Exit codes: 0 done or equivalent, 1 not equivalent, 2 usage, 3 bad input, 4 refused,
    5 inconclusive, 6 environment, 70 internal error, 130 interrupted.
    """


def main() -> None:
    """Entry point of the console script; exits with the contract's codes."""
    run(cli)


def _json(f: Callable[..., Any]) -> Callable[..., Any]:
    f = click.option("--debug", is_flag=True, help="Show a traceback on internal errors.")(f)
    return click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")(f)


@cli.command()
@click.argument("model", type=click.Path())
@click.option("--node", help="Report on one layer: node, tensor, parameter or part of its path.")
@click.option("--shape", "shapes", type=Sizes(), multiple=True, help="NAME=1x3x224x224 of an input.")
@_json
def inspect(model: str, node: str | None, shapes: Any, as_json: bool, debug: bool) -> None:
    """Say what can grow in MODEL, how wide it is, and what blocks the rest."""
    from onnx_net2net.inspection import inspect as look
    from onnx_net2net.report.text import inspection, show

    report = look(model, shapes=parse_shapes(shapes), node=node)
    show(report.to_json() if as_json else inspection(report, Path(model).name), as_json)


@cli.command()
@click.argument("model", type=click.Path())
@click.option("--node", "nodes", multiple=True, help="Layer to widen; may repeat, with --width.")
@click.option("--space", "spaces", multiple=True, help="Instead: a space as `inspect` names it.")
@click.option("--width", "widths", type=int, multiple=True, help="Length of its output axis.")
@click.option("--ratio", "ratios", type=float, multiple=True, help="Or at least this times today's.")
@growing
@verifying
@_json
def widen(model: str, nodes: tuple[str, ...], spaces: tuple[str, ...], **options: Any) -> None:
    """Net2WiderNet: widen a layer of MODEL and everything coupled to it.

    \b
    onnx-net2net widen model.onnx --node conv1 --width 96
    onnx-net2net widen model.onnx --node conv1 --ratio 1.5 --plan
    """
    from onnx_net2net.planning import plan
    from onnx_net2net.widths import read_mapping

    names = [{"node": n} for n in nodes] + [{"space": s} for s in spaces]
    if not names:
        raise click.UsageError("name what to widen with --node or --space")
    sizes = [{"width": w} for w in options["widths"]] + [{"ratio": r} for r in options["ratios"]]
    if len(sizes) == 1:
        sizes *= len(names)
    if len(sizes) != len(names):
        raise click.UsageError(
            f"{len(names)} layers and {len(sizes)} widths; give one --width or --ratio for each"
        )
    if options["widths"] and options["ratios"] and len(names) > 1:
        raise click.UsageError("give --width or --ratio, not both")
    mapping, split = options["mapping"], options["split"]
    if options["paper"]:
        mapping, split = "random", "even"
    if mapping not in ("random", "balanced"):
        mapping = read_mapping(mapping)
    common = {"mapping": mapping, "multiple_of": options["multiple_of"]}
    steps = [{**n, **s, **common} for n, s in zip(names, sizes, strict=True)]
    made = plan(
        model, steps, split=split, seed=options["seed"], shapes=parse_shapes(options["shapes"])
    )
    _deliver(made, model, ".widened", "widen", options)


def _deliver(made: Any, model: str, suffix: str, verb: str, options: dict[str, Any]) -> None:
    """Say what changes; unless only planned, verify and write."""
    from onnx_net2net.report.text import grown, show, warn

    as_json = options["as_json"]
    if options["plan_only"]:
        show(grown(made, verb, None, None, as_json), as_json)
        return
    output = Path(options["output"] or default_output(model, suffix))
    if output.exists() and not options["force"]:
        raise FileExistsError(f"'{output}' exists; choose another -o or give --force")
    if not output.parent.is_dir():
        raise click.UsageError(f"the folder of '{output}' does not exist; create it or choose another -o")
    verdict = made.check(options["verify"])
    made.pieces.write(output, force=options["force"])
    for warning in made.warnings:
        warn(warning)
    show(grown(made, verb, output, verdict, as_json), as_json)


def default_output(model: str, suffix: str) -> Path:
    """Beside the model, our earlier suffix replaced.

    >>> default_output("a/net.widened.onnx", ".deepened").name
    'net.deepened.onnx'
    """
    path = Path(model)
    stem = path.name[: -len(path.suffix)] if path.suffix == ".onnx" else path.name
    for old in _SUFFIXES:
        stem = stem.removesuffix(old)
    return path.with_name(f"{stem}{suffix}.onnx")


@cli.command()
@click.argument("teacher", type=click.Path())
@click.argument("student", type=click.Path())
@click.option("--inputs", type=click.Path(), help="Your own data, data.npz: input name -> array.")
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Random inputs.")
@click.option("--shape", "shapes", type=Sizes(), multiple=True, help="NAME=1x3x224x224 of an input.")
@click.option(
    "--layers", type=click.Choice(["auto", "certificate", "full"]), default="auto",
    show_default=True, help="Which checks to run.",
)  # fmt: skip
@click.option("--save-inputs", type=click.Path(), help="Where they differ, write the inputs here.")
@_json
def verify(teacher: str, student: str, as_json: bool, debug: bool, **options: Any) -> None:
    """Tell whether TEACHER and STUDENT are the same function, and which check decided.

    Exit code 0: equivalent; 1: not equivalent; 5: inconclusive.
    """
    from onnx_net2net.report.text import show
    from onnx_net2net.verification import verify as compare

    verdict = compare(
        teacher, student, inputs=options["inputs"], provider=options["provider"],
        shapes=parse_shapes(options["shapes"]), layers=options["layers"], seeds=options["seeds"],
        save_inputs=options["save_inputs"],
    )  # fmt: skip
    show(verdict.to_json() if as_json else str(verdict), as_json)
    code = {True: 0, False: 1, None: 5}[verdict.equivalent]
    if code:
        raise click.exceptions.Exit(code)
