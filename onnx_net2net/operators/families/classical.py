"""The ai.onnx.ml operators that keep a tensor's shape; their tables belong to the input."""

from __future__ import annotations

from onnx_net2net.operators.spec import blocked, rule

rule("ai.onnx.ml.LabelEncoder ai.onnx.ml.CategoryMapper", notation="... -> ...")
rule(
    "ai.onnx.ml.Scaler ai.onnx.ml.Imputer ai.onnx.ml.Normalizer",
    notation="... -> ...",
    roles={".": "across"},
)
rule("ai.onnx.ml.Binarizer", notation="... -> ...")
rule("ai.onnx.ml.OneHotEncoder", notation="... -> ... x", roles={"x": "across"})
rule(
    "ai.onnx.ml.ArrayFeatureExtractor",
    notation="... x, ~ -> ... y",
    roles=dict.fromkeys("xy", "across"),
)
rule(
    "ai.onnx.ml.LinearRegressor ai.onnx.ml.SVMRegressor ai.onnx.ml.TreeEnsembleRegressor "
    "ai.onnx.ml.TreeEnsemble",
    notation="n x -> n y",
    roles=dict.fromkeys("xy", "across"),
)
rule(
    "ai.onnx.ml.LinearClassifier ai.onnx.ml.SVMClassifier ai.onnx.ml.TreeEnsembleClassifier",
    notation="n x -> n, n y",
    roles=dict.fromkeys("xy", "across"),
)
rule(
    "ai.onnx.ml.CastMap ai.onnx.ml.DictVectorizer ai.onnx.ml.FeatureVectorizer ai.onnx.ml.ZipMap",
    notation=blocked("makes or reads tables by name"),
)
