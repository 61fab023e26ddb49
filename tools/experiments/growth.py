"""The students of the paper's experiments, grown through ONNX, and the baselines beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from torch import nn

import onnx_net2net as n2n
from tools.experiments.data import Data
from tools.experiments.models import build, load, sizes
from tools.experiments.training import estimate_statistics, predictions
from tools.samples.graph_builder import Array


@dataclass(frozen=True)
class Way:
    """How a student's weights come about.

    `start`: `grown` from the teacher, `scratch`, or baselines with the teacher's weights:
    `random-pad` (new units random) and `random-layers` (new layers random); `split`, `mapping`,
    `init`, `noise`: see `n2n.widen`; `calibrated`: the inserted BatchNorm has the true statistics.
    """

    start: str = "grown"
    split: str = "zero-sum"
    mapping: str = "random"
    init: str = "replicate"
    noise: float = 0.0
    calibrated: bool = True

    @property
    def preserving(self) -> bool:
        return self.start == "grown" and not self.noise


@dataclass
class Student:
    """A torch module and how it starts; the first layer with copies, and their sources."""

    module: nn.Module
    start: dict[str, Any]
    first: str = ""
    source: list[int] = field(default_factory=list)


def growth_steps(
    widths: Mapping[str, int], deeper: tuple[str, ...], way: Way, data: Data
) -> list[dict[str, Any]]:
    """The plan: every layer that gets wider, then every one that gets an identity layer."""
    new: dict[str, Any] = (
        {"init": "random-pad"} if way.start == "random-pad"
        else {"init": way.init} if way.init != "replicate"
        else {"split": way.split, "mapping": way.mapping, "noise": way.noise}
    )  # fmt: skip
    steps = [{"node": f"{n}.weight", "width": w, **new} for n, w in widths.items()]
    calibrate = {"images": data.images[:1000]} if way.calibrated else None
    random = way.start == "random-layers"
    return steps + [
        {
            "verb": "deepen", "after": f"{n}.weight", "batchnorm": True,
            **({"init": "random"} if random else {"kind": "identity", "calibrate": calibrate}),
        }
        for n in deeper
    ]  # fmt: skip


def make(
    kind: str,
    teacher: onnx.ModelProto,
    widths: Mapping[str, int],
    deeper: tuple[str, ...],
    way: Way,
    data: Data,
    seed: int,
) -> Student:
    """Grow, check against the teacher in onnxruntime, and load into the larger module.

    Args:
        widths: layer -> its new width; deeper: layers to insert an identity layer behind.
        data: what its step-0 accuracy is measured on.

    Raises:
        AssertionError: the module and its ONNX model differ.
    """
    plan = n2n.plan(teacher, growth_steps(widths, deeper, way, data), seed=seed)
    model = plan.apply()
    assert isinstance(model, onnx.ModelProto)
    module = load(kind, model)
    ours, theirs = predictions(module, data.test_images[:200]), _run(model, data, 200)
    assert np.abs(ours - theirs).max() < 1e-3, "module and ONNX model differ"
    if way.start == "scratch":
        module = build(kind, *sizes(model), seed=seed)
    logits = _run(teacher, data)
    start = _start(module, logits, data)
    if way.preserving:
        same = _run(model, data).argmax(1) == logits.argmax(1)
        start["same predictions in onnxruntime"] = int(same.sum())
    if way.start in ("random-pad", "random-layers"):
        # The statistics of random units are not known beforehand; the baselines get them.
        estimate_statistics(module, data.images[:2000])
        start["accuracy, statistics estimated"] = _start(module, logits, data)["accuracy"]
    first = next((f"{n}.weight" for n in widths if f"{n}.weight" in plan.mapping), None)
    if first is None or way.start != "grown" or way.init != "replicate":
        return Student(module, start)
    rows: Any = next(a["source"] for a in plan.mapping[first] if a["axis"] == 0)
    return Student(module, start, first, [int(i) for i in rows])


def parting(student: Student, before: Array, after: Array) -> dict[str, float]:
    """How copies of the first widened layer changed since the start, relative to their source.

    Args:
        before, after: that layer's weights at the start and after training.

    Returns:
        `separation`: change of a copy less its source's; `movement`: change of the source.
    """
    source = student.source
    moved, size = after - before, [float(np.linalg.norm(w)) for w in before]
    pairs = [(k, source.index(s)) for k, s in enumerate(source) if source.index(s) != k]
    return {
        "separation": float(np.mean([np.linalg.norm(moved[k] - moved[i]) / size[i]
                                     for k, i in pairs])),
        "movement": float(np.mean([np.linalg.norm(moved[i]) / size[i] for _, i in pairs])),
    }  # fmt: skip


def _start(module: nn.Module, teacher: Array, data: Data) -> dict[str, Any]:
    logits = predictions(module, data.test_images)
    return {
        "accuracy": float((logits.argmax(1) == data.test_labels).mean()),
        "same predictions": int((logits.argmax(1) == teacher.argmax(1)).sum()),
        "images": len(logits),
        "largest difference": float(np.abs(logits - teacher).max()),
    }


def _run(model: onnx.ModelProto, data: Data, count: int | None = None) -> Array:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"images": data.test_images[:count]})[0]
