"""A model's weights as a safetensors file, copied from where they lie in constant memory.

The format is a JSON header and the bytes (https://github.com/huggingface/safetensors), so
nothing beyond the standard library is needed to write it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import TensorProto

from onnx_net2net import __version__
from onnx_net2net.files import writer
from onnx_net2net.files.output_form import FileForm, Stored
from onnx_net2net.files.reader import read
from onnx_net2net.files.rope import Range, Rope, memory
from onnx_net2net.files.source import Source
from onnx_net2net.files.writer import Progress
from onnx_net2net.graph.model import Leaf, Model

_TYPES: dict[int, tuple[str, int]] = {
    TensorProto.DOUBLE: ("F64", 8), TensorProto.FLOAT: ("F32", 4), TensorProto.FLOAT16: ("F16", 2),
    TensorProto.BFLOAT16: ("BF16", 2), TensorProto.FLOAT8E4M3FN: ("F8_E4M3", 1),
    TensorProto.FLOAT8E5M2: ("F8_E5M2", 1), TensorProto.INT64: ("I64", 8),
    TensorProto.INT32: ("I32", 4), TensorProto.INT16: ("I16", 2), TensorProto.INT8: ("I8", 1),
    TensorProto.UINT64: ("U64", 8), TensorProto.UINT32: ("U32", 4), TensorProto.UINT16: ("U16", 2),
    TensorProto.UINT8: ("U8", 1), TensorProto.BOOL: ("BOOL", 1),
}  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """What was written: name -> (type, shape); `left_out`: tensors the format has no type for."""

    path: Path
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    left_out: tuple[str, ...]
    size: int

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "onnx-net2net/export-weights/1",
            "output": str(self.path),
            "tensors": {n: {"type": t, "shape": list(s)} for n, (t, s) in self.tensors.items()},
            "left_out": list(self.left_out),
            "bytes": self.size,
        }

    def __str__(self) -> str:
        lines = [f"{len(self.tensors)} tensors, {self.size:,} bytes"]
        if self.left_out:
            lines.append(f"left out, no such type in safetensors: {', '.join(self.left_out)}")
        return "\n".join([*lines, f"wrote {self.path}"])


def export_weights(
    model: Any, output: str | os.PathLike[str], *, force: bool = False,
    progress: Progress | None = None,
) -> Exported:  # fmt: skip
    """Write a model's weights as a safetensors file; see `SafetensorsWeights`.

    Args:
        model: a path, an `onnx.ModelProto` or a `gs.Graph`.
        output: the file to write.
        force: replace an existing output.
        progress: is told how many bytes were copied.

    Raises:
        ModelError: the model, or external data that is missing.
        FileExistsError: `output` exists (without `force`) or is read from.
    """
    source, form = read(model), SafetensorsWeights(output, force)
    form.check(source)
    return form.write(source, progress)


class SafetensorsWeights(FileForm):
    """Every initializer, and every Constant that holds more than one float, by its name."""

    def write(self, model: Stored, progress: Progress | None = None) -> Exported:
        """Write them; raises OSError, and ModelError where external data is missing."""
        source, target = read(model), Path(self.path)
        tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
        data: list[tuple[int, str, list[Range], int]] = []
        left_out = [t.values.name for t in source.proto.graph.sparse_initializer]
        for leaf in _weights(source):
            if leaf.dtype not in _TYPES:
                left_out.append(leaf.name)
                continue
            kind, width = _TYPES[leaf.dtype]
            assert leaf.tensor is not None
            tensors[leaf.name] = (kind, leaf.shape)
            ranges = list(source.stored(leaf.tensor).ranges)
            data.append((width, leaf.name, ranges, width * math.prod(leaf.shape)))
        data.sort(key=lambda d: -d[0])  # so that every tensor is aligned
        rope = Rope([_header(tensors, data), *(r for d in data for r in d[2])])
        writer.write(rope, target, progress)
        return Exported(target, tensors, tuple(left_out), rope.size)


def _weights(source: Source) -> Iterator[Leaf]:
    floats = (TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    for leaf in Model(source.proto).leaves.values():
        weight = leaf.path[-2] == "initializer" or (
            leaf.dtype in floats and math.prod(leaf.shape) > 1
        )
        if leaf.tensor is not None and weight:
            yield leaf


def _header(
    tensors: dict[str, tuple[str, tuple[int, ...]]], data: list[tuple[int, str, list[Range], int]]
) -> Range:
    said: dict[str, Any] = {"__metadata__": {"format": "pt", "tool": f"onnx-net2net {__version__}"}}
    at = 0
    for _, name, _, size in data:
        kind, shape = tensors[name]
        said[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(said, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return memory(len(text).to_bytes(8, "little") + text)
