"""The index over a model: nodes of every scope in running order, names, producers, readers.

The protos stay the truth; nothing here changes them. A tensor of a subgraph gets the
scope in front of its name (`loop/body:x`), so that a tensor id is unique in the model.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Set
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto

from onnx_net2net.errors import ModelError
from .functions import CALLED, called, instantiated, stored
from .node import Leaf, Node, Path, Scope, running_order
from .subgraphs import Tie, invariants

_CONSTANT_LISTS = {
    "value_float": TensorProto.FLOAT,
    "value_floats": TensorProto.FLOAT,
    "value_int": TensorProto.INT64,
    "value_ints": TensorProto.INT64,
}


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _primed(wanted: str, taken: Container[str]) -> str:
    """The name, with as many marks behind it as make it new."""
    while wanted in taken:
        wanted += "'"
    return wanted


def _operator(node: NodeProto) -> str:
    """A node's operator as the table names it: with its domain, but for ONNX's own."""
    domain = _domain(node.domain)
    kind = node.op_type.replace(".", ":")  # a dot ends the domain
    return f"{domain}.{kind}" if domain else kind


class _Names:
    """What names mean in one graph or function: its own tensors, else those around it.

    Attributes:
        here: name -> tensor id.
        defined: the names that it defines itself.
        captured: the outer tensors that were used.
    """

    def __init__(self, scope: str, outer: Mapping[str, str], where: str = "") -> None:
        self.here = dict(outer)
        self.defined: set[str] = set()
        self.captured: set[str] = set()
        self._prefix = f"{scope}:" if scope else ""
        self._where = where

    def define(self, name: str) -> str:
        """A tensor of its own; its id."""
        self.defined.add(name)
        self.here[name] = self._prefix + name
        return self.here[name]

    def made(self, name: str) -> str:
        """The id of a tensor that a node makes; "" of an output that is left out."""
        return self.here[name] if name else ""

    def use(self, name: str) -> str:
        """The id of a tensor that is read; raises ModelError where nothing defines it."""
        if name and name not in self.here:
            raise ModelError(
                f"tensor '{name}' is read{self._where} but nothing defines it",
                "export the model again or run onnx.checker on it",
            )
        if name and name not in self.defined:
            self.captured.add(self.here[name])
        return self.here[name] if name else ""

    def outer(self, tensors: Set[str] | None = None) -> set[str]:
        """Those of `tensors` (of what was captured) that it does not define itself."""
        own = {self.here[d] for d in self.defined}
        return set(self.captured if tensors is None else tensors) - own


def _aliases(graph: GraphProto, given: Mapping[int, str]) -> dict[str, str]:
    """Names of a body for outer tensors: formal inputs `given`, and what hands them on."""
    alias = {graph.input[k].name: t for k, t in given.items()}
    for n in graph.node if alias else ():
        if n.op_type == "Identity" and n.input[0] in alias:
            alias[n.output[0]] = alias[n.input[0]]
    return alias


def _made(graph: GraphProto) -> list[str]:
    """What the nodes of a graph make; raises ModelError where two make the same."""
    made: dict[str, None] = {}
    for o in (o for n in graph.node for o in n.output if o):
        if o in made:
            raise ModelError(f"tensor '{o}' is made twice", "export the model again")
        made[o] = None
    return list(made)


def _graphs(node: NodeProto) -> Iterator[tuple[str, GraphProto, Path]]:
    """The graphs that a node carries: the attribute's name, the graph, the path from the node."""
    for k, a in enumerate(node.attribute):
        if a.type == AttributeProto.GRAPH:
            yield a.name, a.g, ("attribute", k, "g")
        for j, g in enumerate(a.graphs):
            yield a.name, g, ("attribute", k, "graphs", j)


def _by_tensor(
    nodes: Iterable[Node], slots: Callable[[Node], Iterable[tuple[int, str]]]
) -> dict[str, list[tuple[Node, int]]]:
    """Tensor -> the nodes that `slots` says have it, and where."""
    found: dict[str, list[tuple[Node, int]]] = {}
    for n in nodes:
        for slot, t in slots(n):
            if t:
                found.setdefault(t, []).append((n, slot))
    return found


def _crossings(n: Node) -> Iterator[tuple[int, str]]:
    """What a node's bodies return and are given, by slot of the node."""
    for k, t in enumerate(n.ends):
        if t and not (t in n.inputs and t in n.formals):
            yield len(n.inputs) + k, t
    for k, t in enumerate(n.formals):
        if t not in n.inputs:  # else an outer tensor by another name
            yield -1 - len(n.outputs) - k, t


class Model:
    """Nodes in running order (a subgraph's before its owner), leaves, producers, readers.

    Raises:
        ModelError: a name that nothing defines or two nodes do, or a cycle.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self.opsets = {_domain(o.domain): o.version for o in proto.opset_import}
        self.functions = {called(f): (k, f) for k, f in enumerate(proto.functions)}
        self.calls: dict[Path, tuple[int, NodeProto]] = {}
        self._callers: dict[Path, Node] = {}
        self.leaves: dict[str, Leaf] = {}
        self.scopes: dict[str, Scope] = {}
        self.infos: dict[str, ValueInfoProto] = {}
        self._raw: list[Node] = []
        self._prefixes: set[str] = set()
        self._walk(proto.graph, ("graph",), "", {}, self.opsets)
        self.nodes = running_order(self._raw)
        main = self.scopes[""]
        self.inputs = tuple(i for i in main.inputs if i not in self.leaves)
        self.outputs = main.outputs
        self.owners = {s: n for n in self.nodes for s in n.bodies.values()}
        self.index()

    def index(self) -> None:
        """Who makes and reads each tensor; the bodies' inputs and outputs by slot of the owner."""
        self.producer = {o: n for n in self.nodes for o in n.outputs if o}
        self.readers = _by_tensor(self.nodes, lambda n: enumerate(n.inputs))
        self.crossings = _by_tensor(self.nodes, _crossings)
        for n in self.nodes:
            for tie in n.ties() if n.formals else ():
                if tie.input is not None and self._goes_round(n, tie):
                    self.readers[n.inputs[tie.input]].remove((n, tie.input))

    def _goes_round(self, n: Node, tie: Tie) -> bool:
        """Whether a state is handed round unchanged and not looked at afterwards.

        Then the body reads it, not the node.
        """
        if tie.input is None or tie.formal is None or tie.output is None:
            return False
        out = n.outputs[tie.output]
        unread = not self.readers.get(out) and out not in self.outputs
        return unread and out not in self.crossings and n.inputs[tie.input] == n.formals[tie.formal]

    def uses(self, tensor: str) -> list[tuple[Node, int]]:
        """Its readers, and the nodes one of whose bodies returns it."""
        ends = [(n, k) for n, k in self.crossings.get(tensor, ()) if k >= 0]
        return [*self.readers.get(tensor, ()), *ends]

    def caller(self, node: Node) -> Node:
        """The node of a graph in whose call a function's node stands; else the node itself."""
        return self._callers[node.path[: node.path.index(CALLED)]] if node.called else node

    def within(self, scope: str) -> Iterator[str]:
        """The scope and those around it, the innermost first, without the main graph."""
        while scope in self.owners:
            yield scope
            scope = self.owners[scope].scope

    def message(self, path: Path) -> Any:
        """What stands at a path, in a function's body as it stands in the file."""
        found: Any = self.proto
        for step in stored(path, self.calls):
            found = found[step] if isinstance(step, int) else getattr(found, step)
        return found

    def _walk(
        self, graph: GraphProto, path: Path, scope: str, outer: dict[str, str],
        opsets: Mapping[str, int], given: Mapping[int, str] | None = None,
    ) -> set[str]:  # fmt: skip
        """Index `graph`; return the outer tensors that it captures.

        Args:
            given: formal inputs that are an outer tensor by another name.
        """
        names = _Names(scope, outer)
        for t in graph.initializer:
            names.define(t.name)
        alias = _aliases(graph, given or {})
        names.here.update(alias)
        names.captured.update(alias.values())
        inputs = tuple(alias.get(i.name) or names.define(i.name) for i in graph.input)
        for sparse in graph.sparse_initializer:
            names.define(sparse.values.name)
        for o in _made(graph):
            if o not in alias:
                names.define(o)
        self._declared(graph, path, scope, names)
        for k, n in enumerate(graph.node):
            if not n.output or n.output[0] not in alias:
                self._add(n, (*path, "node", k), scope, names, opsets)
        outputs = tuple(names.use(o.name) for o in graph.output)
        self.scopes[scope] = Scope(scope, path, graph, inputs, outputs, alias)
        return names.outer()

    def _declared(self, graph: GraphProto, path: Path, scope: str, names: _Names) -> None:
        """Index the initializers and the declarations of types and shapes."""
        also = {i.name: (*path, "input", k) for k, i in enumerate(graph.input)}
        for k, t in enumerate(graph.initializer):
            name, at = names.here[t.name], (*path, "initializer", k)
            self.leaves[name] = Leaf(
                name, at, scope, tuple(t.dims), t.data_type, t, also_input=also.get(t.name)
            )
        for i in (*graph.input, *graph.output, *graph.value_info):
            if i.name in names.defined:
                self.infos.setdefault(names.here[i.name], i)

    def _add(
        self, n: NodeProto, path: Path, scope: str, names: _Names, opsets: Mapping[str, int],
        label: str = "",
    ) -> None:  # fmt: skip
        op, outputs = _operator(n), tuple(names.made(o) for o in n.output)
        if called(n) in self.functions:
            self._call(n, path, scope, names, label)
            return
        if op == "Constant" and outputs:
            self._constant(n, path, scope, outputs[0])
            return
        version = opsets.get(_domain(n.domain), 1)
        inner: set[str] = set()
        bodies = {}
        same = {k: names.use(n.input[j]) for k, j in invariants(op, n, version).items()}
        for name, graph, where in _graphs(n):
            maker = n.name or (n.output[0] if n.output else where[1])
            bodies[name] = key = _primed(f"{scope}/{maker}.{name}", self.scopes)
            inner |= self._walk(graph, (*path, *where), key, names.here, opsets, same)
        if inner:
            names.captured |= names.outer(inner)
        inputs = tuple(names.use(i) for i in n.input)
        scopes = [self.scopes[s] for s in bodies.values()]
        ends = tuple(t for s in scopes for t in s.outputs)
        formals = tuple(t for s in scopes for t in s.inputs)
        self._raw.append(
            Node(
                -1, op, version, n, path, scope, inputs, outputs, tuple(sorted(inner)), bodies,
                ends, formals, label,
            )
        )  # fmt: skip

    def _call(self, call: NodeProto, path: Path, scope: str, names: _Names, label: str) -> None:
        """Index a function's body in the place of a call; it reads and makes what the call does."""
        index, f = self.functions[called(call)]
        self.calls[path] = index, call
        results = tuple(names.made(o) for o in call.output)
        name = label or call.name or next((o for o in call.output if o), f.name)
        prefix = _primed(f"{scope}/{name}()", self._prefixes)
        self._prefixes.add(prefix)
        actual = [names.use(i) for i in call.input] + [""] * (len(f.input) - len(call.input))
        self._callers[path] = Node(-1, f.name, 1, call, path, scope, tuple(actual), results)
        inside = _Names(prefix, dict(zip(f.input, actual, strict=True)), f" in function '{f.name}'")
        given = dict(zip(f.output, results, strict=False))
        nodes = instantiated(f, call)
        for o in {o for n in nodes for o in n.output if o}:
            inside.here[o] = given.pop(o, "") or f"{prefix}:{o}"
        opsets = {_domain(o.domain): o.version for o in f.opset_import} or self.opsets
        for k, n in enumerate(nodes):
            title = f"{name}/{n.name or next((o for o in n.output if o), k)}"
            self._add(n, (*path, CALLED, k), scope, inside, opsets, title)
        for k, (formal, t) in enumerate(given.items()):  # handed through
            if t:
                one = NodeProto(op_type="Identity", input=[formal], output=[f"{formal}_{k}"])
                at = (*path, CALLED, len(nodes) + k)
                version, source = opsets.get("", 1), inside.use(formal)
                self._raw.append(Node(-1, "Identity", version, one, at, scope, (source,), (t,)))

    def _constant(self, n: NodeProto, path: Path, scope: str, name: str) -> None:
        # strings and sparse values: a leaf nobody can re-index
        leaf = Leaf(name, path, scope, (), TensorProto.UNDEFINED, None)
        for a in n.attribute:
            if a.name == "value":
                leaf = Leaf(name, path, scope, tuple(a.t.dims), a.t.data_type, a.t)
            elif a.name in _CONSTANT_LISTS:
                v, kind = onnx.helper.get_attribute_value(a), _CONSTANT_LISTS[a.name]
                leaf = Leaf(name, path, scope, np.shape(v), kind, None, literal=v)
        self.leaves[name] = leaf

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


__all__ = ["Leaf", "Model", "Node", "Path", "Scope"]
