"""Are two models the same function? Layered checks, cheapest and sharpest first.

Nothing here knows how the student was made: only the two models are looked at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_net2net.errors import ModelError, UsageError
from onnx_net2net.inference import validity
from onnx_net2net.inference.input_sizes import given_sizes, inference_of, symbols
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.verification import interface
from onnx_net2net.verification.certificate import compare as certificate
from onnx_net2net.verification.embedding import Embedding
from onnx_net2net.verification.runtime import inputs as feeds
from onnx_net2net.verification.runtime.sessions import ProviderError
from onnx_net2net.verification.sides import Side, Sides
from onnx_net2net.verification.verdict import Layer, Status, Verdict, conclude

if TYPE_CHECKING:
    from onnx_net2net.verification.runtime.judgement import Seen

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
        save_inputs: where to write inputs on which the models differ.
        full_hash: compare byte by byte also weights that the student keeps in its teacher's file.

    Raises:
        ModelError: one of them is not a usable model.
        ProviderError: the provider is not usable on this machine.
        UsageError: an argument, or inputs that the teacher does not take.

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
    with _blaming("teacher"):
        first = Side.of(teacher)
    with _blaming("student"):
        second = Side.of(student)
    embedding = Embedding.of(first.model, second.model)
    found = [_timed(lambda: interface.compare(first.model, second.model, embedding))]
    if found[0].status is Status.FAILED:
        return conclude(tuple(found))
    own = feeds.given(inputs, first.model)
    with _blaming("teacher"):
        known = _sizes(first, own, shapes)
        facts = _facts(first, known)
    with _blaming("student"):
        theirs = _facts(second, embedding.sizes(known))
    embedding = Embedding.of(first.model, second.model, facts[0].shapes)
    sides = Sides(first, replace(second, embedding=embedding), full_hash)
    found.append(_timed(lambda: certificate.compare(sides, facts, theirs)))
    if layers == "certificate":
        return conclude(tuple(found))
    from onnx_net2net.verification.runtime import compare as runtime
    from onnx_net2net.verification.runtime import sensitivity

    plan = runtime.Plan(provider, seeds, layers == "full", own, facts)
    seen: list[Seen] = []

    def run() -> Layer:
        layer, what = runtime.compare(sides, plan)
        seen.append(what)
        return layer

    found.append(_timed(run))
    certain = any(y.name == "certificate" and y.status is Status.PASSED for y in found)
    if found[-1].status is Status.PASSED and (layers == "full" or not certain):
        found.append(_timed(lambda: sensitivity.probe(sides, seen[0], provider)))
    saved = None
    if save_inputs is not None and seen[0].wrong is not None:
        saved = feeds.save(seen[0].wrong, Path(save_inputs))
    return conclude(tuple(found), saved)


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
    types = feeds.skewed(side.model, (first, second))
    if types is not None:
        with suppress(ModelError):
            third = inference_of(side.source, side.model).run(types)
            return [first, second] + [third] * (len(third.failed) <= len(first.failed))
    return [first, second]


def _sizes(
    teacher: Side, own: Sequence[feeds.Feed], shapes: Mapping[str, tuple[int, ...]] | None
) -> dict[str, tuple[int, ...]]:
    """Sizes that are given; an input that declares none has those of the user's data."""
    undeclared = [n for n, shape in symbols(teacher.model).items() if shape is None]
    return {n: own[0].values[n].shape for n in undeclared if own} | given_sizes(shapes)


def _timed(check: Callable[[], Layer]) -> Layer:
    start = time.perf_counter()
    layer = check()
    return replace(layer, seconds=time.perf_counter() - start)


__all__ = ["Layer", "ProviderError", "Status", "Verdict", "verify"]
