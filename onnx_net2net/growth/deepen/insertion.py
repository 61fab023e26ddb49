"""New nodes and constants in the making, named in the model's own style, and their patch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from onnx_net2net.files.patch import Insert, Splice
from onnx_net2net.graph.model import Node, Path
from onnx_net2net.growth.deepen.insertion_point import Point
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.typing import Array

_SUFFIX = re.compile(r"_deeper\d*([._/].*)?$")


class Graft:
    """Nodes and initializers that stand between a tensor and its readers.

    Attributes:
        opset: of ai.onnx, what new nodes are written for.
        slope_shape: the shape in which one number per channel broadcasts; set by the layer
            form in use.
        normalised: inputs of new BatchNormalizations, in order.
    """

    def __init__(self, analysis: Analysis, point: Point) -> None:
        self.analysis = analysis
        self.point = point
        opsets = analysis.model.opsets
        self.opset = opsets.get("", opsets.get("ai.onnx", 1))
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []
        self.slope_shape: tuple[int, ...] = ()
        self.normalised: list[str] = []
        self._taken = _names(analysis)
        self._module, self._parameters, self._path = _stems(analysis, point, self._taken)

    def node(self, op: str, inputs: Iterable[str], **attributes: Any) -> str:
        """Add a node; its output's name."""
        base = f"{self._module}/{op}" if self._path else f"{self._module}_{op.lower()}"
        name = self.fresh(base)
        output = self.fresh(f"{name}_output_0")
        made = onnx.helper.make_node(op, list(inputs), [output], name=name, **attributes)
        self.nodes.append(made)
        return output

    def copied(self, proto: NodeProto) -> None:
        """Add a node as it is."""
        self.nodes.append(proto)

    def scalar(self, value: float) -> str:
        """Add a constant of the tensor's type; its name."""
        return self.constant(np.asarray(value, self.point.dtype), "constant")

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
        name = self.fresh(self._parameters + role.replace(".", self._parameters[-1]))
        typed = np.ascontiguousarray(np.asarray(array).astype(self.point.dtype))
        self.tensors.append(onnx.numpy_helper.from_array(typed, name))
        return name

    def adopted(self, array: Array, base: str) -> str:
        """Add an initializer with a name and type of its own; its name."""
        name = self.fresh(base)
        self.tensors.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def fresh(self, base: str) -> str:
        """A name that nothing in the model has."""
        name, k = base, 1
        while name in self._taken:
            k += 1
            name = f"{base}_{k}"
        self._taken.add(name)
        return name

    def patch(self, last: str, source: str) -> list[Splice | Insert]:
        """The edits that put the nodes in place.

        Args:
            last: the tensor that the readers get.
            source: the name under which the new nodes read the tensor.
        """
        producer = self.analysis.model.producer.get(self.point.tensor)
        producer = producer and self.analysis.model.caller(producer)
        edits: dict[Path, NodeProto] = {}
        if self.point.keeps_name:
            assert producer is not None
            slot = producer.outputs.index(self.point.tensor)
            _copy(edits, producer).output[slot] = source
            for node in self.nodes:
                node.output[:] = [self.point.name if o == last else o for o in node.output]
                node.input[:] = [self.point.name if i == last else i for i in node.input]
        else:
            for reader, slot in self.point.readers:
                _copy(edits, reader).input[slot] = last
        graph = self.analysis.model.scopes[self.point.scope].path
        at: Path = (*graph, "node", 0)
        if producer is not None:
            at = (*producer.path[:-1], int(producer.path[-1]) + 1)
        return [
            Insert(at, tuple(self.nodes)),
            *(Splice(path, (proto,)) for path, proto in edits.items()),
            *self._constants(),
        ]

    def _constants(self) -> list[Splice | Insert]:
        main = self.analysis.model.proto.graph
        if not self.tensors:
            return []
        made: list[Splice | Insert] = [
            Insert(("graph", "initializer", len(main.initializer)), tuple(self.tensors))
        ]
        if self.analysis.model.proto.ir_version < 4:  # initializers had to be inputs too
            infos = tuple(
                onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
                for t in self.tensors
            )
            made.append(Insert(("graph", "input", len(main.input)), infos))
        return made


def _copy(edits: dict[Path, NodeProto], node: Node) -> NodeProto:
    if node.path not in edits:
        edits[node.path] = NodeProto()
        edits[node.path].CopyFrom(node.proto)
    return edits[node.path]


def _names(analysis: Analysis) -> set[str]:
    """All names in use, whatever scope they belong to."""
    taken: set[str] = set()
    for scope in analysis.model.scopes.values():
        g = scope.graph
        for n in g.node:
            taken.update((n.name, *n.input, *n.output))
        taken.update(t.name for t in g.initializer)
        taken.update(i.name for i in (*g.input, *g.output, *g.value_info))
        taken.update(t.values.name for t in g.sparse_initializer)
    return taken


def _stems(analysis: Analysis, point: Point, taken: set[str]) -> tuple[str, str, bool]:
    """The module of new nodes, the prefix of new parameters, whether modules are paths.

    `/layer1/conv2/Conv` with `layer1.conv2.weight` gives `/layer1/conv2_deeper` and
    `layer1.conv2_deeper.`; `Conv_12` gives `Conv_12_deeper`.
    """
    node = point.layer
    name = node.proto.name or point.name
    head, _, _ = name.rpartition("/")
    path = bool(head)
    module = _SUFFIX.sub("", head or re.sub(r"[^\w.]+", "_", name))
    weights = [node.inputs[s] for s in analysis.weights(node)]
    weight = next((w for w in weights if w in analysis.model.leaves), "")
    inner, dot, _ = weight.rpartition(".")
    dotted = bool(dot) and "::" not in weight and "/" not in weight
    if not dotted:
        inner = _dotted(module) if name.startswith("/") else module
    inner = _SUFFIX.sub("", inner)
    joint = "." if dotted or name.startswith("/") else "/" if path else "_"
    for k in range(1, len(taken) + 2):
        suffix = "_deeper" + (str(k) if k > 1 else "")
        stems = (module + suffix, inner + suffix)
        if not any(_under(t, s) for t in taken for s in stems):
            break
    return stems[0], stems[1] + joint, path


def _under(name: str, stem: str) -> bool:
    return name.startswith(stem) and not name[len(stem) : len(stem) + 1].isdigit()


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
