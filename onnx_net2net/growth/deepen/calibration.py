"""True statistics of a tensor on the user's data, measured with onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from onnx import ValueInfoProto

from onnx_net2net.errors import UsageError
from onnx_net2net.files import patch as patching
from onnx_net2net.files.patch import Insert, Splice
from onnx_net2net.files.source import Source
from onnx_net2net.graph.model import Model
from onnx_net2net.growth.deepen.layer_forms import Statistics
from onnx_net2net.typing import Array


def measure(
    source: Source,
    model: Model,
    patch: Sequence[Splice | Insert],
    tensors: Sequence[str],
    data: Mapping[str, Array],
) -> tuple[Statistics, ...]:
    """Mean and variance of every channel (axis 1) of tensors of the patched model.

    Args:
        tensors: names in the main graph.
        data: input name -> array, others are left out; a multiple of a fixed batch size is
            run in pieces.

    Raises:
        UsageError: an input is missing, or sizes do not fit.
    """
    data = {n: v for n, v in data.items() if n in model.inputs or n in model.leaves}
    missing = [n for n in model.inputs if n not in data]
    if missing:
        raise UsageError(
            f"calibration data must hold the inputs {', '.join(model.inputs)}",
            f"missing: {', '.join(missing)}",
        )
    count = len(model.proto.graph.output)
    outputs = Insert(("graph", "output", count), tuple(ValueInfoProto(name=t) for t in tensors))
    student = patching.apply(source, [*patch, outputs]).to_proto().SerializeToString()
    sums = [_Sum() for _ in tensors]
    session = _session(student)
    for feed in _pieces(model, data):
        for total, values in zip(sums, session.run(list(tensors), feed), strict=True):
            total.add(values)
    return tuple(total.statistics() for total in sums)


def _session(student: bytes):  # type: ignore[no-untyped-def]
    import onnxruntime as ort  # slow to import, and only calibration needs it

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(student, options, providers=["CPUExecutionProvider"])


def _pieces(model: Model, data: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """The data cut along the first axis where the model fixes the batch size."""
    fixed = set()
    for name in model.inputs:
        dims = model.infos[name].type.tensor_type.shape.dim
        if len(dims) and dims[0].dim_value > 0:
            fixed.add((dims[0].dim_value, len(data[name]) if np.ndim(data[name]) else 1))
    pieces = {length // size for size, length in fixed if length % size == 0}
    if any(length % size for size, length in fixed) or len(pieces) > 1:
        raise UsageError("the data's first axis is no multiple of the model's batch size")
    number = pieces.pop() if pieces else 1
    feeds = {name: np.array_split(values, number) for name, values in data.items()}
    for k in range(number):
        yield {name: parts[k] for name, parts in feeds.items()}


class _Sum:
    """Sums of deviations from the first piece's mean, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.centre: Array | None = None
        self.first: Array = np.zeros(())
        self.second: Array = np.zeros(())

    def add(self, values: Array) -> None:
        flat = np.moveaxis(np.asarray(values, np.float64), 1, 0).reshape(values.shape[1], -1)
        if self.centre is None:
            self.centre = flat.mean(1, keepdims=True)
        away = flat - self.centre
        self.count += flat.shape[1]
        self.first = self.first + away.sum(1)
        self.second = self.second + np.square(away).sum(1)

    def statistics(self) -> Statistics:
        assert self.centre is not None
        mean = self.first / self.count
        return self.centre[:, 0] + mean, np.maximum(self.second / self.count - mean**2, 0.0)
