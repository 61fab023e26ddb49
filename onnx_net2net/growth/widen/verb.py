"""What a step that widens may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from onnx_net2net.errors import UsageError
from onnx_net2net.growth.verb import (
    ARRAYS,
    BUDGET,
    COUNT,
    FLAG,
    NAME,
    NAMES,
    NUMBER,
    SOURCES,
    WHOLE,
    Names,
    Preset,
    Verb,
    setting,
)
from onnx_net2net.growth.widen.inits import INITS

if TYPE_CHECKING:
    from onnx_net2net.growth.student import Student, Task


@dataclass(frozen=True, kw_only=True)
class Widen(Verb):
    """Net2WiderNet: widen a layer of MODEL and everything coupled to it.

    New units copy units drawn by `mapping`; everything coupled to them grows along, and the
    weights that read them are divided among the copies, exactly.

    Source: Net2Net (Chen, Goodfellow, Shlens 2015), section 2.1.
    """

    verb: ClassVar[str] = "widen"
    summary: ClassVar[str] = "Widen a layer and everything coupled to it (Net2WiderNet)."
    suffix: ClassVar[str] = ".widened"
    examples: ClassVar[tuple[str, ...]] = (
        "--node conv1 --width 96", "--node conv1 --ratio 1.5 --plan"
    )  # fmt: skip
    paper: ClassVar[Preset | None] = Preset(
        "The paper's choices: random mapping, even split.",
        {"mapping": "random", "split": "even", "init": "replicate"},
    )

    node: Names = setting(NAMES, "Layer to widen; may repeat, with --width.", role="where")
    space: str | None = setting(NAME, "Instead: a space as `inspect` names it.", role="where")
    width: int | None = setting(
        WHOLE, "Length of its output axis; of a space its own size: heads, not channels.",
        role="far",
    )  # fmt: skip
    ratio: float | None = setting(NUMBER, "Or at least this times today's.", role="far")
    parameters: int | str | None = setting(
        BUDGET, "Or as far as a number of parameters allows, `2.0x` for twice today's.",
        role="far", option=False,
    )  # fmt: skip
    multiple_of: int = setting(COUNT, "Round widths up to a multiple of N.", 1, metavar="N")
    allow_interface: bool = setting(
        FLAG, "Grow also the model's own inputs and outputs: --node may name one (NAME:AXIS). New "
        "input channels do not matter at first (zero weights), new outputs are copies at the end.",
        False,
    )  # fmt: skip
    mapping: str | list[int] = setting(
        SOURCES, "Which units the new ones copy; FILE: a JSON list.", "random", header=True,
        metavar="random|balanced|FILE",
    )  # fmt: skip
    init: str = setting(
        NAME, "New units: copies; random in, zero out; random pairs that cancel; or the paper's "
        "baseline, not preserving.", "replicate", header=True,
        choices=INITS,
        decides=("mapping", "split", "noise"),
    )  # fmt: skip
    split: str = setting(
        NAME, "How copies divide the weights that read them.", "zero-sum", header=True,
        choices=("zero-sum", "even", "one-hot", "uneven"),
    )  # fmt: skip
    noise: float = setting(
        NUMBER, "On the copies' own weights, in terms of their standard deviation; not "
        "preserving.", 0.0, header=True, metavar="SIGMA",
    )  # fmt: skip

    evidence: Mapping[str, Any] | None = setting(
        ARRAYS, "What the init looks at besides the weights, data.npz: `gradient/conv1.weight`, of "
        "the weight's shape.", option=False,
    )  # fmt: skip

    @classmethod
    def check_whole(cls, said: Mapping[str, Any], at: str = "") -> None:
        """See `Verb`; a budget is met by several widths."""
        super().check_whole(said, at)
        if said.get("space") is not None and said.get("parameters") is not None:
            raise UsageError(f"{at}parameters goes with the other ways to say where")

    def grow(self, analysis: Any) -> Any:
        """Widen one layer or space."""
        from onnx_net2net.growth.widen.step import widen_step

        return widen_step(analysis, self)

    def run(self, student: Student, task: Task[Widen]) -> tuple[list[str], str]:
        """Several widths at once, where they line up."""
        from onnx_net2net.growth.widen.batch import run

        return run(student, task)
