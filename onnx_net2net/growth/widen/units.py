"""What the positions of a grown axis hold: copies, zeros, means, new numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np

from onnx_net2net.typing import Array


class Row(str, Enum):
    """What a new row of a grown axis is.

    Twins are free rows of which 2k and 2k + 1 are equal. A pad is a mean or zero row, whichever
    its tensor needs (see `Padding`).
    """

    COPY = "copy"
    ZERO = "zero"
    FREE = "free"
    TWIN = "twin"
    MEAN = "mean"
    PAD = "pad"


@dataclass(frozen=True)
class Padding:
    """What stands in the pads of a normalised space.

    `fill`: axis -> MEAN or ZERO rows, for constants also COPY (keeps the copied values) and
    FREE (it meets zeros only). `parts`: node that averages over the axis -> which part of
    what it averages counts (8 channels and 4 zeros: 2/3, by which its result is too small).
    """

    fill: Mapping[Any, Row]
    parts: Mapping[int, Fraction]


@dataclass(frozen=True)
class Units:
    """The new units of a space, in the order in which they are appended.

    `source[t]`: the class that unit t copies; a zero or free unit stands where a copy of it
    would. `kind[t]`: what it is; `padding`: what the pads among them are.
    """

    source: Array
    kind: tuple[Row, ...]
    padding: Padding | None = None

    @classmethod
    def copies(cls, source: Sequence[int] | Array, kind: Row = Row.COPY) -> Units:
        """Units that are all of one kind.

        >>> Units.copies([2, 0]).kind
        (<Row.COPY: 'copy'>, <Row.COPY: 'copy'>)
        """
        s = np.asarray(source, np.int64)
        return cls(s, (kind,) * len(s))


def live(unit: Array, kinds: Sequence[Row]) -> Array:
    """Which positions of a grown axis hold the teacher's units and copies of them.

    >>> live(np.array([-1, -1, 0, 1]), (Row.COPY, Row.ZERO)).tolist()
    [True, True, True, False]
    """
    return np.array([u < 0 or kinds[u] is Row.COPY for u in unit], bool)
