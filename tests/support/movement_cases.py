"""Cases for the data movements of the operator table; see `single_node.Case`."""

from __future__ import annotations

from typing import Any

from support.single_node import Case, Operand, c, w, x

MOVEMENTS: dict[str, list[Case]] = {}


def case(
    op: str, *operands: Operand | None, opset: int = 18, outputs: int = 1, refuses: str = "",
    **attributes: Any,
) -> None:  # fmt: skip
    """Add one case for an operator; `refuses` names the factor whose copies never line up."""
    new = Case(op, "", operands, attributes, opset, outputs, refuses)
    MOVEMENTS.setdefault(op, []).append(new)


case("Transpose", x(2, 6, 3, 4), perm=[0, 2, 3, 1])
case("Transpose", x(2, 6, 3))
case("Transpose", w(6, 4), perm=[1, 0])

for _old, _axes in ((11, [0, 3]), (13, None)):
    _given = (c([0, 3]),) if _axes is None else ()
    _kept: Any = {} if _axes is None else {"axes": _axes}
    case("Squeeze", x(1, 6, 3, 1), *_given, opset=_old, **_kept)
    case("Unsqueeze", x(6, 3), *_given, opset=_old, **_kept)
case("Squeeze", x(1, 6, 1, 3))
case("Squeeze", x(1, 6, 1, 1), c([-1, -2]))
case("Squeeze", x(1, 1, 3), c([0]))
case("Unsqueeze", x(1, 6), c([-1]))
case("Unsqueeze", x(6), c([1, 2]))

case("Reshape", x(2, 6, 3, 4), c([2, -1]))
case("Reshape", x(2, 6, 3, 4), c([0, 72]))
case("Reshape", x(2, 6, 3, 4), c([2, 2, 3, 3, 4]))
case("Reshape", x(2, 6, 3, 4), c([2, 6, 12]))
case("Reshape", x(2, 12), c([2, 3, 4, 1, 1]))
case("Reshape", x(2, 12), c([2, 3, -1]))
case("Reshape", x(2, 3, 4), c([-1, 4]))
case("Reshape", x(1, 6, 1, 1), c([1, 6]))
case("Reshape", x(2, 3, 4), c([0, 0, 2, 2]), opset=14)
case("Reshape", x(2, 6, 3), c([6, 6]))
case("Reshape", x(4, 6), c([6, 4]))
case("Flatten", x(2, 6, 3, 4))
case("Flatten", x(2, 6, 3), axis=2)
case("Flatten", x(2, 6, 3), axis=0)
case("Flatten", x(2, 6, 3), axis=-1, opset=11)
case("Flatten", x(2, 6, 1, 1))

case("Expand", x(2, 1, 4), c([2, 5, 4]))
case("Expand", x(6, 1, 1), c([2, 6, 3, 3]))
case("Expand", x(2, 6, 4), c([1, 6, 1]))
case("Expand", x(2, 6, 4), c([4]))
case("Tile", x(2, 6), c([1, 2]))
case("Tile", x(2, 6), c([3, 1]))
case("Tile", x(2, 1, 3), c([1, 5, 2]))

case("Concat", x(2, 3, 4), x(2, 5, 4), axis=1)
case("Concat", x(2, 3, 4), w(2, 2, 4), x(2, 1, 4), axis=1)
case("Concat", x(2, 3), x(2, 3, low=5, high=9), axis=-1)
case("Concat", x(2, 3), x(4, 3), axis=0, opset=4)
case("Concat", x(2, 3), axis=1)
case("Split", x(2, 7, 3), c([3, 4]), axis=1, outputs=2)
case("Split", x(2, 8), opset=11, outputs=2, axis=1)
case("Split", x(2, 8), opset=13, outputs=2, axis=-1)
case("Split", x(2, 9), opset=11, outputs=3, axis=1, split=[2, 3, 4])
case("Split", x(2, 9), opset=2, outputs=2, axis=1, split=[4, 5])
case("Split", x(2, 8), opset=18, outputs=2, axis=1, num_outputs=2)
case("Split", x(2, 7), opset=18, outputs=2, axis=1, num_outputs=2)
case("Split", x(7, 3), c([3, 4]), outputs=2)

_ENDS = 2**63 - 1
case("Slice", x(2, 7), opset=9, starts=[2], ends=[5], axes=[1])
case("Slice", x(2, 7), opset=9, starts=[0, 0], ends=[2, -1])
case("Slice", x(2, 7), c([2]), c([5]), c([1]), opset=10)
case("Slice", x(2, 8), c([0]), c([4]), c([1]))
case("Slice", x(2, 8), c([4]), c([_ENDS]), c([1]))
case("Slice", x(2, 8), c([-4]), c([8]), c([-1]))
case("Slice", x(2, 8), c([0]), c([-3]), c([1]))
case("Slice", x(2, 8), c([-5]), c([-1]), c([1]))
case("Slice", x(2, 8), c([0]), c([_ENDS]), c([1]), c([2]), refuses="0.1 0:0")
case("Slice", x(2, 8), c([1]), c([_ENDS]), c([1]), c([3]), refuses="0.1 0:0")
case("Slice", x(2, 8), c([-1]), c([-_ENDS]), c([1]), c([-1]))
case("Slice", x(2, 8), c([6]), c([1]), c([1]), c([-2]), refuses="0.1 0:0")
case("Slice", x(2, 8), c([0, 2]), c([1, 5]))
case("Slice", x(2, 8), c([1], dtype="i4"), c([3], dtype="i4"), c([1], dtype="i4"))

case("Gather", x(2, 6, 3), c([1, 3, 5]), axis=1)
case("Gather", x(2, 6, 3), c([5, 0, 0, 2]), axis=1)
case("Gather", x(2, 6, 3), c(2), axis=1)
case("Gather", x(2, 6, 3), c(-1), axis=1)
case("Gather", x(2, 6), c([-1, -2]), axis=-1)
case("Gather", x(6, 3), c([[0, 1], [4, 5]]), refuses="0.0,0.1 0:0; 0.0,0.1 0:1")
case("Gather", x(2, 6), c([0, 1, 2, 3, 4, 5]), axis=1, opset=11)

_ZERO = c(0.0, dtype="f4")
case("Pad", x(2, 4, 3), opset=2, pads=[0, 1, 0, 0, 2, 0])
case("Pad", x(2, 4, 3), opset=2, pads=[0, 0, 1, 0, 0, 1], value=3.0)
case("Pad", x(2, 4, 3), c([0, 1, 0, 0, 2, 0]), opset=11)
case("Pad", x(2, 4, 3), c([0, 0, 1, 0, 0, 1]), _ZERO, opset=13)
case("Pad", x(2, 4, 3), c([0, 0, 1, 0, 0, 1]), c(2.0, dtype="f4"), opset=13)
case("Pad", x(2, 4, 3), c([0, 1, 0, 0, 2, 1]), mode="reflect", refuses="0.1 0:0; 0.2 0:0")
case("Pad", x(2, 4, 3), c([0, 1, 0, 0, 2, 1]), mode="edge")
case("Pad", x(2, 4, 3), c([0, 1, 0, 0, 2, 1]), opset=19, mode="wrap")
case("Pad", x(2, 4, 3), c([2, 1]), None, c([1]))
case("Pad", x(2, 5, 3), c([0, -1, 0, 0, -1, 2]))
case("Pad", x(2, 4, 3), c([3, 3]), _ZERO, c([-2]))

case("ConstantOfShape", c([2, 6, 3]))
case("ConstantOfShape", c([4]))
case("com.microsoft.Pad", x(2, 6, 3), c([0, 1, 0, 0, 2, 0]))
