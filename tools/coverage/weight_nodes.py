"""The nodes that bear a weight: a constant operand of rank >= 2, quantised or gathered too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import onnx

from tools.coverage.onnx_reading import Constants, attribute, flat_nodes

# Where a weight may stand, by operator.
SLOTS = {
    **dict.fromkeys("Conv FusedConv ConvTranspose ConvInteger LSTM GRU RNN".split(), (1,)),
    **dict.fromkeys("DynamicQuantizeLSTM DynamicQuantizeMatMul MatMulNBits".split(), (1,)),
    **dict.fromkeys("Attention QAttention".split(), (1,)),
    **dict.fromkeys("Gemm FusedGemm MatMul FusedMatMul MatMulInteger".split(), (1, 0)),
    **dict.fromkeys("QLinearConv QGemm".split(), (3,)),
    "QLinearMatMul": (3, 0),
    "Einsum": (0, 1, 2),
    "Gather": (0,),
}
FLOATS = {1, 10, 11, 16}


class WeightNode(NamedTuple):
    """A node by the name the tool takes, with the axis of its output that its weight makes."""

    name: str
    op: str
    output: str
    axis: int


def weight_nodes(model: onnx.ModelProto, constants: Constants) -> list[WeightNode]:
    """Every weight-bearing node at every depth, in the order of the file.

    >>> [n.name for n in weight_nodes(model, Constants(model))]
    ['/conv1/Conv', '/fc/Gemm']
    """
    nodes = list(flat_nodes(model.graph))
    names = Counter(node.name for node in nodes)
    found = []
    for node in nodes:
        for slot in _weights(node, constants):
            unique = node.name and names[node.name] == 1
            output = next(o for o in node.output if o)
            name = node.name if unique else output
            found.append(WeightNode(name, node.op_type, output, _axis(node, slot)))
            break
    return found


def _weights(node: onnx.NodeProto, constants: Constants) -> Iterator[int]:
    """The slots that hold a weight, if the node has an activation as well."""
    if all(name in constants for name in node.input):
        return
    for slot in SLOTS.get(node.op_type, ()):
        if slot >= len(node.input) or not node.input[slot]:
            continue
        tensor = constants.origin(node.input[slot])
        if tensor is None:
            # Standardised or normalised by other constants first, as in BiT.
            if node.op_type != "Gather" and node.input[slot] in constants:
                yield slot
            continue
        if len(tensor.dims) < 2:
            continue
        # An integer table without scales is a table of indices or shapes, no weight.
        stored = node.input[slot] in constants.tensors
        if node.op_type == "Gather" and stored and tensor.data_type not in FLOATS:
            continue
        yield slot


def _axis(node: onnx.NodeProto, slot: int) -> int:
    if "Conv" in node.op_type:
        return 1
    if "Gemm" in node.op_type:
        return 0 if slot == 0 else 1
    if "MatMul" in node.op_type:
        return -2 if slot == 0 else -1
    if node.op_type == "Einsum":
        text = attribute(node, "equation", b"").decode().replace(" ", "")
        left, _, right = text.partition("->")
        terms = left.split(",")
        others = "".join(t for k, t in enumerate(terms) if k != slot)
        own = [
            k for k, letter in enumerate(right) if letter in terms[slot] and letter not in others
        ]
        return own[-1] if own else -1
    return -1
