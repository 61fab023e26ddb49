"""The certificate and pads: students that are right are proved, damaged ones never."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import onnx_net2net as n2n
from onnx_net2net.verification.certificate.domain import Value
from onnx_net2net.verification.certificate.mean_units import Means, form_of, off_mean
from onnx_net2net.verification.certificate.names import ZERO, positions
from onnx_net2net.verification.verify import Status
from support.normed_streams import WIDTH, arrays, changed, stream
from support.same_function import MODELS

PAD = WIDTH  # the first pad
FUSED, SINGLE, ROOT = stream(), MODELS / "prenorm_layernorm.onnx", MODELS / "prenorm_rms.onnx"


def pair(teacher: Any = FUSED, width: int = 15) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    teacher = teacher if isinstance(teacher, onnx.ModelProto) else onnx.load(teacher)
    student = n2n.plan(teacher, [{"space": n2n.inspect(teacher).spaces[0].name, "width": width}])
    return teacher, student.apply(verify="off")


def proved(teacher: onnx.ModelProto, student: onnx.ModelProto) -> bool:
    layer = n2n.verify(teacher, student, layers="certificate").layer("certificate")
    assert layer is not None
    if layer.status is not Status.PASSED:  # nor may a run alone decide
        assert layer.status is Status.FAILED or layer.figures["suspect"], layer
    return layer.status is Status.PASSED


def attribute(model: onnx.ModelProto, name: str, value: float) -> onnx.ModelProto:
    found = onnx.ModelProto()
    found.CopyFrom(model)
    a = next(a for n in found.graph.node for a in n.attribute if a.name == name)
    a.f = value
    return found


def added(array: Any, at: Any, amount: float) -> Any:
    array = array.copy()
    array[at] += amount
    return array


@pytest.mark.parametrize("teacher", [FUSED, stream("RMSNormalization"), SINGLE, ROOT])
@pytest.mark.parametrize("width", [13, 23, 24, 25, 41])
def test_right_students_are_proved(teacher: Any, width: int) -> None:
    before, after = pair(teacher, width)
    assert proved(before, after)
    found = n2n.verify(before, after)
    assert found.decided_by == "certificate"
    runtime = found.layer("runtime")
    assert runtime is None or runtime.status is Status.PASSED


def test_the_verdict_does_not_say_exactly() -> None:
    layer = n2n.verify(*pair(), layers="certificate").layer("certificate")
    assert layer is not None
    assert "to a rounding of" in layer.detail
    assert "pads leave 2 averages unchanged" in layer.detail
    assert 0 < layer.figures["rounding"] < 1e-6


class TestPadsThatAreNotTheMean:
    @pytest.mark.parametrize("weight", ["stem.weight", "stem.bias", "ff2.weight", "ff2.bias"])
    @pytest.mark.parametrize("amount", [1.0, 1e-5])
    def test_of_weights(self, weight: str, amount: float) -> None:
        before, after = pair()
        array = added(arrays(after)[weight], (..., PAD), amount)
        assert not proved(before, changed(after, **{weight: array}))

    def test_of_a_table(self) -> None:
        before, after = pair(MODELS / "transformer_block.onnx", 20)
        array = added(arrays(after)["embed.weight"], (3, 16), 1e-5)
        assert not proved(before, changed(after, **{"embed.weight": array}))

    def test_of_a_constant(self) -> None:
        before, after = pair(SINGLE)
        array = added(arrays(after)["places"], (0, 2, PAD), 1e-5)
        assert not proved(before, changed(after, places=array))

    def test_of_another_tensor(self) -> None:
        before, after = pair()
        a, b = arrays(after)["stem.bias"], arrays(after)["ff2.bias"]
        a, b = a.copy(), b.copy()
        a[PAD:], b[PAD:] = b[PAD:].copy(), a[PAD:].copy()  # their sum is right as it was
        assert not proved(before, changed(after, **{"stem.bias": a, "ff2.bias": b}))

    def test_zeros_where_means_should_be(self) -> None:
        before, after = pair()
        weight, bias = arrays(after)["stem.weight"].copy(), arrays(after)["stem.bias"].copy()
        weight[:, PAD:] = bias[PAD:] = 0
        assert not proved(before, changed(after, **{"stem.weight": weight, "stem.bias": bias}))

    def test_anything_where_zeros_should_be(self) -> None:
        before, after = pair(ROOT)
        array = added(arrays(after)["embed.weight"], (3, PAD), 1e-5)
        assert not proved(before, changed(after, **{"embed.weight": array}))


class TestNormsThatDoNotAllowForPads:
    @pytest.mark.parametrize("norm", ["LayerNormalization", "RMSNormalization"])
    @pytest.mark.parametrize("factor", [15 / 12, 1 + 1e-5, 0.0])
    def test_epsilon(self, norm: str, factor: float) -> None:
        before, after = pair(stream(norm))
        assert not proved(before, attribute(after, "epsilon", 1e-3 * 12 / 15 * factor))

    @pytest.mark.parametrize("norm", ["LayerNormalization", "RMSNormalization"])
    @pytest.mark.parametrize("factor", [np.sqrt(15 / 12), 1 + 1e-5])
    def test_scale(self, norm: str, factor: float) -> None:
        before, after = pair(stream(norm))
        array = arrays(after)["norm1.weight"].copy()
        array[4] *= factor
        assert not proved(before, changed(after, **{"norm1.weight": array}))
        whole = arrays(after)["norm2.weight"] * factor
        assert not proved(before, changed(after, **{"norm2.weight": whole}))

    def test_bias_of_a_pad(self) -> None:
        before, after = pair()
        array = added(arrays(after)["norm1.bias"], PAD, 1e-3)
        assert not proved(before, changed(after, **{"norm1.bias": array}))

    def test_scale_of_a_pad_does_not_matter(self) -> None:
        before, after = pair()
        array = added(arrays(after)["norm1.weight"], PAD, 1.0)
        assert proved(before, changed(after, **{"norm1.weight": array}))

    @pytest.mark.parametrize("teacher", [SINGLE, ROOT])
    def test_no_factor_behind_an_average(self, teacher: Any) -> None:
        before, after = pair(teacher)
        mul = next(n for n in after.graph.node if "rescaled" in n.name)
        mul.op_type = "Identity"
        del mul.input[1:]
        assert not proved(before, after)

    @pytest.mark.parametrize("teacher", [SINGLE, ROOT])
    def test_a_wrong_factor_behind_an_average(self, teacher: Any) -> None:
        before, after = pair(teacher)
        name = next(k for k in arrays(after) if k.endswith("_pads"))
        assert not proved(before, changed(after, **{name: arrays(after)[name] * (1 + 1e-5)}))

    def test_another_epsilon_in_steps(self) -> None:
        before, after = pair(SINGLE)
        array = arrays(after)["norm1.eps"] * 12 / 15
        assert not proved(before, changed(after, **{"norm1.eps": array}))


class TestWhatReadsPads:
    @pytest.mark.parametrize("weight", ["ff1.weight", "head.weight"])
    def test_zeros_may_be_read_by_anything(self, weight: str) -> None:
        before, after = pair()
        array = added(arrays(after)[weight], PAD, 1.0)
        assert proved(before, changed(after, **{weight: array}))

    def test_a_mean_may_not(self) -> None:
        before, after = pair(stream(last=False))
        array = added(arrays(after)["head.weight"], PAD, 1e-3)
        assert not proved(before, changed(after, **{"head.weight": array}))


def wedge(model: onnx.ModelProto, op: str, behind: str, **attributes: Any) -> onnx.ModelProto:
    """A copy with an operator behind a node."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    at, node = next((k, n) for k, n in enumerate(found.graph.node) if n.name == behind)
    new = f"{node.output[0]}_before_{len(found.graph.node)}"
    made = helper.make_node(op, [new], [node.output[0]], name="wedge", **attributes)
    node.output[0] = new
    found.graph.node.insert(at + 1, made)
    return found


NOT_LINEAR = "Relu Exp Sigmoid Softmax Abs Sqrt Floor LpNormalization Erf Tanh Softplus".split()


@pytest.mark.parametrize("op", NOT_LINEAR)
@pytest.mark.parametrize("behind", ["/stem/Gemm", "/ff2/Gemm", "/Add"])
def test_means_pass_nothing_but_linear_operators(op: str, behind: str) -> None:
    before, after = (wedge(m, op, behind) for m in pair())
    assert not proved(before, after)


def test_neither_a_norm_without_pads_of_its_own() -> None:
    before, after = (wedge(m, "MeanVarianceNormalization", "/Add", axes=[-1]) for m in pair())
    assert not proved(before, after)


@pytest.mark.parametrize(
    ("op", "attributes", "right"),
    [("Neg", {}, True), ("Identity", {}, True), ("Cast", {"to": 11}, True),
     ("Cast", {"to": 6}, False)],
)  # fmt: skip
def test_a_cast_to_integers_is_not_linear(op: str, attributes: dict[str, Any], right: bool) -> None:
    back = {"to": 1}
    models = [wedge(m, op, "/stem/Gemm", **attributes) for m in pair()]
    if op == "Cast":
        for m in models:
            node = next(n for n in m.graph.node if n.name == "wedge")
            node.name = "first"
        models = [wedge(m, "Cast", "first", **back) for m in models]
    assert proved(*models) is right


@pytest.mark.parametrize("activation", ["Relu", "Tanh"])
def test_a_fused_activation_is_behind_the_rows(activation: str) -> None:
    models = pair()
    for m in models:
        node = next(n for n in m.graph.node if n.name == "/stem/Gemm")
        node.op_type, node.domain = "FusedGemm", "com.microsoft"
        node.attribute.append(helper.make_attribute("activation", activation))
        m.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert not proved(*models)


class TestMeans:
    """The labels themselves."""

    def test_a_mean_belongs_to_its_tensor(self) -> None:
        means, mask = Means(), np.array([False, False, True])
        labels = means.put(5, positions(3) + np.uint64(7), mask)
        assert means.mask(5, labels) is not None
        assert means.mask(6, labels) is None
        moved = means.moved(5, Value(6, (labels,)))
        assert means.mask(6, moved.axes[0]) is not None
        assert means.mask(5, moved.axes[0]) is None

    def test_copies_of_some_make_another_mean(self) -> None:
        means = Means()
        labels = means.put(5, np.array([1, 2, 3], np.uint64), np.array([False, False, True]))
        uneven, even = labels[[0, 0, 1, 2]], labels[[0, 0, 1, 1, 2, 2]]
        assert means.mask(5, uneven) is None
        assert means.mask(5, even) is not None
        assert means.mask(5, labels[[0, 2]]) is None

    def test_zeros_count(self) -> None:
        a, b = np.array([1, 2], np.uint64), np.array([1, 2, ZERO], np.uint64)
        assert form_of(a) != form_of(b)
        assert form_of(a) == form_of(np.concatenate([a, a]))

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_what_rounding_may_do(self, dtype: Any) -> None:
        rows = np.random.default_rng(0).standard_normal((9, 40)).astype(dtype)
        rows[8] = rows[:8].astype(np.float64).mean(0).astype(dtype)
        mask = np.arange(9) == 8
        assert (off_mean(rows, mask, ~mask) <= 1).all()
        assert Means().columns(rows).tolist() == mask.tolist()
        rows[8, 3] *= 1 + 32 * np.finfo(dtype).eps
        assert (off_mean(rows, mask, ~mask) > 1).all()
        assert not Means().columns(rows).any()

    def test_equal_rows_are_no_means(self) -> None:
        assert not Means().columns(np.ones((4, 5), np.float32)).any()
