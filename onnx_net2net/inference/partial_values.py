"""Values that hold whatever the sizes of the inputs, where shapes are known only in part."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_net2net.graph.model import Model, Node
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array, Shape

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
    args = [found.get(t) if t else None for t in node.inputs]
    try:
        with np.errstate(all="ignore"):
            if row.sized:
                return _sizes(node, row.fold, facts.shapes.get(node.inputs[0]))
            if any(t and a is None for t, a in zip(node.inputs, args, strict=True)):
                return []
            values = [a and a[0] for a in args]
            unknown = [k for k, a in enumerate(args) if a is not None and not a[1].all()]
            made = [np.asarray(v) for v in row.fold(node, values)]
            if not unknown:
                return [(v, np.ones(v.shape, bool)) for v in made]
            if row.movement is None:
                return []
            masks = [a and (a[1] if k in unknown or k == 0 else a[0]) for k, a in enumerate(args)]
            if node.op == "Concat":
                masks = [a and a[1] for a in args]
            elif unknown != [0]:
                return []
            return list(zip(made, (np.asarray(m) for m in row.fold(node, masks)), strict=True))
    except Exception:  # a shape that does not fit, as in the analysis
        return []


def _sizes(node: Node, fold: Any, shape: Shape | None) -> list[Partly]:
    """Shape and Size: known where the dimensions are."""
    if shape is None:
        return []
    sizes = [np.broadcast_to(np.int8(0), [fill if d is None else d for d in shape])
             for fill in (0, 1)]  # fmt: skip
    a, b = (np.asarray(fold(node, [s])[0]) for s in sizes)
    return [(a, a == b)]
