"""The padding that goes with a larger kernel: explicit, automatic, or a Pad node in front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto

from onnx_net2net.errors import Reason, Refusal, RefusalError
from onnx_net2net.graph.editor import Editor
from onnx_net2net.graph.messages import drop_attribute, set_attribute
from onnx_net2net.graph.model import Node
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array


@dataclass(frozen=True)
class Window:
    """A convolution's window: sizes per spatial axis, the ring's rows before it."""

    old: tuple[int, ...]
    new: tuple[int, ...]
    before: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    @property
    def behind(self) -> tuple[int, ...]:
        """The ring's rows behind the old kernel."""
        return tuple(n - o - b for n, o, b in zip(self.new, self.old, self.before, strict=True))

    @property
    def ring(self) -> list[int]:
        """How much the padding grows: begins, then ends."""
        rows = (*self.before, *self.behind)
        return [r * d for r, d in zip(rows, self.dilations * 2, strict=True)]


def _transposed(node: Node) -> bool:
    return TABLE[node.op].window == "transposed"


def padded(analysis: Analysis, node: Node, window: Window, proto: NodeProto) -> Window:
    """Write the padding that goes with a new kernel; where the ring's rows must stand.

    Args:
        analysis: of the model.
        node: the convolution, as it is.
        window: its old and new sizes, the ring in the middle.
        proto: the convolution as it will be; gets the padding.

    Returns:
        The window, with the ring moved where automatic padding asks for that.
    """
    auto, rank = node.attr("auto_pad", "NOTSET"), len(window.old)
    fixed = _transposed(node) and node.attr("output_shape") is not None
    if auto in ("NOTSET", "", "VALID") and not fixed:
        pads = list(node.attr("pads", [0] * 2 * rank)) if auto != "VALID" else [0] * 2 * rank
        drop_attribute(proto, "auto_pad")
        set_attribute(proto, "pads", [p + r for p, r in zip(pads, window.ring, strict=True)])
        return window
    if not _transposed(node):
        shifted = _same(window, auto)
        if shifted is not None:
            return shifted
    pads = _explicit(analysis, node, window, auto)
    drop_attribute(proto, "auto_pad")
    drop_attribute(proto, "output_shape")
    set_attribute(proto, "pads", [p + r for p, r in zip(pads, window.ring, strict=True)])
    return window


def _same(window: Window, auto: str) -> Window | None:
    """The ring under automatic padding, None where its place depends on the input's size.

    With K = (k - 1) d + 1 >= stride the padding is never cut at 0, so it grows by d rows
    for each row of the kernel, halved with the odd one behind (SAME_UPPER) or before.
    """
    before = []
    for old, new, s, d in zip(
        window.old, window.new, window.strides, window.dilations, strict=True
    ):
        extent, more = (old - 1) * d + 1, (new - old) * d
        if extent < s or (more % 2 and s > 1):
            return None
        total, up = extent - 1, auto == "SAME_LOWER"
        begin = (total + more + up) // 2 - (total + up) // 2
        if begin % d:
            return None
        before.append(begin // d)
    return Window(window.old, window.new, tuple(before), window.strides, window.dilations)


def _explicit(analysis: Analysis, node: Node, window: Window, auto: str) -> list[int]:
    """The padding that automatic padding comes to at the model's fixed size."""
    totals = [_total(analysis, node, window, axis, auto) for axis in range(len(window.old))]
    halves = [t // 2 for t in totals]
    rest = [t - h for t, h in zip(totals, halves, strict=True)]
    return halves + rest if auto == "SAME_UPPER" else rest + halves


def _total(analysis: Analysis, node: Node, window: Window, axis: int, auto: str) -> int:
    """How many rows automatic padding adds on one axis, before and behind."""
    extent = (window.old[axis] - 1) * window.dilations[axis] + 1
    stride = window.strides[axis]
    if not _transposed(node):
        size = _fixed_size(analysis, node, axis, auto)
        return max((-(-size // stride) - 1) * stride + extent - size, 0)
    total: int = extent - stride + node.attr("output_padding", [0] * len(window.old))[axis]
    wanted = node.attr("output_shape")
    if wanted is not None:  # else the output is input x stride, whatever the input
        made = int(wanted[axis - len(window.old)])
        total += stride * _fixed_size(analysis, node, axis, auto) - made
    if total < 0:
        raise refused(
            node, Reason.COMPUTED_SIZE, "its automatic padding is negative",
            "write explicit pads first",
        )  # fmt: skip
    return total


def _fixed_size(analysis: Analysis, node: Node, axis: int, auto: str) -> int:
    """A spatial size of the input, which must be the same whatever comes in."""
    shapes = [f.shapes.get(node.inputs[0]) for f in analysis.facts]
    sizes = {s[axis + 2] if s is not None else None for s in shapes}
    if len(sizes) > 1 or None in sizes:
        raise refused(
            node, Reason.COMPUTED_SIZE, f"{auto or 'output_shape'} padding at open sizes",
            "grow by an even number of rows, or export with a fixed input size",
        )  # fmt: skip
    return int(sizes.pop() or 0)


def front(analysis: Analysis, node: Node) -> Node | None:
    """A Pad in front that pads with something else than zeros, if this node alone reads it."""
    pad = analysis.model.producer.get(node.inputs[0])
    if pad is None or pad.op not in TABLE or not TABLE[pad.op].borders or _transposed(node):
        return None
    if len(analysis.model.readers[node.inputs[0]]) > 1 or any(node.attr("pads", [])):
        return None
    if node.attr("auto_pad", "NOTSET") not in ("NOTSET", "", "VALID"):
        return None
    zeros = pad.attr("mode", "constant") == "constant"
    value: Any = pad.attr("value", 0.0)
    if zeros and len(pad.inputs) > 2 and pad.inputs[2]:
        value = analysis.first.values.get(pad.inputs[2])
    return None if zeros and value is not None and not np.any(value) else pad


def grow_pad(editor: Editor, analysis: Analysis, pad: Node, window: Window) -> str:
    """Add the ring to a Pad's padding; why where it cannot grow.

    Args:
        editor: gets the change.
        pad: what stands in front of the convolution.
        window: of the convolution.
    """
    zeros = "the ring sees zeros at the border instead of the padding in front"
    rank = len(window.old) + 2
    ring = [0, 0, *window.ring[: rank - 2], 0, 0, *window.ring[rank - 2 :]]
    named = len(pad.inputs) > 1 and bool(pad.inputs[1])
    old = analysis.first.values.get(pad.inputs[1]) if named else pad.attr("pads")
    if old is None or len(old) != 2 * rank:
        return f"'{pad.name}' pads with sizes that are computed: {zeros}"
    new = np.asarray(old) + ring
    if pad.attr("mode", "constant") == "reflect" and _too_far(analysis, pad, new):
        return f"'{pad.name}' would reflect more than there is: {zeros}"
    if named:
        pads = editor.constant(new.astype(np.int64), f"{pad.inputs[1]}_grown")
        editor.node(pad).input[1] = pads
    else:
        set_attribute(editor.node(pad), "pads", new.tolist())
    return ""


def _too_far(analysis: Analysis, pad: Node, pads: Array) -> bool:
    """Whether a side may be shorter than what is to be reflected of it."""
    rank = len(pads) // 2
    shapes = [f.shapes.get(pad.inputs[0]) or (None,) * rank for f in analysis.facts]
    return any(n is None or p >= n for s in shapes for n, p in zip(s * 2, pads, strict=True))


def refused(node: Node, reason: Reason, detail: str, hint: str) -> RefusalError:
    """The error that names a node and why its kernel cannot grow.

    Args:
        node: whose kernel.
        reason, detail, hint: see `Refusal`.
    """
    return RefusalError(Refusal(reason, node.name, None, detail, hint))
