"""Running commands inside the test's own process, and comparing what they print with a file."""

from __future__ import annotations

import io
import json
import os
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from onnx_net2net.cli.exit_codes import run
from onnx_net2net.cli.main import NAME, cli

MODELS = Path(__file__).resolve().parents[2] / "models"
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
WIDEN = ("widen", "digits_cnn.onnx", "--node", "conv1")


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        return json.loads(self.out)


def call(*arguments: str) -> Outcome:
    """Run `onnx-net2net ARGUMENTS`."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(cli, arguments, NAME)
    return Outcome(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Workplace:
    """A folder with models, where the commands run."""

    folder: Path

    def bring(self, name: str) -> str:
        """Copy a model of ours into the folder; its file name."""
        shutil.copy(MODELS / f"{name}.onnx", self.folder)
        return f"{name}.onnx"

    def files(self) -> dict[str, bytes]:
        """Everything in the folder, temporary files included."""
        paths = (p for p in self.folder.rglob("*") if p.is_file())
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in paths}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """An empty folder as working directory, at 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return Workplace(tmp_path)


@pytest.fixture
def digits(work: Workplace) -> str:
    """The trained sample, in the folder."""
    return work.bring("digits_cnn")


def compare(name: str, got: str) -> None:
    """Compare with tests/golden/NAME, or write that file if REFRESH_GOLDEN is set."""
    path = GOLDEN / name
    if os.environ.get("REFRESH_GOLDEN"):
        path.write_text(got, encoding="utf-8")
    assert got == path.read_text(encoding="utf-8")


def ok(*arguments: str) -> Outcome:
    """Run a command that must do its job without a word on stderr."""
    found = call(*arguments)
    assert (found.code, found.err) == (0, ""), found.err
    return found
