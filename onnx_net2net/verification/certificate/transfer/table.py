"""The certificate's rules, one file per family: how each operator names its outputs.

They are written apart from the table that grows models, so that a mistake there does not
vouch for itself here. An operator without a rule names its outputs as a whole.
"""

from __future__ import annotations

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

__all__ = ["RULES", "At", "rule_of"]
