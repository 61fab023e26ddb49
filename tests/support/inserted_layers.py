"""Models with inserted layers, and that these change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from onnx_net2net.files import patch
from onnx_net2net.files.reader import read
from onnx_net2net.growth.deepen.step import Deepening, deepen
from onnx_net2net.growth.deepen.verb import Deepen
from onnx_net2net.inference.analysis import Analysis
from support.same_function import session

RNG = np.random.default_rng(0)


def array(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return (RNG.standard_normal(shape) / max(1.0, np.prod(shape[1:]) ** 0.5)).astype(dtype)


def written(text: str, opset: int = 17, **weights: np.ndarray) -> onnx.ModelProto:
    """A graph in ONNX's text form with initializers."""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in weights.items())
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(y) for y in session(model).run(None, feed)]


def deepened(model: onnx.ModelProto, **how: Any) -> tuple[onnx.ModelProto, Deepening]:
    source = read(model)
    made = deepen(Analysis(source), Deepen(**how))
    student = patch.apply(source, made.patch).to_proto()
    onnx.checker.check_model(student, full_check=True)
    return student, made


def same(model: onnx.ModelProto, student: onnx.ModelProto, feed: dict[str, np.ndarray]) -> None:
    assert [o.name for o in model.graph.output] == [o.name for o in student.graph.output]
    for x, y in zip(run(model, feed), run(student, feed), strict=True):
        np.testing.assert_array_equal(x, y)
