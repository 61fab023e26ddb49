"""The paper's experiments: a teacher, the students grown from it, and what is trained how long."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import onnx
import torch

from tools.experiments.data import Data
from tools.experiments.growth import Way, make, parting
from tools.experiments.models import WIDTHS, build, export
from tools.experiments.training import Budget, compute, train

Record = dict[str, Any]
SCRATCH = "from scratch"
PAD, NET2NET, ON = "random pad", "Net2Net", "teacher trained on"


@dataclass(frozen=True)
class Arm:
    """One student and its training.

    `rate` is relative to the teacher's first one; `long`: as many steps as teacher and student
    together have.
    """

    label: str
    way: Way
    rate: float
    widths: dict[str, int] = field(default_factory=dict)
    deeper: tuple[str, ...] = ()
    optimiser: str = "sgd"
    long: bool = False


@dataclass(frozen=True)
class Setup:
    """A teacher and its students; `dense`: whose curves are measured at many steps."""

    name: str
    kind: str
    teacher: dict[str, int]
    arms: tuple[Arm, ...]
    optimiser: str = "sgd"
    dense: bool = True


def reduced(kind: str, ratio: float) -> dict[str, int]:
    """The large network's widths times `ratio`; a stem and a stream stay as they are."""
    kept = ("stem.conv", "patch")
    return {n: w if n in kept else round(w * ratio) for n, w in WIDTHS[kind].items()}


def wider(kind: str) -> Setup:
    """Net2WiderNet: the paper's teacher has sqrt(0.3) times the student's units."""
    teacher = reduced(kind, math.sqrt(0.3))
    widths = {n: w for n, w in WIDTHS[kind].items() if w != teacher[n]}
    arm = partial(Arm, widths=widths)
    return Setup(f"wider-{kind}", kind, teacher, (
        arm(NET2NET, Way(), 0.1), arm(NET2NET, Way(), 1.0),
        arm(PAD, Way("random-pad"), 0.1), arm(PAD, Way("random-pad"), 1.0),
        arm("fresh units", Way(init="fresh"), 0.1),
        arm(SCRATCH, Way("scratch"), 1.0), Arm(ON, Way(), 0.1), Arm(ON, Way(), 1.0),
        arm(NET2NET, Way(), 1.0, long=True), arm(PAD, Way("random-pad"), 1.0, long=True),
        arm(SCRATCH, Way("scratch"), 1.0, long=True), Arm(ON, Way(), 1.0, long=True),
    ))  # fmt: skip


def deeper(kind: str = "plain") -> Setup:
    """Net2DeeperNet: one more convolution with BatchNorm behind each of the teacher's."""
    teacher = reduced(kind, 0.75)
    arm = partial(Arm, deeper=tuple(teacher))
    calibrated, default = Way(), Way(calibrated=False)
    return Setup(f"deeper-{kind}", kind, teacher, (
        arm("identity, calibrated", calibrated, 0.1), arm("identity, calibrated", calibrated, 1.0),
        arm("identity, default", default, 0.1),
        arm("random layers", Way("random-layers"), 0.1),
        arm("random layers", Way("random-layers"), 1.0),
        arm(SCRATCH, Way("scratch"), 1.0), Arm(ON, Way(), 0.1), Arm(ON, Way(), 1.0),
        arm("identity, calibrated", calibrated, 1.0, long=True),
        arm("random layers", Way("random-layers"), 1.0, long=True),
        arm(SCRATCH, Way("scratch"), 1.0, long=True), Arm(ON, Way(), 1.0, long=True),
    ))  # fmt: skip


def explore() -> Setup:
    """Several students of one teacher, each at 0.1 and 1 times its rate, and from scratch."""
    teacher = reduced("plain", math.sqrt(0.3))
    layers = tuple(teacher)

    def times(ratio: float) -> dict[str, int]:
        return {n: math.ceil(w * ratio) for n, w in teacher.items()}

    students: dict[str, tuple[dict[str, int], tuple[str, ...]]] = {
        "wider x1.5": (times(1.5), ()),
        "wider x2": (times(2), ()),
        "deeper": ({}, layers),
        "wider x1.41 and deeper": (times(math.sqrt(2)), layers),
        "wider x2 and deeper": (times(2), layers),
    }
    arms = [
        Arm(label, Way(start), rate, widths, more)
        for label, (widths, more) in students.items()
        for start, rate in (("grown", 0.1), ("grown", 1.0), ("scratch", 1.0))
    ]
    arms += [Arm(ON, Way(), 0.1), Arm(ON, Way(), 1.0)]
    return Setup("explore-plain", "plain", teacher, tuple(arms), dense=False)


def symmetry(kind: str) -> Setup:
    """Do copies part? Ways to divide the weights, under SGD and Adam, at both rates."""
    teacher = reduced(kind, math.sqrt(0.3))
    widths = {n: w for n, w in WIDTHS[kind].items() if w != teacher[n]}
    ways = {
        "even, balanced": Way(split="even", mapping="balanced"),
        "zero-sum": Way(),
        "even": Way(split="even"),
        "zero-sum, balanced": Way(mapping="balanced"),
        "even, noise 0.05": Way(split="even", noise=0.05),
    }
    small = kind == "transformer"
    arms = [
        Arm(label, way, rate, widths, optimiser=optimiser)
        for optimiser in (("adam",) if small else ("sgd", "adam"))
        for label, way in list(ways.items())[: 2 if small else None]
        for rate in (0.1, 1.0)
    ]
    arms += [
        Arm("zero-sum", Way(), 1.0, widths, optimiser=optimiser, long=True)
        for optimiser in (("adam",) if small else ("sgd", "adam"))
    ]
    first = "adam" if small else "sgd"
    return Setup(f"symmetry-{kind}", kind, teacher, tuple(arms), optimiser=first, dense=False)


EXPERIMENTS: dict[str, dict[str, Callable[[], Setup]]] = {
    "wider": {f"wider-{k}": partial(wider, k) for k in ("plain", "inception")},
    "deeper": {"deeper-plain": deeper},
    "explore": {"explore-plain": explore},
    "symmetry": {f"symmetry-{k}": partial(symmetry, k) for k in ("plain", "transformer")},
}
SETUPS = {name: make for group in EXPERIMENTS.values() for name, make in group.items()}


def teach(setup: Setup, data: Data, budget: Budget, seed: int) -> tuple[onnx.ModelProto, Record]:
    """Train the teacher and export it."""
    module = build(setup.kind, setup.teacher, seed=seed)
    image = torch.from_numpy(data.images[:1])
    flops = compute(module, image)
    trained = train(module, data, budget.teacher, seed=seed, optimiser=setup.optimiser)
    model = export(module, torch.from_numpy(data.images[:2]))
    parameters = sum(p.numel() for p in module.parameters())
    return model, {
        "label": "teacher", "seed": seed, "rate": 1.0, "optimiser": setup.optimiser,
        "parameters": parameters, "flops per step": flops, **trained,
    }  # fmt: skip


def study(
    setup: Setup, arm: Arm, teacher: onnx.ModelProto, data: Data, budget: Budget, seed: int
) -> Record:
    """Make one student, train it, and say all that was measured."""
    student = make(setup.kind, teacher, arm.widths, arm.deeper, arm.way, data, seed)
    module, first = student.module, student.first
    flops = compute(module, torch.from_numpy(data.images[:1]))
    before = module.state_dict()[first].numpy().copy() if first else None
    steps = budget.long if arm.long else budget.student
    trained = train(
        module, data, steps, seed=seed, rate=arm.rate, optimiser=arm.optimiser, dense=setup.dense
    )
    record = {
        "label": arm.label, "start": arm.way.start, "preserving": arm.way.preserving,
        "seed": seed, "rate": arm.rate, "optimiser": arm.optimiser,
        "parameters": sum(p.numel() for p in module.parameters()), "flops per step": flops,
        "long": arm.long, "step 0": student.start, **trained,
    }  # fmt: skip
    if before is not None:
        record |= parting(student, before, module.state_dict()[first].numpy())
    return record
