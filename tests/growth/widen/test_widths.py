"""Legal widths and the drawing of maps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onnx_net2net.coupling.space import Axis, Space
from onnx_net2net.growth.widen.units import Row
from onnx_net2net.growth.widen.widths import Widths, draw, target
from onnx_net2net.plans.recipe_data import read_mapping

PLAIN = Widths(8, np.ones(8, np.int64), False)
BLOCKS = Widths(12, np.full(3, 4), False)
MIXED = Widths(10, np.array([4, 6]), False)
EVEN = Widths(8, np.ones(8, np.int64), True)


def test_of_a_space() -> None:
    axis: Axis = ("y", None, 1)
    s = Space(axis, 2, {axis: np.array([0, 0, 1, 1, 1, -1])}, {})
    w = Widths.of(s, axis)
    assert (w.today, w.step.tolist()) == (6, [2, 3])
    assert Widths.of(s, None).today == 2


@pytest.mark.parametrize(
    ("widths", "legal", "illegal"),
    [
        (PLAIN, [9, 10, 100], [8, 7, 0, -1]),
        (BLOCKS, [16, 20, 24], [12, 13, 14, 18]),
        (MIXED, [14, 16, 18, 20, 22], [11, 12, 13, 15, 17]),
        (EVEN, [16, 24], [9, 12, 15]),
    ],
)
def test_legal(widths: Widths, legal: list[int], illegal: list[int]) -> None:
    assert all(widths.legal(w) for w in legal)
    assert not any(widths.legal(w) for w in illegal)


def test_at_least_and_near() -> None:
    assert [w.at_least(13) for w in (PLAIN, BLOCKS, MIXED, EVEN)] == [13, 16, 14, 16]
    assert PLAIN.at_least(13, 8) == 16
    assert BLOCKS.near(18) == [16, 20]
    assert BLOCKS.near(13) == [16]


def test_target() -> None:
    assert target(PLAIN, None, 1.5, 1, "a") == 12
    assert target(BLOCKS, None, 1.5, 1, "a") == 20
    assert target(PLAIN, 10, None, 1, "a") == 10
    assert target(PLAIN, 10, None, 8, "a") == 16
    assert target(Widths(10, np.ones(10, np.int64), False), None, 1.1, 1, "a") == 11


@pytest.mark.parametrize(
    ("widths", "width", "ratio", "words"),
    [
        (PLAIN, 8, None, "has width 8 today"), (PLAIN, 3, None, "larger one than 3"),
        (BLOCKS, 18, None, "the nearest are 16 or 20"), (EVEN, 9, None, "the nearest is 16"),
        (PLAIN, None, 1.0, "does not widen"), (PLAIN, None, float("nan"), "does not widen"),
        (PLAIN, None, None, "either a width or a ratio"), (PLAIN, 9, 2.0, "either"),
    ],
)  # fmt: skip
def test_target_says_what_is_wrong(
    widths: Widths, width: int | None, ratio: float | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        target(widths, width, ratio, 1, "conv1")


def test_random_maps_draw_with_replacement_and_never_change() -> None:
    units = draw(PLAIN, 20, "random", 0, "conv1")
    assert units.source.tolist() == GOLDEN
    assert len(set(GOLDEN)) < 12
    assert draw(PLAIN, 20, "random", 1, "conv1").source.tolist() != GOLDEN
    assert draw(PLAIN, 20, "random", 0, "conv2").source.tolist() != GOLDEN


def test_balanced_maps_take_all_before_one_twice() -> None:
    source = draw(PLAIN, 8 + 20, "balanced", 0, "conv1").source
    assert sorted(np.bincount(source, minlength=8).tolist()) == [2] * 4 + [3] * 4
    assert sorted(source[:8].tolist()) == list(range(8))


@pytest.mark.parametrize("mapping", ["random", "balanced"])
@pytest.mark.parametrize("widths", [PLAIN, BLOCKS, MIXED, EVEN])
def test_maps_reach_the_width(widths: Widths, mapping: str) -> None:
    for width in range(widths.today + 1, 60):
        if widths.legal(width):
            units = draw(widths, width, mapping, 3, "a", Row.FREE)
            assert widths.today + int(widths.step[units.source].sum()) == width
            assert set(units.kind) == {Row.FREE}


def test_a_map_of_ones_own() -> None:
    assert draw(PLAIN, 10, [3, 3], 0, "a").source.tolist() == [3, 3]
    assert draw(PLAIN, 10, [*range(8), 5, 1], 0, "a").source.tolist() == [5, 1]
    with pytest.raises(ValueError, match="sends a unit to 8; expected 0 to 7"):
        draw(PLAIN, 10, [3, 8], 0, "a")
    with pytest.raises(ValueError, match="adds 1 channels, the width asks for 2"):
        draw(PLAIN, 10, [3], 0, "a")


def test_a_map_that_equal_counts_forbid() -> None:
    with pytest.raises(ValueError, match="equally"):
        draw(EVEN, 16, [0] * 8, 0, "a")
    assert sorted(draw(EVEN, 16, list(range(8))[::-1], 0, "a").source) == list(range(8))


def test_read_mapping(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    for given in ([0, 1, 0], {"mapping": [0, 1, 0]}):
        path.write_text(json.dumps(given))
        assert read_mapping(str(path)) == [0, 1, 0]
    for bad in ("[0, 1.5]", "[true]", "{}", "not json"):
        path.write_text(bad)
        with pytest.raises(ValueError, match="mapping '"):
            read_mapping(str(path))
    with pytest.raises(ValueError, match="does not exist"):
        read_mapping(str(tmp_path / "none.json"))


GOLDEN = [0, 3, 4, 0, 3, 1, 0, 7, 0, 5, 6, 0]
