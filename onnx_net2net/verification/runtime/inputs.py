"""What the models are run on: the user's data, and random inputs at several sizes."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnx_net2net.errors import UsageError
from onnx_net2net.files.archive import archive
from onnx_net2net.files.rope import Rope, memory
from onnx_net2net.files.writer import write
from onnx_net2net.graph.model import Model, Node
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.typing import Array

Sizes = Mapping[str, "tuple[int, ...]"]
_PASSING = frozenset("Cast Identity Reshape Unsqueeze Squeeze Transpose Flatten Slice".split())
# values that are no index into a table: small, so that masks and ids both take them
_DEFAULT_LIMIT = 2
_WIDE = 64.0


@dataclass(frozen=True)
class Feed:
    """One set of inputs and where it comes from."""

    label: str
    values: Mapping[str, Array]

    @property
    def sizes(self) -> str:
        """The sizes of the inputs, as far as there are not many."""
        shapes = ["x".join(map(str, np.shape(v))) or "scalar" for v in self.values.values()]
        return ", ".join(dict.fromkeys(shapes[:4]))


def given(data: Any, model: Model) -> list[Feed]:
    """The user's inputs.

    Args:
        data: an .npz path, a mapping of arrays, a sequence of either, or None.

    Raises:
        UsageError: a name that the model does not have, or one that is missing.
    """
    if data is None:
        return []
    if isinstance(data, (str, os.PathLike)):
        return [Feed(Path(data).name, _checked(archive(str(data)), model))]
    if isinstance(data, Mapping):
        return [Feed("given", _checked(data, model))]
    if isinstance(data, Sequence):
        return [f for part in data for f in given(part, model)]
    raise UsageError("inputs must be an .npz path, a mapping of arrays or a list of these")


def _checked(data: Mapping[str, Any], model: Model) -> dict[str, Array]:
    # a zip entry cannot always hold a slash, so a few tools write it out
    values = {k.replace("__SLASH__", "/"): np.asarray(v) for k, v in data.items()}
    missing = sorted(set(model.inputs) - set(values))
    if missing:
        raise UsageError(
            f"the data holds nothing for input '{missing[0]}'",
            f"the model's inputs are {', '.join(model.inputs)}",
        )
    return {k: v for k, v in values.items() if k in model.inputs}  # labels may lie beside them


def random_feed(
    model: Model, at: Sizes, kind: str, seed: int, numbers: Mapping[str, Array]
) -> Feed:
    """Random inputs that every machine draws alike.

    Args:
        kind: `normal`, `uniform`, or `wide`: far beyond what is usual.
        numbers: integer input -> what it may hold; others hold what masks and small tables take.

    Raises:
        LookupError: an input that is no tensor.
    """
    values = {}
    for name in model.inputs:
        rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
        t = model.infos[name].type
        if not t.HasField("tensor_type"):
            raise LookupError(f"input '{name}' is no tensor; give data with --inputs")
        values[name] = _values(t.tensor_type.elem_type, at[name], kind, rng, numbers.get(name))
    return Feed(f"{kind} {Feed('', values).sizes}, seed {seed}", values)


def _values(
    code: int, shape: tuple[int, ...], kind: str, rng: np.random.Generator, numbers: Array | None
) -> Array:
    if code == onnx.TensorProto.STRING:
        return np.full(shape, "word", object)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code))
    if dtype.kind == "b":
        return rng.random(shape) < 0.75
    if dtype.kind in "iu":
        return _integers(shape, rng, numbers).astype(dtype)
    if kind == "uniform":
        return rng.random(shape).astype(dtype)
    noise = rng.standard_normal(shape)
    if len(shape) >= 3:  # a part that survives pooling, so that inputs differ behind it too
        noise += rng.standard_normal(shape[:2] + (1,) * (len(shape) - 2))
    return (noise * (_WIDE if kind == "wide" else 1)).astype(dtype)


def _integers(shape: tuple[int, ...], rng: np.random.Generator, numbers: Array | None) -> Array:
    if numbers is not None:
        return np.asarray(numbers[rng.integers(0, len(numbers), shape)])
    found = rng.integers(0, _DEFAULT_LIMIT, shape)
    if len(shape) > 1:  # were it a mask, something must be left of each row
        found[..., :1] = 1
    return found


def integer_numbers(model: Model, facts: Facts) -> list[dict[str, Array]]:
    """What integer inputs may hold, in several ways: all that tables take; what they are
    compared with, as a sampling rate is; zeros."""
    whole = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    names = [n for n in model.inputs if facts.dtype(n) in whole]
    readers = {n: list(_readers(model, n)) for n in names}
    lengths = {n: [d for r in readers[n] for d in _table(*r, facts)] for n in names}
    indices = {n: np.arange(max(1, min(found))) for n, found in lengths.items() if found}
    compared = {n: _compared(readers[n], facts) for n in names if n not in indices}
    compared = {n: found for n, found in compared.items() if found.size}
    zeros = {n: np.zeros(1, int) for n in names}
    return [indices, *([indices | compared] if compared else []), zeros]


def _readers(model: Model, name: str) -> Iterator[tuple[Node, int]]:
    """What reads an input as it is: the node and its operand."""
    todo, seen = [name], set[str]()
    while todo:
        tensor = todo.pop()
        if tensor not in seen:
            seen.add(tensor)
            for node, slot in model.readers.get(tensor, ()):
                yield node, slot
                todo += [o for o in node.outputs if o and node.op in _PASSING and slot == 0]


def _table(node: Node, slot: int, facts: Facts) -> list[int]:
    """How many entries there are of which the operand picks some."""
    if node.op == "Gather" and slot == 1:
        shape = facts.shapes.get(node.inputs[0])
        size = shape[int(node.attr("axis", 0))] if shape else None
        return [size] if size else []
    if node.op == "OneHot" and slot == 0:
        depth = facts.values.get(node.inputs[1])
        return [] if depth is None else [int(depth.reshape(-1)[0])]
    return []


def _compared(readers: Sequence[tuple[Node, int]], facts: Facts) -> Array:
    """Single integers that stand beside an input."""
    values = [facts.values.get(t) for node, _ in readers for t in node.inputs]
    single = {
        int(v.item()) for v in values if v is not None and v.size == 1 and v.dtype.kind in "iu"
    }
    return np.array(sorted(n for n in single if n >= _DEFAULT_LIMIT), int)


def save(feed: Feed, path: str | os.PathLike[str]) -> Path:
    """Write inputs as an .npz archive that `--inputs` reads; whole or not at all."""
    target, archive = Path(path), io.BytesIO()
    np.savez(archive, allow_pickle=False, **_plain(feed.values))
    write(Rope([memory(archive.getvalue())]), target)
    return target


def _plain(values: Mapping[str, Array]) -> dict[str, Any]:
    """Under names and in types that need no pickle: strings are characters, not objects."""
    arrays = {k.replace("/", "__SLASH__"): np.asarray(v) for k, v in values.items()}
    return {k: v.astype(str) if v.dtype == object else v for k, v in arrays.items()}
