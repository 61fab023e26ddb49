"""The mechanical attack on the certificate: what it names alike must be computed alike.

A case of an operator is drawn twice, as teacher and student: its operands' axes hold copies in
other orders, copies are multiplied, weights are drawn alike. The certificate names the elements
of both results, a runtime computes them; elements of one name must hold one number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_net2net.errors import Net2NetError
from onnx_net2net.graph.model import Model
from onnx_net2net.inference.input_sizes import inference_of
from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.constants import computed_constants
from onnx_net2net.verification.certificate.domain import Const, Term
from onnx_net2net.verification.certificate.names import ZERO, Labels, content_name, mix
from onnx_net2net.verification.certificate.registry import Registry
from onnx_net2net.verification.certificate.trial import Trial
from onnx_net2net.verification.sides import Side, Sides
from support.single_node import Case, Operand

_CHOICES: dict[str, list[Any]] = {
    "auto_pad": ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"],
    "mode": ["linear", "nearest", "cubic", "bilinear", "bicubic", "constant", "reflect", "edge",
             "wrap", "DCR", "CRD", "avg", "max"],
    "coordinate_transformation_mode": ["half_pixel", "asymmetric", "align_corners",
                                       "pytorch_half_pixel", "half_pixel_symmetric"],
    "nearest_mode": ["round_prefer_floor", "floor", "ceil", "round_prefer_ceil"],
    "padding_mode": ["zeros", "border", "reflection"],
    "reduction": ["none", "add", "mul", "min", "max"],
    "direction": ["forward", "reverse", "bidirectional", "LEFT", "RIGHT"],
    "approximate": ["none", "tanh"],
    "activation": ["Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "Clip"],
    "keep_aspect_ratio_policy": ["stretch", "not_larger", "not_smaller"],
}  # fmt: skip
_FLAGS = (
    "align_corners allowzero ceil_mode interleaved is_causal keepdims largest layout "
    "noop_with_empty_axes periodic saturate sorted"
)
_RANGES = {name: [0, 1] for name in _FLAGS.split()}
_FATAL = ("num_outputs",)
"""Attributes of which a wrong value ends the process that runs it."""
_NUMBERS = {onnx.AttributeProto.INT: [0, 1, -1, 2], onnx.AttributeProto.FLOAT: [0.5, 0.0, 2.0]}
_FACTORS = np.array([0.0, 1.0, 1.0, 1.0, 2.0, 0.5])


@dataclass
class Found:
    """What an attack on a case found.

    Attributes:
        draws: pairs that were drawn, named and run.
        equal: elements with the name of another one.
        wrong: what was named alike and is not.
        shapes: where another shape was expected than a runtime gives.
    """

    draws: int = 0
    equal: int = 0
    wrong: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Drawn:
    """An operand as drawn: base -> copies along axes -> factors along one axis.

    Attributes:
        base: what goes in, or what the weight is made of.
        maps: axis -> which position of the base stands at each position.
        factors: (axis, numbers) that the operand is multiplied by.
        moved: (axis, from, to, how much): a share that one position gives to another.
    """

    base: Array
    constant: bool
    maps: Mapping[int, Array]
    factors: tuple[int, Array] | None = None
    moved: tuple[int, int, int, Any] | None = None

    @property
    def array(self) -> Array:
        """The operand itself."""
        found = self.base
        for axis, where in self.maps.items():
            found = np.take(found, where, axis)
        if self.moved is not None:
            axis, start, end, much = self.moved
            found = found.copy()
            slices = np.moveaxis(found, axis, 0)
            slices[start] -= much
            slices[end] += much
        if self.factors is None:
            return found
        return np.asarray(found * self.spread).astype(found.dtype)

    @property
    def spread(self) -> Array:
        """The factors, laid along their axis."""
        assert self.factors is not None
        axis, numbers = self.factors
        return numbers.reshape([-1 if k == axis else 1 for k in range(self.base.ndim)])


def attack(case: Case, rng: np.random.Generator, draws: int) -> Found:
    """Draw pairs of a case until `draws` of them ran, or most attempts failed."""
    found = Found()
    for _ in range(3 * draws):
        if found.draws >= draws or len(found.wrong) > 2:
            break
        drawn = _varied(case, rng)
        try:
            pair = _pair(drawn, rng)
            with np.errstate(all="ignore"):
                values = [drawn.run([o and o.array for o in side]) for side in pair]
        except Exception:  # whatever runtimes raise for what they do not take
            continue
        try:
            with np.errstate(all="ignore"):
                names = _named(drawn, *pair)
        except Net2NetError:
            continue
        found.draws += 1
        _judged(found, str(drawn), names, values)
    return found


def folded(case: Case, rng: np.random.Generator, draws: int) -> list[str]:
    """Where constants are folded to something else than a runtime computes of them."""
    wrong = []
    for _ in range(draws):
        drawn = _varied(case, rng)
        try:
            with np.errstate(all="ignore"):
                wanted = drawn.run(drawn.arrays)
                node = Model(drawn.model(drawn.arrays, drawn.attributes)).nodes[0]
                found = computed_constants(node, drawn.arrays)
        except Exception:  # whatever runtimes raise for what they do not take, and UnknownError
            continue
        for a, b in zip(wanted, found, strict=False):
            if a.dtype.kind in "fiub" and not _alike(a, b):
                wrong.append(str(drawn))
    return wrong


def _alike(a: Array, b: Array) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    x, y = a.astype(np.float64), b.astype(np.float64)
    return bool(np.allclose(x, y, rtol=1e-3, atol=1e-4, equal_nan=True))


def _varied(case: Case, rng: np.random.Generator) -> Case:
    """The case at another version of its operator, and with another attribute."""
    domain, _, name = case.op.rpartition(".")
    if domain:
        schema = None
    else:
        since = [s.since_version for s in onnx.defs.get_all_schemas_with_history()
                 if s.name == name and s.domain == "" and 7 <= s.since_version <= 25]  # fmt: skip
        opset = int(rng.choice([case.opset, *since]))
        case = replace(case, opset=opset)
        if not onnx.defs.has(name, opset, ""):
            return case
        schema = onnx.defs.get_schema(name, opset, "")
    if rng.random() < 0.5:
        return case
    kinds = {n: a.type.value for n, a in schema.attributes.items()} if schema else {}
    options = {n: ({**_CHOICES, **_RANGES}).get(n, _NUMBERS.get(k, [])) for n, k in kinds.items()}
    options |= {n: [not v] for n, v in case.attributes.items() if v in (0, 1)}
    options = {n: v for n, v in sorted(options.items()) if v and n not in _FATAL}
    if not options:
        return case
    changed = str(rng.choice(list(options)))
    value = options[changed][int(rng.integers(len(options[changed])))]
    value = int(value) if isinstance(value, bool | np.integer) else value
    return replace(case, attributes={**case.attributes, changed: value})


def _pair(case: Case, rng: np.random.Generator) -> tuple[list[Drawn | None], list[Drawn | None]]:
    """The case's operands twice, with copies along their axes."""
    sizes = {d for o in case.operands if o is not None for d in o.value.shape}
    shared = {d: _map(d, rng) for d in sorted(sizes)}
    orders = {d: _order(d, rng) for d in shared}
    grown = {d for d in shared if rng.random() < 0.15}
    for d in grown:
        orders[d] = np.concatenate([orders[d], rng.integers(0, d, 1)])
    one: list[Drawn | None] = []
    two: list[Drawn | None] = []
    turned = rng.random() < 0.2
    for o in case.operands:
        if o is None:
            one.append(None)
            two.append(None)
            continue
        constant = o.constant != (turned and o.value.dtype.kind == "f" and rng.random() < 0.5)
        whole = o.constant and o.value.dtype.kind in "iub" and o.value.ndim < 2
        base = o.value if o.constant else _again(o.value, rng)
        maps, others = {}, {}
        for axis, d in enumerate(() if whole else o.value.shape):
            own = rng.random() < 0.1
            maps[axis] = _map(d, rng) if own else shared[d]
            others[axis] = maps[axis][orders[d]]
        factors = None if constant or whole else _factors(base, rng)
        same = None if factors is None else (factors[0], factors[1][orders[len(factors[1])]])
        one.append(Drawn(base, constant, maps, factors))
        moved = _moved(base, others, rng) if constant and not whole else None
        two.append(Drawn(base, constant, others, same, moved))
    return one, two


def _map(d: int, rng: np.random.Generator) -> Array:
    how = rng.random()
    if how < 0.3 or d == 0:
        return np.arange(d)
    return rng.integers(0, d if how < 0.7 else max(1, d // 2), d)


def _order(d: int, rng: np.random.Generator) -> Array:
    """Where the student's positions lie in the teacher's: all of them, or some several times."""
    how = rng.random()
    if how < 0.2:
        return np.arange(d)
    return rng.permutation(d) if how < 0.8 or d == 0 else rng.integers(0, d, d)


def _moved(
    base: Array, maps: Mapping[int, Array], rng: np.random.Generator
) -> tuple[int, int, int, Any] | None:
    """A share that goes from one copy to another."""
    if base.dtype.kind not in "fi" or not base.ndim or rng.random() < 0.5:
        return None
    axis = int(rng.integers(base.ndim))
    where = maps[axis]
    copies = [(p, q) for p in range(len(where)) for q in range(p) if where[p] == where[q]]
    if not copies:
        return None
    start, end = copies[int(rng.integers(len(copies)))]
    return axis, start, end, base.dtype.type(2)


def _again(array: Array, rng: np.random.Generator) -> Array:
    """Other data of the same kind: the same numbers in another order."""
    return rng.permutation(array.reshape(-1)).reshape(array.shape)


def _factors(base: Array, rng: np.random.Generator) -> tuple[int, Array] | None:
    if base.dtype != np.float32 or not base.ndim or rng.random() < 0.6:
        return None
    axis = int(rng.integers(base.ndim))
    return axis, rng.choice(_FACTORS, base.shape[axis]).astype(base.dtype)


def _named(
    case: Case, one: list[Drawn | None], two: list[Drawn | None]
) -> list[list[tuple[Labels | None, Term]]]:
    """The certificate's terms for both sides' outputs, with a name for each element."""
    sides = Sides(*(Side.of(_model(case, side)) for side in (one, two)))
    teacher = sides.teacher
    facts = inference_of(teacher.source, teacher.model).run(
        {n: teacher.model.infos[n].type for n in teacher.model.inputs}
    )
    found = Trial(sides, (), Registry(lambda node, slots: False)).at(facts)
    assert found is not None
    outputs = [f"y{k}" for k in range(case.outputs)]
    both = found.before, found.after
    return [[(_elements(e.term(o)), e.term(o)) for o in outputs] for e in both]


def _elements(term: Term) -> Labels | None:
    """A name for each element, None where they have none."""
    if isinstance(term, Const):
        return mix(content_name(term.array()), np.arange(term.size, dtype=np.uint64))
    if term.labels is None:
        return None
    x = term.settled()
    rank = len(x.axes)
    grids = [v.reshape([-1 if j == k else 1 for j in range(rank)]) for k, v in enumerate(x.axes)]
    names = mix(x.tag, *grids) if grids else mix(x.tag)
    zero = np.logical_or.reduce([np.broadcast_to(g == ZERO, names.shape) for g in grids] or [False])
    return np.where(zero, ZERO, names).reshape(-1)


def _model(case: Case, operands: list[Drawn | None]) -> onnx.ModelProto:
    """The node behind nodes that make its operands."""
    proto = case.model([None if o is None else o.array for o in operands], case.attributes)
    nodes, inputs, held = [], [], []
    for k, o in enumerate(operands):
        if o is None:
            continue
        if o.constant:
            held.append(numpy_helper.from_array(np.asarray(o.array, order="C"), f"x{k}"))
            continue
        kind = helper.np_dtype_to_tensor_dtype(o.base.dtype)
        steps: list[tuple[str, Array, dict[str, Any]]] = [
            ("Gather", np.asarray(where), {"axis": axis}) for axis, where in o.maps.items()
            if not np.array_equal(where, np.arange(o.base.shape[axis]))
        ]  # fmt: skip
        steps += [("Mul", o.spread, {})] if o.factors is not None else []
        at = f"i{k}" if steps else f"x{k}"
        inputs.append(helper.make_tensor_value_info(at, kind, o.base.shape))
        for j, (op, other, attributes) in enumerate(steps):
            to = f"x{k}" if j == len(steps) - 1 else f"x{k}.{j}"
            nodes.append(helper.make_node(op, [at, f"{to}.c"], [to], **attributes))
            held.append(numpy_helper.from_array(np.asarray(other, order="C"), f"{to}.c"))
            at = to
    graph = helper.make_graph([*nodes, *proto.graph.node], "g", inputs, proto.graph.output, held)
    return helper.make_model(graph, opset_imports=proto.opset_import, ir_version=8)


def _judged(
    found: Found, what: str, names: list[list[tuple[Labels | None, Term]]],
    values: list[list[Array]],
) -> None:  # fmt: skip
    """Compare elements of one name, of either side and any output."""
    flat: list[tuple[Labels, Array]] = []
    for side, arrays in zip(names, values, strict=True):
        for (labels, _), array in zip(side, arrays, strict=False):
            if labels is None or array.dtype.kind not in "fiub":
                continue
            if len(labels) != array.size:
                found.shapes.append(f"{what}: {list(array.shape)}")
                return
            flat.append((labels, array.reshape(-1).astype(np.float64)))
    if not flat:
        return
    labels, numbers = (np.concatenate(v) for v in zip(*flat, strict=True))
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    found.equal += len(labels) - len(first)
    wanted = np.where(labels == ZERO, 0.0, numbers[first[inverse]])
    finite = np.abs(numbers[np.isfinite(numbers)])
    close = np.isclose(numbers, wanted, rtol=1e-4, atol=1e-5 * float(finite.max(initial=1.0)))
    close |= np.isnan(numbers) | np.isnan(wanted)  # 0 / 0 by rounding
    if not close.all():
        k = int(np.flatnonzero(~close)[0])
        found.wrong.append(f"{what}: {numbers[k]} is named as {wanted[k]}")


__all__ = ["Case", "Found", "Operand", "attack", "folded"]
