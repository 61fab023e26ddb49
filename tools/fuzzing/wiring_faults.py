"""Faults of operators and of what reads what; and controls, which change nothing."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tools.coverage.onnx_reading import all_graphs
from tools.fuzzing.faults import FLOATS, fault, nodes_of, one_of

# operators and wiring

_OTHERS = {
    "Relu": "LeakyRelu", "Sigmoid": "HardSigmoid", "Tanh": "Atan", "Gelu": "Relu",
    "Add": "Sub", "Sub": "Add", "Max": "Min", "Min": "Max", "Mul": "Div",
    "ReduceMax": "ReduceMin", "ReduceMean": "ReduceMax", "ReduceSum": "ReduceMean",
    "MaxPool": "AveragePool", "GlobalAveragePool": "GlobalMaxPool", "Floor": "Ceil",
    "Greater": "Less", "ArgMax": "ArgMin", "Erf": "Tanh", "Softmax": "LogSoftmax",
    "And": "Or", "Equal": "Greater", "Exp": "Softplus",
}  # fmt: skip


@fault()
def operator_replaced(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
    node = one_of(nodes_of(model, *_OTHERS), rng)
    if node is None or node.domain not in ("", "ai.onnx"):
        return False
    node.op_type = _OTHERS[node.op_type]
    return True


@fault()
def operands_exchanged(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
    kinds = ("Sub", "Div", "Concat", "MatMul", "Where", "Pow")
    nodes = [n for n in nodes_of(model, *kinds) if n.input[-1] != n.input[-2]]
    node = one_of(nodes, rng)
    if node is None:
        return False
    node.input[-2], node.input[-1] = node.input[-1], node.input[-2]
    return True


@fault()
def node_left_out(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
    kinds = "Relu Sigmoid Tanh Softmax LayerNormalization BatchNormalization Clip Erf Floor Sign"
    node = one_of(nodes_of(model, *kinds.split()), rng)
    if node is None:
        return False
    inputs, outputs = [node.input[0]], [node.output[0]]
    node.CopyFrom(helper.make_node("Identity", inputs, outputs, name=node.name))
    return True


@fault()
def relu_added(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
    return _behind(model, rng, "Relu")


@fault()
def rounding_added(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
    return _behind(model, rng, "Floor")


def _behind(model: onnx.ModelProto, rng: random.Random, kind: str) -> bool:
    kinds = "Conv Gemm MatMul Add LayerNormalization BatchNormalization".split()
    places = [k for k, n in enumerate(model.graph.node) if n.op_type in kinds]
    if not places:
        return False
    k = rng.choice(places)
    node = model.graph.node[k]
    name = node.output[0]
    node.output[0] = f"{name}__before"
    model.graph.node.insert(k + 1, helper.make_node(kind, [node.output[0]], [name]))
    return True


@fault()
def input_rewired(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
    """A node reads another tensor of the same operator and attributes, made before."""
    nodes = list(model.graph.node)
    places = [k for k, n in enumerate(nodes) if n.input and k > 1]
    if not places:
        return False
    k = rng.choice(places)
    slot = rng.randrange(len(nodes[k].input))
    makers = {o: n for n in nodes[:k] for o in n.output}
    mine = makers.get(nodes[k].input[slot])
    alike = [n.output[0] for n in nodes[:k]
             if mine is not None and n is not mine and n.op_type == mine.op_type]  # fmt: skip
    if not alike:
        return False
    nodes[k].input[slot] = rng.choice(alike)
    return True


@fault()
def same_sized_weights_exchanged(model: onnx.ModelProto, rng: random.Random, s: float) -> bool:
    by: dict[Any, list[onnx.TensorProto]] = {}
    for t in model.graph.initializer:
        if t.data_type in FLOATS and np.prod(t.dims) > 1:
            by.setdefault((t.data_type, tuple(t.dims)), []).append(t)
    several = [v for v in by.values() if len(v) > 1]
    if not several:
        return False
    a, b = rng.sample(rng.choice(several), 2)
    a.name, b.name = b.name, a.name
    return True


@fault()
def branches_exchanged(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
    node = one_of(nodes_of(model, "If"), rng)
    if node is None:
        return False
    for a in node.attribute:
        a.name = {"then_branch": "else_branch", "else_branch": "then_branch"}[a.name]
    return True


@fault()
def outputs_exchanged(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
    node = one_of([n for n in nodes_of(model, "Split") if len(n.output) > 1], rng)
    if node is None:
        return False
    node.output[0], node.output[1] = node.output[1], node.output[0]
    return True


# controls


@fault(harmless=True)
def identity_added(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
    return _behind(model, rng, "Identity")


@fault(harmless=True)
def weights_renamed(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
    names = {t.name: f"{t.name}__renamed" for t in model.graph.initializer}
    if not names or len(list(all_graphs(model.graph))) > 1:
        return False
    for node in model.graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
    for named in (*model.graph.initializer, *model.graph.input, *model.graph.value_info):
        named.name = names.get(named.name, named.name)
    return not {o.name for o in model.graph.output} & set(names)


@fault(harmless=True)
def nodes_reordered(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
    """Another running order, in which nothing stands before what it reads."""
    nodes = list(model.graph.node)
    k = next((k for k in range(len(nodes) - 1) if not set(nodes[k].output) & _read(nodes[k + 1])),
             None)  # fmt: skip
    if k is None or len(list(all_graphs(model.graph))) > 1:
        return False
    nodes[k], nodes[k + 1] = nodes[k + 1], nodes[k]
    made = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(made)
    return True


def _read(node: onnx.NodeProto) -> set[str]:
    return set(node.input)
