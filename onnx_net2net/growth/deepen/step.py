"""Net2DeeperNet: insert a layer that changes nothing, anywhere and for any activation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from onnx_net2net.errors import UsageError
from onnx_net2net.files.patch import Insert, Splice
from onnx_net2net.growth.result import Patched
from onnx_net2net.inference.analysis import Analysis
from .block_copy import copy_block, neighbour
from .calibration import measure
from .insertion import Graft
from .insertion_point import Point, place
from .kinds import KINDS, Choice, Plan, choose
from .layer_forms import form_of
from .verb import Deepen

MOST = 1000  # blocks in a row
_MOST_WEIGHTS = 1 << 28
_MOST_HIDDEN = 1 << 24
_ZERO_PROJECTIONS = (
    "at the first step only the zero projections learn, from the second on all layers do"
)


@dataclass(frozen=True)
class Placed:
    """Where the new layers stand: behind `tensor`, in front of `readers`.

    `producer`: the node that writes the tensor, "" for a graph input. `passed`: nodes
    between the layer that was named and the tensor. `output`: the tensor leaves the model,
    so it keeps its name.
    """

    tensor: str
    producer: str
    readers: tuple[str, ...]
    passed: tuple[str, ...]
    output: bool
    axis: int
    channels: int


@dataclass(frozen=True)
class Deepening(Patched):
    """A patch that inserts layers, and what it does.

    `kind` was taken because of `why`. `nodes` and `parameters` are new names.
    """

    kind: str
    why: str
    placed: Placed
    nodes: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """See `Result.record`; besides, where the new layers stand."""
        return {**super().record(), "placed": asdict(self.placed)}


def deepen(analysis: Analysis, asked: Deepen) -> Deepening:
    """Insert layers that leave the function as it is (Net2Net, section 2.3).

    Args:
        analysis: of the teacher.
        asked: one place, `after` or `before` a tensor or node (see `insertion_point.place`), and
            what to insert there (docs/growth-operators.md, D1-D7).

    Raises:
        RefusalError: no exact way at that point.
        AmbiguousError: a name fits nothing or several things.
        UsageError: arguments that do not go together.
    """
    if asked.count > MOST:
        raise UsageError(f"count is {asked.count}", f"give a number from 1 to {MOST}")
    point = place(analysis, asked)
    choice = choose(analysis, point, asked.kind, asked.activation)
    _check(asked, choice, point)
    block = neighbour(analysis, point) if _copies(asked, choice, point) else None
    if block is not None:
        why = f"a copy of the block that starts at '{block.start}', its output projections zero"
        graft, patch = _built(analysis, point, asked.count, lambda g, x: copy_block(g, block, x))
        return _deepening(point, graft, patch, replace(choice, why=why), [_ZERO_PROJECTIONS], True)
    build, plan = KINDS[choice.kind].build, _plan(asked, point, choice)
    graft, patch = _built(analysis, point, asked.count, lambda g, x: build(g, plan, x))
    if asked.calibrate is not None:
        data = asked.calibrate
        found = measure(analysis.source, analysis.model, patch, graft.normalised, data)
        known = replace(plan, statistics=found)
        graft, patch = _built(analysis, point, asked.count, lambda g, x: build(g, known, x))
    warnings = _warnings(analysis, point, choice, plan, graft, asked.calibrate is not None)
    return _deepening(point, graft, patch, choice, warnings, not plan.random)


def _check(asked: Deepen, choice: Choice, point: Point) -> None:
    """Raise UsageError where the settings do not go together."""
    kind = KINDS[choice.kind]
    if asked.init == "random" and not kind.random:
        raise UsageError(f"kind {choice.kind} has no random baseline", "use identity or residual")
    if asked.inner is not None and not kind.hidden:
        raise UsageError(f"inner is the hidden width of kind residual, not of {choice.kind}")
    if asked.calibrate is not None and (not asked.batchnorm or point.scope):
        what = "does not reach into subgraphs" if asked.batchnorm else "needs batchnorm"
        raise UsageError(f"calibration {what}")


def _copies(asked: Deepen, choice: Choice, point: Point) -> bool:
    """Whether a whole block is to be copied: nothing asked for but a residual one, on tokens."""
    own = ("kernel", "activation", "inner", "init", "batchnorm", "groups", "depthwise")
    plain = all(getattr(asked, k) == asked.settings()[k].default for k in own)
    return choice.kind == "residual" and plain and (point.rank, point.axis) == (3, 2)


def _plan(asked: Deepen, point: Point, choice: Choice) -> Plan:
    n = point.size
    groups = n if asked.depthwise else asked.groups
    if groups > 1 and KINDS[choice.kind].mixes:
        raise UsageError("kind pair mixes each channel with its negative", "leave groups out")
    width = asked.inner or min(n, max(1, _MOST_HIDDEN // n))
    width = -(-width // groups) * groups
    if n % groups:
        raise UsageError(f"{groups} groups do not divide {n} channels")
    window = asked.kernel or _window(point, choice)
    form = form_of(point, window, groups, False)
    outputs = KINDS[choice.kind].outputs(n, width)
    weights = outputs * (n // groups) * window**form.spatial
    if weights > _MOST_WEIGHTS:
        raise UsageError(
            f"a layer over {n} channels would have {weights:,} weights",
            "give groups, a smaller kernel, or kind residual with inner",
        )
    if asked.batchnorm:
        form = form_of(point, window, groups, True)
    return Plan(
        form, n, choice.activation, window, groups, asked.batchnorm, width, choice.shift,
        asked.init == "random", asked.seed or 0,
    )  # fmt: skip


def _window(point: Point, choice: Choice) -> int:
    """The paper's new layer has a window where the layer before it has one."""
    shape = point.layer.attr("kernel_shape") or [1]
    convolved = point.axis == 1 and 3 <= (point.rank or 0) <= 5 and point.dtype != np.float64
    return 3 if choice.kind == "identity" and convolved and max(shape) > 1 else 1


def _built(
    analysis: Analysis, point: Point, count: int, build: Callable[[Graft, str], str]
) -> tuple[Graft, list[Splice | Insert]]:
    """So many blocks in a row, and their patch."""
    graft = Graft(analysis, point)
    source = graft.editor.fresh(f"{point.name}_before_deeper") if point.keeps_name else point.name
    last = source
    for _ in range(count):
        last = build(graft, last)
    return graft, graft.patch(last, source)


def _deepening(
    point: Point, graft: Graft, patch: list[Splice | Insert], choice: Choice,
    warnings: list[str], preserving: bool,
) -> Deepening:  # fmt: skip
    readers = tuple(dict.fromkeys(n.name for n, _ in point.readers))
    maker = graft.analysis.model.producer.get(point.tensor)
    placed = Placed(
        point.tensor, maker.name if maker is not None else "", readers, point.passed,
        point.keeps_name, point.axis, point.size,
    )  # fmt: skip
    nodes = tuple(n.name for n in graft.nodes)
    parameters = tuple(t.name for t in graft.editor.added)
    return Deepening(
        patch, Deepen.verb, choice.kind, choice.why, placed, nodes,
        parameters=parameters, preserving=preserving, warnings=tuple(warnings),
    )  # fmt: skip


def _warnings(
    analysis: Analysis, point: Point, choice: Choice, plan: Plan, graft: Graft, calibrated: bool
) -> list[str]:
    found = []
    if plan.random:
        found.append("random weights: the student does not compute the teacher's function")
    elif KINDS[choice.kind].learns:
        found.append(KINDS[choice.kind].learns)
    if plan.batchnorm and not calibrated:
        found.append(
            "BatchNormalization has default statistics: the first training batches move the "
            "activations far from the teacher's; give calibration data to avoid that"
        )
    scale = plan.activation.row.scale if plan.activation else 1.0
    if choice.kind == "identity" and scale != 1:
        found.append("the weights undo the activation's scale, so it is exact up to rounding")
    if plan.form.kind == "conv" and point.dtype == np.float64:
        found.append("onnxruntime's CPU provider has no convolution for doubles")
    new = sum(int(np.prod(t.dims)) for t in graft.editor.added)
    old = sum(int(np.prod(f.shape)) for f in analysis.model.leaves.values())
    if new > max(old, 1 << 20):
        found.append(f"{new:,} new parameters, more than the model's {old:,}")
    return found
