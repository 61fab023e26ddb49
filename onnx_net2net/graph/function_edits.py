"""From edits as the analysis sees them to edits of the file.

The analysis sees a function's body once for each call. Where every call changes alike the
function itself is edited; a call that becomes different gets a function of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto

from onnx_net2net.files.patch import Insert, Splice
from .functions import CALLED, Path, instantiated
from .messages import Edit, copied, edit_message
from .model import Model
from .names import fresh_name

_INITIALIZER = ("graph", "initializer")


def settled(model: Model, patch: Iterable[Edit], resized: Set[str] = frozenset()) -> list[Edit]:
    """The patch with edits inside functions, and inside other edits, made part of these.

    Args:
        model: what the edits are of.
        patch: edits whose paths may lead through calls into the bodies of functions.
        resized: tensors whose shape changes; functions no longer declare shapes of these.
    """
    edits = list(patch)
    functions = _Functions(model, edits)
    while depth := max((e.path.count(CALLED) for e in edits), default=0):
        edits = functions.outward(edits, depth)
    functions.changed.update(_stale(model, resized, functions.changed))
    edits = list(_without(edits, functions.inlined))
    edits += [Splice(("functions", k), (f,)) for k, f in functions.changed.items()]
    if functions.more:
        edits.append(Insert(("functions", len(model.proto.functions)), tuple(functions.more)))
    return _folded(edits)


class _Functions:
    """What becomes of a model's functions.

    Attributes:
        changed: index -> the function in its place.
        more: functions for calls that became different.
        added: new initializers; `inlined`: the names of those that functions hold themselves.
    """

    def __init__(self, model: Model, edits: Iterable[Edit]) -> None:
        self.model = model
        self.changed: dict[int, FunctionProto] = {}
        self.more: list[FunctionProto] = []
        self.added = {t.name: t for e in edits if e.path[:2] == _INITIALIZER for t in _tensors(e)}
        self.inlined: set[str] = set()
        self._names = {f.name for f in model.proto.functions}

    def outward(self, edits: Iterable[Edit], depth: int) -> list[Edit]:
        """The edits with those that lie within `depth` calls made, in functions."""
        inside: dict[int, dict[Path, list[Edit]]] = {}
        rest: list[Edit] = []
        for e in edits:
            if e.path.count(CALLED) < depth:
                rest.append(e)
                continue
            call = e.path[: len(e.path) - 1 - e.path[::-1].index(CALLED)]
            inside.setdefault(self.model.calls[call][0], {}).setdefault(call, []).append(e)
        for index, by_call in inside.items():
            rest += self._recalled(index, by_call)
        return rest

    def _recalled(self, index: int, by_call: dict[Path, list[Edit]]) -> Iterator[Edit]:
        """Edit a function as each of its calls needs it; the edits of calls that leave it."""
        made = {path: self._edited(index, path, edits) for path, edits in by_call.items()}
        everywhere = all(p in made for p, (k, _) in self.model.calls.items() if k == index)
        kinds: dict[bytes, str] = {}
        for path, f in made.items():
            key = f.SerializeToString(deterministic=True)
            if key not in kinds and everywhere and not kinds:
                self.changed[index] = f
                kinds[key] = f.name
            elif key not in kinds:
                f.name = kinds[key] = fresh_name(f"{f.name}_grown", self._names)
                self.more.append(f)
            if kinds[key] != self.model.proto.functions[index].name:
                call = copied(self.model.calls[path][1])
                call.op_type = kinds[key]
                yield Splice(path, (call,))

    def _edited(self, index: int, path: Path, edits: Iterable[Edit]) -> FunctionProto:
        """A function as one call needs it; new constants become nodes of its body."""
        f = copied(self.model.proto.functions[index])
        nodes = instantiated(f, self.model.calls[path][1])
        del f.node[:], f.value_info[:]
        f.node.extend(nodes)
        edit_message(f, [(("node", *e.path[len(path) + 1 :]), e) for e in edits])
        made = {o for n in f.node for o in n.output}
        wanted = [n for n in dict.fromkeys(_read(f.node)) if n in self.added and n not in made]
        self.inlined.update(wanted)
        body = list(f.node)
        del f.node[:]
        for name in wanted:
            value = AttributeProto(name="value", type=AttributeProto.TENSOR, t=self.added[name])
            f.node.add(op_type="Constant", output=[name], name=name, attribute=[value])
        f.node.extend(body)
        return f


def _tensors(edit: Edit) -> list[TensorProto]:
    messages = edit.messages if isinstance(edit, Insert) else ()
    return [m for m in messages if isinstance(m, TensorProto)]


def _read(nodes: Iterable[NodeProto]) -> Iterator[str]:
    """All names that nodes read, in the graphs that they carry too."""
    for n in nodes:
        yield from n.input
        for a in n.attribute:
            for g in [a.g] if a.type == AttributeProto.GRAPH else a.graphs:
                yield from _read(g.node)


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
            bare = copied(f)
            del bare.value_info[:]
            yield index, bare


def _without(edits: list[Edit], inlined: set[str]) -> Iterator[Edit]:
    """Leave out new initializers that only functions read, which hold them themselves."""
    outside = set(_read(m for e in edits for m in e.messages if isinstance(m, NodeProto)))
    inside = inlined - outside
    for e in edits:
        if not isinstance(e, Insert) or e.path[:2] != _INITIALIZER:
            yield e
        elif kept := tuple(t for t in _tensors(e) if t.name not in inside):
            yield Insert(e.path, kept)


def _folded(edits: Iterable[Edit]) -> list[Edit]:
    """Edits that lie inside a message which another one replaces, made there."""
    edits = list(edits)
    outer = {e.path for e in edits if isinstance(e, Splice) and len(e.messages) == 1}
    inside: dict[Path, list[Edit]] = {}
    rest: list[Edit] = []
    for e in edits:
        above = next((e.path[:k] for k in range(1, len(e.path)) if e.path[:k] in outer), None)
        (rest if above is None else inside.setdefault(above, [])).append(e)
    return [
        _with(e, inside[e.path]) if isinstance(e, Splice) and e.path in inside else e for e in rest
    ]


def _with(outer: Splice, inside: list[Edit]) -> Splice:
    """An edit with those that lie inside its message made in it."""
    message = copied(outer.messages[0])
    edit_message(message, [(e.path[len(outer.path) :], e) for e in _folded(inside)])
    return Splice(outer.path, (message,))
