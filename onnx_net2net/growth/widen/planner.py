"""From spaces and new units to everything that changes: arrays, attributes, operands, nodes.

Data flows one way: layout -> what each constant becomes -> which uses of shared constants
part -> the student's shape arithmetic -> the index proof. No weights are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction

import numpy as np

from onnx_net2net.coupling.space import Axis, Instance, Space, axis_of
from onnx_net2net.errors import Reason, Refusal, RefusalError
from onnx_net2net.graph.model import Node
from onnx_net2net.graph.traversal import downstream
from onnx_net2net.growth.widen.changes import Change, Growth, Use
from onnx_net2net.growth.widen.copy_layout import Layout, layout
from onnx_net2net.growth.widen.division import divide_among_copies
from onnx_net2net.growth.widen.index_proof import (
    factors_commute,
    joint_commutes,
    movement_commutes,
)
from onnx_net2net.growth.widen.multiplicity import even_out
from onnx_net2net.growth.widen.normalised_axes import keep_tied, rescale_norms
from onnx_net2net.growth.widen.scheme import Scheme
from onnx_net2net.growth.widen.shape_operands import Sizes, follow
from onnx_net2net.growth.widen.shuffled_layout import Weaver
from onnx_net2net.growth.widen.units import Row, Units
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.notation import Entry
from onnx_net2net.operators.spec import Rule, Site
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array

_PLAIN = Scheme()
_RANDOM = {Row.FREE, Row.TWIN}


def _sources_of(analysis: Analysis, growth: Layout, instance: Instance) -> dict[Entry, Array]:
    """The sources of a node's axes, for those that grow."""
    node, tag = analysis.model.nodes[instance[0]], instance[1]
    found = {}
    for slot, tensor in [
        *enumerate(node.reads),
        *((-1 - k, t) for k, t in enumerate(node.makes)),
    ]:
        if not tensor:
            continue
        use = None
        if tensor in analysis.model.constant:
            use = tag or (node.index, slot)
        for dim in range(len(analysis.first.shapes.get(tensor) or ())):
            s = growth.source.get((tensor, use, dim))
            if s is not None and len(s) != (analysis.first.shapes[tensor] or ())[dim]:
                found[slot, dim] = s
    return found


def grow_woven(
    analysis: Analysis, space: Space, axis: Axis, widths: Iterable[int], name: str, scheme: Scheme
) -> Growth | None:
    """Plan one step with copies placed by execution; None if no width works.

    Args:
        axis: the axis whose lengths `widths` are; the first that works is taken.
    """
    today = len(space.labels[axis])
    weaver = Weaver.of(analysis, space)
    for wanted in widths if weaver is not None else ():
        assert weaver is not None
        woven = weaver.weave(Fraction(wanted, today), scheme.seed, name)
        if woven is None:
            continue
        places, units = woven
        with suppress(RefusalError):
            return _grow(analysis, space, units, places, scheme)
    return None


def grow(analysis: Analysis, space: Space, units: Units, scheme: Scheme = _PLAIN) -> Growth:
    """Plan one step: try where copies may land, take what the index proof accepts.

    Args:
        space: what grows; units: its new units; scheme: how they come about.

    Raises:
        RefusalError: no layout works; why the first does not.
    """
    try:
        return _grow(analysis, space, units, layout(space, units, False), scheme)
    except RefusalError as why:
        if why.refusal.reason in (Reason.MISALIGNED, Reason.COMPUTED_SIZE):
            with suppress(RefusalError):
                return _grow(analysis, space, units, layout(space, units, True), scheme)
        raise


def _grow(analysis: Analysis, space: Space, units: Units, places: Layout, scheme: Scheme) -> Growth:
    growth = Growth(space, units, places, random=not scheme.preserving)
    for step in (
        _rows, _carriers, rescale_norms, divide_among_copies, _trains, even_out, keep_tied, _part,
        _attributes, _follow, _prove
    ):  # fmt: skip
        step(analysis, growth)
    if not scheme.how.divides:
        growth.divisions.clear()  # nothing is divided
        growth.corrections.clear()
    return growth


def _rows(analysis: Analysis, growth: Growth) -> None:
    """Rows other than copies pass only where the table says so; of pads `padding` knows."""
    kinds = set(growth.units.kind) - {Row.COPY, Row.PAD}
    if not kinds:
        return
    for (index, tag), carried in growth.space.passages.items():
        node = analysis.model.nodes[index]
        row, site = TABLE[node.op], analysis.first.site(node)
        for f in carried:
            slots = {e[0] for e in f.at if e[0] >= 0}
            constant = {s for s in slots if not tag and node.tensor(s) in analysis.model.constant}
            ends = f.role == "sum" or not any(e[0] < 0 for e in f.at)
            bad = f.role in ("mean", "max") or row.evening(site, f.name) is not None
            zero = bad or bool(slots and not ends and not row.passes_zero(site, slots, constant))
            free = bad or not row.passes_free(site, slots, constant)
            if (Row.ZERO in kinds and zero) or (kinds & _RANDOM and free):
                kind = "zero" if Row.ZERO in kinds and zero else "random"
                detail = f"{kind} rows do not pass {node.op}"
                hint = "copies do: use the init replicate here"
                raise RefusalError(Refusal(Reason.ROW_KIND, node.name, None, detail, hint))


def _trains(analysis: Analysis, growth: Growth) -> None:
    """Refuse free units that only a constant 0 in front of a node would read: no gradient."""
    if any(t in analysis.model.inputs for t, use, _ in growth.space.labels if use is None):
        return  # the model's own input, where the growth says so instead
    if growth.divisions and Row.FREE in growth.units.kind and growth.layout.joint is None:
        node = analysis.model.nodes[growth.divisions[0].node]
        detail = (
            f"no weight reads them at {node.op}, so a constant 0 would, and they could never train"
        )
        hint = "use the init twin or replicate here"
        raise RefusalError(Refusal(Reason.ROW_KIND, node.name, None, detail, hint))


def _carriers(analysis: Analysis, growth: Growth) -> None:
    """Re-index every constant that has an axis in the space."""
    constant: dict[tuple[str, Use], Change] = growth.constants
    kinds = set(growth.units.kind)
    random = growth.random or bool(kinds & _RANDOM)
    padding = growth.units.padding
    for (tensor, use, dim), source in growth.layout.source.items():
        if use is None or tensor not in analysis.model.leaves:
            continue
        change = constant.get((tensor, use))
        if change is None:
            reader = analysis.model.nodes[use[0]]
            keeps = Row.ZERO in kinds and use[1] in TABLE[reader.op].zero_keeps
            weight = random and use[1] in analysis.weights(reader)
            change = constant[tensor, use] = Change({}, {}, weight=weight, keeps=keeps)
        change.source[dim] = source
        change.unit[dim] = growth.layout.unit[tensor, use, dim]
        if padding is not None and (tensor, use, dim) in padding.fill:
            change.pads[dim] = padding.fill[tensor, use, dim]
        if (tensor, use, dim) in growth.layout.grouped:
            change.grouped[dim] = growth.layout.grouped[tensor, use, dim]


def _readers(analysis: Analysis, leaf: str) -> list[Use]:
    """The uses of a leaf by nodes that are not themselves constant; sizes do not count."""
    constant = analysis.model.constant

    def computed(node: Node) -> bool:
        return not node.outputs or any(o not in constant for o in node.outputs if o)

    def through(node: Node) -> bool:
        return not computed(node) and not TABLE.get(node.op, Rule()).sized

    uses = downstream(analysis.model, leaf, through)
    return [(node.index, slot) for node, slot in uses if computed(node)]


def _part(analysis: Analysis, growth: Growth) -> None:
    """Which leaves must be copied because their uses get different arrays."""
    outputs = analysis.model.outputs
    for leaf in {name for name, _ in growth.constants}:
        changes = [growth.constants.get((leaf, use)) for use in _readers(analysis, leaf)]
        first = changes[0] if changes else None
        if leaf in outputs or first is None or not all(first.same(c) for c in changes):
            growth.parted.add(leaf)
            for node in (analysis.model.nodes[u[0]] for n, u in growth.constants if n == leaf):
                if any(n == leaf and _returned(node, u) for n, u in growth.constants):
                    detail = f"a body returns '{leaf}' as it is"
                    hint = "its other readers keep their width; choose another layer"
                    raise RefusalError(Refusal(Reason.MIXED, node.name, None, detail, hint))


def _returned(node: Node, use: Use) -> bool:
    """Whether a use of a constant is that a body of the node returns it."""
    return use[0] == node.index and use[1] >= len(node.inputs)


def _attributes(analysis: Analysis, growth: Growth) -> None:
    """Attributes that hold the size of factors, or a default that depends on one."""
    for instance, carried in growth.space.passages.items():
        node = analysis.model.nodes[instance[0]]
        row, site = TABLE[node.op], analysis.first.site(node)
        if not row.held(site, {f.name: f.size for f in carried}, {}):
            continue
        fs = analysis.factors(node)
        sources = _sources_of(analysis, growth.layout, instance)
        ok, own = factors_commute(fs, carried, sources)
        if not ok:
            raise _misaligned(node)
        grown = {f.name: len(own[id(f)]) for f in carried if id(f) in own}
        held = row.held(site, grown, {f.name: f.size for f in fs})
        for name, value in held.items():
            growth.attributes[node.index, name] = value


def _follow(analysis: Analysis, growth: Growth) -> None:
    grown = {t for t in growth.layout.source if t[1] is None}
    leaves = {
        axis
        for axis in growth.layout.source
        if axis[1] is not None and axis[0] not in growth.parted
    }
    sizes = {(a[0], a[2]): len(growth.layout.source[a]) for a in grown | leaves}
    result = follow(
        analysis,
        sizes,
        set(growth.space.passages),
        lambda instance: _sources_of(analysis, growth.layout, instance),
    )
    growth.operands = result.operands
    _prove_movements(analysis, growth, result)


def _prove_movements(analysis: Analysis, growth: Growth, sizes: Sizes) -> None:
    for instance in growth.space.passages:
        node = analysis.model.nodes[instance[0]]
        if TABLE[node.op].movement is None:
            continue
        sources = _sources_of(analysis, growth.layout, instance)
        if not sources:
            continue
        for k, facts in enumerate(analysis.facts):
            site = facts.site(node)
            if not _moves(site):
                continue
            student = sizes.student(instance, k, sources)
            if growth.layout.joint is not None and instance[1] is None:
                if not joint_commutes(site, student, growth.layout.joint):
                    raise _misaligned(node)
                continue
            new = _not_copies(analysis, growth, instance, sources)
            if not movement_commutes(site, student, sources, new):
                raise _misaligned(node)


def _not_copies(
    analysis: Analysis, growth: Growth, instance: Instance, sources: dict[Entry, Array]
) -> dict[Entry, Array]:
    """Marks of units that are no copies on a node's axes; empty where all are copies.

    Zero and free units may take each other's places, pairs of twins may not.
    """
    marks = {Row.COPY: 0, Row.ZERO: 1, Row.FREE: 1, Row.PAD: 1}
    other = np.array([marks.get(k, 2 + u // 2) for u, k in enumerate(growth.units.kind)] + [0])
    if not other.any():
        return {}
    axes = {e: axis_of(analysis, instance, e) for e in sources}
    return {e: other[growth.layout.unit[a]] for e, a in axes.items()}


def _moves(site: Site) -> bool:
    """False where a movement's indices come at run time and its notation stands instead."""
    row = TABLE[site.node.op]
    try:
        return row.movement is not None and row.movement(site) is not None
    except LookupError:
        return row.notation is None


def _prove(analysis: Analysis, growth: Growth) -> None:
    for instance, carried in growth.space.passages.items():
        node = analysis.model.nodes[instance[0]]
        row = TABLE[node.op]
        if row.movement and _moves(analysis.first.site(node)):
            continue
        if row.notation is None and row.ties is None:
            continue
        fs = analysis.factors(node)
        given = _sources_of(analysis, growth.layout, instance)
        sources: dict[Entry, Array] | None = given
        if growth.layout.joint is not None:
            sources = _ungrouped(fs, carried, given, growth.layout, instance, node)
        if sources is None:
            raise _misaligned(node)
        agree, own = factors_commute(fs, carried, sources)
        averaged = [f for f in carried if f.averaged and any(e in given for e in f.at)]
        padding = growth.units.padding
        if padding is not None and instance[1] is None and instance[0] in padding.parts:
            averaged = []  # whole copies, and pads that its statistics allow for
        if not agree or not all(_even(own.get(id(f))) for f in averaged):
            raise _misaligned(node)


def _even(source: Array | None) -> bool:
    """Whether everything is copied equally often."""
    return source is not None and len(set(np.unique(source, return_counts=True)[1].tolist())) == 1


def _ungrouped(
    fs: list[Factor], carried: list[Factor], sources: dict[Entry, Array], places: Layout,
    instance: Instance, node: Node,
) -> dict[Entry, Array] | None:  # fmt: skip
    """Check what moves inside groups, and leave it out; None where it leaves its group."""
    rest = dict(sources)
    for f in carried:
        inside = [e for e, i in f.at.items() if not np.array_equal(i, np.arange(f.size))]
        if not inside:
            continue
        at = {e: sources[e] for e in f.at if e in sources}
        for e in inside:
            count = len(f.at[e]) // f.size
            source = at.get(e)
            if source is None or len(source) % count:
                return None
            same = np.arange(len(source)) * count // len(source) == source // f.size
            tensor = node.tensor(e[0])
            use = (
                None
                if instance[1] is None and (tensor, None, e[1]) in places.unit
                else (instance[1] or (node.index, e[0]))
            )
            if not (same | (places.unit[tensor, use, e[1]] >= 0)).all():
                return None
            if any(
                o not in at or not np.array_equal(source, at[o]) for o in inside if f.role != "sum"
            ):
                return None
        for e in f.at:
            rest.pop(e, None)
    return rest


def _misaligned(node: Node) -> RefusalError:
    hint = "try a whole multiple of today's width, or another layer"
    return RefusalError(Refusal(Reason.MISALIGNED, node.name, detail=node.op, hint=hint))
