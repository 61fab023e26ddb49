"""Where a new layer stands: the tensor, its readers, its channel axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper

from onnx_net2net.coupling.channel_axis import Channels, channels
from onnx_net2net.coupling.lookup import find
from onnx_net2net.errors import AmbiguousError, Reason, Refusal, RefusalError, UsageError
from onnx_net2net.graph.model import Node
from onnx_net2net.inference.activation_patterns import after as activation_after
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.spec import Rule
from onnx_net2net.operators.table import TABLE
from .verb import Deepen

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_NO_RULE = Rule()


@dataclass(frozen=True)
class Point:
    """A place in the graph.

    `tensor` is its id, `name` the name in its own graph; `readers` are what will read the
    new layer instead: (node, input slot); `keeps_name`: a graph output (or a body's) is
    among them, so the new layer writes `name` and the producer another one.
    `layer`: the nearest layer before, else after; new layers are named for it.
    `passed`: layers that stand between the named node and the tensor.
    """

    tensor: str
    name: str
    scope: str
    channels: Channels
    layer: Node
    dtype: np.dtype
    readers: tuple[tuple[Node, int], ...]
    keeps_name: bool
    passed: tuple[str, ...] = ()

    @property
    def axis(self) -> int:
        """The channel axis."""
        return self.channels.axis

    @property
    def size(self) -> int:
        """How many channels."""
        return self.channels.size

    @property
    def rank(self) -> int | None:
        """How many axes; None where unknown."""
        return self.channels.rank


def place(analysis: Analysis, asked: Deepen) -> Point:
    """The point that a step names.

    `after`: a tensor (literally there), or a node: a layer's means after its normalization and
    activation. `before`: a tensor, or a node: the tensor that it reads. `only_into`: the one
    consumer that the new layer feeds; all if None.

    Raises:
        UsageError: neither or both are given.
        AmbiguousError: a name that fits nothing or several things, or no reader.
        RefusalError: no layer can stand there.
    """
    if (asked.after is None) == (asked.before is None):
        raise UsageError("give one of after and before")
    tensor, passed = _named(analysis, asked)
    _check(analysis, tensor)
    found = channels(analysis, tensor)
    producer = analysis.model.producer.get(tensor)
    scope = producer.scope if producer else ""
    readers = _readers(analysis, tensor)
    returned = producer is not None and tensor in _returned(analysis)
    if asked.only_into is not None:
        consumer = find(analysis, asked.only_into, [n for n, _ in readers])
        readers, returned = tuple(r for r in readers if r[0] is consumer), False
        if not readers:
            names = [n.name for n, _ in analysis.model.readers.get(tensor, ())]
            said = f"'{consumer.name}' does not read '{tensor}'"
            raise AmbiguousError(said, f"what does: {', '.join(names)}", names)
    name = tensor[len(scope) + 1 :] if scope else tensor
    layer = _layer(analysis, tensor) or found.node
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(analysis.first.dtype(tensor)))
    return Point(tensor, name, scope, found, layer, dtype, readers, returned, passed)


def _returned(analysis: Analysis) -> set[str]:
    """The tensors that a graph, or a body, gives back."""
    return {t for s in analysis.model.scopes.values() for t in s.outputs}


def _readers(analysis: Analysis, tensor: str) -> tuple[tuple[Node, int], ...]:
    """Who reads a tensor, in place of a function's nodes the call."""
    model = analysis.stored  # an element of a sequence is read by what makes the sequence
    found = [model.caller(n) for n, _ in model.readers.get(tensor, ()) if n.called]
    calls = [(n, k) for n in dict.fromkeys(found) for k, t in enumerate(n.inputs) if t == tensor]
    return (*((n, k) for n, k in model.readers.get(tensor, ()) if not n.called), *calls)


def _layer(analysis: Analysis, tensor: str) -> Node | None:
    """The layer that made a tensor, looked for along first inputs."""
    node = analysis.model.producer.get(tensor)
    while node is not None and not analysis.weights(node):
        live = [t for t in node.inputs if t and t not in analysis.model.constant]
        node = analysis.model.producer.get(live[0]) if live else None
    return node


def _named(analysis: Analysis, asked: Deepen) -> tuple[str, tuple[str, ...]]:
    """The tensor that a step means, and the nodes between the layer that it names and that."""
    model, name = analysis.model, str(asked.before if asked.after is None else asked.after)
    tensor = name in model.producer or name in model.inputs
    if tensor and not any(n.proto.name == name for n in model.nodes):
        return name, ()
    node = find(analysis, name, None if analysis.layers() else model.nodes)
    if asked.after is None:
        return _read_by(analysis, node), ()
    return _end_of_layer(analysis, node) if analysis.weights(node) else (node.outputs[0], ())


def _end_of_layer(analysis: Analysis, node: Node) -> tuple[str, tuple[str, ...]]:
    """Past the layer's bias, normalization and activation, as long as nobody else reads."""
    model = analysis.model
    outputs = _returned(analysis)
    tensor, passed = node.outputs[0], list[str]()
    while tensor not in outputs:
        found = activation_after(analysis, tensor)
        if found is not None:
            return found.end, (*passed, *(n.name for n in found.nodes))
        readers = model.readers.get(tensor, ())
        if len(readers) != 1 or not _belongs(analysis, readers[0][0], readers[0][1]):
            break
        tensor = readers[0][0].outputs[0]
        passed.append(readers[0][0].name)
    return tensor, tuple(passed)


def _belongs(analysis: Analysis, node: Node, slot: int) -> bool:
    """Whether a node is the bias or the normalization of the layer before it."""
    row = TABLE.get(node.op, _NO_RULE)
    if row.behind_layer:
        return slot == 0
    others = [t for k, t in enumerate(node.inputs) if k != slot]
    return row.adds and all(
        t in analysis.model.constant and len(analysis.first.shapes.get(t) or ()) == 1
        for t in others
    )


def _read_by(analysis: Analysis, node: Node) -> str:
    """The one float tensor that a node reads and that is no constant."""
    live = (t for t in dict.fromkeys(node.inputs) if t and t not in analysis.model.constant)
    read = [t for t in live if analysis.first.dtype(t) in FLOATS]
    if len(read) > 1:
        said = f"'{node.name}' reads several tensors: {', '.join(read)}"
        raise AmbiguousError(said, "name one of them", read)
    if not read:
        detail = "it reads no float tensor"
        raise _refused(node.name, Reason.NO_AXIS, detail, "choose a later layer")
    return read[0]


def _check(analysis: Analysis, tensor: str) -> None:
    """Raise RefusalError where no layer can stand, whatever its kind."""
    model = analysis.model
    dtype = analysis.first.dtype(tensor)
    producer = model.producer.get(tensor)
    opset = model.opsets.get("", 0)
    if tensor in model.constant:
        raise _refused(tensor, Reason.NO_AXIS, "it is a constant", "choose a computed tensor")
    if opset < 7:
        detail = f"opset {opset} has no broadcasting"
        hint = "convert the model with onnx.version_converter to opset 9 or later"
        raise _refused(tensor, Reason.NO_RULE, detail, hint)
    loop = _loop_around(analysis, producer.scope) if producer is not None else None
    if loop is not None:
        detail = f"it stands in a body that {loop.op} runs repeatedly"
        raise _refused(loop.name, Reason.NO_AXIS, detail, "choose a tensor outside the loop")
    if producer is not None and tensor not in model.caller(producer).outputs:
        detail = "it stands inside a function"
        raise _refused(producer.name, Reason.NO_AXIS, detail, "choose a tensor outside")
    if dtype not in FLOATS:
        kind = TensorProto.DataType.Name(dtype) if dtype else "an unknown type"
        reason = Reason.NO_AXIS if dtype else Reason.UNKNOWN_SHAPE
        raise _refused(tensor, reason, f"it holds {kind}, not floats", "choose a float tensor")
    if not model.readers.get(tensor) and tensor not in _returned(analysis):
        raise _refused(tensor, Reason.NO_AXIS, "nothing reads it", "choose a tensor in use")


def _loop_around(analysis: Analysis, scope: str) -> Node | None:
    owners = {s: n for n in analysis.model.nodes for s in n.bodies.values()}
    while scope in owners:
        owner = owners[scope]
        if owner.formals:  # what runs once is given nothing
            return owner
        scope = owner.scope
    return None


def _refused(node: str, reason: Reason, detail: str, hint: str) -> RefusalError:
    return RefusalError(Refusal(reason, node, None, detail, hint))
