"""Is a node's output axis the model's own interface? A walk over the graph, without the engine.

Axes are tied piece by piece: elements [start, start + length) of one axis are the same channels as
a piece of another. From a node's output axis the ties are followed both ways; the axis is interface
when a graph output, or a graph input that a user feeds, is reached. A contraction (Conv, Gemm,
MatMul with a constant, Reduce over the axis) has no ties across it, so paths end there. Constants
end them too: an engine may give every reader of a shared weight its own copy.

Where a tie cannot be told piece by piece (a Reshape that merges axes) the whole axes are tied, so
the walk may call an axis interface that is none; the coverage tool reports such contradictions.
"""

from __future__ import annotations

from collections import defaultdict

import onnx

from interface_rules import VISIBLE, ties
from interface_ties import Axis, Shapes, Tie
from onnx_reading import Constants, flat_nodes


class InterfaceWalk:
    """The ties of a model, given the concrete shape of every tensor.

    >>> walk = InterfaceWalk(model, shapes)
    >>> walk.is_interface("/fc/Gemm_output_0", 1)
    True
    """

    def __init__(self, model: onnx.ModelProto, shapes: Shapes) -> None:
        graph = model.graph
        self.constants = Constants(model)
        self.shapes = shapes
        fixed = {t.name for t in graph.initializer}
        self.ends = {VISIBLE} | {o.name for o in graph.output}
        self.ends |= {i.name for i in graph.input if i.name not in fixed}
        self.ties: dict[Axis, list[Tie]] = defaultdict(list)
        for node in flat_nodes(graph):
            self._read(node)

    def is_interface(self, tensor: str, axis: int) -> bool:
        """Whether a user of the model sees this axis."""
        if tensor not in self.shapes:
            return tensor in self.ends
        rank = len(self.shapes[tensor])
        whole = self.shapes[tensor][axis % rank] if rank else 1
        stack = [((tensor, axis % max(rank, 1)), 0, whole)]
        seen: dict[Axis, list[tuple[int, int]]] = defaultdict(list)
        while stack:
            here, low, high = stack.pop()
            if here[0] in self.ends:
                return True
            if any(a <= low and high <= b for a, b in seen[here]):
                continue
            seen[here].append((low, high))
            for tie in self.ties[here]:
                if tie.length < 0:
                    stack.append((tie.b, 0, self.shapes[tie.b[0]][tie.b[1]]))
                    continue
                first = max(low, tie.a_start)
                last = min(high, tie.a_start + tie.length)
                if first < last:
                    shift = tie.b_start - tie.a_start
                    stack.append((tie.b, first + shift, last + shift))
        return False

    def _read(self, node: onnx.NodeProto) -> None:
        for tie in ties(node, self.shapes, self.constants):
            if tie.a[0] in self.constants or tie.b[0] in self.constants:
                continue
            self.ties[tie.a].append(tie)
            self.ties[tie.b].append(Tie(tie.b, tie.a, tie.b_start, tie.a_start, tie.length))
