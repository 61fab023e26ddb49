"""The padding that goes with a larger kernel: explicit, automatic, or a Pad node in front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from onnx_net2net.errors import Reason, Refusal, RefusalError
from onnx_net2net.files.patch import Insert, Splice
from onnx_net2net.graph.model import Node
from onnx_net2net.inference.analysis import Analysis


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


def padded(analysis: Analysis, node: Node, window: Window, proto: NodeProto) -> Window:
    """Write the padding that goes with the new kernel; where the ring's rows must stand."""
    auto, rank = node.attr("auto_pad", "NOTSET"), len(window.old)
    fixed = node.op == "ConvTranspose" and node.attr("output_shape") is not None
    if auto in ("NOTSET", "", "VALID") and not fixed:
        pads = list(node.attr("pads", [0] * 2 * rank)) if auto != "VALID" else [0] * 2 * rank
        drop(proto, "auto_pad")
        put(proto, "pads", [p + r for p, r in zip(pads, window.ring, strict=True)])
        return window
    if node.op != "ConvTranspose":
        shifted = _same(window, auto)
        if shifted is not None:
            return shifted
    pads = _explicit(analysis, node, window, auto)
    drop(proto, "auto_pad")
    drop(proto, "output_shape")
    put(proto, "pads", [p + r for p, r in zip(pads, window.ring, strict=True)])
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
    transposed = node.op == "ConvTranspose"
    rank = len(window.old)
    shapes = [f.shapes.get(node.inputs[0]) for f in analysis.facts]
    wanted = node.attr("output_shape")
    extra = node.attr("output_padding", [0] * rank)
    begins, ends = [], []
    for k in range(rank):
        sizes = {s[k + 2] if s is not None else None for s in shapes}
        extent = (window.old[k] - 1) * window.dilations[k] + 1
        stride = window.strides[k]
        if transposed and wanted is None:  # output = input x stride, whatever the input
            total = extent - stride + extra[k]
        elif len(sizes) == 1 and None not in sizes:
            n = int(sizes.pop() or 0)
            total = (-(-n // stride) - 1) * stride + extent - n
            if transposed:
                total = stride * (n - 1) + extra[k] + extent - int(wanted[-rank:][k])
        else:
            raise refused(
                node, Reason.COMPUTED_SIZE, f"{auto or 'output_shape'} padding at open sizes",
                "grow by an even number of rows, or export with a fixed input size",
            )  # fmt: skip
        if total < 0 and transposed:
            raise refused(
                node, Reason.COMPUTED_SIZE, "its automatic padding is negative",
                "write explicit pads first",
            )  # fmt: skip
        total = max(total, 0)
        first = total // 2 if auto == "SAME_UPPER" else total - total // 2
        begins.append(first)
        ends.append(total - first)
    return begins + ends


def front(analysis: Analysis, node: Node) -> Node | None:
    """A Pad in front that pads with something else than zeros, if this node alone reads it."""
    pad = analysis.model.producer.get(node.inputs[0])
    if pad is None or pad.op != "Pad" or node.op == "ConvTranspose":
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


def pad_node(
    analysis: Analysis, pad: Node, window: Window
) -> tuple[list[Splice | Insert] | None, str]:
    """The Pad's padding with the ring added; None and why where it cannot grow."""
    zeros = "the ring sees zeros at the border instead of the padding in front"
    rank = len(window.old) + 2
    ring = [0, 0, *window.ring[: rank - 2], 0, 0, *window.ring[rank - 2 :]]
    named = len(pad.inputs) > 1 and bool(pad.inputs[1])
    old = analysis.first.values.get(pad.inputs[1]) if named else pad.attr("pads")
    if old is None or len(old) != 2 * rank:
        return None, f"'{pad.name}' pads with sizes that are computed: {zeros}"
    new = np.asarray(old) + ring
    shapes = [f.shapes.get(pad.inputs[0]) for f in analysis.facts]
    if pad.attr("mode", "constant") == "reflect":
        sides = [(s or (None,) * rank)[k % rank] for s in shapes for k in range(2 * rank)]
        if any(n is None or p >= n for n, p in zip(sides, [*new, *new], strict=True)):
            return None, f"'{pad.name}' would reflect more than there is: {zeros}"
    proto = NodeProto()
    proto.CopyFrom(pad.proto)
    if not named:
        put(proto, "pads", new.tolist())
        return [Splice(pad.path, (proto,))], ""
    name = fresh(analysis, f"{pad.inputs[1]}_grown")
    proto.input[1] = name
    tensor = onnx.numpy_helper.from_array(new.astype(np.int64), name)
    return [Splice(pad.path, (proto,)), *added(analysis, tensor)], ""


def added(analysis: Analysis, tensor: TensorProto) -> list[Splice | Insert]:
    """The edits that add an initializer."""
    graph = analysis.model.proto.graph
    made: list[Splice | Insert] = [
        Insert(("graph", "initializer", len(graph.initializer)), (tensor,))
    ]
    if analysis.model.proto.ir_version < 4:
        dims = list(tensor.dims)
        info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, dims)
        made.append(Insert(("graph", "input", len(graph.input)), (info,)))
    return made


def fresh(analysis: Analysis, base: str) -> str:
    """A name that nothing in the model has."""
    model = analysis.model
    name, k = base, 1
    while name in model.leaves or name in model.producer or name in model.inputs:
        k += 1
        name = f"{base}_{k}"
    return name


def drop(proto: NodeProto, name: str) -> None:
    """Remove an attribute, if it is there."""
    for k in reversed(range(len(proto.attribute))):
        if proto.attribute[k].name == name:
            del proto.attribute[k]


def put(proto: NodeProto, name: str, value: Any) -> None:
    """Set an attribute."""
    drop(proto, name)
    proto.attribute.append(onnx.helper.make_attribute(name, value))


def refused(node: Node, reason: Reason, detail: str, hint: str) -> RefusalError:
    """The error that names a node and why its kernel cannot grow."""
    return RefusalError(Refusal(reason, node.name, None, detail, hint))
