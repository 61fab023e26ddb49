"""Cases for com.microsoft's fused forms and the rest of the tables; see `operator_cases`."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.numpy_helper import from_array as to_tensor

from onnx_net2net.operators.table import TABLE
from support.operator_cases import CASES, case
from support.single_node import Operand, c, w, x

_MS = "com.microsoft."
_I: Any = {"low": 0, "high": 3, "dtype": "i8"}
_J: Any = {**_I, "dtype": "i4"}

case("SwiGLU", "ppp ppp > ppp", x(2, 3, 5), x(2, 3, 5, high=3), opset=28, alpha=0.7)
case(_MS + "SwiGLU", "ppp ppp > ppp", x(2, 3, 5), x(2, 3, 5, high=3))
case(_MS + "SwiGLU", "ppp > ppp", x(2, 3, 10))
case(_MS + "ScaledSiLU", "ppp > ppp", x(2, 3, 5), alpha=0.7)
case(_MS + "BiasAdd", "ppp p ppp > ppp", x(2, 3, 5), w(5), x(2, 3, 5, high=3))
case(_MS + "BiasSplitGelu", "ppp p > ppp", x(2, 3, 10), w(10))
case(f"{_MS}ComplexMul {_MS}ComplexMulConj", "pp- pp- > pp-", x(3, 5, 2), x(3, 5, 2, high=3))
case(_MS + "GatedAdd", "ppp ppp pp- > ppp", x(2, 3, 5), x(2, 3, 5, high=3), x(2, 3, 1))
case(_MS + "GatedAdd", "ppp ppp pps s- > ppp", x(2, 3, 5), x(2, 3, 5, high=3), x(2, 3, 4), w(4, 1))
case(_MS + "BiasDropout", "ppp p ppp > ppp", x(2, 3, 5), w(5), x(2, 3, 5, high=3))
case(_MS + "BitmaskBiasDropout", "ppp p ppp > ppp", x(2, 3, 5), w(5), x(2, 3, 5, high=3))
case(_MS + "BitmaskDropout", "ppp > ppp", x(2, 3, 5))
case(_MS + "BitmaskDropout", "", x(2, 3, 5), outputs=2, refuses="bits are packed")
case(_MS + "BiasDropout", "", x(2, 5), w(5), None, c(0.5, dtype="f4"), c(True, dtype="?"),
     refuses="when training")  # fmt: skip

# norms
case(_MS + "SkipLayerNormalization", "ppm ppm m m m > ppm", x(2, 3, 6), x(2, 3, 6, high=3), w(6),
     w(6, high=3), w(6, high=4))  # fmt: skip
case(_MS + "SkipLayerNormalization", "ppm pm m > ppm", x(2, 3, 6), x(3, 6), w(6))
case(f"{_MS}SkipLayerNormalization {_MS}SkipSimplifiedLayerNormalization",
     "ppm ppm m m > ppm", x(2, 3, 6), x(2, 3, 6, high=3), w(6),
     w(6, high=3))  # fmt: skip
case(_MS + "EmbedLayerNormalization", "p- p- -m -m -m m m > p-m p", x(2, 3, **_J), x(2, 3, **_J),
     w(9, 6), w(9, 6), w(4, 6), w(6), w(6), outputs=2)  # fmt: skip
case(_MS + "EmbedLayerNormalization", "pp _ -m -m _ m m _ pp > ppm p ppm", x(2, 3, **_J), None,
     w(9, 6), w(8, 6), None, w(6), w(6), None, x(2, 3, **_J), outputs=3)  # fmt: skip
case(_MS + "GroupNorm", "p--(mp) (mp) (mp) > p--(mp)", x(2, 3, 4, 6), w(6), w(6), groups=3,
     activation=1)  # fmt: skip
case(_MS + "GroupNorm", "p(mp)-- (mp) (mp) > p(mp)--", x(2, 6, 3, 4), w(6), w(6), groups=3,
     activation=0, channels_last=0)  # fmt: skip
case(_MS + "SkipGroupNorm", "p--(mp) (mp) (mp) p--(mp) (mp) > p--(mp) p--(mp)", x(2, 3, 4, 6),
     w(6), w(6), x(2, 3, 4, 6, high=3), w(6), groups=3, activation=1, outputs=2)  # fmt: skip
case(_MS + "SkipGroupNorm", "p--(mp) (mp) (mp) p(mp) > p--(mp)", x(2, 3, 4, 6), w(6), w(6), x(2, 6),
     groups=3, activation=0)  # fmt: skip
case(_MS + "GatedRMSNorm", "pp(mp) m pp(mp) > pp(mp)", x(2, 3, 12), w(4), x(2, 3, 12, high=3))
case(_MS + "BranchwiseRMSNorm", "pppm pm > pppm", x(2, 3, 4, 6), w(4, 6))
case(_MS + "BranchwiseRMSNorm", "pppm (mp) > pppm", x(2, 3, 4, 6), w(24))
case(_MS + "BranchwiseRMSNorm", "pppm m > pppm", x(2, 3, 4, 6), w(6))
case(_MS + "BranchwiseRMSNorm", "pp(mp) (mp) > pp(mp)", x(2, 3, 24), w(24), num_branches=4)
case(_MS + "BranchwiseRMSNorm", "pp(mp) m > pp(mp)", x(2, 3, 24), w(6), num_branches=4)
case(_MS + "HyperConnectionPreMix", "ppsp pps > ppp", x(2, 3, 4, 6), x(2, 3, 4))
case(_MS + "HyperConnectionPreMix", "ppsp ppsp > ppp", x(2, 3, 4, 6), x(2, 3, 4, 6, high=3))
case(_MS + "HyperConnectionPreMix", "ppsp pps- > ppp", x(2, 3, 4, 6), x(2, 3, 4, 1))
case(_MS + "HyperConnectionPreMix", "", x(2, 3, 24), x(2, 3, 4), num_branches=4,
     refuses="end to end")  # fmt: skip
case(_MS + "HyperConnectionPostMix", "pppp ppp ppp > pppp", x(2, 3, 4, 6), x(2, 3, 6), x(2, 3, 4))
case(_MS + "HyperConnectionPostMix", "pp-p ppp pp- pp-- > pp-p", x(2, 3, 4, 6), x(2, 3, 6),
     x(2, 3, 4), x(2, 3, 4, 4))  # fmt: skip
case(_MS + "HyperConnectionPostMix", "", x(2, 3, 24), x(2, 3, 6), x(2, 3, 4), num_branches=4,
     refuses="end to end")  # fmt: skip
case(_MS + "EngramGate", "ppp- ppp- pp- p- p- > ppp-", x(2, 3, 4, 6), x(2, 3, 4, 6, high=3),
     x(2, 3, 6), w(4, 6), w(4, 6, high=3))  # fmt: skip

# products
case(_MS + "TransposeMatMul", "psp sp > ppp", x(3, 6, 2), w(6, 4), transA=1)
case(_MS + "FusedMatMulActivation", "pps psp > ppp", x(3, 2, 6), x(3, 6, 4), activation="Relu")
case(_MS + "GemmFastGelu", "pps sp p > ppp", x(2, 3, 6), w(6, 4), w(4))
case(_MS + "ConvTransposeWithDynamicPads", "ps-- sp-- - p > pp--", x(2, 6, 5, 5), w(6, 4, 3, 3),
     c([0, 0, 0, 0]), w(4), strides=[2, 2])  # fmt: skip
_GRID = x(2, 18, 3, 3)
case("DeformConv", "ps-- ps-- p--- p p--- > pp--", x(2, 6, 5, 5), w(4, 6, 3, 3), _GRID, w(4),
     x(2, 9, 3, 3, low=0, high=1), opset=19)  # fmt: skip
case("DeformConv", "p(ps)-- ps-- p--- p > pp--", x(2, 6, 5, 5), w(4, 3, 3, 3), _GRID, w(4),
     opset=19, group=2)  # fmt: skip
case("DeformConv", "ps-- ps-- p--- > pp--", x(2, 6, 5, 5), w(4, 6, 3, 3), x(2, 36, 3, 3), opset=22,
     offset_group=2)  # fmt: skip
case("DeformConv", "", x(2, 6, 5, 5), w(4, 3, 3, 3), x(2, 36, 3, 3), opset=22, offset_group=2,
     group=2, refuses="groups of offsets")  # fmt: skip


# blocks and experts
def _bytes(*shape: int) -> Operand:
    return w(*shape, low=0, high=255, dtype="u1")


_NB: Any = {"K": 96, "N": 8, "block_size": 32, "bits": 4}
case(_MS + "MatMulNBits", "ppp pp- pp > ppp", x(2, 3, 96), _bytes(8, 3, 16), w(8, 3), **_NB)
case(_MS + "MatMulNBits", "pp pp- pp _ _ p > pp", x(3, 96), _bytes(8, 3, 16), w(8, 3), None, None,
     w(8), **_NB)  # fmt: skip
case(_MS + "MatMulNBits", "p- p-- p- p- > pp", x(3, 96), _bytes(8, 3, 16), w(8, 3), _bytes(8, 2),
     **_NB)  # fmt: skip
case(_MS + "MatMulNBits", "p- p-- p p > pp", x(3, 96), _bytes(8, 3, 16), w(24), _bytes(16), **_NB)
case(_MS + "MatMulNBits", "pp pp- pp pp > pp", x(3, 96), _bytes(8, 3, 16), w(8, 3), w(8, 3), **_NB)
case(_MS + "MatMulNBits", "p- p-- p- > pp", x(3, 80), _bytes(8, 3, 16), w(8, 3), **{**_NB, "K": 80})
case(_MS + "MatMulNBits", "pp pp- pp pp > pp", x(3, 96), _bytes(8, 3, 32), w(8, 3), _bytes(8, 3),
     **{**_NB, "bits": 8})  # fmt: skip
case(_MS + "MatMulNBits", "", x(3, 96), _bytes(8, 3, 16), w(8, 3), weight_prepacked=1, **_NB,
     refuses="one device")  # fmt: skip
case(_MS + "GatherBlockQuantized", "-p pp -p > ppp", _bytes(9, 48), x(2, 3, **_I), w(9, 3), bits=4,
     block_size=32)  # fmt: skip
case(_MS + "GatherBlockQuantized", "-- pp -- -- > pp-", _bytes(9, 48), x(2, 3, **_I), w(9, 3),
     _bytes(9, 2), bits=4, block_size=32)  # fmt: skip
_E: Any = {"k": 2}
case(_MS + "MoE", "-p -- -pp -p -pp -p > -p", x(5, 6), x(5, 4), w(4, 8, 6), w(4, 8), w(4, 6, 8),
     w(4, 6), **_E)  # fmt: skip
case(_MS + "MoE", "--p -- -pp _ -pp > --p", x(1, 5, 6), x(5, 4), w(4, 8, 6), None, w(4, 6, 8),
     activation_type="silu", **_E)  # fmt: skip
case(_MS + "MoE", "-p -- -pp -p -pp -p > -p", x(5, 6), x(5, 4), w(4, 16, 6), w(4, 16), w(4, 6, 8),
     w(4, 6), activation_type="swiglu", swiglu_fusion=1, **_E)  # fmt: skip

# ai.onnx: sound, losses, bits
case("BitCast", "ppp > ppp", x(2, 3, 5), opset=26, to=6)
case("BlackmanWindow HammingWindow HannWindow", ". > -", c(8), opset=17)
case("MelWeightMatrix", ". . . . . > --", c(8), c(16), c(8000), c(20.0, dtype="f4"),
     c(4000.0, dtype="f4"), opset=17)  # fmt: skip
case("AffineGrid", "--- - > ----", x(2, 2, 3), c([2, 3, 4, 5]), opset=20)
case("MaxUnpool", "", x(1, 1, 2, 2), c([[[[5, 7], [13, 15]]]]), kernel_shape=[2, 2],
     strides=[2, 2], refuses="flat")  # fmt: skip
_TARGET = x(2, 4, low=0, high=2, dtype="i8")
case("NegativeLogLikelihoodLoss", "p-- p- - > p-", x(2, 3, 4), _TARGET, w(3, low=0.5),
     reduction="none")  # fmt: skip
case("NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss", "--- -- > .", x(2, 3, 4), _TARGET)
case("SoftmaxCrossEntropyLoss", "p-- p- > p- p--", x(2, 3, 4), _TARGET, outputs=2,
     reduction="none")  # fmt: skip
_TEXT = Operand(np.array([["a b", "c"], ["d", "e f g"]], object))
case("StringConcat", "pp p > pp", _TEXT, Operand(np.array(["x", "y"], object)), opset=20)
case("RegexFullMatch", "pp > pp", _TEXT, opset=20, pattern="[a-d]")
case("StringSplit", "pp > pp- pp", _TEXT, opset=20, outputs=2)
case("StringNormalizer", "- > -", Operand(np.array(["a", "b"], object)), opset=10,
     case_change_action="UPPER", locale="C")  # fmt: skip
case("TfIdfVectorizer", "p- > p-", x(2, 5, low=0, high=3, dtype="i8"), mode="TF", min_gram_length=1,
     max_gram_length=1, max_skip_count=0, ngram_counts=[0], ngram_indexes=[0, 1, 2],
     pool_int64s=[0, 1, 2])  # fmt: skip

# com.microsoft's twins
case(_MS + "GridSample", "pp-- p--- > pp--", x(2, 3, 6, 6), x(2, 4, 5, 2, low=-1, high=1))
case(_MS + "CropAndResize", "-p-- p- p - > pp--", x(2, 3, 6, 6), w(4, 4, low=0, high=1),
     c([0, 1, 0, 1], dtype="i4"), c([3, 3], dtype="i4"))  # fmt: skip
case(_MS + "NhwcMaxPool", "p--p > p--p", x(2, 6, 6, 3, low=0, high=99, dtype="u1"),
     kernel_shape=[2, 2])  # fmt: skip
case(_MS + "GatherND", "--p p- > pp", x(2, 2, 5), c([[0, 1], [1, 1], [0, 0]]))
case(_MS + "Trilu", "p-- > p--", x(2, 4, 4))
case(_MS + "Range", ". . . > -", c(1), c(9), c(2))
case(_MS + "Unique", "- > - - -", x(5), outputs=3)
case(_MS + "MurmurHash3", "pp > pp", x(2, 5, **_J))
case(_MS + "Inverse", "p-- > p--", x(2, 3, 3))
case(_MS + "CDist", "p- p- > pp", x(4, 3), x(5, 3), metric="sqeuclidean")
case(_MS + "TorchEmbedding", "-p pp > ppp", w(9, 6), x(2, 3, **_I))
case(_MS + "UnfoldTensor", "pp- > pp--", x(2, 3, 6), dim=-1, size=2, step=2)

# ai.onnx.ml
case("ai.onnx.ml.ArrayFeatureExtractor", "p- - > p-", x(2, 5), c([0, 3]))
case("ai.onnx.ml.OneHotEncoder", "pp > pp-", x(2, 5, **_I), cats_int64s=[0, 1, 2, 3])
case("ai.onnx.ml.LinearRegressor", "p- > p-", x(3, 2), coefficients=[1.0, 2.0], intercepts=[0.5])
case("ai.onnx.ml.LinearClassifier", "p- > p p-", x(3, 2), coefficients=[1.0, 2.0, -1.0, 0.5],
     intercepts=[0.5, 0.1], classlabels_ints=[0, 1], outputs=2)  # fmt: skip
_TREE: Any = {
    "nodes_falsenodeids": [2, 0, 0], "nodes_truenodeids": [1, 0, 0], "nodes_featureids": [0, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_nodeids": [0, 1, 2],
    "nodes_treeids": [0, 0, 0], "nodes_values": [0.1, 0.0, 0.0],
}  # fmt: skip
case("ai.onnx.ml.TreeEnsembleRegressor", "p- > p-", x(3, 2), **_TREE, n_targets=1,
     target_ids=[0, 0], target_nodeids=[1, 2], target_treeids=[0, 0],
     target_weights=[1.0, 2.0])  # fmt: skip
case("ai.onnx.ml.TreeEnsembleClassifier", "p- > p p-", x(3, 2), **_TREE, class_ids=[0, 1],
     class_nodeids=[1, 2], class_treeids=[0, 0], class_weights=[1.0, 1.0],
     classlabels_int64s=[0, 1], outputs=2)  # fmt: skip
case("ai.onnx.ml.SVMRegressor", "p- > p-", x(3, 2), coefficients=[1.0, -1.0], rho=[0.1],
     kernel_params=[0.5, 0.0, 0.0], kernel_type="LINEAR", n_supports=1,
     support_vectors=[1.0, 2.0])  # fmt: skip
case("ai.onnx.ml.SVMClassifier", "p- > p p-", x(3, 2), coefficients=[1.0, -1.0], rho=[0.1],
     kernel_params=[0.5, 0.0, 0.0], kernel_type="LINEAR", support_vectors=[1.0, 2.0, 0.5, 1.0],
     vectors_per_class=[1, 1], classlabels_ints=[0, 1], outputs=2)  # fmt: skip
case("ai.onnx.ml.TreeEnsemble", "p- > p-", x(3, 2), tree_roots=[0], nodes_featureids=[0],
     nodes_modes=to_tensor(np.array([0], "u1")), nodes_splits=to_tensor(np.array([0.1], "f4")),
     nodes_truenodeids=[0], nodes_trueleafs=[1], nodes_falsenodeids=[1], nodes_falseleafs=[1],
     leaf_targetids=[0, 0], leaf_weights=to_tensor(np.array([1, 2], "f4")),
     n_targets=1)  # fmt: skip
_BITMAP = b"BM:\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\1\0\0\0\1\0\0\0\1\0\x18\0" + bytes(24) + b"abc\0"
case("ImageDecoder", "- > ---", Operand(np.frombuffer(_BITMAP, np.uint8)), opset=20)


def _blocks_everything(op: str) -> bool:
    return "blocked" in getattr(TABLE[op].notation, "__qualname__", "")


for _op in sorted(TABLE):
    if _blocks_everything(_op) and _op not in CASES:
        case(_op, "", x(2, 3), refuses=_op.rpartition(".")[2])
