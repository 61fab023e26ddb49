"""Reading ONNX graphs for the tools: attributes, nested nodes, functions, constants, shapes."""

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


def without_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with local functions written out; a node is named `call/node`.

    >>> without_functions(model) is model  # it has none
    True
    """
    if not model.functions:
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.functions[:]
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    for graph in all_graphs(made.graph):
        nodes = [inner for node in graph.node for inner in _written_out(node, functions)]
        del graph.node[:]
        graph.node.extend(nodes)
    return made


def _written_out(node: onnx.NodeProto, functions: dict[Any, Any]) -> Iterator[onnx.NodeProto]:
    f = functions.get((node.domain, node.op_type, node.overload))
    if f is None:
        yield node
        return
    call = _Call(node, f)
    for inner in f.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(inner)
        call.rename(copy)
        yield from _written_out(copy, functions)


class _Call:
    """One call of a local function: what its names and attributes stand for."""

    def __init__(self, node: onnx.NodeProto, f: onnx.FunctionProto) -> None:
        self.name = node.name or node.output[0]
        self.names = dict(zip(f.input, [*node.input, *[""] * len(f.input)], strict=False))
        self.names |= dict(zip(f.output, node.output, strict=False))
        self.given = {a.name: a for a in (*f.attribute_proto, *node.attribute)}

    def rename(self, inner: onnx.NodeProto) -> None:
        """Make a node of the body one of the caller's graph, in place."""
        inner.name = f"{self.name}/{inner.name or inner.output[0]}"
        for field in (inner.input, inner.output):
            field[:] = [n and self._known(n) for n in field]
        kept = [a for a in map(self._attribute, inner.attribute) if not a.ref_attr_name]
        del inner.attribute[:]
        inner.attribute.extend(kept)
        for graph in subgraphs(inner):
            for other in graph.node:
                self.rename(other)
            for named in (*graph.input, *graph.output, *graph.initializer):
                named.name = self._known(named.name)

    def _known(self, name: str) -> str:
        return self.names.setdefault(name, f"{self.name}/{name}")

    def _attribute(self, a: onnx.AttributeProto) -> onnx.AttributeProto:
        copy = onnx.AttributeProto()
        copy.CopyFrom(self.given.get(a.ref_attr_name, a) if a.ref_attr_name else a)
        copy.name = a.name
        return copy


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
        for node in pending:
            self._carry(node)
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

    def _carry(self, node: onnx.NodeProto) -> None:
        """A Loop's state that the body hands on unchanged is what it starts with."""
        if node.op_type != "Loop":
            return
        (body,) = subgraphs(node)
        same = {n.output[0]: n.input[0] for n in body.node if n.op_type == "Identity"}
        for k, start in enumerate(node.input[2:]):
            formal, end = body.input[2 + k].name, body.output[1 + k].name
            if same.get(end, end) == formal and start in self.names:
                self.names.add(formal)
                self.passed[formal] = start

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
