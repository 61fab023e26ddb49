"""Seeded faults in real models: does the verifier see them, and does it never prove one?

    python -m tools.mutate FOLDER... [--models 60] [--faults 50] [--seconds 600] [--markdown OUT.md]
    python -m tools.mutate --list                 the kinds of faults

For every model and kind the truth is decided here, by runs at several inputs and sizes: a fault
differs where the outputs move by more than 8 times the noise floor; where they do not, the same
fault is made a thousand times as large in the same place, and counts as different if that is
seen. The rest is unknown: it is left out. A control, which changes nothing, must not be called
different; a fault of one ulp that no run shows may be proved to rounding. Exit code 1 if a true
fault was proved to be the same function, or a control called different.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime as ort

import onnx_net2net as n2n
import tools.fuzzing.wiring_faults  # noqa: F401  adds to FAULTS
from tools.coverage.models import Case, chosen, fill, guessed_feeds, known_feeds, skeleton
from tools.coverage.probe import _first_that_runs, _learn_unseen
from tools.coverage.runtime import Teacher
from tools.coverage.time_limit import OutOfTime, within
from tools.fuzzing.faults import FAULTS, seeded

LARGER = 1000.0


@dataclass(frozen=True)
class Outcome:
    """One fault in one model.

    Attributes:
        truth: `seen` (runs at this size show it), `quiet` (only a larger one in its place
            shows), `control`, or `unknown`.
        answer: True, False or None as the verdict says, or "crashed" or "hung".
        layer: what decided.
    """

    model: str
    kind: str
    truth: str
    answer: object
    layer: str

    @property
    def bad(self) -> bool:
        """A true fault proved away, or a control called different."""
        if self.answer in ("crashed", "hung"):
            return True
        if self.truth == "control":
            return self.answer is False
        quiet = self.truth == "quiet" and not FAULTS[self.kind].rounding
        return (self.truth == "seen" or quiet) and self.answer is True


def learned(case: Case) -> Teacher | None:
    """A model with its outputs at all sizes that are known; None if it does not run."""
    model = skeleton(case)
    feeds = known_feeds(case, model)
    fill(case, model)
    teacher = Teacher(model, None)
    try:
        feeds = feeds or _first_that_runs(model, guessed_feeds(model))
        teacher.learn(feeds)
        _learn_unseen(teacher, case, feeds)
    except Exception:
        return None
    return teacher


def outcomes(
    case: Case, teacher: Teacher, faults: int, layers: str, seconds: int
) -> Iterator[Outcome]:
    """Each kind of fault in one model, as far as the model has a place for it."""
    kinds = list(FAULTS)
    random.Random(case.name).shuffle(kinds)
    for kind in kinds[:faults]:
        damaged = _loadable(seeded(teacher.model, kind, 0))
        if damaged is None:
            continue
        truth = _truth(teacher, kind, damaged)
        if truth == "unknown":
            yield Outcome(case.name, kind, truth, None, "")
            continue
        try:
            with within(seconds):
                verdict = n2n.verify(teacher.model, damaged, layers=layers)
                answer: object = verdict.equivalent
                layer = next((y.name for y in verdict.layers if y.status.name == "FAILED"), "")
        except OutOfTime:
            answer, layer = "hung", ""
        except Exception:
            answer, layer = "crashed", ""
        yield Outcome(case.name, kind, truth, answer, layer)


def _loadable(model: onnx.ModelProto | None) -> onnx.ModelProto | None:
    if model is None:
        return None
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception:
        return None
    return model


def _truth(teacher: Teacher, kind: str, damaged: onnx.ModelProto) -> str:
    if FAULTS[kind].harmless:
        return "control"
    try:
        if not teacher.judge(damaged).right:
            return "seen"
        larger = seeded(teacher.model, kind, 0, LARGER)
        if larger is not None and not teacher.judge(larger).right:
            return "quiet"
    except Exception:
        return "unknown"
    return "unknown"


def table(found: list[Outcome]) -> str:
    """Markdown: a row a kind: true faults, what was answered, and which layer saw them."""
    rows = defaultdict(list)
    for x in found:
        rows[x.kind].append(x)
    lines = ["| kind | true | different | cannot tell | proved | by layer |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for kind in FAULTS:
        mine = [x for x in rows[kind] if x.truth != "unknown"]
        answers = Counter(x.answer for x in mine)
        layers = Counter(x.layer for x in mine if x.layer)
        by = ", ".join(f"{k} {n}" for k, n in layers.most_common())
        name = f"{kind} (control)" if FAULTS[kind].harmless else kind
        lines.append(
            f"| {name.replace('_', ' ')} | {len(mine)} | {answers[False]} | {answers[None]} "
            f"| {answers[True]} | {by} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--models", type=int, default=60)
    parser.add_argument("--faults", type=int, default=len(FAULTS), help="kinds for each model")
    parser.add_argument("--max-bytes", type=int, default=3_000_000)
    parser.add_argument("--layers", default="auto", choices=("auto", "certificate", "full"))
    parser.add_argument("--limit", type=int, default=120, help="seconds for one verdict")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--markdown", type=Path, help="where to write the table")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print(*(f"{k}{' (control)' * f.harmless}" for k, f in FAULTS.items()), sep="\n")
        return 0
    warnings.simplefilter("ignore")
    ort.set_default_logger_severity(4)
    cases = [c for c in chosen(options.folders, "*", None, None, None)
             if c.size <= options.max_bytes]  # fmt: skip
    random.Random(0).shuffle(cases)
    found: list[Outcome] = []
    start, used = time.monotonic(), 0
    for case in cases:
        if used >= options.models or time.monotonic() - start > options.seconds:
            break
        teacher = learned(case)
        if teacher is None:
            continue
        used += 1
        for x in outcomes(case, teacher, options.faults, options.layers, options.limit):
            found.append(x)
            if x.bad:
                print(f"{x.model}: {x.kind}: {x.truth}, answered {x.answer}", flush=True)
    print(table(found))
    visible = [x for x in found if x.truth == "seen"]
    seen = sum(x.answer is False for x in visible)
    print(f"\n{used} models, {len(found)} faults; {len(visible)} seen in runs, "
          f"{seen} of them called different; {sum(x.bad for x in found)} wrong")  # fmt: skip
    if options.markdown is not None:
        options.markdown.write_text(table(found) + "\n", encoding="utf-8")
    return int(any(x.bad for x in found))


if __name__ == "__main__":
    sys.exit(main())
