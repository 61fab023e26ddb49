"""Running teacher and student alike, and judging a difference by the teacher's own noise floor."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from tools.coverage.models import Feed
from tools.coverage.onnx_reading import Array, all_graphs

LIMIT = 8.0
# Where a peak is picked or a value compared, one ulp rarely moves anything and then much.
DRAWS = 24
Outputs = list[Any]


class Verdict(NamedTuple):
    """`deviation` as a share of the output's largest magnitude, `multiple` of the noise floor.

    `draws`: how often the floor was measured; 0: two ulp of the scale were enough.
    """

    deviation: float
    multiple: float
    draws: int

    @property
    def right(self) -> bool:
        return self.multiple <= LIMIT


def run(model: onnx.ModelProto, feeds: list[Feed], extra: list[str] | None = None) -> list[Outputs]:
    """All outputs for each input set: CPU, no optimisations, one thread.

    `extra` names inner tensors to be returned instead of the outputs.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    data = model.SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    del data
    return [session.run(extra, feed) for feed in feeds]


def inner_shapes(model: onnx.ModelProto, feed: Feed, names: list[str]) -> dict[str, Any]:
    """The shapes of inner tensors, by running the model with them as outputs."""
    before = len(model.graph.output)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        (values,) = run(model, [feed], names)
    finally:
        del model.graph.output[before:]
    return {n: v.shape for n, v in zip(names, values, strict=True) if isinstance(v, np.ndarray)}


def tensors(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Every stored tensor by name, initializers and Constants of all graphs and functions."""
    found: dict[str, onnx.TensorProto] = {}
    for graph in (*all_graphs(model.graph), *model.functions):
        if isinstance(graph, onnx.GraphProto):
            found.update({t.name: t for t in graph.initializer})
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
                found[node.output[0]] = node.attribute[0].t
    return found


def changed(teacher: onnx.ModelProto, student: onnx.ModelProto) -> set[str]:
    """The teacher's tensors that the student holds otherwise; all, if only copies were changed."""
    old, new = tensors(teacher), tensors(student)
    names = {n for n, t in old.items() if n not in new or not _equal(t, new[n])}
    return names or set(old)


def grew(teacher: onnx.ModelProto, student: onnx.ModelProto) -> bool:
    """Whether some stored tensor became larger or was added."""
    old, new = tensors(teacher), tensors(student)
    return any(n not in old or list(t.dims) != list(old[n].dims) for n, t in new.items())


def same_interface(teacher: onnx.ModelProto, student: onnx.ModelProto) -> bool:
    """Whether inputs (without initializers) and outputs are declared alike."""

    def declared(model: onnx.ModelProto) -> list[bytes]:
        fixed = {t.name for t in model.graph.initializer}
        inputs = [i for i in model.graph.input if i.name not in fixed]
        return [i.SerializeToString() for i in (*inputs, *model.graph.output)]

    return declared(teacher) == declared(student)


def _equal(a: onnx.TensorProto, b: onnx.TensorProto) -> bool:
    return list(a.dims) == list(b.dims) and a.SerializeToString() == b.SerializeToString()


class Teacher:
    """A model with its outputs at some inputs, kept in `cache` from one run to the next."""

    def __init__(self, model: onnx.ModelProto, cache: Path | None) -> None:
        self.model, self.cache = model, cache
        self.feeds: list[Feed] = []
        self.outputs: list[Outputs] = []
        self.key = ""
        if cache:
            self.key = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()[:24]

    def learn(self, feeds: list[Feed]) -> None:
        """Run at these inputs, or read what an earlier run left; keeps both."""
        place = self._place(feeds)
        if place and place.exists():
            with np.load(place) as file:
                counts = [int(n) for n in file["counts"]]
                flat = [file[f"y{k}"] for k in range(sum(counts))]
            stored = iter(flat)
            outputs = [[next(stored) for _ in range(n)] for n in counts]
        else:
            outputs = run(self.model, feeds)
            self._keep(place, outputs)
        self.feeds += feeds
        self.outputs += outputs

    def judge(self, student: onnx.ModelProto) -> Verdict:
        """Run the student at all inputs; the floor is measured only where it can decide.

        It is the largest move of the teacher over as many draws as it takes, at most DRAWS.
        """
        found = run(student, self.feeds)
        pairs = list(zip(self.outputs, found, strict=True))
        deviations = [_deviations(t, s) for t, s in pairs]
        floors = [[_least(y) for y in outputs] for outputs in self.outputs]
        multiple, draws = _worst(deviations, floors), 0
        names = changed(self.model, student) if multiple > LIMIT else set()
        while multiple > LIMIT and draws < DRAWS:
            moved = run(_perturbed(self.model, names, draws), self.feeds)
            for floor, t, m in zip(floors, self.outputs, moved, strict=True):
                floor[:] = [max(f, d) for f, d in zip(floor, _deviations(t, m), strict=True)]
            multiple, draws = _worst(deviations, floors), draws + 1
        return Verdict(max(d for ds in deviations for d in ds), multiple, draws)

    def _place(self, feeds: list[Feed]) -> Path | None:
        if not self.cache:
            return None
        digest = hashlib.sha256()
        for feed in feeds:
            for name in sorted(feed):
                digest.update(f"{name}{feed[name].dtype}{feed[name].shape}".encode())
                digest.update(np.ascontiguousarray(feed[name]).tobytes())
        return self.cache / f"{self.key}-{digest.hexdigest()[:16]}.npz"

    def _keep(self, place: Path | None, outputs: list[Outputs]) -> None:
        flat = [y for ys in outputs for y in ys]
        plain = all(isinstance(y, np.ndarray) and y.dtype.kind in "fiub" for y in flat)
        if not place or not plain or sum(y.nbytes for y in flat) > 2**26:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f"y{k}": y for k, y in enumerate(flat)}
        part = place.with_suffix(".part.npz")
        np.savez(part, counts=np.array([len(ys) for ys in outputs]), **arrays)
        part.replace(place)


def _worst(deviations: list[list[float]], floors: list[list[float]]) -> float:
    pairs = [
        (d, f)
        for ds, fs in zip(deviations, floors, strict=True)
        for d, f in zip(ds, fs, strict=True)
    ]
    return max((_ratio(d, f) for d, f in pairs), default=0.0)


def _ratio(deviation: float, floor: float) -> float:
    if deviation == 0:
        return 0.0
    if floor == float("inf"):
        # The teacher's own outputs change shape or kind with one ulp, as detections do.
        return 1.0
    return deviation / floor if floor else float("inf")


def _least(y: Any) -> float:
    """The floor that no measurement goes below: two ulp of the output's scale."""
    kind = getattr(y, "dtype", np.dtype("O"))
    return 2 * float(np.finfo(kind).eps) if kind.kind == "f" else 0.0


def _deviations(teacher: Outputs, student: Outputs) -> list[float]:
    return [_deviation(t, s) for t, s in zip(teacher, student, strict=True)]


def _deviation(t: Any, s: Any) -> float:
    """The largest difference as a share of the teacher's largest magnitude; inf: not comparable."""
    if not isinstance(t, np.ndarray) or t.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(np.asarray(t), np.asarray(s)) else float("inf")
    if t.shape != s.shape or t.dtype != s.dtype:
        return float("inf")
    a, b = t.astype(np.float64), s.astype(np.float64)
    finite = np.isfinite(a)
    if (
        not np.array_equal(a[~finite], b[~finite], equal_nan=True)
        or not np.isfinite(b[finite]).all()
    ):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(np.abs(a[finite]).max()) or 1.0
    return float(np.abs(a[finite] - b[finite]).max()) / scale


def _perturbed(model: onnx.ModelProto, names: set[str], draw: int) -> onnx.ModelProto:
    """A copy with every float entry of the named tensors one ulp up or down, zeros left alone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    rng = np.random.default_rng(draw)
    for name, tensor in tensors(copy).items():
        array: Array = numpy_helper.to_array(tensor)
        if name not in names or array.dtype.kind in "iubSUO" or array.size == 0:
            continue
        bits = array.copy().view(f"i{array.dtype.itemsize}") if array.ndim else None
        if bits is None:
            continue
        step = rng.integers(0, 2, bits.shape, dtype=np.int8) * 2 - 1
        bits += np.where(array == 0, 0, step).astype(bits.dtype)
        kind = tensor.data_type
        tensor.Clear()
        tensor.CopyFrom(onnx.TensorProto(name=name, data_type=kind, dims=array.shape))
        tensor.raw_data = bits.tobytes()
    return copy
