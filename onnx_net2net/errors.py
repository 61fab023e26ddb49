"""What can go wrong, as values and as exceptions.

ValueError
 |- ModelError          the file or proto is not a usable ONNX model
 |- AmbiguousError      a name or width fits several things (.candidates)
Exception
 |- RefusalError        no function-preserving way (.node .axis .reason .hint)
 |- NotEquivalentError  a student failed verification (.verdict)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Reason(str, Enum):
    """Why an axis cannot grow: the closed list."""

    GRAPH_INPUT = "graph input"
    GRAPH_OUTPUT = "graph output"
    NO_RULE = "no rule for operator"
    ACROSS = "works across this axis"
    MIXED = "axis mixed with others"
    RUNTIME = "runtime indices"
    UNKNOWN_SHAPE = "unknown shape"
    BROADCAST = "axis is broadcast"
    COMPUTED_SIZE = "size computed at run time"
    MISALIGNED = "copies do not line up"
    UNSPLITTABLE = "no weight absorbs the division"
    ROW_KIND = "new units of this kind do not pass"
    NO_AXIS = "no channel axis"
    NORMALISED = "normalised axis"
    ACTIVATION = "activation is not the identity here"


@dataclass(frozen=True)
class Refusal:
    """Why there is no function-preserving way, as a value.

    `node` is the node that blocks, `axis` the (tensor, dimension) it blocks.
    """

    reason: Reason
    node: str = ""
    axis: tuple[str, int] | None = None
    detail: str = ""
    hint: str = ""

    def __str__(self) -> str:
        where = f" at axis {self.axis[1]} of '{self.axis[0]}'" if self.axis else ""
        text = f"{self.node}: {self.reason.value}{where}"
        if self.detail:
            text += f" ({self.detail})"
        return text


class RefusalError(Exception):
    """No function-preserving way exists; the message names node, axis, reason and what to do."""

    def __init__(self, refusal: Refusal, asked: str = "") -> None:
        self.refusal = refusal
        self.node = refusal.node
        self.axis = refusal.axis
        self.reason = refusal.reason.value
        self.hint = refusal.hint
        text = f"cannot grow {asked}: {refusal}" if asked else str(refusal)
        super().__init__(text + (f"\n  {refusal.hint}" if refusal.hint else ""))


class ModelError(ValueError):
    """The input is not a usable ONNX model."""


class AmbiguousError(ValueError):
    """A name or axis fits several things; `candidates` lists them."""

    def __init__(self, message: str, candidates: Sequence[str]) -> None:
        self.candidates = tuple(candidates)
        super().__init__(message)


class NotEquivalentError(Exception):
    """The student does not compute the teacher's function, or that is undecided (`.verdict`)."""

    def __init__(self, message: str, verdict: Any) -> None:
        self.verdict = verdict
        super().__init__(message)
