"""Notation and its factors; movements and theirs. Whether they are true is `test_operators`."""

from __future__ import annotations

from typing import Any

import pytest

from onnx_net2net.operators.factors import Factor, dropped, result_shape
from onnx_net2net.operators.notation import Entry, parse
from onnx_net2net.operators.spec import Rule
from onnx_net2net.operators.table import TABLE
from support.single_node import Case, Operand, c, w, x


def case(op: str, *operands: Operand, outputs: int = 1, **attributes: Any) -> Case:
    return Case(op, "", operands, attributes, outputs=outputs)


def listed(k: Case) -> list[Factor]:
    return k.analysis.factors(k.node)


def found(k: Case) -> dict[str, Factor]:
    return {f.name: f for f in listed(k)}


def at(f: Factor) -> dict[Entry, list[int]]:
    return {e: v.tolist() for e, v in f.at.items()}


@pytest.mark.parametrize(
    ("text", "operands", "results"),
    [
        ("n (g i) *, (g o) -> n *", (("n", "g i", "*"), ("g o",)), (("n", "*"),)),
        ("... -> ..., ...", (("...",),), (("...",), ("...",))),
        ("~ ->", (("~",),), ()),
        ("-> x", (), (("x",),)),
        ("k, k n -> n", (("k",), ("k", "n")), (("n",),)),
        ("a (b c d), ~ -> a", (("a", "b c d"), ("~",)), (("a",),)),
    ],
)
def test_parse(text: str, operands: object, results: object) -> None:
    assert parse(text) == (operands, results)


def test_products() -> None:
    fs = found(case("Conv", x(2, 6, 5, 5), w(4, 3, 3, 3), w(4), group=2))
    g, i, o = fs["g"], fs["i"], fs["o"]
    assert (g.size, i.size, o.size) == (2, 3, 2)
    assert (g.role, i.role, o.role) == ("parallel", "sum", "parallel")
    assert at(g) == {
        (0, 1): [0, 0, 0, 1, 1, 1], (1, 0): [0, 0, 1, 1], (2, 0): [0, 0, 1, 1],
        (-1, 1): [0, 0, 1, 1],
    }  # fmt: skip
    assert at(i) == {(0, 1): [0, 1, 2] * 2, (1, 1): [0, 1, 2]}
    assert o.inner > g.inner  # what stands further in grows by default


def test_a_depthwise_convolution_sums_nothing() -> None:
    fs = found(case("Conv", x(2, 6, 5, 5), w(6, 1, 3, 3), group=6))
    assert fs["g"].role == "parallel"
    assert "o" not in fs  # one position is no index
    assert {f.role for f in fs.values()} == {"parallel", "across"}


def test_broadcasting_is_aligned_from_the_right() -> None:
    fs = found(case("Add", x(2, 5, 3), w(5, 1)))
    assert at(fs["...1"]) == {
        (0, 1): [0, 1, 2, 3, 4],
        (1, 0): [0, 1, 2, 3, 4],
        (-1, 1): [0, 1, 2, 3, 4],
    }
    assert at(fs["...0"]) == {(0, 2): [0, 1, 2], (-1, 2): [0, 1, 2]}
    assert (1, 1) not in fs["...0"].at


@pytest.mark.parametrize(
    ("left", "right", "k"),
    [((6,), (6, 4), {(0, 0), (1, 0)}), ((2, 6), (6,), {(0, 1), (1, 0)}),
     ((6,), (6,), {(0, 0), (1, 0)}), ((3, 2, 6), (6,), {(0, 2), (1, 0)}),
     ((6,), (3, 6, 4), {(0, 0), (1, 1)})],
)  # fmt: skip
def test_matmul_of_rank_one(left: tuple[int, ...], right: tuple[int, ...], k: set[Entry]) -> None:
    f = found(case("MatMul", x(*left), x(*right)))["k"]
    assert (set(f.at), f.role) == (k, "sum")


def test_an_operand_with_its_own_sizes_is_no_part() -> None:
    fs = found(case("CastLike", x(2, 4), x(4, dtype="f8")))
    assert all((1, 0) not in f.at or f.role == "size" for f in fs.values())
    assert fs["...0"].size == 4


def test_transpose() -> None:
    fs = listed(case("Transpose", x(2, 6, 3), perm=[2, 0, 1]))
    assert [set(f.at) for f in fs] == [{(0, 2), (-1, 0)}, {(0, 0), (-1, 1)}, {(0, 1), (-1, 2)}]


def test_reshape_keeps_every_index_of_a_product() -> None:
    fs = list(found(case("Reshape", x(2, 6, 4), c([2, 24]))).values())
    by = {tuple(sorted(f.at)): at(f) for f in fs}
    assert by[(-1, 1), (0, 1)][-1, 1] == [k // 4 for k in range(24)]
    assert by[(-1, 1), (0, 2)][-1, 1] == [k % 4 for k in range(24)]


def test_reshape_that_cuts_an_axis() -> None:
    fs = found(case("Reshape", x(2, 12), c([2, 3, 4])))
    sizes = sorted(f.size for f in fs.values())
    assert sizes == [2, 3, 4]
    (three,) = (f for f in fs.values() if f.size == 3)
    assert at(three) == {(0, 1): [k // 4 for k in range(12)], (-1, 1): [0, 1, 2]}


def test_concat_labels_each_part() -> None:
    fs = listed(case("Concat", x(2, 3), x(2, 2), axis=1))
    parts = [at(f) for f in fs if (-1, 1) in f.at]
    assert parts == [
        {(0, 1): [0, 1, 2], (-1, 1): [0, 1, 2, -1, -1]},
        {(1, 1): [0, 1], (-1, 1): [-1, -1, -1, 0, 1]},
    ]


def test_split_labels_each_part() -> None:
    fs = found(case("Split", x(2, 5), c([3, 2]), outputs=2, axis=1))
    parts = [at(f) for f in fs.values() if (0, 1) in f.at]
    assert parts == [
        {(0, 1): [0, 1, 2, -1, -1], (-1, 1): [0, 1, 2]},
        {(0, 1): [-1, -1, -1, 0, 1], (-2, 1): [0, 1]},
    ]


def test_slice_and_what_it_drops() -> None:
    k = case("Slice", x(2, 6), c([1]), c([6]), c([1]), c([2]))
    (f,) = (f for f in found(k).values() if (0, 1) in f.at)
    assert at(f) == {(0, 1): [-1, 0, -1, 1, -1, 2], (-1, 1): [0, 1, 2]}
    assert {e: v.tolist() for e, v in dropped(k.site).items()} == {
        (0, 1): [True, False, True, False, True, False]
    }  # fmt: skip


def test_gather_joins_positions_that_it_repeats() -> None:
    (f,) = (
        f for f in found(case("Gather", x(2, 4), c([3, 0, 3]), axis=1)).values() if (0, 1) in f.at
    )
    labels = at(f)
    assert labels[0, 1][1:3] == [-1, -1]
    assert labels[-1, 1][0] == labels[-1, 1][2] == labels[0, 1][3] != labels[0, 1][0]


def test_pad_makes_rows() -> None:
    fs = found(case("Pad", x(2, 3), c([0, 1, 0, 2])))
    assert [at(f) for f in fs.values() if (-1, 1) in f.at] == [
        {(-1, 1): [0, -1, -1, -1, 1, 2]}, {(0, 1): [0, 1, 2], (-1, 1): [-1, 0, 1, 2, -1, -1]}
    ]  # fmt: skip


def test_indices_at_run_time_fall_back_to_the_notation() -> None:
    fs = found(case("Gather", x(4, 5), x(3, low=0, high=3, dtype="i8")))
    assert {f.role for f in fs.values() if (0, 0) in f.at} == {"across"}
    assert {f.role for f in fs.values() if (0, 1) in f.at} == {"parallel"}


@pytest.mark.parametrize(
    ("notation", "shapes", "expected"),
    [
        ("m k, k n -> m n", [(2, 6), (6, 4)], (2, 4)),
        ("... m k, k n -> ... m n", [(3, 2, 6), (6, 4)], (3, 2, 4)),
        ("..., ... -> ...", [(5, 1), (2, 5, 3)], (2, 5, 3)),
        ("n c *, c -> n c *", [(2, 3, 4, 5), (3,)], (2, 3, 4, 5)),
        ("n i *, o i * -> n o *", [(2, 3, 4), (5, 3, 1)], None),
        ("a b -> a 1", [(2, 3)], (2, 1)),
    ],
)
def test_shapes_by_notation(
    notation: str, shapes: list[tuple[int, ...]], expected: tuple[int, ...] | None
) -> None:
    k = case("Sum", *[x(1) for _ in shapes])
    site = type(k.site)(k.node, tuple(shapes), (), (None,) * len(shapes))
    assert result_shape(Rule(notation=notation), site) == expected


def test_a_rank_that_does_not_fit_is_no_crash() -> None:
    site = case("Conv", x(2, 6, 5), w(4, 6, 3)).site
    with pytest.raises(LookupError, match="rank"):
        result_shape(TABLE["Conv"], type(site)(site.node, ((6,), (4, 6, 3)), (), (None, None)))
