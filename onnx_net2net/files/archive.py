"""Arrays by name in an .npz file, and in JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from zipfile import BadZipFile

import numpy as np

from onnx_net2net.errors import UsageError
from onnx_net2net.typing import Array


def archive(path: str) -> dict[str, Array]:
    """Arrays by input name from an .npz file.

    Raises:
        UsageError: unreadable or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, AttributeError, EOFError, BadZipFile) as why:
        said = f"'{path}' cannot be read as data.npz: {why}"
        raise UsageError(said, "give arrays by input name, as numpy.savez writes them") from None


def encoded(array: Array) -> dict[str, Any]:
    """An array as JSON: shape, dtype and base64 of its bytes; `decoded` reads it.

    >>> decoded(encoded(np.arange(3)))
    array([0, 1, 2])
    """
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    return {"shape": list(array.shape), "dtype": array.dtype.name, "data": data}


def decoded(entry: Mapping[str, Any]) -> Array:
    """What `encoded` wrote."""
    data = np.frombuffer(base64.b64decode(entry["data"]), named(entry["dtype"]))
    return data.reshape(entry["shape"])


def named(dtype: str) -> Any:
    """A dtype by its name, bfloat16 and the like among them."""
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, dtype, dtype))
