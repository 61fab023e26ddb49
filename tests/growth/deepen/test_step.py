"""Inserted layers: every kind in every layout, where they stand, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_net2net.errors import AmbiguousError, RefusalError
from onnx_net2net.files import patch
from onnx_net2net.files.reader import read
from onnx_net2net.growth.deepen.step import Deepening, deepen
from onnx_net2net.growth.deepen.verb import Deepen
from onnx_net2net.inference.analysis import Analysis

RNG = np.random.default_rng(0)
C = 6
# layout -> (input shape, channel axis); W, H, D are told by a window, T by a MatMul
LAYOUTS = {
    "NC": (5, C), "NC gemm": (5, C), "NCW": (2, C, 9), "NCHW": (2, C, 8, 7),
    "NCDHW": (2, C, 4, 5, 3), "NTC": (2, 7, C), "NHWC": (2, 5, 4, C),
}  # fmt: skip
TYPES = {
    "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}  # fmt: skip


def weights(name: str, *shape: int, dtype: str = "float32") -> TensorProto:
    values = RNG.standard_normal(shape) / max(1.0, np.prod(shape[1:]) ** 0.5)
    np_type = helper.tensor_dtype_to_np_dtype(TYPES[dtype])
    return numpy_helper.from_array(values.astype(np_type), name)


def layer(layout: str, x: str, y: str, dtype: str, window: int = 3) -> tuple[list[Any], list[Any]]:
    """One layer with weights `y`.weight and bias, C to C channels, named `y`."""
    if layout in ("NTC", "NHWC", "NC"):
        made = [weights(f"{y}.weight", C, C, dtype=dtype), weights(f"{y}.bias", C, dtype=dtype)]
        product = helper.make_node(
            "MatMul", [x, f"{y}.weight"], [f"{y}_product"], name=f"{y}/MatMul"
        )
        return [product, helper.make_node("Add", [f"{y}_product", f"{y}.bias"], [y])], made
    if layout == "NC gemm":
        made = [weights(f"{y}.weight", C, C, dtype=dtype), weights(f"{y}.bias", C, dtype=dtype)]
        return [
            helper.make_node("Gemm", [x, *[t.name for t in made]], [y], name=f"{y}/Gemm", transB=1)
        ], made
    spatial = len(layout) - 2
    kernel = [window] * spatial
    made = [
        weights(f"{y}.weight", C, C, *kernel, dtype=dtype),
        weights(f"{y}.bias", C, dtype=dtype),
    ]
    pads = [window // 2] * 2 * spatial
    node = helper.make_node(
        "Conv", [x, *[t.name for t in made]], [y], name=f"{y}/Conv", kernel_shape=kernel, pads=pads
    )
    return [node], made


def model_of(
    layout: str, activation: str = "Relu", opset: int = 17, dtype: str = "float32", ir: int = 8,
    **attributes: Any,
) -> onnx.ModelProto:  # fmt: skip
    """x -> conv1 -> activation act1 -> conv2 -> out."""
    first, w1 = layer(layout, "x", "conv1", dtype)
    last, w2 = layer(layout, "act1", "out", dtype)
    middle = helper.make_node(activation, ["conv1"], ["act1"], name="act1/node", **attributes)
    infos = [helper.make_tensor_value_info(n, TYPES[dtype], LAYOUTS[layout]) for n in ("x", "out")]
    inputs = [infos[0]]
    if ir < 4:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in w1 + w2]
    graph = helper.make_graph([*first, middle, *last], "g", inputs, infos[1:], w1 + w2)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def run(model: onnx.ModelProto, feed: dict[str, Any] | None = None) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [np.asarray(y) for y in session.run(None, feed or inputs_of(model))]


def inputs_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    fixed = {t.name for t in model.graph.initializer}
    rng = np.random.default_rng(1)
    return {
        i.name: rng.standard_normal([d.dim_value for d in i.type.tensor_type.shape.dim]).astype(
            helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type)
        )
        for i in model.graph.input
        if i.name not in fixed
    }


def deepened(model: onnx.ModelProto, **how: Any) -> tuple[onnx.ModelProto, Deepening]:
    source = read(model)
    made = deepen(Analysis(source), Deepen(**how))
    student = patch.apply(source, made.patch).to_proto()
    onnx.checker.check_model(student, full_check=True)
    assert student.opset_import == model.opset_import
    assert student.ir_version == model.ir_version
    return student, made


def assert_same(model: onnx.ModelProto, student: onnx.ModelProto, tolerance: float = 0.0) -> None:
    for x, y in zip(run(model), run(student), strict=True):
        assert x.shape == y.shape
        if tolerance:
            x, y = x.astype(np.float64), y.astype(np.float64)
            assert np.abs(x - y).max() <= tolerance * np.abs(x).max()
        else:
            np.testing.assert_array_equal(x, y)


RUNS = [
    (layout, opset, dtype)
    for layout in LAYOUTS
    for opset in (9, 13, 17, 21)
    for dtype in ("float32", "float64", "float16")
    # onnxruntime's CPU has no convolution for doubles
    if not (dtype == "float64" and layout.startswith("NC") and layout[2:3] in ("W", "H", "D"))
]


@pytest.mark.parametrize(("layout", "opset", "dtype"), RUNS)
@pytest.mark.parametrize("kind", ["identity", "linear", "residual", "pair"])
def test_every_kind_in_every_layout_is_bit_equal(
    kind: str, layout: str, opset: int, dtype: str
) -> None:
    model = model_of(layout, "Relu", opset, dtype, ir=10 if opset > 20 else 8)
    where = "conv1" if kind in ("linear", "pair") else "act1"
    student, made = deepened(model, after=where, kind=kind)
    assert made.kind == kind
    assert made.preserving
    assert made.placed.axis == (1 if layout.startswith("NC") else len(LAYOUTS[layout]) - 1)
    assert len(student.graph.node) == len(model.graph.node) + len(made.nodes)
    assert_same(model, student)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["identity", "linear", "residual", "pair"])
def test_bfloat16_weights_follow_the_tensor(kind: str, layout: str) -> None:
    model = model_of(layout, opset=22, dtype="bfloat16", ir=10)
    student, made = deepened(model, after="act1", kind=kind)
    new = {t.name: t for t in student.graph.initializer if t.name in made.parameters}
    assert new
    assert {t.data_type for t in new.values()} == {TensorProto.BFLOAT16}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "activation", ["LeakyRelu", "PRelu", "Gelu", "silu", "hard_swish", "Softplus", "quick_gelu"]
)
def test_pairs_are_exact_for_activations_with_a_linear_odd_part(
    activation: str, layout: str
) -> None:
    model = model_of(layout, "Tanh", 13)
    student, _ = deepened(model, after="conv1", kind="pair", activation=activation)
    assert_same(model, student, 1e-6)


@pytest.mark.parametrize(
    ("activation", "attributes"),
    [("Elu", {"alpha": 0.5}), ("Selu", {}), ("Tanh", {}), ("Sigmoid", {}), ("HardSwish", {})],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_shifts_are_exact_behind_activations_bounded_below(
    layout: str, activation: str, attributes: dict[str, float]
) -> None:
    model = model_of(layout, activation, 17, **attributes)
    student, made = deepened(model, after="act1", kind="shift")
    assert_same(model, student, 1e-6)
    assert made.kind == "shift"


def test_the_shift_is_not_larger_than_it_must_be_nor_smaller() -> None:
    source = read(model_of("NCHW", "Elu", 17, alpha=0.5))
    made = deepen(Analysis(source), Deepen(after="act1", kind="shift"))
    student = patch.apply(source, made.patch).to_proto()
    lift = next(t for t in student.graph.initializer if t.name.endswith("shift"))
    assert -0.51 < numpy_helper.to_array(lift).min() <= -0.5


LEGAL = [
    # activation that made the tensor, one asked for, whether it is the identity there
    ("Relu", None, True), ("Relu", "LeakyRelu", True), ("Relu", "PRelu", True),
    ("Relu", "Elu", True), ("Relu", "Celu", True), ("Relu", "Abs", True),
    ("Relu", "Gelu", False), ("Relu", "Tanh", False), ("Relu", "relu6", False),
    ("Sigmoid", None, False), ("Sigmoid", "Relu", True), ("Sigmoid", "relu6", True),
    ("LeakyRelu", None, False), ("LeakyRelu", "Relu", False), ("Elu", None, False),
    ("Softplus", "Relu", True), ("Softplus", None, False), ("Tanh", "Relu", False),
]  # fmt: skip


@pytest.mark.parametrize(("made_by", "asked", "legal"), LEGAL)
def test_the_identity_is_legal_where_values_allow(
    made_by: str, asked: str | None, legal: bool
) -> None:
    model = model_of("NCHW", made_by, 17)
    how = {"after": "act1", "activation": asked}
    student, auto = deepened(model, **how)
    assert auto.kind == ("identity" if legal else "residual")
    assert_same(model, student)
    if legal:
        assert_same(model, deepened(model, kind="identity", **how)[0])
        return
    with pytest.raises(RefusalError, match="not the identity") as refused:
        deepened(model, kind="identity", **how)
    assert "residual" in refused.value.hint
    assert refused.value.axis == ("act1", 1)


def test_softmax_takes_a_relu_and_no_second_softmax() -> None:
    model = model_of("NTC", "Softmax", 13, axis=-1)
    assert deepened(model, after="act1", activation="Relu")[1].kind == "identity"
    assert deepened(model, after="act1")[1].kind == "residual"
    with pytest.raises(RefusalError, match="pointwise") as refused:
        deepened(model, after="act1", activation="Softmax")
    assert "Relu" in refused.value.hint


def test_what_can_never_train_is_refused() -> None:
    model = model_of("NCHW")
    for name in ("Sign", "Floor", "Round"):
        with pytest.raises(RefusalError, match="no derivative"):
            deepened(model, after="act1", activation=name, kind="residual")


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("groups", [1, 2, 3, C])
@pytest.mark.parametrize("layout", ["NCW", "NCHW", "NCDHW", "NTC", "NHWC"])
def test_kernels_and_groups(layout: str, groups: int, kernel: int) -> None:
    model = model_of(layout, opset=9)
    for kind in ("identity", "linear", "residual"):
        student, made = deepened(model, after="act1", kind=kind, kernel=kernel, groups=groups)
        assert_same(model, student)
        convolutions = [
            n for n in student.graph.node if n.name in made.nodes and n.op_type == "Conv"
        ]
        if kernel > 1 or groups > 1:
            shapes = {
                tuple(a.ints) for n in convolutions for a in n.attribute if a.name == "kernel_shape"
            }
            assert (kernel,) * (len(LAYOUTS[layout]) - 2) in shapes


def test_the_kernel_follows_the_layer_before_and_depthwise_is_a_group_each() -> None:
    model = model_of("NCHW")
    student, made = deepened(model, after="act1")
    shapes = {t.name: tuple(t.dims) for t in student.graph.initializer}
    assert shapes[made.parameters[0]] == (C, C, 3, 3)
    student, made = deepened(model, after="act1", depthwise=True, kernel=5)
    shapes = {t.name: tuple(t.dims) for t in student.graph.initializer}
    assert shapes[made.parameters[0]] == (C, 1, 5, 5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_batchnorm_is_exact_with_default_statistics(layout: str) -> None:
    # 1 - epsilon is 1 in half precision: off by 5e-6, a hundredth of its resolution
    for dtype, tolerance in (("float32", 0.0), ("float16", 1e-3)):
        model = model_of(layout, dtype=dtype)
        student, made = deepened(model, after="act1", batchnorm=True)
        assert "BatchNormalization" in {n.op_type for n in student.graph.node}
        assert any("calibration" in w for w in made.warnings)
        assert_same(model, student, tolerance)


@pytest.mark.parametrize("kind", ["identity", "linear", "residual"])
@pytest.mark.parametrize("layout", ["NC", "NCHW", "NTC"])
def test_calibrated_statistics_are_those_of_the_data(layout: str, kind: str) -> None:
    model = model_of(layout)
    data = inputs_of(model)
    pieces = {k: np.concatenate([v, 2 * v, -v]) for k, v in data.items()}
    student, made = deepened(model, after="act1", kind=kind, batchnorm=True, calibrate=pieces)
    assert_same(model, student, 1e-6)
    assert not any("calibration" in w for w in made.warnings)
    arrays = {t.name: numpy_helper.to_array(t) for t in student.graph.initializer}
    norm = next(n for n in student.graph.node if n.op_type == "BatchNormalization")
    scale, shift, mean, variance = (arrays[n] for n in norm.input[1:])
    seen = onnx.ModelProto()
    seen.CopyFrom(student)
    seen.graph.output.append(onnx.ValueInfoProto(name=norm.input[0]))
    values = [run(seen, {"x": part})[-1] for part in np.split(pieces["x"], 3)]
    values = np.moveaxis(np.concatenate(values), 1, 0).reshape(len(mean), -1)
    np.testing.assert_allclose(mean, values.mean(1), atol=1e-6)
    np.testing.assert_allclose(variance, values.var(1), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(scale, np.sqrt(variance + 1e-5), rtol=1e-6)
    np.testing.assert_array_equal(shift, mean)


def test_random_initialisation_says_that_it_does_not_preserve() -> None:
    model = model_of("NCHW")
    student, made = deepened(model, after="act1", init="random")
    assert not made.preserving
    with pytest.raises(AssertionError):
        assert_same(model, student, 1e-3)


def test_same_seed_same_bytes_and_another_seed_others() -> None:
    model = model_of("NCHW")
    one, two, other = (
        deepened(model, after="act1", kind="residual", seed=s)[0].SerializeToString()
        for s in (0, 0, 1)
    )
    assert one == two
    assert one != other


def test_names_fit_the_model_and_stay_unique() -> None:
    model = model_of("NCHW")
    student, made = deepened(model, after="act1", count=2)
    assert made.parameters[:2] == ("conv1_deeper.weight", "conv1_deeper.bias")
    assert made.nodes[0] == "conv1_deeper/Conv"
    again, more = deepened(student, after="act1")
    assert more.parameters[0].startswith("conv1_deeper2.")
    names = [n.name for n in again.graph.node]
    assert len(set(names)) == len(names)
    assert_same(model, again)


def test_old_files_list_new_initializers_as_inputs() -> None:
    model = model_of("NCHW", opset=9, ir=3)
    student, made = deepened(model, after="act1")
    assert set(made.parameters) <= {i.name for i in student.graph.input}
    assert_same(model, student)


def test_widths_of_the_hidden_layer() -> None:
    model = model_of("NTC", "Tanh")
    student, made = deepened(model, after="act1", kind="residual", inner=17, activation="Gelu")
    shapes = [tuple(t.dims) for t in student.graph.initializer if t.name in made.parameters]
    assert (C, 17) in shapes
    assert (17, C) in shapes
    assert_same(model, student)
    with pytest.raises(ValueError, match="residual"):
        deepened(model, after="act1", kind="linear", inner=4)


@pytest.mark.parametrize(
    "how", [{"kind": "deep"}, {"activation": "Reelu"}, {"count": 0}, {"groups": 4}, {"init": "x"}]
)
def test_arguments_that_make_no_sense(how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        deepened(model_of("NCHW"), after="act1", **how)


def test_unknown_names_list_the_nearest() -> None:
    with pytest.raises(AmbiguousError) as unknown:
        deepened(model_of("NCHW"), after="conv9")
    assert unknown.value.candidates
