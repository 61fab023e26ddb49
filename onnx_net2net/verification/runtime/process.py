"""The process that runs models, as seen from outside: started early, used again, replaced."""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from onnx_net2net.errors import ResourceError, TooLargeError

_PATIENCE = 300.0  # seconds for one answer
_DYING = 10.0  # seconds from the last sign of life to the end
# modules are found where this process finds them, wherever it was started
_START = """
import sys
sys.path[:] = sys.argv[1:]
from onnx_net2net.verification.runtime.worker import serve
serve()
"""


class ProviderError(ResourceError, OSError):
    """The execution provider that was asked for cannot be used on this machine."""


class RunError(Exception):
    """onnxruntime refuses a model or its inputs; the message is its own."""


class DiedError(Exception):
    """The process ended while it was asked; `crashed`: by its own doing, not for lack of memory
    or time."""

    def __init__(self, why: str, crashed: bool) -> None:
        self.crashed = crashed
        super().__init__(why)


class Process:
    """One worker process and what it is asked."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._late = False
        self._child = subprocess.Popen(
            [sys.executable, "-c", _START, *sys.path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    @property
    def usable(self) -> bool:
        """Whether it lives and is ours: a process that was forked off shares our pipes."""
        return self._owner == os.getpid() and self._child.poll() is None

    def ask(self, name: str, *arguments: Any) -> Any:
        """The answer to a request.

        Raises:
            RunError, ProviderError, ImportError, MemoryError: the answer is an error.
            DiedError: there is none.
        """
        timer = threading.Timer(_PATIENCE, self._give_up)
        timer.daemon = True
        timer.start()
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            pickle.dump((name, *arguments), self._child.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self._child.stdin.flush()
            kind, answer = pickle.load(self._child.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            raise self._died() from None
        finally:
            timer.cancel()
        if kind == "done":
            return answer
        raise _ERRORS[kind](answer)

    def _give_up(self) -> None:
        self._late = True
        self._child.kill()

    def _died(self) -> DiedError:
        try:
            code = self._child.wait(_DYING)
        except subprocess.TimeoutExpired:
            self._child.kill()
            code = self._child.wait()
        if self._late:
            return DiedError(f"gave no answer within {_PATIENCE:.0f} s", False)
        with suppress(ValueError):
            name = signal.Signals(-code).name
            return DiedError(f"died ({name})", name != "SIGKILL")
        return DiedError(f"ended (exit code {code})", True)

    def end(self) -> None:
        """End it; nothing is lost."""
        if self._owner == os.getpid():
            self._child.kill()
            self._child.communicate()


_ERRORS: dict[str, type[Exception]] = {
    "failed": RunError,
    "provider": ProviderError,
    "missing": ImportError,
    "memory": TooLargeError,
}
_idle: list[Process] = []


@contextmanager
def running() -> Iterator[Runtime]:
    """Processes to run models in; the last one stays for the next caller."""
    runtime = Runtime()
    try:
        yield runtime
        runtime.rest()
    finally:
        runtime.close()


class Runtime:
    """A process that is replaced when it dies; `generation` counts them."""

    def __init__(self) -> None:
        self.generation = 0
        self._numbers = 0
        self._process: Process | None = None
        self._start()

    def _start(self) -> Process:
        while _idle and self._process is None:
            kept = _idle.pop()
            self._process = kept if kept.usable else None
        if self._process is None:
            self._process = Process()
        return self._process

    def number(self) -> int:
        """A number for one more model."""
        self._numbers += 1
        return self._numbers

    def ask(self, name: str, *arguments: Any) -> Any:
        """See `Process.ask`; after a death the next request goes to a new process."""
        process = self._process or self._start()
        try:
            return process.ask(name, *arguments)
        except DiedError:
            self.close()
            self.generation += 1
            raise

    def rest(self) -> None:
        """Keep the process, without its models, for the next caller."""
        if self._process is not None:
            with suppress(DiedError):
                self.ask("drop")
                _idle.append(self._process)
                self._process = None

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.end()
            self._process = None


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()


__all__ = ["DiedError", "ProviderError", "RunError", "Runtime", "running"]
