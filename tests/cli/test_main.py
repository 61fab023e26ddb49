"""The commands as people and scripts use them: output, exit codes, files.

What they print stands in tests/golden/; after a change on purpose,
`REFRESH_GOLDEN=1 pytest tests/test_cli.py` writes it anew: read the diff before committing it.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnx_net2net
from onnx_net2net.cli.main import default_output
from support.command_line import GOLDEN, MODELS, Outcome, Workplace, call, compare, work

__all__ = ["work"]  # a fixture

WIDEN = ("widen", "digits_cnn.onnx", "--node", "conv1")


@pytest.fixture
def digits(work: Workplace) -> str:
    return work.bring("digits_cnn")


def ok(*arguments: str) -> Outcome:
    """Run a command that must do its job without a word on stderr."""
    found = call(*arguments)
    assert (found.code, found.err) == (0, ""), found.err
    return found


def shapes(path: str) -> dict[str, tuple[int, ...]]:
    return {t.name: tuple(t.dims) for t in onnx.load(path).graph.initializer}


def weight(path: str, name: str) -> np.ndarray:
    (found,) = (t for t in onnx.load(path).graph.initializer if t.name == name)
    return numpy_helper.to_array(found)


PRINTED = {
    "help": "--help",
    "help_inspect": "inspect --help",
    "help_widen": "widen --help",
    "help_apply": "apply --help",
    "help_verify": "verify --help",
    "inspect_digits_cnn": "inspect digits_cnn.onnx",
    "inspect_node": "inspect digits_cnn.onnx --node conv3",
    "inspect_residual_stage": "inspect residual_stage.onnx",
    "inspect_transformer_block": "inspect transformer_block.onnx",
    "inspect_if_captured": "inspect if_captured.onnx",
    "inspect_odd_names": "inspect odd_names.onnx",
    "plan_residual_stage": "widen residual_stage.onnx --node stem --ratio 1.5 --plan",
    "plan_two_layers": "widen digits_cnn.onnx --node conv1 --node conv2 --ratio 1.1 --plan",
    "plan_uniform": "widen transformer_block.onnx --node embed --ratio 1.2 --plan",
    "plan_shared_constant": "widen identity_bias.onnx --node conv1 --ratio 1.5 --plan",
    "help_deepen": "deepen --help",
    "help_grow_kernel": "grow-kernel --help",
    "inspect_passing": "inspect residual_stage.onnx --node /Add",
    "inspect_blocked": "inspect digits_cnn.onnx --node /logits/Identity",
    "deepen": "deepen digits_cnn.onnx --after conv1 --verify off",
    "deepen_kinds": "deepen residual_stage.onnx --after stem --kind residual --inner 4 --plan",
    "deepen_every": "deepen mlp_gemm.onnx --every Relu --plan",
    "deepen_before": "deepen digits_cnn.onnx --before fc --kind linear --count 2 --plan",
    "deepen_refused": "deepen transformer_block.onnx --after embed --kind identity",
    "deepen_nowhere": "deepen digits_cnn.onnx --kind identity",
    "deepen_too_often": "deepen digits_cnn.onnx --after conv1 --count 100000000",
    "grow_kernel": "grow-kernel digits_cnn.onnx --node conv1 --size 5 --verify off",
    "grow_kernel_even": "grow-kernel digits_cnn.onnx --node conv1 --size 4 --plan",
    "grow_kernel_smaller": "grow-kernel digits_cnn.onnx --node conv1 --size 1",
    "grow_kernel_no_convolution": "grow-kernel digits_cnn.onnx --node fc --size 5",
    "plan_interface": "widen digits_cnn.onnx --node images --width 3 --allow-interface --plan",
    "write": "widen digits_cnn.onnx --node conv1 --width 24 --verify off",
    "ambiguous": "widen residual_stage.onnx --node conv2 --width 20",
    "unknown": "widen digits_cnn.onnx --node cnov1 --width 20",
    "refused": "widen digits_cnn.onnx --node fc --width 20",
    "plan_twin": "widen digits_cnn.onnx --node conv1 --ratio 1.2 --init twin --plan",
    "random_pad": "widen digits_cnn.onnx --node conv1 --width 24 --init random-pad",
    "noise": "widen digits_cnn.onnx --node conv1 --width 24 --noise 0.01",
    "odd_twins": "widen digits_cnn.onnx --node conv1 --width 21 --init twin",
    "fresh_refused": "widen transformer_block.onnx --node embed --ratio 2 --init fresh",
    "fresh_dead": "widen transformer_block.onnx --node q --ratio 2 --init fresh",
    "fresh_split": "widen digits_cnn.onnx --node conv1 --width 24 --init fresh --split even",
    "illegal": "widen channel_shuffle.onnx --node grouped1 --width 13",
}
PRINTED_JSON = {
    "inspect": "inspect digits_cnn.onnx --json",
    "widen": "widen digits_cnn.onnx --node conv1 --width 20 --verify off --json",
    "plan": "widen residual_stage.onnx --node stem --width 9 --plan --json",
    "refused": "widen digits_cnn.onnx --node fc --width 20 --json",
    "ambiguous": "widen residual_stage.onnx --node conv2 --width 20 --json",
    "noise": "widen digits_cnn.onnx --node conv1 --width 20 --noise 0.01 --verify auto --json",
    "usage": "widen digits_cnn.onnx --json",
    "deepen": "deepen digits_cnn.onnx --after conv1 --plan --json",
    "grow_kernel": "grow-kernel digits_cnn.onnx --node conv1 --size 5 --plan --json",
}


def run_line(work: Workplace, line: str) -> Outcome:
    arguments = shlex.split(line)
    for word in arguments:
        if word.endswith(".onnx"):
            work.bring(word.removesuffix(".onnx"))
    return call(*arguments)


@pytest.mark.parametrize("name", PRINTED)
def test_printed(work: Workplace, name: str) -> None:
    found = run_line(work, PRINTED[name])
    text = f"$ onnx-net2net {PRINTED[name]}\n{found.out}"
    text += f"--- stderr\n{found.err}" if found.err else ""
    text += f"--- exit {found.code}\n" if found.code else ""
    assert all(len(line) <= 80 for line in found.out.splitlines()), text
    compare(f"{name}.txt", text)


@pytest.mark.parametrize("name", PRINTED_JSON)
def test_printed_json(work: Workplace, name: str) -> None:
    found = run_line(work, PRINTED_JSON[name])
    assert found.out.count("\n") == 1
    assert found.json["schema"].startswith("onnx-net2net/")
    assert bool(found.code) == ("error" in found.json)
    assert bool(found.err) == bool(found.code or found.json.get("warnings"))
    compare(f"{name}.json", pretty(found))


def pretty(found: Outcome) -> str:
    return json.dumps(found.json, indent=1, sort_keys=True) + "\n"


def test_no_golden_file_is_left_over() -> None:
    wanted = {f"{n}.txt" for n in PRINTED} | {f"{n}.json" for n in PRINTED_JSON}
    assert {p.name for p in GOLDEN.iterdir()} == wanted


@pytest.mark.parametrize("columns", ["60", "80", "120"])
@pytest.mark.parametrize("model", ["residual_stage", "transformer_block", "odd_names"])
def test_tables_fit_the_terminal(
    work: Workplace, monkeypatch: pytest.MonkeyPatch, model: str, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    path = work.bring(model)
    printed = ok("inspect", path).out
    first = call("inspect", path, "--json").json["spaces"][0]["name"]
    printed += ok("widen", path, "--space", first, "--ratio", "1.1", "--plan").out
    tables = [line for line in printed.splitlines() if line.startswith("  ")]
    assert max(map(len, tables)) <= int(columns)


def test_long_names_stay_whole(work: Workplace) -> None:
    model = onnx.load(MODELS / "digits_cnn.onnx")
    name = "encoder/" * 7 + "conv1"
    model.graph.node[0].name = name
    onnx.save(model, "long.onnx")
    printed = ok("inspect", "long.onnx").out.splitlines()
    assert f"  {name}" in printed
    assert max(map(len, printed)) <= 80


def test_first_lines_fit_the_terminal(work: Workplace) -> None:
    model = onnx.load(MODELS / "digits_cnn.onnx")
    name = "encoder/" * 6 + "conv1"
    conv, norm, relu = model.graph.node[:3]
    conv.name = name
    conv.output[0] = norm.input[0] = f"{name}/output"
    onnx.save(model, "long.onnx")
    assert relu.op_type == "Relu"
    for line in (
        ("widen", "long.onnx", "--node", name, "--width", "20"),
        ("deepen", "long.onnx", "--after", f"{name}/output", "--kind", "linear"),
        ("grow-kernel", "long.onnx", "--node", name, "--size", "5"),
    ):
        printed = ok(*line, "--plan").out.splitlines()
        assert name in "".join(printed[:2])
        assert max(map(len, printed)) <= 80


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

        undecided = Verdict(Claim.CANNOT_TELL, None)
        monkeypatch.setattr(verify, "verify", lambda *a, **k: undecided)
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


def process(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run our package in a Python process of its own."""
    root = str(Path(onnx_net2net.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": root, "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, text=True, timeout=120, check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},  # type: ignore[call-overload]
    )  # fmt: skip


class TestProcess:
    def test_module(self, work: Workplace, digits: str) -> None:
        found = process("-m", "onnx_net2net", "inspect", digits)
        assert (found.returncode, found.stdout) == (0, ok("inspect", digits).out)
        found = process("-m", "onnx_net2net", *WIDEN, "--width", "16", "--json")
        assert (found.returncode, found.stdout) == (2, call(*WIDEN, "--width", "16", "--json").out)

    def test_version(self) -> None:
        found = process("-m", "onnx_net2net", "--version")
        assert found.stdout == f"onnx-net2net, version {onnx_net2net.__version__}\n"

    def test_help_needs_nothing_heavy(self) -> None:
        heavy = "{'numpy', 'onnx', 'onnxruntime', 'onnx_graphsurgeon', 'rich', 'google'}"
        code = (
            "import sys\nfrom onnx_net2net.cli.main import cli, NAME\n"
            "from onnx_net2net.cli.exit_codes import run\n"
            "assert run(cli, ['widen', '--help'], NAME) == 0\n"
            f"assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)\n"
        )
        found = process("-c", code)
        assert found.returncode == 0, found.stderr

    def test_no_command(self) -> None:
        found = process("-m", "onnx_net2net")
        assert (found.returncode, found.stdout) == (2, "")

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
    @pytest.mark.parametrize("arguments", ["--help", "inspect digits_cnn.onnx", "inspect --json"])
    def test_stdout_that_is_full(self, work: Workplace, digits: str, arguments: str) -> None:
        with open("/dev/full", "w") as full:
            found = process("-m", "onnx_net2net", *arguments.split(), stdout=full)
        assert found.returncode == (2 if arguments.endswith("--json") else 6)
        assert len(found.stderr.splitlines()) <= 2
        assert "Traceback" not in found.stderr

    def test_reader_that_has_gone(self, work: Workplace, digits: str) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as pipe:
            found = process("-m", "onnx_net2net", "inspect", digits, stdout=pipe)
        assert (found.returncode, found.stderr) == (6, "")

    def test_terminal_that_cannot_show_a_name(
        self, work: Workplace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = onnx.load(MODELS / "mlp_gemm.onnx")
        model.graph.node[0].name = "schicht_ä_层"
        onnx.save(model, "unicode.onnx")
        monkeypatch.setenv("PYTHONIOENCODING", "ascii")
        found = process("-m", "onnx_net2net", "inspect", "unicode.onnx")
        assert found.returncode == 0
        assert r"schicht_\xe4_\u5c42" in found.stdout
