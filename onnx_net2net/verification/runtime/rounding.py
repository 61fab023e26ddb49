"""What the rounding that a proof passed over does to the outputs: an estimate, never a bound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnx_net2net.errors import ModelError
from onnx_net2net.verification.runtime.judgement import Run, Seen, capped
from onnx_net2net.verification.runtime.noise import distances, is_float, magnitude, shaken
from onnx_net2net.verification.runtime.process import DiedError, RunError, Runtime
from onnx_net2net.verification.runtime.sessions import Session
from onnx_net2net.verification.sides import FLOATS, Sides
from onnx_net2net.verification.verdict import Layer, Status

_DRAWS = 2
_RUNS = 4


def estimate(
    sides: Sides, seen: Seen, relative: float, cap: float | None, provider: str, runtime: Runtime
) -> Layer:
    """Move the teacher's weights by as much as the student's are off, and look at the outputs.

    Args:
        relative: how far weights are off, as a share of the largest of their row.
        cap: how far an output may move, relative to its largest; None: by its type.
    """
    runs = _chosen(seen.runs)
    try:
        moved = max(_moved(sides, runs, relative, provider, runtime), default=None)
    except (ModelError, RunError, DiedError, MemoryError) as why:
        return _unknown(relative, str(why))
    if moved is None:
        return _unknown(relative, "nothing was run")
    share, output = moved
    limit = cap if cap is not None else max(
        [capped(run.before[output], cap) for run in runs] + [_coarse(sides)]
    )  # fmt: skip
    figures = {"estimate": share, "cap": limit, "runs": len(runs)}
    said = (
        f"a rounding of {relative:.1g} of a weight moves an output by {share:.1g} of its largest "
        f"value, as estimated from {len(runs)} runs at {runs[0].feed.sizes}"
    )
    if share <= limit:
        return Layer("rounding", Status.PASSED, said, figures=figures)
    return Layer(
        "rounding", Status.UNDECIDED,
        f"this model amplifies rounding: {said}, more than {limit:.0e}", figures=figures,
    )  # fmt: skip


def _unknown(relative: float, why: str) -> Layer:
    detail = f"what a rounding of {relative:.1g} of a weight does was not estimated: {why}"
    return Layer("rounding", Status.SKIPPED, detail)


def _chosen(runs: Sequence[Run]) -> list[Run]:
    """The first at each of a few sizes, the least ones."""
    first = {run.feed.sizes: run for run in reversed(runs)}
    return sorted(first.values(), key=lambda r: sum(v.size for v in r.feed.values.values()))[:_RUNS]


def _moved(
    sides: Sides, runs: Sequence[Run], relative: float, provider: str, runtime: Runtime
) -> Iterator[tuple[float, int]]:
    """By how much of its largest value each output moves."""
    side = sides.teacher
    names = sides.changed(side) or sides.floats(side)
    for draw in range(_DRAWS):
        data = side.with_arrays(shaken(side, names, draw, relative))
        session = Session(runtime, side, provider, lambda data=data: data)  # type: ignore[misc]
        for run in runs:
            outputs = session.run(run.feed.values)
            for k, (a, b) in enumerate(zip(run.before, outputs, strict=False)):
                alike = is_float(a) and a.shape == b.shape
                off = float(distances(a, b).max(initial=0.0)) if alike else 0.0
                yield (off / magnitude(a) if off else 0.0), k
        session.close()


def _coarse(sides: Sides) -> float:
    """The cap where changed weights are of 16 bits, 0 otherwise."""
    import onnx

    half = FLOATS - {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}
    leaves = sides.teacher.model.leaves
    return 1e-1 if any(leaves[n].dtype in half for n in sides.changed(sides.teacher)) else 0.0
