"""Local functions: a body seen in the place of each call, and calls told apart where they grow.

The analysis sees a function's nodes once for each call, with the call's tensors and attributes;
nothing is inlined in the file. Where calls of one function must become different, or only some
of them change, those get a function of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from onnx import AttributeProto, FunctionProto, NodeProto

from .subgraphs import bodies

CALLED = "called"
"""The step of a path from a node that calls a function to the nodes of the function's body."""

Path: TypeAlias = "tuple[str | int, ...]"


def called(message: NodeProto | FunctionProto) -> tuple[str, str, str]:
    """Domain, name and overload: what a call and its function have in common."""
    domain = "" if message.domain == "ai.onnx" else message.domain
    name = message.op_type if isinstance(message, NodeProto) else message.name
    return domain, name, message.overload


def instantiated(f: FunctionProto, call: NodeProto) -> list[NodeProto]:
    """The nodes of a function's body, with the attributes that one call gives it."""
    given = {a.name: a for a in f.attribute_proto}
    given |= {a.name: a for a in call.attribute}
    return [_resolved(n, given) for n in f.node]


def _resolved(node: NodeProto, given: Mapping[str, AttributeProto]) -> NodeProto:
    made = NodeProto()
    made.CopyFrom(node)
    del made.attribute[:]
    for a in node.attribute:
        if not a.ref_attr_name:
            made.attribute.append(a)
        elif a.ref_attr_name in given:  # else an optional attribute that the call does not give
            made.attribute.append(given[a.ref_attr_name])
            made.attribute[-1].name = a.name
    for graph in bodies(made):
        inner = [_resolved(n, given) for n in graph.node]
        del graph.node[:]
        graph.node.extend(inner)
    return made


def stored(path: Path, calls: Mapping[Path, tuple[int, NodeProto]]) -> Path:
    """Where the message at a path stands in the file, which holds a function's body once."""
    if CALLED not in path:
        return path
    at = len(path) - 1 - path[::-1].index(CALLED)
    return ("functions", calls[path[:at]][0], "node", *path[at + 1 :])
