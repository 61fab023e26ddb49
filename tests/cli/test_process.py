"""The command in a process of its own: streams, imports, odd terminals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

import onnx_net2net
from support.command_line import MODELS, WIDEN, Workplace, call, digits, ok, work

__all__ = ["digits", "work"]  # fixtures


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
