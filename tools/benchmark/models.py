"""Models for the benchmark: long chains of convolutions of any size, and graphs of many nodes.

They are written tensor by tensor, so that no model is ever in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

CHANNELS, KERNEL = 512, 2
PAYLOAD = CHANNELS * CHANNELS * KERNEL * KERNEL * 4
_OPSET, _IR = 17, 8


def chain(path: Path, size: int, external: bool = False) -> Path:
    """A chain of Conv 512x512x2x2 (4 MiB each) and Relu of about `size` bytes.

    Args:
        external: keep the weights in one file beside the model.
    """
    count = max(2, size // PAYLOAD)
    nodes: list[NodeProto] = []
    x = "x"
    for k in range(count):
        conv: dict[str, Any] = {"kernel_shape": [KERNEL] * 2, "pads": [0, 0, 1, 1]}
        inputs = [x, f"conv{k}.weight", f"conv{k}.bias"]
        nodes.append(helper.make_node("Conv", inputs, [f"c{k}"], name=f"conv{k}", **conv))
        x = "y" if k == count - 1 else f"r{k}"
        nodes.append(helper.make_node("Relu", [f"c{k}"], [x], name=f"relu{k}"))
    shape: list[int | str] = ["N", CHANNELS, 4, 4]
    frame = _frame(nodes, shape, shape)
    if external:
        _write_external(path, frame, count)
    else:
        _write_whole(path, frame, count)
    return path


def blocks(path: Path, nodes: int, channels: int = 4) -> Path:
    """A residual network of `nodes` nodes in blocks of Conv, BatchNorm, Relu, Conv, Add."""
    made: list[NodeProto] = []
    weights: list[TensorProto] = []
    draw = np.random.Generator(np.random.PCG64(0))

    def weight(name: str, *shape: int, positive: bool = False) -> str:
        values = draw.uniform(0.5 if positive else -0.3, 1.0 if positive else 0.3, shape)
        weights.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(x: str, name: str) -> str:
        inputs = [x, weight(f"{name}.weight", channels, channels, 1, 1)]
        made.append(helper.make_node("Conv", inputs, [name], name=f"/{name}"))
        return name

    x = conv("x", "stem")
    for k in range((nodes - 2) // 5):
        h = conv(x, f"b{k}.conv1")
        statistics = [weight(f"b{k}.bn.{n}", channels, positive=True) for n in "wbmv"]
        normal = helper.make_node("BatchNormalization", [h, *statistics], [f"b{k}.bn"])
        normal.name = f"/b{k}.bn"
        made.append(normal)
        made.append(helper.make_node("Relu", [f"b{k}.bn"], [f"b{k}.relu"], name=f"/b{k}.relu"))
        h = conv(f"b{k}.relu", f"b{k}.conv2")
        made.append(helper.make_node("Add", [x, h], [f"b{k}.add"], name=f"/b{k}.add"))
        x = f"b{k}.add"
    last = conv(x, "y")
    assert last == "y"
    shape: list[int | str] = ["N", channels, 2, 2]
    model = _frame(made, shape, shape)
    model.graph.initializer.extend(weights)
    path.write_bytes(model.SerializeToString())
    return path


def _frame(
    nodes: list[NodeProto], taken: list[int | str], given: list[int | str]
) -> onnx.ModelProto:
    """A model without weights."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, taken)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, given)
    graph = helper.make_graph(nodes, "benchmark", [x], [y])
    opsets = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(graph, ir_version=_IR, opset_imports=opsets)


def _weights(count: int) -> Iterator[tuple[str, tuple[int, ...], bytes]]:
    """Weights that differ from tensor to tensor; one draw, turned a little further each time."""
    draw = np.random.Generator(np.random.PCG64(0))
    values = draw.uniform(-0.05, 0.05, PAYLOAD // 4).astype(np.float32)
    for k in range(count):
        turned = np.roll(values, 7 * k + 1)
        yield f"conv{k}.weight", (CHANNELS, CHANNELS, KERNEL, KERNEL), turned.tobytes()
        yield f"conv{k}.bias", (CHANNELS,), turned[:CHANNELS].tobytes()


def _write_whole(path: Path, frame: onnx.ModelProto, count: int) -> None:
    """Two graph fields in one file are one graph, so the weights can follow the nodes."""
    tensors = 0
    heads: list[bytes] = []
    for k in range(count):
        for name, shape in ((f"conv{k}.weight", [CHANNELS, CHANNELS, KERNEL, KERNEL]),
                            (f"conv{k}.bias", [CHANNELS])):  # fmt: skip
            size = 4 * int(np.prod(shape))
            tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT)
            head = tensor.SerializeToString() + _tag(9, size)
            heads.append(_tag(5, len(head) + size) + head)
            tensors += len(heads[-1]) + size
    graph = frame.graph.SerializeToString()
    rest = onnx.ModelProto()
    rest.CopyFrom(frame)
    rest.ClearField("graph")
    with path.open("wb") as stream:
        stream.write(rest.SerializeToString() + _tag(7, len(graph) + tensors) + graph)
        for head, (_, _, data) in zip(heads, _weights(count), strict=True):
            stream.write(head)
            stream.write(data)
        _settle(stream)


def _write_external(path: Path, frame: onnx.ModelProto, count: int) -> None:
    name = f"{path.stem}.data"
    offset = 0
    with path.with_name(name).open("wb") as stream:
        for weight, shape, data in _weights(count):
            tensor = frame.graph.initializer.add(name=weight, data_type=TensorProto.FLOAT)
            tensor.dims.extend(shape)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", name), ("offset", offset), ("length", len(data))):
                tensor.external_data.add(key=key, value=str(value))
            stream.write(data)
            padding = bytes(-len(data) % 4096)
            stream.write(padding)
            offset += len(data) + len(padding)
        _settle(stream)
    path.write_bytes(frame.SerializeToString())


def _settle(stream: BinaryIO) -> None:
    """Write back now, so that no measurement pays for it later."""
    stream.flush()
    os.fsync(stream.fileno())


def _tag(number: int, length: int) -> bytes:
    out = bytearray()
    for value in (number << 3 | 2, length):
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)


__all__ = ["blocks", "chain"]
