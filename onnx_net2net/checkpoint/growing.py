"""A checkpoint grown as its ONNX file was: the same steps, on the parameters' own values.

Each constant that changes is put together from its parameters (`links`), taken through the
steps of the mapping like the student's, and taken apart again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnx_net2net.errors import UsageError
from onnx_net2net.files.reader import read
from onnx_net2net.files.source import Source
from onnx_net2net.growth.record import Replay, StepRecord, load, steps_of, structure
from onnx_net2net.growth.widen.changes import Change
from onnx_net2net.growth.widen.units import Row
from onnx_net2net.typing import Array
from .edits import Edit, edits, literals
from .insertions import NewModule, insertions
from .links import Link, Matcher, UnmatchedError
from .names import base, copies

_Taken = Callable[[Replay, Array], Array]
"""What a step makes of an array in a constant's place."""


@dataclass(frozen=True)
class Follower:
    """The steps and the links of a checkpoint: what takes any network of its names along."""

    steps: Sequence[StepRecord]
    links: Sequence[Link]

    def follow(
        self, arrays: Mapping[str, Array], constant: _Taken, channel: Callable[..., Array]
    ) -> dict[str, Array]:  # fmt: skip
        """Take arrays, by base name, through the steps.

        Args:
            constant: what a step does to a constant; channel: (replay, array, role,
                axis), to a vector of a folded BatchNormalization.

        Returns:
            The arrays that change.
        """
        pieces: dict[str, list[_Piece]] = {}
        found: dict[str, Array] = {}
        for link in self.links:
            replays = self._replays(link)
            for role, name in link.norm.names.items() if link.norm else ():
                if name in arrays:
                    one = arrays[name]
                    for replay in replays:
                        one = channel(replay, one, role, link.channels)
                    found[name] = one
            if not link.parameters:
                continue
            array = link.view.join([_stretch(arrays[n], link.part) for n in link.parameters])
            for replay in replays:
                array = constant(replay, array)
            for name, new in zip(link.parameters, link.view.part(array), strict=True):
                pieces.setdefault(name, []).append(_Piece(link, new, replays))
        for name, made in pieces.items():
            found[name] = _whole(name, arrays[name], made)
        return found

    def _replays(self, link: Link) -> list[Replay]:
        name, taken = link.leaf, []
        for step in self.steps:
            for replay in step.tensors:
                if replay.teacher == name and link.use in replay.uses:
                    taken.append(replay)
                    name = replay.student
                    break
        return taken

    def inserted(self, constant: _Taken) -> dict[str, Array]:
        """The floating-point constants that steps insert, after all steps, by their own names."""
        found: dict[str, Array] = {}
        for step in self.steps:
            for replay in step.tensors:
                if replay.teacher in found:
                    found[replay.student] = constant(replay, found[replay.teacher])
            found.update({n: a for n, a in step.inserted.items() if a.dtype.kind not in "iub"})
        return found


@dataclass(frozen=True)
class _Piece:
    """A parameter, or a part of it, as one link makes it."""

    link: Link
    array: Array
    replays: list[Replay]


def _stretch(array: Array, part: tuple[int, int, int] | None) -> Array:
    if part is None:
        return array
    axis, start, length = part
    return array.take(range(start, start + length), axis)


def _whole(name: str, old: Array, made: list[_Piece]) -> Array:
    """One parameter from what several constants say of it."""
    whole = [p.array for p in made if p.link.part is None]
    if whole:
        if len(whole) != len(made) or not all(np.array_equal(whole[0], w) for w in whole[1:]):
            raise UnmatchedError(
                f"'{name}' is read in several places that grow differently, so the student has "
                "several tensors for it",
                "untie it in the module and save the checkpoint again",
                [name],
            )
        return np.ascontiguousarray(whole[0])
    stretches = {p.link.part: p for p in made if p.link.part}
    axis = next(iter(stretches))[0]
    rows, at = [], 0
    for (_, start, length), piece in sorted(stretches.items()):
        if start > at:
            rows.append(_beside(name, old.take(range(at, start), axis), axis, piece))
        rows.append(piece.array)
        at = start + length
    if at < old.shape[axis]:
        rows.append(_beside(name, old.take(range(at, old.shape[axis]), axis), axis, made[0]))
    return np.concatenate(rows, axis)


def _beside(name: str, rest: Array, axis: int, piece: _Piece) -> Array:
    """What the file does not hold of a parameter, grown along the other axes like its neighbour."""
    view = piece.link.view
    at = [d for d, n in enumerate(view.shape) if n > 1]
    mine = [d for d, n in enumerate(view.shapes[0]) if n > 1]
    if view.kind == "transposed":
        mine = mine[:-2] + mine[:-3:-1]
    for replay in piece.replays:
        for d, source in replay.change.source.items():
            to = mine[at.index(d)]
            if to == axis:
                continue
            if replay.ring or d in replay.change.split or set(replay.kinds) != {Row.COPY}:
                raise UnmatchedError(
                    f"only a part of '{name}' is in the file, and it grows by more than copies",
                    "split it in the module",
                    [name],
                )
            rest = np.take(rest, source, to)
    return rest


def _channel(replay: Replay, array: Array, role: str, axis: int) -> Array:
    """A BatchNormalization's vector; zero units keep scale and variance, so that 0 stays 0."""
    change = replay.change
    if axis not in change.source:
        return array
    keeps = role in ("weight", "running_var")
    one = Change({0: change.source[axis]}, {0: change.unit[axis]}, keeps=keeps)
    return replace(replay, change=one).grown(array)


@dataclass(frozen=True)
class Grown:
    """A grown checkpoint.

    `arrays`: name -> array, what does not change included; `edits`: module arguments to
    edit; `new_modules`: layers to insert; `code`: numbers in the model's code that change;
    `constants`: tensors of the file that are no parameters; `new_parameters`: names, for
    freezing or a learning rate of their own; `grown_parameters`: those with new entries.
    """

    arrays: dict[str, Array]
    edits: list[Edit]
    new_modules: list[NewModule]
    code: list[str]
    constants: list[str]
    new_parameters: list[str]
    grown_parameters: list[str]
    factors: dict[str, Array]
    follower: Follower = field(repr=False)

    def also(self, parameters: Mapping[str, Array]) -> dict[str, Array]:
        """The same growth of a checkpoint with the same names (an EMA, an earlier epoch)."""
        return _grown(self.follower, parameters, self.new_modules)[0]


def grow(
    parameters: Mapping[str, Array], mapping: Any, teacher: Any, owners: Mapping[str, Any]
) -> Grown:
    """Grow a checkpoint.

    Args:
        parameters: name -> array, in the checkpoint's order.
        mapping: a mapping file's path or content, or a plan.
        teacher: the ONNX model that the mapping starts from.
        owners: name -> what tells shared memory (tied parameters).

    Raises:
        UnmatchedError: the parameters of some tensors cannot be told. UsageError: the
            mapping belongs to another model.
    """
    known, source = load(mapping), read(teacher)
    if known["teacher"]["structure"] != structure(source.proto):
        raise UsageError(
            "the mapping was made from another model", "give the teacher it was made from"
        )
    steps = steps_of(known)
    networks = copies(parameters)
    failures: list[UnmatchedError] = []
    for network in networks:
        of = {b: parameters[n] for b, n in network.items()}
        first: dict[Any, str] = {}
        tied = {b: first.setdefault(owners.get(n, n), b) for b, n in network.items()}
        matcher = Matcher(source, of, tied)
        try:
            links = matcher.links(_wanted(steps, matcher))
        except UnmatchedError as why:
            failures.append(why)
            continue
        return _made(parameters, Follower(steps, [*links, *_tied(links, tied)]), matcher, source)
    raise min(failures, key=lambda f: len(f.names))


def _tied(links: Sequence[Link], tied: Mapping[str, str]) -> Iterable[Link]:
    """Names that share the memory of a linked one, and are linked to nothing, follow it."""
    known = {n for link in links for n in link.parameters}
    for link in links:
        for name, owner in tied.items():
            if (
                name not in known
                and len(link.parameters) == 1
                and tied[link.parameters[0]] == owner
            ):
                yield Link(link.leaf, link.use, link.op, link.view, (name,), link.part)


def _wanted(steps: Sequence[StepRecord], matcher: Matcher) -> dict[str, set[tuple[str, int]]]:
    """The teacher's constants that some step changes, and for which uses."""
    origin: dict[str, str] = {}
    found: dict[str, set[tuple[str, int]]] = {}
    for step in steps:
        for replay in step.tensors:
            leaf = origin.get(replay.teacher, replay.teacher)
            origin[replay.student] = leaf
            if leaf in matcher.model.leaves:
                found.setdefault(leaf, set()).update(replay.uses)
    return found


def _made(
    parameters: Mapping[str, Array], follower: Follower, matcher: Matcher, source: Source
) -> Grown:
    new_modules = insertions(follower.steps)
    arrays, new = _grown(follower, parameters, new_modules)
    before = {base(n): a.shape for n, a in parameters.items()}
    after = {base(n): a.shape for n, a in arrays.items()}
    changed = [n for n in parameters if arrays[n].shape != parameters[n].shape]
    held = {t for m in new_modules for t, _ in m.parameters.values()}
    factors = {n: a for n, a in follower.inserted(Replay.grown).items() if n not in held}
    return Grown(
        arrays,
        edits(matcher.model, follower.links, follower.steps, before, after),
        new_modules,
        literals(follower.steps),
        sorted(set(matcher.constants)),
        new,
        changed,
        factors,
        follower,
    )


def _grown(
    follower: Follower, parameters: Mapping[str, Array], new_modules: Sequence[NewModule]
) -> tuple[dict[str, Array], list[str]]:
    """All arrays after the steps, in the checkpoint's order, new ones last; the new names."""
    result = dict(parameters)
    fresh: dict[str, None] = {}
    for network in copies(parameters):
        of = {b: parameters[n] for b, n in network.items()}
        missing = {p for k in follower.links for p in k.parameters} - of.keys()
        if missing:
            raise UnmatchedError(
                f"the checkpoint lacks {', '.join(sorted(missing)[:5])}",
                "give one of the same module",
                sorted(missing),
            )
        dtype = next((a.dtype for a in of.values() if a.dtype.kind not in "iub"), np.dtype("f4"))
        some = next(iter(network.items()))
        prefix = some[1][: len(some[1]) - len(some[0])]
        grown = follower.follow(of, Replay.grown, _channel)
        inserted = follower.inserted(Replay.grown)
        for module in new_modules:
            for name, (tensor, transposed) in module.parameters.items():
                array = inserted[tensor].astype(dtype)
                result[prefix + name] = np.ascontiguousarray(array.T if transposed else array)
                fresh[prefix + name] = None
        result.update({network[b]: array for b, array in grown.items() if b in network})
    return result, list(fresh)
