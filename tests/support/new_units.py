"""Students with new units of every kind."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import numpy_helper

import onnx_net2net as n2n
from onnx_net2net.growth.widen.shares import SPLITS
from onnx_net2net.typing import Array
from support.same_function import MODELS

EXACT: list[dict[str, Any]] = [{"split": s} for s in SPLITS]
EXACT += [{"init": i} for i in ("fresh", "twin")]
DIGITS = str(MODELS / "digits_cnn.onnx")


def names(how: dict[str, Any]) -> str:
    return "-".join(str(v) for v in how.values()) or "default"


def student(model: Any, node: str, **how: Any) -> onnx.ModelProto:
    size: dict[str, Any] = {} if "width" in how else {"ratio": 1.5}
    made = n2n.widen(model, node=node, verify="off", **{**size, **how})
    assert isinstance(made, onnx.ModelProto)
    return made


def all_spaces(name: str) -> list[str]:
    return [s.name for s in n2n.inspect(MODELS / f"{name}.onnx").spaces]


def arrays(model: onnx.ModelProto) -> dict[str, Array]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
