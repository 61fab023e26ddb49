"""What verification found: one result per layer, and the verdict that follows from them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

SCHEMA = "onnx-net2net/verdict/1"
_WORDS = {True: "equivalent", False: "NOT equivalent", None: "inconclusive"}
_WIDTH = 80


class Status(str, Enum):
    """What one layer says."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Layer:
    """One check: what it says, why, and the figures that it measured."""

    name: str
    status: Status
    detail: str = ""
    seconds: float = 0.0
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Whether teacher and student are the same function.

    Attributes:
        equivalent: True, False, or None where it could not be decided.
        layers: the checks in the order in which they ran.
        decided_by: the layer that decided; "" if none did.
        saved_inputs: the file with inputs on which the models differ, if one was written.
    """

    equivalent: bool | None
    layers: tuple[Layer, ...]
    decided_by: str = ""
    saved_inputs: Path | None = None

    def __bool__(self) -> bool:
        return self.equivalent is True

    @property
    def figures(self) -> dict[str, Any]:
        """Everything that was measured, as `layer.figure`."""
        return {f"{y.name}.{k}": v for y in self.layers for k, v in y.figures.items()}

    def layer(self, name: str) -> Layer | None:
        """The layer of that name, None if it did not run."""
        return next((y for y in self.layers if y.name == name), None)

    def __str__(self) -> str:
        """A headline and a paragraph for each layer, at most 80 columns wide."""
        head = _WORDS[self.equivalent]
        if self.decided_by:
            head += f" (decided by: {self.decided_by})"
        lines = [head]
        for y in self.layers:
            start = f"  {y.name:<12} {y.status.value:<10}"
            text = f"{y.detail} [{y.seconds:.2f} s]" if y.seconds >= 0.005 else y.detail
            lines += textwrap.wrap(
                text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start)
            ) or [start.rstrip()]
        if self.saved_inputs:
            lines.append(f"  inputs that show the difference: {self.saved_inputs}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values, with a `schema` key."""
        return {
            "schema": SCHEMA,
            "equivalent": self.equivalent,
            "decided_by": self.decided_by or None,
            "layers": [
                {
                    "name": y.name,
                    "status": y.status.value,
                    "detail": y.detail,
                    "seconds": round(y.seconds, 4),
                    "figures": dict(y.figures),
                }
                for y in self.layers
            ],
            "saved_inputs": str(self.saved_inputs) if self.saved_inputs else None,
        }


def conclude(layers: tuple[Layer, ...], saved: Path | None = None) -> Verdict:
    """The verdict that follows from the layers.

    A difference that any layer is certain of decides; then the certificate; equal outputs
    count only where a damaged student would have been seen, and no weight is suspect.

    >>> conclude((Layer("certificate", Status.PASSED),)).decided_by
    'certificate'
    >>> conclude((Layer("runtime", Status.PASSED),)).equivalent is None
    True
    """
    said = {y.name: y.status for y in layers}
    for name in ("interface", "runtime", "certificate"):
        if said.get(name) is Status.FAILED:
            return Verdict(False, layers, name, saved)
    if said.get("certificate") is Status.PASSED:
        return Verdict(True, layers, "certificate")
    suspect = any(y.figures.get("suspect") for y in layers)
    if said.get("runtime") is said.get("sensitivity") is Status.PASSED and not suspect:
        return Verdict(True, layers, "runtime")
    return Verdict(None, layers)
