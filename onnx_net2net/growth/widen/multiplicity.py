"""Operators that work along a grown axis, with copies made to count as one."""

from __future__ import annotations

import numpy as np

from onnx_net2net.coupling.space import Instance, axis_of
from onnx_net2net.errors import ANOTHER_LAYER, Reason, Refusal, RefusalError
from onnx_net2net.growth.widen.changes import Correction, Growth
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.spec import Evening
from onnx_net2net.operators.table import TABLE


def even_out(analysis: Analysis, growth: Growth) -> None:
    """Correct what a Softmax, a norm or a logarithm of sums would make of copies.

    Softmax of logits less log r, times r, is the teacher's for r copies of each.
    """
    for instance, carried in growth.space.passages.items():
        node = analysis.model.nodes[instance[0]]
        row = TABLE[node.op]
        for f in carried:
            evening = row.evening(analysis.first.site(node), f.name)
            if evening is None:
                continue
            outside = any(tensor in analysis.model.outputs for tensor, _, _ in growth.space.labels)
            if instance[1] is not None or growth.layout.joint is not None or outside:
                axis = axis_of(analysis, instance, min(f.at))[::2]
                raise RefusalError(Refusal(Reason.ACROSS, node.name, axis, node.op, ANOTHER_LAYER))
            growth.corrections += _corrections(analysis, growth, instance, f, evening)


def _corrections(
    analysis: Analysis, growth: Growth, instance: Instance, f: Factor, evening: Evening
) -> list[Correction]:
    found = []
    for entry in f.at:
        step = evening.before if entry[0] == 0 else evening.after if entry[0] == -1 else None
        source = growth.layout.source.get(axis_of(analysis, instance, entry))
        if step is None or source is None:
            continue
        counts = np.bincount(source)[source].astype(np.float64)
        if (counts > 1).any():
            found.append(Correction(instance[0], *entry, step[0], step[1](counts)))
    return found
