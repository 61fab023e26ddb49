"""Shares add up bit for bit; everything random is the same on every machine."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_net2net.growth.random_weights import drawn, jittered, noise, spread
from onnx_net2net.growth.widen.shares import SPLITS, divided, integer_shares, shares
from onnx_net2net.growth.widen.units import Row, Units
from onnx_net2net.keyed_random import below, permutation, words  # fmt: skip
from onnx_net2net.typing import Array

DTYPES: dict[str, Any] = {
    "float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32,
    "float64": np.float64,
}  # fmt: skip
EPSILON = {"float16": 2**-10, "bfloat16": 2**-7, "float32": 2**-23, "float64": 2**-52}
BITS: dict[str, Any] = {
    "float16": np.uint16,
    "bfloat16": np.uint16,
    "float32": np.uint32,
    "float64": np.uint64,
}
COPIES = [1, 2, 3, 4, 5, 6, 7, 40]


def special(dtype: str) -> Array:
    """Every kind of finite number: zeros, subnormals, the largest, neighbours of powers of two."""
    info = ml_dtypes.finfo(DTYPES[dtype])  # type: ignore[no-untyped-call]
    tiny, least, most = float(info.tiny), float(info.smallest_subnormal), float(info.max)
    one = [1.0, -1.0, 1 + float(info.eps), 1 - float(info.eps) / 2, 3.0, -7.0, 0.1, -1e-3]
    edges = [0.0, -0.0, least, -least, 3 * least, 5 * least, tiny, -tiny, 1.5 * tiny, most, -most]
    numbers = np.array([*one, *edges], np.float64)
    drawn = np.random.default_rng(0).standard_normal(64)
    return np.concatenate([numbers, drawn]).astype(DTYPES[dtype])


def exact(values: Array) -> list[Fraction]:
    """Sums over the first axis, without rounding."""
    return [sum((Fraction(float(v)) for v in column), Fraction(0)) for column in values.T]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", SPLITS)
@pytest.mark.parametrize("copies", COPIES)
def test_shares_add_up(dtype: str, how: str, copies: int) -> None:
    w = special(dtype)
    parts = shares(w, copies, how, 0)
    assert parts.shape == (copies, *w.shape)
    assert parts.dtype == w.dtype
    assert np.isfinite(parts.astype(np.float64)).all()
    assert exact(parts) == [Fraction(float(v)) for v in w]


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(DTYPES)), st.integers(1, 40), st.sampled_from(SPLITS),
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8), st.integers(0, 9),
)  # fmt: skip
def test_shares_of_any_bits_add_up(
    dtype: str, copies: int, how: str, bits: list[int], seed: int
) -> None:
    kind = BITS[dtype]
    raw = np.array([b & (2 ** (8 * np.dtype(kind).itemsize) - 1) for b in bits], np.uint64)
    w = raw.astype(kind).view(DTYPES[dtype])
    w = w[np.isfinite(w.astype(np.float64))]
    assert exact(shares(w, copies, how, seed)) == [Fraction(float(v)) for v in w]


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_number_stays_with_the_first_copy(dtype: str) -> None:
    w = np.array([np.inf, -np.inf, np.nan, 1.0], DTYPES[dtype])
    parts = shares(w, 3, "zero-sum", 0).astype(np.float64)
    np.testing.assert_array_equal(parts[0, :3], w[:3].astype(np.float64))
    assert not parts[1:, :3].any()
    assert parts[:, 3].sum() == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_sum_copies_differ_and_even_ones_do_not(dtype: str) -> None:
    w = np.random.default_rng(1).standard_normal((32, 16)).astype(DTYPES[dtype])
    even = shares(w, 2, "even", 0).astype(np.float64)
    drawn = shares(w, 2, "zero-sum", 0).astype(np.float64)
    step = EPSILON[dtype] * np.abs(w.astype(np.float64))
    assert (np.abs(even[0] - even[1]) <= step).all()
    assert (np.abs(drawn[0] - drawn[1]) > step).mean() > 0.97
    apart = np.abs(drawn - even).mean() / np.abs(w.astype(np.float64)).mean()
    assert 0.2 < apart < 0.6  # half the weights' size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("copies", [2, 4, 8])
def test_even_shares_are_equal_where_the_weight_can_be_halved(dtype: str, copies: int) -> None:
    w = np.random.default_rng(1).uniform(0.1, 1, (32, 16)).astype(DTYPES[dtype])
    even = shares(w, copies, "even", 0).astype(np.float64)
    np.testing.assert_array_equal(even, np.broadcast_to(w.astype(np.float64) / copies, even.shape))


def test_noise_differs_from_entry_to_entry() -> None:
    w = np.full((8, 8), 0.5, np.float32)
    ratio = shares(w, 2, "zero-sum", 0)[0] / w
    assert len(np.unique(ratio)) == ratio.size
    assert ratio.min() < 0.2
    assert ratio.max() > 0.8


def test_weights_that_are_all_zero_get_no_noise() -> None:
    assert not shares(np.zeros((4, 4), np.float32), 3, "zero-sum", 0).any()


def test_zeros_among_weights_get_noise() -> None:
    w = np.array([0.0, 0.5, -0.25, 0.7], np.float32)
    assert shares(w, 2, "zero-sum", 0)[0, 0] != 0


def test_one_hot_gives_all_to_the_first() -> None:
    w = special("float32")
    parts = shares(w, 4, "one-hot", 0)
    np.testing.assert_array_equal(parts[0], w)
    assert not parts[1:].any()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
@pytest.mark.parametrize("how", SPLITS)
@pytest.mark.parametrize("copies", COPIES)
def test_integer_shares_add_up_above_the_zero_point(dtype: str, how: str, copies: int) -> None:
    info = np.iinfo(dtype)
    most, least = min(info.max, 300), max(info.min, -300)
    w = np.arange(least, most + 1).astype(dtype)
    w = np.concatenate([w, np.array([info.min, info.max], dtype)])
    for zero in {0, info.min, info.max, 10, (info.min + info.max) // 2}:
        parts = integer_shares(w, copies, how, zero, 0).astype(object) - zero
        np.testing.assert_array_equal(parts.sum(0), w.astype(object) - zero)


def test_divided() -> None:
    w = np.random.default_rng(2).standard_normal((3, 4, 2)).astype(np.float32)
    source = np.array([0, 1, 2, 3, 1, 1, 3])
    out = divided(w, source, 1, "zero-sum", None, 0, "key")
    for of in range(4):
        total = out[:, source == of].astype(np.float64).sum(1)
        np.testing.assert_array_equal(total, w[:, of])
    np.testing.assert_array_equal(out[:, [0, 2]], w[:, [0, 2]])
    assert not np.array_equal(out[:, 4], out[:, 5])


def test_divided_leaves_out_what_takes_no_part() -> None:
    w = np.random.default_rng(3).standard_normal((4, 2)).astype(np.float32)
    source = np.array([0, 1, 2, 3, 1, 2])
    live = np.array([True] * 4 + [False, True])
    out = divided(w, source, 0, "even", live, 0, "key")
    assert not out[4].any()
    np.testing.assert_array_equal(out[1], w[1])
    np.testing.assert_array_equal((out[2] + out[5]).astype(np.float64), w[2])


def test_divided_integers_stand_at_their_zero_point() -> None:
    w = np.array([[200, 5]], np.uint8)
    live = np.array([True, False, True])
    out = divided(w.T, np.array([0, 1, 1]), 0, "even", live, 128, "key")
    assert out.T.tolist() == [[200, 128, 5]]


def sha(array: Array) -> str:
    """A digest that a change of a single bit changes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]


W = (np.arange(1, 25).reshape(4, 6) / 7).astype(np.float32)
GOLDEN = {
    "words": lambda: words(5, 7, "conv1", (1, 2)),
    "below": lambda: below(10, 20, 0, "map", "conv1"),
    "permutation": lambda: permutation(16, 0, "order", "conv1"),
    "shares": lambda: shares(W, 3, "zero-sum", 0, "split", "conv2.weight"),
    "shares16": lambda: shares(W.astype(np.float16), 2, "zero-sum", 0),
    "sharesb16": lambda: shares(W.astype(ml_dtypes.bfloat16), 2, "zero-sum", 0),
    "shares64": lambda: shares(W.astype(np.float64), 5, "zero-sum", 1),
    "even": lambda: shares(W, 3, "even"),
    "integers": lambda: integer_shares((W * 10).astype(np.int8), 3, "zero-sum", 0, 0),
    "noise": lambda: noise(W, 0, "free", "conv1.weight", 0),
    "uneven": lambda: shares(W, 3, "uneven", 0, "split", "conv2.weight"),
    "drawn": lambda: drawn((4, 6), W, 0, "twin", "conv1.weight", 0),
    "drawn8": lambda: drawn((4, 6), (W * 10).astype(np.int8), 0, "twin"),
    "jittered": lambda: jittered(W, W, 0.1, 0, "noise", "conv1.weight", 0),
}

DIGESTS = {
    "words": "359c9e5aa306",
    "below": "3cb5dba84404",
    "permutation": "81c52dc96700",
    "shares": "bcb4e3676777",
    "shares16": "82bbaa3ba8b6",
    "sharesb16": "3e71a3edbbe4",
    "shares64": "894990957818",
    "even": "5f7afe0399b6",
    "integers": "ea8a3d182076",
    "noise": "2e77e74a12d7",
    "uneven": "49e311b8ebe8",
    "drawn": "751e99fe8cfb",
    "drawn8": "9dbec98e5b95",
    "jittered": "60615ff5b48c",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_same_on_every_machine(name: str) -> None:
    """numpy may change its generators, not these: users' seeds must mean the same for ever."""
    assert sha(GOLDEN[name]()) == DIGESTS[name]


def test_keys_keep_draws_apart() -> None:
    drawn = [words(4, *k).tolist() for k in ((0, "a"), (1, "a"), (0, "b"), (0, "a", 0), ("0", "a"))]
    assert len({tuple(d) for d in drawn}) == len(drawn)


def test_below_and_permutation() -> None:
    drawn = below(7, 4000, "x")
    assert np.bincount(drawn, minlength=7).min() > 450
    assert set(drawn) == set(range(7))
    assert sorted(permutation(50, "y")) == list(range(50))


def test_noise_has_the_weights_size() -> None:
    for scale in (1e-3, 1.0, 50.0):
        w = (np.random.default_rng(0).standard_normal((64, 64)) * scale).astype(np.float32)
        assert 0.4 < noise(w, 0).std() / w.std() < 1.5
    assert noise(np.zeros((3, 3), np.float32), 0).any()
    assert noise(np.zeros((0, 3), np.float32), 0).shape == (0, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_uneven_shares_are_one_fraction_for_each_copy_and_unit(dtype: str) -> None:
    w = np.random.default_rng(1).standard_normal((16, 3, 5)).astype(DTYPES[dtype])
    fractions = (shares(w, 3, "uneven", 0) / w).astype(np.float64)
    assert (fractions > 0).all()
    assert fractions[:, :, 0, 0].std() > 0.1
    assert (np.ptp(fractions, axis=(2, 3)) <= 8 * EPSILON[dtype]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_weights_have_the_spread_of_others(dtype: str) -> None:
    for scale in (2.0**-9, 1.0, 50.0):
        w = np.random.default_rng(0).standard_normal((64, 64)) + 2
        w = (w * scale).astype(DTYPES[dtype])
        deviation = w.astype(np.float64).std()
        found = drawn((128, 32), w, 0).astype(np.float64)
        assert found.shape == (128, 32)
        assert abs(found.std() / deviation - 1) < 0.05
        assert abs(found.mean()) < 0.1 * deviation


def test_spread_of_odd_weights() -> None:
    assert spread(np.zeros(3, np.float32)) == 1 / 16
    assert spread(np.zeros(0, np.float32)) == 1 / 16
    assert spread(np.full(3, -0.75, np.float32)) == 0.75
    assert spread(np.array([1.0, -1.0, np.inf, np.nan], np.float32)) == 1.0


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_random_integers_are_picked_among_the_others(dtype: str) -> None:
    w = np.array([3, 7, 120], dtype)
    found = drawn((40,), w, 0)
    assert (set(found.tolist()), found.dtype) == ({3, 7, 120}, w.dtype)
    assert set(jittered(w, w, 2.0, 0).tolist()) != set(w.tolist())


@pytest.mark.parametrize("size", [0.01, 1.0])
def test_jitter_has_the_size_asked_for(size: float) -> None:
    w = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32) * 5
    step = jittered(w, w, size, 0).astype(np.float64) - w
    assert abs(step.std() / (size * w.std()) - 1) < 0.05


def test_jitter_beyond_the_type_is_told() -> None:
    w = np.array([1.0, -1.0], np.float16)
    with pytest.raises(ValueError, match=r"noise 1e\+09 does not fit .* float16"):
        jittered(w, w, 1e9, 0)


def test_units() -> None:
    units = Units.copies([1, 1, 0], Row.FREE)
    assert units.kind == (Row.FREE,) * 3
    assert units.source.tolist() == [1, 1, 0]
