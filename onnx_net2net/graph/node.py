"""What an index of a model is made of: nodes, constants, scopes; and the order nodes run in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from onnx_net2net.errors import ModelError
from .functions import CALLED
from .subgraphs import Tie, ties

Path = tuple["str | int", ...]
"""Where a message lies in the model, e.g. `("graph", "node", 3)`; a node of a function's body
lies in the node that calls it: `("graph", "node", 3, CALLED, 0)`."""


@dataclass(eq=False)
class Node:
    """A node: `op` is the type, with its domain in front unless it is ai.onnx.

    `inputs` and `outputs` are tensor ids ("" where absent); `captured` are the outer
    tensors that its subgraphs read; `bodies` maps an attribute to the subgraph's scope.
    `ends` are the bodies' outputs, `formals` their inputs, body after body. `label` is the name
    of a node in a function's body, which the caller's name tells from other calls'.
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
    ends: tuple[str, ...] = ()
    formals: tuple[str, ...] = ()
    label: str = ""

    @property
    def name(self) -> str:
        """Its name, or its first output's where it has none."""
        own = self.label or self.proto.name
        return own or next((o for o in self.outputs if o), f"#{self.index}")

    @property
    def called(self) -> bool:
        """Whether it stands in the body of a function."""
        return CALLED in self.path

    @property
    def reads(self) -> tuple[str, ...]:
        """What comes in by slot 0, 1, ...: its inputs, then what its bodies return."""
        return self.inputs + self.ends if self.bodies else self.inputs

    @property
    def makes(self) -> tuple[str, ...]:
        """What goes out by slot -1, -2, ...: its outputs, then what its bodies are given."""
        return self.outputs + self.formals if self.bodies else self.outputs

    def tensor(self, slot: int) -> str:
        """The tensor at a slot; "" where it is absent."""
        at, k = (self.reads, slot) if slot >= 0 else (self.makes, -1 - slot)
        return at[k] if k < len(at) else ""

    def ties(self) -> list[Tie]:
        """How its inputs and outputs meet those of its bodies."""
        return ties(self.op, self.proto, self.version)

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
    """One graph: its formal inputs and outputs as tensor ids.

    `alias`: formal inputs that are an outer tensor by another name.
    """

    name: str
    path: Path
    graph: GraphProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    alias: Mapping[str, str] = field(default_factory=dict)

    def tensor(self, name: str) -> str:
        """The id of a tensor that the graph defines."""
        return self.alias.get(name, f"{self.name}:{name}" if self.name else name)


def running_order(raw: Sequence[Node]) -> list[Node]:
    """Stable topological order; files whose nodes are unsorted run in onnxruntime too."""
    makers = {o: n for n in raw for o in n.outputs if o}
    owner: dict[str, Node] = {s: n for n in raw for s in n.bodies.values()}
    inside: dict[str, list[Node]] = {}
    for n in raw:
        inside.setdefault(n.scope, []).append(n)

    def needs(n: Node) -> Iterator[Node]:
        yield from (makers[t] for t in (*n.inputs, *n.captured) if t in makers)
        for s in n.bodies.values():
            yield from inside.get(s, ())
        scope = n.scope
        while scope in owner:  # a body's formal inputs get their types from its owner's
            yield from (makers[t] for t in owner[scope].inputs if t in makers)
            scope = owner[scope].scope

    done: dict[int, bool] = {}
    order = [n for root in raw if id(root) not in done for n in _behind_needs(root, needs, done)]
    for index, n in enumerate(order):
        n.index = index
    return order


def _behind_needs(
    root: Node, needs: Callable[[Node], Iterator[Node]], done: dict[int, bool]
) -> Iterator[Node]:
    """A node and what it needs, each behind what it needs itself; what is `done` is left out.

    Args:
        done: id of a node -> whether it was given, False on the way.
    """
    stack = [(root, needs(root))]
    done[id(root)] = False
    while stack:
        n, todo = stack[-1]
        m = next((m for m in todo if not done.get(id(m))), None)
        if m is None:
            done[id(n)] = True
            stack.pop()
            yield n
        elif id(m) in done:
            raise ModelError(f"the graph has a cycle through node '{m.name}'", "export it again")
        else:
            done[id(m)] = False
            stack.append((m, needs(m)))
