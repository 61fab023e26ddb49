"""Training and measuring one network: accuracy curve, compute, seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tools.experiments.data import Data
from tools.samples.graph_builder import Array

BATCH = 64
RATES = {"sgd": 0.05, "adam": 1e-3}  # the teacher's learning rates


@dataclass(frozen=True)
class Budget:
    """Steps of 64 images: the teacher, a student, and a large network trained to its end."""

    teacher: int = 1248
    student: int = 624
    long: int = 1872


def accuracy(module: nn.Module, images: Array, labels: Array) -> float:
    """Share of the images that the network, in evaluation mode, gives their label."""
    return float((predictions(module, images).argmax(1) == labels).mean())


def predictions(module: nn.Module, images: Array) -> Array:
    """Logits [N,10] in evaluation mode."""
    was, found = module.training, []
    module.eval()
    with torch.no_grad():
        for start in range(0, len(images), 1000):
            found.append(module(torch.from_numpy(images[start : start + 1000])).numpy())
    module.train(was)
    return np.concatenate(found)


def estimate_statistics(module: nn.Module, images: Array) -> None:
    """BatchNorm's running statistics anew, from these images and the weights as they are."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    module.train()
    with torch.no_grad():
        for start in range(0, len(images), 500):
            module(torch.from_numpy(images[start : start + 500]))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def compute(module: nn.Module, image: Tensor) -> int:
    """Floating-point operations of one training step: forward and twice that backward."""
    module.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(image)
    return 3 * BATCH * int(counter.get_total_flops())


def when(total: int, dense: bool) -> list[int]:
    """The steps at which a curve is measured: most of them early."""
    early = [0, 5, 10, 15, 20, 25, 50, 75, 100, 150, 200, 250]
    late = [*range(300, 601, 100), *range(800, total, 200)]
    chosen = [*early, *late, total] if dense else [0, 10, 25, 50, 100, 250, total]
    return sorted({s for s in chosen if s <= total})


def train(
    module: nn.Module,
    data: Data,
    steps: int,
    *,
    seed: int,
    rate: float = 1.0,
    optimiser: str = "sgd",
    dense: bool = True,
) -> dict[str, Any]:
    """Train with a rate falling to zero along a cosine, and measure on the way.

    Args:
        rate: times the teacher's first learning rate.
        optimiser: `sgd` (momentum 0.9, weight decay 1e-4) or `adam`.
        dense: measure the curve at many steps.

    Returns:
        `steps` and `accuracy` of the curve, on `data.curve` test images; `final` accuracy on all
        of them; `loss` of the last 50 steps; seconds: `wall` and `cpu`.
    """
    start, started = time.perf_counter(), time.process_time()
    fast: Any = {"memory_format": torch.channels_last}
    module.to(**fast)
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    shown = data.test_images[: data.curve], data.test_labels[: data.curve]
    first = RATES[optimiser] * rate
    chosen: torch.optim.Optimizer = (
        torch.optim.SGD(module.parameters(), first, momentum=0.9, weight_decay=1e-4)
        if optimiser == "sgd"
        else torch.optim.Adam(module.parameters(), first)
    )
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(chosen, steps)
    rng = np.random.default_rng([seed, 1])
    at, curve, losses, order = set(when(steps, dense)), [], [], torch.empty(0, dtype=torch.long)
    module.train()
    for step in range(steps + 1):
        if step in at:
            curve.append(accuracy(module, *shown))
        if step == steps:
            break
        if len(order) < BATCH:
            order = torch.from_numpy(rng.permutation(len(images)))
        batch, order = order[:BATCH], order[BATCH:]
        loss: Any = nn.functional.cross_entropy(module(images[batch]), labels[batch])
        chosen.zero_grad()
        loss.backward()
        chosen.step()
        falling.step()
        losses.append(float(loss.detach()))
    return {
        "steps": sorted(at),
        "accuracy": curve,
        "final": accuracy(module, data.test_images, data.test_labels),
        "loss": float(np.mean(losses[-50:])) if losses else None,
        "wall": time.perf_counter() - start,
        "cpu": time.process_time() - started,
    }
