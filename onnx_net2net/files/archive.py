"""Arrays by name in an .npz file, and in JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile

from onnx_net2net.errors import UsageError
from onnx_net2net.typing import Array

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def archive(path: str) -> dict[str, Array]:
    """Arrays by input name from an .npz file.

    Raises:
        UsageError: unreadable, something else, or arrays of Python objects, as numpy keeps
            strings unless told otherwise.
    """
    try:
        with open(path, "rb") as stream:
            data = np.load(stream, allow_pickle=False)
            if not isinstance(data, NpzFile):
                raise BadZipFile("it holds one array without a name")
            unread = [name for name in data.files if _holds_objects(data, name)]
            found = {name: data[name] for name in data.files if name not in unread}
    except (OSError, ValueError, AttributeError, EOFError, BadZipFile, UnpicklingError) as why:
        said = f"'{path}' cannot be read as data.npz: {why}"
        raise UsageError(said, "give arrays by input name, as numpy.savez writes them") from None
    if unread:
        raise UsageError(
            f"'{path}' holds '{unread[0]}' as Python objects, which are not read",
            "save strings as numpy.array([...], dtype=str), numbers as numbers",
        )
    return found


def _holds_objects(data: NpzFile, name: str) -> bool:
    assert data.zip is not None
    with data.zip.open(f"{name}.npy") as stream:
        header = _HEADERS.get(np.lib.format.read_magic(stream))
        return header is not None and bool(header(stream)[2].hasobject)


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
