"""Every space of a model, by the layers that make it, and what cannot grow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_net2net.errors import AmbiguousError, Reason, Refusal, RefusalError
from onnx_net2net.graph.model import Node
from onnx_net2net.inference.analysis import Analysis
from .head_widths import alternatives
from .space import Axis, Signature, Space


@dataclass(frozen=True)
class Blocked:
    """A layer whose output cannot grow, and why."""

    node: str
    refusal: Refusal

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict."""
        r = self.refusal
        return {
            "node": self.node,
            "at": r.node,
            "axis": list(r.axis) if r.axis else None,
            "reason": r.reason.value,
            "detail": r.detail,
            "hint": r.hint,
        }


def layer_spaces(analysis: Analysis, node: Node) -> tuple[list[Space], Axis]:
    """The spaces of a layer's output axis, default first, and that axis.

    Raises:
        RefusalError: it has none that can grow.
    """
    axis = analysis.output_axis(node)
    if axis is None:
        analysis.factors(node)  # why it has none may be that they cannot be told
        hint = "name a layer with weights; `inspect` lists them"
        raise RefusalError(Refusal(Reason.NO_AXIS, node.name, detail=node.op, hint=hint))
    return alternatives(analysis, axis), (axis[0], None, axis[1])


def layer_space(analysis: Analysis, node: Node) -> tuple[Space, Axis]:
    """The space of a layer's output axis, and that axis.

    Raises:
        RefusalError: it has none that can grow.
        AmbiguousError: the layer has several widths and none is the default.
    """
    parts, axis = layer_spaces(analysis, node)
    if not parts[0].default:
        listed = spaces(analysis)[0]  # the names that `inspect` gives them: another layer's, maybe
        names = [space_name(space, nodes[0]) for space, _, nodes in listed if node in nodes]
        names = names or [space_name(p, node) for p in parts]
        raise AmbiguousError(
            f"'{node.name}' has several widths",
            "choose one with --space (space=): " + ", ".join(names),
            names,
        )
    return parts[0], axis


def space_name(space: Space, first: Node) -> str:
    """What a space is called: its first layer, and which of its widths where it has several."""
    return f"{first.name}:{space.part}" if space.part else first.name


def spaces(analysis: Analysis) -> tuple[list[tuple[Space, Axis, list[Node]]], list[Blocked]]:
    """All spaces of a model's layers with their layers, and the layers that are blocked."""
    return analysis.once("spaces", lambda: _spaces(analysis))


def _apart(space: Space) -> Iterator[Axis]:
    """The axes of computed tensors on which every position is a class of its own."""
    for axis, labels in space.labels.items():
        if axis[1] is None and len(np.unique(labels)) == len(labels) and labels.min() >= 0:
            yield axis


def _spaces(analysis: Analysis) -> tuple[list[tuple[Space, Axis, list[Node]]], list[Blocked]]:
    found: list[tuple[Space, Axis, list[Node]]] = []
    blocked: list[Blocked] = []
    whole: dict[Axis, int] = {}
    signatures: dict[Signature, int] = {}
    for node in analysis.layers():
        axis = analysis.output_axis(node)
        known = whole.get((axis[0], None, axis[1])) if axis is not None else None
        if known is not None:
            found[known][2].append(node)
            continue
        try:
            parts, at = layer_spaces(analysis, node)
        except RefusalError as why:
            blocked.append(Blocked(node.name, why.refusal))
            continue
        for space in parts:
            k = signatures.setdefault(space.signature, len(found))
            if k == len(found):
                found.append((space, at, []))
                whole = {**dict.fromkeys(_apart(space), k), **whole}
            if node not in found[k][2]:
                found[k][2].append(node)
    return found, blocked
