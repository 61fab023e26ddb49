"""Names that a model uses, and new ones beside them."""

from __future__ import annotations

from .model import Model


def names(model: Model) -> set[str]:
    """All names in use, as the file has them and as tensor ids, whatever scope they belong to."""
    taken = {*model.leaves, *model.inputs}
    for n in model.nodes:
        taken.update((n.proto.name, *n.inputs, *n.outputs, *n.proto.input, *n.proto.output))
    for scope in model.scopes.values():
        g = scope.graph
        for proto in g.node:
            taken.update((proto.name, *proto.input, *proto.output))
        taken.update(t.name for t in g.initializer)
        taken.update(i.name for i in (*g.input, *g.output, *g.value_info))
        taken.update(t.values.name for t in g.sparse_initializer)
    return taken


def fresh_name(base: str, taken: set[str]) -> str:
    """`base`, or with the first number that makes it new; taken from now on.

    >>> fresh_name("conv", {"conv", "conv_2"})
    'conv_3'
    """
    name, k = base, 1
    while name in taken:
        k += 1
        name = f"{base}_{k}"
    taken.add(name)
    return name
