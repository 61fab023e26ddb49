"""What a step that deepens may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from onnx_net2net.growth.verb import (
    ARRAYS,
    COUNT,
    FLAG,
    NAME,
    NAMES,
    NUMBER,
    Names,
    Preset,
    Verb,
    setting,
)

if TYPE_CHECKING:
    from onnx_net2net.growth.student import Student, Task


@dataclass(frozen=True, kw_only=True)
class Deepen(Verb):
    """Net2DeeperNet: insert layers into MODEL that leave its function as it is.

    Source: Net2Net (Chen, Goodfellow, Shlens 2015), section 2.3; of the kinds see
    docs/growth-operators.md.
    """

    verb: ClassVar[str] = "deepen"
    summary: ClassVar[str] = "Insert layers that change nothing (Net2DeeperNet)."
    suffix: ClassVar[str] = ".deepened"
    examples: ClassVar[tuple[str, ...]] = (
        "--after conv1", "--every Relu --kind identity --plan"
    )  # fmt: skip
    paper: ClassVar[Preset | None] = Preset(
        "The paper's choice: --kind identity.", {"kind": "identity"}
    )
    of_nodes: ClassVar[bool] = True

    after: Names = setting(
        NAMES, "A layer (after its BatchNormalization and activation), or a tensor.", role="where"
    )
    before: Names = setting(NAMES, "A layer or a tensor; both may repeat.", role="where")
    every: Names = setting(
        NAMES, "After all that fit: `Relu`, `layer1*`.", role="where", metavar="PATTERN"
    )
    ratio: float | None = setting(
        NUMBER, "As many layers more as make those found so many times as many, evenly spread.",
        option=False,
    )  # fmt: skip
    kind: str = setting(
        NAME, "The block; auto: identity where it is exact, else residual.", "auto",
        choices=("auto", "identity", "linear", "residual", "pair", "shift"),
    )  # fmt: skip
    activation: str | None = setting(NAME, "Instead of the one that made the tensor.")
    kernel: int | None = setting(COUNT, "Window size of a convolution.")
    groups: int = setting(COUNT, "Groups of a convolution.", 1)
    depthwise: bool = setting(FLAG, "One group for each channel.", False)
    inner: int | None = setting(COUNT, "Hidden width of a residual block.")
    batchnorm: bool = setting(FLAG, "With a BatchNormalization.", False)
    calibrate: Mapping[str, Any] | None = setting(ARRAYS, "Data for its statistics, data.npz.")
    count: int = setting(COUNT, "How many, in a row.", 1)
    only_into: str | None = setting(NAME, "The one reader to feed, where a tensor has several.")
    init: str = setting(
        NAME, "random: the paper's baseline, not preserving.", "identity",
        choices=("identity", "random"),
    )  # fmt: skip

    def grow(self, analysis: Any) -> Any:
        """Insert the layers at one place."""
        from onnx_net2net.growth.deepen.step import deepen

        return deepen(analysis, self)

    def run(self, student: Student, task: Task[Deepen]) -> tuple[list[str], str]:
        """At all places, or at as many as `ratio` says."""
        from onnx_net2net.growth.deepen.spreading import run

        return super().run(student, task) if self.ratio is None else run(student, task)
