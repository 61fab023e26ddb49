"""Random models whose sizes are open: shape arithmetic, what moves data by it, windows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper

from tools.samples.graph_builder import Net

Rng = np.random.Generator
Program = Callable[[Net, Rng], str]
PROGRAMS: dict[str, Program] = {}


def program(f: Program) -> Program:
    """Put a kind of model into the table, by its function's name."""
    PROGRAMS[f.__name__] = f
    return f


def draw(name: str, rng: Rng) -> onnx.ModelProto:
    """A model of a kind."""
    net = Net(name, opset=int(rng.choice([13, 17, 18, 21])))
    return net.output("y", PROGRAMS[name](net, rng)).model()


def _int(rng: Rng, low: int, high: int) -> int:
    return int(rng.integers(low, high + 1))


def _ints(net: Net, *values: int) -> str:
    return net.const(f"c{len(net.weights)}", list(values))


def _sizes(net: Net, x: str, rng: Rng, depth: int) -> str:
    """A computed integer [1] from the sizes of x."""
    if depth == 0 or rng.random() < 0.2:
        return net.dim(x, _int(rng, 0, 1)) if rng.random() < 0.7 else _ints(net, _int(rng, 1, 9))
    a, b = (_sizes(net, x, rng, depth - 1) for _ in range(2))
    op = str(rng.choice("Add Mul Min Max Sub Div Mod Where Less Equal And Cast ReduceProd".split()))
    if op in ("Div", "Mod"):
        return net.op(op, a, _ints(net, _int(rng, 1, 5)))
    if op == "Where":
        test = str(rng.choice(["Less", "Equal", "Greater", "LessOrEqual", "GreaterOrEqual"]))
        return net.op("Where", net.op(test, a, b), b, a)
    if op in ("Less", "Equal"):
        return net.op("Cast", net.op("Not", net.op(op, a, b)), to=7)
    if op == "And":
        return net.op("Cast", net.op("Or", net.op("Less", a, b), net.op("Equal", a, b)), to=7)
    if op == "Cast":
        return net.op("Cast", net.op("Cast", a, to=6), to=7)
    if op == "ReduceProd":
        return net.op("ReduceProd", net.op("Concat", a, b, axis=0), keepdims=1)
    return net.op(op, a, b)


@program
def arithmetic(net: Net, rng: Rng) -> str:
    """Sizes computed from sizes, as the length of zeros."""
    x = net.input("x", "B", "S", 4)
    size = net.op("Max", _sizes(net, x, rng, 3), _ints(net, 0))
    size = net.op("Min", size, _ints(net, 50))
    shape = net.op("Concat", size, net.dim(x, 0), axis=0)
    return net.op("ConstantOfShape", shape)


@program
def slices(net: Net, rng: Rng) -> str:
    """Fixed and computed bounds, negative ones, steps; what is left is cut again."""
    x = net.input("x", "B", "S", 4)
    for _ in range(2):
        step = int(rng.choice([1, 1, 2, 3, -1, -2]))
        far = 2**31 if rng.random() < 0.5 else 2**63 - 1
        pairs = [(0, _int(rng, 1, 30)), (_int(rng, 0, 9), far), (-_int(rng, 1, 9), far), (1, -1)]
        start, end = pairs[_int(rng, 0, 3)]
        if step < 0:
            start, end = (end, start) if rng.random() < 0.5 else (-1, -far)
        e = _sizes(net, x, rng, 1) if rng.random() < 0.3 and step > 0 else _ints(net, end)
        x = net.op("Slice", x, _ints(net, start), e, _ints(net, 1), _ints(net, step))
    return net.op("Relu", x)


@program
def reshapes(net: Net, rng: Rng) -> str:
    """Heads apart and together; -1 and 0; Flatten, Squeeze, Unsqueeze, Transpose."""
    x = net.input("x", "B", "S", 12)
    heads = int(rng.choice([1, 2, 3, 4, 6]))
    way = _int(rng, 0, 3)
    if way == 0:
        x = net.op("Reshape", x, _ints(net, 0, 0, heads, -1))
        return net.op("Reshape", net.op("Transpose", x, perm=[0, 2, 1, 3]), _ints(net, -1, 12))
    if way == 1:
        size = net.op("Concat", net.dim(x, 0), _ints(net, -1), _ints(net, heads), axis=0)
        return net.op("Flatten", net.op("Reshape", x, size), axis=_int(rng, 0, 3))
    if way == 2:
        size = net.op("Concat", net.op("Mul", net.dim(x, 0), net.dim(x, 1)), _ints(net, -1), axis=0)
        return net.op("Unsqueeze", net.op("Reshape", x, size), _ints(net, _int(rng, 0, 2)))
    return net.op("Reshape", x, _ints(net, -1, 0, heads))


@program
def joins(net: Net, rng: Rng) -> str:
    """Concat, Split, Tile, Expand, Pad, Gather and what broadcasts."""
    x, past = net.input("x", "B", "S", 4), net.input("past", "B", "W", 4)
    both = net.op("Concat", past, x, axis=1)
    total = net.dim(both, 1)
    way = _int(rng, 0, 5)
    if way == 0:
        left = net.op("Sub", total, net.dim(x, 1))
        split = net.op("Concat", left, net.dim(x, 1), axis=0)
        return net.op("Split", both, split, n=2, axis=1)[_int(rng, 0, 1)]
    if way == 1:
        times = net.op("Concat", _ints(net, _int(rng, 1, 3)), net.dim(x, 0), _ints(net, 1), axis=0)
        return net.op("Tile", both, times)
    if way == 2:
        row = net.draw("row", 1, 1, 4)
        shape = net.op("Concat", net.dim(x, 0), total, _ints(net, 4), axis=0)
        return net.op("Add", both, net.op("Expand", row, shape))
    if way == 3:
        short = net.op("Max", net.op("Sub", _ints(net, 30), total), _ints(net, 0))
        pads = net.op("Concat", _ints(net, 0, _int(rng, 0, 3), 0, 0), short, _ints(net, 0), axis=0)
        return net.op("Pad", both, pads)
    if way == 4:
        return net.op("Gather", both, _ints(net, 0, -1), axis=1)
    last = net.op("Gather", both, net.op("Sub", total, _ints(net, 1)), axis=1)
    return net.op("ReduceSum", net.op("Mul", last, x), _ints(net, 1), keepdims=_int(rng, 0, 1))


@program
def windows(net: Net, rng: Rng) -> str:
    """Convolutions and pools of every padding, stride, dilation."""
    x = net.input("x", "B", 3, "H", "W")
    for n in range(2):
        k, s, d = _int(rng, 1, 3), _int(rng, 1, 3), _int(rng, 1, 2)
        a = {"kernel_shape": [k, k], "strides": [s, s], "dilations": [d, d]}
        how = str(rng.choice(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
        if how == "NOTSET":
            a["pads"] = [_int(rng, 0, k // 2) for _ in range(4)]
        else:
            a |= {"auto_pad": how, "dilations": [1, 1]}
        way = _int(rng, 0, 3)
        if way == 0:
            x = net.op("Conv", x, net.draw(f"w{n}", 3, 3, k, k), **a)
        elif way == 1:
            wide = net.draw(f"w{n}", 3, 3, k, k)
            x = net.op("ConvTranspose", x, wide, **a, output_padding=[_int(rng, 0, s - 1)] * 2)
        elif way == 2:
            x = net.op("MaxPool", x, **a, ceil_mode=_int(rng, 0, 1) if "pads" not in a else 0)
        else:
            del a["dilations"]
            ceil = {"ceil_mode": 1} if "pads" not in a and how == "NOTSET" else {}
            x = net.op("AveragePool", x, **a, **ceil)
    return x


@program
def resampled(net: Net, rng: Rng) -> str:
    """Resize by factors and to computed sizes; depth to space and back."""
    x = net.input("x", "B", 4, "H", "W")
    way = _int(rng, 0, 3)
    if way == 0:
        scales = [1, 1, float(rng.choice([2, 0.5, 3])), float(rng.choice([1, 2, 0.25]))]
        return net.op("Resize", x, "", net.const("s", scales, np.float32), mode="nearest")
    if way == 1:
        sizes = [net.dim(x, k) for k in (0, 1)]
        sizes += [net.op("Mul", net.dim(x, k), _ints(net, _int(rng, 1, 3))) for k in (3, 2)]
        return net.op("Resize", x, "", "", net.op("Concat", *sizes, axis=0), mode="nearest")
    if way == 2:
        return net.op("DepthToSpace", x, blocksize=2)
    wide = net.op("Resize", x, "", net.const("s", [1, 1, 2, 2], np.float32), mode="nearest")
    return net.op("SpaceToDepth", wide, blocksize=2)


@program
def positions(net: Net, rng: Rng) -> str:
    """Positions by Range, tables and masks of computed length, in an If."""
    x = net.input("x", "B", "S", 4)
    size = net.op("Squeeze", net.dim(x, 1), _ints(net, 0))
    zero, one = net.const("zero", 0), net.const("one", _int(rng, 1, 2))
    places = net.op("Range", zero, size, one)
    table = net.op("Gather", net.draw("table", 64, 4), places)
    both = net.op("Concat", net.dim(x, 1), net.dim(x, 1), axis=0)
    mask = net.draw("mask", 1, 64, 64)
    cut = net.op("Slice", mask, _ints(net, 0, 0), both, _ints(net, 1, 2))
    turned = net.op("Transpose", x, perm=[0, 2, 1])
    scores = net.op("Add", net.op("MatMul", x, turned), cut)
    y = net.op("MatMul", net.op("Softmax", scores, axis=-1), x)
    y = net.op("MatMul", net.op("Transpose", y, perm=[0, 2, 1]), y)
    longer = net.op("Greater", net.dim(x, 1), _ints(net, 9))
    square = net.op("MatMul", net.op("Transpose", table, perm=[1, 0]), table)
    return _either(net, longer, y, net.op("Unsqueeze", square, _ints(net, 0)))


def _either(net: Net, condition: str, a: str, b: str) -> str:
    """An If that returns one of two outer tensors."""
    bodies = {}
    for name, t in (("then_branch", a), ("else_branch", b)):
        out = helper.make_empty_tensor_value_info(f"{name}_out")
        node = helper.make_node("Identity", [t], [f"{name}_out"])
        bodies[name] = helper.make_graph([node], name, [], [out])
    found: str = net.op("If", condition, **bodies)
    return found
