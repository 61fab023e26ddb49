"""Sizes as expressions: what they give at other sizes must be what inference gives there."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnx_net2net.files.reader import read
from onnx_net2net.graph.model import Model
from onnx_net2net.inference import expressions as ex
from onnx_net2net.inference.input_sizes import symbols
from onnx_net2net.inference.onnx_inference import tensor_type
from onnx_net2net.inference.shapes import Facts, Inference
from onnx_net2net.inference.size_rules import SHAPES, VALUES, Described
from onnx_net2net.inference.size_symbols import input_dims
from onnx_net2net.inference.symbolic import symbolic
from support.open_sizes import PROGRAMS, draw
from tools.samples.graph_builder import Net

WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
FIRST = {"B": 2, "S": 8, "H": 12, "W": 16}


def facts_at(model: Model, inference: Inference, sizes: dict[str, int]) -> Facts:
    types = {}
    for name, dims in symbols(model).items():
        kind = model.infos[name].type.tensor_type.elem_type
        types[name] = tensor_type(kind, [sizes[d] if isinstance(d, str) else d for d in dims or ()])
    return inference.run(types)


def attacked(proto: onnx.ModelProto, tries: list[dict[str, int]]) -> Counter[str]:
    """Compare at each of the sizes; how many numbers agreed, and how many were not told."""
    source = read(proto)
    model = Model(source.proto)
    inference = Inference(model, source)
    first = facts_at(model, inference, FIRST)
    assert not first.failed, first.failed
    found = symbolic(inference, first, input_dims(symbols(model), first))
    count: Counter[str] = Counter()
    for sizes in tries:
        there = facts_at(model, inference, sizes)
        if there.failed:
            count["does not run"] += 1
            continue
        known = {ex.Atom(n): v for n, v in sizes.items()}
        pairs = []
        for name, shape in there.shapes.items():
            dims = found.shape(name)
            if dims is not None and shape is not None and None not in shape:
                assert len(dims) == len(shape), (name, dims, shape)
                pairs += [(name, d, s) for d, s in zip(dims, shape, strict=True)]
        for name, now in first.values.items():
            value = found.value(name)
            if isinstance(value, Described) or name not in there.values:
                continue
            array = np.asarray(there.values[name])
            assert array.shape == now.shape, (name, now.shape, array.shape)
            mine = np.asarray(value, object).reshape(-1)
            pairs += [(name, d, s) for d, s in zip(mine, array.reshape(-1).tolist(), strict=True)]
        for name, mine, right in pairs:
            try:
                got = ex.evaluate(mine, known) if isinstance(mine, ex.Expr) else mine
            except LookupError:
                count["not told"] += 1
                continue
            if got <= 0 < right and model.producer[name].op in WINDOWS:
                break  # a window beyond what it runs over: onnx infers 1, nothing runs
            assert got == right or got != got, (name, str(mine), got, right, sizes)
            count["agreed"] += isinstance(mine, ex.Expr)
    return count


def sizes_of(rng: np.random.Generator) -> dict[str, int]:
    return {k: int(rng.integers(1, 40)) for k in FIRST}


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_expressions_give_what_inference_gives_elsewhere(program: str) -> None:
    count: Counter[str] = Counter()
    for seed in range(12):
        rng = np.random.default_rng([seed, len(program)])
        proto = draw(program, rng)
        count += attacked(proto, [sizes_of(rng) for _ in range(4)])
    assert count["agreed"] > 50, count
    assert count["not told"] <= count["agreed"] // 4, count


def test_a_wrong_rule_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_a_clamp(at):
        dims = list(at.shape())
        starts, ends, axes = at.ints(1), at.ints(2), at.ints(3)
        for a, s, e in zip(axes, starts, ends, strict=True):
            dims[a] = min(e, FIRST["S"]) - s if isinstance(e, int) else e - s
        return [tuple(dims)]

    monkeypatch.setitem(SHAPES, "Slice", without_a_clamp)
    net = Net("cut")
    x = net.input("x", "B", "S", 4)
    cut = net.op("Slice", x, net.const("s", [0]), net.const("e", [20]), net.const("a", [1]))
    with pytest.raises(AssertionError):
        attacked(net.output("y", cut).model(), [{**FIRST, "S": 7}])


def test_wrong_arithmetic_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VALUES, "Min", lambda at: [at.array(0)])
    net = Net("cap")
    x = net.input("x", "B", "S", 4)
    least = net.op("Min", net.dim(x, 1), net.const("cap", [9]))
    shape = net.op("Concat", least, net.const("four", [4]), axis=0)
    zeros = net.op("ConstantOfShape", shape)
    with pytest.raises(AssertionError):
        attacked(net.output("y", zeros).model(), [{**FIRST, "S": 17}])


def test_what_is_not_known_has_a_name_of_its_own() -> None:
    """Equal computations have equal names, others have not; and no number stands for them."""
    found = {}
    for scale, key in ((0.3, "a"), (0.3, "b"), (0.7, "c")):
        net = Net(key)
        x = net.input("x", "B", 3, "H", "W")
        scales = net.const("s", [1, 1, scale, 1], np.float32)
        y = net.op("Resize", x, "", scales, at="r", mode="nearest")
        source = read(net.output("y", y).model())
        model = Model(source.proto)
        inference = Inference(model, source)
        facts = facts_at(model, inference, FIRST)
        sizes = symbolic(inference, facts, input_dims(symbols(model), facts))
        found[key] = sizes.shapes[model.outputs[0]][2]
    assert found["a"] == found["b"] != found["c"]
    assert isinstance(found["a"], ex.Expr)


def test_symbols_of_an_interface() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", None, "past + 2*N", 5])
    p = helper.make_tensor_value_info("p", TensorProto.FLOAT, ["past"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x, p], [y])
    source = read(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    model = Model(source.proto)
    inference = Inference(model, source)
    types = {"x": tensor_type(1, [2, 7, 9, 5]), "p": tensor_type(1, [5])}
    sizes = input_dims(symbols(model), inference.run(types))
    assert [str(d) for d in sizes.shapes["x"]] == ["N", "x.1", "2*N + past", "5"]
