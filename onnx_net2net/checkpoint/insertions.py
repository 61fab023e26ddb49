"""The layers that `deepen` inserts, as modules to write into the model's code."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx_net2net.growth.record import StepRecord
from .names import module, module_of_node

_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class NewModule:
    """A layer to insert: its `name`, how to write it (`code`), where (`after`).

    `parameters`: name -> (the student's tensor, whether it is transposed there).
    """

    name: str
    code: str
    after: str
    parameters: Mapping[str, tuple[str, bool]]

    def __str__(self) -> str:
        return f"{self.name} = {self.code}  # after {self.after}"


def insertions(steps: Sequence[StepRecord]) -> list[NewModule]:
    """The inserted layers that hold parameters, in running order, at their final size."""
    found = []
    for k, step in enumerate(steps):
        sizes = {n: a.shape for n, a in step.inserted.items() if a.dtype.kind not in "iub"}
        if not step.placed:
            continue
        final = {n: _final(n, s, steps[k + 1 :]) for n, s in sizes.items()}
        after = step.placed.get("producer") or step.placed.get("tensor", "")
        biases = {n["inputs"][0]: n for n in step.nodes if n["op"] == "Add" and n["inputs"]}
        biases |= {n["inputs"][1]: n for n in step.nodes if n["op"] == "Add" and n["inputs"]}
        for node in step.nodes:
            made = _module(node, sizes, final, biases)
            if made is not None:
                found.append(NewModule(made[0], made[1], after, made[2]))
                after = made[0]
    return found


def _final(name: str, shape: tuple[int, ...], steps: Sequence[StepRecord]) -> tuple[int, ...]:
    """An inserted constant's shape after later steps."""
    for step in steps:
        for replay in step.tensors:
            if replay.teacher == name:
                source = replay.change.source
                shape = tuple(len(source[d]) if d in source else n for d, n in enumerate(shape))
                ring = replay.ring or ((0, 0),) * len(shape)
                shape = tuple(n + a + b for n, (a, b) in zip(shape, ring, strict=True))
    return shape


_Found = tuple[str, str, dict[str, tuple[str, bool]]]


def _module(
    node: Mapping[str, Any], known: Mapping[str, Any], final: Mapping[str, tuple[int, ...]],
    biases: Mapping[str, Mapping[str, Any]],
) -> _Found | None:  # fmt: skip
    inputs, op = node["inputs"], node["op"]
    mine = [t for t in inputs if t in known]
    if not mine:
        return None
    name = _named(mine[0], node["name"])
    if op == "Conv":
        code = _convolution(node["attributes"], final[inputs[1]], len(inputs) > 2)
        roles = zip(("weight", "bias"), inputs[1:], strict=False)
        return name, code, {f"{name}.{r}": (t, False) for r, t in roles}
    if op == "BatchNormalization":
        size, rank = final[inputs[1]][0], "1d/2d/3d"
        eps = node["attributes"].get("epsilon", 1e-5)
        code = f"nn.BatchNorm{rank}({size}, eps={eps:.6g})"
        roles = zip(_NORM, inputs[1:5], strict=True)
        return name, code, {f"{name}.{r}": (t, False) for r, t in roles}
    if op == "LayerNormalization":
        code = f"nn.LayerNorm({final[inputs[1]][-1]})"
        roles = zip(("weight", "bias"), inputs[1:3], strict=False)
        return name, code, {f"{name}.{r}": (t, False) for r, t in roles}
    if op in ("Gemm", "MatMul") and inputs[1] in known and len(final[inputs[1]]) == 2:
        flipped = op == "MatMul" or not node["attributes"].get("transB", 0)
        out, inside = final[inputs[1]][::-1] if flipped else final[inputs[1]]
        made = {f"{name}.weight": (inputs[1], flipped)}
        added = biases.get(node["outputs"][0], {"inputs": ()})
        bias = next((t for t in (*inputs[2:], *added["inputs"]) if t in known), None)
        if bias is not None:
            made[f"{name}.bias"] = (bias, False)
        tail = "" if bias is not None else ", bias=False"
        return name, f"nn.Linear({inside}, {out}{tail})", made
    return None


def _named(tensor: str, node: str) -> str:
    """The module of a new parameter; from the node where the parameter's name tells none."""
    found = module(tensor)
    if not found or re.search(r"[:/]", found):
        found = module_of_node(node) or re.sub(r"\W+", "_", node)
    return found


def _convolution(attributes: Mapping[str, Any], shape: Sequence[int], bias: bool) -> str:
    groups = int(attributes.get("group", 1))
    kernel = list(shape[2:])
    pads = list(attributes.get("pads", [0] * 2 * len(kernel)))
    begin, end = pads[: len(kernel)], pads[len(kernel) :]
    window = kernel[0] if len(set(kernel)) == 1 else tuple(kernel)
    said = [str(shape[1] * groups), str(shape[0]), str(window)]
    if any(pads):
        same = begin == end
        padding = begin[0] if len(set(begin)) == 1 else tuple(begin)
        said.append(f"padding={padding if same else repr('same')}")
    if groups > 1:
        said.append(f"groups={groups}")
    if not bias:
        said.append("bias=False")
    return f"nn.Conv{len(kernel)}d({', '.join(said)})"
