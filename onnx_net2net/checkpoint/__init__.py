"""From a mapping to a grown checkpoint: arrays by parameter name, no framework needed.

Uses `growth` and below, not `plans`: all it knows of a plan stands in the mapping.
"""

from __future__ import annotations

from onnx_net2net.checkpoint.growing import Grown, grow
from onnx_net2net.checkpoint.links import UnmatchedError

__all__ = ["Grown", "UnmatchedError", "grow"]
