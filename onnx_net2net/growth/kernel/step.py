"""Kernel growth (Network Morphism): a ring of zeros around a kernel, with matching padding.

What lies under the ring is multiplied by zero, so any padding is exact; it is chosen so
that the ring sees what a larger kernel of the same model would see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_net2net.coupling.lookup import find
from onnx_net2net.errors import Reason, UsageError
from onnx_net2net.graph.editor import Editor
from onnx_net2net.graph.messages import copied, set_attribute
from onnx_net2net.graph.model import Leaf, Node
from onnx_net2net.growth.kernel.verb import GrowKernel
from onnx_net2net.growth.kernel.window_padding import (
    Window,
    front,
    grow_pad,
    padded,
    refused,
)
from onnx_net2net.growth.result import Patched
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.spec import Rule
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array

_NO_RULE = Rule()


@dataclass(frozen=True)
class KernelGrowth(Patched):
    """A patch that grows one kernel; `kernel` is (before, after), `pads` the node's new ones.

    `parameters`: the weights that change or are added, made of `teacher` with a `ring` of
    zeros, rows before and behind on each axis; `shape`: the teacher's.
    """

    node: str
    kernel: tuple[tuple[int, ...], tuple[int, ...]]
    pads: tuple[int, ...] | None
    teacher: str
    ring: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]

    def record(self) -> dict[str, Any]:
        """See `Result.record`."""
        grown = {
            "teacher": self.teacher,
            "student": self.parameters[0],
            "before": list(self.shape),
            "after": [n + a + b for n, (a, b) in zip(self.shape, self.ring, strict=True)],
            "uses": [[self.node, 1]],
            "ring": [*map(list, self.ring)],
        }
        old, new = map(list, self.kernel)
        attributes = [
            {"node": self.node, "attribute": "kernel_shape", "before": old, "after": new},
            {"node": self.node, "attribute": "pads", "before": None,
             "after": list(self.pads or [])},
        ]  # fmt: skip
        return {**super().record(), "tensors": [grown], "attributes": attributes}


def grow_kernel(analysis: Analysis, asked: GrowKernel) -> KernelGrowth:
    """Grow the kernel of a convolution without changing its output (growth-operators.md K1).

    Args:
        analysis: of the teacher.
        asked: one `node`, and the `size` of all spatial axes or of each. By one row only the
            end grows.

    Raises:
        RefusalError: no convolution, weights that are computed, automatic padding that
            cannot follow.
        UsageError: a size that does not fit or is not larger.
    """
    node = find(analysis, str(asked.node))
    if not _row(node).window:
        raise refused(node, Reason.NO_RULE, f"{node.op} has no kernel", "choose a convolution")
    leaf = _weights(analysis, node)
    window = _window(node, leaf, asked.size)
    editor = Editor(analysis.model)
    proto = editor.node(node)
    window = padded(analysis, node, window, proto)
    set_attribute(proto, "kernel_shape", list(window.new))
    pad = front(analysis, node)
    why = grow_pad(editor, analysis, pad, window) if pad is not None else ""
    if pad is not None and not why:
        set_attribute(proto, "pads", [0] * (2 * len(window.new)))
    name = _replaced(editor, analysis, node, leaf, window)
    pads = next((tuple(a.ints) for a in proto.attribute if a.name == "pads"), None)
    ring = ((0, 0), (0, 0), *zip(window.before, window.behind, strict=True))
    return KernelGrowth(
        editor.patch(), asked.verb, node.name, (window.old, window.new), pads, leaf.name, ring,
        leaf.shape, parameters=(name,), warnings=(why,) if why else (),
    )  # fmt: skip


def _row(node: Node) -> Rule:
    return TABLE.get(node.op, _NO_RULE)


def _hands_on(analysis: Analysis, node: Node) -> bool:
    """Whether a node returns what it reads, in the same type."""
    kinds = {analysis.first.dtype(t) for t in (node.inputs[0], node.outputs[0])}
    return _row(node).repeats and len(kinds) == 1


def _weights(analysis: Analysis, node: Node) -> Leaf:
    """The leaf behind a convolution's weights."""
    tensor = node.inputs[1]
    while tensor not in analysis.model.leaves:
        producer = analysis.model.producer.get(tensor)
        if producer is None or not (_hands_on(analysis, producer) or 0 in _row(producer).offsets):
            op = producer.op if producer else "a graph input"
            detail = f"its weights are computed by {op}"
            raise refused(node, Reason.NO_RULE, detail, "fold the weights' constants first")
        tensor = producer.inputs[0]
    leaf = analysis.model.leaves[tensor]
    if leaf.tensor is None:
        raise refused(node, Reason.NO_RULE, "its weights have no tensor", "export it again")
    return leaf


def _window(node: Node, leaf: Leaf, size: int | Sequence[int] | None) -> Window:
    old = leaf.shape[2:]
    new = (size,) * len(old) if isinstance(size, int) else tuple(size or ())
    if len(new) != len(old):
        raise UsageError(f"'{node.name}' has {len(old)} spatial axes, not {len(new)}")
    if new == old or any(n < o for n, o in zip(new, old, strict=True)):
        raise UsageError(f"'{node.name}' has a kernel of {list(old)}", "give a larger size")
    ones = [1] * len(old)
    before = tuple((n - o) // 2 for n, o in zip(new, old, strict=True))
    return Window(
        old, new, before, tuple(node.attr("strides", ones)), tuple(node.attr("dilations", ones))
    )


def _replaced(editor: Editor, analysis: Analysis, node: Node, leaf: Leaf, window: Window) -> str:
    """Write the weights with the ring, in place or beside those that others share."""
    model = analysis.model
    assert leaf.tensor is not None
    rows = [(0, 0), (0, 0), *zip(window.before, window.behind, strict=True)]
    array = np.pad(analysis.source.array(leaf.tensor), rows, constant_values=_zero(analysis, node))
    chain, tensor = list[Node](), node.inputs[1]
    while tensor != leaf.name:
        chain.append(model.producer[tensor])
        tensor = chain[-1].inputs[0]
    path = [leaf.name, *(n.outputs[0] for n in chain)]
    outputs = {t for s in model.scopes.values() for t in s.outputs}
    alone = all(len(model.readers[t]) == 1 for t in path) and not outputs.intersection(path)
    if alone and leaf.path[-2] == "initializer":
        editor.replace(leaf, array)
        for name in path:
            editor.resize(name, dict(enumerate(window.new, 2)))
        return leaf.name
    last = name = editor.constant(array, f"{leaf.name}_grown")
    for step in reversed(chain):
        copy = copied(step.proto)
        copy.name = editor.fresh(f"{step.name}_grown")
        copy.input[0] = last
        last = copy.output[0] = editor.fresh(f"{step.outputs[0]}_grown")
        editor.insert(node.path, copy)
    editor.node(node).input[1] = last
    return name


def _zero(analysis: Analysis, node: Node) -> Array:
    """What stands for zero in the leaf: the zero point of quantized weights."""
    producer = analysis.model.producer.get(node.inputs[1])
    while producer is not None and _hands_on(analysis, producer):
        producer = analysis.model.producer.get(producer.inputs[0])
    slot = _row(producer).offsets.get(0) if producer is not None else None
    if producer is None or slot is None or not producer.tensor(slot):
        return np.zeros(())
    value = analysis.first.values.get(producer.tensor(slot))
    if value is None or len(np.unique(value)) != 1:
        raise refused(
            node, Reason.NO_RULE, "its zero points differ", "requantize with symmetric weights"
        )
    return np.asarray(value).reshape(-1)[0]
