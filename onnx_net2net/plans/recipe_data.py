"""Data that steps name (mappings, arrays to calibrate with), and how it is recorded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnx_net2net.errors import UsageError
from onnx_net2net.files.archive import archive
from onnx_net2net.growth.verb import ARRAYS
from onnx_net2net.growth.verbs import VERBS
from onnx_net2net.plans.recipe import Recipe
from onnx_net2net.typing import Array

Data = Mapping[str, Array]


_LIST = "give a list of integers, e.g. [0, 1, 2, 0]"


def resolved(recipe: Recipe, data: Sequence[Data] = ()) -> Recipe:
    """The recipe with the contents of the files that it names.

    Args:
        data: what `calibrate` entries that only hold a hash stand for.

    Raises:
        UsageError: a file is not there or holds something else.
    """
    common = _with_mapping(recipe.common, recipe.folder)
    steps = []
    for step in recipe.steps:
        try:
            given = _with_mapping(step.given, recipe.folder)
            for key in given:
                if VERBS[step.verb].settings()[key].kind is ARRAYS:
                    given[key] = _arrays(given[key], recipe.folder, data)
        except UsageError as why:
            if step.where:
                why.prefix(step.where)
            raise
        steps.append(replace(step, given=given))
    return replace(recipe, steps=tuple(steps), common=common)


def digest(data: Data) -> dict[str, Any]:
    """What is recorded in the place of arrays: their hash and names.

    >>> digest({"x": np.zeros(2)})["inputs"]
    ['x']
    """
    state = hashlib.sha256()
    for name in sorted(data):
        values = np.ascontiguousarray(data[name])
        state.update(repr((name, values.dtype.str, values.shape)).encode())
        state.update(values.tobytes())
    return {"sha256": state.hexdigest()[:32], "inputs": sorted(data)}


def _with_mapping(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    mapping = given.get("mapping")
    if isinstance(mapping, str) and mapping not in ("random", "balanced"):
        return {**given, "mapping": read_mapping(str(folder / mapping))}
    return dict(given)


def _arrays(value: Any, folder: Path, data: Sequence[Data]) -> Data:
    if isinstance(value, str):
        return archive(str(folder / value))
    if not isinstance(value.get("sha256"), str):
        return dict(value)
    for arrays in data:
        if digest(arrays)["sha256"] == value["sha256"]:
            return arrays
    inputs = ", ".join(map(str, value.get("inputs", ())))
    raise UsageError(
        f"the data to calibrate with is not recorded, only its hash {value['sha256'][:12]} "
        f"(inputs {inputs})",
        "give the same data with --calibrate",
    )


def read_mapping(path: str) -> list[int]:
    """A mapping from a JSON file: a list, or an object with a list `mapping`.

    Raises:
        UsageError: unreadable or something else.
    """
    if not Path(path).is_file():
        raise UsageError(f"mapping '{path}' does not exist", "give random, balanced or a JSON file")
    try:
        data = json.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as why:
        raise UsageError(f"mapping '{path}' cannot be read as JSON: {why}", _LIST) from None
    data = data.get("mapping") if isinstance(data, dict) else data
    if not isinstance(data, list) or not all(type(g) is int for g in data):
        raise UsageError(f"mapping '{path}' is no list of integers", _LIST)
    return data
