"""What growing costs beside other tools and beside `cp`: CPU, wall, memory, bytes written.

    python -m tools.benchmark                          all sizes; needs 25 GB of disk for a while
    python -m tools.benchmark --sizes 10 100 --repeat 5 --csv costs.csv --plot costs.svg

Every run is a process of its own. CPU is user and system time of that process, memory its
peak, both as the system counts them; files are in the page cache, and bytecode is compiled as
in an installed package. Medians of the repeats; other tools run once above 1000 MB.
"""

from __future__ import annotations

import argparse
import compileall
import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import onnx_net2net
from tools.benchmark import models

MIB = 1 << 20
SIZES = (10, 100, 500, 1900, 4000)
NODES = (2500, 5000, 10000, 20000)
_SINGLE = 2000  # MiB that fit into one file
_TOOL = [sys.executable, "-m", "onnx_net2net"]
_PEERS = {
    "onnx": """
import sys, numpy, onnx
m = onnx.load(sys.argv[1])
if "change" in sys.argv:
    t = m.graph.initializer[0]
    t.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(t) * 2, t.name))
onnx.save(m, sys.argv[2], save_as_external_data="external" in sys.argv, location="out.data")
""",
    "graphsurgeon": """
import sys, onnx, onnx_graphsurgeon as gs
m = onnx.load(sys.argv[1])
g = gs.import_onnx(m)
if "change" in sys.argv:
    c = g.tensors()["conv0.weight"]
    c.values = c.values * 2
m = gs.export_onnx(g)
onnx.save(m, sys.argv[2], save_as_external_data="external" in sys.argv, location="out.data")
""",
    "onnx-ir": """
import sys, onnx_ir as ir
m = ir.load(sys.argv[1])
if "change" in sys.argv:
    c = m.graph.initializers["conv0.weight"]
    c.const_value = ir.Tensor(c.const_value.numpy() * 2, name=c.name)
ir.save(m, sys.argv[2], external_data="out.data" if "external" in sys.argv else None)
""",
}


@dataclass
class Row:
    """One operation on one model, medians of its repeats."""

    model: str
    what: str
    cpu_s: float
    wall_s: float
    rss_mb: float
    written_mb: float
    cpu_of_cp: float = 0.0
    status: int = 0


def measured(command: list[str], folder: Path, repeat: int) -> Row:
    """Run a command several times; what it leaves in `folder` counts as written, and goes."""
    known = set(folder.iterdir())
    runs: list[tuple[float, float, float, float]] = []
    status = 0
    for _ in range(repeat):
        started = time.perf_counter()
        child = os.fork()
        if not child:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            os.execvp(command[0], command)
        _, state, used = os.wait4(child, 0)
        wall = time.perf_counter() - started
        status = os.waitstatus_to_exitcode(state)
        new = [p for p in folder.iterdir() if p not in known]
        written = sum(p.stat().st_size for p in new)
        for path in new:
            path.unlink()
        peak = used.ru_maxrss / (MIB if sys.platform == "darwin" else 1024)
        runs.append((used.ru_utime + used.ru_stime, wall, peak, written / MIB))
    cpu, wall, rss, size = (statistics.median(column) for column in zip(*runs, strict=True))
    return Row("", "", cpu, wall, rss, size, status=status)


def commands(model: Path, peers: list[str]) -> Iterator[tuple[str, list[str]]]:
    """What is run on a chain of convolutions."""
    files = [str(p) for p in sorted(model.parent.glob(f"{model.stem}.*"))]
    out = str(model.parent / "out.onnx")
    copied = str(model.parent / "copied")
    yield "cp", ["sh", "-c", " && ".join(
        f"cp --reflink=never {f} {copied}{k}" for k, f in enumerate(files))]  # fmt: skip
    yield "import onnx", [sys.executable, "-c", "import onnx"]
    noop = (
        "import sys; from onnx_net2net.files.reader import read;"
        "from onnx_net2net.files.patch import apply;"
        "apply(read(sys.argv[1]), []).write(sys.argv[2])"
    )
    yield "net2net no-op", [sys.executable, "-c", noop, str(model), out]
    yield "net2net inspect", [*_TOOL, "inspect", str(model)]
    widen = [*_TOOL, "widen", str(model), "--node", "conv0", "--width", "520", "-o", out]
    yield "net2net widen, unverified", [*widen, "--verify", "off"]
    yield "net2net widen", [*widen, "--verify", "certificate"]
    yield "net2net widen linked", [*widen, "--verify", "certificate", "--link-teacher"]
    deepen = [*_TOOL, "deepen", str(model), "--after", "relu0", "-o", out]
    yield "net2net deepen", [*deepen, "--verify", "certificate"]
    student = str(model.parent / "student.onnx")
    yield "net2net verify", [*_TOOL, "verify", str(model), student, "--layers", "certificate"]
    for peer in peers:
        large = ["external"] if len(files) > 1 else []
        script = [sys.executable, "-c", _PEERS[peer], str(model), out]
        yield f"{peer} no-op", [*script, *large]
        yield f"{peer} change one", [*script, "change", *large]


def chains(folder: Path, sizes: list[int], repeat: int, peers: list[str]) -> Iterator[Row]:
    """Rows for chains of convolutions of some sizes in MiB."""
    for size in sizes:
        external = size > _SINGLE
        name = f"{size} MB{' external' if external else ''}"
        model = models.chain(folder / "model.onnx", size * MIB, external)
        wide = ["--node", "conv0", "--width", "520", "--verify", "off"]
        measured([*_TOOL, "inspect", str(model)], folder, 1)  # warms caches
        student = folder / "student.onnx"
        make = [*_TOOL, "widen", str(model), *wide, "-o", str(student)]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        measured(next(commands(model, peers))[1], folder, 1)  # room in the page cache
        base = 0.0
        for what, command in commands(model, peers):
            os.sync()
            ours = what == "cp" or "net2net" in what
            row = measured(command, folder, repeat if ours or size <= 1000 else 1)
            base = base or row.cpu_s
            row.model, row.what, row.cpu_of_cp = name, what, row.cpu_s / max(base, 1e-3)
            yield row
        for path in folder.iterdir():
            path.unlink()


def graphs(folder: Path, counts: list[int], repeat: int) -> Iterator[Row]:
    """Rows for residual networks of many small nodes."""
    for count in counts:
        model = models.blocks(folder / "model.onnx", count)
        out = ["--verify", "certificate", "-o", str(folder / "out.onnx")]
        for what, rest in {
            "inspect": ["inspect", str(model)],
            "widen inside": ["widen", str(model), "--node", "b3.conv1", "--ratio", "1.5", *out],
            "widen throughout": ["widen", str(model), "--node", "stem", "--ratio", "1.5", *out],
            "deepen": ["deepen", str(model), "--after", "b3.relu", *out],
        }.items():
            row = measured([*_TOOL, *rest], folder, repeat)
            row.model, row.what = f"{count} nodes", f"net2net {what}"
            yield row
        model.unlink()


def show(row: Row) -> None:
    """One line of the table."""
    ratio = f"{row.cpu_of_cp:7.2f}" if row.cpu_of_cp else " " * 7
    failed = f"   exit {row.status}" if row.status else ""
    print(
        f"{row.model:17} {row.what:27} {row.cpu_s:7.2f} {ratio} {row.wall_s:8.2f} "
        f"{row.rss_mb:7.0f} {row.written_mb:9.1f}{failed}",
        flush=True,
    )


_DRAWN = {  # what is run -> how its line looks
    "cp": ("cp", "0.5", "--"),
    "net2net widen": ("widen, certificate", "C0", "-"),
    "net2net widen linked": ("widen --link-teacher, certificate", "C2", "-"),
    "onnx change one": ("onnx", "C1", "-"),
    "graphsurgeon change one": ("onnx-graphsurgeon", "C3", "-"),
    "onnx-ir change one": ("onnx-ir", "C4", "-"),
    "net2net inspect": ("inspect", "C5", "-"),
    "net2net widen inside": ("widen, certificate", "C0", "-"),
    "net2net widen throughout": ("widen every block, certificate", "C6", "-"),
    "net2net deepen": ("deepen, certificate", "C8", "-"),
}


def plot(rows: list[Row], path: str) -> None:
    """CPU and memory over size, and CPU over nodes; needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = (
        ("MB", "cpu_s", "model, MB", "CPU s to change one layer"),
        ("MB", "rss_mb", "model, MB", "peak memory, MB"),
        ("nodes", "cpu_s", "nodes", "CPU s"),
    )
    for axes, (unit, column, across, label) in zip(figure.subplots(1, 3), panels, strict=True):
        skipped = () if unit == "nodes" else ("net2net inspect", "net2net deepen")
        for what, (name, colour, style) in _DRAWN.items():
            mine = [r for r in rows if r.what == what and unit in r.model and not r.status]
            if mine and what not in skipped:
                x = [int(r.model.split()[0]) for r in mine]
                y = [getattr(r, column) for r in mine]
                axes.plot(x, y, style, marker="o", markersize=3, color=colour, label=name)
        axes.set(xscale="log", yscale="log", xlabel=across, ylabel=label)
        marks = sorted({int(r.model.split()[0]) for r in rows if unit in r.model})
        axes.minorticks_off()
        axes.set_xticks(marks, [f"{m:,}" for m in marks], fontsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path)


def markdown(rows: list[Row]) -> str:
    """The rows as a table."""
    lines = [
        "| model | what | CPU s | of cp | wall s | peak MB | written MB |",
        "|---|---|" + "--:|" * 5,
    ]
    for r in rows:
        cells = (f"{r.cpu_s:.2f}", f"{r.cpu_of_cp:.1f}" if r.cpu_of_cp else "", f"{r.wall_s:.2f}",
                 f"{r.rss_mb:.0f}", f"{r.written_mb:.1f}")  # fmt: skip
        failed = f" (exit {r.status})" if r.status else ""
        lines.append(f"| {r.model} | {r.what}{failed} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def installed(peers: list[str]) -> list[str]:
    """Those that can be imported here."""
    from importlib.util import find_spec

    modules = {"onnx": "onnx", "graphsurgeon": "onnx_graphsurgeon", "onnx-ir": "onnx_ir"}
    return [p for p in peers if find_spec(modules[p])]


def main() -> None:
    """Run what was asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), metavar="MB")
    parser.add_argument("--nodes", type=int, nargs="*", default=list(NODES))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peers", nargs="*", choices=[*_PEERS], default=[*_PEERS])
    parser.add_argument("--folder", help="where the models are made and removed")
    parser.add_argument("--csv")
    parser.add_argument("--plot")
    parser.add_argument("--markdown", help="the table as a file")
    options = parser.parse_args()
    compileall.compile_dir(Path(onnx_net2net.__file__).parent, quiet=2)
    folder = Path(tempfile.mkdtemp(prefix="benchmark-", dir=options.folder))
    rows: list[Row] = []
    print(
        f"{'model':17} {'what':27} {'CPU s':>7} {'of cp':>7} {'wall s':>8} {'MB':>7} {'written':>9}"
    )
    try:
        peers = installed(options.peers)
        for row in chain(
            chains(folder, options.sizes, options.repeat, peers),
            graphs(folder, options.nodes, options.repeat),
        ):
            rows.append(row)
            show(row)
    finally:
        shutil.rmtree(folder)
    if options.csv:
        with open(options.csv, "w", newline="") as stream:
            table = csv.DictWriter(stream, fieldnames=list(asdict(rows[0])))
            table.writeheader()
            table.writerows(map(asdict, rows))
    if options.markdown:
        Path(options.markdown).write_text(markdown(rows))
    if options.plot:
        plot(rows, options.plot)
