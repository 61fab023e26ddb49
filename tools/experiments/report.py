"""What the experiments' JSON files say: tables, and which of the paper's figures came out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Record = dict[str, Any]
Arms = dict["Key", list[Record]]
EARLY = 250


class Key(NamedTuple):
    """What tells one arm from another; the records of one arm differ by seed."""

    label: str
    rate: float
    start: str = "grown"
    optimiser: str = "sgd"
    long: bool = False


class Figure(NamedTuple):
    """A claim, what was measured, and whether that is what was claimed."""

    claim: str
    measured: str
    reached: bool


def arms_of(found: dict[str, Any]) -> tuple[list[Record], Arms]:
    """The teachers by seed, and the arms in their order."""
    teachers = [r for r in found["records"] if r["label"] == "teacher"]
    arms: Arms = {}
    for r in found["records"]:
        if r["label"] != "teacher":
            key = Key(r["label"], r["rate"], r["start"], r["optimiser"], r["long"])
            arms.setdefault(key, []).append(r)
    return teachers, arms


def area(record: Record, until: int = EARLY) -> float:
    """Mean accuracy over the first steps (area under the curve by trapezoids)."""
    steps, curve = _early(record, until)
    return float(np.trapezoid(curve, steps) / (steps[-1] - steps[0]))


def dip(record: Record, until: int = EARLY) -> float:
    """Lowest accuracy over the first steps, less that at step 0."""
    curve = _early(record, until)[1]
    return float(curve.min() - curve[0])


def final(record: Record) -> float:
    """Accuracy on all test images after training."""
    return float(record["final"])


def reached(record: Record, target: float) -> int | None:
    """The first step at which the accuracy is at least the target; None if never."""
    return next(
        (s for s, a in zip(record["steps"], record["accuracy"], strict=True) if a >= target), None
    )


def total_compute(record: Record, teacher: Record, step: int) -> float:
    """Operations until that step in 1e12, the teacher's training included where it was needed."""
    before = 0 if record["start"] == "scratch" else teacher["flops per step"] * teacher["steps"][-1]
    return (before + record["flops per step"] * step) / 1e12


def _early(record: Record, until: int) -> tuple[Any, Any]:
    steps, curve = np.array(record["steps"]), np.array(record["accuracy"])
    return steps[steps <= until], curve[steps <= until]


def _percent(values: Sequence[float], digits: int = 2) -> str:
    spread = f" ± {100 * np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.{digits}f}{spread}"


def _each(values: Sequence[Any], form: Callable[[Any], str] = str) -> str:
    return " / ".join("–" if v is None else form(v) for v in values)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * 2 + ["---:"] * (len(head) - 2), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def training_table(found: dict[str, Any]) -> str:
    """Wider and deeper: one row for each arm."""
    teachers, arms = arms_of(found)
    ends = {
        k.long: [r["accuracy"][-1] for r in rs] for k, rs in arms.items() if k.start == "scratch"
    }
    head = [
        "start", "rate", "steps", "step 0", f"lowest of first {EARLY}", f"area, first {EARLY}",
        "end", "steps to scratch's end (short)", "(long)", "TFLOP to (long), with teacher",
    ]  # fmt: skip
    rows = []
    for key, records in arms.items():
        hits = {
            long: [reached(r, t) for r, t in zip(records, targets, strict=True)]
            for long, targets in ends.items()
        }
        cost = [
            None if s is None else total_compute(r, t, s)
            for r, t, s in zip(records, teachers, hits[True], strict=True)
        ]
        rows.append([
            key.label, f"{key.rate:g}", str(records[0]["steps"][-1]),
            _percent([r["accuracy"][0] for r in records]),
            _each([100 * dip(r) for r in records], "{:+.1f}".format),
            _percent([area(r) for r in records]), _percent([final(r) for r in records]),
            _each(hits[False]), _each(hits[True]), _each(cost, "{:.2f}".format),
        ])  # fmt: skip
    return f"{_teacher_line(teachers, found)}\n\n{_table(head, rows)}"


def _teacher_line(teachers: list[Record], found: dict[str, Any]) -> str:
    t, records = teachers[0], found["records"]
    cpu = sum(r["cpu"] for r in records)
    return (
        f"Teacher: {t['parameters']:,} parameters, {t['steps'][-1]} steps, "
        f"{total_compute({**t, 'start': 'scratch'}, t, t['steps'][-1]):.2f} TFLOP, accuracy "
        f"{_percent([r['final'] for r in teachers])} %. Training took {cpu:.0f} CPU s; the whole "
        f"experiment {found['wall']:.0f} s of wall time."
    )


def ranking_table(found: dict[str, Any]) -> str:
    """Exploration: students ranked by the accuracy they end with."""
    teachers, arms = arms_of(found)
    order = sorted(arms.items(), key=lambda arm: -float(np.mean([final(r) for r in arm[1]])))
    rows = [
        [str(place), key.label + (", from scratch" if key.start == "scratch" else ""),
         f"{key.rate:g}", _percent([final(r) for r in records]),
         _each([100 * dip(r) for r in records], "{:+.1f}".format)
         if key.start == "grown" else "", f"{records[0]['parameters']:,}",
         f"{total_compute(records[0], teachers[0], records[0]['steps'][-1]):.2f}"]
        for place, (key, records) in enumerate(order, 1)
    ]  # fmt: skip
    head = ["", "student", "rate", "end", f"lowest of first {EARLY}", "parameters",
            "TFLOP, with teacher"]  # fmt: skip
    return f"{_teacher_line(teachers, found)}\n\n{_table(head, rows)}"


def symmetry_table(found: dict[str, Any]) -> str:
    """How far copies parted from their source, and what that was worth."""
    teachers, arms = arms_of(found)
    head = [
        "copies",
        "optimiser",
        "rate",
        "steps",
        "separation",
        "movement",
        "step 0",
        "end",
        "loss of last 50 steps",
    ]
    rows = [
        [key.label, key.optimiser, f"{key.rate:g}", str(records[0]["steps"][-1]),
         _each([r["separation"] for r in records], _small),
         f"{np.mean([r['movement'] for r in records]):.3f}",
         _percent([r["step 0"]["accuracy"] for r in records]),
         _percent([final(r) for r in records]),
         f"{np.mean([r['loss'] for r in records]):.4f}"]
        for key, records in arms.items()
    ]  # fmt: skip
    return f"{_teacher_line(teachers, found)}\n\n{_table(head, rows)}"


def _small(value: float) -> str:
    return f"{value:.3f}" if value >= 1e-3 else f"{value:.0e}" if value else "0"


def figures(found: dict[str, Any]) -> list[Figure]:
    """The claims that this experiment can decide."""
    teachers, arms = arms_of(found)
    result = list(_step_zero(arms, teachers))
    name = str(found["setup"]).partition("-")[0]
    if name in ("wider", "deeper"):
        result += [*_curves(arms, name), *_sooner(arms, teachers, name)]
    if name == "symmetry":
        result += _parting(arms)
    return result


def _step_zero(arms: Arms, teachers: list[Record]) -> list[Figure]:
    small = teachers[0]["parameters"]
    exact = [r for rs in arms.values() for r in rs if r["preserving"] and r["parameters"] > small]
    same = sum(r["step 0"]["same predictions"] == r["step 0"]["images"] for r in exact)
    worst = max(r["step 0"]["largest difference"] for r in exact)
    result = [Figure(
        f"step 0: every exact student predicts as the teacher on {exact[0]['step 0']['images']:,} "
        "test images", f"{same} of {len(exact)}; largest difference of a logit {worst:.1e}",
        same == len(exact),
    )]  # fmt: skip
    for start in ("random-pad", "random-layers"):
        pairs = [
            (r["step 0"], e["step 0"]["accuracy"])
            for rs in arms.values() for r in rs if r["start"] == start
            for e in exact if e["seed"] == r["seed"]
        ]  # fmt: skip
        if pairs:
            estimated = "accuracy, statistics estimated"
            gaps = [100 * (e - s[estimated]) for s, e in pairs]
            bare = [100 * (e - s["accuracy"]) for s, e in pairs]
            result.append(Figure(
                f"step 0: {start.replace('-', ' ')} at least 5 points lower",
                f"{min(bare):.1f} to {max(bare):.1f} points; with BatchNorm's statistics estimated "
                f"anew {min(gaps):.1f} to {max(gaps):.1f}", min(gaps) >= 5,
            ))  # fmt: skip
    return result


def _curves(arms: Arms, name: str) -> list[Figure]:
    grown, other = ("Net2Net", "random pad") if name == "wider" else (
        "identity, calibrated", "random layers")  # fmt: skip
    start = "random-pad" if name == "wider" else "random-layers"
    slow, fast = arms[Key(grown, 0.1)], arms[Key(grown, 1.0)]
    random, scratch = arms[Key(other, 0.1, start)], arms[Key("from scratch", 1.0, "scratch")]
    dips, dips_fast = ([100 * dip(r) for r in rs] for rs in (slow, fast))
    areas = [[area(r) for r in rs] for rs in (slow, random, scratch)]
    ordered = sum(a > b > c for a, b, c in zip(*areas, strict=True))
    return [
        Figure("no low performance: at 0.1 x the rate never 1.5 points below the teacher",
               f"{_each(dips, '{:+.1f}'.format)} points; at 1 x "
               f"{_each(dips_fast, '{:+.1f}'.format)}", min(dips) >= -1.5),
        Figure(f"area over {EARLY} steps: {grown} (0.1 x) > {other} (0.1 x) > scratch (1 x)",
               "; ".join(_each(a, "{:.3f}".format) for a in areas) + f": {ordered} of {len(slow)}",
               ordered == len(slow)),
    ]  # fmt: skip


def _sooner(arms: Arms, teachers: list[Record], name: str) -> list[Figure]:
    """Steps and compute until the accuracy that the large network reaches from scratch."""
    label = "Net2Net" if name == "wider" else "identity, calibrated"
    result = []
    for rate, long in ((0.1, False), (1.0, False), (1.0, True)):
        ours = arms[Key(label, rate, long=long)]
        scratch = arms[Key("from scratch", 1.0, "scratch", long=long)]
        steps = scratch[0]["steps"][-1]
        hits = [reached(r, s["accuracy"][-1]) for r, s in zip(ours, scratch, strict=True)]
        cost = [
            None if h is None else total_compute(r, t, h)
            for r, t, h in zip(ours, teachers, hits, strict=True)
        ]
        whole = total_compute(scratch[0], teachers[0], steps)
        result.append(Figure(
            f"sooner where {steps} steps from scratch lead: {label}, {rate:g} x",
            f"steps {_each(hits)}; TFLOP with the teacher {_each(cost, '{:.2f}'.format)} against "
            f"{whole:.2f}", all(c is not None and c < whole for c in cost),
        ))  # fmt: skip
        gaps = [100 * (final(r) - final(s)) for r, s in zip(ours, scratch, strict=True)]
        result.append(Figure(
            f"ends no lower than from scratch, {steps} steps each: {label}, {rate:g} x",
            f"{_each(gaps, '{:+.1f}'.format)} points", float(np.mean(gaps)) >= 0,
        ))  # fmt: skip
    return result


def _parting(arms: Arms) -> list[Figure]:
    result = []
    for key, records in arms.items():
        values, steps = [r["separation"] for r in records], records[0]["steps"][-1]
        if key.label == "zero-sum":
            result.append(Figure(
                f"copies part by > 0.1: zero-sum, {key.optimiser}, {key.rate:g} x, {steps} steps",
                _each(values, "{:.3f}".format), min(values) > 0.1,
            ))  # fmt: skip
        if key.label == "even, balanced":
            result.append(Figure(
                f"copies of an even split never part: {key.optimiser}, {key.rate:g} x",
                _each(values, _small), not any(values),
            ))  # fmt: skip
    return result


def tables(found: dict[str, Any]) -> str:
    """Everything about one experiment, as Markdown."""
    name = str(found["setup"]).partition("-")[0]
    make = {"explore": ranking_table, "symmetry": symmetry_table}.get(name, training_table)
    rows = [[f.claim, f.measured, "yes" if f.reached else "**no**"] for f in figures(found)]
    return f"{make(found)}\n\n{_table(['figure', 'measured', 'reached'], rows)}"


def filled(text: str, paths: Sequence[Path]) -> str:
    """The document with the tables between its markers made anew from the JSON files.

    Args:
        text: Markdown with `<!-- NAME -->` and `<!-- /NAME -->` around each table.
    """
    for path in paths:
        table = tables(json.loads(path.read_text()))
        name = re.escape(path.stem)
        block = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = block.sub(lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text)  # type: ignore[misc]
    return text


def fill_tables(document: Path, paths: Sequence[Path]) -> None:
    """Write the tables into the document, or a bare one where there is none yet."""
    bare = "\n".join(
        f"## {p.stem}\n![]({p.parent.name}/{p.stem}.svg)\n\n<!-- {p.stem} -->\n<!-- /{p.stem} -->\n"
        for p in paths
    )
    text = document.read_text() if document.exists() else bare
    document.write_text(filled(text, paths))
