"""Arrays by name in an .npz file."""

from __future__ import annotations

from pickle import UnpicklingError
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


__all__ = ["archive"]
