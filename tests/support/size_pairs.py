"""Models that do something with a size, in two variants that differ at some sizes only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tools.samples.graph_builder import Net

Build = Callable[[Net, str, int], str]
PAIRS: dict[str, tuple[Build, int, int]] = {}
"""Name -> how it is built from a net, its input and a variant; the variants."""


def pair(a: int, b: int) -> Callable[[Build], Build]:
    """Put a builder into the table with two variants."""

    def put(f: Build) -> Build:
        PAIRS[f.__name__] = f, a, b
        return f

    return put


def built(name: str, variant: int) -> onnx.ModelProto:
    """A model of a pair."""
    net = Net(name, opset=18)
    x = net.input("x", "B", "S", 4)
    y = PAIRS[name][0](net, x, variant)
    return net.output("y", net.op("Relu", net.op("Add", y, y))).model()


def chained(first: str, second: str, variants: tuple[int, int]) -> onnx.ModelProto:
    """One of a pair behind one of another."""
    net = Net(f"{first}_{second}", opset=18)
    y = PAIRS[first][0](net, net.input("x", "B", "S", 4), variants[0])
    y = PAIRS[second][0](net, net.op("Sin", y), variants[1])
    return net.output("y", net.op("Add", y, y)).model()


def _i(net: Net, *values: int) -> str:
    return net.const(f"i{len(net.weights)}", list(values))


def _s(net: Net, value: Any, dtype: Any = np.int64) -> str:
    return net.const(f"s{len(net.weights)}", value, dtype)


def _cut(net: Net, x: str, start: Any, end: Any, step: int = 1, axis: int = 1) -> str:
    bounds = [v if isinstance(v, str) else _i(net, v) for v in (start, end)]
    return str(net.op("Slice", x, *bounds, _i(net, axis), _i(net, step)))


def _branches(net: Net, condition: str, *results: str) -> str:
    bodies = {}
    for name, t in zip(("then_branch", "else_branch"), results, strict=True):
        out = helper.make_empty_tensor_value_info(f"{name}_out")
        node = helper.make_node("Identity", [t], [f"{name}_out"])
        bodies[name] = helper.make_graph([node], name, [], [out])
    return str(net.op("If", condition, **bodies))


@pair(20, 2**31)
def slice_end(net: Net, x: str, v: int) -> str:
    return _cut(net, x, 0, v)


@pair(-20, -(2**31))
def slice_last(net: Net, x: str, v: int) -> str:
    return _cut(net, x, v, 2**31)


@pair(20, 21)
def slice_start_beyond(net: Net, x: str, v: int) -> str:
    late = net.op("ReduceSum", _cut(net, x, v, 2**31), _i(net, 1), keepdims=1)
    return str(net.op("Add", x, late))


@pair(20, 30)
def slice_backwards(net: Net, x: str, v: int) -> str:
    return _cut(net, x, v, -(2**31), -1)


@pair(7, 9)
def slice_step(net: Net, x: str, v: int) -> str:
    """From the eighth or the tenth position: from none of eight."""
    late = net.op("ReduceSum", _cut(net, x, v + 1, 2**31, 2), _i(net, 1), keepdims=1)
    return str(net.op("Add", x, late))


@pair(20, 30)
def cap(net: Net, x: str, v: int) -> str:
    return _cut(net, x, 0, net.op("Min", net.dim(x, 1), _i(net, v)))


@pair(20, 30)
def cap_by_where(net: Net, x: str, v: int) -> str:
    size = net.dim(x, 1)
    small = net.op("Less", size, _i(net, v))
    return _cut(net, x, 0, net.op("Where", small, size, _i(net, v)))


@pair(20, 30)
def clip_of_size(net: Net, x: str, v: int) -> str:
    size = net.op("Squeeze", net.dim(x, 1), _i(net, 0))
    capped = net.op("Clip", size, _s(net, 0), _s(net, v))
    return _cut(net, x, 0, net.op("Unsqueeze", capped, _i(net, 0)))


@pair(20, 30)
def if_longer(net: Net, x: str, v: int) -> str:
    longer = net.op("Greater", net.op("Squeeze", net.dim(x, 1), _i(net, 0)), _s(net, v))
    return _branches(net, longer, net.op("Neg", x), net.op("Abs", x))


@pair(20, 30)
def where_longer(net: Net, x: str, v: int) -> str:
    longer = net.op("Greater", net.op("Squeeze", net.dim(x, 1), _i(net, 0)), _s(net, v))
    return str(net.op("Where", longer, net.op("Neg", x), net.op("Abs", x)))


@pair(20, 30)
def mask_buffer(net: Net, x: str, v: int) -> str:
    """A causal mask cut to the length: the two differ in one element far out."""
    mask = np.tril(np.ones((1, 64, 64), bool))
    mask[0, v, 1] = False
    scores = net.op("MatMul", x, net.op("Transpose", x, perm=[0, 2, 1]))
    size = net.dim(x, 1)
    cut = _cut(net, _cut(net, _s(net, mask, bool), 0, size), 0, size, axis=2)
    hidden = net.op("Where", cut, scores, _s(net, -9.0, np.float32))
    return str(net.op("MatMul", net.op("Softmax", hidden, axis=-1), x))


@pair(20, 30)
def table_by_range(net: Net, x: str, v: int) -> str:
    table = np.arange(256, dtype=np.float32).reshape(64, 4)
    table[v] = 0
    size = net.op("Squeeze", net.dim(x, 1), _i(net, 0))
    places = net.op("Range", _s(net, 0), size, _s(net, 1))
    return str(net.op("Add", x, net.op("Gather", _s(net, table, np.float32), places)))


@pair(20, 30)
def table_by_slice(net: Net, x: str, v: int) -> str:
    table = np.arange(256, dtype=np.float32).reshape(1, 64, 4)
    table[0, v] = 0
    return str(net.op("Add", x, _cut(net, _s(net, table, np.float32), 0, net.dim(x, 1))))


@pair(20, 30)
def table_by_cumsum(net: Net, x: str, v: int) -> str:
    """Positions that are counted."""
    table = np.arange(256, dtype=np.float32).reshape(64, 4)
    table[v] = 0
    ones = net.op("ConstantOfShape", net.dim(x, 1), value=helper.make_tensor("v", 7, [1], [1]))
    places = net.op("Sub", net.op("CumSum", ones, _s(net, 0)), _s(net, 1))
    return str(net.op("Add", x, net.op("Gather", _s(net, table, np.float32), places)))


@pair(20, 30)
def table_by_nonzero(net: Net, x: str, v: int) -> str:
    table = np.arange(256, dtype=np.float32).reshape(64, 4)
    table[v] = 0
    ones = net.op("ConstantOfShape", net.dim(x, 1), value=helper.make_tensor("v", 7, [1], [1]))
    places = net.op("Squeeze", net.op("NonZero", ones), _i(net, 0))
    return str(net.op("Add", x, net.op("Gather", _s(net, table, np.float32), places)))


@pair(0, 8)
def last_token(net: Net, x: str, v: int) -> str:
    """Of all, or the eighth."""
    last = net.op("Sub", net.dim(x, 1), _i(net, 1)) if v == 0 else _i(net, v - 1)
    return str(net.op("Gather", x, last, axis=1))


@pair(0, 8)
def range_limit(net: Net, x: str, v: int) -> str:
    size = net.op("Squeeze", net.dim(x, 1), _i(net, 0)) if v == 0 else _s(net, v)
    places = net.op("Cast", net.op("Range", _s(net, 0), size, _s(net, 1)), to=1)
    return str(net.op("Add", x, net.op("Unsqueeze", places, _i(net, 1))))


@pair(0, 8)
def zeros_of_length(net: Net, x: str, v: int) -> str:
    size = net.dim(x, 1) if v == 0 else _i(net, v)
    shape = net.op("Concat", net.dim(x, 0), size, _i(net, 4), axis=0)
    return str(net.op("Concat", x, net.op("ConstantOfShape", shape), axis=1))


@pair(0, 8)
def expand_to(net: Net, x: str, v: int) -> str:
    size = net.dim(x, 1) if v == 0 else _i(net, v)
    row = net.op("ReduceMean", x, _i(net, 1), keepdims=1)
    shape = net.op("Concat", net.dim(x, 0), size, _i(net, 4), axis=0)
    return str(net.op("Expand", row, shape))


@pair(0, 8)
def tile_by(net: Net, x: str, v: int) -> str:
    size = net.dim(x, 1) if v == 0 else _i(net, v)
    row = net.op("ReduceMean", x, _i(net, 1), keepdims=1)
    return str(net.op("Tile", row, net.op("Concat", _i(net, 1), size, _i(net, 1), axis=0)))


@pair(16, 20)
def pad_to(net: Net, x: str, v: int) -> str:
    """To a least length."""
    short = net.op("Max", net.op("Sub", _i(net, v), net.dim(x, 1)), _i(net, 0))
    pads = net.op("Concat", _i(net, 0, 0, 0, 0), short, _i(net, 0), axis=0)
    return str(net.op("ReduceMean", net.op("Pad", x, pads), _i(net, 1)))


@pair(4, 2)
def pad_to_multiple(net: Net, x: str, v: int) -> str:
    rest = net.op("Mod", net.dim(x, 1), _i(net, v))
    short = net.op("Mod", net.op("Sub", _i(net, v), rest), _i(net, v))
    return str(net.op("Pad", x, net.op("Concat", _i(net, 0, 0, 0, 0), short, _i(net, 0), axis=0)))


@pair(4, 2)
def mod_of_size(net: Net, x: str, v: int) -> str:
    rest = net.op("Cast", net.op("Mod", net.dim(x, 1), _i(net, v)), to=1)
    return str(net.op("Add", x, rest))


@pair(0, 2)
def stale_batch(net: Net, x: str, v: int) -> str:
    batch = net.dim(x, 0) if v == 0 else _i(net, v)
    shape = net.op("Concat", batch, _i(net, -1, 2, 2), axis=0)
    return str(net.op("Transpose", net.op("Reshape", x, shape), perm=[0, 2, 1, 3]))


@pair(0, 8)
def stale_length(net: Net, x: str, v: int) -> str:
    size = net.dim(x, 1) if v == 0 else _i(net, v)
    flat = net.op("Reshape", net.op("Transpose", x, perm=[0, 2, 1]), _i(net, -1))
    shape = net.op("Concat", _i(net, -1), size, axis=0)
    return str(net.op("Softmax", net.op("Reshape", flat, shape), axis=-1))


@pair(0, 4)
def halves(net: Net, x: str, v: int) -> str:
    """Split in the middle, or after the fourth."""
    half = net.op("Div", net.dim(x, 1), _i(net, 2)) if v == 0 else _i(net, v)
    sizes = net.op("Concat", half, net.op("Sub", net.dim(x, 1), half), axis=0)
    first, second = net.op("Split", x, sizes, n=2, axis=1)
    return str(net.op("Concat", second, first, axis=1))


@pair(0, 8)
def mean_by_hand(net: Net, x: str, v: int) -> str:
    total = net.op("ReduceSum", x, _i(net, 1), keepdims=1)
    size = net.op("Cast", net.dim(x, 1), to=1) if v == 0 else _s(net, float(v), np.float32)
    return str(net.op("Div", total, size))


@pair(0, 8)
def one_hot_depth(net: Net, x: str, v: int) -> str:
    size = net.op("Squeeze", net.dim(x, 1), _i(net, 0)) if v == 0 else _s(net, v)
    values = net.const("values", [0, 1], np.float32)
    return str(net.op("Add", x, net.op("ReduceSum", net.op("OneHot", _i(net, 1), size, values))))


@pair(0, 8)
def trilu_offset(net: Net, x: str, v: int) -> str:
    scores = net.op("MatMul", x, net.op("Transpose", x, perm=[0, 2, 1]))
    size = net.op("Squeeze", net.dim(x, 1), _i(net, 0)) if v == 0 else _s(net, v)
    return str(net.op("Trilu", scores, net.op("Sub", size, _s(net, 6)), upper=1))


@pair(0, 8)
def top_k(net: Net, x: str, v: int) -> str:
    size = net.dim(x, 1) if v == 0 else _i(net, v)
    return str(net.op("TopK", x, size, n=2, axis=1)[0])


@pair(0, 8)
def loop_count(net: Net, x: str, v: int) -> str:
    """As many rounds as positions, or eight."""
    size = net.op("Squeeze", net.dim(x, 1), _i(net, 0)) if v == 0 else _s(net, v)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Mul", ["state", "state"], ["square"]),
            helper.make_node("Sub", ["square", "state"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", 7, []),
            helper.make_tensor_value_info("go", 9, []),
            helper.make_tensor_value_info("state", 1, None),
        ],
        [
            helper.make_tensor_value_info("on", 9, []),
            helper.make_tensor_value_info("next", 1, None),
        ],
    )
    small = net.op("Mul", x, _s(net, 0.1, np.float32))
    return str(net.op("Loop", size, _s(net, True, bool), small, body=body))


@pair(0, 1)
def resize_to(net: Net, x: str, v: int) -> str:
    """To twice the length, or to sixteen."""
    twice = net.op("Mul", net.dim(x, 1), _i(net, 2)) if v == 0 else _i(net, 16)
    sizes = net.op("Concat", net.dim(x, 0), twice, _i(net, 4), axis=0)
    return str(net.op("Resize", x, "", "", sizes, mode="nearest"))


@pair(0, 1)
def pool_rounding(net: Net, x: str, v: int) -> str:
    turned = net.op("Transpose", x, perm=[0, 2, 1])
    pooled = net.op("MaxPool", turned, kernel_shape=[2], strides=[2], ceil_mode=v)
    return str(net.op("ReduceMean", pooled, keepdims=0))


@pair(0, 1)
def same_padding(net: Net, x: str, v: int) -> str:
    turned, w = net.op("Transpose", x, perm=[0, 2, 1]), net.draw("w", 3, 4, 3)
    how: dict[str, Any] = {"pads": [0, 1]} if v else {"auto_pad": "SAME_UPPER"}
    return str(net.op("Conv", turned, w, kernel_shape=[3], strides=[2], **how))


@pair(0, 1)
def added_zeros(net: Net, x: str, v: int) -> str:
    """Zeros of eight positions, which do nothing to eight."""
    return str(net.op("Add", x, _s(net, np.zeros((1, 8, 4)), np.float32))) if v else x


@pair(0, 1)
def identity_reshape(net: Net, x: str, v: int) -> str:
    return str(net.op("Reshape", x, _i(net, -1, 8, 4))) if v else x


@pair(0, 8)
def padded_mean(net: Net, x: str, v: int) -> str:
    """A mean over zeros that are put beside, undone for any length or for eight."""
    pads = net.op("Pad", x, _i(net, 0, 1, 0, 0, 1, 0))
    mean = net.op("ReduceMean", pads, _i(net, 1), keepdims=1)
    size = net.op("Cast", net.dim(x, 1), to=1)
    part = net.op("Div", net.op("Add", size, _s(net, 2.0, np.float32)), size)
    return str(net.op("Mul", mean, part if v == 0 else _s(net, 10 / 8, np.float32)))


def _elements(net: Net, x: str) -> str:
    """The features as a sequence of elements of unlike sizes."""
    return str(net.op("SplitToSequence", x, _i(net, 1, 3), axis=2))


@pair(20, 30)
def slice_of_an_element(net: Net, x: str, v: int) -> str:
    element = net.op("SequenceAt", _elements(net, x), _s(net, 1))
    return _cut(net, element, 0, v)


@pair(20, 30)
def slice_of_joined_elements(net: Net, x: str, v: int) -> str:
    return _cut(net, net.op("ConcatFromSequence", _elements(net, x), axis=2), 0, v)


@pair(20, 30)
def slice_of_an_inserted_element(net: Net, x: str, v: int) -> str:
    longer = net.op("SequenceInsert", _elements(net, x), net.op("Concat", x, x, axis=1))
    return _cut(net, net.op("SequenceAt", longer, _s(net, -1)), 0, 2 * v)
