"""What `inspect` prints."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_net2net.errors import Reason, Refusal
from onnx_net2net.plans.inspection import Report, SpaceInfo
from .recipe import origin
from .terminal import count, listed, paragraph, table


def inspection(report: Report, name: str, every_layer: bool = False) -> str:
    """What can grow and what cannot; `every_layer`: also which make and read each width."""
    inputs = [
        f"{n} [{'x'.join('?' if d is None else str(d) for d in s)}]"
        for n, s in report.inputs.items()
    ]
    sizes = f"{count(report.nodes, 'node')}, {count(report.layers, 'layer')}"
    lines = [
        f"{name}: {sizes}, {report.parameters:,} parameters",
        listed("inputs: ", inputs),
        listed("outputs: ", report.outputs),
        *map(paragraph, origin(report.provenance)),
        "",
        *(_spaces(report.spaces) if report.spaces else ["no width can grow"]),
    ]
    for s in report.spaces if every_layer else ():
        lines.append(listed(f"width {s.width} of {s.name}: made by ", s.nodes))
        lines.append(listed("read by: ", s.readers) if s.readers else "  read by no layer")
    if report.blocked:
        lines += ["", f"{count(len(report.blocked), 'layer')} cannot grow:"]
        lines.append(table([[b.node, _why(b.refusal)] for b in report.blocked]))
    return "\n".join(lines)


def _spaces(spaces: Sequence[SpaceInfo]) -> list[str]:
    rows = [["space", "width", "step", "layers", "parameters"]]
    rows += [[s.name, *_counted(s), str(len(s.nodes)), f"{s.parameters:,}"] for s in spaces]
    lines = [f"{count(len(spaces), 'width')} can grow:", table(rows, {1, 2, 3, 4})]
    equal = [f"{s.name} ({s.uniform})" for s in spaces if s.uniform]
    return [*lines, listed("whole multiples only: ", equal)] if equal else lines


def _counted(space: SpaceInfo) -> tuple[str, str]:
    """Width and step as one gives them: a part of a layer is named by --space, in its own units."""
    if not space.part:
        return str(space.width), f"+{space.step}"
    return str(space.size), f"+{space.size if space.uniform else 1}"


def _why(refusal: Refusal) -> str:
    if refusal.reason in (Reason.GRAPH_INPUT, Reason.GRAPH_OUTPUT):
        return f"{refusal.reason.value} '{refusal.node}'"
    return f"{refusal.reason.value} ({refusal.detail})" if refusal.detail else refusal.reason.value
