"""What every verb gives back: a patch, and what there is to know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from onnx_net2net.files.patch import Insert, Splice

Shapes = Mapping[str, "tuple[int, ...]"]
"""Input name -> sizes, for inputs that declare none."""


class Result(Protocol):
    """One thing grown: a layer widened (or several at once), layers inserted, a kernel enlarged."""

    @property
    def patch(self) -> Sequence[Splice | Insert]:
        """The changes of the file."""

    @property
    def preserving(self) -> bool:
        """Whether the student is to compute the teacher's function."""

    @property
    def warnings(self) -> Sequence[str]:
        """What a user should know."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of constants that it adds or writes as a whole."""

    def sizes(self, shapes: Shapes | None) -> Shapes | None:
        """The sizes that a user gave for the teacher's inputs, as the student's have them."""

    def record(self) -> dict[str, Any]:
        """What the mapping file says of it, besides new nodes and constants (docs/checkpoints.md).

        `verb`; `tensors`: each constant that changed, see `growth.record.Replay`; `attributes`
        and `literals`: numbers that nodes hold or read, before and after.
        """


@dataclass(frozen=True)
class Patched:
    """A result that leaves the sizes of the inputs as they were.

    Attributes:
        patch: the changes of the file.
        verb: whose result it is.
        parameters, preserving, warnings: see `Result`.
    """

    patch: Sequence[Splice | Insert]
    verb: str
    parameters: tuple[str, ...] = field(default=(), kw_only=True)
    preserving: bool = field(default=True, kw_only=True)
    warnings: tuple[str, ...] = field(default=(), kw_only=True)

    def sizes(self, shapes: Shapes | None) -> Shapes | None:
        """As they were."""
        return shapes

    def record(self) -> dict[str, Any]:
        """See `Result.record`: no constant that the teacher has changes."""
        return {"verb": self.verb, "tensors": [], "attributes": [], "literals": []}
