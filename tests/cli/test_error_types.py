"""An error's type and fields decide, whatever it is called, says or comes from."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_net2net as n2n
from onnx_net2net.cli.exit_codes import explain, to_json
from onnx_net2net.errors import (
    AmbiguousError,
    ModelError,
    Net2NetError,
    NotEquivalentError,
    Reason,
    Refusal,
    RefusalError,
    ResourceError,
    TooLargeError,
    UsageError,
)
from onnx_net2net.growth.record import load, steps_of
from onnx_net2net.operators.table import TABLE
from onnx_net2net.verification.verify import Claim, Verdict
from support.command_line import MODELS, Workplace, call, work

__all__ = ["work"]  # a fixture

ODD = ["a; b", "a; b; c", "; ", "it's", 'a "word"', "two\nlines", "a: b (c)\n  d; e"]
FILES = [name for name in ODD if "\n" not in name]


def said(code: int, *arguments: str) -> dict[str, Any]:
    """What a command that fails with `code` says of it as JSON."""
    found = call(*arguments, "--json")
    assert found.code == code, found
    error: dict[str, Any] = found.json["error"]
    assert found.err == f"error: {error['message']}\n"
    return error


@pytest.fixture
def digits(work: Workplace) -> str:
    return work.bring("digits_cnn")


class TestFields:
    """Reason and hint are whole, whatever stands in the names that they quote."""

    WIDEN = ("widen", "digits_cnn.onnx", "--node")

    @pytest.mark.parametrize("name", ODD)
    def test_unknown_node(self, digits: str, name: str) -> None:
        error = said(2, *self.WIDEN, name, "--width", "20")
        assert error["reason"] == f"no node, tensor or parameter is named '{name}'"
        assert error["candidates"]

    @pytest.mark.parametrize("name", FILES)
    def test_recipe(self, digits: str, name: str) -> None:
        error = said(2, "apply", digits, f"{name}.yaml")
        assert error["reason"] == f"no recipe '{name}.yaml'"
        assert error["hint"] == "give the path of a YAML file, a list of steps or 'everywhere'"

    @pytest.mark.parametrize("name", FILES)
    def test_line_of_a_recipe(self, digits: str, name: str) -> None:
        Path(f"{name}.yaml").write_text("steps:\n- {node: conv1, ratio: 0.5}\n")
        error = said(2, "apply", digits, f"{name}.yaml")
        assert error["reason"] == f"{name}.yaml:2: ratio 0.5 does not widen"
        assert error["hint"] == "give a number above 1, e.g. 1.5"
        Path(f"{name}.yaml").write_text("steps:\n- {node: fc, ratio: 2}\n")
        error = said(4, "apply", digits, f"{name}.yaml")
        assert error["reason"] == "graph output"
        assert error["message"].startswith(f"{name}.yaml:2: cannot grow 'fc'")

    @pytest.mark.parametrize("name", ODD)
    def test_model(self, digits: str, name: str) -> None:
        error = said(3, "inspect", f"{name}.onnx")
        assert error["reason"] == f"'{name}.onnx' does not exist"
        assert error["hint"] == "give the path of an ONNX model"

    @pytest.mark.parametrize("name", ODD)
    def test_output(self, digits: str, name: str) -> None:
        grow = *self.WIDEN, "conv1", "--width", "20", "-o"
        Path(f"{name}.onnx").touch()
        error = said(2, *grow, f"{name}.onnx")
        assert error["reason"] == f"'{name}.onnx': already there"
        assert error["hint"] == "choose another with -o or give --force"
        error = said(2, *grow, f"no {name}/out.onnx")
        assert error["reason"] == f"'no {name}': no such folder"
        assert error["hint"] == "choose another with -o"

    @pytest.mark.parametrize("name", ODD)
    def test_option(self, digits: str, name: str) -> None:
        error = said(2, *self.WIDEN, "conv1", "--width", "20", "--mapping", name)
        assert error["reason"] == f"mapping '{name}' does not exist"
        error = said(2, *self.WIDEN, "conv1", "--width", "20", "--shape", name)
        assert f"'{name}' is not of the form" in error["reason"]
        assert error["hint"] == "onnx-net2net widen --help says more"

    def test_options_that_do_not_go_together(self, digits: str) -> None:
        error = said(2, *self.WIDEN, "conv1", "--width", "20", "--init", "fresh", "--split", "even")
        assert error["reason"] == "--init decides on --split"
        assert error["hint"] == "give one of them"

    @pytest.mark.parametrize("name", ODD)
    def test_refusal(self, work: Workplace, name: str) -> None:
        model = onnx.load(MODELS / "digits_cnn.onnx")
        model.graph.output[0].name = name
        (last,) = (n for n in model.graph.node if "logits" in n.output)
        last.output[0] = name
        onnx.save(model, "odd.onnx")
        error = said(4, "widen", "odd.onnx", "--node", "fc", "--width", "20")
        assert (error["node"], error["axis"]) == (name, [name, 1])
        assert error["reason"] == "graph output"
        assert error["hint"].startswith("this width is the model's output; ")

    @pytest.mark.parametrize("name", ODD)
    @pytest.mark.parametrize("kind", [UsageError, ModelError, ResourceError, TooLargeError])
    def test_each_kind(self, kind: type[Net2NetError], name: str) -> None:
        error = kind(f"no '{name}'", f"give {name}")
        error.prefix(name)
        found = to_json(explain(error), error)["error"]
        assert found["message"] == f"{name}: no '{name}'; give {name}" == str(error)
        assert (found["reason"], found["hint"]) == (f"{name}: no '{name}'", f"give {name}")

    @pytest.mark.parametrize("name", ODD)
    def test_not_equivalent(self, name: str) -> None:
        error = NotEquivalentError(f"'{name}' is another", Verdict(Claim.DIFFERENT, False))
        found = to_json(explain(error), error)["error"]
        assert (found["reason"], found["hint"]) == (f"'{name}' is another", None)
        assert found["verdict"]["equivalent"] is False


class TestTypes:
    """Where an error comes from, and how it was raised, tell nothing."""

    @pytest.mark.parametrize("module", ["onnx_net2net.plans.recipe", "onnx_net2net.new", "else"])
    @pytest.mark.parametrize(
        ("kind", "code"),
        [(UsageError, 2), (ModelError, 3), (ResourceError, 6), (ValueError, 70), (KeyError, 70)],
    )
    def test_module(self, module: str, kind: type[Exception], code: int) -> None:
        made = ModuleType(module)
        exec("def raising(kind):\n    raise kind('so it is')", made.__dict__)
        with pytest.raises(kind) as caught:
            made.__dict__["raising"](kind)
        assert explain(caught.value).code == explain(kind("never raised")).code == code

    def test_a_notation(self, digits: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A user's is the user's mistake, a row's is ours."""
        with pytest.raises(UsageError, match="not closed"):
            n2n.register_operator("my.domain", "Op", "n (g c")
        monkeypatch.setitem(TABLE, "Relu", replace(TABLE["Relu"], notation="n (g c"))
        assert said(70, "inspect", digits)["kind"] == "internal error"

    def test_inside_a_step_that_may_leave_out(
        self, digits: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from onnx_net2net.growth.deepen import step

        def broken(analysis: Any, asked: Any) -> Any:
            return np.zeros(3).reshape(2) if asked.after == "conv1" else place(analysis, asked)

        place = step.place
        monkeypatch.setattr(step, "place", broken)
        where = "{verb: deepen, after: [conv1, conv2], where_possible: true}"
        Path("r.yaml").write_text(f"steps:\n- {where}\n")
        assert said(70, "apply", digits, "r.yaml")["kind"] == "internal error"

    @pytest.mark.parametrize("wrong", [5, "x", ["x"], {"a": 1}, {"images": "wide"}, {5: (1,)}])
    def test_shapes(self, wrong: Any) -> None:
        model = MODELS / "digits_cnn.onnx"
        with pytest.raises(n2n.UsageError):
            n2n.inspect(model, shapes=wrong)
        with pytest.raises(n2n.UsageError):
            n2n.verify(model, model, shapes=wrong)

    @pytest.mark.parametrize("wrong", [5, ["conv1"], {}, b"conv1"])
    def test_names(self, wrong: Any) -> None:
        with pytest.raises(n2n.UsageError, match="is no name"):
            n2n.inspect(MODELS / "digits_cnn.onnx", node=wrong)

    @pytest.mark.parametrize("wrong", [0, -1, 1.5, "x", None])
    def test_seeds(self, wrong: Any) -> None:
        with pytest.raises(n2n.UsageError, match="seeds is"):
            n2n.verify(MODELS / "digits_cnn.onnx", MODELS / "digits_cnn.onnx", seeds=wrong)

    @pytest.mark.parametrize("part", ["steps", "tensors", "axes", "uses", "flags", "nodes"])
    def test_a_mapping_that_lacks_something(self, part: str) -> None:
        made = n2n.plan(MODELS / "digits_cnn.onnx", [{"node": "conv1", "width": 20}]).described()
        said = json.loads(json.dumps(made))
        for holder in (said, said["steps"][0], said["steps"][0]["tensors"][0]):
            holder.pop(part, None)
        with pytest.raises(n2n.UsageError, match="--save-mapping writes one"):
            steps_of(load(said))

    def test_arguments_of_the_api_are_value_errors(self) -> None:
        for wrong in ({"node": "conv1", "ratio": 0.5}, {"node": "zzz", "ratio": 2}, {}):
            with pytest.raises(n2n.UsageError) as caught:
                n2n.widen(MODELS / "digits_cnn.onnx", **wrong)
            assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "error",
    [
        UsageError("a", "b"),
        AmbiguousError("a", "b", ["c"]),
        ModelError("a"),
        TooLargeError("a", "b"),
        RefusalError(Refusal(Reason.ACROSS, "node", ("t", 1), "detail", "do this"), "'x'"),
        NotEquivalentError("a", Verdict(Claim.CANNOT_TELL, None)),
    ],
)
def test_errors_cross_processes(error: Net2NetError) -> None:
    error.prefix("here")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert to_json(explain(again), again) == to_json(explain(error), error)
