"""Sequences seen as their elements, where every one of these is known by its place."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_net2net.graph.model import Model, Node
from onnx_net2net.operators.families.sequence import listed
from onnx_net2net.operators.table import row_of
from .shapes import Facts


def unfold(model: Model, facts: Sequence[Facts]) -> None:
    """Let nodes read and make the elements of sequences instead of the sequences.

    Only where all readers of a sequence take known elements, or all; the others keep it whole.
    """
    held = _held(model, facts)
    while bad := {t for t in held if not _replaceable(model, t, held, facts[0])}:
        held = {t: e for t, e in held.items() if t not in bad}
    if not held:
        return
    for f in facts:
        for t, names in held.items():
            for name, kind in zip(names, f.elements[t], strict=True):
                if name not in f.types:
                    f.put(name, kind)
    for node in model.nodes:
        _shown(node, held, facts[0])
    model.index()


def _replaceable(model: Model, tensor: str, held: dict[str, list[str]], facts: Facts) -> bool:
    """Whether all that make and read a sequence can do with its elements."""
    if tensor in model.outputs or tensor in model.crossings:
        return False
    if not all(i in held for i in _sequences(model, tensor, facts)):
        return False
    return all(_may(n, held, facts) for n, _ in model.uses(tensor))


def _held(model: Model, facts: Sequence[Facts]) -> dict[str, list[str]]:
    """Sequence -> the tensors that are its elements, in running order."""
    held: dict[str, list[str]] = {}
    for node in model.nodes:
        t = node.tensor(-1)
        counts = {len(f.elements[t]) if t in f.elements else None for f in facts}
        if len(counts) > 1 or None in counts:
            continue
        values = [facts[0].values.get(i) if i else None for i in node.inputs]
        found = listed(node, [held.get(i) for i in node.inputs], node.inputs, values)
        if row_of(node.op).cuts:
            found = [f"{t}[{k}]" for k in range(len(facts[0].elements[t]))]
        if found is not None:
            held[t] = found
    return held


def _sequences(model: Model, tensor: str, facts: Facts) -> list[str]:
    """The sequences that a sequence is made of."""
    node = model.producer[tensor]
    return [i for i in node.inputs if i in facts.elements]


def _taken(node: Node, held: dict[str, list[str]], facts: Facts) -> list[str] | None:
    """The elements that a node takes out of a sequence; None where that is not known."""
    takes = row_of(node.op).takes
    if takes is None or not node.inputs or node.inputs[0] not in held:
        return None
    return takes(held[node.inputs[0]], [facts.values.get(t) for t in node.inputs])


def _may(node: Node, held: dict[str, list[str]], facts: Facts) -> bool:
    """Whether a reader of a sequence can do with its elements."""
    if bool(node.outputs) and node.outputs[0] in held:
        return True
    return _taken(node, held, facts) is not None


def _shown(node: Node, held: dict[str, list[str]], facts: Facts) -> None:
    taken = _taken(node, held, facts)
    if node.outputs and node.outputs[0] in held:
        if row_of(node.op).cuts:
            node.outputs = tuple(held[node.outputs[0]])
        else:  # its elements are made elsewhere
            node.inputs, node.outputs = (), ()
    elif taken is not None:
        node.inputs = (*taken, *node.inputs[1:])
