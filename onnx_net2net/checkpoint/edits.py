"""What to edit in the model's code: the arguments of modules, and numbers beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx_net2net.graph.model import Model
from onnx_net2net.growth.record import StepRecord
from .links import Link
from .names import module
from .views import GATES

_Shape = tuple[int, ...]


@dataclass(frozen=True)
class Edit:
    """An argument of a module: `layer1.0.conv1: out_channels 64 -> 96`."""

    module: str
    argument: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.module}: {self.argument} {self.before} -> {self.after}"


def edits(
    model: Model, links: Sequence[Link], steps: Sequence[StepRecord], before: Mapping[str, _Shape],
    after: Mapping[str, _Shape],
) -> list[Edit]:  # fmt: skip
    """The arguments to edit, in the graph's order.

    Args:
        model: the teacher's index.
        links: of parameters and constants.
        steps: what was grown.
        before, after: parameter -> shape.
    """
    nodes = {n.name: n for n in model.nodes}
    said: dict[tuple[str, str], Edit] = {}
    covered: set[str] = set()
    for link in sorted(links, key=lambda k: nodes[k.use[0]].index):
        names = [*link.parameters, *(link.norm.names.values() if link.norm else ())]
        for name in names:
            if before[name] == after[name]:
                continue
            arguments = _arguments(model, link, name, before[name], after[name], steps)
            owner = module(name) if arguments else name
            if not arguments and module(name) in covered:
                continue
            for argument, (old, new) in (
                arguments or {"shape": (before[name], after[name])}
            ).items():
                if old != new:
                    said.setdefault((owner, argument), Edit(owner, argument, old, new))
                    covered.add(module(name))
    return list(said.values())


def _arguments(
    model: Model, link: Link, name: str, old: _Shape, new: _Shape, steps: Sequence[StepRecord]
) -> dict[str, tuple[Any, Any]]:
    """The arguments of the module that holds a parameter, before and after."""
    role, op = name.rpartition(".")[2], link.op
    if link.norm is not None and name in link.norm.names.values():
        return {"num_features": (old[0], new[0])}
    node = next(n for n in model.nodes if n.name == link.use[0])
    if op in ("Conv", "ConvTranspose", "com.microsoft.FusedConv") and len(old) > 2:
        was, now = _attribute(steps, node.name, "group", node.attr("group", 1))
        o, i = (1, 0) if op == "ConvTranspose" else (0, 1)
        ends = {o: "out_channels", i: "in_channels"}
        outer, inner = ends[0], ends[1]
        return {
            outer: (old[0], new[0]),
            inner: (old[1] * was, new[1] * now),
            "groups": (was, now),
            "kernel_size": (old[2:], new[2:]),
        }
    if op in GATES:
        gates = len(GATES[op])
        found = {"hidden_size": (old[0] // gates, new[0] // gates)}
        if role.startswith("weight_ih_l0"):
            found["input_size"] = (old[1], new[1])
        return found
    if role == "in_proj_weight" and new[0] == 3 * new[1]:
        return {"embed_dim": (old[1], new[1])}
    if op in ("Gemm", "MatMul") and role == "weight" and len(old) == 2:
        if op == "MatMul" and link.view.kind == "same" and node.inputs[link.use[1]] == link.leaf:
            return {"shape": (old, new)}
        if op == "Gemm" and link.view.kind == "same" and not node.attr("transB", 0):
            return {"shape": (old, new)}
        return {"out_features": (old[0], new[0]), "in_features": (old[1], new[1])}
    if op == "Gather" and role == "weight" and len(old) == 2:
        return {"num_embeddings": (old[0], new[0]), "embedding_dim": (old[1], new[1])}
    one = {
        "BatchNormalization": "num_features", "LayerNormalization": "normalized_shape",
        "RMSNormalization": "normalized_shape", "InstanceNormalization": "num_features",
        "GroupNormalization": "num_channels", "PRelu": "num_parameters",
    }.get(op)  # fmt: skip
    return {one: (old[-1], new[-1])} if one and len(old) == 1 else {}


def _attribute(steps: Iterable[StepRecord], node: str, name: str, start: Any) -> tuple[Any, Any]:
    now = start
    for step in steps:
        for a in step.attributes:
            if a["node"] == node and a["attribute"] == name:
                now = a["after"]
    return start, now


def literals(steps: Iterable[StepRecord]) -> list[str]:
    """Numbers that the graph holds outside of weights: sizes of views, heads, splits, scales."""
    found = []
    for step in steps:
        for entry in step.literals:
            was = "computed" if entry["before"] is None else entry["before"]
            where = f"{entry['op']} '{entry['node']}'"
            found.append(f"{where}: {was} -> {entry['after']}")
        if not step.placed:
            for node in step.nodes:
                values = [t for t in node["inputs"] if t in step.inserted]
                if node["op"] == "Mul" and values:
                    found.append(f"multiply by '{values[0]}' at '{node['name']}', which is new")
        found += [
            f"'{a['node']}': {a['attribute']} {a['before']} -> {a['after']}"
            for a in step.attributes
            if a["attribute"] in ("pads", "epsilon")
        ]
    return list(dict.fromkeys(found))
