"""Walking a graph from tensors, towards what makes them or towards what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from .model import Model
from .node import Node


def upstream(
    model: Model, tensors: Iterable[str], *,
    through: Callable[[Node], bool] = lambda node: True,
    past: Callable[[str], bool] = lambda tensor: True,
) -> Iterator[Node]:  # fmt: skip
    """The nodes that make tensors, and those that make what they read, each once.

    Args:
        model: the index of the graph.
        tensors: where to start.
        through: whether to look at what a node reads.
        past: whether to look at what makes a tensor.
    """
    todo, seen = list(tensors), set[int]()
    while todo:
        tensor = todo.pop()
        node = model.producer.get(tensor) if past(tensor) else None
        if node is None or node.index in seen:
            continue
        seen.add(node.index)
        yield node
        if through(node):
            todo += node.inputs


def downstream(
    model: Model, tensor: str, through: Callable[[Node], bool]
) -> Iterator[tuple[Node, int]]:
    """The uses of a tensor, and in place of those nodes that `through` takes the uses of theirs.

    Args:
        model: the index of the graph.
        tensor: where to start.
        through: whether a node only hands on what it reads.

    Returns:
        (node, slot), a body's result being read by its owner.
    """
    todo, seen = [tensor], {tensor}
    while todo:
        for node, slot in model.uses(todo.pop()):
            if through(node):
                todo += [o for o in node.outputs if o and o not in seen]
                seen.update(node.outputs)
            else:
                yield node, slot
