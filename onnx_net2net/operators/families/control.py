"""Control flow: what the ties of `boundaries` say about axes and about types.

A node with bodies has the bodies' outputs as further inputs and their inputs as further
outputs, so that one row covers both sides: every axis of a tie is one axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from onnx import TensorShapeProto, TypeProto, ValueInfoProto

from onnx_net2net.graph.model import Node
from onnx_net2net.graph.subgraphs import BOUNDARIES, Tie
from onnx_net2net.operators.spec import Site, rule
from onnx_net2net.typing import Array

_Entry = tuple[int, int]
_Types = Mapping[str, TypeProto]


def _slots(node: Node, tie: Tie) -> tuple[list[int], list[int]]:
    """Slots of a tie's tensors outside and inside, those that are there."""
    formals, ends = len(node.formals) // len(node.bodies), len(node.ends) // len(node.bodies)
    outside = [] if tie.input is None else [tie.input]
    outside += [] if tie.output is None else [-1 - tie.output]
    inside: list[int] = []
    for b in range(len(node.bodies)):
        if tie.formal is not None and tie.formal < formals:
            inside.append(-1 - len(node.outputs) - b * formals - tie.formal)
        if tie.end is not None and tie.end < ends:
            inside.append(len(node.inputs) + b * ends + tie.end)
    inputs = {node.tensor(s) for s in outside if s >= 0} - {""}
    if any(node.tensor(s) in inputs for s in inside):  # an outer tensor by another name
        inside = []
    return [s for s in outside if node.tensor(s)], [s for s in inside if node.tensor(s)]


def tied(site: Site) -> Iterator[tuple[_Entry, ...]]:
    """The axes of a node with bodies that are one, as (slot, dimension)."""
    for tie in site.node.ties():
        outside, inside = _slots(site.node, tie)
        rank = _outer_rank(site, tie, outside, inside)
        extra = {a % rank for a in tie.outer if rank}
        kept = [k for k in range(rank) if k not in extra]
        for k, at in enumerate(kept):
            yield (*((s, at) for s in outside), *((s, k) for s in inside))


def _outer_rank(site: Site, tie: Tie, outside: list[int], inside: list[int]) -> int:
    """The rank that a tie's tensors have outside; 0 where none is known."""
    ranks = [(_rank(site, s), 0) for s in outside]
    ranks += [(_rank(site, s), len(tie.outer)) for s in inside]
    return next((rank + more for rank, more in ranks if rank is not None), 0)


def _rank(site: Site, slot: int) -> int | None:
    shape = site.shapes[slot] if slot >= 0 else site.outs[-1 - slot]
    return None if shape is None else len(shape)


rule(" ".join(BOUNDARIES), ties=tied, zero=())


def _without(t: TypeProto, axes: Iterable[int]) -> TypeProto:
    """The type of a part: some dimensions less."""
    made = TypeProto()
    made.CopyFrom(t)
    if _ranked(t):
        rank = len(t.tensor_type.shape.dim)
        for k in sorted((a % rank for a in axes), reverse=True) if rank else ():
            del made.tensor_type.shape.dim[k]
    return made


def _lengths(
    node: Node, types: _Types, values: Mapping[str, Array]
) -> dict[int, list[TensorShapeProto.Dimension]]:
    """How long the dimensions are that ties leave out, by how many they are."""
    found: dict[int, list[TensorShapeProto.Dimension]] = {}
    turns = _turns(node, values) if node.op == "Loop" and node.ends else None
    if turns is not None:
        found[1] = [TensorShapeProto.Dimension(dim_value=turns)]
    for tie in node.ties():
        given = types.get(node.inputs[tie.input]) if tie.input is not None and tie.outer else None
        if given is not None and _ranked(given):
            dims = given.tensor_type.shape.dim
            found.setdefault(len(tie.outer), [dims[a % len(dims)] for a in tie.outer])
    return found


def _turns(node: Node, values: Mapping[str, Array]) -> int | None:
    """How often a Loop runs, where it is known that nothing ends it before."""
    turns, going_on, first = (values.get(t) for t in (node.inputs[0], node.ends[0], node.inputs[1]))
    begun = not node.inputs[1] or (first is not None and bool(first.all()))
    if turns is None or not begun or going_on is None or not going_on.all():
        return None
    return max(int(turns.reshape(-1)[0]), 0)


def _ranked(t: TypeProto) -> bool:
    return bool(t.HasField("tensor_type") and t.tensor_type.HasField("shape"))


def _with(
    t: TypeProto, axes: tuple[int, ...], lengths: Mapping[int, list[TensorShapeProto.Dimension]]
) -> TypeProto:
    """The type of parts laid side by side along new dimensions."""
    made = TypeProto()
    made.CopyFrom(t)
    if not axes or not _ranked(t):
        return made
    dims = list(t.tensor_type.shape.dim)
    rank = len(dims) + len(axes)
    made.tensor_type.ClearField("shape")
    made.tensor_type.shape.SetInParent()
    extra = {a % rank: j for j, a in enumerate(axes)}
    for k in range(rank):
        new = made.tensor_type.shape.dim.add()
        if k not in extra:
            new.CopyFrom(dims.pop(0))
        elif len(axes) in lengths:
            new.CopyFrom(lengths[len(axes)][extra[k]])
    return made


def common(found: list[TypeProto]) -> TypeProto:
    """What several types agree in."""
    made = TypeProto()
    if not found:
        return made
    made.CopyFrom(found[0])
    if any(t.WhichOneof("value") != found[0].WhichOneof("value") for t in found):
        return TypeProto()
    if found[0].HasField("sequence_type"):
        inner = common([t.sequence_type.elem_type for t in found])
        made.sequence_type.elem_type.CopyFrom(inner)
    if not found[0].HasField("tensor_type"):
        return made
    shapes = [t.tensor_type.shape.dim for t in found if _ranked(t)]
    if len(shapes) < len(found) or len({len(s) for s in shapes}) > 1:
        made.tensor_type.ClearField("shape")
        return made
    for d, each in zip(made.tensor_type.shape.dim, zip(*shapes, strict=True), strict=True):
        sizes = {e.dim_value if e.HasField("dim_value") else None for e in each}
        if len(sizes) > 1 or None in sizes:
            d.Clear()
    return made


def bound(node: Node, types: _Types, infos: Mapping[str, ValueInfoProto]) -> dict[str, TypeProto]:
    """Types of the bodies' formal inputs: what the owner gives them, else what is declared.

    Args:
        node: the owner.
        types: of the tensors known so far.
        infos: what the file declares of tensors.
    """
    found: dict[str, TypeProto] = {}
    by_formal = {t.formal: t for t in node.ties() if t.formal is not None}
    own = [(k, name) for k, name in enumerate(node.formals) if name not in node.inputs]
    for k, name in own:
        tie = by_formal.get(k % (len(node.formals) // len(node.bodies)), Tie())
        given = TypeProto() if tie.input is None else types.get(node.inputs[tie.input], TypeProto())
        if not given.WhichOneof("value"):
            found[name] = infos[name].type if name in infos else TypeProto()
        elif given.HasField("sequence_type") and node.op == "SequenceMap":
            found[name] = given.sequence_type.elem_type
        else:
            found[name] = _without(given, tie.outer)
    return found


def joined(node: Node, types: _Types) -> dict[str, TypeProto]:
    """States whose sizes the body changes: their types with those sizes left open."""
    found: dict[str, TypeProto] = {}
    for tie in node.ties():
        name = _at(node.formals, tie.formal) if tie.carried else ""
        if not name or name in node.inputs or name not in types or not _at(node.ends, tie.end):
            continue
        end = types.get(_at(node.ends, tie.end))
        if end is None or not end.WhichOneof("value"):  # it may hand on anything
            end = TypeProto()
            end.CopyFrom(types[name])
            end.tensor_type.ClearField("shape")
        agreed = common([types[name], end])
        if agreed.WhichOneof("value") and agreed != common([types[name]]):
            found[name] = agreed
    return found


def _at(names: tuple[str, ...], k: int | None) -> str:
    return names[k] if k is not None and k < len(names) else ""


def results(
    node: Node, types: _Types, values: Mapping[str, Array], infos: Mapping[str, ValueInfoProto]
) -> dict[str, TypeProto]:
    """Types of the owner's outputs: what its bodies agree in.

    Args:
        node, types, infos: see `bound`.
        values: of the tensors that are known, for how often a loop goes round.
    """
    found: dict[str, TypeProto] = {}
    bodies = len(node.bodies)
    count = len(node.ends) // bodies
    lengths = _lengths(node, types, values)
    taken = _taken(node, values) if node.op == "If" and bodies == 2 else None
    for tie in node.ties():
        name = _at(node.outputs, tie.output)
        if not name or tie.end is None or tie.end >= count:
            continue
        ends = [types.get(node.ends[b * count + tie.end], TypeProto()) for b in range(bodies)]
        if taken is not None and not common(ends).tensor_type.HasField("shape"):
            ends = [ends[list(node.bodies).index(taken)]]
        if tie.carried:
            ends.append(types.get(_at(node.formals, tie.formal), TypeProto()))
        found[name] = _with(_gathered(node, common(ends)), tie.outer, lengths)
        if not found[name].WhichOneof("value") and name in infos:
            found[name] = infos[name].type
    return found


def _gathered(node: Node, t: TypeProto) -> TypeProto:
    """The type of all that a body returns, turn after turn: a SequenceMap's are a sequence."""
    if node.op != "SequenceMap" or not t.WhichOneof("value"):
        return t
    made = TypeProto()
    made.sequence_type.elem_type.CopyFrom(t)
    return made


def passed(node: Node, values: Mapping[str, Array]) -> dict[str, Array]:
    """What an If gives that is known: what the branch gives that is taken."""
    taken = _taken(node, values) if node.op == "If" else None
    if taken is None:
        return {}
    count, at = len(node.ends) // len(node.bodies), list(node.bodies).index(taken)
    ends = zip(node.outputs, node.ends[at * count :], strict=False)
    return {o: values[t] for o, t in ends if o and t in values}


def live_ends(node: Node, values: Mapping[str, Array]) -> tuple[str, ...]:
    """What bodies return, without the branch of an If that never runs ("" in its place)."""
    taken = _taken(node, values) if node.op == "If" else None
    names = [a for a in node.bodies for _ in range(len(node.ends) // len(node.bodies))]
    ends = zip(node.ends, names, strict=True)
    return tuple(t if taken in (None, a) else "" for t, a in ends)


def _taken(node: Node, values: Mapping[str, Array]) -> str | None:
    """The branch of an If that is taken, where its condition is known."""
    condition = values.get(node.inputs[0])
    if condition is None or condition.size != 1:
        return None
    return "then_branch" if condition.all() else "else_branch"
