"""Widen every weight-bearing node of every model in some folders by 1.5, and see what comes out.

    python -m tools.coverage FOLDER... [--models 'tv_*'] [--family cnn] [--sample 3] [--jobs 2]
    python -m tools.coverage ZOO --smoke ZOO/smoke.txt --limit 20 --results out.jsonl

Teacher and student run in onnxruntime at the known sizes and at one that no analysis has seen.
A node is preserved, refused (with the engine's reason), wrong, or crashed. Exit code 1 if any is
wrong or crashed. `tools.coverage.deepen` inserts layers, `tools.coverage.sequence` grows all of a
model step by step.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tools.coverage.models import FAMILIES, Case, chosen
from tools.coverage.probe import Row, Settings, probe
from tools.coverage.summary import figures, show


def main() -> int:
    """Command line."""
    options = _parser().parse_args()
    found = chosen(options.folders, options.models, options.family, options.smoke, options.limit)
    if options.max_bytes:
        found = [c for c in found if c.size <= options.max_bytes]
    rows = _read(options.results)
    wanted = {c.name for c in found}
    rows = {name: row for name, row in rows.items() if name in wanted}
    settings = Settings(options.sample, options.seconds, options.cache, not options.no_everywhere)
    pending = [c for c in found if c.name not in rows]
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True) as bar:
        task = bar.add_task("models", total=len(found), completed=len(rows))
        for row in _run(pending, settings, options.jobs):
            rows[row["model"]] = row
            if options.results:
                with options.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            bar.update(task, advance=1, description=row["model"])
    ordered = [rows[c.name] for c in found]
    sums = figures(ordered)
    if options.json:
        print(json.dumps({"schema": "onnx-net2net/coverage/1", **sums, "models": ordered}))
    else:
        show(ordered, sums, Console(width=None if sys.stdout.isatty() else 140))
    return 1 if sums["wrong"] or sums["crashed"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--models", default="*", metavar="GLOB", help="names of models")
    parser.add_argument("--family", choices=sorted(FAMILIES), help="one part of the manifest")
    parser.add_argument("--smoke", type=Path, metavar="FILE", help="list of names, in this order")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N models only")
    parser.add_argument("--sample", type=int, metavar="N", help="N nodes of each model")
    parser.add_argument("--max-bytes", type=int, metavar="B", help="leave out larger models")
    parser.add_argument("--no-everywhere", action="store_true", help="single nodes only")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="models at a time")
    parser.add_argument("--seconds", type=int, default=600, metavar="S", help="limit a model")
    parser.add_argument("--results", type=Path, metavar="FILE", help="JSON lines; resumed from")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep the teachers' outputs")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    return parser


def _read(results: Path | None) -> dict[str, Row]:
    if not results or not results.exists():
        return {}
    lines = results.read_text(encoding="utf-8").splitlines()
    return {row["model"]: row for row in map(json.loads, lines)}


def _run(pending: list[Case], settings: Settings, jobs: int) -> Iterator[Row]:
    """Each model in a process of its own, so that one that dies takes nothing along."""
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_apart, case, settings) for case in pending]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _apart(case: Case, settings: Settings) -> Row:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, case, settings), daemon=True)
    process.start()
    theirs.close()
    row: Row = {"model": case.name, "file": case.path.name, "nodes": []}
    try:
        # The alarm inside comes first; this one is for code that never returns to Python.
        if ours.poll(settings.seconds + 120):
            row = ours.recv()
        else:
            row["error"] = f"killed after {settings.seconds + 120} s"
            process.kill()
    except EOFError:
        row["error"] = "the process died"
    process.join()
    return row


def _child(pipe: Connection, case: Case, settings: Settings) -> None:
    pipe.send(probe(case, settings))
    pipe.close()
