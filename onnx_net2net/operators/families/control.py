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

Entry = tuple[int, int]
Types = Mapping[str, TypeProto]


def _slots(node: Node, tie: Tie) -> tuple[list[int], list[int]]:
    """Slots of a tie's tensors outside and inside, those that are there."""
    outside = [
        s for s in (tie.input, None if tie.output is None else -1 - tie.output) if s is not None
    ]
    inside: list[int] = []
    bodies = len(node.bodies)
    for b in range(bodies):
        formals, ends = len(node.formals) // bodies, len(node.ends) // bodies
        if tie.formal is not None and tie.formal < formals:
            inside.append(-1 - len(node.outputs) - b * formals - tie.formal)
        if tie.end is not None and tie.end < ends:
            inside.append(len(node.inputs) + b * ends + tie.end)
    outside = [s for s in outside if node.tensor(s)]
    inside = [s for s in inside if node.tensor(s)]
    inputs = {node.tensor(s) for s in outside if s >= 0}
    if any(node.tensor(s) in inputs for s in inside):  # an outer tensor by another name
        inside = []
    return outside, inside


def tied(site: Site) -> Iterator[tuple[Entry, ...]]:
    """The axes of a node with bodies that are one, as (slot, dimension)."""
    for tie in site.node.ties():
        outside, inside = _slots(site.node, tie)
        ranks = [r - len(tie.outer) for s in outside if (r := _rank(site, s)) is not None]
        ranks += [r for s in inside if (r := _rank(site, s)) is not None]
        if not ranks:
            continue
        extra = {a % (ranks[0] + len(tie.outer)) for a in tie.outer}
        kept = [k for k in range(ranks[0] + len(extra)) if k not in extra]
        for k, at in enumerate(kept):
            yield (*((s, at) for s in outside), *((s, k) for s in inside))


def _rank(site: Site, slot: int) -> int | None:
    shape = site.shapes[slot] if slot >= 0 else site.outs[-1 - slot]
    return None if shape is None else len(shape)


rule(" ".join(BOUNDARIES), ties=tied, zero=())


def _without(t: TypeProto, axes: Iterable[int]) -> TypeProto:
    """The type of a part: some dimensions less."""
    made = TypeProto()
    made.CopyFrom(t)
    if t.HasField("tensor_type") and t.tensor_type.HasField("shape"):
        rank = len(t.tensor_type.shape.dim)
        for k in sorted((a % rank for a in axes), reverse=True) if rank else ():
            del made.tensor_type.shape.dim[k]
    return made


def _lengths(
    node: Node, types: Types, values: Mapping[str, Array]
) -> dict[int, list[TensorShapeProto.Dimension]]:
    """How long the dimensions are that ties leave out, by how many they are."""
    found: dict[int, list[TensorShapeProto.Dimension]] = {}
    if node.op == "Loop" and node.ends:
        turns, on = (
            values.get(node.inputs[0]),
            [values.get(t) for t in (node.ends[0], node.inputs[1])],
        )
        begun = not node.inputs[1] or (on[1] is not None and bool(on[1].all()))
        if turns is not None and begun and on[0] is not None and on[0].all():
            found[1] = [TensorShapeProto.Dimension(dim_value=max(int(turns.reshape(-1)[0]), 0))]
    for tie in node.ties():
        t = types.get(node.inputs[tie.input]) if tie.input is not None and tie.outer else None
        if t is not None and t.HasField("tensor_type") and t.tensor_type.HasField("shape"):
            dims = t.tensor_type.shape.dim
            found.setdefault(len(tie.outer), [dims[a % len(dims)] for a in tie.outer])
    return found


def _with(
    t: TypeProto, axes: tuple[int, ...], lengths: Mapping[int, list[TensorShapeProto.Dimension]]
) -> TypeProto:
    """The type of parts laid side by side along new dimensions."""
    made = TypeProto()
    made.CopyFrom(t)
    if not axes or not t.HasField("tensor_type") or not t.tensor_type.HasField("shape"):
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
    shapes = [t.tensor_type.shape.dim for t in found if t.tensor_type.HasField("shape")]
    if len(shapes) < len(found) or len({len(s) for s in shapes}) > 1:
        made.tensor_type.ClearField("shape")
        return made
    for k, d in enumerate(made.tensor_type.shape.dim):
        sizes = {s[k].dim_value if s[k].HasField("dim_value") else None for s in shapes}
        if len(sizes) > 1 or None in sizes:
            d.Clear()
    return made


def _is_sequence(t: TypeProto) -> bool:
    return t.HasField("sequence_type")


def bound(node: Node, types: Types, infos: Mapping[str, ValueInfoProto]) -> dict[str, TypeProto]:
    """Types of the bodies' formal inputs: what the owner gives them, else what is declared."""
    found: dict[str, TypeProto] = {}
    by_formal = {t.formal: t for t in node.ties() if t.formal is not None}
    for k, name in enumerate(node.formals):
        if name in node.inputs:
            continue
        tie = by_formal.get(k % (len(node.formals) // len(node.bodies)))
        given = types.get(node.inputs[tie.input]) if tie and tie.input is not None else None
        declared = infos[name].type if name in infos else TypeProto()
        if given is None or not given.WhichOneof("value") or tie is None:
            found[name] = declared
        elif _is_sequence(given) and node.op == "SequenceMap":
            found[name] = given.sequence_type.elem_type
        else:
            found[name] = _without(given, tie.outer)
    return found


def joined(node: Node, types: Types) -> dict[str, TypeProto]:
    """States whose sizes the body changes: their types with those sizes left open."""
    found: dict[str, TypeProto] = {}
    for tie in node.ties():
        if not tie.carried or tie.formal is None or tie.end is None:
            continue
        if tie.formal >= len(node.formals) or tie.end >= len(node.ends):
            continue
        name = node.formals[tie.formal]
        if name in node.inputs or name not in types:
            continue
        end = types.get(node.ends[tie.end])
        if end is None or not end.WhichOneof("value"):  # it may hand on anything
            end = TypeProto()
            end.CopyFrom(types[name])
            end.tensor_type.ClearField("shape")
        agreed = common([types[name], end])
        if agreed.WhichOneof("value") and agreed != common([types[name]]):
            found[name] = agreed
    return found


def results(
    node: Node, types: Types, values: Mapping[str, Array], infos: Mapping[str, ValueInfoProto]
) -> dict[str, TypeProto]:
    """Types of the owner's outputs: what its bodies agree in."""
    found: dict[str, TypeProto] = {}
    bodies = len(node.bodies)
    count = len(node.ends) // bodies
    lengths = _lengths(node, types, values)
    for tie in node.ties():
        name = node.outputs[tie.output] if tie.output is not None else ""
        if not name or tie.end is None or tie.end >= count:
            continue
        ends = [types.get(node.ends[b * count + tie.end], TypeProto()) for b in range(bodies)]
        if node.op == "If" and bodies == 2 and _taken(node, values) is not None:
            chosen = ends[list(node.bodies).index(_taken(node, values) or "")]
            ends = ends if common(ends).tensor_type.HasField("shape") else [chosen]
        if tie.carried and tie.formal is not None:
            ends.append(types.get(node.formals[tie.formal], TypeProto()))
        t = common(ends)
        if node.op == "SequenceMap" and t.WhichOneof("value"):
            inner, t = t, TypeProto()
            t.sequence_type.elem_type.CopyFrom(inner)
        t = _with(t, tie.outer, lengths)
        if not t.WhichOneof("value") and name in infos:
            t = infos[name].type
        found[name] = t
    return found


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
