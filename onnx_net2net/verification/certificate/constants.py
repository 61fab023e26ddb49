"""Constants of both models under common names, and what is computed from constants alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from onnx_net2net.graph.model import Leaf, Node
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.domain import Const, UnknownError
from onnx_net2net.verification.certificate.names import key
from onnx_net2net.verification.sides import Side, Sides

_SMALL = 1 << 16


class Constants:
    """Constants of one model; equal bytes have equal names in both models.

    `attributes`: a node's index -> what its attributes hold, once that was read.
    """

    def __init__(self, sides: Sides, side: Side, teacher: Constants | None = None) -> None:
        self._sides, self._side, self._teacher = sides, side, teacher
        self.attributes: dict[int, dict[str, Any]] = {}
        self._leaves: dict[str, Const | None] = {}
        self._alike: dict[tuple[int, tuple[int, ...]], list[Leaf]] = {}
        if side is not sides.teacher:
            for leaf in sides.teacher.model.leaves.values():
                self._alike.setdefault((leaf.dtype, leaf.shape), []).append(leaf)

    def leaf(self, leaf: Leaf) -> Const | None:
        """An initializer or Constant node; None for strings and sparse values."""
        if leaf.name not in self._leaves:
            if self._teacher is not None and self._sides.same(leaf.name):
                theirs = self._sides.teacher.model.leaves[leaf.name]
                self._leaves[leaf.name] = self._teacher.leaf(theirs)
            else:
                self._leaves[leaf.name] = self._named(leaf)
        return self._leaves[leaf.name]

    def _named(self, leaf: Leaf) -> Const | None:
        count = math.prod(leaf.shape)
        if count * 8 <= _SMALL:
            array = self._side.array(leaf)
            return None if array is None else Const.of(array)
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(leaf.dtype))
        return Const(
            self._name(leaf), leaf.shape, dtype, lambda: _must(self._side.array(leaf), leaf.name)
        )

    def _name(self, leaf: Leaf) -> int:
        """A large constant goes by the name of the teacher's that has the same bytes."""
        teacher = self._sides.teacher
        if self._side is teacher or self._sides.same(leaf.name):
            return key("leaf", leaf.name)
        if leaf.name not in teacher.model.leaves:
            for other in self._alike.get((leaf.dtype, leaf.shape), ()):
                if self._sides.alike(other, leaf):
                    return key("leaf", other.name)
        return key("student's leaf", leaf.name)

    def computed(self, name: int, node: Node, args: Sequence[Const | None]) -> list[Const]:
        """The outputs of a node whose inputs are constants.

        Raises:
            UnknownError: nothing here can compute the operator.
        """
        arrays = computed_constants(node, [None if a is None else a.array() for a in args])
        found = []
        for k, array in enumerate(arrays):
            if array.nbytes <= _SMALL:
                found.append(Const.of(array))
                continue

            def again(k: int = k) -> Array:
                return computed_constants(node, [None if a is None else a.array() for a in args])[k]

            found.append(Const(key(name, k), array.shape, array.dtype, again))
        return found


def _must(array: Array | None, name: str) -> Array:
    if array is None:
        raise UnknownError(f"constant '{name}' holds no numbers")
    return array


def computed_constants(node: Node, arrays: list[Array | None]) -> list[Array]:
    """What a node computes of constants; raises UnknownError where nothing here can tell."""
    row = TABLE.get(node.op)
    try:
        if node.op in _FOLDS:
            return [_FOLDS[node.op](node, *arrays)]
        if row is not None and row.fold is not None:
            with np.errstate(all="ignore"):
                return [np.asarray(r) for r in row.fold(node, list(arrays))]
        if node.op not in _READ_RIGHT:
            raise UnknownError("the reference evaluator is not trusted with it")
        return _referred(node, arrays)
    except Exception as why:  # numpy and the reference evaluator raise whatever they like
        raise UnknownError(f"{node.op} of constants: {why}") from None


def _dequantized(node: Node, x: Array, scale: Array, zero: Array | None = None) -> Array:
    """Integers as floats; the reference evaluator lacks the older versions."""
    if node.attr("block_size", 0):
        raise UnknownError("blocks of scales")
    shape = [1] * x.ndim
    if scale.size > 1:
        shape[int(node.attr("axis", 1))] = -1
    offset = 0 if zero is None else zero.astype(np.int32).reshape(shape)
    steps = (x.astype(np.int32) - offset).astype(scale.dtype)
    return np.asarray(steps * scale.reshape(shape))


# of others it gets old versions, attributes or groups wrong
_READ_RIGHT = frozenset(
    "Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot "
    "BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Compress Concat ConstantOfShape Cos Cosh "
    "CumSum DepthToSpace Det Div Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather "
    "GatherElements GatherND Gelu Gemm Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf "
    "IsNaN LeakyRelu Less LessOrEqual Log MatMul Max Mean Min Mish Mod Mul Neg NonZero Not OneHot "
    "Or PRelu Pad Pow QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum "
    "ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu "
    "Reshape Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin "
    "Sinh Size Slice Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh "
    "ThresholdedRelu Tile Transpose Trilu Unsqueeze Where Xor".split()
)


_FOLDS: dict[str, Callable[..., Array]] = {"DequantizeLinear": _dequantized}


def _referred(node: Node, arrays: list[Array | None]) -> list[Array]:
    """One node in onnx's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    feeds: dict[str, Any] = {}
    for k, array in enumerate(arrays):
        if array is not None:
            proto.input[k] = f"in{k}"
            feeds[f"in{k}"] = array
    infos = [onnx.helper.make_tensor_value_info(n, 0, None) for n in feeds]
    outs = [onnx.helper.make_tensor_value_info(o, 0, None) for o in proto.output if o]
    graph = onnx.helper.make_graph([proto], "constant", infos, outs)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid(proto.domain, node.version)]
    )
    return [np.asarray(r) for r in ReferenceEvaluator(model).run(None, feeds)]
