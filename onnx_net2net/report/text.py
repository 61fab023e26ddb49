"""Plans and inspections as text for a terminal of any width, and as JSON."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from onnx_net2net.errors import Reason
from onnx_net2net.inspection import Report
from onnx_net2net.planning import Plan


def show(content: Any, as_json: bool) -> None:
    """Print to stdout: a JSON object on one line, or text."""
    sys.stdout.write((json.dumps(content) if as_json else str(content).rstrip()) + "\n")


def warn(text: str) -> None:
    """Print a warning to stderr."""
    sys.stderr.write(f"warning: {text}\n")


def table(rows: list[list[str]], numbers: set[int] = frozenset()) -> str:  # type: ignore[assignment]
    """Rows as aligned columns that fit the terminal; the first column is cut in the middle.

    >>> print(table([["conv1", "64"], ["fc", "10"]], {1}))
      conv1  64
      fc     10
    """
    if not rows:
        return ""
    room = max(shutil.get_terminal_size((80, 24)).columns, 60) - 2
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
    rest = sum(widths[1:]) + 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(room - rest, 20))
    lines = []
    for r in rows:
        cells = [shortened(r[0], widths[0]), *r[1:]]
        done = [
            c.rjust(widths[k]) if k in numbers else c.ljust(widths[k]) for k, c in enumerate(cells)
        ]
        lines.append(("  " + "  ".join(done)).rstrip()[: room + 2])
    return "\n".join(lines)


def shortened(text: str, width: int) -> str:
    """Text cut in the middle.

    >>> shortened("/layer1/layer1.0/conv1/Conv", 15)
    '/layer1...1/Conv'[:15]
    """
    if len(text) <= width:
        return text
    head = (width - 3) // 2
    return text[:head] + "..." + text[len(text) - (width - 3 - head) :]


def inspection(report: Report, name: str) -> str:
    """What `inspect` prints."""
    inputs = ", ".join(
        f"{n} [{'x'.join('?' if d is None else str(d) for d in s)}]" for n, s in report.inputs.items()
    )
    lines = [
        f"{name}: {report.nodes} nodes, {report.layers} layers, {report.parameters:,} parameters",
        f"inputs: {inputs}",
        f"outputs: {', '.join(report.outputs)}",
        "",
    ]
    if report.spaces:
        lines.append(f"{len(report.spaces)} widths can grow:")
        rows = [["space", "width", "step", "layers", "parameters"]]
        rows += [
            [s.name, str(s.width), f"+{s.step}", str(len(s.nodes)), f"{s.parameters:,}"]
            for s in report.spaces
        ]
        lines += [table(rows, {1, 2, 3, 4})]
        equal = [s for s in report.spaces if s.uniform]
        if equal:
            lines.append(
                "whole multiples only: " + ", ".join(f"{s.name} ({s.uniform})" for s in equal[:4])
                + (", ..." if len(equal) > 4 else "")
            )  # fmt: skip
    else:
        lines.append("no width can grow")
    if report.blocked:
        lines += ["", f"{len(report.blocked)} layers cannot grow:"]
        lines += [table([[b.node, _why(b.refusal)] for b in report.blocked])]
    return "\n".join(lines)


def _why(refusal: Any) -> str:
    if refusal.reason in (Reason.GRAPH_INPUT, Reason.GRAPH_OUTPUT):
        return f"{refusal.reason.value} '{refusal.node}'"
    return f"{refusal.reason.value} ({refusal.detail})" if refusal.detail else refusal.reason.value


def _dims(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def grown(plan: Plan, verb: str, output: Path | None, verdict: Any, as_json: bool) -> Any:
    """What a growing command says: text, or a JSON-able dict."""
    return _grown_json(plan, verb, output, verdict) if as_json else _grown_text(plan, output, verdict)


def _grown_json(plan: Plan, verb: str, output: Path | None, verdict: Any) -> dict[str, Any]:
    return {
        "schema": f"onnx-net2net/{verb}/1",
        "output": str(output) if output else None,
        "preserving": plan.preserving,
        "steps": [
            {
                "name": s.name,
                "axis": list(s.axis),
                "width": list(s.width),
                "along": list(s.along),
                "readers": list(s.readers),
                "uniform": s.uniform,
                "parted": list(s.parted),
                "inserted": s.inserted,
            }
            for s in plan.steps
        ],
        "tensors": {n: {"before": list(a), "after": list(b)} for n, (a, b) in plan.changes.items()},
        "parameters": {"before": plan.parameters[0], "after": plan.parameters[1]},
        "bytes": {"before": plan.source.size, "after": len(plan.pieces)},
        "warnings": plan.warnings,
        "verdict": verdict.to_json() if verdict is not None else None,
    }


def _grown_text(plan: Plan, output: Path | None, verdict: Any) -> str:
    lines = []
    for s in plan.steps:
        before, after = s.width
        lines.append(f"widen '{s.name}': {before} -> {after} (axis {s.axis[1]} of '{s.axis[0]}')")
        if s.uniform:
            lines.append(f"  every unit is copied equally often, as '{s.uniform}' averages over them")
        others = [n for n in s.along]
        if len(others) > 1:
            lines.append(f"  these {len(others)} layers share this width: {_listed(others)}")
        if s.readers:
            lines.append(f"  read by: {_listed(s.readers)}")
        if s.inserted:
            lines.append(f"  {s.inserted} Mul inserted where no weight can take the division")
    rows = [["constant", "before", "after"]]
    rows += [[n, _dims(a), _dims(b)] for n, (a, b) in list(plan.changes.items())[:24]]
    lines.append(table(rows, {1, 2}))
    if len(plan.changes) > 24:
        lines.append(f"  ... and {len(plan.changes) - 24} more (--json lists all)")
    a, b = plan.parameters
    lines.append(f"parameters {a:,} -> {b:,} ({(b - a) / max(a, 1):+.1%})")
    size = (plan.source.size, len(plan.pieces))
    lines.append(f"file {size[0]:,} -> {size[1]:,} bytes")
    if verdict is not None:
        lines.append(str(verdict))
    if output is not None:
        lines.append(f"wrote {output}")
    else:
        lines.append("planned only; nothing was written")
    return "\n".join(lines)


def _listed(names: Any, most: int = 4) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
