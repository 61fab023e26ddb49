"""Layers with several widths: heads, query/key and value widths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import onnx_net2net as n2n
from onnx_net2net.coupling import catalogue
from onnx_net2net.inference.analysis import Analysis
from support.command_line import call

MODELS = Path(__file__).parents[2] / "models"
PACKED, SEPARATE = MODELS / "packed_qkv.onnx", MODELS / "transformer_block.onnx"


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    return {t.name: tuple(t.dims) for t in model.graph.initializer}


def outputs(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


class TestPacked:
    def test_naming_the_layer_is_ambiguous(self) -> None:
        with pytest.raises(n2n.AmbiguousError, match="several widths") as caught:
            n2n.widen(PACKED, node="qkv", ratio=1.5)
        names = ["/qkv/MatMul:qk", "/qkv/MatMul:v", "/qkv/MatMul:heads"]
        assert list(caught.value.candidates) == names
        assert [s.name for s in n2n.inspect(PACKED).spaces] == names

    @pytest.mark.parametrize(
        ("space", "width", "rows", "columns"),
        [("qk", 6, 48, 12), ("v", 5, 39, 15), ("heads", 4, 48, 16)],
    )
    def test_each_width_grows_alone(self, space: str, width: int, rows: int, columns: int) -> None:
        student = n2n.widen(PACKED, space=f"/qkv/MatMul:{space}", width=width)
        assert shapes(student)["qkv.weight"] == (12, rows)
        assert shapes(student)["out.weight"] == (columns, 5)
        assert n2n.verify(PACKED, student).equivalent
        # a length that the analysis did not see; the scale, computed from a shape, must stay
        x = np.random.default_rng(0).normal(size=(2, 7, 12)).astype(np.float32)
        np.testing.assert_allclose(
            outputs(onnx.load(PACKED), x), outputs(student, x), rtol=1e-5, atol=1e-6
        )

    def test_all_of_them_in_one_plan(self) -> None:
        names = [s.name for s in n2n.inspect(PACKED).spaces]
        plan = n2n.plan(PACKED, [{"space": name, "ratio": 1.5} for name in names])
        assert n2n.verify(PACKED, plan.apply()).equivalent

    def test_a_part_of_the_path_will_do(self) -> None:
        student = n2n.widen(PACKED, space="qkv:heads", width=4)
        assert shapes(student)["out.weight"] == (16, 5)

    def test_everywhere_grows_widths_not_heads(self) -> None:
        student = n2n.plan(PACKED, "everywhere", ratio=1.5).apply()
        assert shapes(student)["qkv.weight"] == (12, 36 + 2 * 6 + 6)
        assert set(shape_operands(student)) == {3}

    def test_command_line(self) -> None:
        found = call("widen", str(PACKED), "--node", "qkv", "--ratio", "1.5", "--plan")
        assert found.code == 2
        assert "/qkv/MatMul:heads" in found.err


def shape_operands(model: onnx.ModelProto) -> list[int]:
    """The head counts in the targets of the reshapes."""
    by_name = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    return [
        int(by_name[n.input[1]][2])
        for n in model.graph.node
        if n.op_type == "Reshape" and len(by_name[n.input[1]]) == 4
    ]


class TestSeparate:
    def test_a_projection_grows_its_head_width(self) -> None:
        student = n2n.widen(SEPARATE, node="q", ratio=1.5)
        found = shapes(student)
        assert found["q.weight"] == found["k.weight"] == (16, 24)
        assert found["v.weight"] == (16, 16)

    def test_heads_are_a_space_of_their_own(self) -> None:
        student = n2n.widen(SEPARATE, space="/q/MatMul:heads", width=3)
        found = shapes(student)
        assert {found[f"{n}.weight"] for n in "qkv"} == {(16, 24)}
        assert found["out.weight"] == (24, 16)
        assert n2n.verify(SEPARATE, student).equivalent


ATTENTION = """<ir_version: 8, opset_import: ["" : 17]>
attention (float[1, 12, 5] x) => (float[1, 8, 5] y) {{
  {packed}
  q0, k0, v0 = Split <axis: int = 1> (packed, sizes)
  q1 = Reshape (q0, heads)
  k = Reshape (k0, heads)
  v = Reshape (v0, heads)
  q = Transpose <perm: ints = [0, 1, 3, 2]> (q1)
  scores = MatMul (q, k)
  weights = Softmax <axis: int = -1> (scores)
  mixed = MatMul (v, weights)
  joined = Reshape (mixed, whole)
  attended = Conv (joined, wo)
  {joined}
}}"""


def attention(packed: str, joined: str, **more: tuple[int, ...]) -> onnx.ModelProto:
    """Attention over channels first; `more` are the shapes of the weights that the texts name."""
    model = onnx.parser.parse_model(ATTENTION.format(packed=packed, joined=joined))
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=s).astype(np.float32) for name, s in more.items()}
    arrays["wo"] = rng.normal(size=(8, 12, 1)).astype(np.float32)
    arrays |= {"sizes": np.array([12] * 3), "heads": np.array([0, 3, 4, 5])}
    arrays["whole"] = np.array([0, 12, 5])
    found = [onnx.numpy_helper.from_array(a, name) for name, a in arrays.items()]
    model.graph.initializer.extend(found)
    for k, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{k}"
    return model


class TestNamesThatAreOffered:
    """What the message offers is what `inspect` lists, and each of them grows."""

    def grown(self, model: onnx.ModelProto, node: str) -> list[str]:
        with pytest.raises(n2n.AmbiguousError, match="several widths") as caught:
            n2n.widen(model, node=node, ratio=1.5)
        names = list(caught.value.candidates)
        assert names == [s.name for s in n2n.inspect(model, node=node).spaces]
        plan = n2n.plan(model, [{"space": name, "ratio": 1.5} for name in names])
        assert n2n.verify(model, plan.apply()).equivalent
        return names

    def test_of_a_layer_whose_widths_another_one_lists(self) -> None:
        packed = "raw = Conv (x, wi)  packed = Conv <group: int = 36> (raw, wd)"
        joined = "y = Relu (attended)"
        model = attention(packed, joined, wi=(36, 12, 1), wd=(36, 1, 1))
        assert self.grown(model, "Conv_1") == ["Conv_0:qk", "Conv_0:v", "Conv_0:heads"]

    def test_of_a_width_that_stands_beside_both_products(self) -> None:
        packed = "raw = Conv (x, wi)  hidden, packed = Split <axis: int = 1> (raw, both)"
        joined = "act = Relu (hidden)  down = Conv (act, wm)  y = Add (attended, down)"
        model = attention(packed, joined, wi=(46, 12, 1), wm=(8, 10, 1))
        both = onnx.numpy_helper.from_array(np.array([10, 36]), "both")
        model.graph.initializer.append(both)
        names = [f"Conv_0:{part}" for part in ("qk", "v", "width", "heads")]
        assert self.grown(model, "Conv_0") == names


class TestWhatIsComputedOnce:
    def test_a_width_named_by_its_layer_asks_no_other_layer(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("onnx_net2net.growth.widen.step.spaces", None)
        assert shapes(n2n.widen(PACKED, space="qkv:v", width=5))["out.weight"] == (15, 5)

    def test_spaces_are_found_once_for_each_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = catalogue._spaces
        asked: list[Analysis] = []
        monkeypatch.setattr(catalogue, "_spaces", lambda a: (asked.append(a), found(a))[1])
        n2n.plan(PACKED, "everywhere", ratio=1.5)
        assert asked
        assert len({id(a) for a in asked}) == len(asked)
