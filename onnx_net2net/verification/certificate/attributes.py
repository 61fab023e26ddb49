"""Attributes as plain values that name what they hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from onnx_net2net.files.source import Source
from onnx_net2net.verification.certificate.names import digest


def plain(proto: onnx.NodeProto, source: Source, stored: Callable[[Any], int]) -> dict[str, Any]:
    """Attribute name -> a plain value; tensors by what they hold.

    Args:
        stored: a name for a message.
    """
    found: dict[str, Any] = {}
    for a in proto.attribute:
        if a.type == onnx.AttributeProto.TENSOR:
            found[a.name] = _held(a.t, source)
        elif a.type == onnx.AttributeProto.TENSORS:
            found[a.name] = [_held(t, source) for t in a.tensors]
        elif a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            found[a.name] = stored(a)
        else:
            value = onnx.helper.get_attribute_value(a)
            listed = hasattr(value, "__len__") and not isinstance(value, (str, bytes))
            found[a.name] = list(value) if listed else value
            if hasattr(value, "SerializeToString"):
                found[a.name] = value.SerializeToString(deterministic=True)
    return found


def _held(tensor: onnx.TensorProto, source: Source) -> Any:
    if tensor.data_type == onnx.TensorProto.STRING:
        return list(tensor.string_data)
    return digest(np.asarray(source.array(tensor)))
