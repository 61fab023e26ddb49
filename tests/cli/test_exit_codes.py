"""Every exception has an exit code, and 1 belongs to "not equivalent" alone."""

from __future__ import annotations

import builtins
import errno
import json
import os
import subprocess
from typing import Any

import click
import numpy as np
import onnx
import pytest

import onnx_net2net
from onnx_net2net import errors
from onnx_net2net.cli.exit_codes import explain
from onnx_net2net.errors import NotEquivalentError, Reason, Refusal, RefusalError
from onnx_net2net.verification.verify import Claim, Verdict
from support.command_line import MODELS, Workplace, call, work
from support.failing import WIDEN, failing, good, raising

__all__ = ["good", "work"]  # fixtures


class TestInternal:
    def test_one_line_and_how_to_report(
        self, work: Workplace, good: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from onnx_net2net.plans import plan

        monkeypatch.setattr(plan, "Analysis", raising(KeyError("what\nis this")))
        found = failing(work, 70, *WIDEN, "--width", "20")
        assert found.err.startswith("error: internal error: KeyError: ")
        assert "please report it" in found.err

    def test_debug_gives_the_traceback(
        self, work: Workplace, good: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from onnx_net2net.plans import plan

        monkeypatch.setattr(plan, "Analysis", raising(ZeroDivisionError("1/0")))
        found = call(*WIDEN, "--width", "20", "--debug")
        assert found.code == 70
        assert "Traceback (most recent call last)" in found.err
        assert "ZeroDivisionError: 1/0" in found.err

    def test_a_foreign_value_error_is_no_usage_error(self) -> None:
        for wrong in (lambda: int("x"), lambda: json.loads("x"), lambda: np.zeros(3).reshape(2)):
            with pytest.raises(ValueError) as caught:  # noqa: PT011
                wrong()
            assert explain(caught.value).code == 70

    def test_our_value_errors_are_usage_errors(self) -> None:
        with pytest.raises(ValueError, match="steps") as caught:
            onnx_net2net.plan(MODELS / "digits_cnn.onnx", "nowhere")
        assert explain(caught.value).code == 2

    def test_broken_installation(self) -> None:
        message = "No module named 'onnxruntime'"
        assert explain(ModuleNotFoundError(message, name="onnxruntime")).code == 6
        ours = ModuleNotFoundError("No module named 'x'", name="onnx_net2net.x")
        assert explain(ours).code == 70


def exceptions() -> list[BaseException]:
    """One of every exception there is: Python's, click's, ours, numpy's, onnx's, onnxruntime's."""
    import google.protobuf.message as protobuf
    import onnxruntime.capi.onnxruntime_pybind11_state as runtime

    kinds: set[type[BaseException]] = set()
    modules = (builtins, click.exceptions, click, errors, protobuf, runtime, onnx.checker,
               onnx.shape_inference, np.exceptions, json.decoder, subprocess)  # fmt: skip
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseException):
                kinds.add(value)
    made: list[BaseException] = []
    attempts: list[tuple[Any, ...]] = [
        (), ("x",), (1,), ("x", 1), ("x", "y"), ("x", "y", "z"), ("x", [OSError()]), ("x", "y", 0),
        (errno.EPERM, "x", "y"), ("ascii", b"x", 0, 1, "why"), ("ascii", "x", 0, 1, "why"),
        (cli_context(),),
    ]  # fmt: skip
    for kind in sorted(kinds, key=lambda k: (k.__module__, k.__name__)):
        for arguments in attempts:
            try:
                error = kind(*arguments)
            except Exception:
                continue
            made.append(error)
    return made


def cli_context() -> click.Context:
    from onnx_net2net.cli.main import cli

    return click.Context(cli, info_name="onnx-net2net")


class TestExitCodes:
    CODES = (0, 2, 3, 4, 5, 6, 70, 130)

    def test_nothing_but_a_verdict_exits_1(self) -> None:
        found = exceptions()
        assert len({type(e) for e in found}) > 90
        for error in found:
            if isinstance(error, NotEquivalentError):
                continue
            said = explain(error)
            assert said.code in self.CODES, error
            assert said.kind != "not equivalent"
            assert (said.code == 0) <= (said.message == ""), error

    def test_not_equivalent_exits_1(self) -> None:
        assert explain(NotEquivalentError("no", Verdict(Claim.DIFFERENT, False))).code == 1
        assert explain(NotEquivalentError("?", Verdict(Claim.CANNOT_TELL, None))).code == 5

    def test_every_system_error(self) -> None:
        for code, name in errno.errorcode.items():
            found = explain(OSError(code, os.strerror(code), "file"))
            assert found.code in (2, 6), name

    @pytest.mark.parametrize("code", [1, 2, 3, "text", 255])
    def test_a_library_that_exits_is_an_internal_error(self, code: Any) -> None:
        assert explain(SystemExit(code)).code == 70
        if isinstance(code, int):
            assert explain(click.exceptions.Exit(code)).code == 70

    @pytest.mark.parametrize("reason", Reason)
    def test_refusals(self, reason: Reason) -> None:
        refusal = Refusal(reason, "node", ("t", 1), "detail", "do this")
        assert explain(RefusalError(refusal, "'x'")).code == 4

    def test_whatever_a_command_raises(
        self, work: Workplace, good: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from onnx_net2net.plans import inspection

        for error in exceptions():
            if isinstance(error, NotEquivalentError):
                continue
            monkeypatch.setattr(inspection, "inspect", raising(error))
            assert call("inspect", good).code in self.CODES, error
