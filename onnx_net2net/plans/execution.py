"""A step of a recipe done: what it selects, what that gives, what is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnx_net2net.errors import RefusalError, UsageError
from onnx_net2net.growth.result import Result
from onnx_net2net.growth.student import Student, Task
from onnx_net2net.inference.analysis import parameters
from onnx_net2net.plans.recipe import Step


@dataclass(frozen=True)
class Taken:
    """A step that was done.

    `matched`: what its selector found; `left_out`: of that what could not grow, and why;
    `note`: what was reached; `parameters`: of the model before and after; `results`: one for
    each place, or for several that grew together.
    """

    step: Step
    matched: tuple[str, ...]
    left_out: dict[str, str]
    note: str
    parameters: tuple[int, int]
    results: tuple[Result, ...]


def do(
    student: Student, step: Step, common: Mapping[str, Any], teacher: int, *, some: bool = True
) -> Taken:
    """Do one step.

    Args:
        common: what holds where the step does not say otherwise; `seed` is the first result's.
        teacher: how many parameters the teacher has.
        some: something must grow.

    Raises:
        RefusalError, AmbiguousError, UsageError: see the verbs; the message begins with where
            the step was written.
    """
    before, count = parameters(student.analysis), len(student.results)
    try:
        task = Task(step.typed(common), common.get("seed", 0), teacher)
        matched, note = task.asked.run(student, task)
        if some and len(student.results) == count and task.left_out:
            raise next(iter(task.left_out.values()))
    except (RefusalError, UsageError) as error:
        if step.where:
            error.prefix(step.where)
        raise
    left_out = {
        name: str(error.refusal if isinstance(error, RefusalError) else error)
        for name, error in task.left_out.items()
    }
    sizes = before, parameters(student.analysis)
    return Taken(step, tuple(matched), left_out, note, sizes, tuple(student.results[count:]))
