"""Plans and inspections as text for a terminal of any width, and as JSON."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from onnx_net2net.errors import Reason
from onnx_net2net.growth.widen.units import Row
from onnx_net2net.plans.inspection import Report, SpaceInfo
from onnx_net2net.plans.plan import Plan
from onnx_net2net.report.recipe import heading, origin, taken_json
from onnx_net2net.report.terminal import columns, fitted, listed, paragraph

_MOST = 24  # constants that a plan lists


def show(content: Any, as_json: bool) -> None:
    """Print to stdout: a JSON object on one line, or text."""
    print(json.dumps(content) if as_json else str(content).rstrip())


def warn(text: str) -> None:
    """Print a warning to stderr."""
    print(fitted(f"warning: {text}", sys.stderr), file=sys.stderr)


def count(n: int, what: str, plural: str = "") -> str:
    """A number and what is counted.

    >>> count(1, "layer"), count(3, "layer")
    ('1 layer', '3 layers')
    """
    return f"{n} {what if n == 1 else plural or what + 's'}"


def table(rows: Sequence[Sequence[str]], numbers: AbstractSet[int] = frozenset()) -> str:
    """Rows as aligned columns that fit the terminal.

    Names that are too long for the first column get a line of their own, for they must be
    there to be copied; the last column is wrapped unless it is a number.

    >>> print(table([["conv1", "64"], ["fc", "10"]], {1}))
      conv1  64
      fc     10
    """
    if not rows:
        return ""
    room, last = columns() - 2, len(rows[0]) - 1
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
    wrapped = last > 0 and last not in numbers
    rest = sum(widths[1:last] if wrapped else widths[1:]) + 2 * last
    widths[0] = min(widths[0], max(room - rest - (min(widths[last], 40) if wrapped else 0), 20))
    if wrapped:
        widths[last] = max(room - rest - widths[0], 20)
    lines = []
    for row in rows:
        cells = list(row)
        if len(cells[0]) > widths[0]:
            lines.append("  " + cells[0])
            cells[0] = ""
        tail = textwrap.wrap(cells[last], widths[last]) if wrapped else []
        cells[last] = tail[0] if tail else cells[last]
        done = [
            c.rjust(w) if k in numbers else c.ljust(w)
            for k, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append(("  " + "  ".join(done)).rstrip())
        margin = 2 + sum(widths[:last]) + 2 * last
        lines += [" " * margin + line for line in tail[1:]]
    return "\n".join(lines)


def headline(text: str) -> str:
    """A step's first line, wrapped; names are not broken."""
    return textwrap.fill(
        text, columns(), subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def inspection(report: Report, name: str, every_layer: bool = False) -> str:
    """What `inspect` prints; `every_layer`: also which layers make and read each width."""
    inputs = [
        f"{n} [{'x'.join('?' if d is None else str(d) for d in s)}]"
        for n, s in report.inputs.items()
    ]
    sizes = f"{count(report.nodes, 'node')}, {count(report.layers, 'layer')}"
    lines = [
        f"{name}: {sizes}, {report.parameters:,} parameters",
        listed("inputs: ", inputs),
        listed("outputs: ", report.outputs),
        "",
    ]
    if report.spaces:
        lines.append(f"{count(len(report.spaces), 'width')} can grow:")
        rows = [["space", "width", "step", "layers", "parameters"]]
        rows += [
            [s.name, *_counted(s), str(len(s.nodes)), f"{s.parameters:,}"] for s in report.spaces
        ]
        lines.append(table(rows, {1, 2, 3, 4}))
        equal = [f"{s.name} ({s.uniform})" for s in report.spaces if s.uniform]
        if equal:
            lines.append(listed("whole multiples only: ", equal))
        for s in report.spaces if every_layer else ():
            lines.append(listed(f"width {s.width} of {s.name}: made by ", s.nodes))
            lines.append(listed("read by: ", s.readers) if s.readers else "  read by no layer")
    else:
        lines.append("no width can grow")
    lines[3:3] = [paragraph(line) for line in origin(report.provenance)]
    if report.blocked:
        lines += ["", f"{count(len(report.blocked), 'layer')} cannot grow:"]
        lines.append(table([[b.node, _why(b.refusal)] for b in report.blocked]))
    return "\n".join(lines)


def _why(refusal: Any) -> str:
    if refusal.reason in (Reason.GRAPH_INPUT, Reason.GRAPH_OUTPUT):
        return f"{refusal.reason.value} '{refusal.node}'"
    return f"{refusal.reason.value} ({refusal.detail})" if refusal.detail else refusal.reason.value


def _dims(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def grown(plan: Plan, verb: str, output: Path | None, verdict: Any, as_json: bool) -> Any:
    """What a growing command says: text, or a JSON-able dict."""
    return (
        _grown_json(plan, verb, output, verdict)
        if as_json
        else _grown_text(plan, verb, output, verdict)
    )


def _grown_json(plan: Plan, verb: str, output: Path | None, verdict: Any) -> dict[str, Any]:
    return {
        "schema": f"onnx-net2net/{verb}/1",
        "output": str(output) if output else None,
        "preserving": plan.preserving,
        "steps": [
            {k: _plain(v) for k, v in s.__dict__.items() if k not in _UNSAID} for s in plan.steps
        ],
        "tensors": {n: {"before": list(a), "after": list(b)} for n, (a, b) in plan.changes.items()},
        "parameters": {"before": plan.parameters[0], "after": plan.parameters[1]},
        "bytes": dict(zip(("before", "after"), plan.sizes, strict=True)),
        "warnings": plan.warnings,
        "verdict": verdict.to_json() if verdict is not None else None,
        **({"recipe": [taken_json(t) for t in plan.taken]} if verb == "apply" else {}),
    }


def _plain(value: Any) -> Any:
    """Tuples as lists, dataclasses as dicts."""
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return {k: _plain(v) for k, v in value.__dict__.items()} if is_dataclass(value) else value


def _counted(space: SpaceInfo) -> tuple[str, str]:
    """Width and step as one gives them: a part of a layer is named by --space, in its own units."""
    if not space.part:
        return str(space.width), f"+{space.step}"
    return str(space.size), f"+{space.size if space.uniform else 1}"


def _change(parameters: tuple[int, int]) -> str:
    a, b = parameters
    return f"parameters {a:,} -> {b:,} ({(b - a) / max(a, 1):+.1%})"


def _widened(s: Any) -> list[str]:
    before, after = s.width
    lines = [headline(f"widen '{s.name}': {before} -> {after} (axis {s.axis[1]} of '{s.axis[0]}')")]
    if s.together:
        lines = [f"widen {len(s.together)} widths at once:"]
        lines.append(table([[n, f"{a} -> {b}"] for n, a, b in s.together], {1}))
        named = {n for n, _, _ in s.together}
        if along := [n for n in s.along if n not in named]:
            lines.append(listed("growing along: ", along))
    if s.scheme.said:
        lines.append(paragraph(f"new units: {s.scheme.said}"))
    if s.uniform:
        why = f"as '{s.uniform}' averages over them"
        lines.append(paragraph(f"every unit is copied equally often, {why}"))
    if pads := s.units.kind.count(Row.PAD):
        why = "they hold the mean of the others, or zeros, and the norms allow for them"
        lines.append(paragraph(f"{count(pads, 'new unit')} for padding alone: {why}"))
    if len(s.along) > 1 and not s.together:
        lines.append(listed(f"these {len(s.along)} layers share one width: ", s.along))
    if s.readers:
        lines.append(listed("read by: ", s.readers))
    for c in s.interface:
        kept = f"the first {c.before} are as they were"
        if c.kind == "table":
            kept += ", indices being counted from the front"
        elif c.kind == "input":
            kept = f"zero weights read the new {c.after - c.before}, so their values do not matter"
        lines.append(
            paragraph(f"{c.kind} '{c.name}' changed: axis {c.axis} {c.before} -> {c.after}; {kept}")
        )
    if s.inserted:
        where = "where no weight can take the division"
        lines.append(f"  {count(s.inserted, 'Mul')} inserted {where}")
    return lines


def _deepened(s: Any) -> list[str]:
    where = s.placed
    lines = [headline(f"deepen after '{where.producer or where.tensor}': kind {s.kind}")]
    lines.append(paragraph(f"because {s.why}"))
    if where.passed:
        lines.append(listed("behind the layer's own: ", where.passed))
    lines.append(listed("read by: ", where.readers or ("the model's output",)))
    lines.append(listed("new nodes: ", s.nodes))
    lines.append(listed("new parameters: ", s.parameters))
    return lines


def _enlarged(s: Any) -> list[str]:
    before, after = (_dims(k) for k in s.kernel)
    pads = "x".join(map(str, s.pads)) if s.pads is not None else "as they were"
    return [headline(f"kernel of '{s.node}': {before} -> {after}, pads {pads}")]


_SAID = {"Widened": _widened, "Deepening": _deepened, "KernelGrowth": _enlarged}
_UNSAID = {"patch", "grown", "units", "edits", "ring", "teacher", "shape"}


def _grown_text(plan: Plan, verb: str, output: Path | None, verdict: Any) -> str:
    lines: list[str] = []
    for number, taken in enumerate(plan.taken, 1):
        if verb == "apply":
            lines += heading(taken, number)
        for step in taken.results:
            lines += _SAID[type(step).__name__](step)
        if verb == "apply":
            lines += [f"  {_change(taken.parameters)}", ""]
    rows = [["constant", "before", "after"]]
    rows += [[n, _dims(a), _dims(b)] for n, (a, b) in list(plan.changes.items())[:_MOST]]
    if plan.changes:
        lines.append(table(rows, {1, 2}))
    if len(plan.changes) > _MOST:
        lines.append(f"  ... and {len(plan.changes) - _MOST} more (--json lists all)")
    lines.append(_change(plan.parameters))
    a, b = plan.sizes
    lines.append(f"file {a:,} -> {b:,} bytes")
    if verdict is not None:
        lines.append(str(verdict))
    lines.append(f"wrote {output}" if output else "planned only; nothing was written")
    return "\n".join(lines)
