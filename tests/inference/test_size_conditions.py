"""Conditions on sizes in words, and which sizes of a user's imply them."""

from __future__ import annotations

import pytest

from onnx_net2net.inference import expressions as ex
from onnx_net2net.inference.size_assumptions import Assumptions
from onnx_net2net.inference.size_conditions import Condition, Covered, parsed

S, T = ex.symbol("s"), ex.symbol("x.1")


def covered(*regions: list[tuple[ex.Dim, str]]) -> Covered:
    return Covered(tuple(frozenset(Condition(e, r) for e, r in region) for region in regions))


@pytest.mark.parametrize(
    ("conditions", "text"),
    [
        ([(512 - S, ">=")], "s <= 512"),
        ([(2 * S - 7, ">=")], "s >= 4"),
        ([(1023 - 2 * S, ">=")], "s <= 511"),
        ([(S - 3, ">="), (9 - S, ">=")], "3 <= s <= 9"),
        ([(S - 7, "=")], "s = 7"),
        ([(S - 7, "!=")], "s <= 6 or s >= 8"),
        ([(512 - S - T, ">=")], "s + x.1 <= 512"),
        ([(ex.mod(S, 2), "=")], "s mod 2 = 0"),
        ([], "every size"),
    ],
)
def test_words(conditions: list[tuple[ex.Dim, str]], text: str) -> None:
    assert str(covered(conditions)) == text


def test_regions_that_meet_are_one() -> None:
    both = covered([(512 - S, ">=")], [(S - 513, ">=")])
    assert both.every
    assert str(both) == "every size"
    apart = covered([(5 - S, ">=")], [(S - 7, ">=")])
    assert not apart.every
    assert str(apart) == "s <= 5 or s >= 7"
    assert not apart.accepted(parsed("s<=9", ["s"]))
    assert apart.accepted(parsed("s>=8,s<=9", ["s"]))


@pytest.mark.parametrize(
    ("given", "accepted"),
    [
        ("s<=512", True),
        ("s < 513", True),
        ("s<=513", False),
        ("s=7", True),
        ("x.1<=3", False),
        ("x.1<=3, s<=12", True),
        ("s>=2", False),
    ],
)
def test_a_users_sizes(given: str, accepted: bool) -> None:
    assert covered([(512 - S, ">=")]).accepted(parsed(given, ["s", "x.1"])) is accepted


def test_two_symbols_by_their_largest() -> None:
    sum_ = covered([(512 - S - 2 * T, ">=")])
    assert sum_.accepted(parsed("s<=12,x.1<=250", ["s", "x.1"]))
    assert not sum_.accepted(parsed("s<=13,x.1<=250", ["s", "x.1"]))
    product = covered([(512 - S * T, ">=")])
    assert product.accepted(parsed("s<=2,x.1<=256", ["s", "x.1"]))
    assert not product.accepted(parsed("s<=2", ["s", "x.1"]))


def test_what_is_not_linear_stays() -> None:
    even = covered([(ex.mod(S, 2), "=")])
    assert not even.accepted(parsed("s=8", ["s"]))


@pytest.mark.parametrize(
    "text", ["", "s", "s<=x", "s<=-1", "t<=3", "s<=3,s>=4", "s<=3;x.1<=4", "<=3"]
)
def test_what_cannot_be_parsed_says_what_was_given(text: str) -> None:
    with pytest.raises(ValueError, match="sizes") as why:
        parsed(text, ["s", "x.1"])
    assert text in str(why.value)


def test_negations() -> None:
    (beyond,) = Condition(512 - S, ">=").negated()
    assert str(covered([(beyond.expr, beyond.relation)])) == "s >= 513"
    assert beyond.holds({ex.Atom("s"): 513})
    assert not beyond.holds({ex.Atom("s"): 512})


def test_what_is_assumed_at_some_sizes() -> None:
    known = {ex.Atom("s"): 8, ex.Atom("x.1"): 3}
    capped = ex.minimum(S, 512) * ex.where(ex.at_least(S, 100), T, 2 * T)
    found = Assumptions(known)
    assert found(capped) == 2 * S * T
    assert sorted(map(str, found.made)) == ["s <= 512", "s <= 99"]
    denied = Assumptions(known, [Condition(512 - S, ">=")])
    assert denied(capped) == 2 * ex.minimum(S, 512) * T
    assert list(map(str, denied.made)) == ["s <= 99"]
    assert found(ex.maximum(S - 3, 0) + T) == S - 3 + T
    assert "s >= 3" in map(str, found.made)
