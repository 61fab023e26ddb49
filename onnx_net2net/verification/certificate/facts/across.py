"""Operators that read whole axes: windows, orders, reductions, scattered positions."""

from __future__ import annotations

from string import ascii_lowercase

from onnx_net2net.verification.certificate.domain import UnknownError
from onnx_net2net.verification.certificate.facts.lines import fact
from onnx_net2net.verification.certificate.transfer.base import At

_M = "com.microsoft"


def _shape(at: At, slot: int) -> tuple[int, ...]:
    term = at.args[slot] if slot < len(at.args) else None
    if term is None:
        raise UnknownError(f"input {slot} is missing")
    return term.shape


def _letters(count: int, start: int = 0) -> list[str]:
    if start + count > len(ascii_lowercase):
        raise UnknownError(f"{count} axes")
    return list(ascii_lowercase[start : start + count])


def _same_places(at: At) -> str:
    """Data and indices lie side by side along all axes but one."""
    data, index = _shape(at, 0), _shape(at, 1)
    axis = int(at.node.attr("axis", 0)) % len(data)
    names, others = _letters(len(data)), _letters(len(data), len(data))
    apart = [k == axis or data[k] != index[k] for k in range(len(data))]
    mine = [n.upper() if a else n for n, a in zip(names, apart, strict=True)]
    theirs = [o.upper() if a else n for n, o, a in zip(names, others, apart, strict=True)]
    if at.node.op == "GatherElements":
        given = [o if k == axis else t for k, (o, t) in enumerate(zip(others, theirs, strict=True))]
        return f"{' '.join(mine)}, {' '.join(given)} -> {' '.join(given)}"
    return f"{' '.join(mine)}, {' '.join(theirs)}, {' '.join(theirs)} -> {' '.join(mine)}"


_READ = dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "across")
fact("GatherElements ScatterElements Scatter", _same_places, **_READ)


def _gather_nd(at: At) -> str:
    data, index = _shape(at, 0), _shape(at, 1)
    batch, depth = int(at.node.attr("batch_dims", 0)), index[-1]
    names = _letters(batch)
    taken = [n.upper() for n in _letters(depth, batch)]
    rest = _letters(len(data) - batch - depth, batch + depth)
    free = _letters(len(index) - batch - 1, len(data))
    mine, where = [*names, *taken, *rest], [*names, *free, "Z"]
    return f"{' '.join(mine)}, {' '.join(where)} -> {' '.join([*names, *free, *rest])}"


fact(f"GatherND {_M}.GatherND", _gather_nd, **_READ)


def _scatter_nd(at: At) -> str:
    data, index = _shape(at, 0), _shape(at, 1)
    depth = index[-1]
    put = [n.upper() for n in _letters(depth)]
    rest = _letters(len(data) - depth, depth)
    free = [n.upper() for n in _letters(len(index) - 1, len(data))]
    mine = " ".join([*put, *rest])
    return f"{mine}, {' '.join([*free, 'Z'])}, {' '.join([*free, *rest])} -> {mine}"


fact("ScatterND", _scatter_nd, **_READ)


def _reversed(at: At) -> str:
    batch, time = int(at.node.attr("batch_axis", 1)), int(at.node.attr("time_axis", 0))
    names = _letters(len(_shape(at, 0)))
    names[time] = names[time].upper()
    return f"{' '.join(names)}, {names[batch]} -> {' '.join(names)}"


fact("ReverseSequence", _reversed, "all", **_READ)


def _along_one(at: At) -> str:
    """One axis is read in its order; a scalar may say which."""
    rank = len(_shape(at, 0))
    given = at.ints(1) if at.node.op in ("CumProd", "CumSum") else None
    axis = given[0] if given else at.node.attr("axis")
    if axis is None:
        raise UnknownError("all axes are taken as one")
    names = _letters(rank)
    names[int(axis) % rank] = "A"
    made = ["B" if n == "A" else n for n in names] if at.node.op == "Compress" else names
    more = ", C" if at.node.op == "Compress" else ", 1"
    return f"{' '.join(names)}{more} -> {' '.join(made)}"


fact("CumProd Compress", _along_one, **_READ)
fact(f"Trilu {_M}.Trilu", "... x y, 1 -> ... x y", x="across", y="across")
fact("LRN", "n c ... -> n c ...", "all", c="across")
fact("Det", "... x y -> ...", x="across", y="across")
fact(f"{_M}.Inverse", "... x y -> ... x y", x="across", y="across")
fact(f"{_M}.CDist", "m k, n k -> m n", k="across")
fact(f"{_M}.TorchEmbedding", "v d, ..., 1, 1 -> ... d", v="across")
fact(f"{_M}.CropAndResize", "x c *, r w, r, s -> r c *", x="across")
fact("Col2Im", "n x y, s, t -> n z *", **dict.fromkeys("xyz", "across"))
fact("AffineGrid", "n x y, s -> n *")


def _one_hot(at: At) -> str:
    names = _letters(len(_shape(at, 0)))
    axis = int(at.node.attr("axis", -1)) % (len(names) + 1)
    return f"{' '.join(names)}, 1, V -> {' '.join([*names[:axis], 'A', *names[axis:]])}"


fact("OneHot", _one_hot, **_READ)


def _transformed(at: At) -> str:
    """A Fourier transform of one axis; the last holds real and imaginary parts."""
    rank = len(_shape(at, 0))
    if at.since >= 20:
        axis = (at.ints(2) or [-2])[0] if at.has(2) else -2
    else:
        axis = int(at.node.attr("axis", 1))
    names, axis = _letters(rank), axis % rank
    if axis == rank - 1:
        raise UnknownError("the axis of the parts is transformed")
    names[axis], names[-1] = "A", "B"
    made = [{"A": "C", "B": "D"}.get(n, n) for n in names]
    return f"{' '.join(names)}, 1, 1 -> {' '.join(made)}"


fact("DFT", _transformed, **_READ)


def _updated(at: At) -> str:
    """A cache in which some positions of one axis are written."""
    names = _letters(len(_shape(at, 0)))
    axis = int(at.node.attr("axis", -2)) % len(names)
    if axis == 0:
        raise UnknownError("the batch is written to")
    mine, theirs = list(names), list(names)
    mine[axis], theirs[axis] = "A", "B"
    return f"{' '.join(mine)}, {' '.join(theirs)}, {names[0]} -> {' '.join(mine)}"


fact("TensorScatter", _updated, **_READ)


def _grouped_images(at: At) -> str:
    """Images whose channels lie last or second; groups of these are normalised."""
    return "n *, c, d, n *, e -> n *, n *" if "Skip" in at.node.op else "n *, c, d -> n *"


fact(f"{_M}.GroupNorm {_M}.SkipGroupNorm", _grouped_images)


def _deformed(at: At) -> str:
    if at.node.attr("group", 1) != 1 or at.node.attr("offset_group", 1) != 1:
        raise UnknownError("several groups")
    return "n I *, o J *, n K *, o, n M * -> n o *"


fact("DeformConv", _deformed, **_READ)
fact(f"{_M}.GemmFastGelu", "... k, k n, n -> ... n")
