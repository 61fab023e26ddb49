"""A copy of the neighbouring residual block with silent output projections.

In a pre-norm stream x' = x + f(norm(x)) the block that ends at a point is found through the
Add that closes it; the copy's last weights and biases are zero, so it adds nothing
(growth-operators.md D7, LLaMA Pro's block expansion).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice, takewhile

import numpy as np

from onnx_net2net.graph.messages import copied
from onnx_net2net.graph.model import Node
from onnx_net2net.graph.traversal import upstream
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.spec import Rule
from onnx_net2net.operators.table import TABLE
from .insertion import Graft
from .insertion_point import FLOATS, Point

_MOST_NODES = 600
_NO_RULE = Rule()


@dataclass(frozen=True)
class Block:
    """The nodes from the stream `start` to the point, and the leaves that a copy has zero."""

    start: str
    nodes: tuple[Node, ...]
    silenced: frozenset[str]


def neighbour(analysis: Analysis, point: Point) -> Block | None:
    """The pre-norm block that ends at a point: its last one or two residual branches.

    None where there is no such block, or where a copy would share more than weights (a key
    and value cache, a graph output).
    """
    last = _branch(analysis, point.tensor)
    if last is None:
        return None
    before = _branch(analysis, last.start)
    kinds = [sorted(n.op for n in b.nodes) for b in (last, before) if b is not None]
    if before is None or kinds[0] == kinds[1]:
        return last
    return Block(before.start, (*before.nodes, *last.nodes), last.silenced | before.silenced)


def _branch(analysis: Analysis, end: str) -> Block | None:
    model = analysis.model
    add = model.producer.get(end)
    if add is None or not _row(add).adds or len(add.inputs) != 2:
        return None
    shape = analysis.first.shapes.get(end)
    for start, other in (add.inputs, add.inputs[::-1]):
        if start in model.constant or other in model.constant:
            return None
        if analysis.first.shapes.get(start) != shape:
            continue
        nodes = _between(analysis, start, other)
        silenced = _projections(analysis, other, {n.index for n in nodes or ()})
        if nodes and silenced and _copies_well(analysis, nodes, start):
            return Block(start, (*nodes, add), silenced)
    return None


def _between(analysis: Analysis, start: str, end: str) -> list[Node] | None:
    """The nodes on the paths from one tensor to another; None if there are none or too many."""
    model = analysis.model
    first = model.producer[start].index if start in model.producer else -1
    makers = upstream(
        model, [end], through=lambda n: n.index > first,
        past=lambda t: t != start and t not in model.constant,
    )  # fmt: skip
    inside = (n for n in makers if n.index > first)
    seen = {n.index: n for n in islice(inside, _MOST_NODES + 1)}
    if len(seen) > _MOST_NODES:
        return None
    reached = {start}
    for index in sorted(seen):
        if reached.intersection(seen[index].inputs):
            reached.update(o for o in seen[index].outputs if o)
    if end not in reached:
        return None
    return [seen[k] for k in sorted(seen) if reached.intersection(seen[k].inputs)]


def _copies_well(analysis: Analysis, nodes: list[Node], start: str) -> bool:
    model = analysis.model
    outputs = {t for s in model.scopes.values() for t in s.outputs}
    caches = {t for t in model.inputs if analysis.first.dtype(t) in FLOATS} - {start}
    return any(_row(n).averages for n in nodes) and not any(
        n.bodies
        or n.scope != nodes[0].scope
        or _row(n).random
        or outputs.intersection(n.outputs)
        or caches.intersection(n.inputs)
        for n in nodes
    )


def _projections(analysis: Analysis, tensor: str, inside: set[int]) -> frozenset[str]:
    """The leaves that make a branch zero if they are; empty if nothing does."""
    model = analysis.model
    node = model.producer.get(tensor)
    if node is None or node.index not in inside:
        return frozenset()
    if analysis.weights(node):
        found = [_leaf(analysis, t) for t in node.inputs if t in model.constant]
        return frozenset(found) if "" not in found else frozenset()
    live = [t for t in node.inputs if t and t not in model.constant]
    fixed = [t for t in node.inputs if t in model.constant]
    if len(live) == 1 and _silences(analysis, node, node.inputs.index(live[0])):
        return _projections(analysis, live[0], inside)
    if not _row(node).adds:
        return frozenset()
    parts = [_projections(analysis, t, inside) for t in live]
    leaves = [_leaf(analysis, t) for t in fixed]
    if not all(parts) or "" in leaves:
        return frozenset()
    return frozenset(leaves).union(*parts)


def _row(node: Node) -> Rule:
    return TABLE.get(node.op, _NO_RULE)


def _silences(analysis: Analysis, node: Node, slot: int) -> bool:
    return _row(node).silences(analysis.first.site(node), slot)


def _leaf(analysis: Analysis, tensor: str) -> str:
    """The float leaf that a constant is a rearrangement of; "" if it is none."""
    while tensor not in analysis.model.leaves:
        node = analysis.model.producer.get(tensor)
        if node is None or not _silences(analysis, node, 0):
            return ""
        tensor = node.inputs[0]
    leaf = analysis.model.leaves[tensor]
    return tensor if leaf.tensor is not None and leaf.dtype in FLOATS else ""


def copy_block(graft: Graft, block: Block, x: str) -> str:
    """Write a copy of a block that reads `x`; its result.

    Args:
        graft: takes the new nodes and constants.
        block: what is copied.
        x: the tensor that the copy reads.
    """
    copy = _Copy(graft, block, x)
    for node in block.nodes:
        copy.node(node)
    return copy.names[block.nodes[-1].outputs[0]]


class _Copy:
    """A block being copied: names of the copies of its tensors."""

    def __init__(self, graft: Graft, block: Block, x: str) -> None:
        self.graft, self.block, self.analysis = graft, block, graft.analysis
        self.names = {block.start: x}
        self.modules = _prefix([n.proto.name for n in block.nodes])
        leaves = [t for n in block.nodes for t in n.inputs if t in self.analysis.model.leaves]
        self.parameters = _prefix(leaves)

    def node(self, node: Node) -> None:
        """Copy a node, and before it the constants that only the copy is to read."""
        for tensor in node.inputs:
            if tensor in self.analysis.model.constant and tensor not in self.names:
                self._constant(tensor)
        proto = copied(node.proto)
        proto.name = self.graft.editor.fresh(_deeper(node.proto.name, self.modules))
        for k, tensor in enumerate(node.inputs):
            proto.input[k] = self.names.get(tensor, node.proto.input[k])
        for k, tensor in enumerate(node.outputs):
            if tensor:
                name = self.graft.editor.fresh(_deeper(node.proto.output[k], self.modules))
                self.names[tensor] = proto.output[k] = name
        self.graft.nodes.append(proto)

    def _constant(self, tensor: str) -> None:
        """Parameters get copies; single numbers and integers are shared."""
        model = self.analysis.model
        leaf = model.leaves.get(tensor)
        if leaf is None:
            node = model.producer[tensor]
            leaves = self.analysis.cone((node.index, 0)) & model.leaves.keys()
            if any(model.leaves[t].dtype in FLOATS for t in leaves):
                self.node(node)
        elif leaf.tensor is not None and leaf.dtype in FLOATS and int(np.prod(leaf.shape)) > 1:
            array = self.analysis.source.array(leaf.tensor)
            if tensor in self.block.silenced:
                array = np.zeros_like(array)
            name = _deeper(tensor, self.parameters)
            self.names[tensor] = self.graft.editor.constant(array, name)


def _prefix(names: list[str]) -> str:
    """The words that all names begin with.

    >>> _prefix(["layers.3.mlp.weight", "layers.3.norm.weight"])
    'layers.3.'
    """
    split = [re.findall(r"[^/.]*[/.]", n) for n in names if n]
    return "".join(words[0] for words in takewhile(_same, zip(*split, strict=False)))


def _same(words: tuple[str, ...]) -> bool:
    return len(set(words)) == 1


def _deeper(name: str, prefix: str) -> str:
    """The name of a copy.

    >>> _deeper("layers.3.mlp.weight", "layers.3.")
    'layers.3_deeper.mlp.weight'
    """
    if len(prefix) > 1 and name.startswith(prefix):
        return f"{prefix[:-1]}_deeper{name[len(prefix) - 1 :]}"
    return f"{name}_deeper" if name else ""
