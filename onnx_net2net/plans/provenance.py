"""Where a student comes from: its teacher, the steps and the seed, kept in its metadata.

A JSON list of records, oldest first: `teacher` (size and hash, see `teacher_link.identity`, of the
model in one file), `version`, `seed` and `split`, other settings where given, `steps` as they
were asked for, `preserving`. A student of a student has one record more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx import ModelProto

from onnx_net2net import __version__
from onnx_net2net.errors import ModelError
from onnx_net2net.files import teacher_link
from onnx_net2net.files.output_form import self_contained
from onnx_net2net.files.patch import Pieces, apply
from onnx_net2net.files.reader import read
from onnx_net2net.files.source import Source
from onnx_net2net.graph.messages import metadata_edit
from onnx_net2net.growth.verb import ARRAYS, plain
from onnx_net2net.growth.verbs import VERBS, header
from onnx_net2net.plans.recipe import Recipe, Step
from onnx_net2net.plans.recipe_data import digest

KEY = "onnx_net2net.provenance"
Record = dict[str, Any]


def identity(source: Source) -> dict[str, Any]:
    """Size and hash of a model, the same wherever its payloads are kept."""
    linked = any(p.key == teacher_link.KEY for p in source.proto.metadata_props)
    if source.externals or linked:
        source = read(Pieces(source, self_contained(source)))
    return teacher_link.identity(source)


def record(
    teacher: Source, recipe: Recipe, settings: Mapping[str, Any], preserving: bool
) -> Record:
    """What is to be known to grow the same student again.

    Args:
        recipe: with the contents of files that it names.
        settings: what else decides on the student, e.g. `shapes`.
    """
    common = {"seed": 0, "split": "zero-sum", **recipe.common}
    own = VERBS["widen"].settings()
    kept = {k: v for k, v in common.items() if k in ("seed", "split") or v != own[k].default}
    return {
        "teacher": identity(teacher),
        "version": __version__,
        **kept,
        **{k: v for k, v in settings.items() if v},
        "steps": [asked(step, common) for step in recipe.steps],
        "preserving": preserving,
    }


def asked(step: Step, common: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A step as it was asked for, without what holds for all steps anyway."""
    found: dict[str, Any] = {"verb": step.verb}
    for key, value in step.given.items():
        one = VERBS[step.verb].settings()[key]
        anyway = (common or {}).get(key, one.default) if one.header else one.default
        if one.kind is ARRAYS and not isinstance(value, str):
            value = digest(value)
        if key == "seed" or value != anyway:
            found[key] = value
    return found


def stamped(pieces: Pieces, found: Sequence[Record]) -> Pieces:
    """The student with these records in the place of older ones."""
    source = read(pieces)
    value = json.dumps(list(found), separators=(",", ":"), sort_keys=True, default=plain)
    return apply(source, [metadata_edit(source.proto, KEY, value)])


def records(source: Source) -> list[Record]:
    """The records of a model; none if it has no provenance.

    Raises:
        ModelError: there is an entry, but no list of records.
    """
    entry = next((p.value for p in source.proto.metadata_props if p.key == KEY), "[]")
    try:
        found = json.loads(entry)
        if not isinstance(found, list):
            raise TypeError
        for one in found:
            size, digest = one["teacher"]["size"], one["teacher"]["sha256"]
            whole = isinstance(one["steps"], list) and isinstance(one["version"], str)
            if not (whole and isinstance(size, int) and isinstance(digest, str)):
                raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError):
        broken = f"the entry '{KEY}' in the model's metadata is broken"
        raise ModelError(broken, "give a recipe in its place") from None
    return found


def remaining(found: Sequence[Record], teacher: Source, name: str) -> list[Record]:
    """The records that lead from a teacher to the student that carries them.

    Args:
        found: the student's records.
        teacher: the model to begin with.
        name: of the student, for messages.

    Raises:
        ModelError: none begins with this teacher.
    """
    if not found:
        raise ModelError(
            f"'{name}' carries no provenance to replay",
            "give a recipe, or a student as onnx-net2net wrote it",
        )
    this = identity(teacher)
    for k, one in enumerate(found):
        if one["teacher"] == this:
            return list(found[k:])
    wanted = found[0]["teacher"]
    raise ModelError(
        f"'{name}' was grown from another teacher: {_told(wanted)}, this one: {_told(this)}",
        "give that one, or write the steps (inspect --json shows them) as a recipe",
    )


def _told(teacher: Mapping[str, Any]) -> str:
    return f"{teacher['size']:,} bytes, hash {teacher['sha256'][:12]}"


def recipe(record: Record) -> dict[str, Any]:
    """What a record's steps and settings were, as a recipe."""
    return {k: v for k, v in record.items() if k in (*header(), "steps")}


def is_student(recipe: Any) -> bool:
    """Whether what was given as a recipe is an ONNX model to replay."""
    if isinstance(recipe, (ModelProto, Source)):
        return True
    if not isinstance(recipe, (str, os.PathLike)) or "\n" in str(recipe):
        return False
    path = Path(recipe)
    if path.suffix == ".onnx":
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(1) == b"\x08"  # its first field, and no character of YAML


def why_not(found: Sequence[Record]) -> str:
    """Why a replayed student is not the one that was replayed."""
    versions = {one["version"] for one in found} - {__version__}
    if versions:
        return f"it was grown by version {', '.join(sorted(versions))}, this is {__version__}"
    return "it was trained or changed since"
