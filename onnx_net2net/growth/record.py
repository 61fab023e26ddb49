"""The mapping file: which constants a plan changes and how, so that a checkpoint can follow.

`described` writes a plan down, `steps_of` reads it back. An array is replayed with
`Replay.grown`: the same draws as the student's, whatever the values.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

from onnx_net2net import __version__
from onnx_net2net.errors import UsageError
from onnx_net2net.files.archive import decoded, encoded, named
from onnx_net2net.files.patch import Insert
from onnx_net2net.files.source import Source
from onnx_net2net.growth.result import Result
from onnx_net2net.growth.widen.arrays import grown_array
from onnx_net2net.growth.widen.changes import Change
from onnx_net2net.growth.widen.scheme import Scheme
from onnx_net2net.growth.widen.units import Row, live
from onnx_net2net.typing import Array

_SCHEMA = "onnx-net2net/mapping/1"
Use = tuple[str, int]
"""A node (its name) and the input slot through which it reads a constant."""


@dataclass(frozen=True)
class Replay:
    """One constant that a step changes: `teacher` is its name before, `student` after.

    `before`: its shape in the teacher.
    `ring`: instead of a change, rows of zeros around each axis (kernel growth).
    `gradients`: how the gradient of a unit divides among its copies, "" where that depends
    on more than the unit (see `checkpoint.moments`).
    """

    teacher: str
    student: str
    before: tuple[int, ...]
    uses: frozenset[Use]
    change: Change
    kinds: tuple[Row, ...]
    scheme: Scheme
    ring: tuple[tuple[int, int], ...] = ()
    gradients: str = ""

    def grown(self, array: Array) -> Array:
        """What the step makes of an array in the constant's place."""
        if self.ring:
            return np.pad(array, self.ring)
        return grown_array(array, self.change, self.kinds, self.scheme, self.teacher)

    def live(self, dim: int) -> Array:
        """Which positions of a grown axis hold the teacher's units and copies of them."""
        return live(self.change.unit[dim], self.kinds)


@dataclass(frozen=True)
class StepRecord:
    """What one step changes: constants, new nodes with their constants, numbers in the graph."""

    verb: str
    tensors: tuple[Replay, ...] = ()
    inserted: Mapping[str, Array] = field(default_factory=dict)
    nodes: tuple[Mapping[str, Any], ...] = ()
    placed: Mapping[str, Any] = field(default_factory=dict)
    attributes: tuple[Mapping[str, Any], ...] = ()
    literals: tuple[Mapping[str, Any], ...] = ()


def described(source: Source, student: Source, results: Iterable[Result]) -> dict[str, Any]:
    """A plan as a JSON object.

    Args:
        source, student: the models before and after.
        results: of the verbs, in order.
    """
    return {
        "schema": _SCHEMA,
        "tool": f"onnx-net2net {__version__}",
        "teacher": identity(source),
        "student": identity(student),
        "steps": [_recorded(r) for r in results],
    }


def identity(source: Source) -> dict[str, Any]:
    """What tells a model from others: file name, size, and a digest of all but the weights."""
    name = source.path.name if source.path is not None else None
    return {"file": name, "bytes": source.size, "structure": structure(source.proto)}


def structure(proto: ModelProto) -> str:
    """A digest of nodes, names and shapes; the values of weights do not count."""
    digest = hashlib.sha256()
    for t in proto.graph.initializer:
        digest.update(repr((t.name, list(t.dims), t.data_type)).encode())
    for n in proto.graph.node:
        digest.update(repr((n.op_type, n.domain, n.name, list(n.input), list(n.output))).encode())
    return digest.hexdigest()


def _recorded(result: Result) -> dict[str, Any]:
    found = result.record()
    nodes, tensors = _inserts(result.patch)
    made = {t["student"] for t in found["tensors"]}
    found["inserted"] = [_values(t) for t in tensors if t.name not in made]
    return {**found, "nodes": [_node(n) for n in nodes]}


def _inserts(patch: Iterable[Any]) -> tuple[list[NodeProto], list[TensorProto]]:
    messages = [m for edit in patch if isinstance(edit, Insert) for m in edit.messages]
    nodes = [m for m in messages if isinstance(m, NodeProto)]
    return nodes, [m for m in messages if isinstance(m, TensorProto)]


def _node(node: NodeProto) -> dict[str, Any]:
    skipped = (AttributeProto.GRAPH, AttributeProto.GRAPHS, AttributeProto.TENSOR)
    values = {
        a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if a.type not in skipped
    }
    return {
        "name": node.name or next(iter(node.output), ""),
        "op": f"{node.domain}.{node.op_type}" if node.domain else node.op_type,
        "inputs": list(node.input),
        "outputs": list(node.output),
        "attributes": {k: _plain(v) for k, v in values.items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return list(value) if not isinstance(value, (int, float, str)) else value


def _values(tensor: TensorProto) -> dict[str, Any]:
    """A new constant: one number, an identity, or all of its values."""
    array = onnx.numpy_helper.to_array(tensor)
    found: dict[str, Any] = {
        "name": tensor.name, "shape": list(array.shape), "dtype": array.dtype.name,
    }  # fmt: skip
    flat = np.ascontiguousarray(array).reshape(-1)
    if array.size and array.dtype.kind in "fiu" and (flat == flat[0]).all():
        return {**found, "kind": "fill", "value": flat[0].item()}
    if np.array_equal(array, _identity(array.shape, array.dtype)):
        return {**found, "kind": "identity"}
    return {**found, "kind": "values", **encoded(array)}


def _identity(shape: tuple[int, ...], dtype: Any) -> Array:
    """Each output the input of its place (within its group), at the centre of the window."""
    found = np.zeros(shape, dtype)
    if len(shape) >= 2:
        centre = tuple((k - 1) // 2 for k in shape[2:])
        for k in range(shape[0]):
            found[(k, k % shape[1], *centre)] = 1
    return found


def _restored(entry: Mapping[str, Any]) -> Array:
    shape = tuple(entry["shape"])
    if entry["kind"] == "fill":
        return np.full(shape, entry["value"], named(entry["dtype"]))
    if entry["kind"] == "identity":
        return _identity(shape, named(entry["dtype"]))
    return decoded(entry)


def load(mapping: Any) -> dict[str, Any]:
    """A mapping from a file, a plan, or what a file holds.

    Raises:
        UsageError: something else. FileNotFoundError: no such file.
    """
    if hasattr(mapping, "described"):
        return dict(mapping.described())
    if isinstance(mapping, Mapping):
        found: Any = mapping
    else:
        try:
            found = json.loads(Path(mapping).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as why:
            raise UsageError(
                f"'{mapping}' is no mapping file: {why}", "--save-mapping writes one"
            ) from None
    if not isinstance(found, Mapping) or found.get("schema") != _SCHEMA:
        said = found.get("schema") if isinstance(found, Mapping) else type(found).__name__
        raise UsageError(
            f"expected a mapping with schema '{_SCHEMA}', not {said!r}", "--save-mapping writes one"
        )
    return dict(found)


def steps_of(mapping: Mapping[str, Any]) -> list[StepRecord]:
    """The steps of a mapping, ready to be replayed; raises UsageError where it is broken."""
    try:
        return [_read_step(s) for s in mapping["steps"]]
    except (LookupError, TypeError, AttributeError, ValueError) as why:
        broken = f"the mapping is broken: {type(why).__name__} {why}"
        raise UsageError(broken, "--save-mapping writes one") from None


def _read_step(entry: Mapping[str, Any]) -> StepRecord:
    scheme = Scheme.recorded(entry["scheme"]) if "scheme" in entry else Scheme()
    kinds = tuple(Row(k) for k in entry["units"]["kind"]) if "units" in entry else ()
    return StepRecord(
        entry["verb"],
        tuple(_read_tensor(t, kinds, scheme, _gradients(entry, scheme)) for t in entry["tensors"]),
        {t["name"]: _restored(t) for t in entry["inserted"]},
        tuple(entry["nodes"]),
        entry.get("placed", {}),
        tuple(entry["attributes"]),
        tuple(entry["literals"]),
    )


def _gradients(entry: Mapping[str, Any], scheme: Scheme) -> str:
    """How gradients divide among copies in a step, where the shares alone decide it.

    A norm over the copies mixes their gradients, so they must all have the same share.
    """
    split = scheme.split
    if split == "zero-sum" and not any(
        a["shares"] for t in entry["tensors"] for a in t.get("axes", ())
    ):
        return "even"  # factors in the graph divide, and they are even
    return split if split == "even" or (split == "one-hot" and not entry.get("uniform")) else ""


def _read_tensor(
    entry: Mapping[str, Any], kinds: tuple[Row, ...], scheme: Scheme, gradients: str
) -> Replay:
    uses = frozenset((str(n), int(s)) for n, s in entry["uses"])
    of = entry["teacher"], entry["student"], tuple(entry.get("before", ())), uses
    if "ring" in entry:
        ring = tuple((int(a), int(b)) for a, b in entry["ring"])
        return Replay(*of, Change({}, {}), kinds, scheme, ring)
    found = {a["axis"]: a for a in entry["axes"]}
    flags = entry["flags"]
    change = Change(
        {d: np.asarray(a["source"], np.int64) for d, a in found.items()},
        {d: np.asarray(a["unit"], np.int64) for d, a in found.items()},
        tuple(d for d, a in found.items() if a["shares"] is not None),
        {
            d: (np.asarray(a["grouped"]["source"]), np.asarray(a["grouped"]["unit"]))
            for d, a in found.items()
            if "grouped" in a
        },
        **{**flags, "pads": {d: Row(fill) for d, fill in flags.get("pads", [])}},
    )
    return Replay(*of, change, kinds, scheme, (), gradients)


def new_rows(steps: Iterable[StepRecord]) -> dict[str, dict[int, list[int]]]:
    """Constant -> {axis: positions that are new}, in the numbering after the last step."""
    found: dict[str, dict[int, Array]] = {}
    for replay in (r for step in steps for r in step.tensors):
        before = found.get(replay.teacher, {})
        after = found[replay.student] = dict(before)
        for axis, source in replay.change.source.items():
            old = before.get(axis, np.zeros(int(source.max(initial=0)) + 1, bool))
            after[axis] = (replay.change.unit[axis] >= 0) | old[source]
        for axis, (front, behind) in enumerate(replay.ring):
            if front or behind:
                old = before.get(axis, np.zeros(replay.before[axis], bool))
                after[axis] = np.pad(old, (front, behind), constant_values=True)
    return {
        name: {axis: np.flatnonzero(new).tolist() for axis, new in sorted(axes.items())}
        for name, axes in found.items()
    }


def save(mapping: Mapping[str, Any], path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write a mapping, whole or not at all; raises FileExistsError without `force`.

    Args:
        mapping: as `described` gives it.
        path: the file.
        force: replace a file that is there.
    """
    from onnx_net2net.files import writer as saving
    from onnx_net2net.files.rope import Rope, memory

    saving.check(Path(path), set(), force=force)
    saving.write(Rope([memory(json.dumps(mapping).encode())]), Path(path))
