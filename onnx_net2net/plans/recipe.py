"""Recipes: several growth steps with what holds for all of them, checked before anything is done.

A step is a mapping: a `verb` with the arguments that the command line and Python know, and a
selector that says where. In a file the same is written as YAML.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_net2net.coupling.lookup import nearest
from onnx_net2net.errors import UsageError
from onnx_net2net.files.yaml_text import parse, parse_file
from onnx_net2net.growth.verb import Verb, plain
from onnx_net2net.growth.verbs import VERBS, header


@dataclass(frozen=True)
class Step:
    """One step as it was asked for: `where` it was written, for messages."""

    verb: str
    given: dict[str, Any]
    where: str = ""

    @property
    def selector(self) -> str:
        """The setting that says where."""
        return next(n for n in VERBS[self.verb].named("where") if n in self.given)

    def typed(self, common: Mapping[str, Any]) -> Verb:
        """The step, with what holds where it says nothing."""
        settings = VERBS[self.verb].settings()
        header = {k: v for k, v in common.items() if k in settings and settings[k].header}
        return VERBS[self.verb](**{**header, "seed": None, **self.given})


@dataclass(frozen=True)
class Recipe:
    """Steps; `common`: what holds for all that do not say otherwise (`seed`, `split`, ...).

    `folder`: where the files that it names lie.
    """

    steps: tuple[Step, ...]
    common: dict[str, Any] = field(default_factory=dict)
    folder: Path = Path()


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
    known = {n: s for v in VERBS.values() for n, s in v.settings().items() if s.header}
    for key, value in data.items():
        if key != "steps" and key not in known:
            raise UsageError(f"{at(key)}unknown key '{key}'", _like(key, [*header(), "steps"]))
        if key != "steps":
            known[key].check(key, value, at(key))
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
    name = step.get("verb", "widen")
    if not isinstance(name, str) or name not in VERBS:
        choices = ", ".join(VERBS)
        raise UsageError(f"{at(*here, 'verb')}unknown verb {name!r}", f"choose one of {choices}")
    settings = VERBS[name].settings()
    given: dict[str, Any] = {}
    for key, value in step.items():
        if key == "verb" or (key in settings and value is None):
            continue
        if key not in settings:
            others = [v for v in VERBS if key in VERBS[v].settings()]
            known = [*settings, "verb"]
            hint = f"that belongs to {others[0]}" if others else _like(key, known)
            raise UsageError(f"{at(*here, key)}unknown key '{key}' in a {name} step", hint)
        settings[key].check(key, value, at(*here, key))
        value, default = plain(value), settings[key].default
        if value != default or type(value) is not type(default) or key in header():
            given[key] = value
    VERBS[name].check_whole(given, at(*here))
    return Step(name, given)


def _like(key: object, known: Sequence[str]) -> str:
    near = nearest(str(key), known, 1)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
