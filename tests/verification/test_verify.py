"""Verification: interface, runs, noise floor, sensitivity, verdicts; and what it may import."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnx_net2net
from onnx_net2net.errors import ModelError
from onnx_net2net.files.reader import read
from onnx_net2net.verification.runtime import compare as runtime
from onnx_net2net.verification.runtime import inputs
from onnx_net2net.verification.runtime.noise import deviation, nudged
from onnx_net2net.verification.sides import Side
from onnx_net2net.verification.verdict import Layer
from onnx_net2net.verification.verify import ProviderError, Status, Verdict, verify
from support.same_function import MODELS

Dims = list[Any]
SHAPE: Dims = ["N", 3, 8, 8]


def weight(name: str, *shape: int, seed: int = 0) -> TensorProto:
    values = np.random.default_rng([seed, len(name)]).standard_normal(shape) / 3
    return numpy_helper.from_array(values.astype(np.float32), name)


def model(
    nodes: list[onnx.NodeProto], weights: list[TensorProto], *, inputs: Any = None,
    outputs: Any = None, opset: int = 17,
) -> ModelProto:  # fmt: skip
    info = helper.make_tensor_value_info
    inputs = inputs or [info("x", TensorProto.FLOAT, SHAPE)]
    outputs = outputs or [info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def network(width: int = 4, seed: int = 0) -> ModelProto:
    """Conv, Relu, Conv, pooling, Gemm."""
    return model(
        [
            helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="conv1", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["r"], name="relu"),
            helper.make_node("Conv", ["r", "w2"], ["b"], name="conv2"),
            helper.make_node("GlobalAveragePool", ["b"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="fc", transB=1),
        ],
        [
            weight("w1", width, 3, 3, 3, seed=seed), weight("b1", width, seed=seed),
            weight("w2", 5, width, 3, 3, seed=seed), weight("w3", 7, 5), weight("b3", 7),
        ],
    )  # fmt: skip


def put(m: ModelProto, name: str, values: Any) -> ModelProto:
    """A copy with another value for an initializer."""
    other = ModelProto()
    other.CopyFrom(m)
    at = next(t for t in other.graph.initializer if t.name == name)
    at.CopyFrom(numpy_helper.from_array(np.asarray(values), name))
    return other


def held(m: ModelProto, name: str) -> Any:
    return numpy_helper.to_array(next(t for t in m.graph.initializer if t.name == name)).copy()


def widened(m: ModelProto, source: list[int] | None = None) -> ModelProto:
    """Net2WiderNet of conv1 by hand, with even shares."""
    source = source or [0, 1, 2, 3, 0, 2, 0]
    counts = np.bincount(source)[source].astype(np.float32)
    student = put(m, "w1", held(m, "w1")[source])
    student = put(student, "b1", held(m, "b1")[source])
    return put(student, "w2", held(m, "w2")[:, source] / counts[:, None, None])


def layer(verdict: Verdict, name: str) -> Layer:
    found = verdict.layer(name)
    assert found is not None
    return found


class TestVerdict:
    def test_json_is_plain_and_has_a_schema(self) -> None:
        found = json.loads(json.dumps(verify(network(), widened(network())).to_json()))
        assert found["schema"] == "onnx-net2net/verdict/1"
        assert found["equivalent"] is True
        assert found["decided_by"] == "certificate"
        assert [y["name"] for y in found["layers"]][:3] == ["interface", "certificate", "runtime"]

    def test_figures_are_named_by_layer(self) -> None:
        figures = verify(network(), widened(network())).figures
        assert 0 <= figures["runtime.multiple"] < 8
        assert figures["certificate.compared"] == 2


class TestGiven:
    def test_path_bytes_proto_and_source(self, tmp_path: Path) -> None:
        teacher, student = network(), widened(network())
        path = tmp_path / "student.onnx"
        onnx.save(student, path)
        for given in (str(path), path, path.read_bytes(), student, read(student)):
            assert verify(teacher, given, layers="certificate")

    def test_graphsurgeon(self) -> None:
        gs = pytest.importorskip("onnx_graphsurgeon")
        assert verify(network(), gs.import_onnx(widened(network())))

    def test_external_data(self, tmp_path: Path) -> None:
        onnx.save(
            widened(network()), tmp_path / "s.onnx", save_as_external_data=True,
            location="s.bin", size_threshold=0,
        )  # fmt: skip
        verdict = verify(network(), tmp_path / "s.onnx")
        assert verdict
        assert layer(verdict, "runtime").status is Status.PASSED

    def test_neither_is_changed(self) -> None:
        teacher, student = network(), widened(network())
        before = teacher.SerializeToString(), student.SerializeToString()
        verify(teacher, student)
        assert (teacher.SerializeToString(), student.SerializeToString()) == before

    @pytest.mark.parametrize(
        "bad", [{"layers": "some"}, {"seeds": 0}, {"provider": "tpu"}, {"require": "luck"}]
    )
    def test_wrong_arguments(self, bad: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(bad))):
            verify(network(), network(), **bad)

    def test_no_model(self) -> None:
        with pytest.raises(ModelError):
            verify(network(), b"not a model")


class TestInterface:
    def other(self, **changes: Any) -> Verdict:
        info = helper.make_tensor_value_info
        nodes = [helper.make_node("Relu", ["x"], ["y"])]
        mine = model(nodes, [], outputs=[info("y", TensorProto.FLOAT, SHAPE)])
        theirs = model(changes.pop("nodes", nodes), [], **changes)
        return verify(mine, theirs)

    @pytest.mark.parametrize("dims", [["N", 3, 8, 9], [1, 3, 8, 8], ["N", 3, 8], ["N", 3, "H", 8]])
    def test_other_input_shape(self, dims: Dims) -> None:
        found = self.other(inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)])
        assert found.equivalent is False
        assert found.decided_by == "interface"
        assert "'x'" in str(found)

    def test_symbols_may_have_other_names(self) -> None:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])
        assert self.other(inputs=[x])

    def test_output_may_say_less(self) -> None:
        assert self.other(outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])

    def test_other_type(self) -> None:
        x = helper.make_tensor_value_info("x", TensorProto.DOUBLE, SHAPE)
        y = helper.make_tensor_value_info("y", TensorProto.DOUBLE, SHAPE)
        assert self.other(inputs=[x], outputs=[y]).equivalent is False

    def test_other_names(self) -> None:
        found = self.other(
            nodes=[helper.make_node("Relu", ["x"], ["z"])],
            outputs=[helper.make_tensor_value_info("z", TensorProto.FLOAT, SHAPE)],
        )
        assert "no output 'y'" in layer(found, "interface").detail

    def test_weights_listed_as_inputs_are_none(self) -> None:
        student = widened(network())
        for t in student.graph.initializer:
            student.graph.input.append(
                helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
            )
        assert verify(network(), student)


class TestRuntime:
    def test_sizes_and_kinds(self) -> None:
        found = layer(verify(network(), widened(network()), seeds=3), "runtime")
        assert found.figures["runs"] == 6  # 3 seeds, one of another kind, two more sizes
        more = layer(verify(network(), widened(network()), layers="full"), "runtime")
        assert more.figures["runs"] == 18

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
        monkeypatch.setattr(runtime, "_free_memory", lambda: 1000)
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
        assert layer(found, "runtime").figures["runs"] == 6

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
        from onnx_net2net.verification.runtime.compare import _brief

        text = " ".join(["word"] * 100)
        assert _brief(Exception(text)).endswith("word ...")
        assert _brief(Exception("short  text\n")) == "short text"


class TestIndependence:
    ALLOWED = frozenset("errors files graph inference operators typing".split())

    def test_never_imports_what_grows(self) -> None:
        folder = Path(onnx_net2net.__file__).parent / "verification"
        found = set()
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, (ast.Import, ast.ImportFrom)):
                    continue
                module = getattr(node, "module", None)
                names = [f"{module}.{a.name}" if module else a.name for a in node.names]
                found |= {n.split(".")[1] for n in names if n.startswith("onnx_net2net.")}
        assert found - {"verification"} <= self.ALLOWED

    def test_loads_nothing_that_grows(self) -> None:
        import subprocess
        import sys

        code = "import sys, onnx_net2net.verification.verify; print(*sys.modules)"
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        loaded = {m.split(".")[1] for m in out.stdout.split() if m.startswith("onnx_net2net.")}
        assert "verification" in loaded
        assert not loaded & {
            "spaces",
            "layout",
            "growth",
            "rewrite",
            "mapping",
            "widening",
            "registration",
        }
