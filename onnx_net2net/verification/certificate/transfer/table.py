"""The certificate's rules, one file per family: how each operator names its outputs.

They are written apart from the table that grows models, so that a mistake there does not
vouch for itself here. Most are lines (`facts`); what moves data, contracts, attends or goes
round has code. An operator with neither names its outputs as a whole.
"""

from __future__ import annotations

import onnx_net2net.verification.certificate.facts.across
import onnx_net2net.verification.certificate.facts.elementwise
import onnx_net2net.verification.certificate.facts.quantized
import onnx_net2net.verification.certificate.facts.without  # noqa: F401  each fills in its lines
from onnx_net2net.verification.certificate.facts.lines import FACTS, WITHOUT
from onnx_net2net.verification.certificate.transfer import (  # noqa: F401  each fills in its rules
    across,
    attention,
    blockwise,
    contraction,
    elementwise,
    fused,
    lookup,
    movement,
    multiplicity,
    norms,
    recurrent,
    rotary,
    spatial,
)
from onnx_net2net.verification.certificate.transfer.base import RULES, At
from onnx_net2net.verification.certificate.transfer.declared import rule_of

_TWICE = sorted(set(RULES) & (set(FACTS) | set(WITHOUT)))
if _TWICE:
    raise ValueError(f"a rule and a fact for {', '.join(_TWICE)}")

__all__ = ["RULES", "At", "rule_of"]
