"""The fuzzer and the seeded faults: their graphs are valid and varied, and they see what is bad."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tools.fuzzing.wiring_faults  # noqa: F401  adds to FAULTS
from tools import fuzz, mutate
from tools.fuzzing.faults import FAULTS, seeded
from tools.fuzzing.judging import Runs, judged, judged_damaged
from tools.fuzzing.programs import build, draw


def test_the_same_graph_for_a_seed() -> None:
    assert build(draw(3)).SerializeToString() == build(draw(3)).SerializeToString()


def test_graphs_are_varied() -> None:
    kinds = Counter(n.op_type for seed in range(150) for n in build(draw(seed)).graph.node)
    assert len(kinds) > 45
    assert {"If", "Loop", "Conv", "DequantizeLinear", "Softmax", "Reshape"} <= set(kinds)


def test_leaving_a_block_out_changes_no_other() -> None:
    program = next(p for p in map(draw, range(100)) if len(p.blocks) > 3)
    less = program.without(1)
    assert [b for b in program.blocks if b in less.blocks] == list(less.blocks)
    build(less)


def test_most_kinds_of_faults_find_a_place_and_change_something() -> None:
    placed = set()
    for seed in range(40):
        model = build(draw(seed))
        for kind in FAULTS:
            damaged = seeded(model, kind, seed)
            if damaged is not None:
                assert damaged.SerializeToString() != model.SerializeToString(), kind
                placed.add(kind)
    assert len(FAULTS) >= 40
    assert len(placed) >= 30


class TestJudging:
    def pair(self) -> tuple[Runs, onnx.ModelProto]:
        model = build(draw(7))
        return Runs(model), model

    def test_the_same_is_the_same(self) -> None:
        runs, model = self.pair()
        assert not judged(runs, model, "itself", 30).bad

    def test_a_wrong_student_is_bad(self) -> None:
        runs, model = self.pair()
        assert judged(runs, self.damaged(model), "damaged", 30).word == "wrong"

    def test_a_proof_of_damage_is_bad(self, monkeypatch: pytest.MonkeyPatch) -> None:
        runs, model = self.pair()
        monkeypatch.setattr("tools.fuzzing.judging._certified", lambda *_: True)
        found = judged_damaged(runs, self.damaged(model), "weights", 30)
        assert found is not None
        assert found.bad
        assert judged(runs, self.damaged(model), "x", 30).word == "falsely proved"

    def test_a_false_alarm_is_bad(self, monkeypatch: pytest.MonkeyPatch) -> None:
        runs, model = self.pair()
        monkeypatch.setattr("tools.fuzzing.judging._certified", lambda *_: False)
        assert judged(runs, model, "x", 30).word == "false alarm"

    def damaged(self, model: onnx.ModelProto) -> onnx.ModelProto:
        made = onnx.ModelProto()
        made.CopyFrom(model)
        for tensor in made.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
                array = numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(np.flip(array, 0) * 2, tensor.name))
        return made


def test_some_graphs_hold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["fuzz.py", "--seed", "20", "--graphs", "6"])
    assert fuzz.main() == 0
    assert "6 graphs, 0 with failures" in capsys.readouterr().out


def test_a_failure_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    program = next(p for p in map(draw, range(100)) if len(p.blocks) > 4)
    kept = program.blocks[2]

    def failing(p: object) -> list[object]:
        bad = judged_stub if kept in p.blocks else None  # type: ignore[attr-defined]
        return [bad] if bad else []

    judged_stub = type("Bad", (), {"word": "wrong", "bad": True})()
    monkeypatch.setattr(fuzz, "failures", failing)
    assert fuzz.smaller(program, "wrong").blocks == (kept,)


def test_the_kinds_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["mutate.py", "--list"])
    assert mutate.main() == 0
    assert len(capsys.readouterr().out.splitlines()) == len(FAULTS)
