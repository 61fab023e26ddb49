"""Is a node's output axis the model's own interface? A walk over the graph, without the engine.

Every channel of the axis gets a label, and labels are followed along the ties between axes, both
ways; the axis is interface when a graph output, or a graph input that a user feeds, is reached. A
contraction (Conv, Gemm, MatMul with a constant, Reduce over the axis) has no ties across it, so
paths end there. Constants end them too: an engine may give every reader of a shared weight its own.

Where channels cannot be followed one by one the whole axis is taken as tied, so the walk may call
an axis interface that is none; the coverage tool reports such contradictions.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx

from tools.coverage.interface_rules import VISIBLE, ties
from tools.coverage.interface_ties import Axis, Shapes, Tie
from tools.coverage.onnx_reading import Constants, flat_nodes

# So many ways of holding the same channels are followed on one axis.
PATTERNS = 16


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
        self.ends = {o.name for o in graph.output}
        self.ends |= {i.name for i in graph.input if i.name not in fixed}
        self.ties: dict[Axis, list[Tie]] = defaultdict(list)
        for node in flat_nodes(graph):
            for tie in ties(node, self.shapes, self.constants):
                if tie.a[0] in self.constants or tie.b[0] in self.constants:
                    continue
                self.ties[tie.a].append(tie)
                self.ties[tie.b].append(tie.turned())

    def is_interface(self, tensor: str, axis: int) -> bool:
        """Whether a user of the model sees this axis."""
        if not self.shapes.get(tensor):
            return tensor in self.ends
        axis %= len(self.shapes[tensor])
        stack = [((tensor, axis), np.arange(self.shapes[tensor][axis], dtype=np.int32))]
        seen: dict[Axis, set[bytes]] = defaultdict(set)
        while stack:
            here, labels = stack.pop()
            if here[0] in self.ends:
                return True
            key = labels.tobytes()
            if key in seen[here] or len(seen[here]) == PATTERNS:
                continue
            seen[here].add(key)
            for tie in self.ties[here]:
                name, k = tie.b
                if name == VISIBLE:
                    return True
                there = tie.follow(labels, self.shapes[name][k])
                if there is not None:
                    stack.append((tie.b, there))
        return False
