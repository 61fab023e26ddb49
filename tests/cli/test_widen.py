"""`widen` as people and scripts use it: output, exit codes, files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_net2net.cli.delivery import default_output
from support.command_line import WIDEN, Workplace, call, digits, ok, work

__all__ = ["digits", "work"]  # fixtures


def shapes(path: str) -> dict[str, tuple[int, ...]]:
    return {t.name: tuple(t.dims) for t in onnx.load(path).graph.initializer}


def weight(path: str, name: str) -> np.ndarray:
    (found,) = (t for t in onnx.load(path).graph.initializer if t.name == name)
    return numpy_helper.to_array(found)


class TestWiden:
    def test_verified_and_written_beside_the_model(self, work: Workplace, digits: str) -> None:
        before = work.files()
        found = ok(*WIDEN, "--width", "24")
        assert "\nproved: " in found.out
        assert found.out.endswith("wrote digits_cnn.widened.onnx\n")
        after = work.files()
        assert {n: b for n, b in after.items() if n in before} == before
        assert set(after) - set(before) == {"digits_cnn.widened.onnx"}
        assert shapes("digits_cnn.widened.onnx")["conv1.weight"] == (24, 1, 3, 3)

    def test_suffix_is_replaced_and_the_teacher_kept(self, work: Workplace, digits: str) -> None:
        ok(*WIDEN, "--width", "18", "--verify", "off")
        first = work.files()
        again = ("widen", "digits_cnn.widened.onnx", "--node", "conv1", "--width", "20")
        for force in ((), ("--force",)):
            found = call(*again, *force)
            assert found.code == 2
            assert "never written to; choose another with -o\n" in found.err
        assert work.files() == first
        ok(*again, "-o", "wider.onnx", "--verify", "off")
        assert shapes("wider.onnx")["conv1.weight"][0] == 20

    @pytest.mark.parametrize(
        ("model", "output"),
        [
            ("net.onnx", "net.widened.onnx"),
            ("net.widened.onnx", "net.widened.onnx"),
            ("net.deepened.onnx", "net.widened.onnx"),
            ("net.grown.onnx", "net.widened.onnx"),
            ("v1.2.onnx", "v1.2.widened.onnx"),
            ("net", "net.widened.onnx"),
            ("net.pb", "net.pb.widened.onnx"),
            ("widened.onnx", "widened.widened.onnx"),
        ],
    )
    def test_default_names(self, model: str, output: str) -> None:
        assert default_output(f"some/{model}", ".widened") == Path("some") / output

    def test_force_replaces(self, work: Workplace, digits: str) -> None:
        Path("out.onnx").write_text("mine")
        assert call(*WIDEN, "--width", "18", "-o", "out.onnx").code == 2
        assert Path("out.onnx").read_text() == "mine"
        ok(*WIDEN, "--width", "18", "-o", "out.onnx", "--force", "--verify", "off")
        assert shapes("out.onnx")["conv1.weight"][0] == 18

    def test_plan_writes_nothing_and_tells_what_will_be(self, work: Workplace, digits: str) -> None:
        before = work.files()
        planned = ok(*WIDEN, "--width", "20", "--plan", "--json").json
        assert work.files() == before
        done = ok(*WIDEN, "--width", "20", "--json", "--verify", "off").json
        assert planned == done | {"output": None}
        sizes = {n: tuple(t["after"]) for n, t in done["tensors"].items()}
        assert {n: s for n, s in shapes(done["output"]).items() if n in sizes} == sizes
        assert done["bytes"]["after"] == os.path.getsize(done["output"])

    def test_pairs_repeat(self, work: Workplace, digits: str) -> None:
        ok("widen", digits, "--node", "conv1", "--width", "17", "--node", "conv3", "--width", "33",
           "--verify", "off")  # fmt: skip
        found = shapes("digits_cnn.widened.onnx")
        assert (found["conv1.weight"][0], found["conv3.weight"][0]) == (17, 33)

    def test_one_ratio_for_all(self, work: Workplace, digits: str) -> None:
        ok("widen", digits, "--node", "conv1", "--node", "conv3", "--ratio", "1.5",
           "--verify", "off")  # fmt: skip
        found = shapes("digits_cnn.widened.onnx")
        assert (found["conv1.weight"][0], found["conv3.weight"][0]) == (24, 48)

    def test_spaces_by_the_names_that_inspect_gives(self, work: Workplace, digits: str) -> None:
        for space in call("inspect", digits, "--json").json["spaces"]:
            width = str(space["size"] + 1)
            done = ok("widen", digits, "--space", space["name"], "--width", width, "--plan",
                      "--json").json  # fmt: skip
            assert done["steps"][0]["width"] == [space["width"], space["width"] + 1]

    @pytest.mark.parametrize(
        ("multiple", "sizes", "taken"),
        [("8", ("--ratio", "1.1"), 24), ("5", ("--width", "17"), 20), ("1", ("--width", "17"), 17)],
    )
    def test_multiple_of(
        self, work: Workplace, digits: str, multiple: str, sizes: tuple[str, str], taken: int
    ) -> None:
        found = ok(*WIDEN, *sizes, "--multiple-of", multiple, "--plan")
        assert f"widen 'conv1': 16 -> {taken} " in found.out

    def test_seeds(self, work: Workplace, digits: str) -> None:
        for name, seed in (("a", "0"), ("b", "0"), ("c", "7")):
            ok(*WIDEN, "--width", "24", "--seed", seed, "-o", f"{name}.onnx", "--verify", "off")
        files = work.files()
        assert files["a.onnx"] == files["b.onnx"] != files["c.onnx"]

    def test_mapping_file(self, work: Workplace, digits: str) -> None:
        Path("map.json").write_text("[3, 3, 15]")
        ok(*WIDEN, "--width", "19", "--mapping", "map.json", "--verify", "off")
        wide = weight("digits_cnn.widened.onnx", "conv1.weight")
        np.testing.assert_array_equal(wide[16:], weight(digits, "conv1.weight")[[3, 3, 15]])
        Path("whole.json").write_text(f'{{"mapping": {[*range(16), 3, 3, 15]}}}')
        ok(*WIDEN, "--width", "19", "--mapping", "whole.json", "-o", "w.onnx", "--verify", "off")
        whole, new = (onnx.load(p) for p in ("w.onnx", "digits_cnn.widened.onnx"))
        assert whole.graph == new.graph

    def test_balanced_uses_every_unit_once_before_any_twice(
        self, work: Workplace, digits: str
    ) -> None:
        ok(*WIDEN, "--width", "32", "--mapping", "balanced", "--verify", "off")
        wide = weight("digits_cnn.widened.onnx", "conv1.weight")
        old = weight(digits, "conv1.weight")
        assert sorted(w.tobytes() for w in wide[16:]) == sorted(w.tobytes() for w in old)

    def test_paper_is_random_and_even(self, work: Workplace, digits: str) -> None:
        for how, out in ((("--paper",), "paper.onnx"), (("--split", "even"), "even.onnx")):
            found = call(*WIDEN, "--width", "24", *how, "-o", out, "--verify", "off")
            assert found.code == 0
            assert found.err.startswith("warning: copies that share evenly stay equal")
            assert found.err.count("\n") == 1
        ok(*WIDEN, "--width", "24", "-o", "zero.onnx", "--verify", "off")
        files = work.files()
        assert files["paper.onnx"] == files["even.onnx"] != files["zero.onnx"]

    @pytest.mark.parametrize(
        "other",
        [("--split", "zero-sum"), ("--mapping", "balanced"), ("--init", "twin")],
    )
    def test_paper_does_not_overrule_silently(
        self, work: Workplace, digits: str, other: tuple[str, str]
    ) -> None:
        found = call(*WIDEN, "--width", "24", "--paper", *other)
        assert found.code == 2
        assert f"--paper decides on {other[0]}" in found.err

    @pytest.mark.parametrize("layers", ["auto", "certificate", "full", "off"])
    def test_verify_option(self, work: Workplace, digits: str, layers: str) -> None:
        done = ok(*WIDEN, "--width", "18", "--verify", layers, "--json").json
        assert os.path.exists(done["output"])
        if layers == "off":
            assert done["verdict"] is None
        else:
            assert done["verdict"]["equivalent"] is True

    def test_unsorted_nodes_are_fine(self, work: Workplace) -> None:
        path = work.bring("unsorted_nodes")
        space = ok("inspect", path, "--json").json["spaces"][0]["name"]
        assert ok("widen", path, "--space", space, "--ratio", "1.5")

    def test_warnings_go_to_stderr(self, work: Workplace) -> None:
        path = work.bring("identity_bias")
        found = call("widen", path, "--node", "conv1", "--ratio", "1.5", "--plan")
        assert found.code == 0
        assert found.err.startswith("warning: ")
        assert "warning" not in found.out

    @pytest.mark.parametrize("equivalent", [False, None])
    def test_a_student_that_fails_is_not_written(
        self, work: Workplace, digits: str, monkeypatch: pytest.MonkeyPatch, equivalent: bool | None
    ) -> None:
        from onnx_net2net.verification import verify
        from onnx_net2net.verification.verify import Claim, Verdict

        claim = Claim.DIFFERENT if equivalent is False else Claim.CANNOT_TELL
        monkeypatch.setattr(verify, "verify", lambda *a, **k: Verdict(claim, equivalent))
        before = work.files()
        found = call(*WIDEN, "--width", "20", "--json")
        assert found.code == (1 if equivalent is False else 5)
        error = found.json["error"]
        assert error["kind"] == ("not equivalent" if equivalent is False else "inconclusive")
        assert error["verdict"]["equivalent"] is equivalent
        assert work.files() == before
