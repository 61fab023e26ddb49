"""A budget of parameters, met from below by one ratio for all widths, found by bisection."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from fractions import Fraction

import numpy as np

from onnx_net2net.errors import UsageError
from onnx_net2net.growth.student import Student, Task
from onnx_net2net.growth.widen.batch import Chosen, candidates, widen_all
from onnx_net2net.growth.widen.scheme import Scheme
from onnx_net2net.growth.widen.verb import Widen
from onnx_net2net.growth.widen.widths import draw, target
from onnx_net2net.inference.analysis import Analysis, parameters
from onnx_net2net.inference.shapes import FLOATS
from onnx_net2net.typing import Array

_PARTS = 4096  # ratios are multiples of 1 / _PARTS, the same on every machine
_MOST = 64
SMALLEST = 1 + 1 / _PARTS


def parameter_budget(asked: int | str, teacher: int) -> int:
    """How many parameters: a number, or a multiple of the teacher's.

    >>> parameter_budget("2.5x", 1000)
    2500
    """
    if isinstance(asked, str):
        return int(Fraction(asked.removesuffix("x")) * teacher)
    return asked


def bisect(fits: Callable[[float], bool], high: float = _MOST) -> float | None:
    """The largest ratio up to `high` that fits, to 1 / 4096; None if none does.

    >>> bisect(lambda ratio: ratio <= 1.5)
    1.5
    """
    low, end = _PARTS, int(high * _PARTS) + 1
    while end - low > 1:
        middle = (low + end) // 2
        low, end = (middle, end) if fits(middle / _PARTS) else (low, middle)
    return low / _PARTS if low > _PARTS else None


def within(student: Student, task: Task[Widen], todo: set[str]) -> str:
    """Widen as far as a budget allows; what was reached.

    Args:
        student, task, todo: see `widen_all`; the step has the budget.
    """
    assert task.asked.parameters is not None
    budget = parameter_budget(task.asked.parameters, task.teacher)
    tried: dict[float, tuple[Student, Task[Widen], int]] = {}

    def fits(ratio: float) -> bool:
        asked = replace(task.asked, parameters=None, ratio=ratio)
        trial, trying = student.copy(), replace(task, asked=asked, left_out=dict(task.left_out))
        widen_all(trial, trying, set(todo))
        tried[ratio] = trial, trying, parameters(trial.analysis)
        return tried[ratio][2] <= budget

    expected = expecting(student.analysis, todo, task.asked)
    ratio = bisect(lambda r: expected(r) <= budget)
    if ratio is None or not fits(ratio):
        ratio = bisect(fits, ratio or 2.0)
    if ratio is None:
        least = min((t[2] for t in tried.values()), default=expected(SMALLEST))
        raise UsageError(
            f"the smallest growth gives {least:,} parameters and the budget is {budget:,}",
            "give a larger one, or name fewer layers",
        )
    trial, trying, reached = tried[ratio]
    student.become(trial)
    task.left_out = trying.left_out
    return f"ratio {ratio:.4g}: {reached:,} of at most {budget:,} parameters"


def expecting(analysis: Analysis, layers: Collection[str], asked: Widen) -> Callable[[float], int]:
    """How many parameters a ratio is expected to give, without growing anything.

    Right but where constants that several layers share part, or widths overlap.

    Args:
        analysis: of the model.
        layers: names.
        asked: what else the step says.
    """
    found = [candidate for candidate, _ in candidates(analysis, layers, Scheme.of(asked).row)]
    return lambda ratio: _expected(analysis, found, asked, ratio)


def _expected(analysis: Analysis, found: list[Chosen], asked: Widen, ratio: float) -> int:
    """Parameters after widening by a ratio, from the lengths of the constants' axes alone."""
    leaves, kind = analysis.model.leaves, Scheme.of(asked).row
    added: dict[str, dict[int, int]] = {}
    for one in found:
        space, widths = one.space, one.widths
        try:
            wanted = target(widths, None, ratio, asked.multiple_of, one.layer)
        except UsageError:
            continue
        units = draw(widths, wanted, asked.mapping, 0, one.layer, kind)
        copies: Array = np.bincount(units.source, minlength=space.size)
        extra: dict[tuple[str, int], int] = {}
        for (tensor, _, dim), labels in space.labels.items():
            if tensor in leaves and leaves[tensor].dtype in FLOATS:
                extra[tensor, dim] = int(copies[labels[labels >= 0]].sum())
        for (tensor, dim), count in extra.items():
            dims = added.setdefault(tensor, {})
            dims[dim] = dims.get(dim, 0) + count
    total = parameters(analysis)
    for tensor, dims in added.items():
        old, new = 1, 1
        for k, length in enumerate(leaves[tensor].shape):
            old, new = old * length, new * (length + dims.get(k, 0))
        total += new - old
    return total
