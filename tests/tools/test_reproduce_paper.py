"""The paper's experiments: the first figure on digits, and documents that say what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools.experiments import report as paper_report

DOCS = Path(__file__).resolve().parents[2] / "docs"
NEEDS = "needs the extra `paper`"


def _record(curve: list[float], **other: Any) -> dict[str, Any]:
    steps = [0, 100, 250, 400][: len(curve)]
    return {"steps": steps, "accuracy": curve, "final": curve[-1], **other}


def test_area_and_dip_look_at_the_first_steps_only() -> None:
    record = _record([0.8, 0.6, 0.7, 0.1])
    assert paper_report.area(record) == pytest.approx((0.7 * 100 + 0.65 * 150) / 250)
    assert paper_report.dip(record) == pytest.approx(-0.2)


def test_reached_is_the_first_step_at_the_target() -> None:
    record = _record([0.5, 0.8, 0.7, 0.9])
    assert [paper_report.reached(record, t) for t in (0.5, 0.75, 0.85, 0.95)] == [0, 100, 400, None]


def test_a_student_pays_for_its_teacher_and_a_scratch_run_does_not() -> None:
    teacher = _record([0.1, 0.2, 0.3, 0.4], **{"flops per step": int(1e12)})
    own = {"flops per step": int(2e12)}
    assert paper_report.total_compute({**own, "start": "grown"}, teacher, 10) == 420
    assert paper_report.total_compute({**own, "start": "scratch"}, teacher, 10) == 20


def test_the_document_holds_the_tables_of_the_measured_files() -> None:
    text = (DOCS / "reproduction.md").read_text()
    paths = sorted((DOCS / "reproduction").glob("*.json"))
    assert paper_report.filled(text, paths) == text
    assert [f"<!-- {p.stem} -->" in text for p in paths] == [True] * 6


@pytest.mark.parametrize(("suffix", "most"), [(".svg", 150), (".png", 100)])
def test_pictures_are_small(suffix: str, most: int) -> None:
    found = [p.stat().st_size for p in (DOCS / "reproduction").glob(f"*{suffix}")]
    assert found
    assert max(found) <= most * 1024


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("setup", ["wider-inception", "deeper-plain", "symmetry-transformer"])
def test_students_start_where_their_teacher_is(setup: str, tmp_path: Path) -> None:
    for extra in ("torch", "onnxscript", "matplotlib", "sklearn"):
        pytest.importorskip(extra, reason=NEEDS)
    from tools.experiments import reproduce as reproduce_paper

    arguments = ["--experiment", setup, "--data", "digits", "--seeds", "1", "--jobs", "1"]
    assert reproduce_paper.main([*arguments, "--quick", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "reproduction" / f"{setup}.json").read_text())
    claims = [f for f in paper_report.figures(found) if f.claim.startswith("step 0")]
    assert len(claims) == (1 if setup.startswith("symmetry") else 2)
    assert all(f.reached for f in claims), claims
    assert (tmp_path / "reproduction" / f"{setup}.svg").stat().st_size > 10_000


@pytest.mark.torch
def test_a_student_is_read_back_by_names() -> None:
    torch = pytest.importorskip("torch", reason=NEEDS)
    pytest.importorskip("onnxscript", reason=NEEDS)
    import onnx_net2net as n2n
    from tools.experiments import models as paper_models

    images = torch.randn(4, 1, 14, 14)
    widths = {"conv1.conv": 4, "conv2.conv": 5, "conv3.conv": 6}
    teacher = paper_models.build("plain", widths).eval()
    for norm in (teacher.conv1.bn, teacher.conv2.bn, teacher.conv3.bn):
        torch.nn.init.uniform_(norm.running_mean, -1, 1)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    model = paper_models.export(teacher, images)
    assert sum(n.op_type == "BatchNormalization" for n in model.graph.node) == 3
    plan = n2n.plan(model, [
        {"node": "conv1.conv.weight", "width": 7},
        {"verb": "deepen", "after": "conv2.conv.weight", "kind": "identity", "batchnorm": True},
    ])  # fmt: skip
    student = paper_models.load("plain", plan.apply()).eval()
    assert student.conv1.width == 7
    assert student.conv2.conv_deeper is not None
    with torch.no_grad():
        np.testing.assert_allclose(student(images), teacher(images), atol=1e-5)


def test_missing_data_is_said_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from tools.experiments import data as paper_data

    monkeypatch.setattr(paper_data, "FOLDER", Path("/no/such/folder"))
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist"):
        paper_data.load("fashion")
