"""The blocks that random graphs are made of: each appends some nodes where they fit."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from tools.samples.graph_builder import Net

if TYPE_CHECKING:
    from tools.fuzzing.programs import Program


@dataclass
class Draft:
    """A graph under construction: one main tensor, and those of its shapes that were kept.

    Attributes:
        t, shape: the main tensor and its sizes at the sizes of `finish`'s probe; an open axis
            is held at its probe size and listed in `open`.
        open: axes of `t` that are open; blocks leave them where they are.
        kept: shape -> an earlier tensor of that shape.
    """

    net: Net
    rng: random.Random
    t: str
    shape: list[int]
    open: dict[int, str]
    opset: int
    count: int = 0
    kept: dict[tuple[Any, ...], str] = field(default_factory=dict)
    functions: list[onnx.FunctionProto] = field(default_factory=list)

    @classmethod
    def start(cls, program: Program) -> Draft:
        """An input and a first layer."""
        dtype = np.float16 if program.half else np.float32
        net = Net(f"fuzz{program.seed}", opset=program.opset, dtype=dtype)
        sizes = {2: [2, 6], 3: [2, 5, 6], 4: [2, 3, 6, 6]}[program.rank]
        open_axes: dict[int, str] = {0: "N"} if program.open_batch else {}
        if program.open_length:
            open_axes |= {3: {1: "S"}, 4: {2: "H", 3: "W"}}.get(program.rank, {})
        dims = [open_axes.get(k, d) for k, d in enumerate(sizes)]
        x = net.input("x", *dims)
        rng = random.Random(f"start {program.seed}")
        draft = cls(net, rng, x, sizes, open_axes, program.opset)
        draft.layer(rng.choice([4, 6, 8]))
        return draft

    def pick(self, options: Sequence[Any]) -> Any:
        """One of them."""
        return self.rng.choice(list(options))

    def name(self, base: str) -> str:
        """A name that nothing else has."""
        self.count += 1
        return f"{base}{self.count}"

    def emit(self, op: str, *inputs: str, n: int = 1, **attributes: Any) -> Any:
        """A node; the names of its outputs."""
        return self.net.op(op, *inputs, n=n, **attributes)

    def const(self, values: Any, dtype: Any = np.int64) -> str:
        """An initializer."""
        return self.net.const(self.name("c"), values, dtype)

    def scalar(self, value: float) -> str:
        """A float of the graph's own type."""
        return self.const(value, self.net.dtype)

    def free(self, allowed: Callable[[int], bool] = lambda d: True) -> int | None:
        """A closed axis that may be changed; None if there is none."""
        axes = [k for k, d in enumerate(self.shape) if k not in self.open and allowed(d)]
        return self.pick(axes) if axes else None

    def listed(self, op: str, t: str, values: list[int], since: int, **more: Any) -> str:
        """An operator whose `axes` became an input at an opset."""
        if self.opset >= since:
            return str(self.emit(op, t, self.const(values), **more))
        return str(self.emit(op, t, axes=values, **more))

    def vector(self, axis: int, low: float = -0.5, high: float = 0.5) -> str:
        """Random numbers along one axis, broadcast along the others."""
        shape = [d if k == axis else 1 for k, d in enumerate(self.shape)]
        return self.net.draw(self.name("v"), *shape, low=low, high=high)

    def layer(self, width: int) -> None:
        """A convolution on axis 1 of rank 4, a product with the last axis of any other rank."""
        if len(self.shape) == 4 and 1 not in self.open:
            self.t = self.net.conv(self.t, self.name("conv"), self.shape[1], width, 1)
            self.shape[1] = width
        elif len(self.shape) - 1 not in self.open:
            name = self.name("fc")
            w = self.net.weight(f"{name}.weight", self.shape[-1], width, fan_in=self.shape[-1])
            self.t = self.net.op("MatMul", self.t, w, at=name)
            self.shape[-1] = width

    def finish(self) -> onnx.ModelProto:
        """A last layer that reads everything, and the output."""
        self.layer(3)
        dims = [self.open.get(k, d) for k, d in enumerate(self.shape)]
        self.net.output("y", self.t, *dims)
        model = self.net.model()
        model.functions.extend(self.functions)
        if self.functions:
            model.opset_import.append(helper.make_opsetid("local", 1))
        return model


@dataclass(frozen=True)
class Block:
    """A way to go on; `since`: the opset it needs, `single`: float32 only."""

    add: Callable[[Draft], None]
    weight: float = 1.0
    since: int = 7
    single: bool = False


BLOCKS: dict[str, Block] = {}


Add = Callable[[Draft], None]


def block(weight: float = 1.0, since: int = 7, single: bool = False) -> Callable[[Add], Add]:
    """Put a function into the table under its own name."""

    def put(add: Add) -> Add:
        BLOCKS[add.__name__] = Block(add, weight, since, single)
        return add

    return put


UNARY = "Relu Relu Sigmoid Tanh Abs Neg Exp Softplus Softsign Atan Floor Sign Erf".split()


@block(4)
def unary(d: Draft) -> None:
    op = d.pick(UNARY)
    if op == "Exp":  # keeps numbers small
        d.t = d.emit("Tanh", d.t)
    if op not in ("Erf", "Sign") or d.opset >= 9:
        d.t = d.emit(op, d.t)


@block(2)
def parametric(d: Draft) -> None:
    op = d.pick(["LeakyRelu", "Elu", "Selu", "HardSigmoid", "Clip", "ThresholdedRelu"])
    if op == "Clip":
        low, high = -d.rng.random(), d.rng.random() * 6
        if d.opset >= 11:
            d.t = d.emit("Clip", d.t, d.scalar(low), d.pick(["", d.scalar(high)]))
        else:
            d.t = d.emit("Clip", d.t, min=low, max=high)
    elif op != "ThresholdedRelu" or d.opset >= 10:
        d.t = d.emit(op, d.t)


@block()
def prelu(d: Draft) -> None:
    k = d.free()
    if k is not None:
        d.t = d.emit("PRelu", d.t, d.vector(k, 0.05, 0.3))


@block(3)
def dense(d: Draft) -> None:
    d.layer(d.pick([4, 5, 6, 8]))


@block(2)
def window(d: Draft) -> None:
    """A convolution or a pool with a window, at odd strides and pads."""
    if len(d.shape) != 4 or 1 in d.open:
        return
    kernel, stride = d.pick([2, 3]), d.pick([1, 1, 2])
    how: dict[str, Any] = {"strides": [stride] * 2}
    auto = d.pick(["", "", "SAME_UPPER", "SAME_LOWER"])
    c, h, w = d.shape[1:]
    if auto:
        how["auto_pad"] = auto
        size = [-(-s // stride) for s in (h, w)]
    else:
        pads = [d.pick([0, 1]) for _ in range(4)]
        how["pads"] = pads
        size = [(s + pads[k] + pads[k + 2] - kernel) // stride + 1 for k, s in enumerate((h, w))]
    if min(size) < 1 or min(h, w) < kernel:
        return
    op = d.pick(["Conv", "Conv", "MaxPool", "AveragePool"])
    if op == "Conv":
        group = d.pick([g for g in range(1, c + 1) if c % g == 0])
        width = group * d.pick([1, 2])
        if auto:
            how["pads"] = None
        pads = how.pop("pads")
        extra = {"pads": pads} if pads else {}
        name = d.name("conv")
        weight = d.net.weight(f"{name}.weight", width, c // group, kernel, kernel, fan_in=c)
        d.t = d.emit("Conv", d.t, weight, group=group, **how, **extra)
        d.shape = [d.shape[0], width, *size]
    else:
        d.t = d.emit(op, d.t, kernel_shape=[kernel] * 2, **how)
        d.shape = [d.shape[0], c, *size]


@block()
def transposed(d: Draft) -> None:
    if len(d.shape) == 4 and 1 not in d.open and max(d.shape[2:]) <= 8:
        name, width = d.name("up"), d.pick([3, 4])
        weight = d.net.weight(f"{name}.weight", d.shape[1], width, 2, 2, fan_in=d.shape[1])
        d.t = d.emit("ConvTranspose", d.t, weight, strides=[2, 2])
        d.shape = [d.shape[0], width, 2 * d.shape[2], 2 * d.shape[3]]


@block(2)
def norm(d: Draft) -> None:
    kind = d.pick(["batch", "layer", "softmax", "instance", "rms"])
    rank = len(d.shape)
    if kind == "batch" and rank > 1 and 1 not in d.open:
        d.t = d.net.bn(d.t, d.name("bn"), d.shape[1])
    elif kind == "instance" and rank > 2 and 1 not in d.open:
        vectors = [d.net.draw(d.name("in"), d.shape[1], low=0.5, high=1.5) for _ in range(2)]
        d.t = d.emit("InstanceNormalization", d.t, *vectors)
    elif kind == "layer" and d.opset >= 17 and d.shape[-1] > 3 and rank - 1 not in d.open:
        scale = [d.net.draw(d.name("ln"), d.shape[-1], low=0.5, high=1.5) for _ in range(2)]
        d.t = d.emit("LayerNormalization", d.t, *scale)
    elif kind == "softmax":
        d.t = d.emit("Softmax", d.t, axis=d.pick(range(rank)) if d.opset >= 13 else rank - 1)
    elif kind == "rms" and rank - 1 not in d.open:
        square = d.emit("Mul", d.t, d.t)
        mean = _reduced(d, "ReduceMean", square, rank - 1)
        root = d.emit("Sqrt", d.emit("Add", mean, d.scalar(1e-3)))
        d.t = d.emit("Mul", d.emit("Div", d.t, root), d.vector(rank - 1, 0.5, 1.5))


def _reduced(d: Draft, op: str, t: str, k: int) -> str:
    since = 13 if op == "ReduceSum" else 18
    return d.listed(op, t, [k], since, keepdims=1)


@block()
def reduce(d: Draft) -> None:
    k = d.free() if len(d.shape) > 1 else None
    if k is not None:
        op = d.pick(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2", "ReduceMin"])
        d.t, d.shape[k] = _reduced(d, op, d.t, k), 1


@block(2)
def skip(d: Draft) -> None:
    """Keep this tensor, or join it with one of the same shape that was kept."""
    key = (*d.shape, *sorted(d.open))
    kept = d.kept.get(key)
    if kept is None or kept == d.t:
        d.kept[key] = d.t
    else:
        d.t = d.emit(d.pick(["Add", "Mul", "Max", "Sub", "Min"]), d.t, kept)


@block(2)
def affine(d: Draft) -> None:
    k = d.free()
    if k is not None:
        d.t = d.emit(d.pick(["Add", "Mul", "Sub"]), d.t, d.vector(k))


@block(2)
def gate(d: Draft) -> None:
    """Squeeze and excite, along one axis."""
    k = d.free(lambda n: n > 1)
    if k is None or len(d.shape) < 3:
        return
    g = d.t
    for j in range(len(d.shape)):
        if j != k and j != 0:
            g = _reduced(d, "ReduceMean", g, j)
    d.t = d.emit("Mul", d.t, d.emit("Sigmoid", g))


@block(3)
def reshape(d: Draft) -> None:
    closed = [k for k in range(len(d.shape)) if k not in d.open]
    new, said = list(d.shape), [0 if k in d.open else n for k, n in enumerate(d.shape)]
    pairs = [k for k in closed if k + 1 in closed]
    if any(k > 0 and k != j for j, k in enumerate(sorted(d.open))):
        return  # zeros of a Reshape copy by position: only a leading batch stays in place
    if pairs and d.pick([False, True]):
        k = d.pick(pairs)
        new[k : k + 2] = said[k : k + 2] = [new[k] * new[k + 1]]
    elif closed:
        k = d.pick(closed)
        part = d.pick([n for n in range(1, new[k] + 1) if new[k] % n == 0])
        new[k : k + 1] = said[k : k + 1] = [part, new[k] // part]
        if len(new) > 5:
            return
    d.t, d.shape = d.emit("Reshape", d.t, d.const(said)), new


@block(2)
def transpose(d: Draft) -> None:
    closed = [k for k in range(len(d.shape)) if k not in d.open]
    order = closed[:]
    d.rng.shuffle(order)
    moved = iter(order)
    perm = [k if k in d.open else next(moved) for k in range(len(d.shape))]
    d.t = d.emit("Transpose", d.t, perm=perm)
    d.shape = [d.shape[k] for k in perm]


@block(2)
def concat(d: Draft) -> None:
    k = d.free(lambda n: n <= 12)
    if k is None:
        return
    other = d.emit("Atan", d.t) if d.pick([False, True]) else d.t
    pair = [d.t, other] if d.pick([False, True]) else [other, d.t]
    d.t = d.emit("Concat", *pair, axis=k)
    d.shape[k] *= 2


@block(2)
def split(d: Draft) -> None:
    k = d.free(lambda n: n > 1)
    if k is None:
        return
    at = d.pick(range(1, d.shape[k]))
    sizes = [at, d.shape[k] - at]
    if d.opset >= 13:
        a, b = d.emit("Split", d.t, d.const(sizes), n=2, axis=k)
    else:
        a, b = d.emit("Split", d.t, n=2, axis=k, split=sizes)
    if sizes[0] == sizes[1] and d.pick([False, True]):
        d.t, d.shape[k] = d.emit("Mul", a, d.emit("Sigmoid", b)), at
    elif d.pick([False, True]):
        d.t, d.shape[k] = a, at
    else:
        d.t = d.emit("Concat", b, a, axis=k)


@block(2, since=10)
def slices(d: Draft) -> None:
    k = d.free()
    if k is None:
        return
    n = d.shape[k]
    start, end = d.pick(range(-n, n)), d.pick([*range(-n, n + 1), 2**62])
    step = d.pick([1, 1, 2, -1])
    left = len(range(n)[slice(start, end, step)])
    if left:
        d.t = d.emit("Slice", d.t, *[d.const([v]) for v in (start, end, k, step)])
        d.shape[k] = left


@block()
def gather(d: Draft) -> None:
    k = d.free()
    if k is not None:
        n, low = d.shape[k], 0 if d.opset < 11 else -d.shape[k]
        index = [d.pick(range(low, n)) for _ in range(d.pick([1, 2, 3, n]))]
        d.t, d.shape[k] = d.emit("Gather", d.t, d.const(index), axis=k), len(index)


@block(since=11)
def pad(d: Draft) -> None:
    k = d.free(lambda n: n > 2)
    if k is not None:
        pads = [0] * (2 * len(d.shape))
        pads[k], pads[k + len(d.shape)] = d.pick([0, 1, 2]), d.pick([0, 1])
        mode = d.pick(["constant", "edge", "reflect"])
        d.t = d.emit("Pad", d.t, d.const(pads), mode=mode)
        d.shape[k] += pads[k] + pads[k + len(d.shape)]


@block()
def squeeze(d: Draft) -> None:
    if d.open and max(d.open) > 0:
        return
    ones = [k for k, n in enumerate(d.shape) if n == 1 and k not in d.open]
    if ones and len(d.shape) > 2 and d.pick([False, True]):
        k = d.pick(ones)
        d.t = d.listed("Squeeze", d.t, [k], 13)
        del d.shape[k]
    elif len(d.shape) < 5:
        k = d.pick(range(len(d.open), len(d.shape) + 1))
        d.t = d.listed("Unsqueeze", d.t, [k], 13)
        d.shape.insert(k, 1)


__all__ = ["BLOCKS", "Block", "Draft", "block"]
