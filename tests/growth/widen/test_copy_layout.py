"""Where copies land: at the end of their segment, or right after their source."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_net2net.coupling.segments import segments
from onnx_net2net.coupling.space import Axis, Space
from onnx_net2net.growth.widen.copy_layout import layout
from onnx_net2net.growth.widen.units import Row, Units

SEED: Axis = ("y", None, 1)


def space(*axes: list[int]) -> Space:
    """A space with these labels, the first on its seed axis."""
    labels: dict[Axis, np.ndarray] = {SEED: np.array(axes[0])}
    for k, a in enumerate(axes[1:]):
        labels[f"t{k}", None, 1] = np.array(a)
    size = 1 + max(max(a) for a in axes)
    return Space(SEED, size, labels, {})


def sources(s: Space, units: list[int], inline: bool = False) -> list[list[int]]:
    return [v.tolist() for v in layout(s, Units.copies(units), inline).source.values()]


def test_copies_are_appended_as_in_the_paper() -> None:
    (source,) = sources(space([0, 1, 2]), [2, 0, 2])
    assert source == [0, 1, 2, 2, 0, 2]


def test_inline_copies_follow_their_source() -> None:
    (source,) = sources(space([0, 1, 2]), [2, 0, 2], inline=True)
    assert source == [0, 0, 1, 2, 2, 2]


def test_flattened_positions_stay_together() -> None:
    s = space([0, 1], [0, 0, 0, 1, 1, 1])
    assert sources(s, [1]) == [[0, 1, 1], [0, 1, 2, 3, 4, 5, 3, 4, 5]]


def test_each_group_gets_its_copy() -> None:
    assert sources(space([0, 1, 0, 1]), [1])[0] == [0, 1, 1, 2, 3, 3]
    assert sources(space([0, 1, 0, 1]), [1], inline=True)[0] == [0, 1, 1, 2, 3, 3]


def test_copies_do_not_cross_what_is_not_in_the_space() -> None:
    assert sources(space([0, 1], [-1, -1, 0, 1, -1]), [0])[1] == [0, 1, 2, 3, 2, 4]


def test_concat_cuts_between_segments() -> None:
    """Where a Concat joins two parts, copies of the first stand before the second part."""
    s = space([0, 1, 2, 3], [0, 1], [2, 3])
    np.testing.assert_array_equal(segments(s)[[0, 2]] != segments(s)[[1, 3]], False)
    assert segments(s)[0] != segments(s)[2]
    assert sources(s, [1, 2]) == [[0, 1, 1, 2, 3, 2], [0, 1, 1], [0, 1, 0]]


def test_one_segment_where_classes_stand_together_everywhere() -> None:
    assert segments(space([0, 1, 2], [0, 1, 2, 0, 1, 2])).tolist() == [0, 0, 0]


@pytest.mark.parametrize("inline", [False, True])
def test_units_say_which_positions_are_new(inline: bool) -> None:
    s = space([0, 1, 2], [0, 0, 1, 1, 2, 2])
    units = Units(np.array([1, 1, 0]), (Row.COPY, Row.ZERO, Row.FREE))
    placed = layout(s, units, inline)
    for axis, unit in placed.unit.items():
        source, labels = placed.source[axis], s.labels[axis]
        assert (labels[source[unit >= 0]] == units.source[unit[unit >= 0]]).all()
        assert source[unit < 0].tolist() == list(range(len(labels)))
        assert set(unit.tolist()) == {-1, 0, 1, 2}


def test_no_new_units_change_nothing() -> None:
    assert sources(space([0, 1, 1, 0]), []) == [[0, 1, 2, 3]]
