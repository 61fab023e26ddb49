"""Types that every wing uses."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

Shape = tuple["int | None", ...]
Array = npt.NDArray[Any]

__all__ = ["Array", "Shape"]
