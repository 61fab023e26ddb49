"""Small known values, computed as the rows of the table say.

Values that are known only in part are `partial_values`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_net2net.graph.model import Node
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array, Shape


def folded(
    node: Node, values: Sequence[Array | None], shapes: Sequence[Shape | None] = ()
) -> list[Array] | None:
    """What the outputs of a node hold.

    Args:
        node: the node.
        values: of each input, None where it is absent or not known.
        shapes: of each input, for operators that read only sizes.

    Returns:
        An array for each output; None where an input is not known, or where they do not fit:
        what compares shapes says so.
    """
    row = TABLE.get(node.op)
    if row is None or row.fold is None:
        return None
    args = list(values)
    if row.sized and len(args) == 1 and args[0] is None:
        args = [_sized(shapes[0])]
    if any(t and v is None for t, v in zip(node.inputs, args, strict=True)):
        return None
    try:
        with np.errstate(all="ignore"):
            return [np.asarray(r) for r in row.fold(node, args)]
    except Exception:  # any that numpy has for operands that do not fit
        return None


def _sized(shape: Shape | None) -> Array | None:
    """An array that has the shape and no memory."""
    if shape is None or None in shape:
        return None
    return np.broadcast_to(np.int8(0), tuple(d or 0 for d in shape))
