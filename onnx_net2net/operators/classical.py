"""The ai.onnx.ml operators that keep a tensor's shape; their tables belong to the input."""

from __future__ import annotations

from onnx_net2net.operators.rule import rule

rule("ai.onnx.ml.LabelEncoder ai.onnx.ml.CategoryMapper", notation="... -> ...")
rule(
    "ai.onnx.ml.Scaler ai.onnx.ml.Imputer ai.onnx.ml.Normalizer",
    notation="... -> ...",
    roles={".": "across"},
)
rule("ai.onnx.ml.Binarizer", notation="... -> ...")
