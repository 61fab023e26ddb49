"""Both models in onnxruntime, the deviation in multiples of the teacher's own noise floor."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnx_net2net.errors import UsageError
from onnx_net2net.graph.model import Model
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.typing import Array
from onnx_net2net.verification.runtime import inputs as feeds
from onnx_net2net.verification.runtime.inputs import Feed, Sizes
from onnx_net2net.verification.runtime.judgement import Seen, judged
from onnx_net2net.verification.runtime.noise import floors, is_float, magnitude, nudged
from onnx_net2net.verification.runtime.sessions import ProviderError, Session
from onnx_net2net.verification.sides import Sides
from onnx_net2net.verification.verdict import Layer, Status

_JUMPS = frozenset(
    "ArgMax ArgMin TopK NonMaxSuppression Round Floor Ceil Sign Hardmax Greater Less Equal "
    "GreaterOrEqual LessOrEqual QuantizeLinear DynamicQuantizeLinear NonZero Unique Cast If Loop "
    "RoiAlign".split()
)
_PATIENCE = 60.0
_MOST = 300  # characters of a message of onnxruntime's


@dataclass
class Plan:
    """What to run."""

    provider: str = "cpu"
    seeds: int = 3
    thorough: bool = False
    given: Sequence[Feed] = ()
    facts: Sequence[Facts] = ()


class _StopError(Exception):
    """The layer ends here with this status and reason."""

    def __init__(self, status: Status, detail: str) -> None:
        self.status, self.detail = status, detail


def compare(sides: Sides, plan: Plan) -> tuple[Layer, Seen]:
    """Run both models on everything that the plan asks for.

    Raises:
        ProviderError: the provider is not usable here.
        UsageError: the teacher does not run on the user's own data.
    """
    seen = Seen()
    try:
        status, detail, figures = _compared(sides, plan, seen)
    except _StopError as stop:
        return Layer("runtime", stop.status, stop.detail), seen
    return Layer("runtime", status, detail, figures=figures), seen


def _compared(sides: Sides, plan: Plan, seen: Seen) -> tuple[Status, str, dict[str, Any]]:
    _fits_memory(sides)
    teacher, student = _loaded(sides, plan.provider)
    ghosts = _ghosts(sides, plan.provider)
    jumping = _behind_jumps(sides.teacher.model)
    seen.names = list(teacher.outputs)
    rows: list[tuple[Feed, list[Array], list[Array]]] = []
    started = time.monotonic()
    for k, (feed, before) in enumerate(_teacher_runs(sides, plan, teacher)):
        try:
            after = flat(student.run(feed.values))
        except Exception as why:  # onnxruntime's errors have no common base but Exception
            seen.wrong = feed
            raise _StopError(
                Status.FAILED, f"the student does not run on {feed.label}: {_brief(why)}"
            ) from None
        rows.append((feed, before, after))
        seen.feeds.append((feed, before))
        moved = _moved(ghosts, k, feed)
        if moved is not None:
            seen.floors = floors([(before, moved)], seen.floors)
            jumping |= _flipped(before, moved)
        for i, a in enumerate(before):
            if is_float(a):
                seen.scales[i] = max(seen.scales.get(i, 0.0), magnitude(a))
        if time.monotonic() - started > _PATIENCE and len(rows) > 1:
            break
    known = bool(seen.floors)
    seen.floors = floors([(b, b) for _, b, _ in rows], seen.floors)
    return judged(rows, seen, jumping, known)


def _free_memory() -> int | None:
    """Bytes that can be had; None where the system does not say."""
    try:
        with open("/proc/meminfo") as lines:
            return next(int(x.split()[1]) for x in lines if x.startswith("MemAvailable")) << 10
    except (OSError, StopIteration, ValueError):
        return None


def _fits_memory(sides: Sides) -> None:
    free = _free_memory()
    need = 4 * (sides.teacher.size + sides.student.size)
    if free is not None and need > free:
        raise _StopError(
            Status.SKIPPED, f"too large to run here: {need >> 20} MiB wanted, {free >> 20} free"
        )


def _loaded(sides: Sides, provider: str) -> tuple[Session, Session]:
    try:
        teacher = Session(sides.teacher, provider=provider)
    except (ProviderError, UsageError):
        raise
    except Exception as why:  # onnxruntime's errors have no common base but Exception
        raise _StopError(Status.SKIPPED, f"onnxruntime cannot run it: {_brief(why)}") from None
    try:
        return teacher, Session(sides.student, provider=provider)
    except ProviderError:
        raise
    except Exception as why:
        said = f"onnxruntime does not load the student: {_brief(why)}"
        alien = _alien(sides)
        if alien:
            raise _StopError(Status.SKIPPED, f"{said}; {alien}") from None
        raise _StopError(Status.FAILED, said) from None


def _alien(sides: Sides) -> str:
    """What of the student this onnxruntime, which loads the teacher, may lack; "" if nothing."""
    teacher, student = sides.teacher.model, sides.student.model
    for domain, version in student.opsets.items():
        if teacher.opsets.get(domain) != version:
            return f"its opset is {domain or 'ai.onnx'} {version}, which the teacher's is not"
    if student.proto.ir_version > teacher.proto.ir_version:
        return f"its IR version is {student.proto.ir_version}, which the teacher's is not"
    new = {n.op for n in student.nodes if "." in n.op or onnx.defs.has(n.op, n.version)}
    new -= {n.op for n in teacher.nodes}
    return f"the teacher has no {', '.join(sorted(new)[:3])}" if new else ""


def _ghosts(sides: Sides, provider: str) -> list[Session]:
    """The teacher with the weights that differ (else all) moved by one ulp, two draws."""
    side = sides.teacher
    names = sides.changed(side) or sides.floats(side)
    try:
        return [
            Session(side, side.with_arrays(nudged(side, names, draw)), provider)
            for draw in range(2)
        ]
    except ProviderError:
        raise
    except Exception:  # too large, or a nudge that onnxruntime rejects: no floor is known
        return []


def _moved(ghosts: Sequence[Session], k: int, feed: Feed) -> list[Array] | None:
    try:
        return flat(ghosts[k % len(ghosts)].run(feed.values)) if ghosts else None
    except Exception:  # as above
        return None


def _teacher_runs(sides: Sides, plan: Plan, teacher: Session) -> Iterator[tuple[Feed, list[Array]]]:
    for feed in plan.given:
        try:
            yield feed, flat(teacher.run(feed.values))
        except Exception as why:
            said = f"the teacher does not run on {feed.label}: {_brief(why)}"
            raise UsageError(said, "give data that it runs on") from None
    model, ran, why_not = sides.teacher.model, bool(plan.given), ""
    try:
        places = feeds.sizes(model, plan.facts)
    except LookupError as why:
        places, why_not = [], str(why)
    limits = feeds.integer_limits(model, plan.facts[0]) if plan.facts else {}
    third_done = False
    for at, kind, seed in feeds.schedule(plan.seeds, places, plan.thorough):
        if third_done and at is places[-1] and at is not places[2]:
            continue
        for bound in (limits, dict.fromkeys(model.inputs, 1)):
            try:
                feed = feeds.random_feed(model, at, kind, seed, bound)
                outcome = flat(teacher.run(feed.values))
            except Exception as why:
                why_not = _brief(why)
                continue
            ran, third_done = True, third_done or _is_third(at, places)
            yield feed, outcome
            break
    if not ran:
        raise _StopError(Status.SKIPPED, f"the teacher did not run: {why_not}")


def _is_third(at: Sizes, places: Sequence[Sizes]) -> bool:
    return any(at is p for p in places[2:])


def flat(outputs: Sequence[Any]) -> list[Array]:
    """Outputs as arrays; sequences and maps are taken apart."""
    found: list[Array] = []
    for value in outputs:
        if isinstance(value, (list, tuple)):
            found += flat(value)
        elif isinstance(value, Mapping):
            found.append(np.asarray(list(value.values())))
        else:
            found.append(np.asarray(value))
    return found


def _flipped(before: list[Array], moved: list[Array]) -> set[int]:
    """Outputs without a float that the teacher's own noise changes."""
    return {
        k
        for k, (a, b) in enumerate(zip(before, moved, strict=False))
        if a.shape != b.shape or (not is_float(a) and not np.array_equal(a, b))
    }


def _behind_jumps(model: Model) -> set[int]:
    """Outputs that depend on an operator which is not continuous."""
    jumpy = set[str]()
    for node in model.nodes:
        reads = [t for t in (*node.inputs, *node.captured) if t]
        jumps = node.op in _JUMPS and any(t not in model.constant for t in reads)
        if jumps or any(t in jumpy for t in reads):
            jumpy.update(node.outputs)
    return {k for k, o in enumerate(model.outputs) if o in jumpy}


def _brief(why: BaseException) -> str:
    text = " ".join(str(why).split())
    return textwrap.shorten(text, _MOST, placeholder=" ...") if len(text) > _MOST else text
