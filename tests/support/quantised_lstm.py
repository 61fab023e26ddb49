"""com.microsoft's DynamicQuantizeLSTM by its definition, for models with weights of all 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from onnx_net2net.typing import Array


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _product(a: Array, weights: Array, scale: Array, zero: Array) -> Array:
    """a @ weights: `a` [M, K] rounded to 8 bits by its own range, summed in 32 bits."""
    low, high = min(a.min(), 0), max(a.max(), 0)
    step = np.float32((high - low) / 255 or 1)
    origin = np.rint(-low / step)
    rounded = np.clip(np.rint(a / step) + origin, 0, 255).astype("i4") - int(origin)
    return (rounded @ (weights.astype("i4") - zero.astype("i4"))).astype("f4") * (step * scale)


class DynamicQuantizeLSTM(OpRun):  # type: ignore[misc]
    """One direction, no peepholes; gates in ONNX's order: input, output, forget, cell."""

    op_domain = "com.microsoft"

    def _run(self, x: Array, w: Array, r: Array, b: Array, *more: Any, **attributes: Any) -> Any:
        w_scale, w_zero, r_scale, r_zero = more[4:]
        steps, batch, width = x.shape
        bias = np.add(*np.split(b[0], 2))
        given = _product(x.reshape(-1, width), w[0], w_scale, w_zero).reshape(steps, batch, -1)
        hidden, cell = np.zeros((2, batch, len(r[0])), "f4")
        found = []
        for part in given:
            gates = part + _product(hidden, r[0], r_scale, r_zero) + bias
            into, out, forget, new = np.split(gates, 4, axis=1)
            cell = _sigmoid(forget) * cell + _sigmoid(into) * np.tanh(new)
            hidden = _sigmoid(out) * np.tanh(cell)
            found.append(hidden)
        return (np.stack(found)[:, None],)


def run(model: onnx.ModelProto, feed: dict[str, Array]) -> Array:
    """The first output, in numpy."""
    found: Array = ReferenceEvaluator(model, new_ops=[DynamicQuantizeLSTM]).run(None, feed)[0]
    return found
