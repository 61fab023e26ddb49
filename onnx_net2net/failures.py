"""From exceptions to messages and exit codes: the contract of the command line."""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any, NoReturn

import click

NOT_EQUIVALENT, USAGE, BAD_INPUT, REFUSED, INCONCLUSIVE, ENVIRONMENT = 1, 2, 3, 4, 5, 6
INTERNAL, INTERRUPTED = 70, 130


def run(cli: click.Group) -> NoReturn:
    """Run the command line and exit with the contract's code; never a traceback."""
    try:
        code = cli.main(standalone_mode=False)
    except BaseException as error:
        kind, code, message = explain(error)
        if message:
            _tell(kind, error, message)
        if code == INTERNAL and "--debug" in sys.argv:
            traceback.print_exception(error)
        sys.exit(code)
    sys.exit(code if isinstance(code, int) else 0)


def explain(error: BaseException) -> tuple[str, int, str]:
    """(kind, exit code, message) of whatever a command raised.

    >>> explain(FileExistsError("'a.onnx' exists"))[1]
    2
    """
    if isinstance(error, click.exceptions.Exit):
        return "exit", error.exit_code, ""
    if isinstance(error, SystemExit):
        return "exit", error.code if isinstance(error.code, int) else USAGE, ""
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return "interrupted", INTERRUPTED, "interrupted; nothing was written"
    if isinstance(error, click.ClickException):
        where = ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            where = f"\n  {error.ctx.command_path} --help says more"
        return "usage", USAGE, error.format_message() + where
    from onnx_net2net.errors import ModelError, NotEquivalentError, RefusalError

    if isinstance(error, RefusalError):
        return "refused", REFUSED, str(error)
    if isinstance(error, NotEquivalentError):
        decided = error.verdict.equivalent is False
        return ("not equivalent", NOT_EQUIVALENT, str(error)) if decided else (
            "inconclusive", INCONCLUSIVE, str(error)
        )  # fmt: skip
    if isinstance(error, ModelError):
        return "bad input", BAD_INPUT, str(error)
    if isinstance(error, (FileExistsError, IsADirectoryError, FileNotFoundError)):
        return "usage", USAGE, _os_text(error)
    if isinstance(error, (OSError, MemoryError)):
        return "environment", ENVIRONMENT, _os_text(error) or "too little memory"
    if isinstance(error, ValueError) and _ours(error):
        return "usage", USAGE, str(error)
    name = type(error).__name__
    return (
        "internal error",
        INTERNAL,
        f"internal error: {name}: {str(error).splitlines()[0] if str(error) else ''}\n"
        "  please report it with the command and --debug's traceback",
    )


def _ours(error: ValueError) -> bool:
    """Whether one of our modules raised it on purpose, rather than something underneath."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return tb is None or tb.tb_frame.f_globals.get("__name__", "").startswith("onnx_net2net")


def _os_text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"'{error.filename}': {error.strerror}" if error.filename else error.strerror
    return str(error)


def _tell(kind: str, error: BaseException, message: str) -> None:
    click.echo(f"error: {message}", err=True)
    if "--json" in sys.argv:
        click.echo(json.dumps(failure(kind, error, message)))


def failure(kind: str, error: BaseException, message: str) -> dict[str, Any]:
    """The JSON object of a failed command."""
    axis = getattr(error, "axis", None)
    found: dict[str, Any] = {
        "kind": kind,
        "message": message,
        "node": getattr(error, "node", None) or None,
        "axis": list(axis) if axis else None,
        "reason": getattr(error, "reason", None) or message.splitlines()[0],
        "hint": getattr(error, "hint", None) or None,
    }
    if hasattr(error, "candidates"):
        found["candidates"] = list(error.candidates)
    return {"schema": "onnx-net2net/error/1", "error": found}
