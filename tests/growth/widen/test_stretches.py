"""Axes on which products lie end to end, and attributes that hold products."""

from __future__ import annotations

import numpy as np
import pytest

import support.attention_cases  # noqa: F401  adds to CASES
from onnx_net2net.growth.widen.index_proof import factors_commute
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.notation import parse
from onnx_net2net.operators.spec import Rule
from support.operator_cases import CASES

AXIS = (0, 1)
HEAD = Factor("h", 2, "parallel", {AXIS: np.array([0, 0, 1, 1, 0, 0, 0, 1, 1, 1])})
KEY = Factor("d", 2, "across", {AXIS: np.array([0, 1, 0, 1, -1, -1, -1, -1, -1, -1])})
VALUE = Factor("v", 3, "parallel", {AXIS: np.array([-1, -1, -1, -1, 0, 1, 2, 0, 1, 2])})
ALL = [HEAD, KEY, VALUE]


def test_the_notation_gives_these_labels() -> None:
    assert parse("i (h d + h v) -> i")[0] == (("i", "h d + h v"),)
    packed = next(c for c in CASES["com.microsoft.Attention"] if "qkv_hidden_sizes" in c.attributes)
    fs = {f.name: f for f in packed.analysis.factors(packed.node)}
    bias = {n: fs[n].at[2, 0] for n in "hyv"}
    assert [len(np.unique(v[v >= 0])) for v in bias.values()] == [4, 6, 8]
    assert (bias["y"] >= 0).tolist() == [True] * 48 + [False] * 32
    assert ((bias["y"] >= 0) ^ (bias["v"] >= 0)).all()


@pytest.mark.parametrize(
    ("source", "grows", "own"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 4, 7, 8, 9, 7], VALUE, [0, 1, 2, 0]),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 4, 7], VALUE, None),  # after the heads
        ([0, 1, 2, 3, 4, 5, 6, 4, 7, 8, 9, 8], VALUE, None),  # heads disagree
        ([4, 5, 6, 4, 7, 8, 9, 7, 0, 1, 2, 3], VALUE, None),  # products change places
        ([0, 1, 3, 2, 4, 5, 6, 4, 7, 8, 9, 7], VALUE, None),  # the other product is touched
        ([0, 1, 2, 3, 0, 1, 4, 5, 6, 7, 8, 9, 4, 5, 6], HEAD, [0, 1, 0]),
        ([0, 1, 2, 3, 0, 1, 4, 5, 6, 7, 8, 9, 7, 8, 9], HEAD, None),  # products disagree
        ([0, 1, 2, 3, 0, 1, 4, 5, 6, 7, 8, 9], HEAD, None),  # one product only
    ],
)
def test_copies_must_line_up_in_every_product(
    source: list[int], grows: Factor, own: list[int] | None
) -> None:
    ok, found = factors_commute(ALL, [grows], {AXIS: np.array(source)})
    assert ok == (own is not None)
    if own is not None:
        assert found[id(grows)].tolist() == own


def test_attributes_hold_products_and_lists() -> None:
    site = CASES["Attention"][0].site
    row = Rule(attributes={"heads": "g r", "sizes": "g d, g v"}, pins={"s": ("d", lambda s: 0.5)})
    sizes = {"g": 2, "r": 3, "d": 4, "v": 5}
    assert row.held(site, {"r": 4}, sizes) == {"heads": 8}
    assert row.held(site, {"g": 3}, sizes) == {"heads": 9, "sizes": [12, 15]}
    assert row.held(site, {"d": 6}, sizes) == {"sizes": [12, 10], "s": 0.5}
