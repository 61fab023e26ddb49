"""Control flow: how a body's formal inputs and outputs meet its owner's."""

from __future__ import annotations

from onnx import TypeProto

from onnx_net2net.model import Model, Node
from onnx_net2net.operators.rule import Array, Shape


def bind_bodies(
    model: Model,
    node: Node,
    types: dict[str, TypeProto],
    shapes: dict[str, Shape | None],
    values: dict[str, Array],
) -> None:
    """Give the formal inputs of the node's scope the types that are declared for them."""
    del values
    for name in model.scopes[node.scope].inputs:
        if name not in types and name in model.infos:
            t = model.infos[name].type
            types[name] = t
            has = t.HasField("tensor_type") and t.tensor_type.HasField("shape")
            shapes[name] = (
                tuple(
                    d.dim_value if d.HasField("dim_value") else None
                    for d in t.tensor_type.shape.dim
                )
                if has
                else None
            )


def body_results(
    model: Model,
    node: Node,
    types: dict[str, TypeProto],
    shapes: dict[str, Shape | None],
) -> None:
    """Give the owner's outputs their bodies' types; where bodies differ, none."""
    bodies = [model.scopes[s].outputs for s in node.bodies.values()]
    for k, name in enumerate(node.outputs):
        if not name:
            continue
        aligned = [b[k] for b in bodies if len(b) == len(node.outputs)]
        found = [shapes.get(t) for t in aligned]
        if found and all(s == found[0] for s in found):
            types[name], shapes[name] = types.get(aligned[0]) or TypeProto(), found[0]
        else:
            types[name] = model.infos[name].type if name in model.infos else TypeProto()
            shapes[name] = None
