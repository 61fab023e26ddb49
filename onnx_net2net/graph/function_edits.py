"""From edits as the analysis sees them to edits of the file.

The analysis sees a function's body once for each call. Where every call changes alike the
function itself is edited; a call that becomes different gets a function of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from typing import Any

from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto

from onnx_net2net.files.patch import Insert, Splice
from onnx_net2net.graph.functions import CALLED, Path, instantiated
from onnx_net2net.graph.model import Model

Edit = Splice | Insert
_INITIALIZER = ("graph", "initializer")


def settled(model: Model, patch: Iterable[Edit], resized: Set[str] = frozenset()) -> list[Edit]:
    """The patch with edits inside functions, and inside other edits, made part of these.

    Args:
        resized: tensors whose shape changes; functions no longer declare shapes of these.
    """
    edits = list(patch)
    added = {t.name: t for e in edits if e.path[:2] == _INITIALIZER for t in _tensors(e)}
    names = {f.name for f in model.proto.functions}
    functions: dict[int, FunctionProto] = {}
    more: list[FunctionProto] = []
    inlined: set[str] = set()
    while depth := max((e.path.count(CALLED) for e in edits), default=0):
        inside: dict[int, dict[Path, list[Edit]]] = {}
        rest: list[Edit] = []
        for e in edits:
            if e.path.count(CALLED) < depth:
                rest.append(e)
                continue
            at = len(e.path) - 1 - e.path[::-1].index(CALLED)
            index = model.calls[e.path[:at]][0]
            inside.setdefault(index, {}).setdefault(e.path[:at], []).append(e)
        for index, by_call in inside.items():
            made = {
                path: _edited(model, index, path, es, added, inlined)
                for path, es in by_call.items()
            }
            everywhere = all(p in made for p, (k, _) in model.calls.items() if k == index)
            kinds: dict[bytes, str] = {}
            for path, f in made.items():
                key = f.SerializeToString(deterministic=True)
                if key not in kinds and everywhere and not kinds:
                    functions[index] = f
                    kinds[key] = f.name
                elif key not in kinds:
                    f.name = kinds[key] = _fresh(f"{f.name}_grown", names)
                    more.append(f)
                if kinds[key] != model.proto.functions[index].name:
                    call = NodeProto()
                    call.CopyFrom(model.calls[path][1])
                    call.op_type = kinds[key]
                    rest.append(Splice(path, (call,)))
        edits = rest
    for index, f in _stale(model, resized, functions):
        functions[index] = f
    edits = list(_without(edits, added, inlined))
    edits += [Splice(("functions", k), (f,)) for k, f in functions.items()]
    if more:
        edits.append(Insert(("functions", len(model.proto.functions)), tuple(more)))
    return _folded(edits)


def _tensors(edit: Edit) -> list[TensorProto]:
    messages = edit.messages if isinstance(edit, Insert) else ()
    return [m for m in messages if isinstance(m, TensorProto)]


def _fresh(name: str, names: set[str]) -> str:
    base, k = name, 1
    while name in names:
        k += 1
        name = f"{base}_{k}"
    names.add(name)
    return name


def _edited(
    model: Model, index: int, path: Path, edits: list[Edit], added: dict[str, TensorProto],
    inlined: set[str],
) -> FunctionProto:  # fmt: skip
    """A function as one call needs it; new constants become nodes of its body."""
    f = FunctionProto()
    f.CopyFrom(model.proto.functions[index])
    nodes = instantiated(f, model.calls[path][1])
    del f.node[:], f.value_info[:]
    f.node.extend(nodes)
    edit_message(f, [(("node", *e.path[len(path) + 1 :]), e) for e in edits])
    made = {o for n in f.node for o in n.output}
    wanted = [n for n in dict.fromkeys(_read(f.node)) if n in added and n not in made]
    inlined.update(wanted)
    body = list(f.node)
    del f.node[:]
    for name in wanted:
        value = AttributeProto(name="value", type=AttributeProto.TENSOR)
        value.t.CopyFrom(added[name])
        f.node.append(NodeProto(op_type="Constant", output=[name], name=name, attribute=[value]))
    f.node.extend(body)
    return f


def _read(nodes: Iterable[NodeProto]) -> Iterator[str]:
    """All names that nodes read, in the graphs that they carry too."""
    for n in nodes:
        yield from n.input
        for a in n.attribute:
            for g in [a.g] if a.type == AttributeProto.GRAPH else a.graphs:
                yield from _read(g.node)


def edit_message(message: Any, edits: list[tuple[Path, Edit]]) -> None:
    """Apply edits to a message in memory; paths are relative to it."""
    by_field: dict[str, dict[int, list[tuple[Path, Edit]]]] = {}
    for path, e in edits:
        if len(path) == 1 or not isinstance(path[1], int):  # a field that is not repeated
            edit_message(getattr(message, str(path[0])), [(path[1:], e)])
            continue
        by_field.setdefault(str(path[0]), {}).setdefault(path[1], []).append((path[2:], e))
    for name, by_index in by_field.items():
        held = getattr(message, name)
        kept: list[Any] = []
        for k in range(max(len(held), *(i + 1 for i in by_index))):
            here = by_index.get(k, [])
            deeper = [(p, e) for p, e in here if p]
            if deeper:
                edit_message(held[k], deeper)
            for p, e in here:
                kept += e.messages if not p and isinstance(e, Insert) else ()
            splice = next((e for p, e in here if not p and isinstance(e, Splice)), None)
            if splice is not None:
                kept += splice.messages
            elif k < len(held):
                kept.append(held[k])
        copies = [type(m).FromString(m.SerializeToString()) for m in kept]
        del held[:]
        held.extend(copies)


def _stale(
    model: Model, resized: Set[str], functions: dict[int, FunctionProto]
) -> Iterator[tuple[int, FunctionProto]]:
    """Functions that declare shapes of tensors which changed: without these declarations."""
    for path, (index, _) in model.calls.items():
        f = model.proto.functions[index]
        if index in functions or not f.value_info:
            continue
        here = [n for n in model.nodes if n.path[: len(path) + 1] == (*path, CALLED)]
        if any(t in resized for n in here for t in (*n.inputs, *n.outputs)):
            bare = FunctionProto()
            bare.CopyFrom(f)
            del bare.value_info[:]
            yield index, bare


def _without(edits: list[Edit], added: dict[str, TensorProto], inlined: set[str]) -> Iterator[Edit]:
    """Leave out new initializers that only functions read, which hold them themselves."""
    outside: set[str] = set()
    for e in edits:
        outside.update(_read(m for m in e.messages if isinstance(m, NodeProto)))
    for e in edits:
        if isinstance(e, Insert) and e.path[:2] == _INITIALIZER:
            kept = [t for t in _tensors(e) if t.name not in inlined or t.name in outside]
            if kept:
                yield Insert(e.path, tuple(kept))
            continue
        yield e


def _folded(edits: list[Edit]) -> list[Edit]:
    """Edits that lie inside a message which another one replaces, made there."""
    outer = {e.path: e for e in edits if isinstance(e, Splice) and len(e.messages) == 1}
    if not any(e.path[:k] in outer for e in edits for k in range(1, len(e.path))):
        return edits
    inside: dict[Path, list[Edit]] = {}
    rest: list[Edit] = []
    for e in edits:
        above = next((e.path[:k] for k in range(1, len(e.path)) if e.path[:k] in outer), None)
        if above is None:
            rest.append(e)
        else:
            inside.setdefault(above, []).append(e)
    for k, e in enumerate(rest):
        if e.path in inside and isinstance(e, Splice):
            message: Any = type(e.messages[0])()
            message.CopyFrom(e.messages[0])
            edit_message(message, [(i.path[len(e.path) :], i) for i in _folded(inside[e.path])])
            rest[k] = Splice(e.path, (message,))
    return rest
