"""The index proof: every node of a space, run again on indices, must commute with copying.

It reads no weights. For a data movement, the student's table applied to the student's
positions must land where the teacher's table lands; for a computing node, the sources of
all axes that share a factor must agree, products included.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_net2net.coupling.index_flow import came_from
from onnx_net2net.growth.widen.copy_layout import Joint
from onnx_net2net.operators.factors import Factor
from onnx_net2net.operators.notation import Entry
from onnx_net2net.operators.spec import Block, Site
from onnx_net2net.operators.table import TABLE
from onnx_net2net.typing import Array

_Sources = Mapping[Entry, Array]
"""Entry -> student position -> teacher position, for the axes that grow."""


def _flat(sources: list[Array], sizes: list[int]) -> Array:
    """Teacher's flat index for each of the student's, over several dimensions."""
    total = np.zeros([len(s) for s in sources], np.int64)
    for k, s in enumerate(sources):
        stride = int(np.prod(sizes[k + 1 :]))
        total = total + (s * stride).reshape([-1 if j == k else 1 for j in range(len(sources))])
    return total.reshape(-1)


def _axis(sources: _Sources, site: Site, slot: int, dim: int, out: bool) -> tuple[Array, int]:
    size = (site.out_dims(slot) if out else site.dims(slot))[dim] or 0
    entry = (-1 - slot, dim) if out else (slot, dim)
    found = sources.get(entry)
    return (np.arange(size) if found is None else found), size


def _any(marks: list[Array]) -> Array:
    """The marks of flat positions over several dimensions, the largest of each."""
    total = np.zeros([len(m) for m in marks], np.int64)
    for k, m in enumerate(marks):
        total = np.maximum(total, m.reshape([-1 if j == k else 1 for j in range(len(marks))]))
    return total.reshape(-1)


def _marks(new: _Sources, entry: Entry, source: Array) -> Array:
    return new.get(entry, np.zeros(len(source), np.int64))


def _commutes(
    block: Block, student: Block | None, site: Site, sources: _Sources, new: _Sources
) -> bool:
    ins = [_axis(sources, site, s, k, False) for s, k in block.ins]
    outs = [_axis(sources, site, s, k, True) for s, k in block.outs]
    if block.aligned:
        first = (ins + outs)[0][0]
        return all(np.array_equal(first, s) for s, _ in ins + outs)
    into = _flat([s for s, _ in ins], [n for _, n in ins])
    out = _flat([s for s, _ in outs], [n for _, n in outs])
    before = _any([_marks(new, e, s) for e, (s, _) in zip(block.ins, ins, strict=True)])
    entries = [(-1 - s, k) for s, k in block.outs]
    after = _any([_marks(new, e, s) for e, (s, _) in zip(entries, outs, strict=True)])
    if block.contiguous:
        return np.array_equal(into, out) and (not new or np.array_equal(before, after))
    if student is None:
        return False
    table = student.table.reshape(-1)
    if len(table) != len(out):
        return False
    wanted = block.table.reshape(-1)[out]
    real = table >= 0
    if not np.array_equal(np.where(real, 0, table), np.where(wanted >= 0, 0, wanted)):
        return False
    if new and not np.array_equal(before[table[real]], after[real]):
        return False
    return bool((into[table[real]] == wanted[real]).all())


def movement_commutes(
    teacher: Site, student: Site, sources: _Sources, new: _Sources | None = None
) -> bool:
    """Whether a data movement of the student moves copies as the teacher moves sources.

    Args:
        student: the same node with the student's shapes and operands.
        new: marks of the positions on each axis, 0 for copies; every position must come from
            one with the same mark.
    """
    row = TABLE[teacher.node.op]
    assert row.movement is not None
    try:
        blocks = row.movement(teacher)
        grown = [b for b in blocks if _touched(b, sources)]
        if all(b.contiguous or b.aligned for b in grown):
            others: dict[tuple[object, object], Block] = {}
        else:
            others = {(b.ins, b.outs): b for b in row.movement(student)}
        return all(
            _commutes(b, others.get((b.ins, b.outs)), teacher, sources, new or {}) for b in grown
        )
    except LookupError:
        return False


def joint_commutes(teacher: Site, student: Site, joint: Mapping[str, Joint]) -> bool:
    """The same where channels move over several axes together.

    Args:
        teacher: the node.
        student: the same node with the student's shapes and operands.
        joint: tensor -> where its positions come from.
    """
    row = TABLE[teacher.node.op]
    assert row.movement is not None
    dims = {t: j.dims for t, j in joint.items()}
    node = teacher.node
    try:
        before, after = row.movement(teacher), row.movement(student)
        for out, tensor in enumerate(node.outputs):
            if tensor not in dims:
                continue
            slot, place = came_from(teacher, before, dims, out)
            mine, here = came_from(student, after, dims, out)
            source = joint[tensor].source
            real = source >= 0  # free rows come from free rows
            if len(source) != len(mine) or not np.array_equal(slot[source[real]], mine[real]):
                return False
            wanted = np.where(real, place[source], -1)
            if (~real & (mine < 0)).any():
                return False
            for s in np.unique(mine[mine >= 0]):
                at = mine == s
                if not np.array_equal(joint[node.inputs[s]].source[here[at]], wanted[at]):
                    return False
    except (LookupError, ValueError):
        return False
    return True


def _touched(block: Block, sources: _Sources) -> bool:
    return any(e in sources for e in block.ins) or any(
        (-1 - s, k) in sources for s, k in block.outs
    )


def factors_commute(
    factors: list[Factor], carried: list[Factor], sources: _Sources
) -> tuple[bool, dict[int, Array]]:
    """Whether the sources of a computing node's axes agree, factor by factor.

    Args:
        factors: all factors of the node; `carried`: those that carry the space's labels.

    Returns:
        (agree, id of a carried factor -> its own source, student index -> teacher index)
    """
    by_entry: dict[Entry, list[Factor]] = {}
    for f in factors:
        for entry, index in f.at.items():
            if len(index):
                by_entry.setdefault(entry, []).append(f)
    own: dict[int, Array] = {}
    for entry, source in sources.items():
        if not _axis_commutes(by_entry.get(entry, []), carried, entry, source, own):
            return False, own
    for f in carried:  # an operand that must grow with the others, but did not
        if id(f) in own and any(e not in sources and _full(f, e) for e in f.at):
            return False, own
    return True, own


def _axis_commutes(
    parts: list[Factor], carried: list[Factor], entry: Entry, source: Array, own: dict[int, Array]
) -> bool:
    """Whether one axis' source is what its factors' are, which join `own`."""
    if not any(f is c for f in parts for c in carried):
        return False
    labels = np.array([f.at[entry] for f in parts])
    stretch = _stretches(labels)
    if (np.diff(stretch[source]) < 0).any():
        return False
    for k in range(int(stretch[-1]) + 1):
        here = stretch == k
        inside = source[stretch[source] == k]
        live = [(f, i) for f, i in zip(parts, labels, strict=True) if i[here][0] >= 0]
        if live and not _product_commutes(live, carried, here, inside, own):
            return False
        if not live and not np.array_equal(inside, np.flatnonzero(here)):
            return False
    return True


def _stretches(labels: Array) -> Array:
    """Which of the products that lie end to end along an axis each position belongs to.

    Args:
        labels: [factor, position], -1 where a factor has no index.
    """
    live = labels >= 0
    begins: Array = np.asarray(live.any(0) & (labels <= 0).all(0))
    begins[1:] |= (live[:, 1:] != live[:, :-1]).any(0)
    begins[0] = False
    return np.cumsum(begins)


def _product_commutes(
    parts: list[tuple[Factor, Array]], carried: list[Factor], here: Array, source: Array,
    own: dict[int, Array],
) -> bool:  # fmt: skip
    """Whether the sources of one product agree with each other and with `own`, which they join."""
    strides = {id(f): int(np.argmax(i[here] > 0)) or int(here.sum()) for f, i in parts}
    parts = sorted(parts, key=lambda p: -strides[id(p[0])])
    growing = [f for f, _ in parts if any(f is c for c in carried)]
    if len(growing) > 1:
        return False
    others = int(np.prod([f.size for f, _ in parts if f not in growing]))
    if len(source) % others or (not growing and len(source) != others):
        return False
    inner = len(source)
    for f, labels in parts:
        size = len(source) // others if f in growing else f.size
        inner //= size
        position = (np.arange(len(source)) // inner) % size
        index = labels[source]
        if f not in growing:
            if not np.array_equal(index, position):
                return False
            continue
        found = np.full(size, -1)
        found[position] = index
        if not np.array_equal(found[position], index):
            return False
        known = own.setdefault(id(f), found)
        if not np.array_equal(known, found):
            return False
    return True


def _full(f: Factor, entry: Entry) -> bool:
    return bool((f.at[entry] >= 0).all())
