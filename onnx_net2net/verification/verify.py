"""Are two models the same function? Layered checks, cheapest and sharpest first.

Nothing here knows how the student was made: only the two models are looked at.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onnx_net2net.errors import ModelError, UsageError
from onnx_net2net.inference import validity
from onnx_net2net.inference.input_sizes import given_sizes, inference_of, symbols
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.inference.size_conditions import SizeInterval, parsed
from onnx_net2net.verification import interface
from onnx_net2net.verification.certificate import compare as certificate
from onnx_net2net.verification.embedding import Embedding
from onnx_net2net.verification.runtime import inputs as feeds
from onnx_net2net.verification.runtime.compare import Plan, compare
from onnx_net2net.verification.runtime.judgement import Seen
from onnx_net2net.verification.runtime.process import ProviderError, Runtime, running
from onnx_net2net.verification.runtime.rounding import estimate
from onnx_net2net.verification.runtime.run_sizes import compared, open_axes, sizes_of, skewed_types
from onnx_net2net.verification.runtime.sensitivity import probe
from onnx_net2net.verification.runtime.sessions import check_provider
from onnx_net2net.verification.sides import Side, Sides
from onnx_net2net.verification.verdict import Claim, Layer, Status, Terms, Verdict, conclude

LAYERS = ("auto", "certificate", "full")


def verify(
    teacher: Any,
    student: Any,
    *,
    inputs: Any = None,
    provider: str = "cpu",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    layers: str = "auto",
    seeds: int = 3,
    sizes: str | Iterable[str] | None = None,
    require: str | None = None,
    max_rounding: float | None = None,
    save_inputs: str | os.PathLike[str] | None = None,
    full_hash: bool = False,
) -> Verdict:
    """Tell whether two models are the same function of their inputs.

    Where the student declares to have grown its interface, the teacher's lies at the first
    positions of it: new ones of an input may hold anything, those of an output do not count.

    Args:
        teacher: path, bytes, ModelProto, gs.Graph or Source; likewise `student`.
        inputs: your own data: an .npz path, a mapping of arrays, or a list of these.
        provider: `cpu` or `cuda`.
        shapes: input name -> sizes, for inputs that declare none.
        layers: `auto` (the certificate, and onnxruntime where it can run the models),
            `certificate` (the two files alone) or `full` (every input kind and seed at every
            size, and the sensitivity of the outputs).
        seeds: how many random inputs.
        sizes: those that you will use, as relations between the model's symbols and integers
            (`sequence<=512`; an axis without a name is `INPUT.AXIS`): no other is looked at, and
            a proof for these is enough.
        require: `proved`: agreement on runs alone is not enough.
        max_rounding: how far rounding may move an output, as a share of its largest value;
            not given: 1e-3, and 1e-1 where weights or outputs have 16 bits.
        save_inputs: where to write inputs on which the models differ.
        full_hash: compare byte by byte also weights that the student keeps in its teacher's file.

    Raises:
        ModelError: one of them is not a usable model.
        ProviderError: the provider is not usable on this machine.
        UsageError: an argument, or inputs or sizes that the teacher does not take.

    >>> from onnx import TensorProto, helper
    >>> x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy")
    >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    >>> model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    >>> bool(verify(model, model, layers="certificate"))
    True
    """
    if layers not in LAYERS:
        raise UsageError(f"no layers '{layers}'", f"choose from {', '.join(LAYERS)}")
    if not isinstance(seeds, int) or seeds < 1:
        raise UsageError(f"seeds is {seeds!r}", "give a whole number from 1")
    if require not in (None, "proved"):
        raise UsageError(f"'{require}' cannot be required", "only 'proved' can")
    with _blaming("teacher"):
        first = Side.of(teacher)
    with _blaming("student"):
        second = Side.of(student)
    terms = Terms(_wanted(sizes, first), require == "proved")
    embedding = Embedding.of(first.model, second.model)
    found = [_timed(lambda: interface.compare(first.model, second.model, embedding))]
    if found[0].status is Status.FAILED:
        return conclude(tuple(found), terms)
    given = given_sizes(shapes)
    _fit_together(given, first, terms.sizes)
    own = feeds.given(inputs, first.model)
    with _runtime(layers, provider) as runtime:
        with _blaming("teacher"):
            known = _sizes(first, own, given)
            facts = _facts(first, known)
        with _blaming("student"):
            theirs = _facts(second, embedding.sizes(known))
        embedding = Embedding.of(first.model, second.model, facts[0].shapes)
        sides = Sides(first, replace(second, embedding=embedding), full_hash)
        found.append(_timed(lambda: certificate.compare(sides, facts, theirs)))
        if runtime is None:
            return conclude(tuple(found), terms)
        covered = partial(_covers, found[-1], first)
        plan = Plan(
            provider, seeds, layers == "full", own, facts,
            [*compared(first.model, facts), *compared(second.model, theirs)],
            terms.sizes, bool(given), covered, max_rounding,
        )  # fmt: skip
        further, wrong = _run(sides, plan, runtime, found[-1])
    saved = _saved(wrong, save_inputs, covered(wrong)) if wrong is not None else None
    return conclude((*found, *further), terms, saved)


def _run(
    sides: Sides, plan: Plan, runtime: Runtime, proof: Layer
) -> tuple[list[Layer], feeds.Feed | None]:
    """What running says, and inputs on which the models differ."""
    seen: list[Seen] = []

    def run() -> Layer:
        layer, what = compare(sides, plan, runtime)
        seen.append(what)
        return layer

    found = [_timed(run)]
    proved, relative = proof.status is Status.PASSED, proof.figures.get("rounding")
    if proved and relative:
        how = seen[0], relative, plan.cap, plan.provider, runtime
        found.append(_timed(lambda: estimate(sides, *how)))
    if found[0].status is Status.PASSED and (plan.thorough or not proved):
        found.append(_timed(lambda: probe(sides, seen[0], plan.provider, runtime)))
    return found, seen[0].wrong


def _wanted(sizes: str | Iterable[str] | None, teacher: Side) -> dict[str, SizeInterval]:
    """What the caller says of each open size."""
    if sizes is None:
        return {}
    known = [d for axes in open_axes(teacher.model).values() for d in axes if isinstance(d, str)]
    text = sizes if isinstance(sizes, str) else ",".join(sizes)
    return parsed(text, list(dict.fromkeys(known)))


def _fit_together(
    shapes: Mapping[str, tuple[int, ...]], teacher: Side, wanted: Mapping[str, SizeInterval]
) -> None:
    """Refuse sizes that contradict one another, or those that the caller will use."""
    seen: dict[str, tuple[int, str]] = {}
    for name, axes in open_axes(teacher.model).items():
        for d, size in zip(axes, shapes.get(name, ()), strict=False):
            if isinstance(d, int):
                continue
            first, where = seen.setdefault(d, (size, name))
            low, high = wanted.get(d, (0, size))
            if first != size or not low <= size <= high:
                other = f"is {first} in '{where}'" if first != size else "may not be, by sizes"
                raise UsageError(f"'{d}' is {size} in '{name}' and {other}", "give one size for it")


def _covers(proof: Layer, teacher: Side, feed: feeds.Feed) -> bool:
    """Whether the proof holds at the sizes of some inputs."""
    if proof.status is not Status.PASSED or proof.covered is None:
        return proof.status is Status.PASSED
    sizes = sizes_of(teacher.model, {n: np.shape(v) for n, v in feed.values.items()})
    return proof.covered.accepted(sizes)


def _runtime(layers: str, provider: str) -> AbstractContextManager[Runtime | None]:
    """A process to run models in, which starts while the proof is sought."""
    check_provider(provider)
    return nullcontext() if layers == "certificate" else running()


def _saved(wrong: feeds.Feed, path: str | os.PathLike[str] | None, proved: bool) -> Path | None:
    """Where the inputs that show a difference were written: where asked, or, if the proof says
    that there is none, among the temporary files."""
    if path is None and proved:
        folder = tempfile.mkdtemp(prefix="onnx-net2net-")
        path = Path(folder) / "inputs.npz"
    return None if path is None else feeds.save(wrong, Path(path))


@contextmanager
def _blaming(which: str) -> Iterator[None]:
    """Say in a ModelError which of the two models it is about."""
    try:
        yield
    except ModelError as why:
        why.prefix(which)
        raise


def _facts(side: Side, shapes: Mapping[str, tuple[int, ...]]) -> list[Facts]:
    """What holds at two sizes, and where possible at a third at which no two are alike.

    Raises:
        ModelError: a model that no runtime runs.
    """
    first, second = validity.checked(side.source, side.model, shapes)
    types = skewed_types(side.model, (first, second))
    if types is not None:
        with suppress(ModelError):
            third = inference_of(side.source, side.model).run(types)
            return [first, second] + [third] * (len(third.failed) <= len(first.failed))
    return [first, second]


def _sizes(
    teacher: Side, own: Sequence[feeds.Feed], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Sizes that are given; an input that declares none has those of the user's data."""
    undeclared = [n for n, shape in symbols(teacher.model).items() if shape is None]
    return {n: own[0].values[n].shape for n in undeclared if own} | dict(shapes)


def _timed(check: Callable[[], Layer]) -> Layer:
    start = time.perf_counter()
    layer = check()
    return replace(layer, seconds=time.perf_counter() - start)


__all__ = ["Claim", "Layer", "ProviderError", "Status", "Verdict", "verify"]
