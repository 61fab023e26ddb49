"""What a step that grows a kernel may say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from onnx_net2net.growth.verb import COUNTS, NAMES, Names, Verb, setting


@dataclass(frozen=True, kw_only=True)
class GrowKernel(Verb):
    """Enlarge the kernel of a convolution of MODEL; its output stays the same.

    Source: Network Morphism (Wei et al. 2016), kernel size morphing.
    """

    verb: ClassVar[str] = "grow-kernel"
    summary: ClassVar[str] = "Enlarge a convolution's kernel with a ring of zeros."
    examples: ClassVar[tuple[str, ...]] = ("--node conv1 --size 5",)

    node: Names = setting(NAMES, "The convolution.", role="where")
    size: int | list[int] | None = setting(COUNTS, "The new kernel size.", role="far")

    def grow(self, analysis: Any) -> Any:
        """Enlarge one kernel."""
        from onnx_net2net.growth.kernel.step import grow_kernel

        return grow_kernel(analysis, self)
