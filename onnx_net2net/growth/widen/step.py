"""Net2WiderNet: one step from a model to a wider one that computes the same function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from onnx_net2net.coupling.catalogue import layer_space, layer_spaces, space_name, spaces
from onnx_net2net.coupling.lookup import find, nearest
from onnx_net2net.coupling.space import Axis, Space
from onnx_net2net.errors import (
    AmbiguousError,
    Reason,
    RefusalError,
    TooLargeError,
    UsageError,
    asking,
)
from onnx_net2net.growth.widen.changes import Edits, Growth
from onnx_net2net.growth.widen.interface import (
    changed,
    check,
    check_closed,
    declaration,
    explaining,
    named,
    touches,
    with_tables,
)
from onnx_net2net.growth.widen.normalised_axes import beyond_multiples, padded
from onnx_net2net.growth.widen.planner import grow, grow_woven
from onnx_net2net.growth.widen.result import Widened
from onnx_net2net.growth.widen.rewrite import Grown, patch_of
from onnx_net2net.growth.widen.scheme import Scheme
from onnx_net2net.growth.widen.units import Row
from onnx_net2net.growth.widen.verb import Widen
from onnx_net2net.growth.widen.widths import Widths, draw, target
from onnx_net2net.inference.analysis import Analysis


def widen_step(analysis: Analysis, asked: Widen, rows: Row | None = None) -> Widened:
    """Widen one space of a model.

    Args:
        analysis: of the teacher.
        asked: one `node` (`width` is then the length of its output axis) or one `space`
            (`width` is then its size), with a width or a ratio.
        rows: another kind of new units than the step's `init` asks for.

    Raises:
        RefusalError: no function-preserving way. AmbiguousError, UsageError: the arguments.

    Source: Net2Net (Chen, Goodfellow, Shlens 2015), section 2.1 and algorithm 1.
    """
    scheme = Scheme.of(asked)
    name = str(getattr(asked, asked.selector))
    analysis = analysis.opened() if asked.allow_interface else analysis
    with asking(f"'{name}'"):
        found, axis = _named(analysis, name) if asked.space is None else _space(analysis, name)
    rows = rows or scheme.row
    outside = touches(analysis, found) if asked.allow_interface else set()
    if outside:
        found = with_tables(analysis, found)
    if "input" in outside:
        if rows not in (Row.COPY, Row.FREE) or not scheme.preserving:
            raise UsageError(
                "zero weights read what is new of an input", "leave init and noise out"
            )
        rows = Row.FREE
    one = _Widening(analysis, found, axis, asked, name, scheme, rows)
    with asking(f"'{name}'"), explaining(bool(outside)):
        growth = one.to(one.widths) if outside else one.tried()
        if asked.allow_interface:
            check(analysis, growth)
    return widened(analysis, growth, name, axis, scheme)


@dataclass(frozen=True)
class _Widening:
    """One space that is to grow, and how."""

    analysis: Analysis
    space: Space
    axis: Axis
    asked: Widen
    name: str
    scheme: Scheme
    rows: Row

    @property
    def widths(self) -> Widths:
        return Widths.of(self.space, self.axis if self.asked.space is None else None, self.rows)

    def target(self, widths: Widths) -> int:
        """The width that was asked for."""
        asked = self.asked
        return target(widths, asked.width, asked.ratio, asked.multiple_of, self.name)

    def to(self, widths: Widths) -> Growth:
        """Grown to the width that was asked for."""
        wanted = self.target(widths)
        _check_memory(self.analysis, self.space, wanted / widths.today)
        mapping, seed = self.asked.mapping, self.scheme.seed
        units = draw(widths, wanted, mapping, seed, self.name, self.rows)
        return grow(
            self.analysis, self.space, padded(self.analysis, self.space, units), self.scheme
        )

    def tried(self) -> Growth:
        """What works: any copies, then multiples alone, then copies woven in."""
        if self.rows is not Row.COPY:
            return self.to(self.widths)
        widths = beyond_multiples(self.analysis, self.space, self.widths)
        if widths.padded and self.asked.ratio is not None:
            with suppress(RefusalError):
                return self.to(widths)
            widths = self.widths
        try:
            return self.to(widths)
        except RefusalError as why:
            woven = self.woven(widths) if why.refusal.reason is Reason.MISALIGNED else None
            if woven is None:
                raise
            return woven

    def woven(self, widths: Widths) -> Growth | None:
        """Grown to this width, with a ratio at least to it, by copies placed by execution."""
        if self.asked.ratio is None:
            least = most = self.target(widths)
        else:
            least, most = math.ceil(round(self.asked.ratio * widths.today, 6)), 3 * widths.today
        tried = (w for w in range(least, most + 1) if w % self.asked.multiple_of == 0)
        return grow_woven(self.analysis, self.space, self.axis, tried, self.name, self.scheme)


def _named(analysis: Analysis, node: str) -> tuple[Space, Axis]:
    """The width of a layer, or of a part of the interface."""
    if not analysis.interface_may_grow:
        check_closed(analysis, node)
        return layer_space(analysis, find(analysis, node))
    with explaining(True):
        return named(analysis, node) or layer_space(analysis, find(analysis, node))


def _space(analysis: Analysis, space: str) -> tuple[Space, Axis]:
    """The width that `inspect` lists under a name."""
    own = _part(analysis, space)
    if own is not None:
        return own
    known, blocked = spaces(analysis)
    wanted = {space, _whole_name(analysis, space)}
    for found, axis, nodes in known:
        if space_name(found, nodes[0]) in wanted:
            return found, axis
    for b in blocked:
        if b.node == space:
            raise RefusalError(b.refusal)
    names = [space_name(found, nodes[0]) for found, _, nodes in known]
    like = nearest(space, names)
    hint = f"did you mean {', '.join(like)}?" if like else "`inspect` lists the spaces"
    raise AmbiguousError(f"no space is named '{space}'", hint, like or names)


def _part(analysis: Analysis, space: str) -> tuple[Space, Axis] | None:
    """`qkv:heads` as one of the widths of `/attention/qkv/MatMul`, whatever other layers have."""
    layer, _, part = space.rpartition(":")
    if not layer:
        return None
    with suppress(AmbiguousError, RefusalError):
        found, axis = layer_spaces(analysis, find(analysis, layer))
        return next(((s, axis) for s in found if s.part == part), None)
    return None


def _whole_name(analysis: Analysis, layer: str) -> str:
    """`conv1` as `/layer/conv1/Conv`."""
    with suppress(AmbiguousError):
        return find(analysis, layer).name
    return layer


def _free_memory() -> float:
    """Bytes that can be had, page cache included; infinite where the system does not say."""
    with suppress(OSError), open("/proc/meminfo") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024.0
    return math.inf


def _check_memory(analysis: Analysis, space: Space, ratio: float) -> None:
    dims: dict[tuple[str, object], int] = {}
    for tensor, use, _ in space.labels:
        if tensor in analysis.model.leaves:
            dims[tensor, use] = dims.get((tensor, use), 0) + 1
    need = sum(
        4.0 * math.prod(analysis.model.leaves[tensor].shape) * ratio**count
        for (tensor, _), count in dims.items()
    )
    free = _free_memory()
    if need > free:
        raise TooLargeError(
            f"the changed weights would need {need / 2**30:,.4g} GiB, "
            f"{free / 2**30:,.1f} GiB are free",
            "choose a smaller width",
        )


def widened(analysis: Analysis, growth: Growth, name: str, axis: Axis, scheme: Scheme) -> Widened:
    """The patch of a growth, with what a person wants to know about it.

    Args:
        analysis: of the teacher.
        growth: as planned.
        name, axis: what the user named, and its axis.
        scheme: how new units come about.
    """
    outputs, readers = [], []
    for node in analysis.layers():
        made = analysis.output_axis(node)
        if made is not None and (made[0], None, made[1]) in growth.space.labels:
            outputs.append(node.name)
        carried = growth.space.passages.get((node.index, None), [])
        if any(f.role == "sum" for f in carried):
            readers.append(node.name)
    patch, grown = patch_of(analysis, growth, scheme)
    interface = changed(analysis, growth)
    if interface:
        patch.append(declaration(analysis, interface))
    width = (len(growth.space.labels[axis]), len(growth.layout.source[axis]))
    return Widened(
        name,
        (axis[0], axis[2]),
        width,
        tuple(outputs),
        tuple(readers),
        growth.space.uniform if growth.units.padding is None else None,
        tuple(sorted(growth.parted)),
        len(growth.divisions),
        patch,
        grown,
        growth.units,
        scheme,
        _edits(analysis, growth, grown),
        scheme.preserving,
        interface,
    )


def _edits(analysis: Analysis, growth: Growth, grown: Sequence[Grown]) -> Edits:
    nodes = analysis.model.nodes
    uses = tuple(
        tuple(
            (nodes[use[0]].name, use[1])
            for (leaf, use), change in growth.constants.items()
            if leaf == g.source and change.same(g.change)
        )
        for g in grown
    )
    attributes = tuple(
        {"node": nodes[k].name, "attribute": name, "before": nodes[k].attr(name), "after": value}
        for (k, name), value in growth.attributes.items()
    )
    literals = []
    for o in growth.operands:
        node = nodes[o.instance[0]]
        said = {"node": node.name, "op": node.op, "after": o.value.tolist()}
        if o.slot is None:
            literals.append({**said, "attribute": o.attribute, "before": node.attr(o.attribute)})
            continue
        tensor = node.inputs[o.slot] if o.slot < len(node.inputs) else ""
        before = analysis.first.values.get(tensor)
        known = None if before is None else np.asarray(before).tolist()
        literals.append({**said, "slot": o.slot, "before": known})
    return Edits(uses, attributes, tuple(literals))
