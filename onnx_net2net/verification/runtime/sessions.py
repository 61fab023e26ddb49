"""onnxruntime at pinned options: no optimisation, one thread, and the provider that was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_net2net.errors import ResourceError, UsageError
from onnx_net2net.files.external_data import linked
from onnx_net2net.files.source import Source
from onnx_net2net.typing import Array
from onnx_net2net.verification.sides import Side

_PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    # TF32 drops 13 bits; a searched algorithm may differ from run to run
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}),
}
_MUCH = 1 << 26
_FOLDER = "session.model_external_initializers_file_folder_path"


class ProviderError(ResourceError, OSError):
    """The execution provider that was asked for cannot be used on this machine."""


class Session:
    """A loaded model.

    Args:
        side: where the model comes from.
        data: the model's bytes if they are not the file's.
        provider: `cpu` or `cuda`.

    Raises:
        ProviderError: another provider would run the model.
    """

    def __init__(self, side: Side, data: bytes | None = None, provider: str = "cpu") -> None:
        import onnxruntime as ort

        if provider not in _PROVIDERS:
            raise UsageError(f"no provider '{provider}'", f"choose from {', '.join(_PROVIDERS)}")
        name, options = _PROVIDERS[provider]
        if name not in ort.get_available_providers():
            raise ProviderError(
                f"this onnxruntime has no {name}", "install onnxruntime-gpu or use --provider cpu"
            )
        settings = ort.SessionOptions()
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        source = side.source
        if source.directory is not None:
            settings.add_session_config_entry(_FOLDER, str(source.directory))
        model: Any = data
        if model is None:
            model = str(source.path) if source.path else _bytes(source)
        providers: list[Any] = [(name, options)] if options else [name]
        self._session = ort.InferenceSession(model, settings, providers=providers)
        if self._session.get_providers()[0] != name:
            raise ProviderError(f"onnxruntime fell back from {name}", "its libraries do not load")
        self.outputs = tuple(o.name for o in self._session.get_outputs())
        self._embedding = side.embedding

    def run(self, values: Mapping[str, Array]) -> list[Any]:
        """The outputs, in the model's order; a student's own positions are filled and left out."""
        found = self._session.run(None, self._embedding.feed(values))
        return [self._embedding.cut(n, v) for n, v in zip(self.outputs, found, strict=True)]


def _bytes(source: Source) -> bytes:
    """A model that is no file yet; what lies in the teacher's file stays there if it is much."""
    rope = source.rope
    files = rope.files() if rope.size > _MUCH else ()
    if files and not any(f.path.is_symlink() for f in files):
        rope = linked(rope, source.directory)
    return rope.read(0, rope.size)
