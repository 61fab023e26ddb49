"""Would a damaged student have been seen? Equal outputs prove nothing where nothing shows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnx_net2net.errors import ModelError
from onnx_net2net.typing import Array
from onnx_net2net.verification.runtime.judgement import Seen
from onnx_net2net.verification.runtime.noise import deviation, is_float
from onnx_net2net.verification.runtime.process import DiedError, RunError, Runtime
from onnx_net2net.verification.runtime.sessions import Session
from onnx_net2net.verification.sides import Sides
from onnx_net2net.verification.verdict import Layer, Status

DAMAGE = 1.01
_TENSORS = 6
_CHANNELS = 2


def probe(sides: Sides, seen: Seen, provider: str, runtime: Runtime) -> Layer:
    """Scale one channel of a changed weight by 1.01, a few times, and look at the outputs."""
    tried = visible = 0
    for name, channels in _targets(sides):
        found = False
        for damaged in channels:
            try:
                found = _shows(sides, {name: damaged}, seen, provider, runtime)
            except (ModelError, MemoryError):
                return Layer("sensitivity", Status.SKIPPED, "the model is too large to damage")
            except (RunError, DiedError):  # whoever does not run at all is seen, too
                found = True
            if found:
                break
        tried, visible = tried + 1, visible + found
    figures = {"tried": tried, "visible": visible}
    if tried and visible == tried:
        return Layer(
            "sensitivity", Status.PASSED, f"{visible} of {tried} damages show at the outputs",
            figures=figures,
        )  # fmt: skip
    detail = (
        f"{tried - visible} of {tried} damaged weights would not have been seen at the outputs"
        if tried
        else "there is no weight to damage"
    )
    return Layer("sensitivity", Status.UNDECIDED, detail, figures=figures)


def _targets(sides: Sides) -> Iterator[tuple[str, list[Array]]]:
    """Changed weights of the student, each with a channel damaged in a few ways."""
    side = sides.student
    names = sides.changed(side) or sides.floats(side)
    names.sort(key=lambda n: -len(side.model.leaves[n].shape))
    step = max(1, len(names) // _TENSORS)
    for name in names[::step][:_TENSORS]:
        array = side.array(side.model.leaves[name])
        if array is None or not array.size or not np.any(array):
            continue
        yield name, list(_damaged(array))


def _damaged(array: Array) -> Iterator[Array]:
    flat = np.abs(array.astype(np.float64))
    axis = 0 if array.ndim else None
    if axis is None:
        yield (array.astype(np.float64) * DAMAGE).astype(array.dtype)
        return
    weights = flat.reshape(len(array), -1).sum(1)
    for at in np.argsort(-weights, kind="stable")[:_CHANNELS]:
        other = array.copy()
        other[at] = (array[at].astype(np.float64) * DAMAGE).astype(array.dtype)
        yield other


def _shows(
    sides: Sides, arrays: dict[str, Array], seen: Seen, provider: str, runtime: Runtime
) -> bool:
    side = sides.student
    session = Session(runtime, side, provider, lambda: side.with_arrays(arrays))
    try:
        for run in seen.runs:
            outputs = session.run(run.feed.values)
            for k, (a, b) in enumerate(zip(run.before, outputs, strict=False)):
                if (
                    deviation(a, b) > seen.threshold(k, a)
                    if is_float(a)
                    else not np.array_equal(a, b)
                ):
                    return True
        return False
    finally:
        session.close()
