"""Grow every space of a model one after the other, each on the student of the one before.

    python tools/coverage_sequence.py FOLDER... [--family cnn] [--models 'hand_*'] [--limit 30]

The last student runs beside the first teacher at the known sizes and at one that no analysis
has seen. Exit code 1 if any is wrong or crashed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import onnx
from rich.console import Console
from rich.progress import track

import onnx_net2net as n2n
from coverage_models import FAMILIES, Case, chosen, fill, guessed_feeds, known_feeds, skeleton
from coverage_probe import _first_that_runs, _learn_unseen
from coverage_runtime import Teacher


def grow_all(model: onnx.ModelProto, ratio: float) -> tuple[onnx.ModelProto, int, int]:
    """(student, steps done, spaces refused on the way)."""
    names = [space.name for space in n2n.inspect(model).spaces]
    student, done, refused = model, 0, 0
    for k, name in enumerate(names):
        try:
            plan = n2n.plan(student, [{"node": name, "ratio": ratio}], seed=k)
        except n2n.RefusalError:
            refused += 1
            continue
        student, done = plan.apply(verify="off"), done + 1
    return student, done, refused


def judged(case: Case, ratio: float) -> tuple[str, str]:
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
        student, done, refused = grow_all(model, ratio)
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
    options = parser.parse_args()
    cases = chosen(options.folders, options.models, options.family, None, None)
    cases = [c for c in cases if c.size <= options.max_bytes]
    cases = cases[:: max(len(cases) // options.limit, 1)][: options.limit]
    console, found = Console(stderr=True), []
    for case in track(cases, "models", console=console, transient=True):
        result, said = judged(case, options.ratio)
        found.append(result)
        print(f"{result:8} {case.name}: {said}", flush=True)
    print({r: found.count(r) for r in dict.fromkeys(found)})
    return 1 if {"wrong", "crashed"} & set(found) else 0


if __name__ == "__main__":
    sys.exit(main())
