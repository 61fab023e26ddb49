"""The one way to edit a model: its nodes, constants and declared shapes, gathered as a patch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto

from onnx_net2net.files.patch import Insert, Splice
from onnx_net2net.typing import Array
from .function_edits import settled
from .messages import Edit, copied, set_attribute, tensor_like
from .model import Leaf, Model, Node, Path
from .names import fresh_name, names

_INPUTS_SINCE = 4  # the IR version from which an initializer need not be an input as well


def after(path: Path) -> Path:
    """Where to insert what is to stand behind the element at `path`."""
    return (*path[:-1], int(path[-1]) + 1)


class Editor:
    """Edits in the making; the model itself stays as it is.

    Attributes:
        model: what is edited.
        taken: all names in use, the new ones too.
        added: new initializers of the main graph, which every scope sees, in order.

    >>> model = Model(onnx.parser.parse_model(
    ...     '<ir_version: 8, opset_import: ["" : 18]> g (float[2] x) => (float[2] y) {y = Relu(x)}'
    ... ))
    >>> editor = Editor(model)
    >>> two = editor.constant(np.float32([2, 2]), "two")
    >>> out = editor.fresh("y_before")
    >>> editor.node(model.nodes[0]).output[0] = out
    >>> editor.insert(after(model.nodes[0].path), onnx.helper.make_node("Mul", [out, two], ["y"]))
    >>> [edit.path for edit in editor.patch()]
    [('graph', 'node', 1), ('graph', 'node', 0), ('graph', 'initializer', 0)]
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.taken = names(model)
        self.added: list[TensorProto] = []
        self._nodes: dict[Path, NodeProto] = {}
        self._dropped: set[Path] = set()
        self._inserted: dict[Path, list[NodeProto]] = {}
        self._tensors: dict[Path, TensorProto] = {}
        self._sizes: dict[str, dict[int, int]] = {}

    def fresh(self, base: str) -> str:
        """A name that nothing in the model has."""
        return fresh_name(base, self.taken)

    def node(self, node: Node) -> NodeProto:
        """What is to stand in a node's place: a copy, to be changed."""
        if node.path not in self._nodes:
            self._nodes[node.path] = copied(node.proto)
        return self._nodes[node.path]

    def insert(self, path: Path, *nodes: NodeProto) -> None:
        """Put new nodes before the element at `path`, behind those that were put there."""
        self._inserted.setdefault(path, []).extend(nodes)

    def constant(self, array: Array, base: str) -> str:
        """Add an initializer named `base`, or much like it; its name."""
        name = self.fresh(base)
        self.added.append(onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def replace(self, leaf: Leaf, array: Array) -> None:
        """Write a new array in a constant's place, under its name."""
        if leaf.path[-2] == "initializer":
            assert leaf.tensor is not None
            self._tensors[leaf.path] = tensor_like(leaf.tensor, array)
        else:
            node: NodeProto = copied(self.model.message(leaf.path))
            del node.attribute[:]
            set_attribute(node, "value", onnx.numpy_helper.from_array(array))
            self._nodes[leaf.path] = node
        self.resize(leaf.name, dict(enumerate(array.shape)))

    def resize(self, tensor: str, sizes: Mapping[int, int]) -> None:
        """Declare other sizes of a tensor, axis -> size, wherever its shape is declared."""
        self._sizes.setdefault(tensor, {}).update(sizes)

    def drop_unread(self, nodes: Iterable[Node]) -> None:
        """Leave out those of `nodes` whose outputs nobody reads any more, readers first."""
        outputs = {t for s in self.model.scopes.values() for t in s.outputs}
        for node in sorted(nodes, key=lambda n: -n.index):
            readers = [r for o in node.outputs for r in self.model.readers.get(o, ())]
            read = any(self._still_reads(*r) for r in readers)
            if not read and not outputs.intersection(node.outputs):
                self._dropped.add(node.path)

    def _still_reads(self, reader: Node, slot: int) -> bool:
        now = self._nodes.get(reader.path, reader.proto)
        return reader.path not in self._dropped and now.input[slot] == reader.proto.input[slot]

    def patch(self) -> list[Edit]:
        """The edits of the file, those inside local functions included."""
        return settled(self.model, self._edits(), self._sizes.keys())

    def _edits(self) -> Iterator[Edit]:
        for path, nodes in self._inserted.items():
            yield Insert(path, tuple(nodes))
        for path, node in self._nodes.items():
            yield Splice(path, () if path in self._dropped else (node,))
        for path in self._dropped - self._nodes.keys():
            yield Splice(path)
        for path, tensor in self._tensors.items():
            yield Splice(path, (tensor,))
        graph = self.model.proto.graph
        if self.added:
            yield Insert(("graph", "initializer", len(graph.initializer)), tuple(self.added))
        if self.added and self.model.proto.ir_version < _INPUTS_SINCE:
            made = (
                onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
                for t in self.added
            )
            yield Insert(("graph", "input", len(graph.input)), tuple(made))
        yield from self._declared()

    def _declared(self) -> Iterator[Splice]:
        """Declared shapes that would be stale."""
        for scope in self.model.scopes.values():
            for kind in ("value_info", "input", "output"):
                for k, info in enumerate(getattr(scope.graph, kind)):
                    sizes = self._sizes.get(scope.tensor(info.name))
                    if sizes and info.type.HasField("tensor_type") and _stale(info, sizes):
                        yield Splice((*scope.path, kind, k), (_resized(info, sizes),))


def _stale(info: ValueInfoProto, sizes: Mapping[int, int]) -> bool:
    dims = info.type.tensor_type.shape.dim
    return any(d >= len(dims) or dims[d].dim_value != n for d, n in sizes.items())


def _resized(info: ValueInfoProto, sizes: Mapping[int, int]) -> ValueInfoProto:
    """The declaration with other sizes; what cannot be said is no longer said."""
    new = copied(info)
    shape = new.type.tensor_type.shape
    if any(d >= len(shape.dim) for d in sizes):
        new.type.tensor_type.ClearField("shape")
        return new
    for d, n in sizes.items():
        if shape.dim[d].HasField("dim_value"):
            shape.dim[d].dim_value = n
    return new
