"""Insert layers after every activation and linear layer of every model in some folders.

    python -m tools.coverage.deepen FOLDER... [--smoke FILE] [--sample 4] [--kinds auto,linear]

Each insertion is a model of its own, run in onnxruntime beside the teacher: done (bit-equal,
or near), refused (by reason), wrong, or crashed. Exit code 1 if any is wrong or crashed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.console import Console

from onnx_net2net.errors import RefusalError
from onnx_net2net.files import patch
from onnx_net2net.files.reader import read
from onnx_net2net.growth.deepen.step import deepen
from onnx_net2net.growth.deepen.verb import Deepen
from onnx_net2net.inference.activation_patterns import recognise
from onnx_net2net.inference.analysis import Analysis
from tools.coverage.models import Case, Feed, chosen, fill, guessed_feeds, known_feeds, skeleton
from tools.coverage.runtime import run

NEAR = 1e-5
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedGemm", "FusedMatMul")
ACROSS = ("Softmax", "LogSoftmax")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--models", default="*", metavar="GLOB", help="names of models")
    parser.add_argument("--smoke", type=Path, metavar="FILE", help="list of names, in this order")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N models only")
    parser.add_argument("--sample", type=int, metavar="N", help="N places of each model")
    parser.add_argument("--kinds", default="auto,linear", metavar="KIND,...")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    parser.add_argument("--max-bytes", type=int, metavar="B", help="leave out larger models")
    options = parser.parse_args()
    total: Counter[str] = Counter()
    console = Console(stderr=True)
    for case in chosen(options.folders, options.models, None, options.smoke, options.limit):
        if options.max_bytes and case.size > options.max_bytes:
            continue
        found = Counter(_outcomes(case, options.sample, options.kinds.split(","), console))
        console.print(case.name, dict(found))
        total.update(found)
    sums = summary(total)
    print(json.dumps({"schema": "onnx-net2net/coverage-deepen/1", **sums}, indent=None if
                     options.json else 2))  # fmt: skip
    return 1 if sums["wrong"] or sums["crashed"] else 0


def summary(total: Counter[str]) -> dict[str, Any]:
    """Figures from the outcomes; `share` is of all insertions that were asked for.

    >>> summary(Counter({"done identity": 99, "refused no channel axis": 1}))["share"]
    0.99
    """
    sums = {w: sum(c for k, c in total.items() if k.startswith(w)) for w in
            ("done", "refused", "wrong", "crashed")}  # fmt: skip
    asked = sum(sums.values())
    share = round(sums["done"] / asked, 4) if asked else 0.0
    return {**sums, "share": share, "outcomes": dict(total.most_common())}


def places(analysis: Analysis) -> list[str]:
    """The float outputs of activations and linear layers of the main graph."""
    found = []
    for node in analysis.model.nodes:
        end = node.outputs[0] if node.outputs else ""
        if node.scope or not end or end in analysis.model.constant:
            continue
        if analysis.first.dtype(end) not in (0, 1, 10, 11, 16):
            continue
        linear = node.op.rpartition(".")[2] in LAYERS
        if linear or node.op in ACROSS or recognise(analysis, end) is not None:
            found.append(end)
    return found


def _outcomes(case: Case, sample: int | None, kinds: list[str], console: Console) -> Iterator[str]:
    try:
        model = skeleton(case)
        fill(case, model)
        feeds, teacher = _teacher(case, model)
        source = read(model)
        analysis = Analysis(source)
    except Exception as error:  # the teacher itself cannot be run or read
        console.print(f"{case.name}: {type(error).__name__}: {str(error)[:200]}")
        yield "skipped"
        return
    points = places(analysis)
    if sample is not None and sample < len(points):
        points = random.Random(case.name).sample(points, sample)
    for tensor in points:
        for kind in kinds:
            try:
                made = deepen(analysis, Deepen(after=tensor, kind=kind))
                student = patch.apply(source, made.patch).to_proto()
                outcome = _judged(teacher, run(student, feeds))
                yield f"{outcome} {made.kind}"
                if outcome == "wrong":
                    console.print(f"  wrong: {kind} after {tensor}")
            except RefusalError as refused:
                yield f"refused {refused.refusal.reason.value}"
                console.print(f"  refused: {kind} after {tensor}: {refused.refusal}"[:200])
            except Exception as error:  # whatever goes wrong is the finding
                yield "crashed"
                console.print(f"  crashed: {kind} after {tensor}: {error!r}"[:300])


def _teacher(case: Case, model: onnx.ModelProto) -> tuple[list[Feed], list[Any]]:
    known = known_feeds(case, model)
    wanted = {i.name for i in model.graph.input}
    known = [{k: v for k, v in feed.items() if k in wanted} for feed in known][:1]
    attempts = [known] if known else list(guessed_feeds(model))
    for k, feeds in enumerate(attempts):
        try:
            return feeds[:1], run(model, feeds[:1])
        except Exception:
            if k == len(attempts) - 1:
                raise
    raise AssertionError


def _judged(teacher: list[Any], student: list[Any]) -> str:
    near = True
    same = True
    for before, after in zip(teacher, student, strict=True):
        for x, y in zip(before, after, strict=True):
            if isinstance(x, list):
                continue
            x, y = np.asarray(x), np.asarray(y)
            floats = x.dtype.kind in "fV"
            if x.shape != y.shape or not np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
                same = False
                near = near and floats and x.shape == y.shape and _close(x, y)
    return "done" if same else "done near" if near else "wrong"


def _close(x: Any, y: Any) -> bool:
    x, y = x.astype(np.float64), y.astype(np.float64)
    finite = np.isfinite(x)
    scale = np.abs(x[finite]).max(initial=0.0) or 1.0
    return bool((np.abs(x - y)[finite] <= NEAR * scale).all())


if __name__ == "__main__":
    sys.exit(main())
