"""The bar of a long copy: for people at a terminal, and for large models only."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from onnx_net2net.report.progress import copying
from tools.benchmark import models as benchmark_models

LONG = 1 << 25


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, size: int) -> str | None:
    """What a copy of `size` bytes shows on stderr; None if nobody asks for its progress."""
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with copying("writing the student", size) as progress:
        if progress is None:
            return None
        progress(size // 2)
        progress(size - size // 2)
    return stream.getvalue()


def test_a_long_copy_at_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, Terminal(), LONG)
    assert text is not None
    assert "writing the student" in text
    assert "33.6/33.6 MB" in text


def test_short_copies_and_pipes_show_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, Terminal(), 1 << 20) is None
    assert shown(monkeypatch, io.StringIO(), LONG) is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_widening_a_large_file_at_a_terminal(tmp_path: Path) -> None:
    import pty

    teacher = benchmark_models.chain(tmp_path / "teacher.onnx", LONG)
    command = [sys.executable, "-m", "onnx_net2net", "widen", str(teacher), "--node", "conv0"]
    master, slave = pty.openpty()
    done = subprocess.Popen(
        [*command, "--width", "520", "--verify", "off", "--json"],
        stdout=subprocess.PIPE, stderr=slave, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(slave)
    seen = b""
    try:
        while part := os.read(master, 1 << 16):
            seen += part
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(master)
    out, _ = done.communicate()
    assert done.returncode == 0
    assert b"writing the student" in seen
    assert b"writing" not in out
    assert out.startswith(b"{")
