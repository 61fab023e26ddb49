"""Cases for attention and what comes with it; see `operator_cases`."""

from __future__ import annotations

from typing import Any

from support.operator_cases import case
from support.single_node import c, w, x

_Q, _K, _V = x(2, 4, 3, 6), x(2, 4, 5, 6), x(2, 4, 5, 8)
case("Attention", "ppps pp-s pp-p > pppp", _Q, _K, _V, opset=23)
case("Attention", "ppps pp-s pp-p -pp- > pppp", _Q, _K, _V, x(1, 4, 3, 5), opset=23)
case("Attention", "ppps pp-s pp-p p- > pppp", _Q, _K, _V, x(3, 5), opset=23, scale=0.3)
case("Attention", "pp-s pp-s pp-p > pp-p", _Q, x(2, 4, 3, 6), x(2, 4, 3, 8), opset=24, is_causal=1)
case("Attention", "ppps pp-s pp-p > pppp", _Q, x(2, 2, 5, 6), x(2, 2, 5, 8), opset=23)
case("Attention", "pp(ps) p-(ps) p-p > ppp", x(2, 3, 24), x(2, 5, 24), x(2, 5, 32), opset=23,
     q_num_heads=4, kv_num_heads=4)  # fmt: skip
case("Attention", "pp(ps) p-(ps) p-p > ppp", x(2, 3, 24), x(2, 5, 12), x(2, 5, 16), opset=23,
     q_num_heads=4, kv_num_heads=2, softcap=2.0)  # fmt: skip
case("Attention", "ppp- pp-- pp-p _ pp-- pp-p > pppp pp-- pp-p", _Q, _K, _V, None, x(2, 4, 2, 6),
     x(2, 4, 2, 8), opset=23, outputs=3)  # fmt: skip

_MHA: Any = {"num_heads": 4}
_MS = "com.microsoft."
_MQ, _MK, _MV = x(2, 3, 24), x(2, 5, 24), x(2, 5, 32)
case(_MS + "MultiHeadAttention", "pp(ps) p-(ps) p-p > ppp", _MQ, _MK, _MV, **_MHA)
case(_MS + "MultiHeadAttention", "p-(ps) p-(ps) p-p > p-p", _MQ, x(2, 3, 24), x(2, 3, 32), **_MHA,
     unidirectional=1, scale=0.2)  # fmt: skip
case(_MS + "MultiHeadAttention", "ppp p-p p-p p > ppp", _MQ, _MK, _MV, w(80), **_MHA)
case(_MS + "MultiHeadAttention", "pp(ps) p-(ps) p-p _ p- -pp- > ppp", _MQ, _MK, _MV, None,
     c([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], dtype="i4"), x(1, 4, 3, 5), **_MHA)  # fmt: skip
case(_MS + "MultiHeadAttention", "ppp pp-- pp-- > ppp", _MQ, x(2, 4, 5, 6), x(2, 4, 5, 6), **_MHA)
case(_MS + "MultiHeadAttention", "ppp p-p p-p _ _ _ pp-- pp-- > ppp pp-- pp--", _MQ, x(2, 3, 24),
     x(2, 3, 24), None, None, None, x(2, 4, 2, 6), x(2, 4, 2, 6), outputs=3, **_MHA)  # fmt: skip
case(_MS + "MultiHeadAttention", "", x(2, 3, 4, 3, 6), refuses="packed in one", **_MHA)

_GQA: Any = {"num_heads": 4, "kv_num_heads": 2}
_LENGTHS = (c([2, 2], dtype="i4"), c(3, dtype="i4"))
case(_MS + "GroupQueryAttention", "p-p p-p p-p _ _ p . > p-p pp-- pp--", x(2, 3, 64),
     x(2, 3, 32), x(2, 3, 32), None, None, *_LENGTHS, outputs=3, **_GQA)  # fmt: skip
case(_MS + "GroupQueryAttention", "p-p _ _ _ _ p . -- -- > p-p pp-- pp--", x(2, 3, 128),
     None, None, None, None, *_LENGTHS, w(8, 8), w(8, 8), outputs=3, do_rotary=1,
     **_GQA)  # fmt: skip

_ATT = "com.microsoft.Attention"
case(_ATT, "p-s sp p > p-p", x(2, 3, 5), w(5, 72), w(72), **_MHA)
case(_ATT, "p-s sp p p- > p-p", x(2, 3, 5), w(5, 80), w(80), c([[1, 1, 0], [1, 1, 1]], dtype="i4"),
     qkv_hidden_sizes=[24, 24, 32], **_MHA)  # fmt: skip
case(_ATT, "p-s sp p > p-p", x(2, 3, 5), w(5, 72), w(72), unidirectional=1, **_MHA)
case(_ATT, "--s sp p - > --p", x(2, 3, 5), w(5, 72), w(72), c([3, 2], dtype="i4"), **_MHA)
case(_ATT, "p-s sp p _ -pp-- > p-p -pp--", x(2, 3, 5), w(5, 72), w(72), None, x(2, 2, 4, 2, 6),
     outputs=2, **_MHA)  # fmt: skip

_ROPE = (w(20, 3), w(20, 3))
_POSITIONS = c([[0, 1, 2, 3, 4], [2, 3, 4, 5, 6]])
case("RotaryEmbedding", "pppp -p -p pp > pppp", x(2, 4, 5, 6), *_ROPE, _POSITIONS, opset=23)
case("RotaryEmbedding", "pppp -p -p pp > pppp", x(2, 4, 5, 6), *_ROPE, _POSITIONS, opset=23,
     interleaved=1)  # fmt: skip
case("RotaryEmbedding", "ppp -p -p pp > ppp", x(2, 5, 24), *_ROPE, _POSITIONS, opset=23,
     num_heads=4)  # fmt: skip
case("RotaryEmbedding", "pppp ppp ppp > pppp", x(2, 4, 5, 6), w(2, 5, 3), w(2, 5, 3), opset=23)
case("RotaryEmbedding", "ppp- -- -- pp > ppp-", x(2, 4, 5, 8), *_ROPE, _POSITIONS, opset=23,
     rotary_embedding_dim=6)  # fmt: skip
case("RotaryEmbedding", "ppp -- -- pp > ppp", x(2, 5, 32), *_ROPE, _POSITIONS, opset=23,
     rotary_embedding_dim=6, num_heads=4)  # fmt: skip
case("RotaryEmbedding", "ppp -p -p pp > ppp", x(2, 5, 24), *_ROPE, _POSITIONS, opset=23,
     num_heads=4, rotary_embedding_dim=6)  # fmt: skip
_MS_ROPE = (w(20, 4), w(20, 4))
case(_MS + "RotaryEmbedding", "ppp pp -p -p > ppp", x(2, 5, 24), _POSITIONS, *_ROPE)
case(_MS + "RotaryEmbedding", "pppp pp -p -p > pppp", x(2, 4, 5, 8), _POSITIONS, *_MS_ROPE,
     interleaved=1)  # fmt: skip
case(_MS + "RotaryEmbedding", "p-p - -p -p > p-p", x(2, 5, 32), c([1]), *_MS_ROPE)
case(_MS + "RotaryEmbedding", "ppp pp -- -- > ppp", x(2, 5, 48), _POSITIONS, *_MS_ROPE,
     num_heads=4, rotary_embedding_dim=8)  # fmt: skip

_LINEAR: Any = {"q_num_heads": 4, "kv_num_heads": 2, "outputs": 2}
_LQ, _LK, _LV = x(2, 3, 24), x(2, 3, 12), x(2, 3, 16)
case("LinearAttention", "p-p p-p p-p > p-p pp-p", _LQ, _LK, _LV, opset=27,
     update_rule="linear", **_LINEAR)  # fmt: skip
case("LinearAttention", "p-p p-p p-p pp-p p-p p-p > p-p pp-p", _LQ, _LK, _LV,
     x(2, 2, 6, 8), x(2, 3, 2, high=0), x(2, 3, 2, low=0, high=1), opset=27, **_LINEAR)  # fmt: skip
case(_MS + "LinearAttention", "p-p p-p p-p pp-p p-p p-p > p-p pp-p", _LQ, _LK, _LV,
     x(2, 2, 6, 8), x(2, 3, 12, high=0), x(2, 3, 2, low=0, high=1), **_LINEAR)  # fmt: skip
case(_MS + "LinearAttention", "", _LQ, _LK, _LV, x(1, 2, 2, 6, 8), state_window=1,
     refuses="window of states", **_LINEAR)  # fmt: skip

case("CausalConvWithState", "pp- p-- p pp- > pp- pp-", x(2, 6, 5), w(6, 1, 3), w(6), x(2, 6, 2),
     opset=27, outputs=2, activation="silu")  # fmt: skip
case("CausalConvWithState", "pp- p-- > pp- pp-", x(2, 6, 5), w(6, 1, 3), opset=27, outputs=2)
case(_MS + "CausalConvWithState", "pp- p-- p pp- > pp- pp-", x(2, 6, 5), w(6, 1, 3), w(6),
     x(2, 6, 2), outputs=2)  # fmt: skip
case(_MS + "CausalConvWithState", "", x(2, 5, 6), w(6, 1, 3), outputs=2, channels_last=1,
     refuses="another order")  # fmt: skip
case(_MS + "RelativePositionBias", "-p . . > -p--", w(8, 4), c(5), c(5), max_distance=16)

case("TensorScatter", "pp-p pp-p > pp-p", x(2, 3, 6, 4), x(2, 3, 2, 4), opset=24)
case("TensorScatter", "p-p p-p p > p-p", x(2, 6, 4), x(2, 2, 4), c([1, 3]), opset=24, axis=1,
     mode="circular")  # fmt: skip

_ONE: Any = {"num_heads": 4}
case(_MS + "DecoderMaskedMultiHeadAttention", "p-p pp-- pp-- > p-p", x(2, 1, 24), x(2, 4, 5, 6),
     x(2, 4, 5, 6), **_ONE)  # fmt: skip
case(_MS + "DecoderMaskedMultiHeadAttention", "", x(2, 1, 72), refuses="packed in one", **_ONE)
