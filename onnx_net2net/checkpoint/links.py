"""Which parameters each constant of the teacher was made of: by name and by value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np

from onnx_net2net.coupling.lookup import nearest
from onnx_net2net.errors import UsageError
from onnx_net2net.files.source import Source
from onnx_net2net.graph.model import Leaf, Model, Node
from onnx_net2net.graph.traversal import downstream
from onnx_net2net.growth.record import Use
from onnx_net2net.typing import Array
from .folding import Norm, explains, factor, norms
from .names import closeness, module, module_of_node
from .views import GATES, View, same_entries, view_of

_FOLDS = ("Conv", "ConvTranspose", "Gemm", "com.microsoft.FusedConv")


@dataclass(frozen=True)
class Link:
    """What one use of a constant is in the checkpoint.

    `parameters`: base names, none where folding made the constant. `part`: it is only these
    positions (axis, start, length) of the parameter. `norm`: the folded BatchNormalization
    whose channels are the constant's axis `channels`.
    """

    leaf: str
    use: Use
    op: str
    view: View
    parameters: tuple[str, ...]
    part: tuple[int, int, int] | None = None
    norm: Norm | None = None
    channels: int = 0


class UnmatchedError(UsageError):
    """Constants whose parameters cannot be told; `.names` lists them."""

    def __init__(self, reason: str, hint: str, names: Sequence[str]) -> None:
        super().__init__(reason, hint)
        self.args = reason, hint, names
        self.names = tuple(names)


@dataclass(frozen=True)
class _Unit:
    """One use of a constant: the tensors on the way from the leaf to the node."""

    leaf: Leaf
    array: Array
    node: Node
    slot: int
    path: tuple[str, ...]

    @property
    def use(self) -> Use:
        return self.node.name, self.slot


class Matcher:
    """Looks for constants of a teacher among a checkpoint's parameters.

    Args:
        parameters: base name -> array, in the checkpoint's order.
        tied: base name -> the first name with the same memory.
    """

    def __init__(
        self, source: Source, parameters: Mapping[str, Array], tied: Mapping[str, str]
    ) -> None:
        self.source = source
        self.model = Model(source.proto)
        self.parameters = parameters
        self.tied = tied
        self.order = {n: k for k, n in enumerate(parameters)}
        self.norms = [
            n for n in norms(parameters) if not {*n.names.values()} & set(self.model.readers)
        ]
        self.problems: list[tuple[str, str]] = []
        self.constants: list[str] = []
        self._pending: list[tuple[_Unit, list[tuple[str, View]]]] = []

    def links(self, wanted: Mapping[str, AbstractSet[Use]]) -> list[Link]:
        """The links of constants, for all that reads them.

        Args:
            wanted: constant -> the uses that must have one.

        Raises:
            UnmatchedError: some have none; it lists them.
        """
        self._wanted = {(leaf, use) for leaf, uses in wanted.items() for use in uses}
        units = sorted(
            (u for leaf in wanted for u in self._units(leaf)),
            key=lambda u: (u.slot == 2, u.node.index, u.slot),
        )
        found: list[Link] = []
        for unit in units:
            if unit.slot == 2 and unit.node.op in _FOLDS:
                folded = self._bias(unit, found)
                if folded is not None:
                    found.append(folded)
                    continue
            link = self._link(unit)
            if link is not None:
                found.append(link)
        found += self._in_order()
        if self.problems:
            self._fail()
        return found

    def _units(self, leaf: str) -> Iterable[_Unit]:
        known = self.model.leaves[leaf]
        if known.tensor is None:
            return
        array = np.asarray(self.source.array(known.tensor))

        def through(node: Node) -> bool:
            return all(o in self.model.constant for o in node.outputs if o)

        for node, slot in downstream(self.model, leaf, through):
            path = self._path(node.inputs[slot], leaf) if slot < len(node.inputs) else ()
            if path:
                yield _Unit(known, array, node, slot, path)

    def _path(self, tensor: str, leaf: str) -> tuple[str, ...]:
        if tensor == leaf:
            return (leaf,)
        node = self.model.producer.get(tensor)
        for below in node.inputs if node is not None else ():
            path = self._path(below, leaf) if below in self.model.constant else ()
            if path:
                return (tensor, *path)
        return ()

    def _link(self, unit: _Unit) -> Link | None:
        if unit.node.op in GATES and unit.slot in (1, 2, 3) and unit.path == (unit.leaf.name,):
            link = self._recurrent(unit)
            if link is not None:
                return link
        if unit.array.dtype.kind in "iub":
            if unit.array.ndim < 2:
                self.constants.append(unit.leaf.name)
                return None
            self._problem(unit, "holds integers; quantise the grown model instead")
            return None
        best = self._best(unit, self._views(unit))
        uniform = not unit.array.size or bool((unit.array == unit.array.flat[0]).all())
        flat = sum(n > 1 for n in unit.array.shape) < 2  # exporters write such themselves
        if uniform and (flat or not best) and not any(self._closeness(unit, n) for n, _ in best):
            self.constants.append(unit.leaf.name)
        elif len(best) == 1:
            return self._unchanged(unit, self._made(unit, *best[0]))
        elif best:
            self._pending.append((unit, best))
        elif link := self._folded(unit) or self._part(unit):
            return link
        else:
            self._problem(unit, "")
        return None

    def _made(self, unit: _Unit, name: str, view: View) -> Link:
        return Link(unit.leaf.name, unit.use, unit.node.op, view, (name,))

    def _unchanged(self, unit: _Unit, link: Link) -> Link:
        """A layer without bias may have lost a BatchNormalization that did nothing."""
        if unit.node.op not in _FOLDS or unit.slot != 1 or self._bias_of(unit.node) is not None:
            return link
        axis = _output_axis(unit.node)
        norm = self._norm(link.parameters[0], np.ones(unit.array.shape[axis]), None)
        return link if norm is None else replace(link, norm=norm, channels=axis)

    def _closeness(self, unit: _Unit, name: str) -> int:
        return closeness(name, unit.path, unit.node.proto.name)

    def _views(self, unit: _Unit) -> list[tuple[str, View]]:
        """Parameters with the constant's values: those with its name if there are any."""
        flip = unit.node.op == "MatMul" and unit.leaf.name not in self.parameters
        named = [n for n in self.parameters if self._closeness(unit, n) >= 3]
        for names in (named, self.parameters):
            found = []
            for name in names:
                view = view_of(unit.array, self.parameters[name], flip)
                if view is not None:
                    found.append((name, view))
            if found:
                return found
        return []

    def _best(self, unit: _Unit, views: list[tuple[str, View]]) -> list[tuple[str, View]]:
        scores = [self._closeness(unit, n) for n, _ in views]
        best = [v for v, s in zip(views, scores, strict=True) if s == max(scores, default=0)]
        if len({self.tied[n] for n, _ in best}) != 1:
            return best
        where = module_of_node(unit.node.proto.name)
        twins = [n for n, first in self.tied.items() if first == self.tied[best[0][0]]]
        mine = [n for n in twins if where and module(n) == where]
        return [((mine or [best[0][0]])[0], best[0][1])]

    def _in_order(self) -> list[Link]:
        """Equal constants: the k-th in the graph is the k-th in the checkpoint."""
        found = []
        groups: dict[tuple[str, ...], list[tuple[_Unit, list[tuple[str, View]]]]] = {}
        for unit, views in self._pending:
            groups.setdefault(tuple(n for n, _ in views), []).append((unit, views))
        for names, members in groups.items():
            members.sort(key=lambda m: m[0].node.index)
            uses = {m[0].use for m in members}
            if len(uses) != len(names):
                for unit, _ in members:
                    self._problem(unit, f"has the values of {', '.join(names)} alike")
                continue
            found += [self._made(u, *views[k]) for k, (u, views) in enumerate(members)]
        return found

    def _recurrent(self, unit: _Unit) -> Link | None:
        order = GATES[unit.node.op]
        roles = {1: ("weight_ih",), 2: ("weight_hh",), 3: ("bias_ih", "bias_hh")}[unit.slot]
        found = []
        for name in self.parameters:
            start, mark, layer = name.rpartition("weight_ih_l")
            if not mark or not layer.isdigit():
                continue
            ends = [layer, f"{layer}_reverse"][: unit.array.shape[0]]
            names = tuple(f"{start}{r}_l{e}" for e in ends for r in roles)
            if not all(n in self.parameters for n in names):
                continue
            kind = "gates" if unit.slot < 3 else "gate biases"
            arrays = [self.parameters[n] for n in names]
            view = View(kind, tuple(a.shape for a in arrays), unit.array.shape, order)
            if arrays[0].shape[0] % len(order) == 0 and same_entries(unit.array, view.join(arrays)):
                found.append((names, view))
        if len(found) > 1:
            close = [f for f in found if self._closeness(unit, f[0][0])]
            found = close or found
        if len(found) != 1:
            return None
        return Link(unit.leaf.name, unit.use, unit.node.op, found[0][1], found[0][0])

    def _folded(self, unit: _Unit) -> Link | None:
        """A weight times its BatchNormalization's factors; the norm goes with the bias."""
        if unit.node.op not in _FOLDS or unit.slot != 1:
            return None
        bias, hits = self._bias_of(unit.node), list[tuple[str, View]]()
        found: dict[str, Norm] = {}
        axis = _output_axis(unit.node)
        for name, array in self.parameters.items():
            for view in (View("same", (array.shape,), unit.array.shape),
                         View("transposed", (array.shape,), unit.array.shape)):  # fmt: skip
                if view.kind == "transposed" and (unit.node.op != "Gemm" or array.ndim != 2):
                    continue
                c = factor(unit.array, view.join([array]), axis)
                norm = None if c is None else self._norm(name, c, bias)
                if norm is not None:
                    hits.append((name, view))
                    found[name] = norm
        best = self._best(unit, hits)
        if len(best) != 1:
            return None
        link = self._made(unit, *best[0])
        if bias is None:  # exporters leave out zeros
            link = replace(link, norm=found[best[0][0]], channels=axis)
        return link

    def _norm(self, weight: str, c: Array, bias: Array | None) -> Norm | None:
        """The BatchNormalization that explains a factor: the next one in the checkpoint's order.

        One that does nothing explains every layer, so it must come right behind the layer.
        """
        own = self.parameters.get(_beside(weight, "bias"))
        shift = np.zeros(len(c)) if bias is None else bias  # exporters leave out zeros
        nothing = bool(np.allclose(c[np.isfinite(c)], 1, rtol=1e-3, atol=0))
        fits = []
        for norm in self.norms:
            away = min(self.order[n] for n in norm.names.values()) - self.order[weight]
            if (not nothing or 0 < away <= 2) and explains(norm, self.parameters, c, shift, own):
                fits.append((away < 0, abs(away), norm))
        return min(fits, key=lambda f: f[:2])[2] if fits else None

    def _bias_of(self, node: Node) -> Array | None:
        name = node.inputs[2] if len(node.inputs) > 2 else ""
        while name in self.model.producer and self.model.producer[name].op == "Identity":
            name = self.model.producer[name].inputs[0]
        tensor = self.model.leaves[name].tensor if name in self.model.leaves else None
        return None if tensor is None else np.asarray(self.source.array(tensor))

    def _bias(self, unit: _Unit, found: list[Link]) -> Link | None:
        """The bias of a layer with a folded BatchNormalization: the layer's own, and the norm."""
        weight = next((k for k in found if k.use == (unit.node.name, 1)), None)
        if weight is None or len(weight.parameters) != 1:
            return None
        name = weight.parameters[0]
        leaf = self.model.leaves[weight.leaf]
        assert leaf.tensor is not None
        array = np.asarray(self.source.array(leaf.tensor))
        c = factor(array, weight.view.join([self.parameters[name]]), _output_axis(unit.node))
        norm = None if c is None else self._norm(name, c, unit.array)
        if norm is None:
            return None
        own = _beside(name, "bias")
        names = (own,) if own in self.parameters else ()
        view = View("same", (unit.array.shape,) * len(names), unit.array.shape)
        return Link(unit.leaf.name, unit.use, unit.node.op, view, names, norm=norm)

    def _part(self, unit: _Unit) -> Link | None:
        """A stretch of a larger parameter: one of a packed projection's, a position table's."""
        hits = []
        for name, array in self.parameters.items():
            for flip in (False, True) if unit.array.ndim == 2 and array.ndim == 2 else (False,):
                leaf = unit.array.T if flip else unit.array
                fewer = leaf
                if leaf.ndim != array.ndim:
                    fewer = leaf.reshape([n for n in leaf.shape if n > 1])
                if fewer.ndim != array.ndim or not leaf.size:
                    continue
                differ = [d for d in range(array.ndim) if array.shape[d] != fewer.shape[d]]
                if len(differ) != 1 or array.shape[differ[0]] < fewer.shape[differ[0]]:
                    continue
                d, n = differ[0], fewer.shape[differ[0]]
                for start in range(0, array.shape[d] - n + 1, n):
                    piece = array.take(range(start, start + n), d)
                    view = view_of(unit.array, piece, flip)
                    if view is not None:
                        hits.append((name, view, (d, start, n)))
        if not hits:
            return None
        best = max(self._closeness(unit, h[0]) for h in hits)
        hits = [h for h in hits if self._closeness(unit, h[0]) == best]
        if len(hits) > 1:
            return None
        name, view, part = hits[0]
        return replace(self._made(unit, name, view), part=part)

    def _problem(self, unit: _Unit, why: str) -> None:
        if (unit.leaf.name, unit.use) not in self._wanted:
            return
        name = unit.leaf.name
        said = f"'{name}' {list(unit.array.shape)}, read by '{unit.node.name}'"
        if why:
            said += f", {why}"
        else:
            sizes = sorted(n for n in unit.array.shape if n > 1)
            alike = [
                n
                for n, a in self.parameters.items()
                if sorted(k for k in a.shape if k > 1) == sizes
            ]
            like = nearest(unit.path[0], alike) or alike[:3]
            said += f"; of that shape: {', '.join(like)}" if like else "; nothing has that shape"
        self.problems.append((name, said))

    def _fail(self) -> None:
        names = dict.fromkeys(n for n, _ in self.problems)
        lines = [said for _, said in self.problems]
        raise UnmatchedError(
            f"{len(names)} of the file's tensors have no parameter of that name and value in the "
            "checkpoint",
            "give the checkpoint that was exported:\n  " + "\n  ".join(lines),
            list(names),
        )


def _beside(name: str, role: str) -> str:
    return f"{module(name)}.{role}" if module(name) else role


def _output_axis(node: Node) -> int:
    """The axis of a layer's weights that makes its output."""
    if node.op == "ConvTranspose" or (node.op == "Gemm" and not node.attr("transB", 0)):
        return 1
    return 0
