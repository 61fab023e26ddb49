"""Net2WiderNet: one step from a model to a wider one that computes the same function."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress

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
from onnx_net2net.growth.widen.units import Row, Units
from onnx_net2net.growth.widen.widths import Widths, draw, target
from onnx_net2net.inference.analysis import Analysis


def widen_step(
    analysis: Analysis,
    *,
    node: str | None = None,
    space: str | None = None,
    width: int | None = None,
    ratio: float | None = None,
    multiple_of: int = 1,
    mapping: str | Sequence[int] = "random",
    split: str = "zero-sum",
    seed: int = 0,
    init: str = "replicate",
    noise: float = 0.0,
    rows: Row | None = None,
    allow_interface: bool = False,
) -> Widened:
    """Widen one space of a model.

    Args:
        node: a layer; `width` is then the length of its output axis.
        space: a space as `inspect` names it; `width` is then its size.
        width, ratio: the new width, or at least this times today's.
        multiple_of: round the width up to a multiple.
        mapping: `random`, `balanced` or the source of each new unit.
        split, init, noise: how new units come about, see `Scheme`.
        rows: another kind of new units than `init` asks for.
        allow_interface: also what is the model's own input or output.

    Raises:
        RefusalError: no function-preserving way. AmbiguousError, UsageError: the arguments.

    Source: Net2Net (Chen, Goodfellow, Shlens 2015), section 2.1 and algorithm 1.
    """
    if (node is None) == (space is None):
        raise UsageError("name either a node or a space to widen")
    if isinstance(mapping, str) and mapping not in ("random", "balanced"):
        raise UsageError(f"unknown mapping '{mapping}'", "choose random, balanced or give a list")
    scheme = Scheme(split, seed, init, noise)
    if init != "replicate" and not (isinstance(mapping, str) and mapping == "random"):
        raise UsageError(f"init '{init}' makes no copies", "leave the mapping out")
    asked = node if node is not None else str(space)
    analysis = analysis.opened() if allow_interface else analysis
    with asking(f"'{asked}'"):
        found, axis = _space(analysis, node, space)
    rows = rows or scheme.row
    outside = touches(analysis, found) if allow_interface else set()
    if outside:
        found = with_tables(analysis, found)
    if "input" in outside:
        if init not in ("replicate", "fresh") or noise:
            raise UsageError(
                "zero weights read what is new of an input", "leave init and noise out"
            )
        rows = Row.FREE
    whole = widths = Widths.of(found, axis if node is not None else None, rows)
    if rows is Row.COPY and not outside:
        widths = beyond_multiples(analysis, found, widths)
    wanted = target(widths, width, ratio, multiple_of, asked)
    _check_memory(analysis, found, wanted / widths.today)

    def units(of: Widths) -> Units:
        size = target(of, width, ratio, multiple_of, asked)
        return padded(analysis, found, draw(of, size, mapping, seed, asked, rows))

    with asking(f"'{asked}'"), explaining(bool(outside)):
        options = [widths, whole] if widths.padded and ratio is not None else [widths]
        try:
            growth = _grown(analysis, found, map(units, options), scheme)
        except RefusalError as why:
            if outside or why.refusal.reason is not Reason.MISALIGNED or rows is not Row.COPY:
                raise
            least = wanted if ratio is None else math.ceil(round(ratio * widths.today, 6))
            most = wanted if ratio is None else 3 * widths.today
            tried = (w for w in range(least, most + 1) if w % multiple_of == 0)
            woven = grow_woven(analysis, found, axis, tried, asked, scheme)
            if woven is None:
                raise
            growth = woven
        if allow_interface:
            check(analysis, growth)
    return widened(analysis, growth, asked, axis, scheme)


def _grown(analysis: Analysis, space: Space, drawn: Iterable[Units], scheme: Scheme) -> Growth:
    """With the first units that fit; raises what was said of the last."""
    refused: RefusalError | None = None
    for units in drawn:
        try:
            return grow(analysis, space, units, scheme)
        except RefusalError as why:
            refused = why
    assert refused is not None
    raise refused


def _space(analysis: Analysis, node: str | None, space: str | None) -> tuple[Space, Axis]:
    if node is not None and analysis.interface_may_grow:
        with explaining(True):
            return named(analysis, node) or layer_space(analysis, find(analysis, node))
    if node is not None:
        check_closed(analysis, node)
        return layer_space(analysis, find(analysis, node))
    own = _part(analysis, str(space))
    if own is not None:
        return own
    known, blocked = spaces(analysis)
    wanted = {space, _whole_name(analysis, str(space))}
    for found, axis, nodes in known:
        if space_name(found, nodes[0]) in wanted:
            return found, axis
    for b in blocked:
        if b.node == space:
            raise RefusalError(b.refusal)
    names = [space_name(found, nodes[0]) for found, _, nodes in known]
    like = nearest(str(space), names)
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
    """The patch of a growth, with what a person wants to know about it."""
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
        patch += declaration(analysis, interface)
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
