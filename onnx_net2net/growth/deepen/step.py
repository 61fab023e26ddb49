"""Net2DeeperNet: insert a layer that changes nothing, anywhere and for any activation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from onnx_net2net.errors import UsageError
from onnx_net2net.files.patch import Insert, Splice
from onnx_net2net.growth.deepen.block_copy import Block, copy_block, neighbour
from onnx_net2net.growth.deepen.blocks import BLOCKS, Plan
from onnx_net2net.growth.deepen.calibration import measure
from onnx_net2net.growth.deepen.insertion import Graft
from onnx_net2net.growth.deepen.insertion_point import Point, place
from onnx_net2net.growth.deepen.kinds import Choice, choose
from onnx_net2net.growth.deepen.layer_forms import form_of
from onnx_net2net.growth.result import Shapes
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.activations import Activation
from onnx_net2net.typing import Array

MOST = 1000  # blocks in a row
_MOST_WEIGHTS = 1 << 28
_MOST_HIDDEN = 1 << 24


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
class Deepening:
    """A patch that inserts layers, and what it does.

    `preserving`: the student computes the teacher's function. `kind` was taken because of
    `why`. `nodes` and `parameters` are new names.
    """

    patch: list[Splice | Insert]
    preserving: bool
    kind: str
    why: str
    placed: Placed
    nodes: tuple[str, ...]
    parameters: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def sizes(self, shapes: Shapes | None) -> Shapes | None:
        """As they were."""
        return shapes

    def record(self) -> dict[str, Any]:
        """See `Result.record`; besides, where the new layers stand."""
        found = dict.fromkeys(("tensors", "attributes", "literals"), ())
        return {"verb": "deepen", **found, "placed": asdict(self.placed)}


def deepen(
    analysis: Analysis,
    *,
    after: str | None = None,
    before: str | None = None,
    kind: str = "auto",
    kernel: int | None = None,
    activation: str | None = None,
    groups: int = 1,
    depthwise: bool = False,
    batchnorm: bool = False,
    calibrate: Mapping[str, Array] | None = None,
    count: int = 1,
    only_into: str | None = None,
    init: str = "identity",
    inner: int | None = None,
    seed: int = 0,
) -> Deepening:
    """Insert layers that leave the function as it is (Net2Net, section 2.3).

    Args:
        after, before: a tensor or a node, see `placement.place`.
        kind: `identity` (a layer and an activation that is the identity on the values that
            occur), `linear`, `residual` (x + f(x), f zero), `pair`, `shift`
            (growth-operators.md D1-D7), or `auto`: identity where legal, else residual.
        kernel: window size; 3 for identity behind a convolution with a window, else 1.
        activation: instead of the one that made the tensor.
        groups, depthwise: of the convolution.
        batchnorm: a BatchNormalization behind the (first) layer.
        calibrate: input name -> array, data for its statistics.
        count: how many blocks, one behind the other.
        only_into: the one consumer to feed.
        init: `random`: the baseline that does not preserve.
        inner: width of the hidden layer of a residual block.
        seed: keys random weights; same seed, same bytes.

    Raises:
        RefusalError: no exact way at that point.
        AmbiguousError: a name fits nothing or several things.
        UsageError: arguments that do not go together.
    """
    if not 1 <= count <= MOST:
        raise UsageError(f"count is {count}", f"give a number from 1 to {MOST}")
    point = place(analysis, after, before, only_into)
    choice = choose(analysis, point, kind, activation)
    if init not in ("identity", "random"):
        raise UsageError("init is 'identity' or 'random'")
    if (inner is not None and inner < 1) or (kernel is not None and kernel < 1):
        raise UsageError("inner and kernel are at least 1")
    if init == "random" and choice.kind in ("pair", "shift"):
        raise UsageError(f"kind {choice.kind} has no random baseline", "use identity or residual")
    if inner is not None and choice.kind != "residual":
        raise UsageError(f"inner is the hidden width of kind residual, not of {choice.kind}")
    plain = (kernel, activation, inner, init) == (None, None, None, "identity")
    block = None
    if choice.kind == "residual" and plain and not batchnorm and groups == 1 and not depthwise:
        block = _neighbour(analysis, point)
    if block is not None:
        why = f"a copy of the block that starts at '{block.start}', its output projections zero"
        return _copied(analysis, point, block, replace(choice, why=why), count)
    plan = _plan(analysis, point, choice, kernel, point.size if depthwise else groups, inner)
    plan = replace(plan, batchnorm=batchnorm, random=init == "random", seed=seed)
    if batchnorm:
        plan = replace(plan, form=form_of(point, plan.kernel, plan.groups, True))
    graft, patch = _built(analysis, point, choice, plan, count)
    if calibrate is not None:
        if not batchnorm or point.scope:
            what = "needs batchnorm" if not batchnorm else "does not reach into subgraphs"
            raise UsageError(f"calibration {what}")
        statistics = measure(analysis.source, analysis.model, patch, graft.normalised, calibrate)
        plan = replace(plan, statistics=statistics)
        graft, patch = _built(analysis, point, choice, plan, count)
    warnings = _warnings(analysis, point, choice, plan, graft, calibrate is not None)
    return _deepening(point, graft, patch, choice, warnings, init != "random")


def _neighbour(analysis: Analysis, point: Point) -> Block | None:
    """A block to copy, in a stream of tokens only."""
    if point.rank != 3 or point.axis != 2:
        return None
    return neighbour(analysis, point)


def _plan(
    analysis: Analysis, point: Point, choice: Choice, kernel: int | None, groups: int,
    inner: int | None,
) -> Plan:  # fmt: skip
    n = point.size
    if groups > 1 and choice.kind == "pair":
        raise UsageError("kind pair mixes each channel with its negative", "leave groups out")
    width = inner or min(n, max(1, _MOST_HIDDEN // n))
    width = -(-width // groups) * groups
    if n % groups:
        raise UsageError(f"{groups} groups do not divide {n} channels")
    window = kernel or _window(point, choice)
    form = form_of(point, window, groups, False)
    outputs = {"residual": width, "pair": 2 * n}.get(choice.kind, n)
    weights = outputs * (n // groups) * window**form.spatial
    if weights > _MOST_WEIGHTS:
        raise UsageError(
            f"a layer over {n} channels would have {weights:,} weights",
            "give groups, a smaller kernel, or kind residual with inner",
        )
    return Plan(form, n, choice.activation, window, groups, inner=width, shift=choice.shift)


def _window(point: Point, choice: Choice) -> int:
    """The paper's new layer has a window where the layer before it has one."""
    shape = point.layer.attr("kernel_shape") or [1]
    convolved = point.axis == 1 and 3 <= (point.rank or 0) <= 5 and point.dtype != np.float64
    return 3 if choice.kind == "identity" and convolved and max(shape) > 1 else 1


def _built(
    analysis: Analysis, point: Point, choice: Choice, plan: Plan, count: int
) -> tuple[Graft, list[Splice | Insert]]:
    graft = Graft(analysis, point)
    source = graft.editor.fresh(f"{point.name}_before_deeper") if point.keeps_name else point.name
    last = source
    for _ in range(count):
        last = BLOCKS[choice.kind](graft, plan, last)
    return graft, graft.patch(last, source)


def _copied(
    analysis: Analysis, point: Point, block: Block, choice: Choice, count: int
) -> Deepening:
    graft = Graft(analysis, point)
    source = graft.editor.fresh(f"{point.name}_before_deeper") if point.keeps_name else point.name
    last = source
    for _ in range(count):
        last = copy_block(graft, block, last)
    warning = "at the first step only the zero projections learn, from the second on all layers do"
    return _deepening(point, graft, graft.patch(last, source), choice, [warning], True)


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
        patch, preserving, choice.kind, choice.why, placed, nodes, parameters, tuple(warnings)
    )


def _warnings(
    analysis: Analysis, point: Point, choice: Choice, plan: Plan, graft: Graft, calibrated: bool
) -> list[str]:
    found = []
    if plan.random:
        found.append("random weights: the student does not compute the teacher's function")
    elif choice.kind == "residual":
        found.append("at the first step only the zero layer learns, from the second on both do")
    if plan.batchnorm and not calibrated:
        found.append(
            "BatchNormalization has default statistics: the first training batches move the "
            "activations far from the teacher's; give calibration data to avoid that"
        )
    scale = Activation(plan.activation.name).row.scale if plan.activation else 1.0
    if choice.kind == "identity" and scale != 1:
        found.append("the weights undo the activation's scale, so it is exact up to rounding")
    if plan.form.kind == "conv" and point.dtype == np.float64:
        found.append("onnxruntime's CPU provider has no convolution for doubles")
    new = sum(int(np.prod(t.dims)) for t in graft.editor.added)
    old = sum(int(np.prod(f.shape)) for f in analysis.model.leaves.values())
    if new > max(old, 1 << 20):
        found.append(f"{new:,} new parameters, more than the model's {old:,}")
    return found
