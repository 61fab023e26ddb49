"""New nodes and constants in the making, named in the model's own style, and their patch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto

from onnx_net2net.files.patch import Insert, Splice
from onnx_net2net.graph.editor import Editor, after
from onnx_net2net.growth.deepen.insertion_point import Point
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.typing import Array

_SUFFIX = re.compile(r"_deeper\d*([._/].*)?$")


class Graft:
    """Nodes and initializers that stand between a tensor and its readers.

    Attributes:
        editor: of the model.
        opset: of ai.onnx, what new nodes are written for.
        nodes: the new ones, in order.
        slope_shape: the shape in which one number per channel broadcasts; set by the layer
            form in use.
        normalised: inputs of new BatchNormalizations, in order.
    """

    def __init__(self, analysis: Analysis, point: Point) -> None:
        self.analysis = analysis
        self.point = point
        self.editor = Editor(analysis.model)
        self.opset = analysis.model.opsets.get("", 1)
        self.nodes: list[NodeProto] = []
        self.slope_shape: tuple[int, ...] = ()
        self.normalised: list[str] = []
        self._module, self._parameters, self._path = _stems(analysis, point, self.editor.taken)

    def node(self, op: str, inputs: Iterable[str], **attributes: Any) -> str:
        """Add a node; its output's name."""
        base = f"{self._module}/{op}" if self._path else f"{self._module}_{op.lower()}"
        name = self.editor.fresh(base)
        output = self.editor.fresh(f"{name}_output_0")
        made = onnx.helper.make_node(op, list(inputs), [output], name=name, **attributes)
        self.nodes.append(made)
        return output

    def scalar(self, value: float) -> str:
        """Add a constant of one number in the tensor's type; its name."""
        return self.constant(np.full(1, value), "constant")

    def slope(self, value: Any) -> str:
        """Add one constant per channel; its name."""
        count = max(self.slope_shape)
        values = np.asarray(value, np.float64).reshape(-1)
        if len(values) != count:
            values = np.full(count, values.mean())
        return self.constant(values.reshape(self.slope_shape), "slope")

    def constant(self, array: Array, role: str) -> str:
        """Add an initializer in the tensor's type; its name.

        Args:
            role: what it is called in its module: `weight`, `bias`, `bn.weight`, ...
        """
        name = self._parameters + role.replace(".", self._parameters[-1])
        return self.editor.constant(array.astype(self.point.dtype), name)

    def patch(self, last: str, source: str) -> list[Splice | Insert]:
        """The edits that put the nodes in place.

        Args:
            last: the tensor that the readers get.
            source: the name under which the new nodes read the tensor.
        """
        model, point = self.analysis.model, self.point
        producer = model.producer.get(point.tensor)
        producer = producer and model.caller(producer)
        if point.keeps_name:
            assert producer is not None
            slot = producer.outputs.index(point.tensor)
            self.editor.node(producer).output[slot] = source
            _rename(self.nodes, last, point.name)
        else:
            for reader, slot in point.readers:
                self.editor.node(reader).input[slot] = last
        first = (*model.scopes[point.scope].path, "node", 0)
        self.editor.insert(first if producer is None else after(producer.path), *self.nodes)
        return self.editor.patch()


def _rename(nodes: Iterable[NodeProto], old: str, new: str) -> None:
    """Call a tensor otherwise where nodes read and make it."""
    for node in nodes:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def _stems(analysis: Analysis, point: Point, taken: set[str]) -> tuple[str, str, bool]:
    """The module of new nodes, the prefix of new parameters, whether modules are paths.

    `/layer1/conv2/Conv` with `layer1.conv2.weight` gives `/layer1/conv2_deeper` and
    `layer1.conv2_deeper.`; `Conv_12` gives `Conv_12_deeper`.
    """
    name = point.layer.proto.name or point.name
    head, _, _ = name.rpartition("/")
    rooted = name.startswith("/")
    module = _SUFFIX.sub("", head or re.sub(r"[^\w.]+", "_", name))
    weights = [point.layer.inputs[s] for s in analysis.weights(point.layer)]
    weight = next((w for w in weights if w in analysis.model.leaves), "")
    inner, dot, _ = weight.rpartition(".")
    dotted = bool(dot) and "::" not in weight and "/" not in weight
    if not dotted:
        inner = _dotted(module) if rooted else module
    inner = _SUFFIX.sub("", inner)
    joint = "." if dotted or rooted else "/" if head else "_"
    new = _ending(module, inner, taken)
    return module + new, inner + new + joint, bool(head)


def _ending(module: str, parameters: str, taken: set[str]) -> str:
    """What makes both stems new."""
    endings = (f"_deeper{k if k > 1 else ''}" for k in range(1, len(taken) + 2))
    stems = ((e, module + e, parameters + e) for e in endings)
    return next(e for e, *both in stems if not any(_under(t, *both) for t in taken))


def _under(name: str, *stems: str) -> bool:
    return any(name.startswith(s) and not name[len(s) : len(s) + 1].isdigit() for s in stems)


def _dotted(path: str) -> str:
    """The parameter prefix of a torch module path.

    >>> _dotted("/layer1/layer1.0/conv1")
    'layer1.0.conv1'
    """
    parts: list[str] = []
    for word in path.strip("/").split("/"):
        if parts and word.startswith(parts[-1] + "."):
            parts[-1] = word
        else:
            parts.append(word)
    return ".".join(parts)
