"""Grow every space of a model one after the other, each on the student of the one before.

    python -m tools.coverage.sequence FOLDER... [--family cnn] [--models 'hand_*'] [--limit 30]
    python -m tools.coverage.sequence FOLDER... --mixed 10    widen and deepen by turns, at random

The last student runs beside the first teacher at the known sizes and at one that no analysis
has seen. Exit code 1 if any is wrong or crashed.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import Any

import onnx
from rich.console import Console
from rich.progress import track

import onnx_net2net as n2n
from tools.coverage.models import FAMILIES, Case, chosen, fill, guessed_feeds, known_feeds, skeleton
from tools.coverage.probe import _first_that_runs, _learn_unseen
from tools.coverage.runtime import Teacher


def grow_all(model: onnx.ModelProto, ratio: float) -> tuple[onnx.ModelProto, int, int]:
    """(student, steps done, spaces refused on the way)."""
    names = [space.name for space in n2n.inspect(model).spaces]
    student, done, refused = model, 0, 0
    for k, name in enumerate(names):
        try:
            plan = n2n.plan(student, [{"space": name, "ratio": ratio}], seed=k)
        except n2n.RefusalError:
            refused += 1
            continue
        student, done = plan.apply(verify="off"), done + 1
    return student, done, refused


def grow_mixed(model: onnx.ModelProto, steps: int, name: str) -> tuple[onnx.ModelProto, int, int]:
    """Random steps, half of them deeper: (student, steps done, refused on the way)."""
    draw = random.Random(name)
    student, done, refused = model, 0, 0
    for k in range(steps):
        report = n2n.inspect(student)
        layers = [node for space in report.spaces for node in space.nodes]
        if not layers:
            break
        space = draw.choice([space.name for space in report.spaces])
        step: dict[str, Any] = {"space": space, "ratio": 1.2}
        if draw.random() < 0.5:
            step = {"verb": "deepen", "after": draw.choice(layers)}
        try:
            plan = n2n.plan(student, [step], seed=k)
        except n2n.RefusalError:
            refused += 1
            continue
        student, done = plan.apply(verify="off"), done + 1
    return student, done, refused


def judged(case: Case, ratio: float, mixed: int) -> tuple[str, str]:
    """One model: ("right" | "wrong" | "crashed" | "skipped", what there is to say)."""
    model = skeleton(case)
    feeds = known_feeds(case, model)
    fill(case, model)
    teacher = Teacher(model, None)
    try:
        feeds = feeds or _first_that_runs(model, guessed_feeds(model))
        teacher.learn(feeds)
    except Exception as why:
        return "skipped", f"the teacher does not run: {str(why)[:60]}"
    unseen = _learn_unseen(teacher, case, feeds)
    try:
        grown = grow_mixed(model, mixed, case.name) if mixed else grow_all(model, ratio)
        student, done, refused = grown
        verdict = teacher.judge(student)
    except Exception as why:
        return "crashed", f"{type(why).__name__}: {str(why)[:100]}"
    sizes = f"{len(feeds)} known + {unseen} unseen sizes"
    said = f"{done} steps, {refused} refused, {sizes}, {verdict.multiple:.2f} x the floor"
    return ("right" if verdict.right else "wrong"), said


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--models", default="*", metavar="GLOB")
    parser.add_argument("--family", choices=sorted(FAMILIES))
    parser.add_argument("--max-bytes", type=int, default=20_000_000)
    parser.add_argument("--limit", type=int, default=30)
    parser.add_argument("--ratio", type=float, default=1.3)
    parser.add_argument("--mixed", type=int, default=0, metavar="STEPS")
    options = parser.parse_args()
    cases = chosen(options.folders, options.models, options.family, None, None)
    cases = [c for c in cases if c.size <= options.max_bytes]
    cases = cases[:: max(len(cases) // options.limit, 1)][: options.limit]
    console, found = Console(stderr=True), []
    for case in track(cases, "models", console=console, transient=True):
        result, said = judged(case, options.ratio, options.mixed)
        found.append(result)
        print(f"{result:8} {case.name}: {said}", flush=True)
    print({r: found.count(r) for r in dict.fromkeys(found)})
    return 1 if {"wrong", "crashed"} & set(found) else 0


if __name__ == "__main__":
    sys.exit(main())
