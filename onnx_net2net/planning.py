"""Plans: one or several growth steps, what they change and what they cost, and the student."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from onnx_net2net import validity
from onnx_net2net.analysis import Analysis
from onnx_net2net.errors import NotEquivalentError, Refusal
from onnx_net2net.files import Source, read
from onnx_net2net.forms import inlined
from onnx_net2net.growth import grow
from onnx_net2net.inspection import parameters
from onnx_net2net.interface_growth import student_sizes
from onnx_net2net.patch import Insert, Pieces, apply
from onnx_net2net.scheme import Scheme
from onnx_net2net.transfer import Progress
from onnx_net2net.widening import Widened, everywhere, union, widen_step, widened

Shapes = Mapping[str, "tuple[int, ...]"]


@dataclass
class Plan:
    """What growing would do; nothing is written until `apply`.

    `steps`: what each step does; `parameters`: before and after; `source`: the teacher;
    `pieces`: the student, not yet read or written; `preserving`: whether the student
    computes the teacher's function; `warnings`: what a user should know.
    """

    source: Source
    pieces: Pieces
    steps: list[Any]
    parameters: tuple[int, int]
    preserving: bool = True
    shapes: Shapes | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def changes(self) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
        """Constant -> its shape in the teacher and in the student."""
        found: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        for step in self.steps:
            for name, (before, after) in getattr(step, "tensors", {}).items():
                found[name] = (found[name][0] if name in found else before, after)
        return found

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of teacher and student, external data included; raises ModelError without it."""
        found = (self.source, read(self.pieces))
        before, after = (
            inlined(f.rope, f.directory).size if f.externals else f.size for f in found
        )
        return before, after

    @property
    def mapping(self) -> dict[str, list[dict[str, object]]]:
        """Constant -> how each of its axes grew, step by step: axis, source, split."""
        found: dict[str, list[dict[str, object]]] = {}
        for step in self.steps:
            for name, axes in getattr(step, "mapping", {}).items():
                found.setdefault(name, []).extend(axes)
        return found

    @property
    def new_parameters(self) -> tuple[str, ...]:
        """Constants that the teacher does not have."""
        return tuple(n for step in self.steps for n in getattr(step, "parameters", ()))

    def check(self, verify: str = "auto") -> Any:
        """Verify the student; None for `verify="off"` or a student that is not to preserve.

        Raises:
            NotEquivalentError: the student is not equivalent, or that is undecided.
        """
        if verify == "off" or not self.preserving:
            return None
        from onnx_net2net.verification import verify as compare

        verdict = compare(self.source, read(self.pieces), shapes=self.shapes, layers=verify)
        if not verdict:
            state = "is not equivalent" if verdict.equivalent is False else "may not be equivalent"
            raise NotEquivalentError(f"the student {state} to the teacher:\n{verdict}", verdict)
        return verdict

    def apply(
        self,
        output: str | os.PathLike[str] | None = None,
        *,
        force: bool = False,
        verify: str = "auto",
        external_data: bool = False,
        link_teacher: bool = False,
    ) -> onnx.ModelProto | Path:
        """The student: a self-contained ModelProto, or the path it was written to.

        Args:
            external_data, link_teacher: see `write`.

        Raises:
            NotEquivalentError: verification failed or is undecided; nothing is written.
            FileExistsError: `output` exists (without `force`) or is the teacher.
        """
        self.check(verify)
        if output is None:
            return self.pieces.to_proto()
        self.write(output, force=force, external_data=external_data, link_teacher=link_teacher)
        return Path(output)

    def write(
        self,
        output: str | os.PathLike[str],
        *,
        force: bool = False,
        external_data: bool = False,
        link_teacher: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Write the student as it is, unchecked.

        Args:
            external_data: payloads in one file beside the model, as always over 2 GiB.
            link_teacher: refer to the teacher's file, which must lie in the same folder, for
                what is the same.

        Raises:
            FileExistsError: `output` exists (without `force`) or is the teacher.
            ValueError: the teacher lies in another folder, or in memory.
        """
        self.pieces.write(
            output,
            force=force,
            external=external_data or None,
            linked=self.source if link_teacher else None,
            progress=progress,
        )


def plan(
    teacher: Any,
    steps: Sequence[Mapping[str, Any]] | str,
    *,
    ratio: float = 1.5,
    split: str = "zero-sum",
    init: str = "replicate",
    noise: float = 0.0,
    seed: int = 0,
    shapes: Shapes | None = None,
) -> Plan:
    """Plan one or several steps without writing anything.

    Args:
        teacher: a path, an `onnx.ModelProto` or a `gs.Graph`; not changed.
        steps: mappings of `widen` arguments (`{"node": "conv1", "width": 96}`), or
            "everywhere": every space that can grow, by `ratio`, at once. A step with the key
            `verb` may also be `deepen` or `grow-kernel`, with their arguments.
        split, init, noise, seed: see `widen`; a step's own come first.
        shapes: input name -> sizes, for inputs that declare none.

    Raises:
        RefusalError, AmbiguousError, ValueError, ModelError: see `widen`.
    """
    source = read(teacher)
    analysis = Analysis(source, shapes)
    validity.check(analysis.model, analysis.inference, analysis.facts)
    before = parameters(analysis)
    if isinstance(steps, str):
        if steps != "everywhere":
            raise ValueError(f"unknown plan '{steps}'; give steps or 'everywhere'")
        scheme = Scheme(split, seed, init, noise)
        pieces, done, analysis = _everywhere(source, analysis, ratio, scheme)
        counts, preserving = (before, parameters(analysis)), scheme.preserving or not done
        warnings = list(scheme.warnings) if done else []
        return Plan(source, pieces, done, counts, preserving, shapes, warnings)
    if not steps:
        return Plan(source, apply(source, []), [], (before, before), shapes=shapes)
    taken: list[Any] = []
    warnings = []
    common = {"split": split, "init": init, "noise": noise}
    sizes = shapes
    pieces = apply(source, [])
    for k, step in enumerate(steps):
        for result in _results(analysis, {"seed": seed + k, **step}, common):
            patch = list(result.patch)
            taken.append(result)
            warnings += _warnings(result)
            if not result.preserving:
                patch += _declared(analysis)
            pieces = apply(analysis.source, patch)
            sizes = student_sizes(sizes, getattr(result, "interface", ()))
            analysis = Analysis(read(pieces), sizes)
    preserving = all(r.preserving for r in taken)
    return Plan(source, pieces, taken, (before, parameters(analysis)), preserving, shapes, warnings)


def _results(analysis: Analysis, step: dict[str, Any], common: dict[str, Any]) -> Iterator[Any]:
    """One step's results; a step for several places is one result for each."""
    verb = step.pop("verb", "widen")
    if verb == "widen":
        yield widen_step(analysis, **{**common, **step})
    elif verb == "grow-kernel":
        from onnx_net2net.kernels import grow_kernel as grow_one

        yield grow_one(analysis, step["node"], step["size"])
    elif verb == "deepen":
        from onnx_net2net.deepening import deepen as deepen_one

        yield deepen_one(analysis, **step)
    else:
        raise ValueError(f"unknown verb '{verb}'; choose widen, deepen or grow-kernel")


def _declared(analysis: Analysis) -> list[Insert]:
    """The mark of a student that is not meant to compute the teacher's function."""
    mark = onnx.StringStringEntryProto(key="onnx_net2net.preserving", value="false")
    props = analysis.model.proto.metadata_props
    if mark in props:
        return []
    return [Insert(("metadata_props", len(props)), (mark,))]


def _warnings(step: Any) -> list[str]:
    found = list(getattr(step, "warnings", ()))
    if not step.preserving and not found:
        found.append("the student does not compute the teacher's function, as was asked for")
    if not isinstance(step, Widened):
        return found
    if step.parted:
        names = ", ".join(step.parted[:3]) + (", ..." if len(step.parted) > 3 else "")
        many = len(step.parted) > 1
        found.append(
            (f"{len(step.parted)} shared constants get copies of their own" if many else
             "1 shared constant gets a copy of its own")
            + f", because not all that read {'them' if many else 'it'} grow: {names}"
        )  # fmt: skip
    return found


def _everywhere(
    source: Source, analysis: Analysis, ratio: float, scheme: Scheme
) -> tuple[Pieces, list[Any], Analysis]:
    """Grow disjoint spaces together, then look again for those that overlapped them."""
    grown: set[str] = set()
    steps: list[Any] = []
    pieces = apply(source, [])
    while True:
        chosen, seen = everywhere(analysis, ratio, grown, scheme)
        if not chosen:
            return pieces, steps, analysis
        space, units = union([(s, u) for s, _, u, _ in chosen])
        growth = grow(analysis, space, units, scheme)
        if isinstance(growth, Refusal):  # together they do not line up: one at a time
            space, axis, units, name = chosen[0]
            growth, seen = grow(analysis, space, units, scheme), {name}
            if isinstance(growth, Refusal):
                grown |= seen
                continue
        else:
            axis = chosen[0][1]
        name = ", ".join(c[3] for c in chosen) if len(seen) > 1 else chosen[0][3]
        step = widened(analysis, growth, name, axis, scheme)
        grown |= {*step.along, *seen}
        patch = list(step.patch)
        if not step.preserving:
            patch += _declared(analysis)
        pieces = apply(analysis.source, patch)
        steps.append(step)
        analysis = Analysis(read(pieces), None)
