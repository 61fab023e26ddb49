"""Small ONNX graphs by hand: PyTorch-like names, weights that every machine draws alike."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

Array = np.ndarray[Any, Any]
Dim = int | str

QUIRKS: dict[str, Callable[[], onnx.ModelProto]] = {}


def quirk(make: Callable[[], onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
    """Register a model; its file takes the function's name, its row in the table the docstring."""
    QUIRKS[make.__name__] = make
    return make


def uniform(key: str, shape: Sequence[int], low: float, high: float) -> Array:
    """float64 numbers in [low, high), the same for a key on every machine and numpy version.

    >>> bool(uniform("conv1.weight", (2, 3), -1, 1)[0, 0] == uniform("conv1.weight", (1,), -1, 1))
    True
    """
    raw = np.random.PCG64(zlib.crc32(key.encode())).random_raw(int(np.prod(shape, dtype=int)))
    unit = (np.asarray(raw, np.uint64) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return (low + (high - low) * unit).reshape(shape)


def tensor(name: str, array: Array, kind: int | None = None) -> onnx.TensorProto:
    """A TensorProto with raw data; `kind` where numpy has no such type (bfloat16)."""
    array = np.ascontiguousarray(array) if np.ndim(array) else np.asarray(array)
    kind = kind or helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor(name, kind, array.shape, array.tobytes(), raw=True)


class Net:
    """A graph under construction. Methods append nodes and return the name of their output.

    >>> net = Net("tiny")
    >>> x = net.input("x", "N", 3, 8, 8)
    >>> y = net.op("Relu", net.conv(x, "conv1", 3, 4))
    >>> model = net.output("y", y, "N", 4, 8, 8).model()
    """

    def __init__(self, name: str, opset: int = 17, ir: int = 8, dtype: Any = np.float32) -> None:
        self.name, self.opset, self.ir = name, opset, ir
        self.dtype = np.dtype(dtype)
        self.kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}
        self.taken: Counter[str] = Counter()

    def input(self, name: str, *shape: Dim, kind: int | None = None) -> str:
        """Declare a graph input; a string as a dimension leaves it open."""
        self.inputs.append(helper.make_tensor_value_info(name, kind or self.kind, shape))
        return name

    def output(self, name: str, source: str, *shape: Dim, kind: int | None = None) -> Net:
        """Declare a graph output under its own name, fed by `source`; returns the net."""
        self.nodes.append(helper.make_node("Identity", [source], [name], name=f"/{name}/Identity"))
        self.outputs.append(helper.make_tensor_value_info(name, kind or self.kind, shape))
        return self

    def const(self, name: str, value: Any, dtype: Any = np.int64) -> str:
        """An initializer with given values (shapes, indices, scalars)."""
        self.weights[name] = tensor(name, np.asarray(value, dtype))
        return name

    def draw(self, name: str, *shape: int, low: float = -0.5, high: float = 0.5) -> str:
        """An initializer with random values."""
        values = uniform(f"{self.name}/{name}", shape, low, high).astype(self.dtype)
        self.weights[name] = tensor(name, values, self.kind)
        return name

    def weight(self, name: str, *shape: int, fan_in: int) -> str:
        """An initializer of a size that keeps activations at about 1 behind a Relu."""
        bound = float(np.sqrt(6.0 / fan_in))
        return self.draw(name, *shape, low=-bound, high=bound)

    def op(self, kind: str, *inputs: str, at: str = "", n: int = 1, **attributes: Any) -> Any:
        """Append a node named as PyTorch would (`/at/Kind`, `/at/Kind_1`).

        Returns the output's name, or for n > 1 the list of them.
        """
        base = f"/{at}/{kind}" if at else f"/{kind}"
        count = self.taken[base]
        self.taken[base] += 1
        name = f"{base}_{count}" if count else base
        outputs = [f"{name}_output_{k}" for k in range(n)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        return outputs if n > 1 else outputs[0]

    def conv(
        self,
        x: str,
        at: str,
        channels_in: int,
        channels_out: int,
        kernel: int = 3,
        *,
        dims: int = 2,
        group: int = 1,
        bias: bool = True,
        **attributes: Any,
    ) -> str:
        """Conv with `at`.weight (and `at`.bias); "same" padding unless pads are given."""
        per_group = channels_in // group
        fan_in = per_group * kernel**dims
        names = [
            self.weight(f"{at}.weight", channels_out, per_group, *[kernel] * dims, fan_in=fan_in)
        ]
        if bias:
            names.append(self.draw(f"{at}.bias", channels_out))
        attributes.setdefault("pads", [kernel // 2] * (2 * dims))
        size: dict[str, Any] = {"kernel_shape": [kernel] * dims, "group": group}
        result: str = self.op("Conv", x, *names, at=at.replace(".", "/"), **size, **attributes)
        return result

    def bn(self, x: str, at: str, channels: int) -> str:
        """BatchNormalization with four random vectors."""
        vectors = [
            self.draw(f"{at}.weight", channels, low=0.5, high=1.5),
            self.draw(f"{at}.bias", channels),
            self.draw(f"{at}.running_mean", channels),
            self.draw(f"{at}.running_var", channels, low=0.5, high=1.5),
        ]
        where = at.replace(".", "/")
        result: str = self.op("BatchNormalization", x, *vectors, at=where, epsilon=1e-5)
        return result

    def conv_bn_relu(self, x: str, at: str, cin: int, cout: int, kernel: int = 3, **a: Any) -> str:
        """The usual chain: Conv without bias, BatchNormalization, Relu."""
        y = self.conv(x, f"{at}.conv", cin, cout, kernel, bias=False, **a)
        result: str = self.op("Relu", self.bn(y, f"{at}.bn", cout), at=at.replace(".", "/"))
        return result

    def gemm(self, x: str, at: str, units_in: int, units_out: int) -> str:
        """A PyTorch Linear on rank 2: Gemm with transB=1."""
        w = self.weight(f"{at}.weight", units_out, units_in, fan_in=units_in)
        b = self.draw(f"{at}.bias", units_out)
        result: str = self.op("Gemm", x, w, b, at=at.replace(".", "/"), transB=1)
        return result

    def head(self, x: str, channels: int, classes: int = 5) -> Net:
        """Global pool, Flatten, Gemm and the output `logits`."""
        pooled = self.op("GlobalAveragePool", x)
        y = self.gemm(self.op("Flatten", pooled), "fc", channels, classes)
        return self.output("logits", y, "N", classes)

    def dim(self, x: str, axis: int) -> str:
        """TorchScript's x.size(axis) as a vector of one: Shape, Gather, Unsqueeze."""
        index = self.const(f"/dim_{axis}", axis)
        length = self.op("Gather", self.op("Shape", x), index, axis=0)
        zero = self.const("/axis_0", [0])
        result: str = self.op("Unsqueeze", length, zero)
        return result

    def graph(self) -> onnx.GraphProto:
        """The graph as it stands."""
        weights = list(self.weights.values())
        return helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, weights)

    def model(self) -> onnx.ModelProto:
        """The finished model."""
        model = helper.make_model(
            self.graph(),
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=self.ir,
            # the first name of this tool: the models' bytes stay as they are
            producer_name="onnx-net2net tools/make_models.py",
        )
        return model


def weights_to_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every initializer as a Constant node before the others, as Paddle2ONNX writes it."""
    graph = model.graph
    constants = [
        helper.make_node("Constant", [], [t.name], name=f"Constant.{k}", value=t)
        for k, t in enumerate(graph.initializer)
    ]
    nodes = [*constants, *graph.node]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    return model


def weights_to_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every initializer listed as a graph input too, as files of IR version 3 must."""
    for t in model.graph.initializer:
        info = helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
        model.graph.input.append(info)
    return model


def reverse_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Nodes in the wrong order: readers before the nodes they read."""
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def rename_tensors(model: onnx.ModelProto, names: dict[str, str]) -> onnx.ModelProto:
    """Other names for tensors, wherever they occur in the top graph."""
    graph = model.graph
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(name, name) for name in field]
    for named in (*graph.input, *graph.output, *graph.initializer):
        named.name = names.get(named.name, named.name)
    return model


FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
BOOL = TensorProto.BOOL
