"""What a step's selector means: the layers, or the places, of a model."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from onnx_net2net.coupling.lookup import find, nearest, select, words
from onnx_net2net.errors import AmbiguousError
from onnx_net2net.graph.model import Node
from onnx_net2net.growth.verb import Verb
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.factors import slides
from onnx_net2net.operators.table import TABLE


def layers(analysis: Analysis, step: Verb) -> list[Node]:
    """The layers that a step names, in running order.

    Raises:
        AmbiguousError: a name or pattern fits nothing; the nearest are named.
    """
    if step.selector == "everywhere":
        return analysis.layers()
    way = {"every": _fitting, "stage": _inside}.get(step.selector, _found)
    found = [node for name in names(step) for node in way(analysis, name)]
    return sorted({n.index: n for n in found}.values(), key=lambda n: n.index)


def places(analysis: Analysis, step: Verb) -> list[dict[str, str]]:
    """Where a step grows something: `{"after": name}` and the like for each place."""
    first, selector = step.named("where")[0], step.selector
    if selector not in ("every", "stage", "everywhere"):
        return [{selector: name} for name in names(step)]
    found = _nodes(analysis, step) if step.of_nodes else [n.name for n in layers(analysis, step)]
    return [{first: name} for name in dict.fromkeys(found)]


def names(step: Verb) -> list[str]:
    """What a step's selector says, as a list."""
    asked = getattr(step, step.selector)
    return list(asked) if isinstance(asked, list) else [asked]


def _found(analysis: Analysis, name: str) -> list[Node]:
    return [find(analysis, name)]


def _nodes(analysis: Analysis, step: Verb) -> list[str]:
    """The nodes of any operator that a step names; of layers those in the main graph."""
    if step.selector != "every":
        return [n.name for n in layers(analysis, step) if not n.scope]
    found: list[str] = []
    for pattern in names(step):
        kind = pattern in KINDS
        found += (
            [n.name for n in _fitting(analysis, pattern)] if kind else select(analysis, pattern)
        )
    return found


def spread(count: int) -> Iterator[int]:
    """The numbers below `count` so that any first few are spread evenly.

    >>> list(spread(8))
    [4, 2, 6, 1, 5, 3, 7, 0]
    """
    bits = max(count - 1, 1).bit_length()
    for k in [*range(1, 1 << bits), 0]:
        turned = int(f"{k:0{bits}b}"[::-1], 2)
        if turned < count:
            yield turned


def _fitting(analysis: Analysis, pattern: str) -> list[Node]:
    known = analysis.layers()
    kind = KINDS.get(pattern)
    found = [n for n in known if kind is not None and kind(_kernel(analysis, n))]
    found = found or [n for n in known if n.op == pattern]
    bare = pattern.lstrip("/")
    found = found or [
        n
        for n in known
        if any(fnmatch.fnmatchcase(name.lstrip("/"), bare) for name in _names(analysis, n))
    ]
    if not found:
        pool = [
            *(n.op for n in known),
            *KINDS,
            *(name for n in known for name in _names(analysis, n)),
        ]
        raise _nothing(f"no layer fits '{pattern}'", pattern, pool)
    return found


def _inside(analysis: Analysis, stage: str) -> list[Node]:
    """The layers whose module path begins with a stage's."""
    part, known = words(stage), analysis.layers()
    paths = {n.index: [words(name) for name in _names(analysis, n)] for n in known}
    found = [n for n in known if part and any(p[: len(part)] == part for p in paths[n.index])]
    if not found:
        length = max(len(part), 1)
        pool = [".".join(p[:length]) for n in known for p in paths[n.index]]
        raise _nothing(f"no layer's path begins with '{stage}'", stage, pool)
    return found


def _names(analysis: Analysis, node: Node) -> list[str]:
    weights = [t for t in node.inputs if t in analysis.model.leaves]
    return [node.name, node.outputs[0], *weights]


def _nothing(message: str, asked: str, pool: Sequence[str]) -> AmbiguousError:
    like = nearest(asked, pool)
    hint = f"did you mean {', '.join(like)}?" if like else "`inspect` lists the layers"
    return AmbiguousError(message, hint, like)


def _kernel(analysis: Analysis, node: Node) -> tuple[int, int, int]:
    """Of a convolution: groups, channels per group on the other side, size; zeros otherwise."""
    slots = analysis.weights(node)
    shape: Any = analysis.first.shapes.get(node.inputs[slots[0]]) if slots else None
    if not shape or not slides(TABLE[node.op], analysis.first.site(node), slots[0]):
        return 0, 0, 0
    return int(node.attr("group", 1)), int(shape[1]), math.prod(shape[2:])


KINDS: dict[str, Callable[[tuple[int, int, int]], bool]] = {
    "depthwise": lambda kernel: kernel[0] > 1 and kernel[1] == 1,
    "grouped": lambda kernel: kernel[0] > 1 and kernel[1] > 1,
    "pointwise": lambda kernel: kernel[0] == 1 and kernel[2] == 1,
}
"""Kinds of layers that `every` knows besides operators and patterns."""
