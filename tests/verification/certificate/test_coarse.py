"""Pairs that differ in what a name once left out: none is proved, and each is proved of itself."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

import onnx_net2net as n2n

RNG = np.random.default_rng(7)
PER_CHANNEL = (4, 1, 1)
EIGHT = RNG.standard_normal((3, 8, 1, 1)).astype("f4")
SQUARE = RNG.standard_normal((4, 4)).astype("f4")
CONSTANTS = {
    "w": RNG.standard_normal((8, 3)).astype("f4"),
    "big": RNG.standard_normal((8, 4000)).astype("f4"),
    "zero": np.float32(0), "half": np.float32(0.5), "two": np.float32(2), "true": np.array(True),
    "i0": np.array([0]), "i1": np.array([1]), "i2": np.array([2]), "i9": np.array([9]),
    "i": np.array(0), "flat": np.array([0, -1]), "pads": np.array([0, 0, 1, 0, 0, 0, 0, 0]),
    "copies": np.array([0, 1, 0, 1]), "turned": np.array([2, 3, 0, 1]),
    "factors": np.array([1, 1, 2, 2], "f4").reshape(PER_CHANNEL),
    "others": np.array([5, 7, 2, 2], "f4").reshape(PER_CHANNEL),
    "minus": np.array([-1, -2, -1, -1], "f4").reshape(PER_CHANNEL),
    "parts": np.array([0.5, 0.25, 0.5, 0.5], "f4").reshape(PER_CHANNEL),
    "kernel": np.ones((4, 1, 3, 3), "f4"),
    "mixing": RNG.standard_normal((4, 4, 1, 1)).astype("f4"),
    "dead": np.concatenate([np.zeros((3, 4, 1, 1)), np.ones((1, 4, 1, 1))]).astype("f4"),
    "mask": np.array([0, 0, 1, 1], "f4").reshape(PER_CHANNEL),
    "eight": EIGHT, "rolled": np.roll(EIGHT, 4, 1), "back": np.array([0, 8, 2, 4]),
    "across": SQUARE[:, None, :], "upright": SQUARE[:, :, None],
    "across1": np.tile(SQUARE[0], (1, 1, 4, 1)),
    "upright1": np.tile(SQUARE[0][:, None], (1, 1, 1, 4)),
}  # fmt: skip


def model(body: str, shape: str, opset: int = 17) -> onnx.ModelProto:
    """Nodes in ONNX's text form; `x` goes in and `y` comes out."""
    graph = parser.parse_graph(f"g (float[{shape}] x) => (float[] y) {{ {body} }}")
    used = {t for n in graph.node for t in n.input}
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), k) for k, v in CONSTANTS.items() if k in used
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def proved(a: onnx.ModelProto, b: onnx.ModelProto) -> bool:
    layer = n2n.verify(a, b, layers="certificate").layer("certificate")
    return layer is not None and layer.status.value == "passed"


HALVES = "p = Slice(x, i0, i9, i2, i2) q = Slice(x, i1, i9, i2, i2)"
STACKED = "c = ConcatFromSequence<axis = 1, new_axis = 1>(s)"
ONE_OF = "n = Shape(x) k = Gather(n, i) y = SequenceAt(s, k)"
COPIES = "c = Conv(x, mixing) g = Gather<axis = 1>(c, copies) m = Mul(g, factors)"
FUSED = 'c = com.microsoft.FusedConv<activation = "Sigmoid">(x, dead)'
DRAWN = "p = RandomNormalLike(big) q = RandomNormalLike(big)"
DROPPED = "p = Dropout(x, half, true) q = Dropout(x, half, true)"
IMAGE, FLAT = "N,4,4,4", "N,8"
MIXED = "c = Conv(x, mixing)"
FLATTENED = "f = Reshape(m, flat)"
PAIRS = {
    "joined": (
        f"{HALVES} c = Concat<axis = 1>(p, q) y = Conv(c, eight)",
        f"{HALVES} c = Concat<axis = 1>(p, q) y = Conv(c, rolled)", IMAGE,
    ),
    "stacked": (
        f"{HALVES} s = SequenceConstruct(p, q) {STACKED} t = Reshape(c, back) y = Conv(t, eight)",
        f"{HALVES} s = SequenceConstruct(p, q) {STACKED} t = Reshape(c, back) y = Conv(t, rolled)",
        IMAGE,
    ),
    "one of two": (
        f"{HALVES} s = SequenceConstruct(p, q) {ONE_OF}",
        f"{HALVES} s = SequenceConstruct(q, p) {ONE_OF}", IMAGE,
    ),
    "bounds": (
        "b = Clip(big, zero) y = MatMul(x, b)", "b = Clip(big, , zero) y = MatMul(x, b)", FLAT,
    ),
    "rounded": (
        f"{MIXED} r = Round(c) m = Mul(r, parts) y = Slice(m, i0, i9, i2)",
        f"{MIXED} r = Round(c) m = Mul(r, parts) s = Slice(m, i0, i9, i2) y = Round(s)", IMAGE,
    ),
    "rectified": (
        f"{MIXED} r = Relu(c) m = Mul(r, minus) y = Slice(m, i0, i9, i2)",
        f"{MIXED} r = Relu(c) m = Mul(r, minus) s = Slice(m, i0, i9, i2) y = Relu(s)", IMAGE,
    ),
    "turned negative": (
        f"{MIXED} r = Relu(c) m = Mul(r, minus) y = Flatten(m)",
        f"{MIXED} r = Relu(c) m = Mul(r, minus) f = Flatten(m) y = Relu(f)", IMAGE,
    ),
    "clipped": (
        f"{MIXED} k = Clip(c, half, two) m = Mul(k, mask) y = Slice(m, i0, i9, i2)",
        f"{MIXED} k = Clip(c, half, two) m = Mul(k, mask) s = Slice(m, i0, i9, i2) "
        "y = Clip(s, half, two)", IMAGE,
    ),
    "scaled copies": (
        f"{COPIES} y = Conv<group = 4>(m, kernel)",
        f"{COPIES} d = Conv<group = 4>(m, kernel) y = Gather<axis = 1>(d, turned)", IMAGE,
    ),
    "upright": (f"{MIXED} y = Add(c, across)", f"{MIXED} y = Add(c, upright)", IMAGE),
    "upright part": (
        f"{MIXED} y = Concat<axis = 1>(c, across1)", f"{MIXED} y = Concat<axis = 1>(c, upright1)",
        "1,4,4,4",
    ),
    "activated": (
        f"{FUSED} m = Mul(c, factors) y = Conv(m, mixing)",
        f"{FUSED} m = Mul(c, others) y = Conv(m, mixing)", IMAGE,
    ),
}  # fmt: skip
RANDOM = {
    "drawn": (f"{DRAWN} d = Sub(p, p) y = MatMul(x, d)", f"{DRAWN} d = Sub(p, q) y = MatMul(x, d)"),
    "dropped": (f"{DROPPED} y = Sub(p, p)", f"{DROPPED} y = Sub(p, q)"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_no_name_is_too_coarse(name: str) -> None:
    a, b = (model(text, PAIRS[name][2]) for text in PAIRS[name][:2])
    assert not proved(a, b)
    assert not proved(b, a)
    assert proved(a, a)
    assert proved(b, b)


@pytest.mark.parametrize("name", RANDOM)
def test_what_is_drawn_twice_is_not_the_same(name: str) -> None:
    a, b = (model(text, FLAT) for text in RANDOM[name])
    assert not proved(a, b)
    assert not proved(b, a)


def test_hardmax_takes_axes_as_one_before_opset_13() -> None:
    old = model("y = Hardmax<axis = 1>(x)", "N,2,4", 11)
    turned = "h = Hardmax<axis = 1>(t) y = Transpose<perm = [0, 2, 1]>(h)"
    assert proved(old, old)
    assert not proved(old, model(f"t = Transpose<perm = [0, 2, 1]>(x) {turned}", "N,2,4", 11))


@pytest.mark.parametrize(
    "wrong", ["Clip<min = 0.0, max = 60.0>", "Clip<min = -9.0, max = 6.0>", "Relu"]
)
def test_what_no_run_reaches_is_not_agreed_on(wrong: str) -> None:
    start = "a = MatMul(x, w) s = Sigmoid(a)"
    right = model(f"{start} y = Clip<min = 0.0, max = 6.0>(s)", FLAT, 9)
    assert n2n.verify(right, model(f"{start} y = {wrong}(s)", FLAT, 9)).equivalent is None
