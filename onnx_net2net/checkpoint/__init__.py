"""From a mapping to a grown checkpoint: arrays by parameter name, no framework needed.

Uses `growth` and below, not `plans`: all it knows of a plan stands in the mapping.
"""

from __future__ import annotations

from .growing import Grown, grow
from .links import UnmatchedError

__all__ = ["Grown", "UnmatchedError", "grow"]
