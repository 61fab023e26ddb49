"""Random graphs of data movements between layers with weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from tools.samples.graph_builder import Net

Pick = Callable[[Sequence[Any]], Any]


class Builder:
    """Grows a graph step by step; `pick` draws everything.

    The batch is fixed at 2 and then treated like any axis, or it is open and stays in front.
    """

    def __init__(self, pick: Pick) -> None:
        self.pick = pick
        self.open = pick([False, True])
        self.net = Net("random", opset=18)
        self.count = 0
        self.kept: dict[tuple[int, ...], str] = {}
        self.image = self.net.input("x", "N" if self.open else 2, 3, 4, 4)
        self.t, self.shape = self.layer(self.image, [2, 3, 4, 4], pick([4, 6, 8]))

    def name(self, base: str) -> str:
        self.count += 1
        return f"{base}{self.count}"

    def axis(self, allowed: Callable[[int], bool] = lambda d: True) -> int | None:
        """An axis that may be touched; None if there is none."""
        free = [k for k in range(self.open, len(self.shape)) if allowed(self.shape[k])]
        return self.pick(free) if free else None

    def const(self, values: Any) -> str:
        return self.net.const(self.name("c"), values)

    def layer(self, t: str, shape: list[int], width: int) -> tuple[str, list[int]]:
        """A 1x1 convolution on axis 1 of rank 4, a MatMul on the last axis of any other rank."""
        if len(shape) == 4:
            y = self.net.conv(t, self.name("conv"), shape[1], width, 1)
            return y, [shape[0], width, *shape[2:]]
        name = self.name("fc")
        w = self.net.weight(f"{name}.weight", shape[-1], width, fan_in=shape[-1])
        return self.net.op("MatMul", t, w, at=name), [*shape[:-1], width]

    def emit(self, op: str, *inputs: str, n: int = 1, **attributes: Any) -> Any:
        return self.net.op(op, *inputs, n=n, **attributes)

    def step(self) -> None:
        """Append one random step."""
        getattr(self, "_" + self.pick(STEPS))()

    def _relu(self) -> None:
        self.t = self.emit("Relu", self.t)

    def _dense(self) -> None:
        if len(self.shape) > 2 or not self.open:
            self.t, self.shape = self.layer(self.t, self.shape, self.pick([4, 5, 6]))

    def _grouped(self) -> None:
        if len(self.shape) == 4:
            c = self.shape[1]
            group = self.pick([g for g in range(1, c + 1) if c % g == 0])
            width = group * self.pick([1, 2, 3])
            self.t = self.net.conv(self.t, self.name("grouped"), c, width, 1, group=group)
            self.shape[1] = width

    def _norm(self) -> None:
        kind, name = self.pick(["batch", "layer", "softmax", "mean"]), self.name("norm")
        if kind == "batch" and len(self.shape) > 1:
            self.t = self.net.bn(self.t, name, self.shape[1])
        elif kind == "layer" and self.shape[-1] > 3:  # fewer would blow up rounding
            scale = [self.net.draw(f"{name}.{k}", self.shape[-1]) for k in ("weight", "bias")]
            self.t = self.emit("LayerNormalization", self.t, *scale)
        elif kind == "softmax":
            self.t = self.emit("Softmax", self.t, axis=self.pick(range(len(self.shape))))
        elif (k := self.axis()) is not None:
            self.t = self.emit("ReduceMean", self.t, self.const([k]), keepdims=1)
            self.shape[k] = 1

    def _skip(self) -> None:
        """Keep this tensor, or add one of the same shape that was kept."""
        kept = self.kept.get(tuple(self.shape))
        if kept is None or kept == self.t:
            self.kept[tuple(self.shape)] = self.t
        else:
            self.t = self.emit("Add", self.t, kept)

    def _bias(self) -> None:
        k = self.axis()
        if k is not None:
            shape = [d if j == k else 1 for j, d in enumerate(self.shape)]
            bias = self.net.draw(self.name("bias"), *shape)
            self.t = self.emit(self.pick(["Add", "Mul"]), self.t, bias)

    def _reshape(self) -> None:
        first, new = int(self.open), list(self.shape)
        if self.pick([False, True]) and len(new) - first > 1:
            k = self.pick(range(first, len(new) - 1))
            new[k : k + 2] = [new[k] * new[k + 1]]
        else:
            k = self.pick(range(first, len(new)))
            parts = [d for d in range(1, new[k] + 1) if new[k] % d == 0]
            d = self.pick(parts)
            new[k : k + 1] = [d, new[k] // d]
        said = list(new)
        if self.open:
            said[0] = 0
        elif self.pick([False, True]):
            said[self.pick(range(len(new)))] = -1
        self.t, self.shape = self.emit("Reshape", self.t, self.const(said)), new

    def _transpose(self) -> None:
        free = list(range(self.open, len(self.shape)))
        perm = list(range(self.open))
        while free:
            perm.append(free.pop(self.pick(range(len(free)))))
        self.t = self.emit("Transpose", self.t, perm=perm)
        self.shape = [self.shape[k] for k in perm]

    def _concat(self) -> None:
        k = self.axis()
        if k is None:
            return
        other, size = self.t, self.shape[k]
        if self.pick([False, True]):
            other = self.emit("Atan", self.t)
        elif not self.open:
            size = self.pick([1, 2])
            shape = [size if j == k else d for j, d in enumerate(self.shape)]
            other = self.net.draw(self.name("table"), *shape)
        pair = [self.t, other]
        self.t = self.emit("Concat", *(pair if self.pick([True, False]) else pair[::-1]), axis=k)
        self.shape[k] += size

    def _split(self) -> None:
        k = self.axis(lambda d: d > 1)
        if k is None:
            return
        at = self.pick(range(1, self.shape[k]))
        sizes = [at, self.shape[k] - at]
        a, b = self.emit("Split", self.t, self.const(sizes), n=2, axis=k)
        how = self.pick(["swap", "first", "add"])
        if how == "add" and sizes[0] == sizes[1]:
            self.t, self.shape[k] = self.emit("Add", a, b), at
        elif how == "first":
            self.t, self.shape[k] = a, at
        else:
            self.t = self.emit("Concat", b, a, axis=k)

    def _slice(self) -> None:
        k = self.axis()
        if k is None:
            return
        n = self.shape[k]
        start, end = self.pick(range(-n, n)), self.pick([*range(-n, n + 1), 2**62])
        step = self.pick([1, 1, 2, -1])
        left = len(range(n)[slice(start, end, step)])
        if left:
            bounds = [self.const([v]) for v in (start, end, k, step)]
            self.t, self.shape[k] = self.emit("Slice", self.t, *bounds), left

    def _gather(self) -> None:
        k = self.axis()
        if k is None:
            return
        n = self.shape[k]
        index = [self.pick(range(-n, n)) for _ in range(self.pick([1, 2, 3, n]))]
        if self.pick([False, True]):
            index = list(range(n))[:: self.pick([1, -1])]
        self.t = self.emit("Gather", self.t, self.const(index), axis=k)
        self.shape[k] = len(index)

    def _pad(self) -> None:
        k = self.axis(lambda d: d > 2)
        if k is not None:
            low, high, mode = self.pick([0, 1, 2]), self.pick([0, 1]), self.pick(MODES)
            pads = [0] * (2 * len(self.shape))
            pads[k], pads[k + len(self.shape)] = low, high
            self.t = self.emit("Pad", self.t, self.const(pads), mode=mode)
            self.shape[k] += low + high

    def _expand(self) -> None:
        k = self.pick(range(self.open, len(self.shape) + 1))
        self.t = self.emit("Unsqueeze", self.t, self.const([k]))
        self.shape.insert(k, 1)
        if self.pick([False, True]):
            target = [1] * len(self.shape)
            target[k] = self.shape[k] = self.pick([2, 3])
            self.t = self.emit("Expand", self.t, self.const(target))

    def _tile(self) -> None:
        k = self.axis(lambda d: d <= 6)
        if k is not None:
            repeats = [2 if j == k else 1 for j in range(len(self.shape))]
            self.t = self.emit("Tile", self.t, self.const(repeats))
            self.shape[k] *= 2

    def _squeeze(self) -> None:
        k = self.axis(lambda d: d == 1)
        if k is not None and len(self.shape) > 2:
            self.t = self.emit("Squeeze", self.t, self.const([k]))
            del self.shape[k]

    def _depth_to_space(self) -> None:
        if len(self.shape) == 4 and self.shape[1] % 4 == 0:
            mode = self.pick(["DCR", "CRD"])
            self.t = self.emit("DepthToSpace", self.t, blocksize=2, mode=mode)
            n, c, h, w = self.shape
            self.shape = [n, c // 4, 2 * h, 2 * w]

    def model(self, steps: int) -> onnx.ModelProto:
        """The finished graph; its last layer reads everything."""
        for _ in range(steps):
            if int(np.prod(self.shape)) > 4096:
                break
            self.step()
        self.t, self.shape = self.layer(self.t, self.shape, 3)
        shape: list[int | str] = list(self.shape)
        shape[:1] = ["N"] if self.open else shape[:1]
        return self.net.output("y", self.t, *shape).model()


MODES = ["constant", "constant", "edge", "reflect", "wrap"]
STEPS = (
    "reshape transpose concat split slice gather pad expand tile squeeze depth_to_space relu "
    "bias dense reshape transpose concat split dense grouped norm skip skip"
).split()
