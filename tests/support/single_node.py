"""One operator as a model: its operands, the model around it, and how it is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_net2net.files.reader import read
from onnx_net2net.graph.model import Node
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.spec import Site
from onnx_net2net.typing import Array
from support.references import REFERENCES

ort.set_default_logger_severity(4)
OPTIONS = ort.SessionOptions()
OPTIONS.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
OPTIONS.intra_op_num_threads = OPTIONS.inter_op_num_threads = 1
OPTIONS.log_severity_level = 4


@dataclass(frozen=True)
class Operand:
    """An operand: `value`, and whether the model holds it as a constant."""

    value: Array
    constant: bool = False


def x(*shape: int, low: float = -2, high: float = 2, dtype: Any = "f4") -> Operand:
    """Data: random numbers, known at run time."""
    rng = np.random.default_rng(sum(d * 31**k for k, d in enumerate(shape)))
    if np.dtype(dtype).kind == "b":
        return Operand(rng.random(shape) < 0.5)
    if np.dtype(dtype).kind in "iu":
        return Operand(rng.integers(int(low), int(high) + 1, shape).astype(dtype))
    return Operand(rng.uniform(low, high, shape).astype(dtype))


def w(*shape: int, low: float = -2, high: float = 2, dtype: Any = "f4") -> Operand:
    """A weight: random numbers that the model holds."""
    return Operand(x(*shape, low=low, high=high, dtype=dtype).value, True)


def c(*values: Any, dtype: Any = "i8") -> Operand:
    """A small constant: one number alone is a scalar, `c([2])` a list."""
    return Operand(np.asarray(values[0] if len(values) == 1 else values, dtype), True)


@dataclass(frozen=True)
class Case:
    """One use of an operator.

    Args:
        roles: a letter per axis of each operand and result, see `letters`.
        operands: None where absent.
        refuses: the row says (by LookupError) that it does not apply.
    """

    op: str
    roles: str
    operands: tuple[Operand | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 18
    outputs: int = 1
    refuses: str = ""

    def __str__(self) -> str:
        shapes = [str(list(o.value.shape)) if o else "-" for o in self.operands]
        given = [f"{k}={v}" for k, v in self.attributes.items()]
        return f"{self.op}-{self.opset}({', '.join(shapes + given)})"

    @property
    def arrays(self) -> list[Array | None]:
        """The teacher's operands."""
        return [o.value if o else None for o in self.operands]

    @cached_property
    def proto(self) -> onnx.ModelProto:
        """The teacher."""
        return self.model(self.arrays, self.attributes)

    def model(
        self, arrays: Sequence[Array | None], attributes: Mapping[str, Any]
    ) -> onnx.ModelProto:
        """The node alone, with these operands."""
        domain, _, op = self.op.rpartition(".")
        names = [f"x{k}" if a is not None else "" for k, a in enumerate(arrays)]
        results = [f"y{k}" for k in range(self.outputs)]
        node = helper.make_node(op, names, results, name="node", domain=domain, **attributes)
        inputs, constants = [], []
        for name, a, o in zip(names, arrays, [*self.operands, None, None], strict=False):
            if a is None:
                continue
            if o is None or o.constant:
                constants.append(numpy_helper.from_array(np.asarray(a, order="C"), name))
            else:
                kind = helper.np_dtype_to_tensor_dtype(a.dtype)
                inputs.append(helper.make_tensor_value_info(name, kind, a.shape))
        outs = [helper.make_empty_tensor_value_info(r) for r in results]
        graph = helper.make_graph([node], "g", inputs, outs, constants)
        versions = {
            "": self.opset,
            "com.microsoft": 1,
            "ai.onnx.ml": 5 if self.op.endswith("TreeEnsemble") else 2,
        }
        opsets = [helper.make_opsetid(d, v) for d, v in versions.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    @cached_property
    def analysis(self) -> Analysis:
        """The teacher as the engine sees it."""
        return Analysis(read(self.proto))

    @property
    def node(self) -> Node:
        """The teacher's node."""
        return self.analysis.model.nodes[0]

    @property
    def site(self) -> Site:
        """The teacher's site."""
        return self.analysis.first.site(self.node)

    @cached_property
    def teacher(self) -> list[Array]:
        """What the teacher computes."""
        return self.run(self.arrays, self.attributes)

    def run(
        self, arrays: Sequence[Array | None], attributes: Mapping[str, Any] | None = None
    ) -> list[Array]:
        """Run the node in onnxruntime; in onnx's reference where there is no kernel."""
        model = self.model(arrays, self.attributes if attributes is None else attributes)
        feeds = {i.name: np.asarray(arrays[int(i.name[1:])]) for i in model.graph.input}
        if self.op in REFERENCES:
            given = self.attributes if attributes is None else attributes
            return REFERENCES[self.op]([a for a in arrays if a is not None], given)[: self.outputs]
        if not has_kernel(self):
            return [np.asarray(r) for r in ReferenceEvaluator(model).run(None, feeds)]
        session = ort.InferenceSession(
            model.SerializeToString(), OPTIONS, providers=["CPUExecutionProvider"]
        )
        return session.run(None, feeds)


@cache
def _runs(model: bytes) -> bool:
    try:
        ort.InferenceSession(model, OPTIONS, providers=["CPUExecutionProvider"])
    except Exception as why:  # onnxruntime's exceptions share no base
        if any(s in str(why) for s in ("NOT_IMPLEMENTED", "layout == 1) are not supported")):
            return False
        raise
    return True


def has_kernel(case: Case) -> bool:
    """Whether onnxruntime can run the teacher."""
    if case.op in REFERENCES:
        return False
    wide = any(o is not None and o.value.dtype == ml_dtypes.bfloat16 for o in case.operands)
    return not wide and _runs(case.proto.SerializeToString())


LETTERS = {
    "parallel": "p",
    "sum": "s",
    "mean": "m",
    "max": "x",
    "across": "-",
    "size": "-",
}


def letters(case: Case, factors: list[Factor]) -> str:
    """What each axis can do: `p`arallel, `s`ummed, `m`ean, ma`x`, `-` nothing.

    The letters of a product stand together in brackets; a scalar is `.`, absent is `_`.
    """

    def axes(slot: int, rank: int) -> str:
        found = ""
        for dim in range(rank):
            at = {LETTERS[f.role] for f in factors if (slot, dim) in f.at} - {"-"}
            found += "".join(at) if len(at) == 1 else f"({''.join(sorted(at))})" if at else "-"
        return found or "."

    ins = [axes(k, a.ndim) if a is not None else "_" for k, a in enumerate(case.arrays)]
    outs = [axes(-1 - k, a.ndim) for k, a in enumerate(case.teacher)]
    return f"{' '.join(ins)} > {' '.join(outs)}"


__all__ = [
    "LETTERS",
    "OPTIONS",
    "Case",
    "Operand",
    "TensorProto",
    "c",
    "has_kernel",
    "letters",
    "w",
    "x",
]
