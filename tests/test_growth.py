"""Every space of every file in models/, grown in every way, computes the teacher's function."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx_net2net as n2n
from onnx_net2net import rewrite
from onnx_net2net.analysis import Analysis
from onnx_net2net.errors import Reason, RefusalError
from onnx_net2net.files import read
from onnx_net2net.inspection import spaces
from onnx_net2net.mapping import Row
from onnx_net2net.patch import apply
from onnx_net2net.planning import plan
from onnx_net2net.widening import widen_step
from same_function import MODELS, NAMES, Teacher, teacher

VARIANTS = [
    ("random", "zero-sum", Row.COPY), ("balanced", "even", Row.COPY),
    ("random", "one-hot", Row.COPY), ("random", "zero-sum", Row.ZERO),
    ("random", "even", Row.FREE),
]  # fmt: skip
REFUSED = (Reason.ROW_KIND.value, Reason.MISALIGNED.value)
NOT_SORTED = {"unsorted_nodes"}


def room(name: str) -> float:
    """Rounding: the largest difference, in terms of an output's largest number."""
    return 1e-12 if name == "mlp_float64" else 2e-6


def analysed(name: str) -> Analysis:
    return Analysis(read(str(MODELS / f"{name}.onnx")))


def layers(analysis: Analysis) -> list[str]:
    """One layer of each space, by its output."""
    return [nodes[0].outputs[0] for _, _, nodes in spaces(analysis)[0]]


def grown(analysis: Analysis, layer: str, variant: tuple[str, str, Row]) -> onnx.ModelProto | None:
    """A student; None where rows other than copies are refused."""
    mapping, split, rows = variant
    try:
        step = widen_step(
            analysis, node=layer, ratio=1.4, mapping=mapping, split=split, rows=rows, seed=3
        )
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
    assert len(blocked) == {"if_captured": 3, "two_outputs": 2}.get(name, 1)
    reasons = {b.refusal.reason for b in blocked} - {Reason.GRAPH_OUTPUT}
    assert reasons == ({Reason.NO_RULE} if name == "if_captured" else set())


@pytest.mark.parametrize("name", NAMES)
def test_one_after_the_other(name: str) -> None:
    analysis = analysed(name)
    for k, layer in enumerate(layers(analysis)):
        step = widen_step(analysis, node=layer, ratio=1.3, seed=k)
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
    n2n.widen(model, node=layer, ratio=1.5, verify="off")
    assert model.SerializeToString(deterministic=True) == before


def digest(name: str, layer: str, seed: int) -> str:
    made = plan(str(MODELS / f"{name}.onnx"), [{"node": layer, "ratio": 1.5}], seed=seed)
    student = made.apply(verify="off")
    assert isinstance(student, onnx.ModelProto)
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
    monkeypatch.setattr(
        rewrite, "divided", lambda w, source, axis, *rest: np.take(w, source, axis=axis)
    )
    analysis = analysed(name)
    for layer in layers(analysis):
        student = grown(analysis, layer, VARIANTS[0])
        assert student is not None
        assert teacher(name).deviation(student) > 1e-3, layer


def test_a_growth_that_is_none_deviates_by_nothing() -> None:
    model = onnx.load(MODELS / "mlp_gemm.onnx")
    assert Teacher(model).deviation(model) == 0.0
