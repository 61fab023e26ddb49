"""What can grow in a model, how wide it is, and what blocks the rest."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_net2net.coupling.catalogue import Blocked, layer_space, space_name, spaces
from onnx_net2net.coupling.space import Axis, Space
from onnx_net2net.errors import ModelError, RefusalError
from onnx_net2net.files.reader import read
from onnx_net2net.graph.model import Node
from onnx_net2net.graph.traversal import upstream
from onnx_net2net.growth.widen.normalised_axes import pads
from onnx_net2net.growth.widen.widths import Widths
from onnx_net2net.inference import validity
from onnx_net2net.inference.analysis import Analysis, parameters


@dataclass(frozen=True)
class SpaceInfo:
    """One width that can grow.

    `nodes`: layers whose output it is; `readers`: layers that divide its copies; `size`: its
    classes; `width`: length of the first layer's output axis; `step`: what one more unit
    adds to it, or its whole width where all must be copied equally often (`uniform` names
    the node that asks for it, if pads do not do). `part`: which of its layer's widths it is,
    where a layer has several: then it is named by `space=`, and counted in classes.
    """

    name: str
    nodes: tuple[str, ...]
    readers: tuple[str, ...]
    size: int
    width: int
    step: int
    uniform: str | None
    parameters: int
    part: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in self.__dict__.items()}


@dataclass(frozen=True)
class Report:
    """What `inspect` found.

    `provenance`: the runs that a student came from, oldest first; None if that is unreadable.
    """

    layers: int
    nodes: int
    parameters: int
    inputs: dict[str, tuple[int | str | None, ...]]
    outputs: tuple[str, ...]
    spaces: tuple[SpaceInfo, ...]
    blocked: tuple[Blocked, ...]
    provenance: tuple[dict[str, Any], ...] | None = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict with a `schema` key."""
        return {
            "schema": "onnx-net2net/inspect/1",
            "nodes": self.nodes,
            "layers": self.layers,
            "parameters": self.parameters,
            "inputs": {k: list(v) for k, v in self.inputs.items()},
            "outputs": list(self.outputs),
            "spaces": [s.to_json() for s in self.spaces],
            "blocked": [b.to_json() for b in self.blocked],
            "provenance": None if self.provenance is None else list(self.provenance),
        }


def _info(analysis: Analysis, space: Space, axis: Axis, nodes: list[Node]) -> SpaceInfo:
    widths = Widths.of(space, axis)
    uniform = space.uniform if space.uniform and pads(analysis, space) is not None else None
    steps = widths.step[widths.step > 0]
    readers = []
    for (index, use), carried in space.passages.items():
        node = analysis.model.nodes[index]
        if use is None and any(f.role == "sum" for f in carried):
            readers.append(node)
    held = sum(
        int(np.prod(analysis.model.leaves[t].shape))
        for t in {a[0] for a in space.labels if a[0] in analysis.model.leaves}
    )
    return SpaceInfo(
        space_name(space, nodes[0]),
        tuple(n.name for n in nodes),
        tuple(n.name for n in sorted(readers, key=lambda n: n.index)),
        space.size,
        widths.today,
        int(widths.step.sum()) if uniform else int(steps.min(initial=widths.today)),
        uniform,
        held,
        space.part,
    )


def _concerning(
    analysis: Analysis, node: Node, found: list[tuple[Space, Axis, list[Node]]],
    blocked: list[Blocked],
) -> tuple[list[tuple[Space, Axis, list[Node]]], list[Blocked]]:  # fmt: skip
    """What a layer makes; for another node, the spaces that it passes on, or who blocks them."""
    mine = [f for f in found if node in f[2]], [b for b in blocked if b.node == node.name]
    if any(mine):
        return mine
    passed = [f for f in found if any(a[0] in node.outputs and a[1] is None for a in f[0].labels)]
    if passed:
        return passed, []
    above = {n.name for n in _layers_above(analysis, node)}
    why = [b for b in blocked if b.node in above]
    try:
        layer_space(analysis, node)
    except RefusalError as refused:
        return [], why or [Blocked(node.name, refused.refusal)]
    return [], why


def _layers_above(analysis: Analysis, node: Node) -> list[Node]:
    """The layers whose output reaches a node through nodes that are none."""
    layers = {n.index for n in analysis.layers()}
    above = upstream(analysis.model, node.inputs, through=lambda n: n.index not in layers)
    return [n for n in above if n.index in layers]


def report(analysis: Analysis, node: Node | None = None) -> Report:
    """Everything, or what concerns one layer."""
    found, blocked = spaces(analysis)
    if node is not None:
        found, blocked = _concerning(analysis, node, found, blocked)
    from onnx_net2net.inference.input_sizes import symbols
    from onnx_net2net.plans.provenance import records

    grown: tuple[dict[str, Any], ...] | None = None
    with suppress(ModelError):
        grown = tuple(records(analysis.source))
    return Report(
        len(analysis.layers()),
        len(analysis.model.nodes),
        parameters(analysis),
        {n: s or () for n, s in symbols(analysis.model).items()},
        analysis.model.outputs,
        tuple(_info(analysis, *f) for f in found),
        tuple(blocked),
        grown,
    )


def inspect(
    model: Any, *, shapes: Mapping[str, tuple[int, ...]] | None = None, node: str | None = None
) -> Report:
    """What can grow in a model.

    Args:
        model: a path, an `onnx.ModelProto` or a `gs.Graph`; not changed.
        shapes: input name -> sizes, for inputs that declare none.
        node: report on one layer only.

    Returns:
        Report: `.spaces` (what can grow) and `.blocked` (what cannot, and why).

    Raises:
        ModelError: not a usable model, or its external data is missing.
        AmbiguousError: `node` fits several or none.

    >>> import onnx_net2net as n2n
    >>> [s.name for s in n2n.inspect("models/mlp_gemm.onnx").spaces]  # doctest: +SKIP
    """
    from onnx_net2net.coupling.lookup import find

    source = read(model)
    if source.directory is not None:  # as every other command would, before any work
        source.check_externals()
    analysis = Analysis(source, shapes)
    validity.check(analysis.model, analysis.inference, analysis.facts)
    return report(analysis, find(analysis, node) if node is not None else None)
