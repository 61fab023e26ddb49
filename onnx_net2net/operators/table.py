"""The operator table: one row per operator, one file per family.

`TABLE` maps an operator (`Conv`, `com.microsoft.Gelu`) to its `Rule`; see `spec.py` for
what a row can say, and add a row with `rule(...)` in the family's file.
"""

from __future__ import annotations

from .families import (  # noqa: F401  each fills in its rows
    activation,
    attention,
    blockwise,
    classical,
    control,
    elementwise,
    fused,
    linear,
    movement,
    normalization,
    positional,
    quantized,
    recurrent,
    reduction,
    selection,
    sequence,
    sequence_mixing,
    sizes,
    text,
    window,
)
from .spec import TABLE, Rule

_NO_RULE = Rule()


def row_of(op: str) -> Rule:
    """An operator's row; one that says nothing where it has none."""
    return TABLE.get(op, _NO_RULE)


__all__ = ["TABLE", "row_of"]
