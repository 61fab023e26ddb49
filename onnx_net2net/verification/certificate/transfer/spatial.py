"""Channels as blocks of positions, and back: reshapes with a transposition between."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_net2net.inference.size_rules import is_open
from onnx_net2net.verification.certificate.domain import Term, UnknownError, Value
from onnx_net2net.verification.certificate.open_axes import acted
from onnx_net2net.verification.certificate.transfer.base import At, rules
from onnx_net2net.verification.certificate.transfer.movement import reshaped, transposed


def _mode(at: At) -> str:
    mode = str(at.node.attr("mode", "DCR"))
    if mode not in ("DCR", "CRD"):
        raise UnknownError(f"the mode {mode}")
    return mode


def _whole_blocks(at: At) -> Value:
    """The data; under a name that holds the blocks, where their number is open."""
    x = at.value()
    if at.open is None or not is_open(at.open.shape()[2:]):
        return x
    return acted(x, at.name(), [2, 3], at.registry)


@rules("DepthToSpace")
def _depth_to_space(at: At) -> Sequence[Term]:
    x, b = _whole_blocks(at), int(at.node.attr("blocksize", 1))
    n, c, h, w = x.shape
    if _mode(at) == "CRD":
        apart, perm = (n, c // b**2, b, b, h, w), (0, 1, 4, 2, 5, 3)
    else:
        apart, perm = (n, b, b, c // b**2, h, w), (0, 3, 4, 1, 5, 2)
    x = transposed(reshaped(x, apart, at.registry), perm, at.registry)
    return [reshaped(x, (n, c // b**2, h * b, w * b), at.registry)]


@rules("SpaceToDepth")
def _space_to_depth(at: At) -> Sequence[Term]:
    x, b = _whole_blocks(at), int(at.node.attr("blocksize", 1))
    n, c, h, w = x.shape
    x = reshaped(x, (n, c, h // b, b, w // b, b), at.registry)
    perm = (0, 1, 3, 5, 2, 4) if _mode(at) == "CRD" else (0, 3, 5, 1, 2, 4)
    x = transposed(x, perm, at.registry)
    return [reshaped(x, (n, c * b * b, h // b, w // b), at.registry)]
