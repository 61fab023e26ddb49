"""Runs in onnxruntime: sizes, the noise floor, providers, students that do not load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_net2net.verification.runtime import compare as runtime
from onnx_net2net.verification.runtime import inputs
from onnx_net2net.verification.runtime.noise import deviation, nudged
from onnx_net2net.verification.sides import Side
from onnx_net2net.verification.verify import ProviderError, Status, verify
from support.same_function import MODELS
from support.small_networks import SHAPE, held, layer, model, network, put, weight, widened


class TestRuntime:
    def test_sizes_and_kinds(self) -> None:
        found = layer(verify(network(), widened(network()), seeds=3), "runtime")
        assert found.figures["runs"] == 7  # 3 seeds, two of other kinds, two more sizes
        more = layer(verify(network(), widened(network()), layers="full"), "runtime")
        assert more.figures["runs"] == 27

    def test_full_looks_at_sensitivity_too(self) -> None:
        verdict = verify(network(), widened(network()), layers="full")
        assert layer(verdict, "sensitivity").status is Status.PASSED

    def test_certificate_alone_runs_nothing(self) -> None:
        verdict = verify(network(), widened(network()), layers="certificate")
        assert [y.name for y in verdict.layers] == ["interface", "certificate"]

    def test_wrong_student_names_the_place_and_saves_inputs(self, tmp_path: Path) -> None:
        student = widened(network())
        wrong = put(student, "w2", held(student, "w2") * np.float32(1.01))
        path = tmp_path / "show.npz"
        verdict = verify(network(), wrong, save_inputs=path)
        assert verdict.equivalent is False
        assert verdict.saved_inputs == path
        assert "'y' at [" in layer(verdict, "runtime").detail
        assert "x the noise floor" in layer(verdict, "runtime").detail
        again = verify(network(), wrong, inputs=path)
        assert "show.npz" in layer(again, "runtime").detail

    def test_saved_inputs_appear_whole_or_not_at_all(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        feed = inputs.Feed("mine", {"x": np.ones((1, 3), np.float32)})
        path = tmp_path / "show.npz"

        def fail(*_: object) -> None:
            raise OSError("the disk is gone")

        with monkeypatch.context() as broken:
            broken.setattr("os.fsync", fail)
            with pytest.raises(OSError, match="gone"):
                inputs.save(feed, path)
        assert not list(tmp_path.iterdir())
        inputs.save(feed, path)
        with np.load(path) as saved:
            assert np.array_equal(saved["x"], feed.values["x"])
        assert list(tmp_path.iterdir()) == [path]

    def test_without_memory_for_runs_the_certificate_decides(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runtime, "free_memory", lambda: 1000)
        monkeypatch.setattr(runtime, "Session", None)  # must not be asked for
        student = widened(network())
        verdict = verify(network(), student)
        assert verdict.equivalent
        skipped = layer(verdict, "runtime")
        assert skipped.status is Status.SKIPPED
        assert "too large to run here" in skipped.detail
        assert skipped.detail in str(verdict)
        assert layer(verdict, "certificate").status is Status.PASSED
        wrong = put(student, "w2", held(student, "w2") * np.float32(1.01))
        assert not verify(network(), wrong).equivalent

    def test_users_data(self) -> None:
        x = np.ones((2, 3, 8, 8), np.float32)
        found = verify(network(), widened(network()), inputs=[{"x": x}, {"x": x * 9}], seeds=1)
        assert layer(found, "runtime").figures["runs"] == 7

    @pytest.mark.parametrize(
        "data",
        [{"z": np.ones(1)}, {}, {"x": np.ones((1, 4, 8, 8), np.float32)}, 7],
    )
    def test_users_data_that_do_not_fit(self, data: Any) -> None:
        with pytest.raises(ValueError, match="input"):
            verify(network(), network(), inputs=data)

    def test_nan_and_infinity_stand_in_the_same_places(self) -> None:
        nodes = [helper.make_node("Log", ["x"], ["l"]), helper.make_node("Mul", ["l", "w"], ["y"])]
        teacher = model(nodes, [weight("w", 1)])
        assert layer(verify(teacher, teacher), "runtime").status is Status.PASSED
        nodes[0] = helper.make_node("Sqrt", ["x"], ["l"])
        assert verify(teacher, model(nodes, [weight("w", 1)])).equivalent is False

    def test_constant_outputs_prove_nothing(self) -> None:
        """Equal outputs of a model that shows nothing are no verdict."""

        def dead(name: str) -> ModelProto:
            return model(
                [
                    helper.make_node("Conv", ["x", "w"], ["c"]),
                    helper.make_node("Clip", ["c", "low", "low"], ["k"]),
                    helper.make_node(name, ["k"], ["y"]),
                ],
                [weight("w", 4, 3, 3, 3), numpy_helper.from_array(np.float32(0), "low")],
            )

        verdict = verify(dead("Sin"), dead("Tan"))
        assert layer(verdict, "runtime").status is Status.PASSED
        assert layer(verdict, "sensitivity").status is Status.UNDECIDED
        assert verdict.equivalent is None

    def test_without_a_proof_the_runs_decide(self) -> None:
        """x + x is 2 x, which the certificate does not know."""
        double = numpy_helper.from_array(np.float32(2), "two")
        teacher, student = (
            model(
                [
                    helper.make_node("Conv", ["x", "w"], ["c"]),
                    helper.make_node(op, ["c", by], ["y"]),
                ],
                [weight("w", 4, 3, 3, 3), double],
            )
            for op, by in (("Add", "c"), ("Mul", "two"))
        )
        verdict = verify(teacher, student)
        assert layer(verdict, "certificate").status is Status.UNDECIDED
        assert (verdict.equivalent, verdict.decided_by) == (True, "runtime")

    def test_integer_outputs_must_be_equal(self) -> None:
        info = helper.make_tensor_value_info

        def classifier(seed: int) -> ModelProto:
            return model(
                [
                    helper.make_node("Gemm", ["x", "w"], ["s"]),
                    helper.make_node("ArgMax", ["s"], ["y"], axis=1),
                ],
                [weight("w", 6, 9, seed=seed)],
                inputs=[info("x", TensorProto.FLOAT, ["N", 6])],
                outputs=[info("y", TensorProto.INT64, None)],
            )

        assert verify(classifier(0), classifier(0))
        assert verify(classifier(0), classifier(1)).equivalent is False

    def test_indices_stay_inside_their_table(self) -> None:
        info = helper.make_tensor_value_info
        m = model(
            [helper.make_node("Gather", ["table", "x"], ["y"])], [weight("table", 3, 4)],
            inputs=[info("x", TensorProto.INT64, ["N", "T"])],
        )  # fmt: skip
        assert layer(verify(m, m), "runtime").status is Status.PASSED

    def test_what_onnxruntime_cannot_run_is_skipped(self) -> None:
        nodes = [helper.make_node("Thing", ["x"], ["y"], domain="my.own")]
        m = model(nodes, [], outputs=[helper.make_tensor_value_info("y", 1, SHAPE)])
        m.opset_import.append(helper.make_opsetid("my.own", 1))
        verdict = verify(m, m)
        assert verdict.decided_by == "certificate"
        assert layer(verdict, "runtime").status is Status.SKIPPED
        assert "cannot run" in layer(verdict, "runtime").detail

    def test_a_student_that_does_not_load_is_different(self) -> None:
        student = network()
        student.graph.node[1].op_type = "NoSuchOperator"
        assert verify(network(), student).equivalent is False

    def test_a_student_that_does_not_run_at_another_size_is_different(self) -> None:
        """A batch size written into a Reshape: right at the probed size alone."""

        def flat(shape: list[int]) -> ModelProto:
            return model(
                [helper.make_node("Reshape", ["x", "s"], ["y"])],
                [numpy_helper.from_array(np.array(shape), "s")],
            )

        assert verify(flat([0, -1]), flat([0, 192])).equivalent is True
        assert verify(flat([0, -1]), flat([2, -1])).equivalent is False


class TestNoise:
    def test_one_ulp_each(self) -> None:
        side = Side.of(network())
        moved = nudged(side, ["w1"], 0)["w1"]
        before = held(network(), "w1")
        assert (np.abs(moved - before) == np.spacing(np.abs(before))).mean() > 0.9
        assert ((moved > before).mean() > 0.3) & ((moved < before).mean() > 0.3)

    def test_zeros_stay(self) -> None:
        side = Side.of(put(network(), "w1", np.zeros((4, 3, 3, 3), np.float32)))
        assert not nudged(side, ["w1"], 0)["w1"].any()

    def test_nan_elsewhere_is_infinitely_far(self) -> None:
        a = np.array([1.0, np.nan, np.inf])
        assert deviation(a, a) == 0
        assert deviation(a, a[::-1]) == np.inf
        assert deviation(a, np.array([1.5, np.nan, np.inf])) == 0.5


class TestProviders:
    def test_missing_provider(self) -> None:
        if "CUDAExecutionProvider" in ort.get_available_providers():
            pytest.skip("there is one")
        with pytest.raises(ProviderError, match="CUDA") as failure:
            verify(network(), network(), provider="cuda")
        assert isinstance(failure.value, OSError)  # exit code 6

    @pytest.mark.gpu
    def test_cuda(self) -> None:
        if "CUDAExecutionProvider" not in ort.get_available_providers():
            pytest.skip("no CUDA device")
        student = widened(network())
        assert verify(network(), student, provider="cuda", layers="full")
        wrong = put(student, "w2", held(student, "w2") * np.float32(1.01))
        assert verify(network(), wrong, provider="cuda").equivalent is False


class TestStudentsThatDoNotLoad:
    """What is beyond this onnxruntime is no difference; what its own graph forbids is one."""

    def test_newer_opset(self) -> None:
        student = onnx.load(MODELS / "digits_cnn.onnx")
        student.opset_import[0].version = 99
        verdict = verify(MODELS / "digits_cnn.onnx", student)
        runtime = verdict.layer("runtime")
        assert runtime.status is Status.SKIPPED
        assert runtime.detail.endswith("its opset is ai.onnx 99, which the teacher's is not")
        assert verdict.equivalent is not False

    def test_newer_format(self) -> None:
        student = onnx.load(MODELS / "digits_cnn.onnx")
        student.ir_version = 99
        verdict = verify(MODELS / "digits_cnn.onnx", student)
        assert verdict.layer("runtime").status is Status.SKIPPED
        assert verdict.decided_by == "certificate"

    def test_operators_that_the_teacher_lacks(self) -> None:
        student = onnx.load(MODELS / "digits_cnn.onnx")
        student.graph.node[-1].domain = "my.domain"
        student.opset_import.append(onnx.helper.make_opsetid("my.domain", 1))
        verdict = verify(MODELS / "digits_cnn.onnx", student)
        assert verdict.equivalent is None
        assert "not a registered function" in verdict.layer("runtime").detail

    def test_a_graph_that_is_wrong(self) -> None:
        student = onnx.load(MODELS / "digits_cnn.onnx")
        onnx.checker.check_model(student)
        (conv,) = (n for n in student.graph.node if n.name == "/conv2/Conv")
        conv.attribute.append(onnx.helper.make_attribute("auto_pad", "SIDEWAYS"))
        verdict = verify(MODELS / "digits_cnn.onnx", student)
        assert (verdict.equivalent, verdict.decided_by) == (False, "runtime")

    def test_messages_end_with_a_word(self) -> None:
        from onnx_net2net.verification.runtime.compare import brief

        text = " ".join(["word"] * 100)
        assert brief(Exception(text)).endswith("word ...")
        assert brief(Exception("short  text\n")) == "short text"


def test_strings_are_saved_so_that_they_can_be_read(tmp_path: Path) -> None:
    feed = inputs.Feed("mine", {"x": np.array(["a", "bc"], object)})
    path = inputs.save(feed, tmp_path / "show.npz")
    with np.load(path) as saved:
        assert saved["x"].tolist() == ["a", "bc"]
