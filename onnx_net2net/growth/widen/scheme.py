"""How new units come about: what their own weights are, and how readers divide among copies."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnx_net2net.errors import UsageError
from onnx_net2net.growth.widen.units import Row
from onnx_net2net.growth.widen.verb import Widen

INITS = {
    "replicate": "copies of units",
    "fresh": "random in, zero out",
    "twin": "random pairs, equal in and opposite out",
    "random-pad": "random in and out",
}
_ROWS = {"fresh": Row.FREE, "twin": Row.TWIN}


@dataclass(frozen=True)
class Scheme:
    """Everything that decides the student's arrays, besides where the copies land.

    `split`: how copies divide a weight that reads them, see `mapping.shares`; `seed`: with a
    tensor's name it keys all random draws; `init`: what new units are, see `INITS`; `noise`:
    on the copies' own weights, in terms of the tensor's standard deviation.

    >>> Scheme(init="twin").preserving, Scheme(noise=0.01).preserving
    (True, False)
    """

    split: str = "zero-sum"
    seed: int = 0
    init: str = "replicate"
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.noise) or self.noise < 0:
            raise UsageError(f"noise {self.noise!r} is no size", "give 0 or more, e.g. 0.01")
        if self.init != "replicate" and self.split != "zero-sum":
            raise UsageError(f"init '{self.init}' makes no copies", "leave the split out")
        if self.init != "replicate" and self.noise:
            raise UsageError(f"init '{self.init}' makes no copies", "leave the noise out")

    @classmethod
    def of(cls, asked: Widen) -> Scheme:
        """What a step asks for.

        Raises:
            UsageError: settings that do not go together.
        """
        scheme = cls(asked.split, asked.seed or 0, asked.init, asked.noise)
        if isinstance(asked.mapping, str) and asked.mapping not in ("random", "balanced"):
            raise UsageError(
                f"unknown mapping '{asked.mapping}'", "choose random, balanced or give a list"
            )
        if asked.init != "replicate" and asked.mapping != "random":
            raise UsageError(f"init '{asked.init}' makes no copies", "leave the mapping out")
        return scheme

    @property
    def row(self) -> Row:
        """The kind of the new units; those of a random pad lie where copies would."""
        return _ROWS.get(self.init, Row.COPY)

    @property
    def preserving(self) -> bool:
        """Whether the student is to compute the teacher's function."""
        return self.init != "random-pad" and not self.noise

    @property
    def division(self) -> str:
        """How weights that read new units came about, in a word."""
        return self.split if self.init == "replicate" else self.init

    @property
    def said(self) -> str:
        """The new units in words; empty for plain copies."""
        if self.init != "replicate":
            return f"{self.init} ({INITS[self.init]})"
        noise = f"copies, noise of {self.noise:g} of the weights' standard deviation"
        return noise if self.noise else ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know."""
        if not self.preserving:
            return (
                "the student does not compute the teacher's function, as was asked for: "
                f"new units are {self.said}",
            )
        if self.split == "even":
            return (
                "copies that share evenly stay equal in training for ever, unless it has "
                "dropout; noise, or the default split, lets them part",
            )
        return ()
