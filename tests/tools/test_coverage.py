"""The coverage tool: it must see what is wrong, and count honestly."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tools.coverage import probe as coverage_probe
from tools.coverage.models import Case, cases, guessed_feeds, unseen_feeds
from tools.coverage.onnx_reading import Constants, without_functions
from tools.coverage.probe import Settings, probe
from tools.coverage.runtime import Teacher
from tools.coverage.summary import figures
from tools.coverage.time_limit import OutOfTime
from tools.coverage.weight_nodes import weight_nodes

FOLDER = Path(__file__).resolve().parents[2] / "models"


def load(name: str) -> onnx.ModelProto:
    return onnx.load(FOLDER / f"{name}.onnx")


def taught(name: str, cache: Path | None = None) -> Teacher:
    teacher = Teacher(load(name), cache)
    teacher.learn(next(guessed_feeds(teacher.model)))
    return teacher


def scaled(model: onnx.ModelProto, name: str, factor: float) -> onnx.ModelProto:
    """A copy with one weight multiplied."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    return copy


def test_judge_passes_the_teacher_and_a_reordered_ulp() -> None:
    teacher = taught("residual_stage")
    assert teacher.judge(teacher.model).deviation == 0
    verdict = teacher.judge(scaled(teacher.model, "layer1.0.conv2.weight", 1 + 2**-23))
    assert verdict.right
    assert 0 < verdict.deviation < 1e-5


@pytest.mark.parametrize("factor", [1.0001, 1.5, float("nan")])
def test_judge_sees_a_damaged_weight(factor: float) -> None:
    teacher = taught("residual_stage")
    assert not teacher.judge(scaled(teacher.model, "layer1.0.conv2.weight", factor)).right


def test_outputs_are_cached(tmp_path: Path) -> None:
    first = taught("conv1d", tmp_path)
    (stored,) = tmp_path.iterdir()
    stamp = stored.stat().st_mtime_ns
    second = taught("conv1d", tmp_path)
    assert stored.stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(first.outputs[1][0], second.outputs[1][0])


def test_third_size_is_new() -> None:
    model = load("conv1d")
    feeds = next(guessed_feeds(model))
    unseen = next(unseen_feeds(Case("conv1d", FOLDER / "conv1d.onnx"), model, feeds))
    sizes = [feed["x"].shape for feed in (*feeds, unseen)]
    for lengths in zip(*sizes, strict=True):
        assert len(set(lengths)) in (1, 3)
    assert len(set(sizes)) == 3


class Refusal(Exception):
    node, reason = "/conv2/Conv", "no rule for operator"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands in for the package: what it answers for a node is set by the test."""
    answers: dict[str, Any] = {}
    monkeypatch.setitem(sys.modules, "onnx_net2net", SimpleNamespace(RefusalError=Refusal))

    def widen(_engine: Any, model: onnx.ModelProto, node: str = "") -> onnx.ModelProto:
        answer = answers.get(node, Refusal())
        if isinstance(answer, BaseException):
            raise answer
        return answer(model)  # type: ignore[no-any-return]

    monkeypatch.setattr(coverage_probe, "widen_node", widen)
    monkeypatch.setattr(coverage_probe, "widen_everywhere", widen)
    monkeypatch.setattr(coverage_probe, "spaces_by_node", lambda *_: {})
    return answers


def with_copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function with one more weight in the file."""
    extra = scaled(model, "", 1)
    extra.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "extra"))
    return extra


def test_every_result_is_told_apart(engine: dict[str, Any]) -> None:
    engine["/conv1/conv/Conv"] = with_copy
    engine["/fc/Gemm"] = lambda m: scaled(with_copy(m), "fc.weight", 1.01)
    engine[""] = lambda m: m
    case = next(c for c in cases([FOLDER]) if c.name == "stale_metadata")
    row = probe(case, Settings())
    found = {e["node"]: (e["result"], e.get("reason"), e["interface"]) for e in row["nodes"]}
    assert found == {
        "/conv1/conv/Conv": ("preserved", None, False),
        "/conv2/Conv": ("refused", "no rule for operator Conv", False),
        "/fc/Gemm": ("wrong", "outputs differ", True),
    }
    assert row["everywhere"]["result"] == "refused"
    assert row["everywhere"]["reason"] == "nothing grew"
    sums = figures([row])
    assert (sums["wrong"], sums["crashed"], sums["preserved_of_inner"]) == (1, 0, 0.5)
    assert sums["misses"] == {"no rule for operator Conv": 1}


def test_exceptions_and_time_are_crashes(engine: dict[str, Any]) -> None:
    engine["/conv1/conv/Conv"] = KeyError("x")
    engine["/conv2/Conv"] = OutOfTime()
    case = next(c for c in cases([FOLDER]) if c.name == "stale_metadata")
    row = probe(case, Settings())
    assert [e["result"] for e in row["nodes"]] == ["crashed"] * 3
    assert figures([row])["crashed"] == 3


def test_a_teacher_that_does_not_run_is_skipped(engine: dict[str, Any]) -> None:
    case = next(c for c in cases([FOLDER]) if c.name == "cnn_bfloat16")
    row = probe(case, Settings())
    assert "does not run" in row["skipped"]
    assert figures([row])["crashed"] == 0


def test_weights_in_bodies_and_functions_are_seen() -> None:
    found = {}
    for name in ("function_calls", "loop_state", "if_two_branches", "scan_rnn_cell"):
        plain = without_functions(load(name))
        found[name] = {n.name for n in weight_nodes(plain, Constants(plain))}
    assert {"/block1/block/conv", "/mix2/mixed/mix"} <= found["function_calls"]
    assert {"/cell/MatMul", "/readout/MatMul"} <= found["loop_state"]
    assert {"/then/Conv", "/else/wide/Conv"} <= found["if_two_branches"]
    assert {"/cell/ih/MatMul", "/cell/hh/MatMul"} <= found["scan_rnn_cell"]


@pytest.mark.parametrize("name", ["function_calls", "loop_state"])
def test_bodies_and_functions_are_widened(name: str) -> None:
    row = probe(Case(name, FOLDER / f"{name}.onnx"), Settings())
    results = {e["node"]: e["result"] for e in row["nodes"]}
    assert set(results.values()) == {"preserved", "refused"}
    assert all(e["interface"] for e in row["nodes"] if e["result"] == "refused")
    assert row["everywhere"]["result"] == "preserved"
