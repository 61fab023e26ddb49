"""Inits: what new units are. Each is an object; `register` teaches another.

Imports the standard library alone, so that help is quick: arrays come and go through the
`Place` that an init is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from onnx_net2net.errors import UsageError

if TYPE_CHECKING:
    from onnx_net2net.growth.widen.arrays import Place
    from onnx_net2net.typing import Array


class Init:
    """How new units come about; this one makes copies that share what reads them.

    `rows`: what they are to the proof, a `Row`: "copy", "free" (any values in, read by zeros),
    "twin" (pairs, equal in and read with opposite signs) or "zero" (zeros in).
    `preserving`: whether the student computes the teacher's function. `divides`: what reads a
    unit is divided among its copies. `evidence`: what it is shown besides the weights, such as
    gradients; the arrays are recorded, so that replays and checkpoints get the same numbers.
    """

    name: ClassVar[str] = "replicate"
    about: ClassVar[str] = "copies of units"
    rows: ClassVar[str] = "copy"
    preserving: ClassVar[bool] = True
    divides: ClassVar[bool] = True
    evidence: ClassVar[tuple[str, ...]] = ()

    @property
    def copies(self) -> bool:
        """Whether mapping, split and noise apply."""
        return self.rows == "copy" and self.divides

    def own(self, at: Place) -> Array | None:
        """The new rows of a layer's own weights; None: as they are, copies of their sources."""
        return at.jittered() if at.scheme.noise else None

    def read(self, at: Place) -> Array | None:
        """What reads the new units; None: their shares or, of rows that are no copies, zeros."""
        return None


class Fresh(Init):
    """Random in, zero out."""

    name, about, rows = "fresh", "random in, zero out", "free"

    def own(self, at: Place) -> Array | None:
        """As large as the sources' weights."""
        return at.noise("free")


class Twin(Init):
    """Random pairs that cancel; `own` and `read` make the first of each."""

    name, about, rows = "twin", "random pairs, equal in and opposite out", "twin"

    def own(self, at: Place) -> Array | None:
        """As large as the teacher's weights."""
        return at.drawn("twin")

    def read(self, at: Place) -> Array | None:
        """Likewise; the seconds get the negatives."""
        return at.drawn("twin")


class RandomPad(Init):
    """The paper's baseline: random in and out."""

    name, about, preserving, divides = "random-pad", "random in and out", False, False

    def own(self, at: Place) -> Array | None:
        """As large as the teacher's weights."""
        return at.drawn("pad")

    def read(self, at: Place) -> Array | None:
        """Likewise."""
        return at.drawn("pad")


class Zero(Init):
    """Zeros in and out; no init of its own, but what zero rows are."""

    name, about, rows = "zero", "zero in and out", "zero"

    def own(self, at: Place) -> Array | None:
        """Zeros stand there already."""
        return None


INITS: dict[str, Init] = {i.name: i for i in (Init(), Fresh(), Twin(), RandomPad())}
STANDARD: dict[str, Init] = {i.rows: i for i in (Zero(), Twin(), Fresh(), Init())}
"""What makes rows that the step's own init does not make."""


def register(init: Init) -> None:
    """Teach another init, for commands, recipes and Python.

    Raises:
        UsageError: there is one of this name already.
    """
    if init.name in INITS:
        raise UsageError(f"there is an init '{init.name}' already", "give it another name")
    INITS[init.name] = init
