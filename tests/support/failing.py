"""Commands that must fail: with one exit code, a short message, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.command_line import MODELS, Outcome, Workplace, call

DIGITS = (MODELS / "digits_cnn.onnx").read_bytes()


def failing(work: Workplace, code: int, *arguments: str) -> Outcome:
    """Run a command that must fail with `code`, both as text and as JSON, and change nothing."""
    before = work.files()
    found = call(*arguments)
    assert found.code == code, found
    assert found.out == ""
    lines = found.err.splitlines()
    assert lines[0].startswith("error: ")
    assert 1 <= len(lines) <= 3
    assert "Traceback" not in found.err
    again = call(*arguments, "--json")
    assert (again.code, again.err) == (code, found.err)
    error = again.json["error"]
    assert again.json["schema"] == "onnx-net2net/error/1"
    assert {"kind", "node", "axis", "reason", "hint"} <= set(error)
    assert error["reason"]
    assert error["hint"] or error["kind"] == "interrupted", error
    assert work.files() == before
    return found


@pytest.fixture
def good(work: Workplace) -> str:
    Path("good.onnx").write_bytes(DIGITS)
    return "good.onnx"


WIDEN = ("widen", "good.onnx", "--node", "conv1")


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*arguments: object, **options: object) -> Any:
        raise error

    return fail
