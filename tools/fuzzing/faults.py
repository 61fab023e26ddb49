"""Seeded faults: small changes to a model that a verifier must not call the same function.

Each takes the model, a random generator and a strength; the same generator at a larger
strength puts a larger fault into the same place, which tells a dead place from a quiet one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from tools.coverage.onnx_reading import all_graphs

Apply = Callable[[onnx.ModelProto, random.Random, float], bool]
FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE}


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        harmless: a control, which changes nothing and must not be reported.
        rounding: no larger than a rounding, so that it may be proved "to rounding".
    """

    apply: Apply
    harmless: bool = False
    rounding: bool = False


FAULTS: dict[str, Fault] = {}


def fault(harmless: bool = False) -> Callable[[Apply], Apply]:
    """Put a function into the table under its own name."""

    def put(apply: Apply) -> Apply:
        FAULTS[apply.__name__] = Fault(apply, harmless)
        return apply

    return put


def seeded(
    model: onnx.ModelProto, kind: str, seed: int, strength: float = 1.0
) -> onnx.ModelProto | None:
    """A copy with one fault; None where the model has no place for it."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    rng = random.Random(f"{kind} {seed}")
    placed = FAULTS[kind].apply(found, rng, strength) and found != model
    return found if placed else None


def nodes_of(model: onnx.ModelProto, *kinds: str) -> list[onnx.NodeProto]:
    graphs: list[Any] = [*all_graphs(model.graph), *model.functions]
    return [n for g in graphs for n in g.node if not kinds or n.op_type in kinds]


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in all_graphs(model.graph):
        yield from graph.initializer
    for node in nodes_of(model, "Constant"):
        yield from (a.t for a in node.attribute if a.type == AttributeProto.TENSOR)


def _weight(
    model: onnx.ModelProto, rng: random.Random, rank: int = 1, kinds: Any = None
) -> onnx.TensorProto | None:
    kinds = kinds or FLOATS
    found = [t for t in tensors_of(model) if t.data_type in kinds and len(t.dims) >= rank
             and np.prod(t.dims) > 1]  # fmt: skip
    return rng.choice(found) if found else None


def put_array(tensor: onnx.TensorProto, array: Any) -> bool:
    made = numpy_helper.from_array(np.ascontiguousarray(array), tensor.name)
    made.data_type = tensor.data_type
    same = made.raw_data == numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
    tensor.CopyFrom(made)
    return not same


def _place(array: Any, rng: random.Random) -> tuple[int, ...]:
    return tuple(rng.randrange(d) for d in array.shape)


def attribute_of(node: onnx.NodeProto, name: str) -> AttributeProto | None:
    return next((a for a in node.attribute if a.name == name), None)


def _set(node: onnx.NodeProto, name: str, value: Any) -> bool:
    old = attribute_of(node, name)
    if old is not None:
        node.attribute.remove(old)
    node.attribute.append(helper.make_attribute(name, value))
    return True


def one_of(nodes: list[onnx.NodeProto], rng: random.Random) -> onnx.NodeProto | None:
    return rng.choice(nodes) if nodes else None


# weights


def _edit(change: Callable[[Any, random.Random, float], Any], rank: int = 1) -> Apply:
    def apply(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
        tensor = _weight(model, rng, rank)
        if tensor is None:
            return False
        array = numpy_helper.to_array(tensor).copy()
        return put_array(tensor, change(array, rng, strength))

    return apply


def _entry(value: Callable[[Any, float], Any]) -> Callable[[Any, random.Random, float], Any]:
    def change(array: Any, rng: random.Random, strength: float) -> Any:
        place = _place(array, rng)
        array[place] = value(array[place], strength)
        return array

    return change


def _exchanged(axis: int) -> Callable[[Any, random.Random, float], Any]:
    def change(array: Any, rng: random.Random, strength: float) -> Any:
        n = array.shape[axis]
        a, b = rng.randrange(n), rng.randrange(n)
        order = list(range(n))
        order[a], order[b] = b, a
        return np.take(array, order, axis)

    return change


def _row(value: Callable[[Any], Any]) -> Callable[[Any, random.Random, float], Any]:
    def change(array: Any, rng: random.Random, strength: float) -> Any:
        k = rng.randrange(array.shape[0])
        array[k] = value(array[k])
        return array

    return change


def _last_row(array: Any, rng: random.Random, strength: float) -> Any:
    array[-1] = array[-1] * type(array.flat[0])(-1) + array.dtype.type(0.01 * strength)
    return array


def _turned(array: Any, rng: random.Random, strength: float) -> Any:
    return array.T if array.ndim == 2 and array.shape[0] == array.shape[1] else array


def _one_ulp(w: Any, strength: float) -> Any:
    return np.nextafter(w, w.dtype.type(np.inf)) if strength == 1 else w + w.dtype.type(1)


for _name, _change, _rank in [
    ("weight_sign", _entry(lambda w, s: -w), 1),
    ("weight_tenth_of_a_percent", _entry(lambda w, s: w * w.dtype.type(1 + 1e-3 * s)), 1),
    ("weight_one_ulp", _entry(_one_ulp), 1),
    ("weight_zero", _entry(lambda w, s: w * 0), 1),
    ("weight_small_added", _entry(lambda w, s: w + w.dtype.type(1e-4 * s)), 1),
    ("rows_exchanged", _exchanged(0), 2),
    ("columns_exchanged", _exchanged(1), 2),
    ("entries_of_a_vector_exchanged", _exchanged(0), 1),
    ("row_zero", _row(lambda r: r * 0), 2),
    ("row_negative", _row(lambda r: -r), 2),
    ("last_row_of_a_table", _last_row, 2),
    ("square_weight_transposed", _turned, 2),
    ("window_turned", lambda a, r, s: a[..., ::-1], 3),
]:
    FAULTS[_name] = Fault(_edit(_change, _rank), rounding=_name == "weight_one_ulp")


@fault()
def whole_number_off_by_one(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
    kinds = {onnx.TensorProto.INT64, onnx.TensorProto.INT32}
    found = [t for t in tensors_of(model) if t.data_type in kinds and np.prod(t.dims) > 0]
    if not found:
        return False
    tensor = rng.choice(found)
    array = numpy_helper.to_array(tensor).copy()
    array[_place(array, rng)] += rng.choice([-1, 1])
    return put_array(tensor, array)


@fault()
def quantised_weight_off_by_one(model: onnx.ModelProto, rng: random.Random, s: float) -> bool:
    tensor = _weight(model, rng, 1, {onnx.TensorProto.INT8, onnx.TensorProto.UINT8})
    if tensor is None:
        return False
    array = numpy_helper.to_array(tensor).copy()
    place = _place(array, rng)
    array[place] = array[place] + (1 if array[place] < 100 else -1) * min(int(s), 20)
    return put_array(tensor, array)


# attributes


def _floats(name: str, kinds: str, factor: float) -> Apply:
    def apply(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
        node = one_of(nodes_of(model, *kinds.split()), rng)
        if node is None:
            return False
        old = attribute_of(node, name)
        default = {"epsilon": 1e-5, "alpha": 0.01 if node.op_type == "LeakyRelu" else 1.0}
        value = old.f if old is not None else default.get(name, 1.0)
        return _set(node, name, float(value * factor))

    return apply


def _flag(name: str, kinds: str) -> Apply:
    def apply(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
        node = one_of(nodes_of(model, *kinds.split()), rng)
        if node is None:
            return False
        old = attribute_of(node, name)
        return _set(node, name, 1 - (old.i if old is not None else 0))

    return apply


def _word(name: str, kinds: str, words: str) -> Apply:
    def apply(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
        node = one_of([n for n in nodes_of(model, *kinds.split()) if attribute_of(n, name)], rng)
        if node is None:
            return False
        old = attribute_of(node, name)
        others = [w for w in words.split() if old is None or w.encode() != old.s]
        return _set(node, name, rng.choice(others))

    return apply


def _listed(name: str, kinds: str, change: Callable[[list[int]], list[int]]) -> Apply:
    def apply(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
        nodes = [n for n in nodes_of(model, *kinds.split()) if attribute_of(n, name)]
        node = one_of(nodes, rng)
        old = attribute_of(node, name) if node is not None else None
        if node is None or old is None:
            return False
        new = change(list(old.ints))
        return new != list(old.ints) and _set(node, name, new)

    return apply


def _axis(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
    kinds = ("Softmax", "LogSoftmax", "Concat", "Gather", "Split", "CumSum")
    nodes = [n for n in nodes_of(model, *kinds) if (attribute_of(n, "axis") or AttributeProto()).i]
    node = one_of(nodes, rng)
    return node is not None and _set(node, "axis", rng.choice([0, 1, 2]))


_POOLS = "MaxPool AveragePool Conv"
for _name, _apply in {
    "epsilon": _floats(
        "epsilon", "BatchNormalization LayerNormalization InstanceNormalization", 1e3
    ),
    "alpha": _floats("alpha", "LeakyRelu Elu HardSigmoid Gemm ThresholdedRelu Celu", 1.5),
    "beta_of_gemm": _floats("beta", "Gemm", 0.5),
    "ceil_mode": _flag("ceil_mode", "MaxPool AveragePool"),
    "count_include_pad": _flag("count_include_pad", "AveragePool"),
    "weight_read_transposed": _flag("transB", "Gemm"),
    "cumulative_sum_reversed": _flag("reverse", "CumSum"),
    "keepdims": _flag("keepdims", "ReduceMean ReduceSum ReduceMax ArgMax"),
    "auto_pad": _word("auto_pad", _POOLS, "SAME_UPPER SAME_LOWER VALID"),
    "pad_mode": _word("mode", "Pad", "constant edge reflect"),
    "resize_mode": _word("mode", "Resize Upsample", "nearest linear cubic"),
    "resize_coordinates": _word(
        "coordinate_transformation_mode", "Resize", "asymmetric half_pixel align_corners"
    ),
    "depth_to_space_mode": _word("mode", "DepthToSpace", "DCR CRD"),
    "direction": _word("direction", "LSTM GRU RNN", "forward reverse"),
    "pads_turned": _listed("pads", _POOLS, lambda v: v[len(v) // 2 :] + v[: len(v) // 2]),
    "dilation": _listed("dilations", "Conv", lambda v: [d + 1 for d in v]),
    "axes_exchanged": _listed("perm", "Transpose", lambda v: [*v[:-2], v[-1], v[-2]]),
    "split_sizes": _listed("split", "Split", lambda v: [v[0] + 1, v[1] - 1, *v[2:]]),
    "axis": _axis,
}.items():
    FAULTS[_name] = Fault(_apply)


@fault()
def clip_bound(model: onnx.ModelProto, rng: random.Random, strength: float) -> bool:
    node = one_of(nodes_of(model, "Clip"), rng)
    if node is None:
        return False
    bound = rng.choice(list(node.attribute) or [None])
    if bound is not None:
        bound.f = bound.f * 10 + 1
        return True
    names = {i for i in node.input[1:] if i}
    tensors = [t for t in tensors_of(model) if t.name in names]
    if not tensors:
        return False
    return put_array(tensors[0], numpy_helper.to_array(tensors[0]) * 10 + 1)


__all__ = [
    "FAULTS",
    "FLOATS",
    "Fault",
    "attribute_of",
    "fault",
    "nodes_of",
    "one_of",
    "put_array",
    "seeded",
    "tensors_of",
]
