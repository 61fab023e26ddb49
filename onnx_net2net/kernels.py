"""Kernel growth (Network Morphism): a ring of zeros around a kernel, with matching padding.

What lies under the ring is multiplied by zero, so any padding is exact; it is chosen so
that the ring sees what a larger kernel of the same model would see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto

from onnx_net2net.analysis import Analysis
from onnx_net2net.errors import Reason, Refusal, RefusalError
from onnx_net2net.model import Leaf, Node
from onnx_net2net.naming import find
from onnx_net2net.operators import Array
from onnx_net2net.patch import Insert, Splice
from onnx_net2net.rewrite import tensor_like

_CONVOLUTIONS = ("Conv", "ConvTranspose", "com.microsoft.FusedConv")
_THROUGH = ("Identity", "DequantizeLinear")


@dataclass(frozen=True)
class KernelGrowth:
    """A patch that grows one kernel; `kernel` is (before, after), `pads` the node's new ones.

    `parameters`: the weights that change or are added.
    """

    patch: list[Splice | Insert]
    node: str
    kernel: tuple[tuple[int, ...], tuple[int, ...]]
    pads: tuple[int, ...] | None
    parameters: tuple[str, ...]
    preserving: bool = True
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class _Window:
    """A convolution's window: sizes per spatial axis, the ring's rows before and behind."""

    old: tuple[int, ...]
    new: tuple[int, ...]
    before: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    @property
    def behind(self) -> tuple[int, ...]:
        return tuple(n - o - b for n, o, b in zip(self.new, self.old, self.before, strict=True))

    @property
    def ring(self) -> list[int]:
        """How much the padding grows: begins, then ends."""
        rows = (*self.before, *self.behind)
        return [r * d for r, d in zip(rows, self.dilations * 2, strict=True)]


def grow_kernel(analysis: Analysis, node_name: str, size: int | Sequence[int]) -> KernelGrowth:
    """Grow the kernel of a convolution without changing its output (growth-operators.md K1).

    Args:
        node_name: what `naming.find` finds.
        size: of all spatial axes, or one for each. By one row only the end grows.

    Raises:
        RefusalError: no convolution, weights that are computed, automatic padding that
            cannot follow.
        ValueError: a size that does not fit or is not larger.
    """
    node = find(analysis, node_name)
    if node.op not in _CONVOLUTIONS:
        raise _refused(node, Reason.NO_RULE, f"{node.op} has no kernel", "choose a convolution")
    leaf = _weights(analysis, node)
    window = _window(node, leaf, size)
    proto = NodeProto()
    proto.CopyFrom(node.proto)
    window = _padded(analysis, node, window, proto)
    _set(proto, "kernel_shape", list(window.new))
    edits: list[Splice | Insert] = []
    warnings: list[str] = []
    front = _front(analysis, node)
    if front is not None:
        moved, why = _pad_node(analysis, front, window)
        if moved is None:
            warnings += [why] if why else []
        else:
            edits += moved
            _set(proto, "pads", [0] * (2 * len(window.new)))
    name = _replaced(analysis, node, leaf, window, proto, edits)
    edits.append(Splice(node.path, (proto,)))
    pads = next((tuple(a.ints) for a in proto.attribute if a.name == "pads"), None)
    return KernelGrowth(
        edits, node.name, (window.old, window.new), pads, (name,), warnings=tuple(warnings)
    )


def _weights(analysis: Analysis, node: Node) -> Leaf:
    """The leaf behind a convolution's weights."""
    tensor = node.inputs[1]
    while tensor not in analysis.model.leaves:
        producer = analysis.model.producer.get(tensor)
        if producer is None or producer.op not in _THROUGH:
            op = producer.op if producer else "a graph input"
            detail = f"its weights are computed by {op}"
            raise _refused(node, Reason.NO_RULE, detail, "fold the weights' constants first")
        tensor = producer.inputs[0]
    leaf = analysis.model.leaves[tensor]
    if leaf.tensor is None:
        raise _refused(node, Reason.NO_RULE, "its weights have no tensor", "export it again")
    return leaf


def _window(node: Node, leaf: Leaf, size: int | Sequence[int]) -> _Window:
    old = leaf.shape[2:]
    new = (size,) * len(old) if isinstance(size, int) else tuple(size)
    if len(new) != len(old):
        raise ValueError(f"'{node.name}' has {len(old)} spatial axes, not {len(new)}")
    if new == old or any(n < o for n, o in zip(new, old, strict=True)):
        raise ValueError(f"'{node.name}' has a kernel of {list(old)}; give a larger size")
    ones = [1] * len(old)
    before = tuple((n - o) // 2 for n, o in zip(new, old, strict=True))
    return _Window(
        old, new, before, tuple(node.attr("strides", ones)), tuple(node.attr("dilations", ones))
    )


def _padded(analysis: Analysis, node: Node, window: _Window, proto: NodeProto) -> _Window:
    """Write the padding that goes with the new kernel; where the ring's rows must stand."""
    auto, rank = node.attr("auto_pad", "NOTSET"), len(window.old)
    fixed = node.op == "ConvTranspose" and node.attr("output_shape") is not None
    if auto in ("NOTSET", "", "VALID") and not fixed:
        pads = list(node.attr("pads", [0] * 2 * rank)) if auto != "VALID" else [0] * 2 * rank
        _drop(proto, "auto_pad")
        _set(proto, "pads", [p + r for p, r in zip(pads, window.ring, strict=True)])
        return window
    if node.op != "ConvTranspose":
        shifted = _same(window, auto)
        if shifted is not None:
            return shifted
    pads = _explicit(analysis, node, window, auto)
    _drop(proto, "auto_pad")
    _drop(proto, "output_shape")
    _set(proto, "pads", [p + r for p, r in zip(pads, window.ring, strict=True)])
    return window


def _same(window: _Window, auto: str) -> _Window | None:
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
    return _Window(window.old, window.new, tuple(before), window.strides, window.dilations)


def _explicit(analysis: Analysis, node: Node, window: _Window, auto: str) -> list[int]:
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
            raise _refused(
                node, Reason.COMPUTED_SIZE, f"{auto or 'output_shape'} padding at open sizes",
                "grow by an even number of rows, or export with a fixed input size",
            )  # fmt: skip
        if total < 0 and transposed:
            raise _refused(
                node, Reason.COMPUTED_SIZE, "its automatic padding is negative",
                "write explicit pads first",
            )  # fmt: skip
        half = max(total, 0) // 2
        # a transposed convolution pads the other side first
        upper = auto == "SAME_UPPER"
        first = half if upper else max(total, 0) - half
        begins.append(first)
        ends.append(max(total, 0) - first)
    return begins + ends


def _front(analysis: Analysis, node: Node) -> Node | None:
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


def _pad_node(
    analysis: Analysis, pad: Node, window: _Window
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
        _set(proto, "pads", new.tolist())
        return [Splice(pad.path, (proto,))], ""
    name = _fresh(analysis, f"{pad.inputs[1]}_grown")
    proto.input[1] = name
    tensor = onnx.numpy_helper.from_array(new.astype(np.int64), name)
    return [Splice(pad.path, (proto,)), *_added(analysis, tensor)], ""


def _replaced(
    analysis: Analysis, node: Node, leaf: Leaf, window: _Window, proto: NodeProto,
    edits: list[Splice | Insert],
) -> str:  # fmt: skip
    """Write the weights with the ring, in place or beside those that others share."""
    model = analysis.model
    assert leaf.tensor is not None
    rows = [(0, 0), (0, 0), *zip(window.before, window.behind, strict=True)]
    array = np.pad(analysis.source.array(leaf.tensor), rows, constant_values=_zero(analysis, node))
    chain, tensor = list[Node](), node.inputs[1]
    while tensor != leaf.name:
        chain.append(model.producer[tensor])
        tensor = chain[-1].inputs[0]
    path = [leaf.name, *(n.outputs[0] for n in chain)]
    outputs = {t for s in model.scopes.values() for t in s.outputs}
    alone = all(len(model.readers[t]) == 1 for t in path) and not outputs.intersection(path)
    if alone and leaf.path[-2] == "initializer":
        edits.append(Splice(leaf.path, (tensor_like(leaf.tensor, array, leaf.tensor.name),)))
        edits += _declared(analysis, leaf, path, window)
        return leaf.name
    name = _fresh(analysis, f"{leaf.name}_grown")
    edits += _added(analysis, onnx.numpy_helper.from_array(array, name))
    copies: list[NodeProto] = []
    for step in reversed(chain):
        copy = NodeProto()
        copy.CopyFrom(step.proto)
        copy.name = f"{step.name}_grown"
        copy.input[0] = copies[-1].output[0] if copies else name
        copy.output[0] = _fresh(analysis, f"{step.outputs[0]}_grown")
        copies.append(copy)
    if copies:
        edits.append(Insert(node.path, tuple(copies)))
    proto.input[1] = copies[-1].output[0] if copies else name
    return name


def _zero(analysis: Analysis, node: Node) -> Array:
    """What stands for zero in the leaf: the zero point of quantized weights."""
    producer = analysis.model.producer.get(node.inputs[1])
    while producer is not None and producer.op == "Identity":
        producer = analysis.model.producer.get(producer.inputs[0])
    if producer is None or len(producer.inputs) < 3 or not producer.inputs[2]:
        return np.zeros(())
    value = analysis.first.values.get(producer.inputs[2])
    if value is None or len(np.unique(value)) != 1:
        raise _refused(
            node, Reason.NO_RULE, "its zero points differ", "requantize with symmetric weights"
        )
    return np.asarray(value).reshape(-1)[0]


def _declared(
    analysis: Analysis, leaf: Leaf, path: list[str], window: _Window
) -> list[Splice | Insert]:
    """Declared shapes of the weights, wherever they are declared."""
    edits: list[Splice | Insert] = []
    scope = analysis.model.scopes[leaf.scope]
    names = {t.rpartition(":")[2] if scope.name else t for t in path}
    for kind in ("input", "value_info"):
        for k, info in enumerate(getattr(scope.graph, kind)):
            if info.name in names and info.type.tensor_type.HasField("shape"):
                new = ValueInfoProto()
                new.CopyFrom(info)
                for dim, size in zip(
                    new.type.tensor_type.shape.dim[2:], window.new, strict=False
                ):
                    dim.dim_value = size
                edits.append(Splice((*scope.path, kind, k), (new,)))
    return edits


def _added(analysis: Analysis, tensor: TensorProto) -> list[Splice | Insert]:
    graph = analysis.model.proto.graph
    made: list[Splice | Insert] = [
        Insert(("graph", "initializer", len(graph.initializer)), (tensor,))
    ]
    if analysis.model.proto.ir_version < 4:
        dims = list(tensor.dims)
        info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, dims)
        made.append(Insert(("graph", "input", len(graph.input)), (info,)))
    return made


def _fresh(analysis: Analysis, base: str) -> str:
    model = analysis.model
    name, k = base, 1
    while name in model.leaves or name in model.producer or name in model.inputs:
        k += 1
        name = f"{base}_{k}"
    return name


def _drop(proto: NodeProto, name: str) -> None:
    for k in reversed(range(len(proto.attribute))):
        if proto.attribute[k].name == name:
            del proto.attribute[k]


def _set(proto: NodeProto, name: str, value: Any) -> None:
    _drop(proto, name)
    proto.attribute.append(onnx.helper.make_attribute(name, value))


def _refused(node: Node, reason: Reason, detail: str, hint: str) -> RefusalError:
    return RefusalError(Refusal(reason, node.name, None, detail, hint))
