"""Weights packed in blocks of few bits, each block with a scale: read as what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.names import key
from onnx_net2net.verification.certificate.transfer.base import At, no_zero, rules
from onnx_net2net.verification.certificate.transfer.contraction import Shaping, contracted
from onnx_net2net.verification.certificate.transfer.fused import part


def unpacked(array: Array, bits: int, count: int) -> Array:
    """[rows, count] numbers of a few bits, the lowest bits first, from the bytes of each row."""
    flat = np.ascontiguousarray(array.reshape(len(array), -1))
    if bits == 8 or flat.dtype != np.uint8:
        return flat[:, :count].astype(np.int64)
    apart = [(flat >> np.uint8(s)) & np.uint8(2**bits - 1) for s in range(0, 8, bits)]
    return np.stack(apart, 2).reshape(len(flat), -1)[:, :count].astype(np.int64)


def weights(
    packed: Const, scales: Const, zeros: Const | None, bits: int, size: int, columns: int,
) -> Const:  # fmt: skip
    """[rows, columns] of the numbers that blocks of `size` stand for; of the scales' type.

    The array is in float64, in which a scale times an integer is exact.
    """
    name = key("blocks", packed.key, scales.key, zeros and zeros.key, bits, size, columns)
    rows, blocks = packed.shape[0], -(-columns // size)
    if bits not in (2, 4, 8) or scales.size != rows * blocks:
        raise UnknownError("blocks of this form")

    def load() -> Array:
        numbers = unpacked(packed.array(), bits, columns).astype(np.float64)
        if zeros is None:
            shift: Array = np.full((rows, blocks), float(2 ** (bits - 1)))
        elif zeros.dtype == np.uint8:
            shift = unpacked(zeros.array().reshape(rows, -1), bits, blocks).astype(np.float64)
        else:
            shift = zeros.array().reshape(rows, blocks).astype(np.float64)
        wide = scales.array().reshape(rows, blocks).astype(np.float64)
        per = np.arange(columns) // size
        return np.asarray((numbers - shift[:, per]) * wide[:, per])

    return Const(name, (rows, columns), scales.dtype, load)


@rules("com.microsoft.MatMulNBits")
def _n_bits(at: At) -> Sequence[Term]:
    """Data, packed weight, scales, zero points, order of columns, bias."""
    x, packed, scales = at.args[0], at.const(1), at.const(2)
    if not isinstance(x, Value) or packed is None or scales is None or packed.dtype != np.uint8:
        raise UnknownError("the weight or the data are of the other kind")
    if at.has(4) or at.node.attr("weight_prepacked", 0) or at.node.attr("accuracy_level", 0) == 4:
        raise UnknownError("columns in an order of their own, or data that are quantised")
    zeros = at.const(3) if at.has(3) else None
    bits, size = int(at.node.attr("bits", 4)), int(at.node.attr("block_size", 1))
    weight = weights(packed, scales, zeros, bits, size, int(at.node.attr("K", 0)))
    axis = len(x.axes) - 1
    if x.scale is not None and x.scale[0] != axis:
        x = x.settled()
    if len(x.axes[axis]) != weight.shape[1]:
        raise UnknownError("operands do not fit")
    tag = key("linear", at.name("K", "N"), x.tag)
    bias = at.const(5) if at.has(5) else None
    # all that the weight is made of must be the student's for rows to be named apart
    given = at.args[1 : 4 if at.has(3) else 3]
    here = replace(at, args=(x, *[weight] * len(given)))
    rows = contracted(here, x, weight, Shaping((0,), (1,)), [axis], tag, bias)
    return [Value(tag, (*map(no_zero, x.axes[:-1]), rows))]


@rules("com.microsoft.GatherBlockQuantized")
def _gathered(at: At) -> Sequence[Term]:
    """Packed table, indices, scales, zero points."""
    packed, scales = at.const(0), at.const(2)
    zeros = at.const(3) if at.has(3) else None
    if packed is None or scales is None or packed.dtype != np.uint8 or len(packed.shape) != 2:
        raise UnknownError("a table of another type")
    if at.node.attr("gather_axis", 0) % 2 or at.node.attr("quantize_axis", 1) % 2 != 1:
        raise UnknownError("rows that are not quantised along their width")
    bits, size = int(at.node.attr("bits", 4)), int(at.node.attr("block_size", 128))
    columns = packed.shape[1] * 8 // bits
    table = weights(packed, scales, zeros, bits, size, columns)
    return [part(at, "Gather", [table, at.value(1)], (0, 1))]
