"""Recipes: what selectors find, what budgets reach, and that students compute their teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnx_net2net as n2n
from onnx_net2net.errors import AmbiguousError, RefusalError
from onnx_net2net.files.reader import read
from onnx_net2net.growth.selectors import layers, places, spread
from onnx_net2net.growth.widen.budget import expecting, parameter_budget
from onnx_net2net.growth.widen.verb import Widen
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.plans.recipe import load
from support.command_line import Workplace, call, work
from support.same_function import MODELS, NAMES, teacher

__all__ = ["work"]  # a fixture

DIGITS = str(MODELS / "digits_cnn.onnx")
# whole multiples only, or weights of two layers that part
TOO_SMALL = {"mlp_tied_transpose", "siamese"}


def selected(name: str, **step: Any) -> list[str]:
    """The layers that a step finds."""
    recipe = load([{"ratio": 2, **step}])
    return [
        n.name
        for n in layers(Analysis(read(str(MODELS / f"{name}.onnx"))), recipe.steps[0].typed({}))
    ]


class TestSelectors:
    def test_operator(self) -> None:
        assert len(selected("digits_cnn", every="Conv")) == 5
        assert selected("digits_cnn", every="Gemm") == ["/fc/Gemm"]
        assert len(selected("digits_cnn", every=["Conv", "Gemm"])) == 6

    def test_patterns_of_layers_and_of_parameters(self) -> None:
        assert selected("digits_cnn", every="layer1*") == [
            "/layer1/0/conv1/Conv", "/layer1/0/conv2/Conv"
        ]  # fmt: skip
        assert selected("digits_cnn", every="layer1.*.conv1.weight") == ["/layer1/0/conv1/Conv"]

    def test_kinds(self) -> None:
        for model, kind in (("conv_depthwise", "depthwise"), ("conv_grouped", "grouped")):
            found = selected(model, every=kind)
            nodes = {n.name: n for n in onnx.load(MODELS / f"{model}.onnx").graph.node}
            groups = [a.i for f in found for a in nodes[f].attribute if a.name == "group"]
            assert groups
            assert all(g > 1 for g in groups)
        with pytest.raises(AmbiguousError):
            selected("digits_cnn", every="depthwise")
        assert selected("residual_stage", every="pointwise") == ["/layer2/0/downsample/0/Conv"]

    def test_stages(self) -> None:
        assert len(selected("residual_stage", stage="layer2")) == 5
        assert len(selected("residual_stage", stage="layer2.1")) == 2
        with pytest.raises(AmbiguousError, match="layer2"):
            selected("residual_stage", stage="layer22")

    def test_names_and_everything(self) -> None:
        assert selected("digits_cnn", node=["conv3", "conv1"]) == ["/conv1/Conv", "/conv3/Conv"]
        assert len(selected("digits_cnn", everywhere=True)) == 6

    def test_places(self) -> None:
        analysis = Analysis(read(DIGITS))

        def found(**step: Any) -> list[dict[str, str]]:
            return places(analysis, load([{"verb": "deepen", **step}]).steps[0].typed({}))

        assert found(after=["conv1", "conv2"]) == [{"after": "conv1"}, {"after": "conv2"}]
        assert len(found(every="Relu")) == 5
        assert found(stage="layer1")[0] == {"after": "/layer1/0/conv1/Conv"}

    @pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 100])
    def test_any_first_few_are_spread(self, count: int) -> None:
        order = list(spread(count))
        assert sorted(order) == list(range(count))
        for few in range(1, count):
            chosen = np.sort([-1, *order[:few], count])
            assert np.diff(chosen).max() <= 4 * count / few


class TestGrowing:
    @pytest.mark.parametrize("name", NAMES)
    def test_wider_and_deeper_is_the_same_function(self, name: str) -> None:
        steps = [{"everywhere": True, "ratio": 1.3}, {"verb": "deepen", "everywhere": True}]
        try:
            made = n2n.plan(str(MODELS / f"{name}.onnx"), steps)
        except RefusalError:
            assert not n2n.inspect(str(MODELS / f"{name}.onnx")).spaces
            return
        student = made.apply(verify="off")
        room = 1e-11 if name == "mlp_float64" else 4e-6
        assert teacher(name).deviation(student) <= room
        assert made.parameters[1] > made.parameters[0]

    def test_a_pattern_is_its_layers_one_by_one(self) -> None:
        """Disjoint widths that grow together get the arrays that they get alone."""
        many = n2n.apply(DIGITS, [{"node": ["conv1", "conv3"], "ratio": 1.5}], verify="off")
        first = n2n.apply(
            DIGITS, [{"node": n, "ratio": 1.5, "seed": 0} for n in ("/conv1/Conv", "/conv3/Conv")],
            verify="off",
        )  # fmt: skip
        assert shapes(many) == shapes(first)
        one, two = (numpy_helper.to_array(m.graph.initializer[0]) for m in (many, first))
        np.testing.assert_array_equal(one, two)

    def test_coupled_layers_grow_once(self) -> None:
        (taken,) = n2n.plan(DIGITS, [{"every": "Conv", "ratio": 1.5}]).taken
        assert {n: b / a for n, a, b in taken.results[0].together} == {
            "/conv1/Conv": 1.5, "/conv2/Conv": 1.5, "/layer1/0/conv1/Conv": 1.5, "/conv3/Conv": 1.5
        }  # fmt: skip
        assert len(taken.matched) == 5

    def test_what_cannot_grow_is_refused_or_left_out(self) -> None:
        with pytest.raises(RefusalError, match=r"cannot grow '/fc/Gemm': logits: graph output"):
            n2n.plan(DIGITS, [{"every": "*", "ratio": 1.5}])
        (taken,) = n2n.plan(DIGITS, [{"every": "*", "ratio": 1.5, "where_possible": True}]).taken
        assert list(taken.left_out) == ["/fc/Gemm"]
        assert "graph output" in taken.left_out["/fc/Gemm"]

    def test_what_is_wide_enough_is_left_out(self) -> None:
        step = {"every": "Conv", "width": 32, "where_possible": True}
        (taken,) = n2n.plan(DIGITS, [step]).taken
        assert "/conv3/Conv" in taken.left_out
        assert {b for _, _, b in taken.results[0].together} == {32}
        with pytest.raises(ValueError, match="has width 32 today"):
            n2n.plan(DIGITS, [{**step, "where_possible": False}])

    @pytest.mark.parametrize("ratio", [1.2, 1.414, 2.0, 3.0])
    def test_deeper_by_a_ratio(self, ratio: float) -> None:
        step = {"verb": "deepen", "every": "Relu", "ratio": ratio, "kind": "identity"}
        made = n2n.plan(DIGITS, [step])
        assert len(made.steps) == max(round(5 * (ratio - 1)), 1)
        assert made.taken[0].note == f"6 -> {6 + len(made.steps)} layers"
        assert made.check()

    def test_seeds(self) -> None:
        def bytes_of(**recipe: Any) -> bytes:
            return onnx.ModelProto.SerializeToString(n2n.apply(DIGITS, recipe, verify="off").graph)

        steps = [{"every": "Conv", "ratio": 1.5}]
        assert bytes_of(steps=steps) == bytes_of(steps=steps, seed=0)
        assert bytes_of(steps=steps) != bytes_of(steps=steps, seed=1)
        own = [{**steps[0], "seed": 1}]
        assert bytes_of(steps=own) == bytes_of(steps=own, seed=5) == bytes_of(steps=steps, seed=1)
        assert n2n.plan(DIGITS, {"seed": 3, "steps": steps}, seed=4).steps[0].scheme.seed == 4

    def test_split_of_the_recipe_and_of_the_step(self) -> None:
        step = {"node": "conv1", "ratio": 1.5}
        steps = [step, {**step, "node": "conv3", "split": "zero-sum"}]
        made = n2n.plan(DIGITS, {"split": "even", "steps": steps})
        assert [s.scheme.split for s in made.steps] == ["even", "zero-sum"]


class TestBudget:
    @pytest.mark.parametrize("name", NAMES)
    def test_is_met_from_below(self, name: str) -> None:
        path = str(MODELS / f"{name}.onnx")
        before = n2n.plan(path, []).parameters[0]
        step = {"everywhere": True, "parameters": "2.0x"}
        if name in TOO_SMALL:
            with pytest.raises(ValueError, match="the smallest growth gives"):
                n2n.plan(path, [step])
            return
        made = n2n.plan(path, [step])
        assert before < made.parameters[1] <= 2 * before
        ratio = float(made.taken[0].note.split()[1].rstrip(":"))
        finer = n2n.plan(path, [{"everywhere": True, "ratio": ratio * 1.2}]).parameters[1]
        assert finer >= made.parameters[1]

    @pytest.mark.parametrize("name", ["packed_qkv", "transformer_block"])
    def test_layers_with_several_widths(self, name: str) -> None:
        """Of these the default grows; where there is none, all but the number of heads."""
        made = n2n.plan(str(MODELS / f"{name}.onnx"), [{"everywhere": True, "parameters": "3x"}])
        assert made.check()
        assert not any("heads" in s.name for s in made.steps)

    def test_is_close_and_of_the_teacher(self) -> None:
        steps = [{"node": "conv1", "width": 24}, {"every": "Conv", "parameters": "3x"}]
        made = n2n.plan(DIGITS, steps)
        assert 0.95 * 3 * 21690 < made.parameters[1] <= 3 * 21690
        assert "of at most 65,070 parameters" in made.taken[1].note

    @pytest.mark.parametrize(
        "name", ["digits_cnn", "residual_stage", "conv_grouped", "flatten_gemm"]
    )
    def test_is_expected_right_without_growing(self, name: str) -> None:
        path = str(MODELS / f"{name}.onnx")
        analysis = Analysis(read(path))
        expected = expecting(
            analysis, {n.name for n in analysis.layers()}, Widen(everywhere=True, ratio=2)
        )
        for ratio in (1.1, 1.5, 2.5):
            made = n2n.plan(path, [{"everywhere": True, "ratio": ratio}])
            assert made.parameters[1] == expected(ratio)

    def test_holds_where_shared_weights_part(self) -> None:
        """Growing them costs more than the lengths of the axes tell."""
        path = str(MODELS / "siamese.onnx")
        made = n2n.plan(path, [{"everywhere": True, "parameters": 5000}])
        assert 4300 < made.parameters[1] <= 5000

    def test_as_a_number(self) -> None:
        assert (parameter_budget(5000, 1), parameter_budget("1.1x", 10)) == (5000, 11)
        made = n2n.plan(DIGITS, [{"stage": "layer1", "parameters": 40_000}])
        assert 38_000 < made.parameters[1] <= 40_000


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    return {t.name: tuple(t.dims) for t in model.graph.initializer}


def test_every_way_to_give_a_recipe(tmp_path: Path) -> None:
    text = "seed: 2\nsteps:\n  - {node: conv1, ratio: 1.5}\n"
    (tmp_path / "r.yaml").write_text(text)
    steps = [{"verb": "widen", "node": "conv1", "ratio": 1.5}]
    given = [tmp_path / "r.yaml", str(tmp_path / "r.yaml"), text, {"seed": 2, "steps": steps}]
    found = {n2n.apply(DIGITS, g, verify="off").SerializeToString() for g in given}
    found.add(n2n.apply(DIGITS, steps, seed=2, verify="off").SerializeToString())
    found.add(n2n.widen(DIGITS, node="conv1", ratio=1.5, seed=2, verify="off").SerializeToString())
    assert len(found) == 1


def test_files_are_looked_for_beside_the_recipe(work: Workplace) -> None:
    model = work.bring("digits_cnn")
    Path("sub").mkdir()
    Path("sub/map.json").write_text("[3, 3]")
    np.savez("sub/data.npz", images=np.load(MODELS / "digits_test.npz")["images"][:64])
    Path("sub/r.yaml").write_text(
        "steps:\n  - {node: conv1, width: 18, mapping: map.json}\n"
        "  - {verb: deepen, after: conv1, batchnorm: true, calibrate: data.npz}\n"
    )
    found = call("apply", model, "sub/r.yaml", "--json")
    assert found.code == 0, found.err
    assert found.json["steps"][0]["width"] == [16, 18]


def test_json_says_what_each_step_did(work: Workplace) -> None:
    model = work.bring("digits_cnn")
    Path("r.yaml").write_text("steps:\n  - {every: '*', ratio: 2, where_possible: true}\n")
    found = call("apply", model, "r.yaml", "--plan", "--json").json
    assert found["schema"] == "onnx-net2net/apply/1"
    (step,) = found["recipe"]
    assert step["asked"] == {"verb": "widen", "every": "*", "ratio": 2, "where_possible": True}
    assert step["where"] == "r.yaml:2"
    assert step["matched"][0] == "/conv1/Conv"
    assert list(step["left_out"]) == ["/fc/Gemm"]
    assert step["parameters"] == found["parameters"]
    assert work.files().keys() == {"digits_cnn.onnx", "r.yaml"}


def test_output_and_force(work: Workplace) -> None:
    model = work.bring("digits_cnn")
    Path("r.yaml").write_text("steps:\n  - {node: conv1, ratio: 1.5}\n")
    assert call("apply", model, "r.yaml", "--verify", "off").code == 0
    assert call("apply", model, "r.yaml", "--verify", "off").code == 2
    assert call("apply", model, "r.yaml", "--verify", "off", "--force", "--link-teacher").code == 0
    assert call("verify", model, "digits_cnn.grown.onnx").code == 0


class TestWhatIsNew:
    """`new_rows` and `new_parameters` against the arrays themselves."""

    def test_rows_that_are_not_new_are_the_teachers(self) -> None:
        steps = [
            {"node": "conv1", "ratio": 1.5}, {"node": "conv1", "ratio": 1.2},
            {"verb": "grow-kernel", "node": "conv1", "size": 5}, {"node": "conv2", "width": 30},
        ]  # fmt: skip
        made = n2n.plan(DIGITS, steps, split="one-hot")
        old, new = (
            {t.name: numpy_helper.to_array(t) for t in m.graph.initializer}
            for m in (onnx.load(DIGITS), made.apply(verify="off"))
        )
        assert made.new_parameters == ()
        for name, axes in made.new_rows.items():
            kept = new[name]
            for axis, positions in axes.items():
                kept = np.delete(kept, positions, axis)
            assert kept.shape == old[name].shape, name
            if name != "layer1.0.conv2.weight":
                np.testing.assert_array_equal(kept, old[name])
        grown = {n for n in old if old[n].shape != new[n].shape}
        assert grown == set(made.new_rows)
        assert made.new_rows["conv1.weight"][2] == [0, 4]

    def test_new_constants(self) -> None:
        steps = [{"verb": "deepen", "after": "conv1"}, {"node": "conv1_deeper", "ratio": 1.5}]
        made = n2n.plan(DIGITS, steps)
        assert made.new_parameters == ("conv1_deeper.weight", "conv1_deeper.bias")
        assert made.new_rows["conv1_deeper.weight"][0] == list(range(16, 24))
