"""What a student lacks that no run need show, as a bound that no input reaches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from onnx_net2net.graph.model import Node
from onnx_net2net.typing import Array
from onnx_net2net.verification.sides import Side, Sides, same_bytes

_HIDDEN = frozenset(
    "And Celu Clip Elu Equal Greater GreaterOrEqual HardSigmoid HardSwish If LeakyRelu Less "
    "LessOrEqual Max Min Mod Not Or PRelu Relu Selu Shrink Softplus ThresholdedRelu Where "
    "Xor".split()
)
"""Operators that may do nothing, or the same as another, to all that a run feeds them."""
_GROWN = frozenset(
    "K N axes epsilon group hidden_size kv_num_heads num_groups num_heads num_outputs "
    "output_shape q_num_heads qkv_hidden_sizes rotary_embedding_dim scale shape split value "
    "value_float value_floats value_int value_ints".split()
)
"""Attributes that growing changes."""


def lacks(sides: Sides, strange: Sequence[Node]) -> bool:
    """Whether the student lacks one of the teacher's operators, or has it set otherwise.

    Args:
        strange: nodes of the student's that do what the teacher does not.
    """
    mine, theirs = (
        Counter(_signature(n) for n in s.model.nodes if n.op in _HIDDEN)
        for s in (sides.student, sides.teacher)
    )
    return not theirs <= mine or any(_differs(sides, node) for node in strange)


def _differs(sides: Sides, node: Node) -> bool:
    """Whether the teacher's node of that output is another operator, or has other numbers."""
    twin = sides.teacher.model.producer.get(node.outputs[0])
    if twin is None:
        return False
    if _signature(twin) != _signature(node):
        return twin.op == node.op or bool({twin.op, node.op} & _HIDDEN)
    pairs = zip(twin.inputs, node.inputs, strict=False)
    known = [(_number(sides.teacher, a), _number(sides.student, b)) for a, b in pairs]
    return any(a is not None and b is not None and not same_bytes(a, b) for a, b in known)


def _signature(node: Node) -> str:
    """An operator with the attributes that growing leaves alone."""
    kept = (a for a in node.proto.attribute if a.name not in _GROWN and not a.HasField("t"))
    return str((node.op, sorted(a.SerializeToString(deterministic=True) for a in kept)))


def _number(side: Side, name: str) -> Array | None:
    """A constant of one number, as the bound of a Clip."""
    leaf = side.model.leaves.get(name)
    return side.array(leaf) if leaf is not None and math.prod(leaf.shape) == 1 else None
