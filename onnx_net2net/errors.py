"""What can go wrong, as values and as exceptions.

Exception
 |- Net2NetError           what went wrong (.reason), what to do about it (.hint)
     |- RefusalError       no function-preserving way (.refusal .node .axis)
     |- NotEquivalentError a student failed verification (.verdict)
     |- UsageError         an argument is wrong; a ValueError
     |   |- AmbiguousError a name or width fits nothing or several things (.candidates)
     |- ModelError         the file or proto is not a usable ONNX model; a ValueError
     |- ResourceError      this machine lacks what is needed
         |- TooLargeError  memory; a MemoryError

The type says whose mistake it is: a bare ValueError is one of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


ANOTHER_LAYER = "choose a layer whose channels do not pass through this node"
"""What to do where a node lets no channel pass."""


@dataclass(frozen=True)
class Refusal:
    """Why there is no function-preserving way, as a value.

    `node` is the node that blocks, `axis` the (tensor, dimension) it blocks.

    >>> str(Refusal(Reason.ACROSS, "/fc/Gemm", ("x", 1), "Gemm"))
    "/fc/Gemm: works across this axis at axis 1 of 'x' (Gemm)"
    """

    reason: Reason
    node: str = ""
    axis: tuple[str, int] | None = None
    detail: str = ""
    hint: str = ""

    def __str__(self) -> str:
        where = f" at axis {self.axis[1]} of '{self.axis[0]}'" if self.axis else ""
        text = f"{self.node}: {self.reason.value}{where}"
        return f"{text} ({self.detail})" if self.detail else text


class Net2NetError(Exception):
    """What went wrong and what to do about it; the message is made from the two.

    Args:
        reason: what was given and what was expected.
        hint: what to do next.

    >>> error = UsageError("ratio 1 does not widen", "give a number above 1")
    >>> error.prefix("recipe.yaml:3")
    >>> str(error), error.hint
    ('recipe.yaml:3: ratio 1 does not widen; give a number above 1', 'give a number above 1')
    """

    kind = "internal error"
    node: str | None = None
    axis: tuple[str, int] | None = None

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason, hint)
        self.reason, self.hint = reason, hint

    def prefix(self, where: str) -> None:
        """Say where: the line of a recipe, which of two models."""
        self.reason = f"{where}: {self.reason}"

    def __str__(self) -> str:
        return f"{self.reason}; {self.hint}" if self.hint else self.reason


class RefusalError(Net2NetError):
    """No function-preserving way exists; the message names node, axis, reason and what to do.

    Args:
        refusal: why; `reason` is one of the closed list.
        asked: what was to grow.
    """

    kind = "refused"

    def __init__(self, refusal: Refusal, asked: str = "") -> None:
        super().__init__(refusal.reason.value, refusal.hint)
        self.args = refusal, asked
        self.refusal, self.node, self.axis = refusal, refusal.node, refusal.axis
        self._said = f"cannot grow {asked}: {refusal}" if asked else str(refusal)

    def prefix(self, where: str) -> None:
        self._said = f"{where}: {self._said}"

    def __str__(self) -> str:
        return f"{self._said}\n  {self.hint}" if self.hint else self._said


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Say in the refusals of a block what was to grow."""
    try:
        yield
    except RefusalError as why:
        raise RefusalError(why.refusal, what) from None


class NotEquivalentError(Net2NetError):
    """The student does not compute the teacher's function, or that is undecided (`.verdict`)."""

    def __init__(self, reason: str, verdict: Any) -> None:
        super().__init__(reason)
        self.args = reason, verdict
        self.verdict = verdict
        self.kind = "not equivalent" if verdict.equivalent is False else "inconclusive"

    def __str__(self) -> str:
        return f"{self.reason}:\n{self.verdict}"


class UsageError(Net2NetError, ValueError):
    """What the caller asked for is wrong, by itself or for this model."""

    kind = "usage"


class AmbiguousError(UsageError):
    """A name or axis fits nothing or several things; `candidates` lists what to choose from."""

    def __init__(self, reason: str, hint: str, candidates: Sequence[str]) -> None:
        super().__init__(reason, hint)
        self.args = reason, hint, candidates
        self.candidates = tuple(candidates)


class ModelError(Net2NetError, ValueError):
    """The input is not a usable ONNX model."""

    kind = "bad input"


class ResourceError(Net2NetError):
    """This machine lacks what is needed: a provider, a folder that can be written to, room."""

    kind = "environment"


class TooLargeError(ResourceError, MemoryError):
    """More memory would be needed than is free."""
