"""What a step with pads does to norms, and to tables that make a stream and read it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx

from onnx_net2net.errors import Reason, Refusal, RefusalError
from onnx_net2net.growth.widen.changes import Growth
from onnx_net2net.growth.widen.normalised_axes import WHOLE
from onnx_net2net.growth.widen.units import Row
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.table import TABLE


def rescale_norms(analysis: Analysis, growth: Growth) -> None:
    """Norms and averages whose statistics run over pads as well."""
    padding = growth.units.padding
    for index, part in padding.parts.items() if padding is not None else ():
        node = analysis.model.nodes[index]
        slot = TABLE[node.op].rescaled
        if slot is None:
            if part != 1:
                growth.averages[index] = float(1 / part)
            continue
        epsilon = float(node.attr("epsilon", np.float32(1e-5))) * float(part)
        double = analysis.first.dtype(node.inputs[0]) == onnx.TensorProto.DOUBLE
        if double and float(np.float32(epsilon)) != epsilon:
            detail = f"the epsilon of {node.op} is a float32, not exact among float64"
            raise RefusalError(Refusal(Reason.NORMALISED, node.name, None, detail, WHOLE))
        growth.attributes[index, "epsilon"] = epsilon
        leaf = (node.inputs[slot], (index, slot))
        if leaf not in growth.constants:
            detail = f"the scale of {node.op} is computed"
            raise RefusalError(Refusal(Reason.NORMALISED, node.name, None, detail, WHOLE))
        growth.constants[leaf] = replace(growth.constants[leaf], scale=math.sqrt(part))


def keep_tied(analysis: Analysis, growth: Growth) -> None:
    """Keep a table tied that makes a stream and reads it: what meets zeros may be anything."""
    for (leaf, use), change in growth.constants.items() if growth.units.padding else ():
        new = [growth.units.kind[u] for unit in change.unit.values() for u in unit if u >= 0]
        if set(change.pads.values()) != {Row.FREE} or set(new) != {Row.PAD}:
            continue
        for (name, other), made in growth.constants.items():
            if name == leaf and other != use and not made.split:
                growth.constants[leaf, use] = replace(made)


__all__ = ["keep_tied", "rescale_norms"]
