"""How new units come about: what their own weights are, and how readers divide among copies."""

from __future__ import annotations

from dataclasses import dataclass

SPLITS = ("zero-sum", "even", "one-hot")


@dataclass(frozen=True)
class Scheme:
    """Everything that decides the student's arrays, besides where the copies land.

    `split`: how copies divide a weight that reads them, see `mapping.shares`; `seed`: with a
    tensor's name it keys all random draws.
    """

    split: str = "zero-sum"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"unknown split '{self.split}'; choose one of {', '.join(SPLITS)}")
