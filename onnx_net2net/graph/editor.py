"""Edits of a graph: new names, nodes and constants beside the ones that are there."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from onnx_net2net.typing import Array


def tensor_like(old: TensorProto | None, array: Array, name: str) -> TensorProto:
    """A tensor with a new array that keeps the old one's documentation and metadata."""
    new = onnx.numpy_helper.from_array(array, name)
    if old is not None:
        if old.HasField("doc_string"):
            new.doc_string = old.doc_string
        new.metadata_props.extend(old.metadata_props)
    return new


__all__ = ["tensor_like"]
