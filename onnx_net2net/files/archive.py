"""Arrays by name in an .npz file."""

from __future__ import annotations

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


__all__ = ["archive"]
