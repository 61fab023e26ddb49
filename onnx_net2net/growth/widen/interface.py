"""Growing the model's own inputs and outputs: what may be named, and what stays as it was.

New positions stand behind the old ones. Those of an input are read by zero weights, so that
their values do not matter; those of an output are copies, and the old ones are unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnx_net2net.coupling.closure import INSIDE, close
from onnx_net2net.coupling.lookup import readers_of
from onnx_net2net.coupling.space import Axis, Space
from onnx_net2net.errors import AmbiguousError, Reason, Refusal, RefusalError, UsageError
from onnx_net2net.graph.messages import Edit, metadata_edit
from onnx_net2net.graph.model import Node
from onnx_net2net.growth.widen.changes import Growth
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.table import TABLE

KEY = "onnx_net2net.interface"
_DECLARED = ("inputs", "outputs", "tables")
_OLD_CHANGE = "new positions would change what it computes for the old ones"


@dataclass(frozen=True)
class InterfaceChange:
    """An axis of an `input`, `output` or `table` (`kind`) and its length before and after.

    A table is a constant whose rows the model's inputs pick.
    """

    kind: str
    name: str
    axis: int
    before: int
    after: int


def named(analysis: Analysis, name: str) -> tuple[Space, Axis] | None:
    """The space of an axis of the interface, None where `name` means a layer.

    Args:
        name: a model input or output, or a parameter whose rows are picked at run time;
            `NAME:AXIS` where several axes could be meant.

    Raises:
        RefusalError: it cannot grow. AmbiguousError: several axes could be meant.
        UsageError: no such axis.
    """
    model = analysis.model
    known = {*model.inputs, *model.outputs, *model.leaves}
    tensor, _, dim = name.rpartition(":")
    if name in known or tensor not in known or not dim.isdecimal():
        return _only_axis(analysis, name)
    rank = len(analysis.first.shapes.get(tensor) or ())
    if int(dim) >= rank:
        raise UsageError(f"'{tensor}' has no axis {dim}", f"its axes are 0 to {rank - 1}")
    if tensor in model.leaves:
        return _table(analysis, tensor, int(dim))
    return close(analysis, [(tensor, int(dim))]), (tensor, None, int(dim))


def check_closed(analysis: Analysis, name: str) -> None:
    """Refuse an input, or an output that is no layer's own; they grow only where allowed."""
    made = analysis.model.producer.get(name)
    if name in analysis.model.inputs:
        hint = f"it is the model's input; {INSIDE}"
        raise RefusalError(Refusal(Reason.GRAPH_INPUT, name, hint=hint))
    if name in analysis.model.outputs and made and analysis.output_axis(made) is None:
        hint = f"it is the model's output; {INSIDE}"
        raise RefusalError(Refusal(Reason.GRAPH_OUTPUT, name, hint=hint))


def _only_axis(analysis: Analysis, name: str) -> tuple[Space, Axis] | None:
    """The axis of an input or output that weights make or read; a layer's own is not meant."""
    model = analysis.model
    made = model.producer.get(name) if name in model.outputs else None
    if name not in model.inputs and (made is None or analysis.output_axis(made) is not None):
        return None
    found: dict[int, Space] = {}
    first: Refusal | None = None
    for dim in range(len(analysis.first.shapes.get(name) or ())):
        try:
            space = close(analysis, [(name, dim)])
        except RefusalError as why:
            first = first or (why.refusal if why.refusal.reason is not Reason.GRAPH_INPUT else None)
        else:
            if any(a[0] in model.leaves for a in space.labels):
                found[dim] = space
    if len(found) == 1:
        ((dim, space),) = found.items()
        return space, (name, None, dim)
    if not found:
        none = Refusal(Reason.NO_AXIS, name, hint="no weight reads or makes its axes")
        raise RefusalError(first or none)
    names = [f"{name}:{dim}" for dim in found]
    raise AmbiguousError(
        f"'{name}' has several axes that can grow", f"name one: {', '.join(names)}", names
    )


def _table(analysis: Analysis, leaf: str, dim: int) -> tuple[Space, Axis]:
    size = analysis.model.leaves[leaf].shape[dim]
    labels = {axis: np.arange(size) for axis in _picked(analysis, leaf, dim)}
    if not labels:
        raise UsageError(
            f"no row of '{leaf}' is picked at run time along axis {dim}",
            "name the layer that reads it",
        )
    picking = {analysis.model.nodes[use[0]].name for _, use, _ in labels if use is not None}
    others = [n.name for n in readers_of(analysis, leaf) if n.name not in picking]
    if others:
        raise UsageError(
            f"'{leaf}' is tied to {', '.join(others)}", f"widen '{others[0]}' and it grows along"
        )
    seed = next(iter(labels))
    return Space(seed, size, labels, {}), seed


def _picked(analysis: Analysis, leaf: str, dim: int) -> Iterator[Axis]:
    """The uses of a constant by nodes that pick along `dim` by indices of run time."""
    for node, slot in analysis.model.readers.get(leaf, ()):
        if slot == 0 and _picks(analysis, node, dim):
            yield leaf, (node.index, slot), dim


def _picks(analysis: Analysis, node: Node, dim: int) -> bool:
    row, factors = TABLE.get(node.op), analysis.known_factors(node)
    if row is None or row.movement is None or row.notation is None:
        return False
    return any(f.role == "across" and list(f.at) == [(0, dim)] for f in factors)


@contextmanager
def explaining(outside: bool) -> Iterator[None]:
    """Say in the refusals of a block what they mean for the interface, where that grows."""
    try:
        yield
    except RefusalError as why:
        if not outside or why.refusal.reason not in (Reason.ACROSS, Reason.ROW_KIND):
            raise
        raise RefusalError(replace(why.refusal, hint=_OLD_CHANGE)) from None


def with_tables(analysis: Analysis, space: Space) -> Space:
    """With the tables that are tied to a weight of the space, so that they stay tied."""
    labels = dict(space.labels)
    for (tensor, use, dim), own in space.labels.items():
        if use is not None and tensor in analysis.model.leaves:
            labels |= {axis: own for axis in _picked(analysis, tensor, dim) if axis not in labels}
    return replace(space, labels=labels)


def touches(analysis: Analysis, space: Space) -> set[str]:
    """Which kinds of interface a space has axes of: `input`, `output`."""
    return {k for axis in space.labels if axis[1] is None for k in _kinds(analysis, axis)}


def check(analysis: Analysis, growth: Growth) -> None:
    """Refuse a growth after which what stood on the interface would not be as it was."""
    space = growth.space
    for axis, labels in space.labels.items():
        if axis[1] is None and any(_kinds(analysis, axis)) and _misdeclared(analysis, axis[0]):
            why, hint = "the file declares another rank", "export the model again"
            raise RefusalError(Refusal(Reason.UNKNOWN_SHAPE, axis[0], axis[::2], why, hint))
        first = growth.layout.source[axis][: len(labels)]
        if any(_kinds(analysis, axis)) and not np.array_equal(first, range(len(labels))):
            why, hint = "the old positions would not stay first", "name a layer inside"
            raise RefusalError(Refusal(Reason.MISALIGNED, axis[0], axis[::2], why, hint))
    if "output" not in touches(analysis, space):
        return
    for (index, use), carried in space.passages.items():
        node = analysis.model.nodes[index]
        for f in carried if use is None else ():
            entry = next((e for e in f.at if e[0] < 0), None)
            if entry is not None and f.role not in ("parallel", "mean"):
                axis = (node.outputs[-1 - entry[0]], None, entry[1])
                raise RefusalError(Refusal(Reason.ACROSS, node.name, axis[::2], node.op))


def _misdeclared(analysis: Analysis, tensor: str) -> bool:
    """Whether an input or output is declared with another rank than it has here."""
    info, shape = analysis.model.infos.get(tensor), analysis.first.shapes.get(tensor)
    if info is None or shape is None or not info.type.tensor_type.HasField("shape"):
        return False
    return len(info.type.tensor_type.shape.dim) != len(shape)


def changed(analysis: Analysis, growth: Growth) -> tuple[InterfaceChange, ...]:
    """The axes of the interface that a growth changes."""
    if not analysis.interface_may_grow:
        return ()
    found: dict[InterfaceChange, None] = {}
    for axis, labels in growth.space.labels.items():
        tensor, _, dim = axis
        sizes = dim, len(labels), len(growth.layout.source[axis])
        for kind in _kinds(analysis, axis):
            found[InterfaceChange(kind, tensor, *sizes)] = None
    return tuple(found)


def _kinds(analysis: Analysis, axis: Axis) -> Iterator[str]:
    """What of the interface an axis belongs to: an input, an output, a table."""
    tensor, use, dim = axis
    if use is not None:
        yield from ["table"] if axis in _picked(analysis, tensor, dim) else []
        return
    yield from ["input"] if tensor in analysis.model.inputs else []
    yield from ["output"] if tensor in analysis.model.outputs else []


def declaration(analysis: Analysis, changes: tuple[InterfaceChange, ...]) -> Edit:
    """The student's metadata that says how its teacher's interface lies in its own.

    An axis that had grown before keeps the smallest size that is known of it.
    """
    proto = analysis.model.proto
    said = next((_said(p.value) for p in proto.metadata_props if p.key == KEY), {})
    found: dict[str, dict[str, list[dict[str, int]]]] = {k: {} for k in _DECLARED}
    for c in changes:
        old = [e for e in said.get(f"{c.kind}s", {}).get(c.name, []) if e.get("axis") == c.axis]
        least = min([c.before, *(e["from"] for e in old if e.get("to") == c.before)])
        entry = {"axis": c.axis, "from": least, "to": c.after}
        found[f"{c.kind}s"].setdefault(c.name, []).append(entry)
    for kind, names in found.items():
        for name, entries in said.get(kind, {}).items():
            new = {e["axis"] for e in names.get(name, [])}
            kept = [e for e in entries if e["axis"] not in new]
            names.setdefault(name, []).extend(kept)
    return metadata_edit(proto, KEY, json.dumps(found, sort_keys=True))


def _said(text: str) -> dict[str, dict[str, list[Any]]]:
    """What an earlier growth declared; nothing where it is not of our form."""
    try:
        found = json.loads(text)
        for names in found.values():
            for entries in names.values():
                if not all(type(e[k]) is int for e in entries for k in ("axis", "from", "to")):
                    return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return dict(found)


def student_sizes(
    shapes: Mapping[str, tuple[int, ...]] | None, changes: tuple[InterfaceChange, ...]
) -> dict[str, tuple[int, ...]] | None:
    """The sizes that a user gave for the teacher's inputs, as the student's inputs have them."""
    if shapes is None:
        return None
    found = dict(shapes)
    for c in changes:
        if c.kind == "input" and c.name in found:
            sizes = list(found[c.name])
            sizes[c.axis] = c.after
            found[c.name] = tuple(sizes)
    return found
