"""What the table claims of activations, ranges of tensors, activations recognised in graphs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from onnx_net2net.files.reader import read
from onnx_net2net.inference.activation_patterns import after, recognise
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.inference.value_ranges import value_range
from onnx_net2net.operators.activations import TABLE, Activation, identities, named

GRID = np.linspace(-8, 8, 257)
EXAMPLES = [
    *(Activation(name) for name in TABLE if name != "Clip"),
    named("relu6"),
    named("quickgelu"),
    Activation("Gelu", {"approximate": "tanh"}),
    Activation("LeakyRelu", {"alpha": 0.3}),
]


class Writer:
    """A composer of its own: activations written straight into a list of nodes."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def scalar(self, value: float) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
        return name

    slope = scalar


def graph(nodes: list[onnx.NodeProto], constants: list[TensorProto], opset: int) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, len(GRID)])
    y = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [1, len(GRID)])
    made = helper.make_graph(nodes, "g", [x], [y], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def composed(activation: Activation, opset: int) -> onnx.ModelProto:
    writer = Writer(opset)
    activation.compose(writer, "x")
    return graph(writer.nodes, writer.constants, opset)


def run(model: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": GRID.astype(np.float32)[None]})
    return np.asarray(result)[0]


@pytest.mark.parametrize("activation", EXAMPLES, ids=str)
def test_rows_hold_what_they_claim(activation: Activation) -> None:
    row, y = activation.row, activation(GRID)
    legal = row.identity(activation.values)
    if legal is not None:
        inside = GRID[(legal[0] <= GRID) & (legal[1] >= GRID)]
        assert len(inside)
        np.testing.assert_allclose(activation(inside / row.scale), inside, rtol=1e-6)
    assert y.min() >= activation.lowest
    if activation.odd is not None:
        np.testing.assert_allclose(y - activation(-GRID), activation.odd * GRID, atol=1e-12)
    else:  # the table is complete: nothing else has an odd part that is linear
        ratio = (y - activation(-GRID))[GRID != 0] / GRID[GRID != 0]
        assert np.ptp(ratio) > 1e-3 or not ratio.any()


def test_identity_intervals_are_not_too_small() -> None:
    for name in ("Sigmoid", "Tanh", "Gelu", "Swish", "Mish", "Softplus", "HardSigmoid"):
        assert not Activation(name).is_identity_on(0.5, 0.5)
        assert abs(float(Activation(name)(np.array(0.5))) - 0.5) > 1e-3
    assert identities(-math.inf, math.inf) == []
    assert set(identities(0, math.inf)) >= {"Relu", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu"}
    assert "HardSwish" in identities(3, math.inf)


@pytest.mark.parametrize("opset", [9, 13, 17, 21])
@pytest.mark.parametrize("activation", EXAMPLES, ids=str)
def test_activations_are_written_and_recognised(activation: Activation, opset: int) -> None:
    model = composed(activation, opset)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model), activation(GRID), rtol=2e-5, atol=2e-6)
    end = model.graph.node[-1].output[0]
    found = recognise(Analysis(read(model)), end)
    if (activation.name, opset) in (("Celu", 9), ("ThresholdedRelu", 9)):
        assert found is None
        return
    assert found is not None
    assert (found.activation.name, found.source) == (activation.name, "x")
    np.testing.assert_allclose(found.activation(GRID), activation(GRID), rtol=1e-4, atol=1e-5)
    assert len(found.nodes) == len(model.graph.node)


def chain(text: str, **constants: float) -> onnx.ModelProto:
    """`y = Op a b` lines as a graph."""
    nodes = []
    for line in text.strip().splitlines():
        out, op, *inputs = line.replace("=", " ").split()
        nodes.append(helper.make_node(op, inputs, [out]))
    made = [helper.make_tensor(n, TensorProto.FLOAT, [1], [v]) for n, v in constants.items()]
    return graph(nodes, made, 17)


CHAINS: dict[str, tuple[str, dict[str, float]]] = {
    "Gelu as torch writes it": (
        "a = Div x r\nb = Erf a\nc = Add b one\nd = Mul x c\ny = Mul d h",
        {"r": 2**0.5, "one": 1, "h": 0.5},
    ),
    "Gelu as dynamo writes it": (
        "e = Mul h x\na = Mul x r\nb = Erf a\nc = Add b one\ny = Mul e c",
        {"r": 0.5**0.5, "one": 1, "h": 0.5},
    ),
    "Gelu by tanh and Pow": (
        "p = Pow x three\nq = Mul p k\ns = Add x q\nt = Mul s r\nu = Tanh t\nv = Add u one\n"
        "w = Mul x v\ny = Mul w h",
        {"three": 3, "k": 0.044715, "r": (2 / math.pi) ** 0.5, "one": 1, "h": 0.5},
    ),
    "Swish": ("s = Sigmoid x\ny = Mul s x", {}),
    "Swish with 1.702": ("m = Mul x k\ns = Sigmoid m\ny = Mul x s", {"k": 1.702}),
    "HardSwish as Paddle writes it": (
        "a = Add x three\nb = Clip a zero six\nc = Mul x b\ny = Div c six",
        {"three": 3, "zero": 0, "six": 6},
    ),
    "Mish": ("s = Softplus x\nt = Tanh s\ny = Mul x t", {}),
    "Softplus by Log and Exp": ("e = Exp x\na = Add e one\ny = Log a", {"one": 1}),
    "Sigmoid by Reciprocal": ("n = Neg x\ne = Exp n\na = Add e one\ny = Reciprocal a", {"one": 1}),
    "Swish by Exp": ("n = Neg x\ne = Exp n\na = Add e one\ny = Div x a", {"one": 1}),
}


@pytest.mark.parametrize("name", CHAINS)
def test_exported_chains_are_recognised(name: str) -> None:
    text, constants = CHAINS[name]
    model = chain(text, **constants)
    for t in model.graph.initializer:  # bounds of Clip are scalars
        if t.name in ("zero", "six"):
            del t.dims[:]
    analysis = Analysis(read(model))
    found = recognise(analysis, "y")
    assert found is not None
    assert found.activation.name == name.split()[0]
    assert found.source == "x"
    np.testing.assert_allclose(run(model), found.activation(GRID), rtol=1e-4, atol=1e-5)
    assert after(analysis, "x") == found


def test_what_is_no_activation_is_not_taken_for_one() -> None:
    analysis = Analysis(read(chain("a = Sigmoid x\nb = Tanh x\ny = Mul a b")))
    assert recognise(analysis, "y") is None
    # a wrong constant: nearly a Gelu
    text, constants = CHAINS["Gelu as torch writes it"]
    wrong = Analysis(read(chain(text, **{**constants, "r": 1.5})))
    assert recognise(wrong, "y") is None


def test_an_activation_that_is_not_the_only_reader_is_not_after() -> None:
    analysis = Analysis(read(chain("s = Sigmoid x\nm = Mul s x\nz = Neg x\ny = Add m z")))
    assert after(analysis, "x") is None


RANGES: list[tuple[str, tuple[float, float]]] = [
    ("y = Relu x", (0, math.inf)),
    ("y = Sigmoid x", (0, 1)),
    ("y = Abs x", (0, math.inf)),
    ("y = Exp x", (0, math.inf)),
    ("y = Mul x x", (0, math.inf)),
    ("a = Relu x\ny = Neg a", (-math.inf, 0)),
    ("a = Relu x\nb = Abs x\ny = Add a b", (0, math.inf)),
    ("a = Relu x\nb = Sigmoid x\ny = Mul a b", (0, math.inf)),
    ("a = Relu x\ny = Max a two", (2, math.inf)),
    ("a = Relu x\ny = Min a two", (0, 2)),
    ("a = Relu x\nb = Sigmoid x\ny = Sub b a", (-math.inf, 1)),
    ("a = Relu x\ny = Sub a x", (-math.inf, math.inf)),
    ("a = Relu x\nb = LeakyRelu a\ny = Elu b", (0, math.inf)),
    ("y = LeakyRelu x", (-math.inf, math.inf)),
    ("y = Pow x two", (0, math.inf)),
    ("a = Exp x\ny = Reciprocal a", (0, math.inf)),
    ("a = Relu x\ny = Mean a x", (-math.inf, math.inf)),
    ("a = Sigmoid x\nb = Neg a\ny = Mean a b", (-1, 1)),
]


@pytest.mark.parametrize(("text", "expected"), RANGES)
def test_ranges(text: str, expected: tuple[float, float]) -> None:
    found = value_range(Analysis(read(chain(text, two=2.0))), "y")
    for value, wanted in zip((found.low, found.high), expected, strict=True):
        assert math.isclose(value, wanted, rel_tol=0.02)


def operators() -> Iterator[tuple[str, dict[str, Any]]]:
    """Unary operators with attributes, for random chains."""
    yield from [
        ("Relu", {}), ("Sigmoid", {}), ("Tanh", {}), ("Abs", {}), ("Exp", {}), ("Neg", {}),
        ("Elu", {"alpha": 0.7}), ("LeakyRelu", {"alpha": 0.2}), ("Softplus", {}), ("Selu", {}),
        ("Softsign", {}), ("HardSigmoid", {}), ("HardSwish", {}), ("Erf", {}), ("Sqrt", {}),
        ("Softmax", {}), ("Reciprocal", {}), ("Identity", {}), ("ThresholdedRelu", {"alpha": -0.5}),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_values_of_random_chains_lie_in_their_ranges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ops, nodes, names = list(operators()), [], ["x"]
    for k in range(6):
        if rng.random() < 0.4:
            op, attributes = str(rng.choice(["Add", "Sub", "Mul", "Max", "Min", "Div"])), {}
            inputs = [str(rng.choice(names)), names[-1]]
        else:
            op, attributes = ops[rng.integers(len(ops))]
            inputs = [names[-1]]
        nodes.append(helper.make_node(op, inputs, [f"t{k}"], **attributes))
        names.append(f"t{k}")
    model = graph(nodes, [], 17)
    found = value_range(Analysis(read(model)), names[-1])
    values = run(model)
    values = values[~np.isnan(values)]
    assert ((values >= found.low) & (values <= found.high)).all()
