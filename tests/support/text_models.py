"""Models written in onnx's text form, their students, and how far those are off."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

import onnx_net2net as n2n
from onnx_net2net.typing import Array
from support.same_function import session

RATIO = 1.5
EQUAL = 1e-5


def written(text: str, **weights: tuple[int, ...] | Array) -> onnx.ModelProto:
    """A model from onnx's text form, with initializers: as given, or random of a shape."""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17, "l" : 1]>\n{text}')
    rng = np.random.default_rng(0)
    for name, given in weights.items():
        drawn = isinstance(given, tuple)
        array = rng.normal(0, 0.5, given).astype(np.float32) if drawn else np.asarray(given)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.checker.check_model(model)
    return model


def deviation(a: onnx.ModelProto, b: onnx.ModelProto, feed: Mapping[str, Array]) -> float:
    """Largest difference of any output of two models."""
    pairs = zip(session(a).run(None, feed), session(b).run(None, feed), strict=True)
    return max(float(np.abs(x - y).max()) for x, y in pairs)


def widened(
    model: onnx.ModelProto, node: str, feed: Mapping[str, Array], verify: str = "certificate"
) -> onnx.ModelProto:
    """The student for one node: it must run, be equal, and declare no stale shape."""
    student: onnx.ModelProto = n2n.widen(model, node=node, ratio=RATIO, verify=verify)
    onnx.checker.check_model(student, full_check=True)
    assert deviation(model, student, feed) < EQUAL
    return student


def sizes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    return {t.name: tuple(t.dims) for t in model.graph.initializer}


def random(*shape: int) -> Array:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)
