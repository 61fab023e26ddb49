"""Finding what a user names: nodes, tensors, parameters, parts of a module path."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Sequence

from onnx_net2net.errors import AmbiguousError, UsageError
from onnx_net2net.graph.model import Node
from onnx_net2net.graph.traversal import downstream
from onnx_net2net.inference.analysis import Analysis


def words(name: str) -> tuple[str, ...]:
    """The parts of a module path.

    >>> words("/layer1/layer1.0/conv1/Conv")
    ('layer1', 'layer1', '0', 'conv1', 'Conv')
    """
    return tuple(w for w in re.split(r"[/.:]+", name) if w)


def _contains(path: Sequence[str], part: Sequence[str]) -> bool:
    n = len(part)
    return any(tuple(path[k : k + n]) == tuple(part) for k in range(len(path) - n + 1))


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names most like a mistyped one.

    Args:
        name: what was typed.
        names: what there is.
        count: how many at most.
    """
    pool = list(dict.fromkeys(names))
    found = difflib.get_close_matches(name, pool, count, 0.4)
    return found or [n for n in pool if name.lower() in n.lower()][:count]


def readers_of(analysis: Analysis, leaf: str) -> list[Node]:
    """The nodes that read a constant, through nodes that are constant themselves."""
    constant = analysis.model.constant

    def through(node: Node) -> bool:
        return bool(node.outputs) and all(o in constant for o in node.outputs if o)

    uses = downstream(analysis.model, leaf, through)
    return list({n.index: n for n, slot in uses if slot < len(n.inputs)}.values())


def _called(analysis: Analysis, name: str) -> list[Node]:
    """The layers that a call of a function stands for, by its name or what it makes."""
    known = analysis.model.calls.items()
    calls = [p for p, (_, call) in known if name and name in (call.name, *call.output)]
    if not calls:
        return []
    return [n for n in analysis.layers() if any(n.path[: len(p)] == p for p in calls)]


def find(analysis: Analysis, name: str, nodes: Sequence[Node] | None = None) -> Node:
    """The node that a name means.

    Args:
        name: a node name, an output tensor, an initializer, or the part of a module path
            that only one of `nodes` has or begins with (`conv1` finds `/conv1/Conv` and
            `conv1.weight`).
        nodes: where parts of paths are looked for; the layers (nodes with weights) if None.

    Raises:
        AmbiguousError: several nodes or none match; `.candidates` are the names to choose from.
    """
    if not isinstance(name, str):
        raise UsageError(f"{name!r:.60} is no name", "give a text; `inspect` lists what is there")
    found = _exact(analysis, name)
    if found is not None:
        return found
    pool = list(analysis.layers() if nodes is None else nodes)
    matches = _by_path(analysis, name, pool)
    if len(matches) > 1:
        raise _several(name, [n.name for n in matches])
    part = words(name)
    others = [n for n in analysis.model.nodes if part and _contains(words(n.name), part)]
    if matches or len(others) == 1:  # no layer, but the only node of that name
        return (matches or others)[0]
    names = [n.name for n in pool]
    like = nearest(
        name, [*names, *(n.outputs[0] for n in pool), *(w for n in names for w in words(n))]
    )
    hint = f"did you mean {', '.join(like)}?" if like else "`inspect` lists what is there"
    raise AmbiguousError(f"no node, tensor or parameter is named '{name}'", hint, like or names)


def _exact(analysis: Analysis, name: str) -> Node | None:
    """The node of that very name, or the one that makes or reads the tensor of that name."""
    model = analysis.model
    exact = [n for n in model.nodes if (n.label or n.proto.name) == name]
    if len(exact) > 1:
        outputs = [n.outputs[0] for n in exact]
        raise AmbiguousError(
            f"{len(exact)} nodes are named '{name}'",
            f"name one by its output: {', '.join(outputs)}",
            outputs,
        )
    inside = exact or _called(analysis, name)
    if len(inside) == 1:
        return inside[0]
    if name in model.producer or name not in model.leaves:
        return model.producer.get(name)
    readers = readers_of(analysis, name)
    layers = [n for n in readers if analysis.weights(n)] or readers
    if len(layers) > 1:
        raise _several(name, [n.name for n in layers])
    return layers[0] if layers else None


def _by_path(analysis: Analysis, name: str, pool: Sequence[Node]) -> list[Node]:
    """The nodes of which a name is part of the path, those first that it fits best."""
    part = words(name)
    matches = [n for n in pool if part and any(_contains(p, part) for p in _paths(analysis, n))]
    own = [n for n in matches if _contains(words(n.name), part)]
    if len(own) == 1:  # rather than another node that shares its weights
        return own
    # `conv1` is the module of that name rather than `layer1.0.conv1`
    rooted = [n for n in matches if any(p[: len(part)] == part for p in _paths(analysis, n))]
    return rooted if len(rooted) == 1 else matches


def _paths(analysis: Analysis, node: Node) -> list[tuple[str, ...]]:
    weights = [t for t in node.inputs if t in analysis.model.leaves]
    return [words(n) for n in (node.name, node.outputs[0], *weights)]


def _several(name: str, names: list[str]) -> AmbiguousError:
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return AmbiguousError(
        f"'{name}' fits {len(names)} layers: {shown}", "give a longer name", names
    )


def select(analysis: Analysis, pattern: str) -> list[str]:
    """Names of the main graph's nodes that fit a pattern, in running order.

    Args:
        pattern: of node names (`layer1*`), or an operator (`Relu`, `Conv`).

    Raises:
        AmbiguousError: nothing fits.
    """
    model = analysis.model
    nodes = [
        n for n in model.nodes if not n.scope and any(o not in model.constant for o in n.outputs)
    ]
    found = [n for n in nodes if n.op == pattern]
    found = found or [
        n for n in nodes if fnmatch.fnmatchcase(n.name.lstrip("/"), pattern.lstrip("/"))
    ]
    if not found:
        near = nearest(pattern, [n.name for n in nodes] + [n.op for n in nodes])
        hint = f"did you mean {', '.join(near)}?" if near else "`inspect` lists what is there"
        raise AmbiguousError(f"no node or operator fits '{pattern}'", hint, near)
    return [n.name for n in found]
