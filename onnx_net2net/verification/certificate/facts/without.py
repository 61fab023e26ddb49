"""Operators that have no fact, and why; their outputs are named by all that goes in."""

from __future__ import annotations

from onnx_net2net.verification.certificate.facts.lines import no_fact


def _contributed(names: str, why: str) -> None:
    no_fact(" ".join(f"com.microsoft.{n}" for n in names.split()), why)


no_fact(
    "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike",
    "it draws random numbers: equal operands do not give equal results",
)
_contributed(
    "BiasDropout BitmaskBiasDropout BitmaskDropout Sampling",
    "it draws random numbers, or may",
)
no_fact(
    "Shape Size Range EyeLike com.microsoft.Range",
    "it is computed from sizes alone, which are folded",
)
no_fact(
    "NonZero Unique NonMaxSuppression com.microsoft.Unique",
    "where its results stand depends on every element",
)
no_fact("CenterCropPad", "how it crops depends on sizes that are odd or even")
no_fact("STFT", "its frames overlap, and lie in an axis of their own")
no_fact("BitCast", "elements of another width change the last axis")
no_fact("MaxUnpool", "its indices are flat and count channels")
no_fact("Optional OptionalGetElement OptionalHasElement", "it holds sequences, or nothing")
no_fact("ImageDecoder", "its results are images of a size that the bytes say")
no_fact("StringNormalizer StringSplit TfIdfVectorizer", "it works on words")
no_fact("BlackmanWindow HammingWindow HannWindow MelWeightMatrix", "it is made of scalars")
no_fact(
    "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    "a loss sums over everything, and is no part of a network that is run",
)
no_fact(
    "LinearAttention com.microsoft.LinearAttention CausalConvWithState "
    "com.microsoft.CausalConvWithState",
    "a state goes from position to position, head by head",
)
_contributed(
    "ConvStateReplay GatedDeltaNet GatedDeltaNetStateReplay Mamba2Verify SpeculativePrefixCommit "
    "VarlenCausalConvWithState AttnLSTM",
    "a state goes from position to position, and its form is not settled",
)
_contributed(
    "QAttention DecoderMaskedMultiHeadAttention DecoderAttention DecoderMaskedSelfAttention "
    "DynamicSparseAttention LongformerAttention PackedAttention PackedMultiHeadAttention "
    "PackedSparseAttentionIndexer PackedSparseAttentionIndexerMerge PagedAttention "
    "QOrderedAttention QOrderedLongformerAttention SparseAttention SparseAttentionIndexer "
    "SparsePagedAttention",
    "its tokens are packed, paged, sparse or quantised, so that heads are not taken apart",
)
_contributed(
    "GemmaRotaryEmbedding MRotaryEmbedding RMSNormRotary RelativePositionBias "
    "GatedRelativePositionBias",
    "positions within a head are turned or weighted in a layout of its own",
)
_contributed(
    "MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight MatMulBnb4 MatMulFpQ4 "
    "MatMulNBitsMlp MatMulNBitsQLoRA MatMulNBitsQkv MatMulPacked GatherPacked GemmFloat8 "
    "QuantizeBFP DequantizeBFP QuantizeWithOrder DequantizeWithOrder QOrderedGelu "
    "QOrderedLayerNormalization QOrderedMatMul",
    "its weights are packed in an order that is not read",
)
_contributed(
    "MoE MoEGroupRouter MoEPacked QMoE RouterGateUpProj",
    "which expert is asked depends on the order of all",
)
_contributed(
    "QEmbedLayerNormalization GatedRMSNorm BranchwiseRMSNorm HyperConnectionPreMix "
    "HyperConnectionPostMix HyperConnectionLowRankMix EngramGate GatedAdd BiasSoftmax",
    "it normalises or mixes axes whose parts follow from several operands",
)
_contributed(
    "ConvTransposeWithDynamicPads FusedMatMulActivation MaxpoolWithMask NhwcConv "
    "NhwcFusedConv NhwcMaxPool UnfoldTensor Rfft Irfft WordConvEmbedding",
    "its window or its product is laid out in a way that is not taken apart",
)
_contributed(
    "QLinearReduceMean QLinearConcat ReduceSumInteger",
    "steps and zero points belong to parts that lie in one axis",
)
_contributed(
    "BeamSearch GreedySearch WhisperBeamSearch BifurcationDetector DynamicTimeWarping "
    "NGramHashMapping VarlenNGramHashMapping NGramRepeatBlock Tokenizer",
    "it searches, step by step, through everything",
)
_contributed("IsAllFinite", "it gives one answer to everything")
_contributed("RemovePadding RestorePadding", "where tokens stand depends on a mask")
_contributed("SparseToDenseMatMul", "its operand is stored sparsely")
_contributed("EPContext SampleOp Snpe", "what it computes is said elsewhere")
