"""Every space of every file in models/, grown in every way, computes the teacher's function."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnx_net2net as n2n
from onnx_net2net.coupling.catalogue import layer_space, space_name, spaces
from onnx_net2net.coupling.lookup import find
from onnx_net2net.errors import Reason, RefusalError
from onnx_net2net.files.patch import apply
from onnx_net2net.files.reader import read
from onnx_net2net.growth.widen import arrays, rewrite
from onnx_net2net.growth.widen.changes import Growth
from onnx_net2net.growth.widen.planner import grow
from onnx_net2net.growth.widen.step import widen_step
from onnx_net2net.growth.widen.units import Row, Units
from onnx_net2net.growth.widen.verb import Widen
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.plans.plan import plan
from support.same_function import MODELS, NAMES, Teacher, teacher
from tools.samples.graph_builder import Net

VARIANTS = [
    ("random", "zero-sum", Row.COPY), ("balanced", "even", Row.COPY),
    ("random", "one-hot", Row.COPY), ("random", "zero-sum", Row.ZERO),
    ("random", "uneven", Row.COPY), ("random", "even", Row.FREE), ("random", "even", Row.TWIN),
]  # fmt: skip
REFUSED = (Reason.ROW_KIND.value, Reason.MISALIGNED.value)
NOT_SORTED = {"unsorted_nodes"}


def room(name: str) -> float:
    """Rounding: the largest difference, in terms of an output's largest number."""
    return 1e-12 if name == "mlp_float64" else 2e-6


def analysed(name: str) -> Analysis:
    return Analysis(read(str(MODELS / f"{name}.onnx")))


def layers(analysis: Analysis) -> list[dict[str, Any]]:
    """One layer of each space, by its output; by the space's name where none is its default."""
    found = spaces(analysis)[0]
    named = {nodes[0].name for space, _, nodes in found if space.default or not space.part}
    return [
        {"node": nodes[0].outputs[0]}
        if nodes[0].name in named
        else {"space": space_name(space, nodes[0])}
        for space, _, nodes in found
    ]


def grown(
    analysis: Analysis, layer: dict[str, Any], variant: tuple[str, str, Row], ratio: float = 1.4
) -> onnx.ModelProto | None:
    """A student; None where rows other than copies are refused."""
    mapping, split, rows = variant
    try:
        asked = Widen(**layer, ratio=ratio, mapping=mapping, split=split, seed=3)
        step = widen_step(analysis, asked, rows)
    except RefusalError as refused:
        if rows is Row.COPY or refused.reason not in REFUSED:
            raise
        return None
    return apply(analysis.source, step.patch).to_proto()


@pytest.mark.parametrize("name", NAMES)
def test_every_space(name: str) -> None:
    before = (MODELS / f"{name}.onnx").read_bytes()
    analysis = analysed(name)
    found = layers(analysis)
    assert found
    for layer in found:
        for variant in VARIANTS:
            student = grown(analysis, layer, variant)
            if student is None:
                continue
            if name not in NOT_SORTED:
                onnx.checker.check_model(student, full_check=True)
            assert teacher(name).deviation(student) <= room(name), (layer, variant)
    assert (MODELS / f"{name}.onnx").read_bytes() == before


@pytest.mark.parametrize("name", NAMES)
def test_only_the_output_cannot_grow(name: str) -> None:
    blocked = spaces(analysed(name))[1]
    assert len(blocked) == {"two_outputs": 2, "loop_state": 2, "scan_rnn_cell": 2}.get(name, 1)
    assert {b.refusal.reason for b in blocked} == {Reason.GRAPH_OUTPUT}


@pytest.mark.parametrize("name", NAMES)
def test_one_after_the_other(name: str) -> None:
    analysis = analysed(name)
    for k, layer in enumerate(layers(analysis)):
        step = widen_step(analysis, Widen(**layer, ratio=1.3, seed=k))
        analysis = Analysis(read(apply(analysis.source, step.patch)))
    student = read(apply(analysis.source, [])).proto
    assert teacher(name).deviation(apply(analysis.source, []).to_proto()) <= 2 * room(name)
    assert len(student.graph.node) >= len(teacher(name).model.graph.node)


@pytest.mark.parametrize("name", NAMES)
def test_everywhere_at_once(name: str) -> None:
    student = plan(str(MODELS / f"{name}.onnx"), "everywhere").apply(verify="off")
    assert isinstance(student, onnx.ModelProto)
    assert teacher(name).deviation(student) <= 2 * room(name)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_plan_changes_no_byte(name: str, tmp_path: Path) -> None:
    path = MODELS / f"{name}.onnx"
    out = plan(str(path), []).apply(tmp_path / "same.onnx", verify="off")
    assert isinstance(out, Path)
    assert out.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["mlp_gemm", "residual_stage", "nhwc_tf", "channel_split"])
def test_the_given_model_is_not_changed(name: str) -> None:
    model = onnx.load(MODELS / f"{name}.onnx")
    before = model.SerializeToString(deterministic=True)
    layer = layers(analysed(name))[0]
    n2n.widen(model, **layer, ratio=1.5, verify="off")
    assert model.SerializeToString(deterministic=True) == before


def digest(name: str, layer: str, seed: int) -> str:
    made = plan(str(MODELS / f"{name}.onnx"), [{"node": layer, "ratio": 1.5}], seed=seed)
    student = made.apply(verify="off")
    assert isinstance(student, onnx.ModelProto)
    del student.metadata_props[:]  # which name the version
    return hashlib.sha256(student.SerializeToString(deterministic=True)).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "layer", "expected"),
    [("mlp_gemm", "fc2", "1e304f68ba687e64"), ("squeeze_excite", "stem/conv", "e9de8a32abedbe43")],
)
def test_same_seed_same_bytes(name: str, layer: str, expected: str) -> None:
    """A change of these digests breaks the promise that users' seeds make the same students."""
    assert digest(name, layer, 0) == digest(name, layer, 0) == expected
    assert digest(name, layer, 1) != expected


@pytest.mark.parametrize("name", ["mlp_gemm", "residual_stage", "unet", "transformer_block"])
def test_a_wrong_student_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the division among copies, the comparison above fails on every space."""
    for module in (arrays, rewrite):
        monkeypatch.setattr(
            module, "divided", lambda w, source, axis, *rest: np.take(w, source, axis=axis)
        )
    analysis = analysed(name)
    for layer in layers(analysis):
        student = grown(analysis, layer, VARIANTS[0], 2.2)  # of pads alone nothing is divided
        assert student is not None
        assert teacher(name).deviation(student) > 1e-3, layer


def test_a_growth_that_is_none_deviates_by_nothing() -> None:
    model = onnx.load(MODELS / "mlp_gemm.onnx")
    assert Teacher(model).deviation(model) == 0.0


def small(middle: Callable[[Net, str], str], channels: int = 6) -> onnx.ModelProto:
    """A layer of six channels, something in between, and a layer that reads `channels`."""
    net = Net("small", opset=18)
    y = net.conv(net.input("x", "N", 3, 8, 8), "a", 3, 6)
    return net.head(net.conv(middle(net, y), "b", channels, 4), 4).model()


def reverse(net: Net, y: str) -> str:
    bounds = [net.const(f"c{k}", [v]) for k, v in enumerate((-1, -(2**62), 1, -1))]
    turned: str = net.op("Slice", y, *bounds)
    return turned


def test_free_rows_stay_where_their_weights_are_zero() -> None:
    """Turning channels round swaps a unit and its copy: copies do not mind, free rows do."""
    model = small(reverse)
    analysis = Analysis(read(model))
    asked = Widen(node="a", ratio=1.5, seed=0)
    student = apply(analysis.source, widen_step(analysis, asked).patch).to_proto()
    assert Teacher(model).deviation(student) <= 2e-6
    for rows in (Row.FREE, Row.ZERO):
        with pytest.raises(RefusalError, match="do not line up"):
            widen_step(analysis, asked, rows)


def test_uneven_copies_of_what_is_averaged_are_refused() -> None:
    analysis = analysed("transformer_block")
    space = layer_space(analysis, find(analysis, "ff2"))[0]
    for units in ([0], [0] * 16, [*range(15), 0]):
        with pytest.raises(RefusalError):
            grow(analysis, space, Units.copies(units))
    assert isinstance(grow(analysis, space, Units.copies([*range(15, -1, -1)])), Growth)


def test_zero_rows_are_zero_and_free_rows_are_not() -> None:
    analysis = analysed("residual_stage")
    for rows in (Row.ZERO, Row.FREE):
        step = widen_step(analysis, Widen(node="stem", width=12), rows)
        student = apply(analysis.source, step.patch).to_proto()
        held = {t.name: numpy_helper.to_array(t) for t in student.graph.initializer}
        new = held["stem.conv.weight"][8:]
        assert (new == 0).all() == (rows is Row.ZERO)
        assert len(np.unique(new, axis=0)) == (1 if rows is Row.ZERO else 4)
        assert (held["stem.bn.bias"][8:] == 0).all() == (rows is Row.ZERO)
        assert (held["stem.bn.running_var"] > 0).all()  # divides, so it stays
        assert not held["layer1.0.a.conv.weight"][:, 8:].any()


def test_division_before_a_sum_over_channels() -> None:
    """No weight reads the channels: a Mul divides them, in the model's own type."""
    model = small(lambda net, y: str(net.op("ReduceSum", y, net.const("c", [1]))), 1)
    analysis = Analysis(read(model))
    for rows in (Row.COPY, Row.ZERO, Row.TWIN):
        step = widen_step(analysis, Widen(node="a", width=10), rows)
        assert step.inserted == 1
        student = apply(analysis.source, step.patch).to_proto()
        assert [n.op_type for n in student.graph.node].count("Mul") == 1
        assert Teacher(model).deviation(student) <= 2e-6
