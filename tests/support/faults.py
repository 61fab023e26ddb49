"""Students with one fault each, and whether the certificate or onnxruntime tells them apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

import onnx_net2net as n2n
from onnx_net2net.typing import Array
from support.fused_models import run

Fault = tuple[str, onnx.ModelProto]
"""What is wrong, and the model."""


def proved(a: onnx.ModelProto, b: onnx.ModelProto) -> bool:
    return bool(n2n.verify(a, b, layers="certificate"))


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    found = onnx.ModelProto()
    found.CopyFrom(model)
    return found


def _wrong_arrays(values: Array, rng: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """A weight with one entry changed, and with positions of one axis moved."""
    one = values.copy()
    at = int(rng.integers(values.size))
    flat = one.reshape(-1)
    flat[at] = flat[at] * 1.01 + 0.01 if values.dtype.kind == "f" else flat[at] ^ 1
    yield "one entry", one
    for axis, n in enumerate(values.shape):
        yield f"rolled {axis}", np.roll(values, 1, axis)
        yield f"rolled by half {axis}", np.roll(values, n // 2, axis)
        swapped = values.copy().swapaxes(0, axis)
        swapped[[0, n - 1]] = swapped[[n - 1, 0]]
        yield f"ends swapped {axis}", swapped.swapaxes(0, axis)


def _wrong_weights(model: onnx.ModelProto, before: onnx.ModelProto) -> Iterator[Fault]:
    rng = np.random.default_rng(5)
    old = {t.name for t in before.graph.initializer}
    for k, t in enumerate(model.graph.initializer):
        values = numpy_helper.to_array(t)
        if values.size < 2 or (t.name not in old and values.dtype.kind != "f"):
            continue
        for what, array in _wrong_arrays(values, rng):
            if not np.array_equal(array, values):
                found = copied(model)
                found.graph.initializer[k].CopyFrom(numpy_helper.from_array(array, t.name))
                yield f"{t.name} {what}", found


def _change(attribute: onnx.AttributeProto, value: float) -> None:
    if attribute.type == attribute.FLOAT:
        attribute.f = value
    elif attribute.type == attribute.INT:
        attribute.i = max(0, int(value))
    elif attribute.type == attribute.STRING:
        attribute.s = b"forward" if attribute.s == b"reverse" else b"reverse"
    else:
        attribute.ints[0], attribute.ints[-1] = attribute.ints[-1], attribute.ints[0]


def _wrong_attributes(model: onnx.ModelProto) -> Iterator[Fault]:
    for k, node in enumerate(model.graph.node):
        for j, a in enumerate(node.attribute):
            for value in (a.f * 1.01, a.f * 2) if a.f else (a.i * 2, a.i // 2, 1 - a.i):
                found = copied(model)
                _change(found.graph.node[k].attribute[j], value)
                if found != model:
                    yield f"{node.name}.{a.name} {value}", found


def _left_out(model: onnx.ModelProto) -> Iterator[Fault]:
    for k, node in enumerate(model.graph.node):
        if node.op_type in ("Mul", "Sub", "Div") and len(node.input) == 2:
            found = copied(model)
            del found.graph.node[k].input[1]
            found.graph.node[k].op_type = "Identity"
            yield f"{node.name} left out", found


def damaged(model: onnx.ModelProto, before: onnx.ModelProto) -> Iterator[Fault]:
    """One fault each: in weights, attributes, and nodes that growing put in."""
    yield from _wrong_weights(model, before)
    yield from _wrong_attributes(model)
    yield from _left_out(model)


def same(a: onnx.ModelProto, b: onnx.ModelProto) -> bool:
    want, got = run(a), run(b)
    return want.shape == got.shape and np.abs(want - got).max() <= 1e-5 * np.abs(want).max()
