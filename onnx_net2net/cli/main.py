"""The command line. Heavy modules are imported inside the commands, so that help is quick."""

from __future__ import annotations

import gc
import os
import re
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from onnx_net2net import __version__
from onnx_net2net.cli.exit_codes import DONE, INCONCLUSIVE, NOT_EQUIVALENT, on_path, run
from onnx_net2net.cli.options import inserting, replicating, shaping, speaking, writing
from onnx_net2net.errors import ResourceError, UsageError

NAME = "onnx-net2net"
PATH = click.Path(readable=False)  # what cannot be read is bad input, not bad usage


@click.group(
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


@cli.command(short_help="Widen a layer and everything coupled to it (Net2WiderNet).")
@click.argument("model", type=PATH)
@click.option("--node", "nodes", multiple=True, help="Layer to widen; may repeat, with --width.")
@click.option("--space", "spaces", multiple=True, help="Instead: a space as `inspect` names it.")
@click.option(
    "--width",
    "widths",
    type=int,
    multiple=True,
    help="Length of its output axis; of a space its own size: heads, not channels.",
)
@click.option(
    "--ratio", "ratios", type=float, multiple=True, help="Or at least this times today's."
)
@click.option(
    "--allow-interface",
    is_flag=True,
    help="Grow also the model's own inputs and outputs: --node may name one (NAME:AXIS). New "
    "input channels do not matter at first (zero weights), new outputs are copies at the end.",
)
@replicating
@writing
def widen(model: str, **options: Any) -> None:
    """Net2WiderNet: widen a layer of MODEL and everything coupled to it.

    \b
    onnx-net2net widen model.onnx --node conv1 --width 96
    onnx-net2net widen model.onnx --node conv1 --ratio 1.5 --plan
    """
    steps = _steps(options)
    split = "even" if options["paper"] else options["split"]
    from onnx_net2net.plans.plan import plan

    how = {k: options[k] for k in ("init", "noise", "seed", "shapes")}
    made = plan(model, steps, split=split, **how)
    _deliver(made, _form(made.source, model, ".widened", options), "widen", options)


@cli.command(short_help="Insert layers that change nothing (Net2DeeperNet).")
@click.argument("model", type=PATH)
@click.option(
    "--after",
    multiple=True,
    help="A layer (after its BatchNormalization and activation), or a tensor.",
)
@click.option("--before", multiple=True, help="A layer or a tensor; both may repeat.")
@click.option("--every", metavar="PATTERN", help="After all that fit: `Relu`, `layer1*`.")
@inserting
@writing
def deepen(
    model: str, after: tuple[str, ...], before: tuple[str, ...], every: str, **options: Any
) -> None:
    """Net2DeeperNet: insert layers into MODEL that leave its function as it is.

    \b
    onnx-net2net deepen model.onnx --after conv1
    onnx-net2net deepen model.onnx --every Relu --kind identity --plan
    """
    from onnx_net2net.plans.plan import plan

    if options["paper"]:
        _not_given("paper", "kind")
        options["kind"] = "identity"
    names = ("kind", "activation", "kernel", "groups", "depthwise", "inner", "batchnorm", "count",
             "only_into", "init")  # fmt: skip
    step = {"verb": "deepen", **{n: options[n] for n in names}}
    if options["calibrate"]:
        from onnx_net2net.files.archive import archive

        step["calibrate"] = archive(options["calibrate"])
    if bool(after or before) == bool(every):
        raise click.UsageError("say where: either --after and --before, or --every")
    if options["calibrate"] and not options["batchnorm"]:
        raise click.UsageError("--calibrate needs --batchnorm")
    where = [{"after": n} for n in after] + [{"before": n} for n in before]
    steps = [{**step, **p} for p in where or [{"every": every}]]
    made = plan(model, steps, seed=options["seed"], shapes=options["shapes"])
    _deliver(made, _form(made.source, model, ".deepened", options), "deepen", options)


@cli.command("grow-kernel", short_help="Enlarge a convolution's kernel with a ring of zeros.")
@click.argument("model", type=PATH)
@click.option("--node", required=True, help="The convolution.")
@click.option("--size", required=True, type=click.IntRange(1), help="The new kernel size.")
@writing
def grow_kernel(model: str, node: str, size: int, **options: Any) -> None:
    """Enlarge the kernel of a convolution of MODEL; its output stays the same.

    \b
    onnx-net2net grow-kernel model.onnx --node conv1 --size 5
    """
    from onnx_net2net.plans.plan import plan

    steps = [{"verb": "grow-kernel", "node": node, "size": size}]
    made = plan(model, steps, seed=options["seed"], shapes=options["shapes"])
    _deliver(made, _form(made.source, model, ".grown", options), "grow-kernel", options)


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
    _deliver(made, _form(made.source, model, ".grown", options), "apply", options)


def _steps(options: dict[str, Any]) -> list[dict[str, Any]]:
    """What to widen and how far, one step for each layer named."""
    nodes, spaces, widths, ratios = (options[k] for k in ("nodes", "spaces", "widths", "ratios"))
    if bool(nodes) == bool(spaces):
        raise click.UsageError("name what to widen, with either --node or --space")
    if bool(widths) == bool(ratios):
        raise click.UsageError("say how wide, with either --width or --ratio")
    if options["paper"]:
        _not_given("paper", "mapping", "split", "init")
    if options["init"] != "replicate":
        _not_given("init", "mapping", "split", "noise")
    names = [{"node": n} for n in nodes] + [{"space": s} for s in spaces]
    sizes = [{"width": w} for w in widths] + [{"ratio": r} for r in ratios]
    if len(sizes) == 1:
        sizes *= len(names)
    if len(sizes) != len(names):
        one, many = ("width", "widths") if widths else ("ratio", "ratios")
        raise click.UsageError(
            f"{_count(len(names), 'layer')} and {_count(len(sizes), one, many)}; "
            "give one for each layer, or one for all"
        )
    common = {n: options[n] for n in ("mapping", "multiple_of", "allow_interface")}
    return [{**n, **s, **common} for n, s in zip(names, sizes, strict=True)]


def _not_given(flag: str, *others: str) -> None:
    """Refuse options that `flag` decides on."""
    context = click.get_current_context()
    for other in others:
        if context.get_parameter_source(other) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{flag} decides on --{other}; give one of them")


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def _form(teacher: Any, model: str, suffix: str, options: dict[str, Any]) -> Any:
    """How to write, None if nothing is to be written; fails before the student is checked."""
    if options["external_data"] and options["link_teacher"]:
        raise click.UsageError("give --external-data or --link-teacher, not both")
    output = options["output"]
    target = default_output(model, suffix) if output is None else Path(output)
    if options["save_mapping"] is not None:
        _mapping_fits(teacher, Path(options["save_mapping"]), target, options["force"])
    if options["plan_only"]:
        return None
    from onnx_net2net.files.output_form import ExternalData, LinkedToTeacher, OutputForm, SingleFile
    from onnx_net2net.files.writer import AlreadyThereError

    form: OutputForm = SingleFile(target, options["force"])
    if options["external_data"]:
        form = ExternalData(target, options["force"])
    if options["link_teacher"]:
        form = LinkedToTeacher(target, teacher, options["force"])
    try:
        form.check(teacher)
    except OSError as why:
        more = " or give --force" if isinstance(why, AlreadyThereError) else ""
        raise on_path(why, f"choose another with -o{more}") from None
    if not os.access(target.parent, os.W_OK):
        raise ResourceError(f"'{target.parent}': not writable", "choose another folder")
    return form


def _mapping_fits(teacher: Any, path: Path, student: Path, force: bool) -> None:
    """Refuse a place for the mapping before the student is written, not after."""
    from onnx_net2net.files.writer import check

    if os.path.abspath(path) == os.path.abspath(student):
        raise click.UsageError("-o and --save-mapping name one file; give them different names")
    if not force:
        _free(str(path))
    try:
        check(path, teacher.files, force=True)
    except OSError as why:
        raise on_path(why, "choose another with --save-mapping") from None
    if not os.access(path.parent, os.W_OK):
        raise ResourceError(f"'{path.parent}': not writable", "choose another folder")


def _deliver(made: Any, form: Any, verb: str, options: dict[str, Any]) -> None:
    """Verify and write, unless only planned, and say what changed."""
    from onnx_net2net.report.progress import copying, waiting
    from onnx_net2net.report.text import grown, show, warn

    verdict = target = None
    if form is not None:
        with waiting("verifying the student", made.source.size):
            verdict = made.check(options["verify"])
        with copying("writing the student", made.source.size) as progress:
            target = made.pieces.write(form, progress=progress)
        if options["save_mapping"]:
            made.save_mapping(options["save_mapping"], force=options["force"])
    for warning in dict.fromkeys(made.warnings):
        warn(warning)
    show(grown(made, verb, target, verdict, options["as_json"]), options["as_json"])


def default_output(model: str, suffix: str) -> Path:
    """Beside the model, our earlier suffix replaced.

    >>> default_output("a/net.widened.onnx", ".deepened").name
    'net.deepened.onnx'
    """
    path = Path(model)
    stem = re.sub(r"(\.(widened|deepened|grown))?(\.onnx)?$", "", path.name, count=1)
    return path.with_name(f"{stem}{suffix}.onnx")


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
@click.option(
    "--layers",
    type=click.Choice(["auto", "certificate", "full"]),
    default="auto",
    show_default=True,
    help="Which checks to run.",
)
@click.option("--full-hash", is_flag=True, help="Compare linked weights byte by byte, too.")
@click.option("--save-inputs", type=PATH, help="Where they differ, write the inputs here.")
@shaping
@speaking
def verify(teacher: str, student: str, as_json: bool, debug: bool, **options: Any) -> int:
    """Tell whether TEACHER and STUDENT are the same function, and which check decided.

    Exit code 0: equivalent; 1: not equivalent; 5: inconclusive.
    """
    _free(options["save_inputs"])
    from onnx_net2net.files.reader import read
    from onnx_net2net.report.progress import waiting
    from onnx_net2net.report.text import show
    from onnx_net2net.verification.verify import verify as compare

    sources = read(teacher), read(student)
    with waiting("comparing the models", max(s.size for s in sources)):
        verdict = compare(*sources, **options)
    show(verdict.to_json() if as_json else str(verdict), as_json)
    return {True: DONE, False: NOT_EQUIVALENT, None: INCONCLUSIVE}[verdict.equivalent]


def _free(path: str | None) -> None:
    """Refuse a path where something is already, or where nothing can be."""
    if path is None:
        return
    if os.path.lexists(path):
        raise UsageError(f"'{path}': is already there", "choose another name")
    if not Path(path).parent.is_dir():
        raise UsageError(f"'{Path(path).parent}': no such folder", "create it first")


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
        _free(str(target))
    with copying("writing the weights", source.size) as progress:
        made = export(source, target, force=force, progress=progress)
    show(made.to_json() if as_json else made, as_json)
