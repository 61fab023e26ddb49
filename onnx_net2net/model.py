"""The index over a model: nodes of every scope in running order, names, producers, readers.

The protos stay the truth; nothing here changes them. A tensor of a subgraph gets the
scope in front of its name (`loop/body:x`), so that a tensor id is unique in the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto

from onnx_net2net.errors import ModelError

Path = tuple["str | int", ...]
"""Where a message lies in the model, e.g. `("graph", "node", 3)`."""


@dataclass(eq=False)
class Node:
    """A node: `op` is the type, with its domain in front unless it is ai.onnx.

    `inputs` and `outputs` are tensor ids ("" where absent); `captured` are the outer
    tensors that its subgraphs read; `bodies` maps an attribute to the subgraph's scope.
    """

    index: int
    op: str
    version: int
    proto: NodeProto
    path: Path
    scope: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    captured: tuple[str, ...] = ()
    bodies: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name, or its first output's where it has none."""
        return self.proto.name or next((o for o in self.outputs if o), f"#{self.index}")

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Attribute name to value; strings decoded, subgraphs left out."""
        found = {}
        for a in self.proto.attribute:
            if a.type == AttributeProto.STRING:
                found[a.name] = a.s.decode("utf-8", "replace")
            elif a.type == AttributeProto.STRINGS:
                found[a.name] = [s.decode("utf-8", "replace") for s in a.strings]
            elif a.type not in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                found[a.name] = onnx.helper.get_attribute_value(a)
        return found

    @cached_property
    def signature(self) -> tuple[bytes, ...]:
        """Its attributes as stored, so that nodes can be told apart quickly."""
        return tuple(a.SerializeToString() for a in self.proto.attribute)

    def attr(self, name: str, default: Any = None) -> Any:
        """The attribute's value, or `default`."""
        return self.attributes.get(name, default)


@dataclass(frozen=True)
class Leaf:
    """A constant that the file holds: an initializer or a Constant node's attribute.

    `tensor` is None for the list forms of Constant (`value_floats`, ...).
    `also_input` is the graph input that repeats it (IR 3 style), if any.
    """

    name: str
    path: Path
    scope: str
    shape: tuple[int, ...]
    dtype: int
    tensor: TensorProto | None
    literal: Any = None
    also_input: Path | None = None


@dataclass
class Scope:
    """One graph: its formal inputs and outputs as tensor ids."""

    name: str
    path: Path
    graph: GraphProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


_CONSTANT_LISTS = {
    "value_float": TensorProto.FLOAT,
    "value_floats": TensorProto.FLOAT,
    "value_int": TensorProto.INT64,
    "value_ints": TensorProto.INT64,
}


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


class Model:
    """Nodes in running order (a subgraph's before its owner), leaves, producers, readers.

    Raises:
        ModelError: a name that nothing defines or two nodes do, or a cycle.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self.opsets = {_domain(o.domain): o.version for o in proto.opset_import}
        self.functions = {(f.domain, f.name) for f in proto.functions}
        self.leaves: dict[str, Leaf] = {}
        self.scopes: dict[str, Scope] = {}
        self.infos: dict[str, ValueInfoProto] = {}
        self._raw: list[Node] = []
        self._walk(proto.graph, ("graph",), "", {})
        self.nodes = self._sorted()
        main = self.scopes[""]
        self.inputs = tuple(i for i in main.inputs if i not in self.leaves)
        self.outputs = main.outputs
        self.producer = {o: n for n in self.nodes for o in n.outputs if o}
        self.readers: dict[str, list[tuple[Node, int]]] = {}
        for n in self.nodes:
            for slot, t in enumerate(n.inputs):
                if t:
                    self.readers.setdefault(t, []).append((n, slot))

    def _walk(self, graph: GraphProto, path: Path, scope: str, outer: dict[str, str]) -> set[str]:
        """Index `graph`; return the outer tensors that it captures."""
        prefix = f"{scope}:" if scope else ""
        here = dict(outer)
        defined: set[str] = set()
        captured: set[str] = set()

        def define(name: str) -> str:
            defined.add(name)
            here[name] = prefix + name
            return prefix + name

        def use(name: str) -> str:
            if not name:
                return ""
            if name not in here:
                raise ModelError(
                    f"tensor '{name}' is read but nothing defines it; "
                    "export the model again or run onnx.checker on it"
                )
            if name not in defined:
                captured.add(here[name])
            return here[name]

        for t in graph.initializer:
            define(t.name)
        inputs = tuple(define(i.name) for i in graph.input)
        for t in graph.sparse_initializer:
            define(t.values.name)
        made: set[str] = set()
        for n in graph.node:
            for o in n.output:
                if o in made:
                    raise ModelError(f"tensor '{o}' is made twice; export the model again")
                if o:
                    made.add(o)
                    define(o)
        also = {i.name: (*path, "input", k) for k, i in enumerate(graph.input)}
        for k, t in enumerate(graph.initializer):
            self.leaves[here[t.name]] = Leaf(
                here[t.name], (*path, "initializer", k), scope, tuple(t.dims), t.data_type, t,
                also_input=also.get(t.name),
            )  # fmt: skip
        for i in (*graph.input, *graph.output, *graph.value_info):
            if i.name in here and (i.name in defined):
                self.infos.setdefault(here[i.name], i)
        for k, n in enumerate(graph.node):
            self._add(n, (*path, "node", k), scope, here, use, captured, defined)
        outputs = tuple(use(o.name) for o in graph.output)
        self.scopes[scope] = Scope(scope, path, graph, inputs, outputs)
        return captured - {here[d] for d in defined}

    def _add(
        self, n: NodeProto, path: Path, scope: str, here: dict[str, str], use: Any,
        captured: set[str], defined: set[str],
    ) -> None:  # fmt: skip
        domain = _domain(n.domain)
        kind = n.op_type.replace(".", ":")  # a dot ends the domain
        op = f"{domain}.{kind}" if domain else kind
        outputs = tuple(here[o] if o else "" for o in n.output)
        if op == "Constant" and outputs:
            self._constant(n, path, scope, outputs[0])
            return
        inner: set[str] = set()
        bodies = {}
        for k, a in enumerate(n.attribute):
            graphs: list[tuple[GraphProto, Path]] = []
            if a.type == AttributeProto.GRAPH:
                graphs.append((a.g, ("g",)))
            graphs += [(g, ("graphs", j)) for j, g in enumerate(a.graphs)]
            for g, tail in graphs:
                key = f"{scope}/{n.name or (n.output[0] if n.output else k)}.{a.name}"
                while key in self.scopes:
                    key += "'"
                bodies[a.name] = key
                inner |= self._walk(g, (*path, "attribute", k, *tail), key, here)
        if inner:
            captured |= inner - {here[d] for d in defined}
        inputs = tuple(use(i) for i in n.input)
        version = self.opsets.get(domain, 1)
        self._raw.append(
            Node(-1, op, version, n, path, scope, inputs, outputs, tuple(sorted(inner)), bodies)
        )

    def _constant(self, n: NodeProto, path: Path, scope: str, name: str) -> None:
        for a in n.attribute:
            if a.name == "value":
                t = a.t
                self.leaves[name] = Leaf(name, path, scope, tuple(t.dims), t.data_type, t)
                return
            if a.name in _CONSTANT_LISTS:
                v = onnx.helper.get_attribute_value(a)
                shape = (len(v),) if isinstance(v, (list, tuple)) or hasattr(v, "__len__") else ()
                self.leaves[name] = Leaf(
                    name, path, scope, shape, _CONSTANT_LISTS[a.name], None, literal=v
                )
                return
        # strings and sparse values: a leaf nobody can re-index
        self.leaves[name] = Leaf(name, path, scope, (), TensorProto.UNDEFINED, None)

    def _sorted(self) -> list[Node]:
        """Stable topological order; files whose nodes are unsorted run in onnxruntime too."""
        makers = {o: n for n in self._raw for o in n.outputs if o}
        owner: dict[str, Node] = {s: n for n in self._raw for s in n.bodies.values()}
        order: list[Node] = []
        state: dict[int, int] = {}
        inside: dict[str, list[Node]] = {}
        for n in self._raw:
            inside.setdefault(n.scope, []).append(n)

        def needs(n: Node) -> Iterator[Node]:
            for t in (*n.inputs, *n.captured):
                m = makers.get(t)
                if m is not None:
                    yield m
            for s in n.bodies.values():
                yield from inside.get(s, ())
            if n.scope in owner:  # a body's formal inputs get their types from its owner's
                for t in owner[n.scope].inputs:
                    if t in makers:
                        yield makers[t]

        for root in self._raw:
            stack = [(root, needs(root))] if id(root) not in state else []
            if stack:
                state[id(root)] = 1
            while stack:
                n, todo = stack[-1]
                for m in todo:
                    seen = state.get(id(m), 0)
                    if seen == 1:
                        raise ModelError(
                            f"the graph has a cycle through node '{m.name}'; export it again"
                        )
                    if seen == 0:
                        state[id(m)] = 1
                        stack.append((m, needs(m)))
                        break
                else:
                    state[id(n)] = 2
                    n.index = len(order)
                    order.append(n)
                    stack.pop()
        return order

    @cached_property
    def constant(self) -> frozenset[str]:
        """Tensors that depend on leaves alone."""
        found = set(self.leaves)
        for n in self.nodes:
            if n.bodies or not any(n.inputs) or any(o in found for o in n.outputs):
                continue
            if all(t in found for t in n.inputs if t):
                found.update(o for o in n.outputs if o)
        return frozenset(found)
