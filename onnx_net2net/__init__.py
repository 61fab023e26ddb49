"""Grow trained ONNX models without changing what they compute (Net2Net).

>>> import onnx_net2net as n2n
>>> sorted(n2n.__all__)[:3]
['AmbiguousError', 'ModelError', 'Net2NetError']
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "AmbiguousError": "errors",
    "ModelError": "errors",
    "Net2NetError": "errors",
    "NotEquivalentError": "errors",
    "RefusalError": "errors",
    "ResourceError": "errors",
    "UsageError": "errors",
    "apply": "api",
    "deepen": "api",
    "grow_kernel": "api",
    "inspect": "plans.inspection",
    "plan": "plans.plan",
    "register_operator": "operators.registration",
    "to_graphsurgeon": "files.graphsurgeon",
    "verify": "verification.verify",
    "widen": "api",
}
__all__ = list(_PUBLIC)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load public names when they are first used (PEP 562), so that importing costs nothing."""
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    if name == "torch":  # needs the extra of that name
        return import_module(f"{__name__}.torch")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
