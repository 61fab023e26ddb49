"""The index over a model: nodes of every scope in running order, names, producers, readers.

The protos stay the truth; nothing here changes them. A tensor of a subgraph gets the
scope in front of its name (`loop/body:x`), so that a tensor id is unique in the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto

from onnx_net2net.errors import ModelError
from onnx_net2net.graph.functions import CALLED, called, instantiated, stored
from onnx_net2net.graph.node import Leaf, Node, Path, Scope, running_order
from onnx_net2net.graph.subgraphs import invariants

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
        self.readers: dict[str, list[tuple[Node, int]]] = {}
        self.crossings: dict[str, list[tuple[Node, int]]] = {}
        for n in self.nodes:
            for slot, t in enumerate(n.inputs):
                if t:
                    self.readers.setdefault(t, []).append((n, slot))
            for k, t in enumerate(n.ends):
                if not t or (t in n.inputs and t in n.formals):
                    continue
                self.crossings.setdefault(t, []).append((n, len(n.inputs) + k))
            for k, t in enumerate(n.formals):
                if t not in n.inputs:  # else an outer tensor by another name
                    self.crossings.setdefault(t, []).append((n, -1 - len(n.outputs) - k))
        for n in self.nodes:
            for tie in n.ties() if n.formals else ():
                if tie.input is None or tie.formal is None or tie.output is None:
                    continue
                t, out = n.inputs[tie.input], n.outputs[tie.output]
                unread = not self.readers.get(out) and out not in self.outputs
                if t == n.formals[tie.formal] and unread and out not in self.crossings:
                    # handed round unchanged and not looked at afterwards: the body reads it
                    self.readers[t].remove((n, tie.input))

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
                    f"tensor '{name}' is read but nothing defines it",
                    "export the model again or run onnx.checker on it",
                )
            if name not in defined:
                captured.add(here[name])
            return here[name]

        for t in graph.initializer:
            define(t.name)
        alias = {graph.input[k].name: t for k, t in (given or {}).items()}
        for n in graph.node if alias else ():  # and what hands them on
            if n.op_type == "Identity" and n.input[0] in alias:
                alias[n.output[0]] = alias[n.input[0]]
        here.update(alias)
        captured.update(alias.values())
        inputs = tuple(alias.get(i.name) or define(i.name) for i in graph.input)
        for t in graph.sparse_initializer:
            define(t.values.name)
        made: set[str] = set()
        for n in graph.node:
            for o in n.output:
                if o in made:
                    raise ModelError(f"tensor '{o}' is made twice", "export the model again")
                if o:
                    made.add(o)
                    if o not in alias:
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
            if n.output and n.output[0] in alias:
                continue
            self._add(n, (*path, "node", k), scope, here, use, captured, defined, opsets)
        outputs = tuple(use(o.name) for o in graph.output)
        self.scopes[scope] = Scope(scope, path, graph, inputs, outputs, alias)
        return captured - {here[d] for d in defined}

    def _add(
        self, n: NodeProto, path: Path, scope: str, here: dict[str, str], use: Any,
        captured: set[str], defined: set[str], opsets: Mapping[str, int], label: str = "",
    ) -> None:  # fmt: skip
        domain = _domain(n.domain)
        kind = n.op_type.replace(".", ":")  # a dot ends the domain
        op = f"{domain}.{kind}" if domain else kind
        outputs = tuple(here[o] if o else "" for o in n.output)
        if called(n) in self.functions:
            self._call(n, path, scope, here, use, label)
            return
        if op == "Constant" and outputs:
            self._constant(n, path, scope, outputs[0])
            return
        version = opsets.get(domain, 1)
        inner: set[str] = set()
        bodies = {}
        same = {k: use(n.input[j]) for k, j in invariants(op, n, version).items()}
        for k, a in enumerate(n.attribute):
            graphs: list[tuple[GraphProto, Path]] = []
            if a.type == AttributeProto.GRAPH:
                graphs.append((a.g, ("g",)))
            graphs += [(g, ("graphs", j)) for j, g in enumerate(a.graphs)]
            for g, tail in graphs:
                key = self._key(f"{scope}/{n.name or (n.output[0] if n.output else k)}.{a.name}")
                bodies[a.name] = key
                inner |= self._walk(g, (*path, "attribute", k, *tail), key, here, opsets, same)
        if inner:
            captured |= inner - {here[d] for d in defined}
        inputs = tuple(use(i) for i in n.input)
        ends = tuple(t for s in bodies.values() for t in self.scopes[s].outputs)
        formals = tuple(t for s in bodies.values() for t in self.scopes[s].inputs)
        self._raw.append(
            Node(
                -1, op, version, n, path, scope, inputs, outputs, tuple(sorted(inner)), bodies,
                ends, formals, label,
            )
        )  # fmt: skip

    def _key(self, wanted: str) -> str:
        while wanted in self.scopes:
            wanted += "'"
        return wanted

    def _call(
        self, call: NodeProto, path: Path, scope: str, here: dict[str, str], use: Any, label: str
    ) -> None:
        """Index a function's body in the place of a call; it reads and makes what the call does."""
        index, f = self.functions[called(call)]
        self.calls[path] = index, call
        results = tuple(here[o] if o else "" for o in call.output)
        name = label or call.name or next((o for o in call.output if o), f.name)
        prefix = self._names(f"{scope}/{name}()")
        actual = [use(i) for i in call.input] + [""] * (len(f.input) - len(call.input))
        self._callers[path] = Node(-1, f.name, 1, call, path, scope, tuple(actual), results)
        inside = dict(zip(f.input, actual, strict=True))
        given = dict(zip(f.output, results, strict=False))
        nodes = instantiated(f, call)
        made = {o for n in nodes for o in n.output if o}
        for o in made:
            inside[o] = given.pop(o, "") or f"{prefix}:{o}"

        def find(name: str) -> str:
            if name and name not in inside:
                raise ModelError(
                    f"tensor '{name}' is read in function '{f.name}' but nothing defines it",
                    "export the model again or run onnx.checker on it",
                )
            return inside[name] if name else ""

        opsets = {_domain(o.domain): o.version for o in f.opset_import} or self.opsets
        for k, n in enumerate(nodes):
            title = f"{name}/{n.name or next((o for o in n.output if o), k)}"
            self._add(
                n, (*path, CALLED, k), scope, inside, find, set(), set(), opsets, title
            )  # fmt: skip
        for k, (name_, t) in enumerate(given.items()):  # handed through
            if t:
                one = NodeProto(op_type="Identity", input=[name_], output=[f"{name_}_{k}"])
                at = (*path, CALLED, len(nodes) + k)
                self._raw.append(
                    Node(-1, "Identity", opsets.get("", 1), one, at, scope, (find(name_),), (t,))
                )

    def _names(self, wanted: str) -> str:
        taken = self._prefixes
        while wanted in taken:
            wanted += "'"
        taken.add(wanted)
        return wanted

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
