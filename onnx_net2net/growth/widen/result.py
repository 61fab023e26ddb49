"""What one widening did, and how the mapping file says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_net2net.files.patch import Insert, Splice
from onnx_net2net.growth.result import Shapes
from onnx_net2net.growth.widen.changes import Change, Edits, nominal
from onnx_net2net.growth.widen.interface import InterfaceChange, student_sizes
from onnx_net2net.growth.widen.rewrite import Grown
from onnx_net2net.growth.widen.scheme import Scheme
from onnx_net2net.growth.widen.units import Units


@dataclass(frozen=True)
class Widened:
    """One widening: the patch and what it does.

    `width`: the axis' length before and after; `along`: other layers whose output grows
    too; `readers`: layers whose input grows; `parted`: shared constants that got a copy of
    their own; `grown`, `units`, `scheme`: how each new array was made; `edits`: what else
    changes; `together`: of several spaces that grew at once, each with its width before and
    after.
    """

    name: str
    axis: tuple[str, int]
    width: tuple[int, int]
    along: tuple[str, ...]
    readers: tuple[str, ...]
    uniform: str | None
    parted: tuple[str, ...]
    inserted: int
    patch: list[Splice | Insert]
    grown: list[Grown]
    units: Units
    scheme: Scheme
    edits: Edits
    preserving: bool = True
    interface: tuple[InterfaceChange, ...] = ()
    together: tuple[tuple[str, int, int], ...] = ()

    @property
    def parameters(self) -> tuple[str, ...]:
        """None: what is new stands in the teacher's constants, see `growth.record.new_rows`."""
        return ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know of the new units, and of constants that part."""
        found = list(self.scheme.warnings)
        if self.inserted and any(c.kind == "input" for c in self.interface):
            found.append(
                "a constant 0 stands where no weight reads the new positions; they cannot train "
                "before it is changed"
            )
        if self.parted:
            count, many = len(self.parted), len(self.parted) > 1
            names = ", ".join(self.parted[:3]) + (", ..." if count > 3 else "")
            gets = (
                "constants get copies of their own" if many else "constant gets a copy of its own"
            )
            them = "them" if many else "it"
            found.append(f"{count} shared {gets}, because not all that read {them} grow: {names}")
        return tuple(found)

    def sizes(self, shapes: Shapes | None) -> Shapes | None:
        """See `Result.sizes`."""
        return student_sizes(shapes, self.interface)

    def record(self) -> dict[str, Any]:
        """See `Result.record`; besides, how new units came about."""
        pairs = zip(self.grown, self.edits.uses, strict=True)
        return {
            "verb": "widen",
            "scheme": self.scheme.record(),
            "uniform": self.uniform,
            "units": {
                "source": self.units.source.tolist(),
                "kind": [k.value for k in self.units.kind],
            },
            "tensors": [self._tensor(g, uses) for g, uses in pairs],
            "attributes": [dict(a) for a in self.edits.attributes],
            "literals": [dict(v) for v in self.edits.literals],
        }

    def _tensor(self, grown: Grown, uses: tuple[tuple[str, int], ...]) -> dict[str, Any]:
        change = grown.change
        return {
            "teacher": grown.source,
            "student": grown.name,
            "before": list(grown.before),
            "after": [len(change.source.get(d, range(n))) for d, n in enumerate(grown.before)],
            "uses": [list(u) for u in uses],
            "axes": [self._axis(change, d, grown.source) for d in sorted(change.source)],
            "flags": {
                "offset": change.offset,
                "weight": change.weight,
                "keeps": change.keeps,
                "pads": [[d, fill.value] for d, fill in sorted(change.pads.items())],
                "scale": change.scale,
            },
        }

    def _axis(self, change: Change, dim: int, name: str) -> dict[str, Any]:
        """A grown axis of a constant: where its positions come from and how copies divide."""
        source, unit, kinds = change.source[dim], change.unit[dim], self.units.kind
        shares = None
        if dim in change.split:
            shares = {
                "split": self.scheme.division,
                "nominal": nominal(change, dim, kinds, self.scheme.undivided),
                "key": [self.scheme.seed, "split", name, dim],
            }
        found = {
            "axis": dim,
            "source": source.tolist(),
            "unit": unit.tolist(),
            "new": {int(p): kinds[unit[p]].value for p in np.flatnonzero(unit >= 0)},
            "shares": shares,
        }
        if dim in change.grouped:
            sources, units = (np.asarray(v).tolist() for v in change.grouped[dim])
            found["grouped"] = {"source": sources, "unit": units}
        return found
