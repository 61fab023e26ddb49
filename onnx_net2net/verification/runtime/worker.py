"""The process in which onnxruntime runs: where it dies, only this process dies with it.

Reads pickled requests from stdin and answers on stdout until stdin ends. Imports nothing of the
package, so that it starts while the other process is still reading the models.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    # TF32 drops 13 bits; a searched algorithm may differ from run to run
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}),
}
_FOLDER = "session.model_external_initializers_file_folder_path"
_SHORT = ("bad_alloc", "bad allocation", "Failed to allocate memory")


class _ProviderError(Exception):
    """The provider does not run here."""


class Sessions:
    """The models that are loaded, by number."""

    def __init__(self) -> None:
        self._loaded: dict[int, Any] = {}

    def load(self, number: int, model: str | bytes, folder: str | None, provider: str) -> Any:
        """Load a model at pinned options: no optimisation, one thread; the outputs' names."""
        import onnxruntime as ort

        name, options = PROVIDERS[provider]
        if name not in ort.get_available_providers():
            raise _ProviderError(
                f"this onnxruntime has no {name}; install onnxruntime-gpu or use --provider cpu"
            )
        if provider == "cpu":
            _bound_memory()
        settings = ort.SessionOptions()
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        if folder is not None:
            settings.add_session_config_entry(_FOLDER, folder)
        providers: list[Any] = [(name, options)] if options else [name]
        session = ort.InferenceSession(model, settings, providers=providers)
        if session.get_providers()[0] != name:
            raise _ProviderError(f"onnxruntime fell back from {name}; its libraries do not load")
        self._loaded[number] = session
        return tuple(o.name for o in session.get_outputs())

    def run(self, number: int, values: Mapping[str, Any]) -> Any:
        """The outputs, in the model's order."""
        return self._loaded[number].run(None, values)

    def drop(self, *numbers: int) -> None:
        """Forget some models; without numbers all."""
        for number in numbers or tuple(self._loaded):
            self._loaded.pop(number, None)


def free_memory() -> int | None:
    """Bytes that can be had; None where the system does not say."""
    try:
        with open("/proc/meminfo") as lines:
            return next(int(x.split()[1]) for x in lines if x.startswith("MemAvailable")) << 10
    except (OSError, StopIteration, ValueError):
        return None


def _leave_no_core() -> None:
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _bound_memory() -> None:
    """Ask for no more than there is: an error is better than a machine that swaps."""
    free = free_memory()
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if free is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (free + _used(), hard))


def _used() -> int:
    with open("/proc/self/statm") as numbers:
        return int(numbers.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")


def _kind(why: Exception) -> str:
    """What the caller has to tell apart."""
    if isinstance(why, _ProviderError):
        return "provider"
    if isinstance(why, ImportError):
        return "missing"
    # onnxruntime has no type of its own for this
    short = isinstance(why, MemoryError) or any(s in str(why) for s in _SHORT)
    return "memory" if short else "failed"


def serve() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller ends this process
    _leave_no_core()
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    sessions = Sessions()
    while True:
        try:
            name, *arguments = pickle.load(asked)
        except EOFError:
            return
        answer: tuple[str, Any]
        try:
            answer = "done", getattr(sessions, name)(*arguments)
        except Exception as why:  # onnxruntime's errors have no common base but Exception
            answer = _kind(why), str(why)
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    serve()
