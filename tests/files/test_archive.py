"""Arrays by name in .npz files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnx_net2net.errors import UsageError
from onnx_net2net.files.archive import archive


def test_numbers_and_strings(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones(3), words=np.array(["a", "bc"]))
    found = archive(str(tmp_path / "a.npz"))
    assert found["x"].tolist() == [1, 1, 1]
    assert found["words"].tolist() == ["a", "bc"]


def test_strings_as_objects_say_how_to_save_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones(3), words=np.array(["a", "bc"], object))
    with pytest.raises(UsageError, match="'words' as Python objects") as error:
        archive(str(tmp_path / "a.npz"))
    assert "dtype=str" in error.value.hint


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut off", b"words"])
def test_something_else(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(UsageError, match="cannot be read"):
        archive(str(tmp_path / "a.npz"))


def test_one_array_is_no_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(UsageError, match="cannot be read"):
        archive(str(tmp_path / "a.npy"))
