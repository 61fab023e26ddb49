"""Graphs that no runtime runs: better said at once than found out as a strange refusal later."""

from __future__ import annotations

from typing import Any

import onnx

from onnx_net2net.errors import ModelError
from onnx_net2net.files.source import Source
from onnx_net2net.graph.model import Model, Node
from onnx_net2net.operators.factors import misfit
from onnx_net2net.operators.table import TABLE
from .input_sizes import Shapes, facts_of, inference_of
from .shapes import Facts, Inference

_HINT = "export the model again or run onnx.checker on it"


def checked(source: Source, model: Model, shapes: Shapes | None = None) -> tuple[Facts, Facts]:
    """The facts of a model as read, once it is known that a runtime would run it.

    Args:
        source: the model as read.
        model: its index.
        shapes: input name -> sizes that the user knows to work.

    Raises:
        ModelError: see `check`.
    """
    facts = facts_of(source, model, shapes)
    source.once(("checked", id(facts)), lambda: check(model, inference_of(source, model), facts))
    return facts


def check(model: Model, inference: Inference, facts: tuple[Facts, Facts]) -> None:
    """Look at every node's attributes and operands, and at sizes that no input can mend.

    Args:
        model: the index.
        inference: what computes its shapes.
        facts: at two sizes of the inputs.

    Raises:
        ModelError: a node that onnxruntime would refuse, too.
    """
    for name in model.inputs:
        t = model.infos[name].type
        if t.WhichOneof("value") is None or (
            t.HasField("tensor_type") and not t.tensor_type.elem_type
        ):
            raise ModelError(f"input '{name}' has no type", _HINT)
    if "" not in model.opsets and any("." not in node.op for node in model.nodes):
        raise ModelError("the model does not say which opset it is written in", _HINT)
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.proto.ir_version
    context.opset_imports = model.opsets
    for node in model.nodes:
        _check_node(model, node, context)
    if all(f.failed for f in facts):
        _check_failed(model, inference)
    for node in model.nodes:
        _check_sizes(node, facts)


def _check_node(model: Model, node: Node, context: Any) -> None:
    domain, _, op = node.op.rpartition(".")
    if not onnx.defs.has(op, node.version, domain) or node.called or node.bodies:
        return
    if any(a.HasField("t") for a in node.proto.attribute):
        return
    try:
        onnx.checker.check_node(node.proto, context)
    except onnx.checker.ValidationError as why:
        first = str(why).splitlines()[0]
        raise ModelError(f"node '{node.name}' is not valid: {first}", _HINT) from None


def _check_failed(model: Model, inference: Inference) -> None:
    """Nodes that fit no size: those that onnx rejects with all symbols open as well."""
    facts = inference.run({name: model.infos[name].type for name in model.inputs})
    for node in model.nodes:
        known = all(not t or facts.dtype(t) for t in node.inputs)
        row = TABLE.get(node.op)
        ours = row is not None and row.like  # onnx was asked about another operator
        if node.index in facts.failed and known and not node.scope and not ours:
            reason = facts.failed[node.index].splitlines()[0]
            raise ModelError(f"node '{node.name}' is not valid: {reason}", _HINT)


def _check_sizes(node: Node, facts: tuple[Facts, Facts]) -> None:
    row = TABLE.get(node.op)
    if row is None or row.notation is None:
        return
    try:
        found = misfit(row, facts[0].site(node))
        if not found or found != misfit(row, facts[1].site(node)):
            return
    except LookupError:  # a shape that is not known
        return
    raise ModelError(f"the operands of node '{node.name}' do not fit: {found}", _HINT)
