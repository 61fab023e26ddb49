"""The public calls that grow a model: one for each verb, and `apply` for several steps."""

from __future__ import annotations

import inspect
import os
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from onnx_net2net.growth.deepen.verb import Deepen
from onnx_net2net.growth.kernel.verb import GrowKernel
from onnx_net2net.growth.result import Shapes
from onnx_net2net.growth.verb import Verb
from onnx_net2net.growth.widen.verb import Widen
from onnx_net2net.plans.plan import COMMON, plan

_DELIVERY = ("output", "force", "verify", "sizes", "require")


def _grown(
    teacher: Any,
    *,
    shapes: Shapes | None = None,
    verify: str = "auto",
    sizes: str | Iterable[str] | None = None,
    require: str | None = None,
    output: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> onnx.ModelProto | Path:
    """What all calls have in common: their signature and documentation.

    Args:
        teacher: a path, an `onnx.ModelProto` or a `gs.Graph`; not changed.
        {settings}
        shapes: input name -> sizes, for inputs that declare none.
        verify: `auto`, `certificate`, `full` or `off`.
        sizes: those that you will use, as `sequence<=512`: a proof for these is enough.
        require: `proved`: agreement on runs alone is not enough.
        output: write to this file and return its path.
        force: replace an existing output.

    Returns:
        A self-contained ModelProto, or the path written.

    Raises:
        RefusalError: no function-preserving way (.node .axis .reason .hint).
        NotEquivalentError: the student did not pass verification; nothing is written.
        AmbiguousError, UsageError: the arguments. ModelError: the teacher.
    """
    raise NotImplementedError


def call(verb: type[Verb]) -> Callable[..., onnx.ModelProto | Path]:
    """The Python call of a verb: its settings and those of `_grown` as keywords.

    >>> call(GrowKernel).__name__
    'grow_kernel'
    """
    settings = verb.settings()
    teacher, *others = inspect.signature(_grown).parameters.values()
    own = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=s.default)
           for n, s in settings.items()]  # fmt: skip
    signature = inspect.Signature(
        [teacher, *own, *others], return_annotation=onnx.ModelProto | Path
    )

    def grow(*arguments: Any, **keywords: Any) -> onnx.ModelProto | Path:
        given = signature.bind(*arguments, **keywords)
        given.apply_defaults()
        said = given.arguments
        common = {n: said[n] for n, s in settings.items() if s.header and n in COMMON}
        step = {n: said[n] for n in settings if n not in common}
        made = plan(said["teacher"], [{"verb": verb.verb, **step}], shapes=said["shapes"], **common)
        return made.apply(**{n: said[n] for n in _DELIVERY})

    grow.__name__ = grow.__qualname__ = verb.verb.replace("-", "_")
    grow.__signature__ = signature  # type: ignore[attr-defined]
    words = (f"{n}: {_choices(s.choices)}{s.help}" for n, s in settings.items())
    about = (inspect.getdoc(verb) or verb.summary).replace("MODEL", "a model")
    common_words = (inspect.getdoc(_grown) or "").partition("\n\n")[2]
    grow.__doc__ = f"{about}\n\n{common_words.format(settings=_indented(words))}"
    return grow


def _indented(entries: Iterable[str]) -> str:
    wrapped = (textwrap.wrap(e, 92, subsequent_indent="    ") for e in entries)
    return "\n    ".join(line for lines in wrapped for line in lines)


def _choices(choices: Collection[str]) -> str:
    return f"one of {', '.join(choices)}. " if choices else ""


widen = call(Widen)
deepen = call(Deepen)
grow_kernel = call(GrowKernel)


def apply(
    teacher: Any,
    recipe: Any,
    *,
    seed: int | None = None,
    shapes: Shapes | None = None,
    calibrate: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
    verify: str = "auto",
    sizes: str | Iterable[str] | None = None,
    require: str | None = None,
    output: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> onnx.ModelProto | Path:
    """A student grown by several steps, in one go.

    Args:
        recipe: a YAML file, its text, a mapping, or a list of steps (docs/recipes.md); or a
            student, whose provenance is replayed byte for byte.
        seed: instead of the recipe's.
        calibrate: data that a student's provenance names by its hash, input name -> array.
        teacher, shapes, verify, sizes, require, output, force: see `widen`.

    Returns, raises: see `widen`; what is wrong in a file begins with its name and line.

    >>> import onnx_net2net as n2n
    >>> steps = [{"everywhere": True, "ratio": 1.5}, {"verb": "deepen", "every": "Relu"}]
    >>> student = n2n.apply("models/digits_cnn.onnx", steps)  # doctest: +SKIP
    """
    data = [calibrate] if isinstance(calibrate, Mapping) else calibrate
    made = plan(teacher, recipe, seed=seed, shapes=shapes, calibrate=data)
    return made.apply(output, force=force, verify=verify, sizes=sizes, require=require)
