"""A random graph as a program: a header and a list of blocks, each with a seed of its own.

Leaving a block out changes no other block's draws, so that a failure can be made smaller.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tools.fuzzing.blocks import BLOCKS, Draft

OPSETS = (9, 11, 13, 15, 17, 18, 20, 21, 22)
_LARGEST = 4096


@dataclass(frozen=True)
class Program:
    """What a graph is made from.

    Attributes:
        blocks: (name, seed) of each block, in order.
        opset: of ai.onnx.
        half: float16 instead of float32.
        open_batch, open_length: leave the first axis and the spatial or sequence axes open.
        rank: 2 (features), 3 (sequence) or 4 (image) of the input.
        constants: weights as Constant nodes.
    """

    seed: int
    blocks: tuple[tuple[str, int], ...]
    opset: int = 18
    half: bool = False
    open_batch: bool = False
    open_length: bool = False
    rank: int = 4
    constants: bool = False

    def without(self, k: int) -> Program:
        """The same without one block."""
        return replace(self, blocks=self.blocks[:k] + self.blocks[k + 1 :])


def draw(seed: int) -> Program:
    """A random program; the same for a seed on every machine."""
    rng = random.Random(f"program {seed}")
    count = rng.randrange(1, 12)
    names = sorted(BLOCKS)
    weights = [BLOCKS[n].weight for n in names]
    blocks = [(n, rng.randrange(1 << 30)) for n in rng.choices(names, weights, k=count)]
    return Program(
        seed, tuple(blocks), rng.choice(OPSETS), rng.random() < 0.1, rng.random() < 0.5,
        rng.random() < 0.3, rng.choice((2, 3, 4, 4)), rng.random() < 0.1,
    )  # fmt: skip


def build(program: Program) -> onnx.ModelProto:
    """The model; blocks that do not fit where they stand add nothing."""
    draft = Draft.start(program)
    for name, seed in program.blocks:
        if int(np.prod(draft.shape)) > _LARGEST:
            break
        block = BLOCKS[name]
        if program.opset >= block.since and not (program.half and block.single):
            draft.rng = random.Random(f"{name} {seed}")
            block.add(draft)
    model = draft.finish()
    if program.constants:
        _as_nodes(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def _as_nodes(model: onnx.ModelProto) -> None:
    graph = model.graph
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in graph.initializer]
    nodes += graph.node
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)


def feeds(model: onnx.ModelProto, seed: int, sizes: dict[str, int]) -> dict[str, Any]:
    """Random inputs; `sizes` for the open dimensions by name."""
    rng = np.random.default_rng(seed)
    found = {}
    for info in model.graph.input:
        t = info.type.tensor_type
        shape = [d.dim_value or sizes[d.dim_param] for d in t.shape.dim]
        kind = np.float16 if t.elem_type == TensorProto.FLOAT16 else np.float32
        found[info.name] = rng.standard_normal(shape).astype(kind)
    return found


__all__ = ["OPSETS", "Program", "build", "draw", "feeds"]
