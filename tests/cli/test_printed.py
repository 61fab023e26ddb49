"""What the commands print, as in tests/golden/, and that it fits the terminal.

After a change on purpose, `REFRESH_GOLDEN=1 pytest tests/cli/test_printed.py` writes the files
anew: read the diff before committing it.
"""

from __future__ import annotations

import json
import shlex

import onnx
import pytest

from support.command_line import GOLDEN, MODELS, Outcome, Workplace, call, compare, ok, work

__all__ = ["work"]  # a fixture
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
