"""Operators that pick or write at positions known at run time: those axes are worked across,
the others pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx_net2net.errors import Reason
from onnx_net2net.operators.intervals import ZERO, Range, kept, scattered
from onnx_net2net.operators.spec import RowError, Site, rule

_ACROSS = {"x": "across", "y": "across"}


def _named(letter: str, dims: range) -> list[str]:
    return [f"{letter}{k}" for k in dims]


def _one_axis(site: Site, axis: int) -> tuple[str, str]:
    """The data's axes, and the result's: one is picked from, the others pass."""
    rank = len(site.dims(0))
    names = _named("a", range(rank))
    before, after = list(names), list(names)
    before[axis % rank], after[axis % rank] = "x", "y"
    return " ".join(before), " ".join(after)


def _elements(site: Site) -> str:
    """Axes other than `axis` pass where indices and data are equally long there."""
    data, index = site.dims(0), site.dims(1)
    axis = int(site.attr("axis", 0)) % len(data)
    same = [k != axis and data[k] is not None and data[k] == index[k] for k in range(len(data))]
    x = " ".join(f"a{k}" if s else f"x{k}" for k, s in enumerate(same))
    i = " ".join(f"a{k}" if s else f"y{k}" for k, s in enumerate(same))
    return f"{x}, {i} -> {i}" if site.node.op == "GatherElements" else f"{x}, {i}, {i} -> {x}"


rule("GatherElements", notation=_elements, roles=_ACROSS, zero=(0,), blends=True, range=kept)
rule(
    "ScatterElements Scatter",
    notation=_elements,
    roles=_ACROSS,
    zero=(0, 2),
    range=scattered,
)


def _depth(site: Site) -> int:
    """How many axes of the data an index tuple picks from."""
    last = site.dims(1)[-1]
    if last is None:
        raise RowError("the length of the index tuples is known only at run time", Reason.RUNTIME)
    return last


def _gather_nd(site: Site) -> str:
    batch, depth, rank = int(site.attr("batch_dims", 0)), _depth(site), site.rank(0)
    lead = _named("b", range(batch))
    inside = _named("i", range(batch, site.rank(1) - 1))
    rest = _named("a", range(batch + depth, rank))
    data = lead + _named("x", range(batch, batch + depth)) + rest
    return f"{' '.join(data)}, {' '.join(lead + inside)} y -> {' '.join(lead + inside + rest)}"


rule(
    "GatherND com.microsoft.GatherND",
    notation=_gather_nd,
    roles=_ACROSS,
    zero=(0,),
    blends=True,
    range=kept,
)


def _scatter_nd(site: Site) -> str:
    depth, rank = _depth(site), site.rank(0)
    rest = _named("a", range(depth, rank))
    data = " ".join(_named("x", range(depth)) + rest)
    inside = _named("y", range(site.rank(1) - 1))
    return f"{data}, {' '.join([*inside, 'z'])}, {' '.join(inside + rest)} -> {data}"


rule(
    "ScatterND",
    notation=_scatter_nd,
    roles={**_ACROSS, "z": "across"},
    zero=(0, 2),
    range=scattered,
)


def _reverse(site: Site) -> str:
    batch, time = int(site.attr("batch_axis", 1)), int(site.attr("time_axis", 0))
    names = _named("a", range(len(site.dims(0))))
    names[batch], names[time] = "b", "x"
    return f"{' '.join(names)}, b -> {' '.join(names)}"


rule("ReverseSequence", notation=_reverse, roles=_ACROSS, zero=(), blends=True, range=kept)


def _compress(site: Site) -> str:
    if site.attr("axis") is None:
        raise RowError("it picks from the flattened data at run time", Reason.RUNTIME)
    before, after = _one_axis(site, int(site.attr("axis")))
    return f"{before}, ~ -> {after}"


rule("Compress", notation=_compress, roles=_ACROSS, zero=(), blends=True, range=kept)


def _triangle(site: Site, ranges: Sequence[Range]) -> Range:
    return ranges[0] | ZERO


rule(
    "Trilu com.microsoft.Trilu",
    notation="... x y, ~ -> ... x y",
    roles=_ACROSS,
    zero=(),
    range=_triangle,
)
