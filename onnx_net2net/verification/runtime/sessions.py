"""A model in onnxruntime, in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from onnx_net2net.errors import UsageError
from onnx_net2net.files.external_data import linked
from onnx_net2net.files.source import Source
from onnx_net2net.typing import Array
from onnx_net2net.verification.runtime.process import Runtime
from onnx_net2net.verification.runtime.worker import PROVIDERS
from onnx_net2net.verification.sides import Side

_MUCH = 1 << 26


def check_provider(provider: str) -> None:
    """Raise UsageError for a provider that nobody has heard of."""
    if provider not in PROVIDERS:
        raise UsageError(f"no provider '{provider}'", f"choose from {', '.join(PROVIDERS)}")


class Session:
    """A loaded model; it is loaded again where the process died meanwhile.

    Args:
        runtime: where it runs.
        side: where the model comes from.
        provider: `cpu` or `cuda`.
        changed: makes the model's bytes if they are not the file's.

    Raises:
        RunError: onnxruntime does not take the model.
        ProviderError: another provider would run the model.
        DiedError: onnxruntime died of it.
    """

    def __init__(
        self,
        runtime: Runtime,
        side: Side,
        provider: str = "cpu",
        changed: Callable[[], bytes] | None = None,
    ) -> None:
        self._runtime, self._side, self._provider = runtime, side, provider
        self._changed = changed
        self._number = runtime.number()
        self.outputs = self._load()

    def _load(self) -> tuple[str, ...]:
        source = self._side.source
        model: str | bytes
        if self._changed is not None:
            model = self._changed()
        else:
            model = os.path.abspath(source.path) if source.path else _bytes(source)
        folder = os.path.abspath(source.directory) if source.directory is not None else None
        found = self._runtime.ask("load", self._number, model, folder, self._provider)
        self._generation = self._runtime.generation
        return tuple(found)

    def run(self, values: Mapping[str, Array]) -> list[Array]:
        """The outputs, in the model's order, sequences and maps taken apart.

        A student's own positions are filled, and left out of what it puts out.

        Raises:
            RunError: onnxruntime does not take the inputs.
            DiedError: onnxruntime died of them.
        """
        if self._generation != self._runtime.generation:
            self._load()
        embedding = self._side.embedding
        found = self._runtime.ask("run", self._number, embedding.feed(values))
        return flat([embedding.cut(n, v) for n, v in zip(self.outputs, found, strict=True)])

    def close(self) -> None:
        """Let go of the model."""
        if self._generation == self._runtime.generation:
            self._runtime.ask("drop", self._number)


def flat(outputs: Sequence[Any]) -> list[Array]:
    """Outputs as arrays; sequences and maps are taken apart."""
    found: list[Array] = []
    for value in outputs:
        if isinstance(value, (list, tuple)):
            found += flat(value)
        elif isinstance(value, Mapping):
            found.append(np.asarray(list(value.values())))
        else:
            found.append(np.asarray(value))
    return found


def _bytes(source: Source) -> bytes:
    """A model that is no file yet; what lies in the teacher's file stays there if it is much."""
    rope = source.rope
    files = rope.files() if rope.size > _MUCH else ()
    if files and not any(f.path.is_symlink() for f in files):
        rope = linked(rope, source.directory)
    return rope.read(0, rope.size)
