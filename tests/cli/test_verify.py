"""`verify` as people and scripts use it: what it says, exit codes, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from support.command_line import MODELS, WIDEN, Workplace, call, digits, ok, work

__all__ = ["digits", "work"]  # fixtures


class TestVerify:
    @pytest.fixture
    def student(self, digits: str) -> str:
        ok(*WIDEN, "--width", "20", "--verify", "off", "-o", "student.onnx")
        return "student.onnx"

    @pytest.fixture
    def damaged(self, student: str) -> str:
        model = onnx.load(student)
        (found,) = (t for t in model.graph.initializer if t.name == "conv2.weight")
        broken = numpy_helper.to_array(found).copy()
        broken[0, 0] *= 1.5
        found.CopyFrom(numpy_helper.from_array(broken, found.name))
        onnx.save(model, "damaged.onnx")
        return "damaged.onnx"

    def test_equivalent(self, work: Workplace, digits: str, student: str) -> None:
        before = work.files()
        assert ok("verify", digits, student).out.startswith("proved: ")
        verdict = ok("verify", digits, student, "--json").json
        assert verdict["schema"] == "onnx-net2net/verdict/1"
        assert verdict["equivalent"] is True
        assert verdict["decided_by"] in {y["name"] for y in verdict["layers"]}
        assert work.files() == before

    def test_not_equivalent(self, work: Workplace, digits: str, damaged: str) -> None:
        found = call("verify", digits, damaged)
        assert (found.code, found.err) == (1, "")
        assert found.out.startswith("different: ")
        found = call("verify", digits, damaged, "--json")
        assert (found.code, found.json["equivalent"]) == (1, False)

    def test_inconclusive(
        self, work: Workplace, digits: str, student: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from onnx_net2net.verification import verify
        from onnx_net2net.verification.verify import Claim, Verdict

        monkeypatch.setattr(verify, "verify", lambda *a, **k: Verdict(Claim.CANNOT_TELL, None))
        assert call("verify", digits, student).code == 5
        assert call("verify", digits, student, "--json").json["equivalent"] is None

    def test_other_interface(self, work: Workplace, digits: str) -> None:
        assert call("verify", digits, work.bring("mlp_gemm")).code == 1

    def test_own_inputs(self, work: Workplace, digits: str, student: str, damaged: str) -> None:
        np.savez("data.npz", images=np.load(MODELS / "digits_test.npz")["images"][:4])
        verdict = ok("verify", digits, student, "--inputs", "data.npz", "--json").json
        assert verdict["equivalent"] is True
        assert call("verify", digits, damaged, "--inputs", "data.npz").code == 1

    def test_saved_inputs_show_the_difference(
        self, work: Workplace, digits: str, damaged: str
    ) -> None:
        found = call("verify", digits, damaged, "--save-inputs", "shows.npz")
        assert found.code == 1
        assert "shows.npz" in found.out
        assert call("verify", digits, damaged, "--inputs", "shows.npz").code == 1

    @pytest.mark.parametrize("name", ["data.npz", "digits_cnn.onnx"])
    def test_saving_inputs_replaces_nothing(
        self, work: Workplace, digits: str, damaged: str, name: str
    ) -> None:
        Path("data.npz").write_text("mine")
        before = work.files()
        assert call("verify", digits, damaged, "--save-inputs", name).code == 2
        assert work.files() == before

    @pytest.mark.parametrize("layers", ["auto", "certificate", "full"])
    def test_layers(self, work: Workplace, digits: str, student: str, layers: str) -> None:
        ok("verify", digits, student, "--layers", layers, "--seeds", "1")

    def test_cuda_without_cuda(
        self, work: Workplace, digits: str, student: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import onnxruntime

        monkeypatch.setattr(
            onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"]
        )
        found = call("verify", digits, student, "--provider", "cuda", "--json")
        assert found.code == 6
        assert found.json["error"]["kind"] == "environment"
        assert "CUDAExecutionProvider" in found.err
