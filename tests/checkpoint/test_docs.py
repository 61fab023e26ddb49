"""docs/checkpoints.md: its Python block runs, and prints what it says."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs PyTorch, the extra [torch]")
pytestmark = pytest.mark.torch
PAGE = Path(__file__).resolve().parents[2] / "docs" / "checkpoints.md"


def test_the_walk_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```(\w*)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    at = next(k for k, (language, _) in enumerate(blocks) if language == "python")
    monkeypatch.chdir(tmp_path)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch")
        warnings.filterwarnings("ignore", message=".*legacy TorchScript.*")
        exec(compile(blocks[at][1], str(PAGE), "exec"), {"__name__": "__main__"})
    assert out.getvalue() == blocks[at + 1][1]
    assert (tmp_path / "map.json").is_file()
