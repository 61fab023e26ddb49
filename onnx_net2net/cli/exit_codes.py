"""From exceptions to messages and exit codes: the contract of the command line."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click

from onnx_net2net.errors import (
    AmbiguousError,
    Net2NetError,
    NotEquivalentError,
    ResourceError,
    TooLargeError,
    UsageError,
)

DONE, NOT_EQUIVALENT, USAGE, BAD_INPUT, REFUSED, INCONCLUSIVE, ENVIRONMENT = range(7)
INTERNAL, INTERRUPTED = 70, 130

# What the user named is not there, is there already, or cannot be a file's name.
_NAMING = {errno.EEXIST, errno.EISDIR, errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}
_CODES = {
    "done": DONE, "not equivalent": NOT_EQUIVALENT, "usage": USAGE, "bad input": BAD_INPUT,
    "refused": REFUSED, "inconclusive": INCONCLUSIVE, "environment": ENVIRONMENT,
    "internal error": INTERNAL, "interrupted": INTERRUPTED,
}  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """What a command failed of: its kind, what went wrong, what to do, the whole message."""

    kind: str
    reason: str = ""
    hint: str = ""
    message: str = ""

    @property
    def code(self) -> int:
        """The exit code of this kind."""
        return _CODES[self.kind]


def run(cli: click.Command, arguments: Sequence[str], name: str) -> int:
    """Run the command line; the exit code of the contract, never an exception.

    click's own `main` is not used: it answers a broken pipe with exit code 1.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    code: int | None = DONE
    try:
        with cli.make_context(name, list(arguments)) as context:
            code = cli.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:
        failure = explain(error)
        code = failure.code
        if failure.message:
            _tell(failure, to_json(failure, error) if "--json" in arguments else None)
        if code == INTERNAL and "--debug" in arguments:
            traceback.print_exception(error)
        _silence_stdout_if_broken()
    return code or DONE


def explain(error: BaseException) -> Failure:
    """What whatever a command raised means to a user: the type decides.

    >>> explain(FileExistsError("'a.onnx' exists")).code
    2
    """
    try:
        found = _foreign(error) or error
        if isinstance(found, Net2NetError):
            return Failure(found.kind, found.reason, found.hint, str(found))
        return _ended(error) or _internal(type(error).__name__, str(error))
    except Exception:  # an exception that cannot even say what it is
        return _internal(type(error).__name__)


def _foreign(error: BaseException) -> Net2NetError | None:
    """Errors of Python and the system that are not our mistake, as ours."""
    if isinstance(error, Net2NetError):
        return error
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        return on_path(error)
    if isinstance(error, MemoryError):
        return TooLargeError(
            str(error) or "too little memory", "free some, or take another machine"
        )
    if isinstance(error, ImportError) and not (error.name or "").startswith("onnx_net2net"):
        return ResourceError(str(error), "install onnx-net2net again")
    return None


def on_path(error: OSError, hint: str = "") -> Net2NetError:
    """What the system says of a file: the user named it wrongly, or the machine is in the way."""
    said = str(error) or type(error).__name__
    if error.strerror:
        said = f"'{error.filename}': {error.strerror}" if error.filename else error.strerror
    if error.errno in _NAMING or isinstance(error, (FileExistsError, FileNotFoundError)):
        return UsageError(said, hint or "give another path")
    return ResourceError(said, hint or "check the disk's room and the folder's permissions")


def _ended(error: BaseException) -> Failure | None:
    """What click raises, and ends that are no errors of a command."""
    if isinstance(error, BrokenPipeError):  # whoever read our output has seen enough
        return Failure("environment")
    if isinstance(error, click.exceptions.Exit) and not error.exit_code:
        return Failure("done")
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        said = "interrupted; nothing was written"
        return Failure("interrupted", said, "", said)
    if isinstance(error, click.ClickException):
        said, context = error.format_message(), getattr(error, "ctx", None)
        hint = f"{context.command_path} --help says more" if context else ""
        return Failure("usage", said, hint, f"{said}\n  {hint}" if hint else said)
    return None


def _internal(*said: str) -> Failure:
    lines = [part.strip().splitlines()[0] for part in ("internal error", *said) if part.strip()]
    reason, hint = ": ".join(lines), "please report it with the command and what --debug prints"
    return Failure("internal error", reason, hint, f"{reason}\n  {hint}")


def to_json(failure: Failure, error: BaseException) -> dict[str, Any]:
    """The JSON object of a failed command."""
    found: dict[str, Any] = {
        "kind": failure.kind,
        "message": failure.message,
        "node": None,
        "axis": None,
        "reason": failure.reason,
        "hint": failure.hint or None,
    }
    if isinstance(error, Net2NetError):
        found["node"] = error.node or None
        found["axis"] = list(error.axis) if error.axis else None
    if isinstance(error, AmbiguousError):
        found["candidates"] = list(error.candidates)
    if isinstance(error, NotEquivalentError):
        found["verdict"] = error.verdict.to_json()
    return {"schema": "onnx-net2net/error/1", "error": found}


def _tell(failure: Failure, found: dict[str, Any] | None) -> None:
    """The message to stderr, the object to stdout; a stream that is gone is no new failure."""
    from onnx_net2net.report.terminal import fitted

    with suppress(OSError):
        click.echo(fitted(f"error: {failure.message}", sys.stderr), err=True)
    with suppress(OSError):
        if found is not None:
            click.echo(json.dumps(found))


def _silence_stdout_if_broken() -> None:
    """Keep Python from failing again, with a code of its own, when it flushes at the end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
