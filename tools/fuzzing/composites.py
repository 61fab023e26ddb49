"""Larger blocks: attention, recurrence, control flow, functions, quantised and shared weights."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from tools.fuzzing.blocks import Draft, block


def _features(d: Draft, least: int = 4) -> bool:
    last = len(d.shape) - 1
    return last >= 1 and last not in d.open and d.shape[-1] >= least


def _product(d: Draft, t: str, width: int) -> str:
    name = d.name("proj")
    w = d.net.weight(f"{name}.weight", d.shape[-1], width, fan_in=d.shape[-1])
    return str(d.net.op("MatMul", t, w, at=name))


@block(2)
def attention(d: Draft) -> None:
    """Heads by Reshape and Transpose, or one head without."""
    if len(d.shape) != 3 or not _features(d):
        return
    heads = d.pick([1, 2])
    size = d.pick([2, 3])
    q, k, v = (_product(d, d.t, heads * size) for _ in range(3))
    if heads > 1:
        said = d.const([0, 0, heads, size])
        q, k, v = (d.emit("Transpose", d.emit("Reshape", x, said), perm=[0, 2, 1, 3])
                   for x in (q, k, v))  # fmt: skip
    perm = [0, 1, 3, 2] if heads > 1 else [0, 2, 1]
    scores = d.emit("MatMul", q, d.emit("Transpose", k, perm=perm))
    scores = d.emit("Softmax", d.emit("Mul", scores, d.scalar(size**-0.5)), axis=len(perm) - 1)
    y = d.emit("MatMul", scores, v)
    if heads > 1:
        y = d.emit("Reshape", d.emit("Transpose", y, perm=[0, 2, 1, 3]),
                   d.const([0, 0, heads * size]))  # fmt: skip
    before = d.shape[-1]
    d.shape[-1] = heads * size
    y = _product(d, y, before)
    d.shape[-1] = before
    d.t = d.emit("Add", d.t, y)


@block(single=True)
def recurrent(d: Draft) -> None:
    """LSTM, GRU or RNN over the second axis."""
    if len(d.shape) != 3 or not _features(d) or 1 in d.open:
        return
    op, gates = d.pick([("LSTM", 4), ("GRU", 3), ("RNN", 1)])
    hidden, inner = d.pick([3, 4]), d.shape[-1]
    name = d.name(op.lower())
    w = d.net.weight(f"{name}.w", 1, gates * hidden, inner, fan_in=inner)
    r = d.net.weight(f"{name}.r", 1, gates * hidden, hidden, fan_in=hidden)
    x = d.emit("Transpose", d.t, perm=[1, 0, 2])
    y = d.emit(op, x, w, r, hidden_size=hidden, n=1)
    y = d.listed("Squeeze", y, [1], 13)
    d.t, d.shape[-1] = d.emit("Transpose", y, perm=[1, 0, 2]), hidden


@block()
def tied(d: Draft) -> None:
    """One weight used twice, the second time transposed."""
    if not _features(d):
        return
    name, width = d.name("tied"), d.pick([4, 5])
    w = d.net.weight(f"{name}.weight", d.shape[-1], width, fan_in=d.shape[-1])
    y = d.emit("Relu", d.net.op("MatMul", d.t, w, at=name))
    d.t = d.emit("MatMul", y, d.emit("Transpose", w, perm=[1, 0]))


@block()
def shared(d: Draft) -> None:
    """One square layer applied twice."""
    if not _features(d):
        return
    name, width = d.name("shared"), d.shape[-1]
    w = d.net.weight(f"{name}.weight", width, width, fan_in=width)
    for _ in range(2):
        d.t = d.emit("Tanh", d.net.op("MatMul", d.t, w, at=name))


@block(since=13, single=True)
def quantised(d: Draft) -> None:
    """A layer whose weight is stored as int8 behind a DequantizeLinear."""
    if not _features(d):
        return
    name, width = d.name("q"), d.pick([4, 6])
    drawn = np.random.default_rng(d.rng.randrange(1 << 30)).integers(
        -127, 128, (d.shape[-1], width)
    )
    w = d.const(drawn.astype(np.int8), np.int8)
    scale = d.const(np.linspace(0.005, 0.01, width), np.float32)
    zero = d.const(np.zeros(width), np.int8)
    weight = d.emit("DequantizeLinear", w, scale, zero, axis=1)
    d.t, d.shape[-1] = d.net.op("MatMul", d.t, weight, at=name), width


@block(since=11)
def branches(d: Draft) -> None:
    """An If on a number that depends on the input; both branches hold a layer."""
    if not _features(d):
        return
    width, name = d.pick([4, 5]), d.name("if")
    flat = d.emit("ReduceMax", d.t, keepdims=0)
    condition = d.emit("Greater", flat, d.scalar(0.5))
    bodies = {}
    for k, key in enumerate(("then_branch", "else_branch")):
        w = d.net.weight(f"{name}.{k}", d.shape[-1], width, fan_in=d.shape[-1])
        out = f"{name}_{k}"
        node = helper.make_node("MatMul", [d.t, w], [out], name=f"/{name}/MatMul_{k}")
        info = helper.make_tensor_value_info(out, d.net.kind, None)
        bodies[key] = helper.make_graph([node], key, [], [info])
    d.t, d.shape[-1] = d.emit("If", condition, **bodies), width


@block(since=13)
def loop(d: Draft) -> None:
    """A Loop that applies a square layer a few times."""
    if not _features(d) or d.open:
        return
    width, name = d.shape[-1], d.name("loop")
    w = d.net.weight(f"{name}.weight", width, width, fan_in=width)
    inner = [f"{name}_{n}" for n in ("i", "go", "x", "p", "y", "still")]
    i, go, x, p, y, still = inner
    nodes = [
        helper.make_node("MatMul", [x, w], [p], name=f"/{name}/MatMul"),
        helper.make_node("Tanh", [p], [y]),
        helper.make_node("Identity", [go], [still]),
    ]
    ints = helper.make_tensor_value_info(i, TensorProto.INT64, [])
    flags = [helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in (go, still)]
    states = [helper.make_tensor_value_info(n, d.net.kind, d.shape) for n in (x, y)]
    body = helper.make_graph(nodes, name, [ints, flags[0], states[0]], [flags[1], states[1]])
    times = d.const(d.pick([1, 2, 3]))
    d.t = d.emit("Loop", times, "", d.t, body=body)


@block(since=15)
def function(d: Draft) -> None:
    """A local function with a layer's weight as an argument."""
    if not _features(d):
        return
    name, width = d.name("Dense"), d.pick([4, 5])
    w = d.net.weight(f"{name}.weight", d.shape[-1], width, fan_in=d.shape[-1])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Relu", ["p"], ["y"]),
    ]  # fmt: skip
    opsets = [helper.make_opsetid("", d.opset)]
    d.functions.append(helper.make_function("local", name, ["x", "w"], ["y"], nodes, opsets))
    d.t, d.shape[-1] = d.emit(name, d.t, w, domain="local"), width


@block(since=13)
def positions(d: Draft) -> None:
    """A table of positions, read as far as the sequence is long."""
    if len(d.shape) != 3 or 1 not in d.open or not _features(d):
        return
    table = d.net.draw(d.name("positions"), 1, 64, d.shape[-1])
    length = d.emit("Gather", d.emit("Shape", d.t), d.const([1]), axis=0)
    part = d.emit("Slice", table, d.const([0]), length, d.const([1]))
    d.t = d.emit("Add", d.t, part)


@block(since=13)
def folded(d: Draft) -> None:
    """Shape arithmetic: the axes but the last merged and taken apart again."""
    if not _features(d):
        return
    shape = d.emit("Shape", d.t)
    d.t = d.emit("Reshape", d.t, d.const([-1, d.shape[-1]]))
    width = d.pick([4, 6])
    w = d.net.weight(d.name("flat"), d.shape[-1], width, fan_in=d.shape[-1])
    y = d.net.op("MatMul", d.t, w, at="flat")
    lead = d.emit("Slice", shape, d.const([0]), d.const([len(d.shape) - 1]))
    d.t = d.emit("Reshape", y, d.emit("Concat", lead, d.const([width]), axis=0))
    d.shape[-1] = width
