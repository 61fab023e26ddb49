"""The paper's experiments (Chen, Goodfellow, Shlens 2015), small, on a CPU, through ONNX.

    python -m tools.experiments --experiment all --data fashion       minutes
    python -m tools.experiments --redraw                              tables and pictures only

A teacher is trained in torch, exported, grown by onnx_net2net, checked in onnxruntime, read back
by the names of its initializers and trained on. Writes FOLDER/reproduction/*.json, *.png, *.svg
and the tables in FOLDER/reproduction.md. Needs the extra `paper`, and for Fashion-MNIST
`apt-get install dataset-fashion-mnist`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnx
import torch

from tools.experiments import data as paper_data
from tools.experiments.plots import draw
from tools.experiments.report import fill_tables
from tools.experiments.studies import EXPERIMENTS, SETUPS, Arm, Record, Setup, study, teach
from tools.experiments.training import Budget

_data: paper_data.Data


def _begin(data: str) -> None:
    global _data
    torch.set_num_threads(1)
    _data = paper_data.load(data)


def _teach(setup: str, seed: int, budget: Budget) -> tuple[bytes, Record]:
    model, record = teach(SETUPS[setup](), _data, budget, seed)
    return model.SerializeToString(), record


def _study(setup: str, arm: Arm, teacher: bytes, seed: int, budget: Budget) -> Record:
    model = onnx.load_model_from_string(teacher)
    return study(SETUPS[setup](), arm, model, _data, budget, seed)


def _workers(jobs: int, data: str) -> Executor:
    if jobs == 1:
        return ThreadPoolExecutor(1, initializer=_begin, initargs=(data,))
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin, (data,))


def run(
    setup: Setup, seeds: int, jobs: Executor, budget: Budget, have: set[tuple[Any, ...]]
) -> Iterator[tuple[int, Record]]:
    """Train all teachers, then all students but those we have; yields what is done and left."""
    taught = [jobs.submit(_teach, setup.name, seed, budget) for seed in range(seeds)]
    arms = [
        [a for a in setup.arms if identity({**vars(a), **_of(a, seed)}) not in have]
        for seed in range(seeds)
    ]
    left, waiting = seeds + sum(map(len, arms)), []
    for seed, job in enumerate(taught):
        teacher, record = job.result()
        left -= 1
        yield left, record
        waiting += [
            jobs.submit(_study, setup.name, arm, teacher, seed, budget) for arm in arms[seed]
        ]
    for done in waiting:
        left -= 1
        yield left, done.result()


def _of(arm: Arm, seed: int) -> dict[str, Any]:
    return {"start": arm.way.start, "seed": seed}


def identity(record: dict[str, Any]) -> tuple[Any, ...]:
    """What tells an arm's record for one seed from all others of its experiment."""
    return tuple(record.get(k) for k in ("label", "rate", "start", "optimiser", "long", "seed"))


def experiment(
    path: Path, setup: Setup, data: str, seeds: int, jobs: Executor, budget: Budget, resume: bool
) -> None:
    """Run one experiment and write its figures as JSON, again after every record."""
    old: dict[str, Any] = {"wall": 0, "records": []}
    if resume and path.exists():
        old = json.loads(path.read_text())
    records = {identity(r): r for r in old["records"]}
    start = time.perf_counter()
    order = [(arm.label, arm.rate, arm.way.start, arm.optimiser, arm.long) for arm in setup.arms]
    for left, record in run(setup, seeds, jobs, budget, set(records)):
        records[identity(record)] = _rounded(record)
        # Teachers first, then seed by seed: not in the order in which workers were ready.
        rows = sorted(
            records, key=lambda i: (order.index(i[:-1]), i[-1]) if i[:-1] in order else (-1, i[-1])
        )
        seconds = old["wall"] + time.perf_counter() - start
        head = {"setup": setup.name, "kind": setup.kind, "data": data, "widths": setup.teacher,
                "wall": round(seconds), "torch": torch.__version__}  # fmt: skip
        path.write_text(_lines({**head, "records": [records[i] for i in rows]}))
        print(f"{setup.name}: {left} to go", end="  \r", file=sys.stderr)
    cpu = sum(r["cpu"] for r in records.values())
    print(f"{setup.name}: {seconds:.0f} s, {cpu:.0f} CPU s in training", file=sys.stderr)


def _lines(found: dict[str, Any]) -> str:
    """JSON with one record a line, so that a diff can be read."""
    head = {k: v for k, v in found.items() if k != "records"}
    rows = ",\n  ".join(json.dumps(r) for r in found["records"])
    return json.dumps(head, indent=1)[:-2] + f',\n "records": [\n  {rows}\n ]\n}}\n'


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list) else value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--experiment", choices=[*EXPERIMENTS, *SETUPS, "all"], default="all")
    parser.add_argument("--data", choices=["fashion", "digits"], help="default: what is there")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--out", type=Path, default=Path("docs"), metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="short training, for step 0 only")
    parser.add_argument("--resume", action="store_true", help="train only what is not there yet")
    parser.add_argument("--redraw", action="store_true", help="train nothing")
    options = parser.parse_args(arguments)
    folder = options.out / "reproduction"
    folder.mkdir(parents=True, exist_ok=True)
    paths = sorted(folder.glob("*.json"))
    if not options.redraw:
        data = options.data or ("fashion" if paper_data.FOLDER.is_dir() else "digits")
        if options.data is None and data == "digits":
            print(f"{paper_data.INSTALL}; taking scikit-learn's digits", file=sys.stderr)
        groups = {**EXPERIMENTS, "all": SETUPS}
        names = groups.get(options.experiment, [options.experiment])
        paths = [folder / f"{name}.json" for name in names]
        budget = Budget(150, 10, 10) if options.quick else Budget()
        with _workers(options.jobs, data) as jobs:
            for path in paths:
                setup = SETUPS[path.stem]()
                experiment(path, setup, data, options.seeds, jobs, budget, options.resume)
    for path in paths:
        draw(json.loads(path.read_text()), path.with_suffix(""))
    fill_tables(options.out / "reproduction.md", paths)
    return 0
