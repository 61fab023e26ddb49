"""Strings, sound, losses, tables of a window's values: what is left of ai.onnx."""

from __future__ import annotations

from onnx_net2net.operators.spec import Site, blocked, rule

_ACROSS = dict.fromkeys("wxyz", "across")

rule("RegexFullMatch", notation="... -> ...")
rule("StringConcat", notation="..., ... -> ...")
rule("StringSplit", notation="... -> ... x, ...", roles=_ACROSS)
rule("StringNormalizer", notation="x y -> z w", roles=_ACROSS)
rule("TfIdfVectorizer", notation="n x -> n y", roles=_ACROSS)
rule("ImageDecoder", notation="x -> y z w", roles=_ACROSS)
rule("BlackmanWindow HammingWindow HannWindow", notation="~ -> x", roles=_ACROSS)
rule("MelWeightMatrix", notation="~ -> x y", roles=_ACROSS)
rule("AffineGrid", notation="w x y, ~ -> w *", roles=_ACROSS)
rule("BitCast", notation="... -> ...", zero=(), partial=(0,))


def _loss(site: Site) -> str:
    """Classes are worked across; without a reduction the samples pass."""
    n = "n" if site.attr("reduction", "mean") == "none" else "y"
    result = "n *" if n == "n" else ""
    return f"{n} x *, {n} *, x -> {result}, {n} x *"


rule("NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss", notation=_loss, roles=_ACROSS)
rule(
    "com.microsoft.AttnLSTM com.microsoft.BeamSearch com.microsoft.BifurcationDetector "
    "com.microsoft.DynamicTimeWarping com.microsoft.EPContext com.microsoft.ExpandDims "
    "com.microsoft.GreedySearch com.microsoft.IsAllFinite com.microsoft.NGramHashMapping "
    "com.microsoft.NGramRepeatBlock com.microsoft.SampleOp com.microsoft.Sampling "
    "com.microsoft.Snpe com.microsoft.SparseToDenseMatMul com.microsoft.SpeculativePrefixCommit "
    "com.microsoft.Tokenizer com.microsoft.VarlenNGramHashMapping "
    "com.microsoft.WhisperBeamSearch com.microsoft.WordConvEmbedding",
    notation=blocked("reads its operands as a whole"),
)
rule(
    "com.microsoft.QuantizeBFP com.microsoft.DequantizeBFP com.microsoft.QuantizeWithOrder "
    "com.microsoft.DequantizeWithOrder com.microsoft.QOrderedGelu "
    "com.microsoft.QOrderedLayerNormalization com.microsoft.QOrderedMatMul "
    "com.microsoft.RemovePadding com.microsoft.RestorePadding com.microsoft.NhwcConv "
    "com.microsoft.NhwcFusedConv com.microsoft.MaxpoolWithMask com.microsoft.Rfft "
    "com.microsoft.Irfft",
    notation=blocked("keeps its data in a layout that this row does not describe"),
)
rule("com.microsoft.MurmurHash3", notation="... -> ...")
rule("com.microsoft.Inverse", notation="... x y -> ... x y", roles=_ACROSS)
rule("com.microsoft.CDist", notation="m k, n k -> m n", roles={"k": "across"})
rule("com.microsoft.TorchEmbedding", notation="x c, ..., ~, ~ -> ... c", roles=_ACROSS, zero=(0,))


def _unfolded(site: Site) -> str:
    rank = site.rank(0)
    axis = int(site.attr("dim", -1)) % rank
    before = " ".join(f"{'x' if k == axis else 'a'}{k}" for k in range(rank))
    after = " ".join("y" if k == axis else f"a{k}" for k in range(rank))
    return f"{before} -> {after} z"


rule("com.microsoft.UnfoldTensor", notation=_unfolded, roles=_ACROSS)
