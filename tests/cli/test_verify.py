"""`verify` as people and scripts use it: what it says, exit codes, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from support.command_line import MODELS, WIDEN, Workplace, call, digits, ok, work

__all__ = ["digits", "work"]  # fixtures


def sliced(end: int) -> onnx.ModelProto:
    """The first positions of a sequence."""
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Slice", ["x", "start", "end", "axis"], ["y"])], "g",
        [info("x", 1, ["N", "L"])], [info("y", 1, None)],
        [numpy_helper.from_array(np.array([v]), n)
         for n, v in (("start", 0), ("end", end), ("axis", 1))],
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, ir_version=8, opset_imports=opsets)


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

    def test_a_proof_for_some_sizes(self, work: Workplace) -> None:
        for name, end in (("all.onnx", 2**40), ("first.onnx", 512)):
            onnx.save(sliced(end), name)
        pair = ("verify", "all.onnx", "first.onnx")
        assert call(*pair).code == 1
        found = call(*pair, "--layers", "certificate", "--json")
        assert (found.code, found.json["claim"]) == (5, "proved for SIZES")
        assert found.json["conditions"] == ["L <= 512"]
        found = ok(*pair, "--sizes", "L<=512", "--require", "proved")
        assert found.out.startswith("proved for L <= 512: ")
        assert call(*pair, "--layers", "certificate", "--sizes", "L<=513").code == 5

    @pytest.mark.parametrize("sizes", ["", "L", "M<=3", "L<=2,L>2"])
    def test_sizes_that_make_no_sense(self, work: Workplace, sizes: str) -> None:
        onnx.save(sliced(512), "model.onnx")
        found = call("verify", "model.onnx", "model.onnx", "--sizes", sizes, "--json")
        assert (found.code, found.json["error"]["kind"]) == (2, "usage")
        assert found.json["error"]["hint"]

    def test_growing_takes_the_same(self, work: Workplace, digits: str) -> None:
        assert call(*WIDEN, "--width", "20", "--sizes", "x<=3").code == 2
        ok(*WIDEN, "--width", "20", "--require", "proved")

    def test_rounding_has_a_cap(self, work: Workplace, digits: str, student: str) -> None:
        model = onnx.load(student)
        (found,) = (t for t in model.graph.initializer if t.name == "conv2.weight")
        values = np.nextafter(numpy_helper.to_array(found), np.float32(9))
        found.CopyFrom(numpy_helper.from_array(values, found.name))
        onnx.save(model, "rounded.onnx")
        verdict = ok("verify", digits, "rounded.onnx", "--json").json
        assert verdict["claim"] == "proved to rounding"
        assert verdict["layers"][-1]["name"] == "rounding"
        verdict = call("verify", digits, "rounded.onnx", "--max-rounding", "1e-12", "--json")
        assert (verdict.code, verdict.json["claim"]) == (5, "cannot tell")

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
