"""The paper's networks in torch, small, and their way to ONNX and back.

Every module is built from the widths of its layers, and its parameters are named as in ONNX: a
grown model's initializers load as they are.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

Widths = Mapping[str, int]
DEEPER = "_deeper"  # what `deepen` appends to a layer's name


class Inserted(nn.Conv2d):
    """The layer that `deepen` inserts: convolution, BatchNorm, ReLU."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__(width, width, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(super().forward(x)))


class ConvBn(nn.Module):
    """Convolution, BatchNorm, ReLU, and an inserted layer where `deeper` names it."""

    def __init__(
        self, name: str, inputs: int, widths: Widths, deeper: Collection[str], kernel: int = 3
    ) -> None:
        super().__init__()
        self.width = widths[f"{name}.conv"]
        self.conv = nn.Conv2d(inputs, self.width, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(self.width)
        self.conv_deeper = Inserted(self.width, kernel) if f"{name}.conv" in deeper else None

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        return x if self.conv_deeper is None else self.conv_deeper(x)


class PlainCnn(nn.Module):
    """Three 3x3 Conv-BN-ReLU with max pooling between them, global average, linear."""

    def __init__(self, widths: Widths, deeper: Collection[str] = ()) -> None:
        super().__init__()
        self.conv1 = ConvBn("conv1", 1, widths, deeper)
        self.conv2 = ConvBn("conv2", self.conv1.width, widths, deeper)
        self.conv3 = ConvBn("conv3", self.conv2.width, widths, deeper)
        self.fc = nn.Linear(self.conv3.width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.conv1(x), 2)
        x = nn.functional.max_pool2d(self.conv2(x), 2)
        return self.fc(self.conv3(x).mean((2, 3)))


class Branches(nn.Module):
    """An Inception module: 1x1; 1x1-3x3; 1x1-3x3-3x3; pool-1x1; concatenated."""

    def __init__(self, name: str, inputs: int, widths: Widths, deeper: Collection[str]) -> None:
        super().__init__()

        def conv(branch: str, inputs: int, kernel: int) -> ConvBn:
            return ConvBn(f"{name}.{branch}", inputs, widths, deeper, kernel)

        self.one = conv("one", inputs, 1)
        self.reduce3 = conv("reduce3", inputs, 1)
        self.three = conv("three", self.reduce3.width, 3)
        self.reduce5 = conv("reduce5", inputs, 1)
        self.five1 = conv("five1", self.reduce5.width, 3)
        self.five2 = conv("five2", self.five1.width, 3)
        self.pool = conv("pool", inputs, 1)
        self.width = sum(b.width for b in (self.one, self.three, self.five2, self.pool))

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.max_pool2d(x, 3, 1, 1)
        five = self.five2(self.five1(self.reduce5(x)))
        return torch.cat([self.one(x), self.three(self.reduce3(x)), five, self.pool(pooled)], 1)


class Inception(nn.Module):
    """A stem, two Inception modules with a pool between them, global average, linear."""

    def __init__(self, widths: Widths, deeper: Collection[str] = ()) -> None:
        super().__init__()
        self.stem = ConvBn("stem", 1, widths, deeper)
        self.a = Branches("a", self.stem.width, widths, deeper)
        self.b = Branches("b", self.a.width, widths, deeper)
        self.fc = nn.Linear(self.b.width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(nn.functional.max_pool2d(self.stem(x), 2))
        return self.fc(self.b(nn.functional.max_pool2d(x, 2)).mean((2, 3)))


class Block(nn.Module):
    """A pre-LN block: attention over four heads, MLP with GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        y = self.norm1(x)
        q, k, v = (
            f(y).reshape(n, tokens, 4, width // 4).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        attention = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(width // 4), -1)
        x = x + self.proj((attention @ v).transpose(1, 2).reshape(n, tokens, width))
        return x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))


class Transformer(nn.Module):
    """4x4 patches with positions, two pre-LN blocks, mean over tokens, linear."""

    def __init__(self, widths: Widths, deeper: Collection[str] = (), tokens: int = 16) -> None:
        super().__init__()
        if deeper:
            raise ValueError("the transformer is built for wider students only")
        width = widths["patch"]
        self.patch = nn.Conv2d(1, width, 4, stride=4, padding=1)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.blocks = nn.ModuleList(Block(width, widths[f"blocks.{k}.fc1"]) for k in range(2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


KINDS: dict[str, type[nn.Module]] = {
    "plain": PlainCnn,
    "inception": Inception,
    "transformer": Transformer,
}
# The large networks; a teacher has fewer units.
WIDTHS: dict[str, dict[str, int]] = {
    "plain": {"conv1.conv": 16, "conv2.conv": 32, "conv3.conv": 64},
    "inception": {
        "stem.conv": 16,
        **{
            f"{module}.{branch}.conv": width * scale
            for module, scale in (("a", 1), ("b", 2))
            for branch, width in (("one", 16), ("reduce3", 12), ("three", 24), ("reduce5", 6),
                                  ("five1", 8), ("five2", 8), ("pool", 8))
        },
    },
    "transformer": {"patch": 32, "blocks.0.fc1": 64, "blocks.1.fc1": 64},
}  # fmt: skip


def build(kind: str, widths: Widths, deeper: Collection[str] = (), *, seed: int = 0) -> nn.Module:
    """A network with fresh weights: He's initialisation for convolutions, else torch's."""
    torch.manual_seed(seed)
    module = KINDS[kind](widths, deeper)
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    return module


def export(module: nn.Module, images: Tensor) -> onnx.ModelProto:
    """The network as ONNX: BatchNormalization as it is, initializers named as the parameters.

    Args:
        images: a few examples [N,1,H,W]; N stays free.
    """
    module.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        # optimize=False: the exporter's optimiser would fold BatchNorm into the convolutions.
        program: Any = torch.onnx.export(
            module, (images,), dynamo=True, optimize=False, verbose=False,
            input_names=["images"], output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
        )  # fmt: skip
    model: onnx.ModelProto = program.model_proto
    missing = set(_state(module)) - {i.name for i in model.graph.initializer}
    if missing:
        raise ValueError(f"the exporter renamed or folded {sorted(missing)}")
    return model


def sizes(model: onnx.ModelProto) -> tuple[dict[str, int], set[str]]:
    """Layer -> its width, and the layers behind which one was inserted."""
    found = {
        i.name[: -len(".weight")]: i.dims[0]
        for i in model.graph.initializer if i.name.endswith(".weight")
    }  # fmt: skip
    return found, {n[: -len(DEEPER)] for n in found if n.endswith(DEEPER)}


def load(kind: str, model: onnx.ModelProto) -> nn.Module:
    """The torch module of a (grown) ONNX model: as its initializers say, by their names."""
    module = KINDS[kind](*sizes(model))
    weights = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    state = {n: torch.from_numpy(np.array(weights[n])) for n in _state(module)}
    module.load_state_dict(state, strict=False)
    return module


def _state(module: nn.Module) -> list[str]:
    """Names of all that ONNX knows of a module: not the count of batches."""
    return [n for n in module.state_dict() if not n.endswith("num_batches_tracked")]
