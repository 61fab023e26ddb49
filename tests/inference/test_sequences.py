"""Widening through sequences and optional values."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnx_net2net as n2n
from onnx_net2net.files.reader import read
from onnx_net2net.inference.analysis import Analysis
from support.same_function import MODELS, teacher
from support.text_models import EQUAL, RATIO, random, sizes, widened, written

SPLIT = """g (float[N,4] x) => (float[N,3] y) {{
    h = MatMul (x, a)
    s = SplitToSequence <axis = 1{keep}> (h{split})
    p = SequenceAt (s, i0)
    q = SequenceAt (s, i1)
    {body}
    y = MatMul (m, c)
}}"""
PLACES = {"i0": np.array(0), "i1": np.array(-1)}
JOIN = "t = Tanh (p) m = Concat <axis = 1> (t, q)"


def test_every_layer_of_the_sample() -> None:
    model = onnx.load(MODELS / "sequence_split.onnx")
    for space in n2n.inspect(model).spaces:
        for node in space.nodes:
            student = n2n.widen(model, node=node, ratio=RATIO, verify="certificate")
            onnx.checker.check_model(student, full_check=True)
            assert teacher("sequence_split").deviation(student) < EQUAL
    everything = n2n.plan(model, "everywhere", ratio=RATIO).apply(verify="certificate")
    assert teacher("sequence_split").deviation(everything) < EQUAL


@pytest.mark.parametrize("split", [np.array(3), np.array([3, 3]), np.array([2, 4])])
def test_parts_grow_each_for_itself(split: np.ndarray) -> None:
    """As after a Split: one part's reader may take more, and sizes are rewritten."""
    model = written(
        SPLIT.format(keep="", split=", n", body=JOIN),
        a=(4, 6), c=(6, 3), n=split, **PLACES,
    )  # fmt: skip
    spaces = n2n.inspect(model).spaces
    student = widened(model, "h", {"x": random(2, 4)})
    assert [s.size for s in spaces] == [6]
    assert sizes(student)["a"] == (4, 9)
    parts = onnx.numpy_helper.to_array(
        next(t for t in student.graph.initializer if t.name.startswith("n"))
    )
    assert parts.sum() == 9


def test_parts_that_are_added_keep_one_number() -> None:
    model = written(
        SPLIT.format(keep="", split=", n", body="t = Tanh (p) m = Add (t, q)"),
        a=(4, 6), c=(3, 3), n=np.array(3), **PLACES,
    )  # fmt: skip
    student = widened(model, "h", {"x": random(2, 4)})
    (held,) = (t for t in student.graph.initializer if t.name == "n")
    assert list(held.dims) == []
    assert onnx.numpy_helper.to_array(held) == 5


def test_a_literal_that_others_read_stays_for_them() -> None:
    """A scalar size that becomes another one beside the old is still a scalar."""
    model = written(
        """g (float[N,4] x, float[N,6] z) => (float[N,3] y, float[N,3] w) {
        h = MatMul (x, a)
        s = SplitToSequence <axis = 1> (h, n)
        p = SequenceAt (s, i0)  q = SequenceAt (s, i1)  m = Add (p, q)
        y = MatMul (m, c)
        u = SplitToSequence <axis = 1> (z, n)
        w = SequenceAt (u, i1)
        }""",
        a=(4, 6), c=(3, 3), n=np.array(3), **PLACES,
    )  # fmt: skip
    student = widened(model, "h", {"x": random(2, 4), "z": random(2, 6)})
    assert {t.name: list(t.dims) for t in student.graph.initializer}["n_grown"] == []


def test_unbound_rows_pass_the_other_axis() -> None:
    model = written(
        """g (float[2,N,4] x) => (float[N,3] y) {
        h = MatMul (x, a)
        s = SplitToSequence <axis = 0, keepdims = 0> (h)
        p = SequenceAt (s, i0)  q = SequenceAt (s, i1)
        m = Sub (p, q)
        y = MatMul (m, c)
        }""",
        a=(4, 6), c=(6, 3), **PLACES,
    )  # fmt: skip
    assert sizes(widened(model, "h", {"x": random(2, 5, 4)}))["a"] == (4, 9)


def test_places_that_the_run_computes_make_all_parts_one() -> None:
    model = written(
        """g (float[N,4] x, int64 i) => (float[N,3] y) {
        h = MatMul (x, a)  k = MatMul (x, b)
        s = SequenceConstruct (h, k)
        p = SequenceAt (s, i)
        y = MatMul (p, c)
        }""",
        a=(4, 6), b=(4, 6), c=(6, 3),
    )  # fmt: skip
    student = widened(model, "h", {"x": random(2, 4), "i": np.array(1)})
    assert sizes(student) == {"a": (4, 9), "b": (4, 9), "c": (9, 3)}
    cut = written(
        """g (float[N,4] x, int64 i) => (float[N,3] y) {
        h = MatMul (x, a)
        s = SplitToSequence <axis = 1> (h, n)
        p = SequenceAt (s, i)
        y = MatMul (p, c)
        }""",
        a=(4, 6), c=(3, 3), n=np.array(3),
    )  # fmt: skip
    with pytest.raises(n2n.RefusalError, match="works across this axis"):
        n2n.widen(cut, node="h", ratio=RATIO)


def test_a_sequence_built_up_and_taken_apart() -> None:
    model = written(
        """g (float[N,4] x) => (float[N,3] y) {
        h = MatMul (x, a)  k = MatMul (x, b)  l = MatMul (x, d)
        s0 = SequenceEmpty <dtype = 1> ()
        s1 = SequenceInsert (s0, h)
        s2 = SequenceInsert (s1, k)
        s3 = SequenceInsert (s2, l, i0)
        s4 = SequenceErase (s3, i1)
        n = SequenceLength (s4)
        m = ConcatFromSequence <axis = 1> (s4)
        f = Cast <to = 1> (n)
        o = Mul (m, f)
        y = MatMul (o, c)
        }""",
        a=(4, 6), b=(4, 5), d=(4, 7), c=(13, 3), **PLACES,
    )  # fmt: skip
    student = widened(model, "h", {"x": random(2, 4)})
    assert sizes(student) | {"i0": (), "i1": ()} == {
        "a": (4, 9), "b": (4, 5), "d": (4, 7), "c": (16, 3), "i0": (), "i1": (),
    }  # fmt: skip
    assert sizes(widened(model, "l", {"x": random(2, 4)}))["c"] == (17, 3)


def test_stacked_elements_are_one_width() -> None:
    model = written(
        """g (float[N,4] x) => (float[2,N,3] y) {
        h = MatMul (x, a)  k = MatMul (x, b)
        s = SequenceConstruct (h, k)
        m = ConcatFromSequence <axis = 0, new_axis = 1> (s)
        y = MatMul (m, c)
        }""",
        a=(4, 6), b=(4, 6), c=(6, 3),
    )  # fmt: skip
    assert sizes(widened(model, "h", {"x": random(2, 4)}))["b"] == (4, 9)


def test_a_sequence_that_is_an_output_is_interface() -> None:
    model = written(
        """g (float[N,4] x) => (seq(float[N,3]) s) {
        h = MatMul (x, a)
        s = SplitToSequence <axis = 1> (h, n)
        }""",
        a=(4, 6), n=np.array(3),
    )  # fmt: skip
    with pytest.raises(n2n.RefusalError, match=r"works across this axis|graph output"):
        n2n.widen(model, node="h", ratio=RATIO)
    assert Analysis(read(model)).first.shapes["s"] == (2, 3)


def test_optional_values() -> None:
    model = written(
        """g (float[N,4] x) => (float[N,3] y) {
        h = MatMul (x, a)
        o = Optional (h)
        e = OptionalHasElement (o)
        k = OptionalGetElement (o)
        y = MatMul (k, c)
        }""",
        a=(4, 6), c=(6, 3),
    )  # fmt: skip
    assert sizes(widened(model, "h", {"x": random(2, 4)}, verify="auto"))["c"] == (9, 3)


def test_a_list_that_a_loop_carries() -> None:
    model = written(
        """g (float[N,4] x) => (float[N,3] y) {
        h = MatMul (x, a)
        s0 = SequenceConstruct (h)
        m = Constant <value = int64 {3}> ()
        s = Loop <body = b (int64 i, bool on, seq(float[N,6]) s) => (bool more, seq(float[N,6]) t) {
            more = Identity (on)  z = Constant <value = int64 {0}> ()
            e = SequenceAt (s, z)  f = Tanh (e)  t = SequenceInsert (s, f)
        }> (m, , s0)
        j = Constant <value = int64 {2}> ()
        k = SequenceAt (s, j)
        y = MatMul (k, c)
        }""",
        a=(4, 6), c=(6, 3),
    )  # fmt: skip
    assert sizes(widened(model, "h", {"x": random(2, 4)}, verify="auto"))["c"] == (9, 3)
