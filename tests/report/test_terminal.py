"""Errors and warnings fit the terminal; in a pipe they stay on one line."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from onnx_net2net.report.terminal import fitted
from onnx_net2net.report.text import warn
from support.command_line import Workplace, call, work

__all__ = ["work"]  # a fixture

LONG = "error: 'layer1' fits 2 layers: /layer1/0/conv1/Conv, /layer1/0/conv2/Conv; " + "a/" * 50


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_wrapped_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = fitted(f"{LONG}\n  a hint", Terminal()).splitlines()
    assert all(len(line) <= 80 or line.strip() == "a/" * 50 for line in found)
    assert found[-1] == "  a hint"
    assert " ".join(line.strip() for line in found[:-1]) == LONG
    assert fitted(LONG, io.StringIO()) == LONG


def test_warnings_are_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    warn("word " * 40)
    assert max(map(len, stream.getvalue().splitlines())) <= 80


def test_errors_are_wrapped(monkeypatch: pytest.MonkeyPatch, work: Workplace) -> None:
    name = work.bring("digits_cnn")
    monkeypatch.setattr("onnx_net2net.report.terminal.fitted", lambda text, stream: "FITTED")
    assert call("widen", name, "--node", "layer1", "--width", "48").err == "FITTED\n"


def test_what_to_do_next(work: Workplace) -> None:
    name = work.bring("digits_cnn")
    Path("recipes").mkdir()
    found = call("apply", name, "recipes", "--plan")
    assert (found.code, found.err) == (
        2, "error: 'recipes' is a directory; give the path of a YAML file\n",
    )  # fmt: skip
    found = call("widen", name, "--space", "nope", "--width", "20", "--plan")
    assert (found.code, found.err) == (
        2, "error: no space is named 'nope'; `inspect` lists the spaces\n",
    )  # fmt: skip
