"""A model as an onnx-graphsurgeon graph, and what that form cannot carry."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_net2net.errors import ModelError
from .output_form import InMemory, self_contained
from .patch import Pieces, is_repeated
from .reader import read

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

_NAMES = ("domain", "name", "overload", "key", "tensor_name")  # what elements are told apart by


class Lost(NamedTuple):
    """What `gs.export_onnx` gives back otherwise than the model had it, or not at all.

    Attributes:
        field: the message field, in ONNX's own words, such as `graph.node.doc_string`.
        where: the elements that have it: tensors, nodes (by their first output), keys.
        once_read: nothing is lost as long as nobody reads the `values` of these tensors.
    """

    field: str
    where: tuple[str, ...]
    once_read: bool = False

    def __str__(self) -> str:
        named = ", ".join(self.where[:3]) + (", ..." if len(self.where) > 3 else "")
        what = f"{self.field} once .values is read" if self.once_read else self.field
        return f"{what}: {named}" if named else what


class Converted(NamedTuple):
    """A graph of onnx-graphsurgeon, and what is lost on the way there and back."""

    graph: gs.Graph
    lost: tuple[Lost, ...]


def to_graphsurgeon(model: Any) -> Converted:
    """A model as a `gs.Graph`, weights inside, with what that form cannot carry.

    What is lost is measured, not listed: the model goes there and back, with the version of
    onnx-graphsurgeon that is installed, and the two are compared field by field.

    Args:
        model: a path, an `onnx.ModelProto`, or what `onnx_net2net` reads from one; it stays
            as it is, whatever happens to the graph.

    Raises:
        ModelError: onnx-graphsurgeon cannot hold the model, or it is over 2 GiB.

    >>> import onnx
    >>> text = '<ir_version: 8, opset_import: ["" : 18]> g (float x) => (float y) {y = Abs(x)}'
    >>> model = onnx.parser.parse_model(text)
    >>> onnx.helper.set_model_props(model, {"author": "me"})
    >>> graph, lost = to_graphsurgeon(model)
    >>> graph.nodes[0].op, [str(one) for one in lost]
    ('Abs', ['metadata_props: author'])
    """
    import onnx_graphsurgeon as gs
    from onnx_graphsurgeon.logger import G_LOGGER

    source = read(model)
    whole = read(Pieces(source, self_contained(source)))
    proto = InMemory().write(whole)
    with G_LOGGER.suppress():
        try:
            # a copy, as the graph shares messages with what is imported, and changes them
            back = gs.export_onnx(gs.import_onnx(deepcopy(whole.proto)))
            graph = gs.import_onnx(proto)
        except Exception as why:  # whatever it stumbles over; it has no type for that
            raise ModelError(
                f"onnx-graphsurgeon cannot hold this model: {type(why).__name__}: {why}",
                "edit its ModelProto instead",
            ) from why
        found: dict[str, dict[str, None]] = {}
        for field, name in _differences(whole.proto, back, ""):
            found.setdefault(field, {}).update({name: None} if name else {})
        lost = [Lost(field, tuple(names)) for field, names in found.items()]
        return Converted(graph, (*lost, *_once_read(proto)))


def _differences(old: Any, new: Any, path: str, name: str = "") -> Iterator[tuple[str, str]]:
    """Fields that `old` has and `new` lacks or has otherwise, and in which element that is.

    Args:
        old, new: messages of one kind.
        path: the fields that lead to them.
        name: the last element on the way that has one.
    """
    for field, value in old.ListFields():
        here = f"{path}.{field.name}" if path else field.name
        other = getattr(new, field.name)
        if field.message_type is None:
            yield from [] if _same(value, other) else [(here, name)]
        elif is_repeated(field):
            yield from _among(value, other, here, name)
        elif new.HasField(field.name):
            yield from _differences(value, other, here, name)
        else:
            yield here, name


def _among(old: Any, new: Any, path: str, name: str) -> Iterator[tuple[str, str]]:
    """The differences of the elements of a repeated field, each against its like."""
    known = {_key(m, k): m for k, m in enumerate(new)}
    for k, element in enumerate(old):
        key = _key(element, k)
        label = next((part for part in reversed(key) if part), name)
        if key in known:
            yield from _differences(element, known[key], path, label)
        else:
            yield path, label


def _same(value: Any, other: Any) -> bool:
    """Whether numbers, strings or lists of them are the same: of a NaN there is but one."""
    return value == other or repr(value) == repr(other)


def _key(message: Any, index: int) -> tuple[str, ...]:
    """What an element is found again by: its outputs or names, else its place."""
    if isinstance(message, NodeProto):
        return tuple(message.output) or (str(index), "")
    message = getattr(message, "values", message)  # of a sparse tensor
    found = tuple(getattr(message, n) for n in _NAMES if hasattr(message, n))
    return found or (str(index), "")


def _once_read(model: ModelProto) -> Iterator[Lost]:
    """What weights come back without, or otherwise, after their values were read."""
    alike: dict[tuple[int, bool, bool], list[TensorProto]] = {}
    for t in _tensors(model.graph):
        kind = t.data_type, t.HasField("doc_string"), bool(t.metadata_props)
        alike.setdefault(kind, []).append(t)
    found: dict[str, list[str]] = {}
    for tensors in alike.values():
        for field in _read_and_back(min(tensors, key=lambda t: math.prod(t.dims) or math.inf)):
            found.setdefault(field, []).extend(t.name for t in tensors)
    return (Lost(field, tuple(names), once_read=True) for field, names in found.items())


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for attribute in (a for node in graph.node for a in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        for inner in [attribute.g, *attribute.graphs]:
            yield from _tensors(inner)


def _read_and_back(old: TensorProto) -> Iterator[str]:
    """The fields that a tensor loses when its values are read; those like it do as well."""
    import onnx_graphsurgeon as gs

    one = deepcopy(old)
    one.name = "one"
    node = helper.make_node("Identity", ["one"], ["y"])
    out = helper.make_tensor_value_info("y", old.data_type, list(old.dims))
    graph = gs.import_onnx(helper.make_model(helper.make_graph([node], "g", [], [out], [one])))
    where = "graph.initializer"
    try:
        graph.tensors()["one"].values  # noqa: B018
        (new,) = gs.export_onnx(graph).graph.initializer
        before, after = (numpy_helper.to_array(t) for t in (old, new))
    except Exception:  # whatever it stumbles over, as above
        yield where
        return
    if new.data_type != old.data_type or before.tobytes() != after.tobytes():
        yield where
    for field in ("doc_string", "metadata_props"):
        if getattr(new, field) != getattr(old, field):
            yield f"{where}.{field}"
