"""From an ONNX file straight to a PyTorch module, through converters that others keep up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch

from onnx_net2net.errors import UsageError
from onnx_net2net.files.patch import apply
from onnx_net2net.files.reader import read
from onnx_net2net.typing import Array


def _onnx2pytorch(model: onnx.ModelProto) -> torch.nn.Module:
    from onnx2pytorch import ConvertModel

    return ConvertModel(model, experimental=True)  # batches of more than one


def _onnx2torch(model: onnx.ModelProto) -> torch.nn.Module:
    from onnx2torch import convert

    return convert(model)


CONVERTERS: dict[str, Callable[[onnx.ModelProto], torch.nn.Module]] = {
    "onnx2pytorch": _onnx2pytorch, "onnx2torch": _onnx2torch,
}  # fmt: skip


def from_onnx(
    model: Any, inputs: Mapping[str, Array], *, tolerance: float = 1e-4
) -> torch.nn.Module:
    """A trainable module with the model's weights, for those who lack the module's code.

    Each converter that is installed is tried; what it makes counts only if it computes what
    onnxruntime computes. BatchNormalization that the exporter folded stays folded.

    Args:
        model: a path, an `onnx.ModelProto` or a `gs.Graph`.
        inputs: input name -> array, to compare on.
        tolerance: largest difference, in terms of the largest number of each output.

    Raises:
        UsageError: no converter makes a module that computes the same; it says why.
    """
    proto = apply(read(model), []).to_proto()
    wanted = _outputs(proto, inputs)
    order = [i.name for i in proto.graph.input if i.name in inputs]
    why = []
    for name, convert in CONVERTERS.items():
        try:
            module = convert(proto).eval()
            with torch.no_grad():
                given = [torch.from_numpy(np.array(inputs[n])) for n in order]
                made = module(*given)
        except Exception as error:  # converters fail in every way there is
            first = (str(error).strip().splitlines() or [""])[0]
            why.append(f"{name}: {type(error).__name__}: {first[:200]}")
            continue
        got = [made] if isinstance(made, torch.Tensor) else list(made)
        away = max((_away(a, b) for a, b in zip(wanted, got, strict=False)), default=np.inf)
        if len(got) == len(wanted) and away <= tolerance:
            return module
        why.append(f"{name}: its outputs are {away:.2g} away from onnxruntime's")
    raise UsageError(
        "no converter makes this module",
        "write it by hand and load `export-weights` of the "
        "model, or pip install 'onnx-net2net[convert]':\n  " + "\n  ".join(why),
    )


def _outputs(proto: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    data = proto.SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return [np.asarray(o) for o in session.run(None, dict(inputs))]


def _away(wanted: Array, got: torch.Tensor) -> float:
    array = got.detach().numpy()
    if array.shape != wanted.shape:
        return float("inf")
    difference = np.abs(array.astype("f8") - wanted).max(initial=0)
    return float(difference / max(np.abs(wanted).max(initial=0), 1e-9))
