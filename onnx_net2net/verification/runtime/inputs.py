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
from onnx_net2net.graph.model import Model
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.typing import Array

Sizes = Mapping[str, "tuple[int, ...]"]
_PASSING = frozenset("Cast Identity Reshape Unsqueeze Squeeze Transpose Flatten Slice".split())
# values that are no index into a table: small, so that masks and ids both take them
_DEFAULT_LIMIT = 2


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


def random_feed(model: Model, at: Sizes, kind: str, seed: int, limits: Mapping[str, int]) -> Feed:
    """Random inputs of one kind (`normal` or `uniform`) that every machine draws alike.

    Raises:
        LookupError: an input that is no tensor.
    """
    values = {}
    for name in model.inputs:
        rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
        values[name] = _values(model, name, at[name], kind, rng, limits)
    return Feed(f"{kind} {Feed('', values).sizes}, seed {seed}", values)


def _values(
    model: Model, name: str, shape: tuple[int, ...], kind: str,
    rng: np.random.Generator, limits: Mapping[str, int],
) -> Array:  # fmt: skip
    t = model.infos[name].type
    if not t.HasField("tensor_type"):
        raise LookupError(f"input '{name}' is no tensor; give data with --inputs")
    if t.tensor_type.elem_type == onnx.TensorProto.STRING:
        return np.full(shape, "word", object)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(t.tensor_type.elem_type))
    if dtype.kind == "b":
        return rng.random(shape) < 0.75
    if dtype.kind in "iu":
        return rng.integers(0, limits.get(name, _DEFAULT_LIMIT), shape).astype(dtype)
    if kind == "uniform":
        return rng.random(shape).astype(dtype)
    noise = rng.standard_normal(shape)
    if len(shape) >= 3:  # a part that survives pooling, so that inputs differ behind it too
        noise += rng.standard_normal(shape[:2] + (1,) * (len(shape) - 2))
    return noise.astype(dtype)


def integer_limits(model: Model, facts: Facts) -> dict[str, int]:
    """How large the values of integer inputs may be: what they pick from has an end."""
    limits: dict[str, int] = {}
    for name in model.inputs:
        if facts.dtype(name) not in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
            continue
        found = list(_tables(model, facts, name))
        if found:
            limits[name] = max(1, min(found))
    return limits


def _tables(model: Model, facts: Facts, name: str) -> Iterator[int]:
    todo, seen = [name], set[str]()
    while todo:
        tensor = todo.pop()
        if tensor in seen:
            continue
        seen.add(tensor)
        for node, slot in model.readers.get(tensor, ()):
            if node.op == "Gather" and slot == 1:
                shape = facts.shapes.get(node.inputs[0])
                size = shape[int(node.attr("axis", 0))] if shape else None
                yield from [size] if size else []
            elif node.op == "OneHot" and slot == 0:
                depth = facts.values.get(node.inputs[1])
                yield from [] if depth is None else [int(depth.reshape(-1)[0])]
            elif node.op in _PASSING and slot == 0:
                todo += [o for o in node.outputs if o]


def save(feed: Feed, path: str | os.PathLike[str]) -> Path:
    """Write inputs as an .npz archive that `--inputs` reads; whole or not at all."""
    target, archive = Path(path), io.BytesIO()
    np.savez(archive, allow_pickle=False, **_plain(feed.values))
    write(Rope([memory(archive.getvalue())]), target)
    return target


def _plain(values: Mapping[str, Array]) -> dict[str, Any]:
    return {k.replace("/", "__SLASH__"): np.asarray(v) for k, v in values.items()}
