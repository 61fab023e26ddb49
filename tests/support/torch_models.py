"""PyTorch modules of any width, their exports, and running both sides."""

from __future__ import annotations

import io
import logging
import warnings
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_net2net as n2n
from support.same_function import session

torch = pytest.importorskip("torch", reason="needs PyTorch, the extra [torch]")
pytest.importorskip("safetensors", reason="needs safetensors, the extra [torch]")
nn = torch.nn
IMAGE = torch.randn(2, 1, 7, 7, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(2))
EXPORTS = ("folded", "unfused", "dynamo")


class Block(nn.Module):
    def __init__(self, outer: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(outer, inner, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, outer, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(outer, eps=1e-3)

    def forward(self, x: Any) -> Any:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


class Cnn(nn.Module):
    """A residual network; `stem`: its width, with a convolution inserted behind."""

    def __init__(self, width: int = 8, inner: int = 6, stem: int = 0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, stem or width, 3, padding=1)
        self.bn = nn.BatchNorm2d(stem or width)
        self.stem_deeper = nn.Conv2d(stem, width, 3, padding=1) if stem else nn.Identity()
        self.layer1 = nn.Sequential(Block(width, inner), Block(width, inner))
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.bn(self.stem(x)))
        if isinstance(self.stem_deeper, nn.Conv2d):
            x = torch.relu(self.stem_deeper(x))
        return self.fc(self.depthwise(self.layer1(x)).mean((2, 3)))


class Attention(nn.Module):
    """Attention with a packed projection, whose heads the constructor sets."""

    def __init__(self, width: int, heads: int, size: int) -> None:
        super().__init__()
        self.shares: Any = 1.0  # of the products of queries and keys
        self.heads, self.size = heads, size
        self.qkv = nn.Linear(width, 3 * heads * size)
        self.out = nn.Linear(heads * size, width)

    def forward(self, x: Any) -> Any:
        b, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        weights = torch.softmax((q * self.shares) @ k.transpose(-1, -2) * 0.5, -1)
        return self.out((weights @ v).transpose(1, 2).reshape(b, t, self.heads * self.size))


class Transformer(nn.Module):
    """Tokens, a position table, attention, an MLP."""

    def __init__(self, width: int = 12, size: int = 4, hidden: int = 20, heads: int = 3) -> None:
        super().__init__()
        self.embed = nn.Linear(6, width)
        self.position = nn.Parameter(torch.randn(1, 16, width))
        self.norm = nn.LayerNorm(width)
        self.attn = Attention(width, heads, size)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.head = nn.Linear(width, 5)

    def forward(self, x: Any) -> Any:
        x = self.embed(x) + self.position[:, : x.shape[1]]
        x = x + self.attn(self.norm(x))
        return self.head((x + self.mlp(x)).mean(1))


class Recurrent(nn.Module):
    """A bidirectional LSTM of two layers, a GRU and a plain RNN (which one exporter unrolls)."""

    def __init__(self, plain: bool = True) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(16, 5, batch_first=True)
        self.rnn = nn.RNN(5, 7, batch_first=True) if plain else None
        self.head = nn.Linear(7 if plain else 5, 3)

    def forward(self, x: Any) -> Any:
        x = self.gru(self.lstm(x)[0])[0]
        x = self.rnn(x)[0] if self.rnn is not None else x
        return self.head(x[:, -1])


def trained(module: Any, seed: int = 0) -> Any:
    """With weights, norms and running statistics as training leaves them: all different."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.dtype.is_floating_point:
                noise = torch.rand(tensor.shape, generator=generator)
                positive = name.endswith("running_var") or tensor.ndim == 1
                tensor.copy_(noise + 0.5 if positive else (noise - 0.5) * 0.7)
    return module.eval()


def exported(module: Any, x: Any, how: str = "folded", opset: int = 0) -> onnx.ModelProto:
    """The module as one of the exporters writes it."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"dynamo": how == "dynamo"}
    if opset:
        options["opset_version"] = opset
    if how == "unfused":
        options |= {"do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE}
    if how == "dynamo":
        pytest.importorskip("onnxscript", reason="the newer exporter needs onnxscript")
        options["verbose"] = False
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), buffer, **options)
    return onnx.load_from_string(buffer.getvalue())


def run(model: onnx.ModelProto, x: Any) -> Any:
    """The file's first output in onnxruntime."""
    found = session(model)
    return torch.from_numpy(found.run(None, {found.get_inputs()[0].name: x.numpy()})[0])


def away(one: Any, other: Any) -> float:
    """Largest difference, in terms of the largest number."""
    one, other = one.detach().numpy(), other.detach().numpy()
    return float(np.abs(one - other).max() / np.abs(one).max())


def everywhere(model: onnx.ModelProto, ratio: float = 1.5) -> list[dict[str, Any]]:
    """A widening of every space."""
    return [
        {"space": s.name, "ratio": 2.0 if s.uniform else ratio} for s in n2n.inspect(model).spaces
    ]
