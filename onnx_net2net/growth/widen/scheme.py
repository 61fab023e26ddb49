"""How new units come about: what their own weights are, and how readers divide among copies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnx_net2net.errors import UsageError
from onnx_net2net.files.archive import decoded, encoded
from onnx_net2net.growth.widen.inits import INITS, STANDARD, Init
from onnx_net2net.growth.widen.units import Row
from onnx_net2net.growth.widen.verb import Widen
from onnx_net2net.typing import Array


@dataclass(frozen=True)
class Scheme:
    """Everything that decides the student's arrays, besides where the copies land.

    `split`: how copies divide a weight that reads them, see `shares.shares`; `seed`: with a
    tensor's name it keys all random draws; `init`: what new units are, see `inits.INITS`;
    `noise`: on the copies' own weights, in terms of the tensor's standard deviation;
    `evidence`: what the init is shown, `KIND/CONSTANT` -> array of the teacher's constant's shape.

    >>> Scheme(init="twin").preserving, Scheme(noise=0.01).preserving
    (True, False)
    """

    split: str = "zero-sum"
    seed: int = 0
    init: str = "replicate"
    noise: float = 0.0
    evidence: Mapping[str, Array] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.init not in INITS:
            raise UsageError(f"unknown init '{self.init}'", f"choose one of {', '.join(INITS)}")
        if not math.isfinite(self.noise) or self.noise < 0:
            raise UsageError(f"noise {self.noise!r} is no size", "give 0 or more, e.g. 0.01")
        for name, plain in (("split", "zero-sum"), ("noise", 0)):
            if not self.how.copies and getattr(self, name) != plain:
                raise UsageError(f"init '{self.init}' makes no copies", f"leave the {name} out")

    @classmethod
    def of(cls, asked: Widen) -> Scheme:
        """What a step asks for.

        Raises:
            UsageError: settings that do not go together, evidence that is missing.
        """
        evidence = asked.evidence or {}
        scheme = cls(asked.split, asked.seed or 0, asked.init, asked.noise, evidence)
        if isinstance(asked.mapping, str) and asked.mapping not in ("random", "balanced"):
            raise UsageError(
                f"unknown mapping '{asked.mapping}'", "choose random, balanced or give a list"
            )
        if not scheme.how.copies and asked.mapping != "random":
            raise UsageError(f"init '{asked.init}' makes no copies", "leave the mapping out")
        shown = {name.partition("/")[0] for name in evidence}
        missing = [kind for kind in scheme.how.evidence if kind not in shown]
        if missing:
            raise UsageError(
                f"init '{asked.init}' looks at {', '.join(missing)} of the weights",
                f"give evidence with arrays named like '{missing[0]}/conv1.weight'",
            )
        return scheme

    @classmethod
    def recorded(cls, entry: Mapping[str, Any]) -> Scheme:
        """A scheme as `record` wrote it."""
        evidence = {n: decoded(a) for n, a in entry.get("evidence", {}).items()}
        return cls(**{**entry, "evidence": evidence})

    def record(self) -> dict[str, Any]:
        """All of it, for the mapping file."""
        found = {k: getattr(self, k) for k in ("split", "seed", "init", "noise")}
        evidence = {n: encoded(np.asarray(a)) for n, a in self.evidence.items()}
        return {**found, "evidence": evidence} if evidence else found

    @property
    def how(self) -> Init:
        """The init itself."""
        return INITS[self.init]

    @property
    def row(self) -> Row:
        """The kind of the new units; those of a random pad lie where copies would."""
        return Row(self.how.rows)

    @property
    def makers(self) -> dict[Row, Init]:
        """What makes the rows of each kind."""
        return {Row(k): i for k, i in {**STANDARD, self.how.rows: self.how}.items()}

    @property
    def preserving(self) -> bool:
        """Whether the student is to compute the teacher's function."""
        return self.how.preserving and not self.noise

    @property
    def division(self) -> str:
        """How weights that read new units came about, in a word."""
        return self.split if self.how.copies else self.init

    @property
    def undivided(self) -> bool:
        """Whether the first of several copies is read as the teacher's unit, the others not."""
        return self.split == "one-hot" or not self.how.divides

    @property
    def said(self) -> str:
        """The new units in words; empty for plain copies."""
        if self.init != "replicate":
            return f"{self.init} ({self.how.about})"
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
