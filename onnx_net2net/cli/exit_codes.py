"""From exceptions to messages and exit codes: the contract of the command line."""

from __future__ import annotations

import errno
import io
import json
import opcode
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click

DONE, NOT_EQUIVALENT, USAGE, BAD_INPUT, REFUSED, INCONCLUSIVE, ENVIRONMENT = range(7)
INTERNAL, INTERRUPTED = 70, 130

# What the user named is not there, is there already, or cannot be a file's name.
_NAMING = {errno.EEXIST, errno.EISDIR, errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}
# Modules that are never handed a user's words: a ValueError of theirs is our mistake.
_INNER = (
    "onnx_net2net.files.patch",
    "onnx_net2net.coupling.closure",
    "onnx_net2net.operators",
)


def run(cli: click.Command, arguments: Sequence[str], name: str) -> int:
    """Run the command line; the exit code of the contract, never an exception.

    click's own `main` is not used: it answers a broken pipe with exit code 1.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        with cli.make_context(name, list(arguments)) as context:
            code = cli.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:
        kind, code, message = explain(error)
        if message:
            _tell(failure(kind, error, message), "--json" in arguments)
        if code == INTERNAL and "--debug" in arguments:
            traceback.print_exception(error)
        _silence_stdout_if_broken()
    return code or DONE


def explain(error: BaseException) -> tuple[str, int, str]:
    """(kind, exit code, message) of whatever a command raised.

    >>> explain(FileExistsError("'a.onnx' exists"))[1]
    2
    """
    try:
        kind, code, message = _explained(error)
        return kind, code, str(message)
    except Exception:  # an exception that cannot even say what it is
        return "internal error", INTERNAL, _report(type(error).__name__)


def _explained(error: BaseException) -> tuple[str, int, str]:
    if isinstance(error, click.exceptions.Exit) and not error.exit_code:
        return "done", DONE, ""
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return "interrupted", INTERRUPTED, "interrupted; nothing was written"
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        more = f"\n  {context.command_path} --help says more" if context else ""
        return "usage", USAGE, f"{error.format_message()}{more}"
    from onnx_net2net.errors import ModelError, NotEquivalentError, RefusalError

    if isinstance(error, RefusalError):
        return "refused", REFUSED, str(error)
    if isinstance(error, NotEquivalentError):
        if error.verdict.equivalent is False:
            return "not equivalent", NOT_EQUIVALENT, str(error)
        return "inconclusive", INCONCLUSIVE, str(error)
    if isinstance(error, ModelError):
        return "bad input", BAD_INPUT, str(error)
    if isinstance(error, OSError):
        return _explain_os(error)
    if isinstance(error, MemoryError):
        return "environment", ENVIRONMENT, str(error) or "too little memory"
    if isinstance(error, ImportError) and not (error.name or "").startswith("onnx_net2net"):
        return "environment", ENVIRONMENT, f"{error}; install onnx-net2net again"
    if isinstance(error, ValueError) and _deliberate(error):
        return "usage", USAGE, str(error)
    first = (str(error).strip().splitlines() or [""])[0]
    name = type(error).__name__
    return "internal error", INTERNAL, _report(f"{name}: {first}" if first else name)


def _report(what: str) -> str:
    return f"internal error: {what}\n  please report it with the command and what --debug prints"


def _explain_os(error: OSError) -> tuple[str, int, str]:
    message = str(error)
    if error.strerror:
        message = f"'{error.filename}': {error.strerror}" if error.filename else error.strerror
    if isinstance(error, BrokenPipeError):
        return "environment", ENVIRONMENT, ""  # whoever read our output has seen enough
    if error.errno in _NAMING or isinstance(error, (FileExistsError, FileNotFoundError)):
        return "usage", USAGE, message
    return "environment", ENVIRONMENT, message or type(error).__name__


def _deliberate(error: ValueError) -> bool:
    """Whether a `raise` of ours raised it, rather than something that we called."""
    tb = error.__traceback__
    if tb is None:
        return True
    while tb.tb_next is not None:
        tb = tb.tb_next
    module = str(tb.tb_frame.f_globals.get("__name__", ""))
    if not f"{module}.".startswith("onnx_net2net.") or module.startswith(_INNER):
        return False
    return tb.tb_frame.f_code.co_code[tb.tb_lasti] == opcode.opmap["RAISE_VARARGS"]


def failure(kind: str, error: BaseException, message: str) -> dict[str, Any]:
    """The JSON object of a failed command.

    Our messages say what is wrong and, after the last semicolon or on a second line, what to
    do about it.
    """
    from onnx_net2net.errors import AmbiguousError, NotEquivalentError, RefusalError

    first, *more = message.splitlines() or [""]
    reason, _, hint = first.rpartition("; ")
    if not reason:
        reason, hint = first, " ".join(line.strip() for line in more)
    found: dict[str, Any] = {
        "kind": kind,
        "message": message,
        "node": None,
        "axis": None,
        "reason": reason,
        "hint": hint or None,
    }
    if isinstance(error, RefusalError):
        found["node"] = error.node or None
        found["axis"] = list(error.axis) if error.axis else None
        found["reason"], found["hint"] = error.reason, error.hint or None
    elif isinstance(error, AmbiguousError):
        found["candidates"] = list(error.candidates)
    elif isinstance(error, NotEquivalentError):
        found["verdict"] = error.verdict.to_json()
    return {"schema": "onnx-net2net/error/1", "error": found}


def _tell(found: dict[str, Any], as_json: bool) -> None:
    """The message to stderr, the object to stdout; a stream that is gone is no new failure."""
    from onnx_net2net.report.terminal import fitted

    with suppress(OSError):
        click.echo(fitted(f"error: {found['error']['message']}", sys.stderr), err=True)
    with suppress(OSError):
        if as_json:
            click.echo(json.dumps(found))


def _silence_stdout_if_broken() -> None:
    """Keep Python from failing again, with a code of its own, when it flushes at the end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
