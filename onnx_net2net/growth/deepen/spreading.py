"""Deepening by a ratio: as many layers more, spread evenly over the places found."""

from __future__ import annotations

from onnx_net2net.errors import UsageError
from onnx_net2net.growth.deepen.verb import Deepen
from onnx_net2net.growth.selectors import places, spread
from onnx_net2net.growth.student import Student, Task


def run(student: Student, task: Task[Deepen]) -> tuple[list[str], str]:
    """See `Verb.run`."""
    ratio = task.asked.ratio
    if ratio is None or not 1 < ratio <= 100:
        raise UsageError(f"ratio {ratio} does not deepen", "give a number above 1, e.g. 1.5")
    found = places(student.analysis, task.asked)
    before = len(student.analysis.layers())
    wanted = before + max(round(len(found) * (ratio - 1)), 1)
    last = -1
    while len(student.results) != last:  # again from the start, until nothing more fits
        last = len(student.results)
        for k in spread(len(found)):
            if len(student.analysis.layers()) < wanted:
                task.grow(student, found[k])
    matched = [name for where in found for name in where.values()]
    return matched, f"{before} -> {len(student.analysis.layers())} layers"
