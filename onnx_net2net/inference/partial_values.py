"""Values that hold whatever the sizes of the inputs, where shapes are known only in part."""

from __future__ import annotations

import numpy as np

from onnx_net2net.graph.model import Model, Node
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array, Shape
from .folding import folded
from .shapes import Facts

Partly = tuple[Array, Array]
"""Values, and which of them are known."""


def static_values(model: Model, facts: Facts) -> dict[str, Array]:
    """Tensor -> what it holds at all sizes of the inputs.

    Args:
        facts: with the sizes of the inputs left open.
    """
    found: dict[str, Partly] = {n: (v, np.ones(v.shape, bool)) for n, v in facts.values.items()}
    for node in model.nodes:
        if any(o in found for o in node.outputs) or node.bodies:
            continue
        for name, made in zip(node.outputs, _made(node, found, facts), strict=False):
            if name:
                found[name] = made
    return {name: v for name, (v, known) in found.items() if known.all()}


def _made(node: Node, found: dict[str, Partly], facts: Facts) -> list[Partly]:
    row = TABLE.get(node.op)
    if row is None or row.fold is None:
        return []
    if row.sized:
        return _sizes(node, facts.shapes.get(node.inputs[0]))
    args = [found.get(t) if t else None for t in node.inputs]
    made = folded(node, [a and a[0] for a in args])
    unknown = {k for k, a in enumerate(args) if a is not None and not a[1].all()}
    if made is None or not unknown:
        return [(v, np.ones(v.shape, bool)) for v in made or ()]
    if row.movement is None or any(k not in row.moved for k in unknown):
        return []
    masks = folded(node, [a and a[1 if k in row.moved else 0] for k, a in enumerate(args)])
    return list(zip(made, masks or (), strict=False))


def _sizes(node: Node, shape: Shape | None) -> list[Partly]:
    """Shape and Size: known where the dimensions are."""
    if shape is None:
        return []
    made = [folded(node, [None], [tuple(fill if d is None else d for d in shape)])
            for fill in (0, 1)]  # fmt: skip
    return [(a, a == b) for a, b in zip(made[0] or (), made[1] or (), strict=False)]
