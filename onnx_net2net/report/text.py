"""What a growing command says: text for a terminal of any width, or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

from onnx_net2net.growth.deepen.step import Deepening
from onnx_net2net.growth.kernel.step import KernelGrowth
from onnx_net2net.growth.result import Result
from onnx_net2net.growth.widen.interface import InterfaceChange
from onnx_net2net.growth.widen.result import Widened
from onnx_net2net.growth.widen.units import Row
from onnx_net2net.plans.plan import Plan
from .recipe import heading, taken_json
from .terminal import count, fitted, headline, listed, paragraph, table

_MOST = 24  # constants that a plan lists


def show(content: Any, as_json: bool) -> None:
    """Print to stdout: a JSON object on one line, or text."""
    print(json.dumps(content) if as_json else str(content).rstrip())


def warn(text: str) -> None:
    """Print a warning to stderr."""
    print(fitted(f"warning: {text}", sys.stderr), file=sys.stderr)


def _dims(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def grown(plan: Plan, verb: str, output: Path | None, verdict: Any, as_json: bool) -> Any:
    """What a growing command says: text, or a JSON-able dict."""
    return (_grown_json if as_json else _grown_text)(plan, verb, output, verdict)


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
    if not is_dataclass(value):
        return value
    shown = [f.name for f in fields(value) if f.repr]  # the others are arrays
    return {name: _plain(getattr(value, name)) for name in shown}


def _change(parameters: tuple[int, int]) -> str:
    a, b = parameters
    return f"parameters {a:,} -> {b:,} ({(b - a) / max(a, 1):+.1%})"


@singledispatch
def _said(result: Result) -> list[str]:
    """What a result did, in lines."""
    found = result.record()
    return [headline(f"{found['verb']}: {count(len(found['tensors']), 'constant')} changed")]


@_said.register
def _widened(s: Widened) -> list[str]:
    before, after = s.width
    lines = [headline(f"widen '{s.name}': {before} -> {after} (axis {s.axis[1]} of '{s.axis[0]}')")]
    if s.together:
        lines = [f"widen {len(s.together)} widths at once:"]
        lines.append(table([[n, f"{a} -> {b}"] for n, a, b in s.together], {1}))
        named = {n for n, _, _ in s.together}
        if along := [n for n in s.along if n not in named]:
            lines.append(listed("growing along: ", along))
    lines += map(paragraph, _units(s))
    if len(s.along) > 1 and not s.together:
        lines.append(listed(f"these {len(s.along)} layers share one width: ", s.along))
    if s.readers:
        lines.append(listed("read by: ", s.readers))
    lines += [paragraph(_changed(c)) for c in s.interface]
    if s.inserted:
        where = "where no weight can take the division"
        lines.append(f"  {count(s.inserted, 'Mul')} inserted {where}")
    return lines


def _units(s: Widened) -> Iterator[str]:
    """How the new units of a widening come about."""
    if s.scheme.said:
        yield f"new units: {s.scheme.said}"
    if s.uniform:
        yield f"every unit is copied equally often, as '{s.uniform}' averages over them"
    if pads := s.units.kind.count(Row.PAD):
        why = "they hold the mean of the others, or zeros, and the norms allow for them"
        yield f"{count(pads, 'new unit')} for padding alone: {why}"


def _changed(c: InterfaceChange) -> str:
    kept = f"the first {c.before} are as they were"
    if c.kind == "table":
        kept += ", indices being counted from the front"
    elif c.kind == "input":
        kept = f"zero weights read the new {c.after - c.before}, so their values do not matter"
    return f"{c.kind} '{c.name}' changed: axis {c.axis} {c.before} -> {c.after}; {kept}"


@_said.register
def _deepened(s: Deepening) -> list[str]:
    where = s.placed
    lines = [headline(f"deepen after '{where.producer or where.tensor}': kind {s.kind}")]
    lines.append(paragraph(f"because {s.why}"))
    if where.passed:
        lines.append(listed("behind the layer's own: ", where.passed))
    lines.append(listed("read by: ", where.readers or ("the model's output",)))
    lines.append(listed("new nodes: ", s.nodes))
    lines.append(listed("new parameters: ", s.parameters))
    return lines


@_said.register
def _enlarged(s: KernelGrowth) -> list[str]:
    before, after = (_dims(k) for k in s.kernel)
    pads = "x".join(map(str, s.pads)) if s.pads is not None else "as they were"
    return [headline(f"kernel of '{s.node}': {before} -> {after}, pads {pads}")]


_UNSAID = {"patch", "verb", "grown", "units", "edits", "ring", "teacher", "shape"}


def _grown_text(plan: Plan, verb: str, output: Path | None, verdict: Any) -> str:
    lines: list[str] = []
    for number, taken in enumerate(plan.taken, 1):
        if verb == "apply":
            lines += heading(taken, number)
        for step in taken.results:
            lines += _said(step)
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
