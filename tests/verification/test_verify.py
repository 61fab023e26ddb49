"""Verification: interfaces, verdicts, what may be given; and what it may import."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

import onnx_net2net
from onnx_net2net.errors import ModelError
from onnx_net2net.files.reader import read
from onnx_net2net.verification.verify import Status, Verdict, verify
from support.small_networks import SHAPE, Dims, layer, model, network, widened


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
        assert loaded - {"verification"} <= self.ALLOWED
