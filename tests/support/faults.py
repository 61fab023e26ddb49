"""Students with one fault each, and whether the certificate or onnxruntime tells them apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

import onnx_net2net as n2n
from support.fused_models import run


def proved(a: onnx.ModelProto, b: onnx.ModelProto) -> bool:
    return bool(n2n.verify(a, b, layers="certificate"))


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    found = onnx.ModelProto()
    found.CopyFrom(model)
    return found


def damaged(
    model: onnx.ModelProto, before: onnx.ModelProto
) -> Iterator[tuple[str, onnx.ModelProto]]:
    """One fault each: in weights, attributes, and nodes that growing put in."""
    rng = np.random.default_rng(5)
    old = {t.name: t.raw_data for t in before.graph.initializer}
    for k, t in enumerate(model.graph.initializer):
        values = numpy_helper.to_array(t)
        if values.size < 2 or (t.name not in old and values.dtype.kind != "f"):
            continue
        wrong = [("one entry", values.copy())]
        at = int(rng.integers(values.size))
        flat = wrong[0][1].reshape(-1)
        flat[at] = flat[at] * 1.01 + 0.01 if values.dtype.kind == "f" else flat[at] ^ 1
        for axis in range(values.ndim):
            n = values.shape[axis]
            wrong.append((f"rolled {axis}", np.roll(values, 1, axis)))
            wrong.append((f"rolled by half {axis}", np.roll(values, n // 2, axis)))
            swapped = values.copy().swapaxes(0, axis)
            swapped[[0, n - 1]] = swapped[[n - 1, 0]]
            wrong.append((f"ends swapped {axis}", swapped.swapaxes(0, axis)))
        for what, array in wrong:
            if not np.array_equal(array, values):
                found = copied(model)
                found.graph.initializer[k].CopyFrom(numpy_helper.from_array(array, t.name))
                yield f"{t.name} {what}", found
    for k, node in enumerate(model.graph.node):
        for j, a in enumerate(node.attribute):
            for value in (a.f * 1.01, a.f * 2) if a.f else (a.i * 2, a.i // 2, 1 - a.i):
                found = copied(model)
                spot = found.graph.node[k].attribute[j]
                if a.type == a.FLOAT:
                    spot.f = value
                elif a.type == a.INT:
                    spot.i = max(0, int(value))
                elif a.type == a.STRING:
                    spot.s = b"forward" if a.s == b"reverse" else b"reverse"
                else:
                    spot.ints[0], spot.ints[-1] = spot.ints[-1], spot.ints[0]
                if found != model:
                    yield f"{node.name}.{a.name} {value}", found
        if node.op_type in ("Mul", "Sub", "Div") and len(node.input) == 2:
            found = copied(model)
            del found.graph.node[k].input[:]
            found.graph.node[k].input.extend(node.input[:1])
            found.graph.node[k].op_type = "Identity"
            yield f"{node.name} left out", found


def same(a: onnx.ModelProto, b: onnx.ModelProto) -> bool:
    want, got = run(a), run(b)
    return want.shape == got.shape and np.abs(want - got).max() <= 1e-5 * np.abs(want).max()
