"""Pictures of the experiments: curves with bands over the seeds, and rankings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from tools.experiments.report import Arms, Key, Record, arms_of, final, total_compute

COLOURS = {"Net2Net": "C0", "identity, calibrated": "C0", "identity, default": "C4",
           "random pad": "C1", "random layers": "C1", "from scratch": "C2", "fresh units": "C4",
           "teacher trained on": "C7"}  # fmt: skip


def draw(found: dict[str, Any], target: Path) -> None:
    """Write target.svg and target.png for one experiment's records."""
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "paper", "font.size": 8})
    teachers, arms = arms_of(found)
    name = str(found["setup"]).partition("-")[0]
    make = {"explore": _ranking, "symmetry": _symmetry}.get(name, _curves)
    figure = make(teachers, arms)
    figure.suptitle(f"{found['setup']}, {found['data']}, {len(teachers)} seeds")
    figure.savefig(target.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(target.with_suffix(".png"), dpi=70)
    plt.close(figure)


def _curves(teachers: list[Record], arms: Arms) -> Any:
    figure, (early, short, cost) = plt.subplots(
        1, 3, figsize=(11, 3.6), layout="constrained", sharey=True
    )
    teacher = float(np.mean([r["accuracy"][-1] for r in teachers]))
    for key, records in arms.items():
        x = np.array(records[0]["steps"])
        style = {"color": COLOURS[key.label], "ls": "-" if key.rate < 1 or "scratch" in key.label
                 else "--", "lw": 1}  # fmt: skip
        if key.long:
            spent = [total_compute(records[0], teachers[0], s) for s in x]
            _band(cost, spent, records, f"{key.label}, {key.rate:g} x", style)
            continue
        for axes in (early, short):
            _band(axes, x, records, f"{key.label}, {key.rate:g} x", style)
    for axes in (early, short, cost):
        axes.axhline(teacher, color="k", lw=0.6, ls=":")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=6, loc="lower right")
    early.set(xlim=(0, 250), ylim=(teacher - 0.25, teacher + 0.035), xlabel="steps",
              ylabel="accuracy on the test images")  # fmt: skip
    short.set(xlabel="steps")
    cost.set(xlabel="TFLOP of training, the teacher's included")
    return figure


def _band(axes: Any, x: Any, records: list[Record], label: str, style: dict[str, Any]) -> None:
    curves = np.array([r["accuracy"] for r in records])
    axes.plot(x, curves.mean(0), label=label, **style)
    axes.fill_between(x, curves.min(0), curves.max(0), color=style["color"], alpha=0.15, lw=0)


def _ranking(teachers: list[Record], arms: Arms) -> Any:
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    marks = {("grown", 0.1): ("o", "C0", "grown, 0.1 x"), ("grown", 1.0): ("s", "C3", "grown, 1 x"),
             ("scratch", 1.0): ("^", "C2", "from scratch, 1 x")}  # fmt: skip
    for key, records in arms.items():
        marker, colour, label = marks[key.start, key.rate]
        ends = np.array([final(r) for r in records])
        axes.errorbar(
            records[0]["parameters"], ends.mean(), ends.std(), marker=marker, color=colour,
            capsize=2, lw=0.8, ms=4, label=label,
        )  # fmt: skip
        if key == Key(key.label, 1.0):
            at = (records[0]["parameters"], float(ends.mean()))
            axes.annotate(key.label, at, (4, 4), textcoords="offset points", fontsize=6)
    axes.axhline(
        float(np.mean([final(r) for r in teachers])), color="k", lw=0.6, ls=":", label="teacher"
    )
    axes.margins(x=0.2)
    axes.set(xscale="log", xlabel="parameters", ylabel="accuracy at the end")
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(unique.values(), unique.keys(), fontsize=6, loc="lower right")
    axes.grid(alpha=0.3)
    return figure


def _apart(record: Record) -> float:
    return max(record["separation"], 1e-9)


def _symmetry(teachers: list[Record], arms: Arms) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    labels = list(dict.fromkeys(k.label for k in arms))
    groups = list(dict.fromkeys((k.optimiser, k.rate) for k in arms))
    for n, (optimiser, rate) in enumerate(groups):
        for axes, read in (
            (left, _apart),
            (right, final),
        ):
            values = np.array(
                [[read(r) for r in arms[Key(x, rate, optimiser=optimiser)]] for x in labels]
            )
            at = np.arange(len(labels)) + (n - (len(groups) - 1) / 2) * 0.18
            error = np.abs(np.stack([values.min(1), values.max(1)]) - values.mean(1))
            axes.errorbar(
                at, values.mean(1), error, fmt="o", ms=4, capsize=2, lw=0.8,
                label=f"{optimiser}, {rate:g} x",
            )  # fmt: skip
    left.axhline(0.1, color="k", lw=0.6, ls=":")
    left.set(yscale="log", ylabel="separation of copies (0 drawn at 1e-9)")
    right.set(ylabel="accuracy at the end")
    right.axhline(float(np.mean([final(r) for r in teachers])), color="k", lw=0.6, ls=":")
    for axes in (left, right):
        axes.set_xticks(range(len(labels)), [x.replace(", ", ",\n") for x in labels])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=6)
    return figure
