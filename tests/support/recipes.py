"""The recipes of ARCHITECTURE.md, followed as they stand there: nothing is written twice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "ARCHITECTURE.md"


def followed(heading: str) -> dict[str, Any]:
    """Run the Python block under a heading; what it defines, by name."""
    (section,) = re.findall(rf"^## {heading}$(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
    (block,) = re.findall(r"^```python\n(.*?)^```", section, re.M | re.S)
    found: dict[str, Any] = {"__name__": heading}
    exec(compile(block, f"ARCHITECTURE.md: {heading}", "exec", dont_inherit=True), found)
    return found
