"""A channel space: axes that share an index, and how a use of a tensor names one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.notation import Entry
from onnx_net2net.typing import Array

Use = "tuple[int, int] | None"
Axis = tuple[str, "tuple[int, int] | None", int]
"""(tensor, use, dimension); `use` is the reader (node, slot) of a constant, None otherwise,
so that constants which exporters shared are seen apart."""
Signature = tuple[tuple[Axis, bytes], ...]
Instance = tuple[int, "tuple[int, int] | None"]
"""A node (index), in the case of a constant one for a certain use."""


@dataclass
class Space:
    """What a user grows: `size` classes and, for each axis, the class of each position.

    A Conv's channels [0 1 2] are [0 1 2 0 1 2] behind a Concat of the tensor with itself, and
    [-1 -1 0 1 2] behind one with two channels of another space.

    `passages`: the factors that carry labels through each node. `uniform`: the node that
    asks for equally many copies of all, if any. `seed`: the axis it was closed from.
    `part`: which width of its layer it is, where a layer has several (`heads`); `default`:
    what naming the layer means.
    """

    seed: Axis
    size: int
    labels: dict[Axis, Array]
    passages: dict[Instance, list[Factor]]
    uniform: str | None = None
    choices: list[str] = field(default_factory=list)
    part: str = ""
    default: bool = True

    def width(self, axis: Axis) -> int:
        """How many positions of an axis belong to the space."""
        return int(np.count_nonzero(self.labels[axis] >= 0))

    @property
    def signature(self) -> Signature:
        """What is equal for equal spaces: their classes in the model's own tensors."""
        return tuple(sorted((a, v.tobytes()) for a, v in self.labels.items() if a[1] is None))


def axis_of(analysis: Analysis, instance: Instance, entry: Entry) -> Axis:
    """The axis that a node has at an entry; a constant's is that of one use.

    Args:
        analysis: of the model.
        instance: the node, for a constant with the use that it is seen by.
        entry: (slot, dimension) of the node.
    """
    (index, use), (slot, dim) = instance, entry
    tensor = analysis.model.nodes[index].tensor(slot)
    return tensor, (use or (index, slot)) if tensor in analysis.model.constant else None, dim
