"""Recipes: several growth steps with what holds for all of them, checked before anything is done.

A step is a mapping: a `verb` with the arguments that the command line and Python know, and a
selector that says where. In a file the same is written as YAML.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from onnx_net2net.coupling.lookup import nearest
from onnx_net2net.errors import UsageError
from onnx_net2net.files.yaml_text import parse, parse_file

SELECTORS = {
    "widen": ("node", "space", "every", "stage", "everywhere"),
    "deepen": ("after", "before", "every", "stage", "everywhere"),
    "grow-kernel": ("node", "every", "stage", "everywhere"),
}
SIZES = {"widen": ("width", "ratio", "parameters"), "grow-kernel": ("size",)}
HEADER = ("seed", "split", "mapping", "init", "noise")
_MORE = {"widen": ("parameters",), "deepen": ("ratio",), "grow-kernel": ("node", "size")}
_INNER = ("analysis", "node_name")


@dataclass(frozen=True)
class Step:
    """One step as it was asked for: `where` it was written, for messages."""

    verb: str
    given: dict[str, Any]
    where: str = ""

    @property
    def selector(self) -> str:
        """The argument that says where."""
        return next(s for s in SELECTORS[self.verb] if s in self.given)

    @property
    def arguments(self) -> dict[str, Any]:
        """What the verb itself takes: without selectors and what belongs to them."""
        leave = {*SELECTORS[self.verb], "where_possible", *_MORE[self.verb]}
        return {k: v for k, v in self.given.items() if k not in leave}


@dataclass(frozen=True)
class Recipe:
    """Steps; `common`: what holds for all that do not say otherwise (`seed`, `split`, ...).

    `folder`: where the files that it names lie.
    """

    steps: tuple[Step, ...]
    common: dict[str, Any] = field(default_factory=dict)
    folder: Path = Path()


@cache
def parameters(verb: str) -> dict[str, Any]:
    """The arguments of a verb's own function, with their defaults.

    >>> parameters("widen")["multiple_of"]
    1
    """
    from onnx_net2net.growth.deepen import step as deepening
    from onnx_net2net.growth.kernel import step as kernels
    from onnx_net2net.growth.widen import step as widening

    functions: dict[str, Callable[..., Any]] = {
        "widen": widening.widen_step,
        "deepen": deepening.deepen,
        "grow-kernel": kernels.grow_kernel,
    }
    known = inspect.signature(functions[verb]).parameters
    return {k: p.default for k, p in known.items() if k not in _INNER}


def load(recipe: Any) -> Recipe:
    """A recipe from a path, YAML text (of several lines), a mapping, or a list of steps.

    Raises:
        UsageError: where and what is wrong; OSError: the file cannot be read.

    >>> load([{"node": "conv1", "ratio": 1.5}]).steps[0].verb
    'widen'
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str) and "\n" in recipe:
        return _checked(*parse(recipe, "recipe"), "recipe", Path())
    if isinstance(recipe, (str, os.PathLike)):
        path = Path(recipe)
        if not path.exists():
            raise UsageError(
                f"no recipe '{recipe}'",
                "give the path of a YAML file, a list of steps or 'everywhere'",
            )
        if path.is_dir():
            raise UsageError(f"'{recipe}' is a directory", "give the path of a YAML file")
        return _checked(*parse_file(path), str(recipe), path.parent)
    return _checked(recipe, None, "recipe", Path())


def _checked(data: Any, lines: Mapping[Any, int] | None, name: str, folder: Path) -> Recipe:
    def at(*path: str | int) -> str:
        if lines is not None:
            return f"{name}:{lines.get(path, 1)}: "
        return f"step {int(path[1]) + 1}: " if len(path) > 1 else ""

    if not isinstance(data, Mapping):
        data = {"steps": data}
        if lines is not None:
            raise UsageError(f"{at()}a recipe is a mapping", "write 'steps:' and a list under it")
    known = [*HEADER, "steps"]
    for key, value in data.items():
        if key not in known or (key != "steps" and key not in ("seed", *parameters("widen"))):
            raise UsageError(f"{at(key)}unknown key '{key}'", _like(key, known))
        if key != "steps":
            _check_value(key, value, at(key))
    steps = data.get("steps")
    if isinstance(steps, (str, Mapping)) or not isinstance(steps, Sequence):
        raise UsageError(f"{at('steps')}steps must be a list, each beginning with '- verb: ...'")
    done = [_step(step, k, at) for k, step in enumerate(steps)]
    if not done and lines is not None:
        raise UsageError(f"{at('steps')}no steps", "write at least one, '- verb: ...'")
    common = {k: plain(v) for k, v in data.items() if k != "steps"}
    if lines is None:
        return Recipe(tuple(done), common, folder)
    told = [Step(s.verb, s.given, at("steps", k)[:-2]) for k, s in enumerate(done)]
    return Recipe(tuple(told), common, folder)


def _step(step: Any, number: int, at: Callable[..., str]) -> Step:
    here = ("steps", number)
    if not isinstance(step, Mapping):
        raise UsageError(f"{at(*here)}a step is a mapping with a verb, not {step!r:.40}")
    verb = step.get("verb", "widen")
    if not isinstance(verb, str) or verb not in SELECTORS:
        choices = ", ".join(SELECTORS)
        raise UsageError(f"{at(*here, 'verb')}unknown verb {verb!r}", f"choose one of {choices}")
    own = parameters(verb)
    known = [*SELECTORS[verb], *own, *_MORE[verb], "where_possible", "verb"]
    given: dict[str, Any] = {}
    for key, value in step.items():
        if key not in known:
            others = [v for v in SELECTORS if key in (*SELECTORS[v], *parameters(v), *_MORE[v])]
            hint = f"that belongs to {others[0]}" if others else _like(key, known)
            raise UsageError(f"{at(*here, key)}unknown key '{key}' in a {verb} step", hint)
        if value is None or key == "verb":
            continue
        _check_value(key, value, at(*here, key))
        value = plain(value)
        default = key in own and value == own[key] and type(value) is type(own[key])
        if not default or key in HEADER:
            given[key] = value
    where = [s for s in SELECTORS[verb] if s in given]
    if len(where) != 1:
        said = f"not {' and '.join(where)}" if where else "this one says nothing"
        raise UsageError(
            f"{at(*here)}say where to {verb}: one of {', '.join(SELECTORS[verb])}", said
        )
    sizes = [s for s in SIZES.get(verb, ()) if s in given]
    if verb in SIZES and len(sizes) != 1:
        said = f"not {' and '.join(sizes)}" if sizes else "this one says nothing"
        raise UsageError(f"{at(*here)}say how far: one of {', '.join(SIZES[verb])}", said)
    if "space" in given and "parameters" in given:
        raise UsageError(f"{at(*here)}parameters goes with the other ways to say where")
    return Step(verb, given)


def _like(key: object, known: Sequence[str]) -> str:
    near = nearest(str(key), known, 1)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"


def plain(value: Any) -> Any:
    """Tuples as lists and numpy's numbers as Python's, as JSON gives them back."""
    if hasattr(value, "item") and not getattr(value, "shape", ()):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    return [plain(v) for v in value] if isinstance(value, (list, tuple, range)) else value


def _is_name(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are(one: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(one(v) for v in value)


def _is_budget(value: Any) -> bool:
    """A number of parameters, or a multiple of the teacher's: `2.0x`."""
    if isinstance(value, str):
        head = value.removesuffix("x")
        return head != value and head.replace(".", "", 1).isdecimal()
    return _is_whole(value) and value > 0


Test = tuple[Callable[[Any], bool], str]
_NAME: Test = (_is_name, "a name; put quotes around one that looks like a number")
_NAMES: Test = (lambda v: _is_name(v) or _are(_is_name, v), f"{_NAME[1]}; or a list of names")
_COUNT: Test = (lambda v: _is_whole(v) and v >= 1, "a whole number from 1")
_FLAG: Test = (lambda v: isinstance(v, bool), "true or false")
_TESTS: dict[str, Test] = {
    **dict.fromkeys(("node", "after", "before", "every", "stage"), _NAMES),
    **dict.fromkeys(
        ("space", "split", "init", "kind", "activation", "only_into"), _NAME
    ),
    **dict.fromkeys(("multiple_of", "kernel", "groups", "count", "inner"), _COUNT),
    **dict.fromkeys(("width", "seed"), (_is_whole, "a whole number")),
    **dict.fromkeys(("depthwise", "batchnorm", "where_possible", "allow_interface"), _FLAG),
    "calibrate": (lambda v: isinstance(v, (str, Mapping)), "the data, data.npz"),
    "everywhere": (lambda v: v is True, "true"),
    **dict.fromkeys(("ratio", "noise"), (_is_number, "a number")),
    "parameters": (_is_budget, "a number of parameters or a multiple of today's, e.g. 2.0x"),
    "size": (lambda v: _COUNT[0](v) or _are(_COUNT[0], v), "a whole number from 1, or a list"),
    "mapping": (
        lambda v: _is_name(v) or _are(_is_whole, v), "random, balanced, a JSON file or a list"
    ),
}  # fmt: skip


def _check_value(key: str, value: Any, at: str) -> None:
    """Raise UsageError where a value cannot be what the key asks for."""
    value = plain(value)
    if key not in _TESTS or _TESTS[key][0](value):
        return
    raise UsageError(f"{at}'{key}' must be {_TESTS[key][1]}", f"this is {value!r:.60}")
