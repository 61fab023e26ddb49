"""Whether two models compute the same function, by onnxruntime; and graphs to try it on."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, numpy_helper

from onnx_net2net.typing import Array

ort.set_default_logger_severity(4)
MODELS = Path(__file__).resolve().parents[2] / "models"
NAMES = sorted(path.stem for path in MODELS.glob("*.onnx"))
SIZES = ((1, 24), (3, 40))
"""Batch and image sizes, none of which the analysis looks at."""
_HALF = {TensorProto.FLOAT16, TensorProto.BFLOAT16}


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """A half precision model with the same weights in float32."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        if tensor.data_type in _HALF:
            array = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for info in (*wide.graph.input, *wide.graph.output, *wide.graph.value_info):
        if info.type.tensor_type.elem_type in _HALF:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in wide.graph.node:
        for a in node.attribute:
            if node.op_type == "Cast" and a.i in _HALF:
                a.i = TensorProto.FLOAT
            if node.op_type == "Constant" and a.t.data_type in _HALF:
                array = numpy_helper.to_array(a.t).astype(np.float32)
                a.t.CopyFrom(numpy_helper.from_array(array))
    return wide


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """One thread, no optimisations."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    data = in_float32(model).SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def feed(run: ort.InferenceSession, batch: int, size: int, seed: int = 0) -> dict[str, Array]:
    """Random inputs; symbolic dimensions take `batch` first, then `size`."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for info in run.get_inputs():
        shape = [
            d if isinstance(d, int) else size if k else batch for k, d in enumerate(info.shape)
        ]
        if info.type == "tensor(bool)":
            found[info.name] = np.asarray(seed % 2 == 0)
        elif info.type == "tensor(int64)":
            found[info.name] = rng.integers(0, 20, shape)
        else:
            dtype = {"tensor(float)": "f4", "tensor(double)": "f8"}[info.type]
            found[info.name] = rng.standard_normal(shape).astype(dtype)
    return found


class Teacher:
    """A model's outputs, run once and compared with often."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        run = session(model)
        self.feeds = [feed(run, batch, size, k) for k, (batch, size) in enumerate(SIZES)]
        self.outputs: list[list[Array]] = [run.run(None, f) for f in self.feeds]

    def deviation(self, student: onnx.ModelProto) -> float:
        """Largest difference over all outputs, in terms of each output's largest number."""
        run = session(student)
        return max(
            _difference(before, after)
            for f, outputs in zip(self.feeds, self.outputs, strict=True)
            for before, after in zip(outputs, run.run(None, f), strict=True)
        )


def _difference(before: Array, after: Array) -> float:
    if before.shape != after.shape or before.dtype != after.dtype:
        return float("inf")
    if before.dtype.kind in "biu":
        return 0.0 if np.array_equal(before, after) else float("inf")
    difference = np.abs(before.astype("f8") - after.astype("f8")).max(initial=0)
    return float(difference / max(np.abs(before).max(initial=0), 1e-9))


@cache
def teacher(name: str) -> Teacher:
    """A file of models/."""
    return Teacher(onnx.load(MODELS / f"{name}.onnx"))
