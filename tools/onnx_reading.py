"""Reading ONNX graphs for the tools: attributes, nested nodes, constants, concrete shapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray[Any, Any]


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute's value, or the default."""
    for a in node.attribute:
        if a.name == name:
            return helper.get_attribute_value(a)
    return default


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node (If, Loop, Scan) carries."""
    for a in node.attribute:
        if a.type == onnx.AttributeProto.GRAPH:
            yield a.g
        yield from a.graphs


def flat_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node at every depth, inner ones before the node that carries them."""
    for node in graph.node:
        for inner in subgraphs(node):
            yield from flat_nodes(inner)
        yield node


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


class Constants:
    """Which tensors a model computes from constants alone, and where a weight really lies.

    >>> constants = Constants(model)
    >>> "conv1.weight" in constants, constants.origin("/Transpose_output_0").name
    (True, 'fc.weight')
    """

    PASSING = frozenset(
        "Identity Transpose Cast CastLike Reshape Squeeze Unsqueeze DequantizeLinear".split()
    )
    RANDOM = frozenset("RandomNormal RandomUniform RandomNormalLike RandomUniformLike".split())

    def __init__(self, model: onnx.ModelProto) -> None:
        self.tensors: dict[str, onnx.TensorProto] = {}
        self.names: set[str] = {""}
        self.passed: dict[str, str] = {}
        for graph in all_graphs(model.graph):
            self.tensors.update({t.name: t for t in graph.initializer})
        self.names |= set(self.tensors)
        pending = list(flat_nodes(model.graph))
        # A second round reaches files whose nodes are not sorted; deeper disorder is not met.
        for _ in range(2):
            pending = [node for node in pending if not self._take(node)]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def origin(self, name: str) -> onnx.TensorProto | None:
        """The stored tensor behind a constant, through nodes that only pass it on."""
        while name in self.passed:
            name = self.passed[name]
        return self.tensors.get(name)

    def _take(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Constant":
            value = attribute(node, "value", None)
            if value is not None:
                self.tensors[node.output[0]] = value
        elif list(subgraphs(node)) or node.op_type in self.RANDOM:
            return False
        if not all(name in self.names for name in node.input):
            return False
        self.names |= set(node.output)
        if node.op_type in self.PASSING:
            self.passed[node.output[0]] = node.input[0]
        return True

    def integers(self, name: str) -> list[int] | None:
        """The values of a small stored integer tensor, or None."""
        tensor = self.origin(name) if name else None
        if tensor is None or tensor.data_type not in (6, 7):
            return None
        values: list[int] = numpy_helper.to_array(tensor).reshape(-1).tolist()
        return values


def _weightless(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the data of large tensors, which shape inference does not read."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for graph in all_graphs(bare.graph):
        attached = [a.t for n in graph.node for a in n.attribute if a.HasField("t")]
        for tensor in (*graph.initializer, *attached):
            if np.prod(tensor.dims, dtype=int) > 256:
                dims, kind, name = list(tensor.dims), tensor.data_type, tensor.name
                tensor.Clear()
                tensor.CopyFrom(onnx.TensorProto(name=name, data_type=kind, dims=dims))
                tensor.data_location = onnx.TensorProto.EXTERNAL
    return bare


def shapes_of(model: onnx.ModelProto, feed: dict[str, Array]) -> dict[str, tuple[int, ...]]:
    """The concrete shape of every tensor that shape inference knows at these inputs."""
    bare = _weightless(model)
    graph = bare.graph
    for info in graph.input:
        if info.name in feed:
            shape = info.type.tensor_type.shape
            shape.Clear()
            for length in feed[info.name].shape:
                shape.dim.add().dim_value = length
    # What a file says of its own tensors may be stale or of another batch size.
    del graph.value_info[:]
    for out in graph.output:
        out.type.tensor_type.ClearField("shape")
    try:
        bare = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except Exception:  # a file that inference refuses: the runtime is asked for all shapes
        bare = onnx.ModelProto()
    shapes: dict[str, tuple[int, ...]] = {}
    for inner in all_graphs(bare.graph):
        for info in (*inner.input, *inner.output, *inner.value_info):
            kind = info.type.tensor_type
            if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
                shapes[info.name] = tuple(d.dim_value for d in kind.shape.dim)
    for inner in all_graphs(model.graph):
        shapes.update({t.name: tuple(t.dims) for t in inner.initializer})
    return shapes
