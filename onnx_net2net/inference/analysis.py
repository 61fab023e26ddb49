"""A model with everything that is known about it: index, facts at two sizes, factors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np

from onnx_net2net.errors import ANOTHER_LAYER, Reason, Refusal, RefusalError
from onnx_net2net.files.source import Made, Source
from onnx_net2net.graph.model import Model, Node
from onnx_net2net.graph.traversal import upstream
from onnx_net2net.operators.factors import Factor, dropped, factors
from onnx_net2net.operators.families.control import live_ends
from onnx_net2net.operators.families.sequence import makes_sequence
from onnx_net2net.operators.notation import Entry
from onnx_net2net.operators.spec import RowError
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array
from .input_sizes import facts_of, inference_of
from .partial_values import static_values
from .sequence_elements import unfold
from .shapes import FLOATS, Facts, Inference


class Analysis:
    """Answers about one model; computed once, asked often.

    Args:
        source: the model as read.
        shapes: input name -> sizes that are known to work, for inputs that declare none.
    """

    def __init__(self, source: Source, shapes: Mapping[str, tuple[int, ...]] | None = None) -> None:
        self.source = source
        # `model` may be shown otherwise below; `stored` is as the file has it
        self.stored = self.model = source.once(Model, lambda: Model(source.proto))
        self._shapes = shapes
        if any(n.bodies or makes_sequence(n) for n in self.model.nodes):
            self.model = Model(source.proto)  # its nodes are shown otherwise below
        if any(n.bodies for n in self.model.nodes):
            self._bury()
        if any(makes_sequence(n) for n in self.model.nodes):
            unfold(self.model, self.facts)
        self._factors: dict[int, tuple[list[Factor], Refusal | None]] = {}
        self._dropped: dict[int, Mapping[Entry, Array]] = {}
        self._cones: dict[tuple[int, int], frozenset[str]] = {}
        self._kept: dict[str, Any] = {}
        self.interface_may_grow = False

    def opened(self) -> Analysis:
        """The same, for a growth that may reach the model's own inputs and outputs."""
        other = copy(self)
        other.interface_may_grow, other._kept = True, {}
        return other

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What `make` finds out about this model, kept; not to be changed."""
        if name not in self._kept:
            self._kept[name] = make()
        found: Made = self._kept[name]
        return found

    def _bury(self) -> None:
        """Mark the bodies that never run, whatever the sizes of the inputs."""
        owners = [n for n in self.model.nodes if n.bodies]
        if all(live_ends(n, self.first.values) == n.ends for n in owners):
            return
        inputs = {name: self.model.infos[name].type for name in self.model.inputs}
        values = static_values(self.model, self.inference.run(inputs))
        for node in owners:
            node.ends = live_ends(node, values)
        self.model.index()

    @cached_property
    def inference(self) -> Inference:
        """What computes shapes, of the nodes as they are."""
        return inference_of(self.source, self.stored)

    @cached_property
    def facts(self) -> tuple[Facts, Facts]:
        """Shapes and small values at two sizes of the inputs."""
        return facts_of(self.source, self.stored, self._shapes)

    @property
    def first(self) -> Facts:
        """Facts at the first probe."""
        return self.facts[0]

    def factors(self, node: Node) -> list[Factor]:
        """The node's factors; raises RefusalError where they cannot be told."""
        found, refusal = self._told(node)
        if refusal is not None:
            raise RefusalError(refusal)
        return found

    def known_factors(self, node: Node) -> list[Factor]:
        """The node's factors; none where they cannot be told."""
        return self._told(node)[0]

    def _told(self, node: Node) -> tuple[list[Factor], Refusal | None]:
        if node.index not in self._factors:
            self._factors[node.index] = self._find(node)
        return self._factors[node.index]

    def _find(self, node: Node) -> tuple[list[Factor], Refusal | None]:
        row = TABLE.get(node.op)
        if row is None:
            return [], Refusal(Reason.NO_RULE, node.name, detail=node.op, hint=_to_register(node))
        if row.random:
            detail = f"{node.op} draws at run time, so copies would differ"
            return [], Refusal(Reason.ACROSS, node.name, None, detail, ANOTHER_LAYER)
        try:
            return factors(self.first.site(node)), None
        except LookupError as why:  # a row may also ask for what a node lacks
            reason = why.reason if isinstance(why, RowError) else Reason.ACROSS
            unknown = reason is Reason.UNKNOWN_SHAPE
            hint = self._shape_hint(node) if unknown else ANOTHER_LAYER
            return [], Refusal(reason, node.name, None, str(why), hint)

    def _shape_hint(self, node: Node) -> str:
        """What would make a shape known: an operator's row that is missing, or input sizes."""
        shapes = self.first.shapes

        def unknown(maker: Node) -> bool:
            return any(o and shapes.get(o) is None for o in maker.outputs)

        for maker in upstream(self.model, node.inputs, through=unknown):
            if unknown(maker) and maker.op not in TABLE:
                return f"it lies behind '{maker.name}'; {_to_register(maker)}"
        return "give the sizes of the inputs with --shape"

    def dropped(self, node: Node) -> Mapping[Entry, Array]:
        """Input positions that a data movement leaves out."""
        if node.index not in self._dropped:
            try:
                self._dropped[node.index] = dropped(self.first.site(node))
            except LookupError:
                self._dropped[node.index] = {}
        return self._dropped[node.index]

    def cone(self, tag: tuple[int, int]) -> frozenset[str]:
        """The constants that one use of a constant is computed from."""
        if tag not in self._cones:
            node, slot = tag
            start = self.model.nodes[node].tensor(slot)
            makers = upstream(self.model, [start])
            self._cones[tag] = frozenset((start, *(t for n in makers for t in n.inputs if t)))
        return self._cones[tag]

    def weights(self, node: Node) -> list[int]:
        """Input slots that hold weights: constants of rank >= 2 that are contracted or picked."""
        fs, refusal = self._told(node)
        if refusal is not None:
            return []
        slots = [
            s
            for s, t in enumerate(node.inputs)
            if t in self.model.constant and len(self.first.shapes.get(t) or ()) >= 2
        ]
        row = TABLE[node.op]
        picked = row.movement is not None and row.notation is not None  # a table of embeddings
        return [
            s
            for s in slots
            if (picked and s == 0)
            or any(f.role in ("sum", "across") and any(e[0] == s for e in f.at) for f in fs)
        ]

    def layers(self) -> list[Node]:
        """Nodes with weights, in running order."""
        constant = self.model.constant
        made = (n for n in self.model.nodes if any(o and o not in constant for o in n.outputs))
        return self.once("layers", lambda: [n for n in made if self.weights(n)])

    def output_axis(self, node: Node) -> tuple[str, int] | None:
        """The axis of the node's output that its weights make; None if it makes none."""
        slots = self.weights(node)
        found: list[tuple[bool, int]] = []
        for f in self.known_factors(node):
            if f.role in ("parallel", "mean") and any(e[0] in slots for e in f.at):
                found += [(not f.name.startswith("."), e[1]) for e in f.at if e[0] == -1]
        return (node.outputs[0], max(found)[1]) if found else None


def _to_register(node: Node) -> str:
    """How to lift the refusal of an operator that has no row."""
    domain, _, op = node.op.rpartition(".")
    if domain in ("", "com.microsoft") or domain.startswith("ai.onnx"):
        return f"a row for {node.op} in onnx_net2net/operators would lift this"
    return (
        f"say what {op} does with its axes: --operators FILE with a line like "
        f"`{node.op}: n c *, c -> n c *`, or register_operator"
    )


def size_of(analysis: Analysis, tensor: str, dim: int) -> int | None:
    """Length of an axis at the first probe.

    Args:
        analysis: of the model.
        tensor: its id.
        dim: which axis.
    """
    shape = analysis.first.shapes.get(tensor)
    return None if shape is None or dim >= len(shape) else shape[dim]


def parameters(analysis: Analysis) -> int:
    """Elements of all float constants."""
    return sum(
        int(np.prod(leaf.shape)) for leaf in analysis.model.leaves.values() if leaf.dtype in FLOATS
    )
