"""Random valid graphs, random growth steps and random damage, judged by onnxruntime.

    python -m tools.fuzz --seed 0 --seconds 300 [--out DIR]
    python -m tools.fuzz --program 1234           one graph again, with everything it says

Each graph is grown in a few ways without verification: onnxruntime judges the student (engine)
and the certificate is asked about the same pair and about a damaged student (proof). A failure
is made smaller by leaving out blocks, and both models are saved. Exit code 1 if anything was
wrong, invalid, falsely proved, falsely refuted, crashed or hung.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime as ort

import tools.fuzzing.composites
import tools.fuzzing.wiring_faults  # noqa: F401  adds to FAULTS
from tools.fuzzing.judging import Finding, examined
from tools.fuzzing.programs import Program, draw


def failures(program: Program) -> list[Finding]:
    """What must not happen with a program's model."""
    try:
        return [f for f in examined(program) if f.bad]
    except Exception as why:
        nothing = onnx.ModelProto()
        return [Finding("crashed", f"{type(why).__name__}: {why}"[:200], nothing)]


def smaller(program: Program, word: str) -> Program:
    """The same failure with as few blocks as leaving out one at a time can give."""
    k = 0
    while k < len(program.blocks):
        less = program.without(k)
        if any(f.word == word for f in failures(less)):
            program = less
        else:
            k += 1
    return program


def _saved(finding: Finding, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(finding.teacher, folder / f"{name}_teacher.onnx")
    if finding.student is not None:
        onnx.save(finding.student, folder / f"{name}_student.onnx")


def _reported(program: Program, bad: list[Finding], out: Path | None) -> None:
    small = smaller(program, bad[0].word)
    again = next((f for f in failures(small) if f.word == bad[0].word), bad[0])
    print(f"{bad[0].word}: program {program.seed}: {again.what}\n  {small}", flush=True)
    if out is not None:
        _saved(again, out, f"{program.seed}_{again.word.replace(' ', '_')}")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="the first program's number")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--graphs", type=int, default=1 << 30, help="stop after so many")
    parser.add_argument("--program", type=int, help="one program alone, all findings")
    parser.add_argument("--out", type=Path, help="where failing pairs are saved")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    ort.set_default_logger_severity(4)
    if options.program is not None:
        found = examined(draw(options.program))
        print(draw(options.program), *(f"{f.word}: {f.what}" for f in found), sep="\n")
        return int(any(f.bad for f in found))
    counts: Counter[str] = Counter()
    start, number, failed = time.monotonic(), options.seed, 0
    while time.monotonic() - start < options.seconds and number - options.seed < options.graphs:
        program = draw(number)
        try:
            found = examined(program)
        except Exception as why:
            found = [Finding("crashed", f"{type(why).__name__}: {why}"[:200], onnx.ModelProto())]
        counts.update(f.word for f in found)
        bad = [f for f in found if f.bad]
        if bad:
            failed += 1
            _reported(program, bad, options.out)
        number += 1
    print(f"{number - options.seed} graphs, {failed} with failures")
    for word, n in counts.most_common():
        print(f"  {n:6} {word}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
