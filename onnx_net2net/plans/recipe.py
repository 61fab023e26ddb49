"""Recipes: several growth steps with what holds for all of them, checked before anything is done.

A step is a mapping: a `verb` with the arguments that the command line and Python know, and a
selector that says where. In a file the same is written as YAML.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_net2net.coupling.lookup import nearest
from onnx_net2net.errors import UsageError
from onnx_net2net.files.yaml_text import parse, parse_file
from onnx_net2net.growth.verb import Setting, Verb, plain
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
        return _Text("recipe", *parse(recipe, "recipe")).recipe()
    if not isinstance(recipe, (str, os.PathLike)):
        return _Text("", recipe).recipe()
    path = Path(recipe)
    if not path.exists():
        hint = "give the path of a YAML file, a list of steps or 'everywhere'"
        raise UsageError(f"no recipe '{recipe}'", hint)
    if path.is_dir():
        raise UsageError(f"'{recipe}' is a directory", "give the path of a YAML file")
    return _Text(str(recipe), *parse_file(path), path.parent).recipe()


@dataclass(frozen=True)
class _Text:
    """What was written, and on which lines (None: not in a file)."""

    name: str
    data: Any
    lines: Mapping[Any, int] | None = None
    folder: Path = Path()

    def at(self, *path: str | int) -> str:
        """Where something stands, in front of messages."""
        if self.lines is not None:
            return f"{self.name}:{self.lines.get(path, 1)}: "
        return f"step {int(path[1]) + 1}: " if len(path) > 1 else ""

    def recipe(self) -> Recipe:
        """All of it, checked."""
        written = self.lines is not None
        data = self.data
        if not isinstance(data, Mapping):
            if written:
                hint = "write 'steps:' and a list under it"
                raise UsageError(f"{self.at()}a recipe is a mapping", hint)
            data = {"steps": data}
        steps = data.get("steps")
        common = {k: self.common(k, v) for k, v in data.items() if k != "steps"}
        if isinstance(steps, (str, Mapping)) or not isinstance(steps, Sequence):
            said = "steps must be a list, each beginning with '- verb: ...'"
            raise UsageError(f"{self.at('steps')}{said}")
        done = tuple(self.step(step, k) for k, step in enumerate(steps))
        if not done and written:
            raise UsageError(f"{self.at('steps')}no steps", "write at least one, '- verb: ...'")
        return Recipe(done, common, self.folder)

    def common(self, key: str, value: Any) -> Any:
        """A setting for all steps, checked."""
        known = header()
        if key not in known:
            raise UsageError(f"{self.at(key)}unknown key '{key}'", _like(key, [*known, "steps"]))
        one = next(s for v in VERBS.values() if (s := v.settings().get(key)) and s.header)
        one.check(key, value, self.at(key))
        return plain(value)

    def step(self, step: Any, number: int) -> Step:
        """One step, checked; of what is its default anyway, only what a header may change."""
        here = ("steps", number)
        if not isinstance(step, Mapping):
            raise UsageError(f"{self.at(*here)}a step is a mapping with a verb, not {step!r:.40}")
        name = step.get("verb", "widen")
        if not isinstance(name, str) or name not in VERBS:
            hint = f"choose one of {', '.join(VERBS)}"
            raise UsageError(f"{self.at(*here, 'verb')}unknown verb {name!r}", hint)
        said = {k: v for k, v in step.items() if k != "verb"}
        settings = {k: _setting(name, k, self.at(*here, k)) for k in said}
        for key, one in settings.items():
            one.check(key, said[key], self.at(*here, key))
        given = {k: plain(v) for k, v in said.items() if v is not None}
        VERBS[name].check_whole(given, self.at(*here))
        kept = {k: v for k, v in given.items() if k in header() or not _same(v, settings[k])}
        return Step(name, kept, self.at(*here)[:-2] if self.lines is not None else "")


def _setting(verb: str, key: str, at: str) -> Setting:
    settings = VERBS[verb].settings()
    if key in settings:
        return settings[key]
    others = [v for v in VERBS if key in VERBS[v].settings()]
    hint = f"that belongs to {others[0]}" if others else _like(key, [*settings, "verb"])
    raise UsageError(f"{at}unknown key '{key}' in a {verb} step", hint)


def _same(value: Any, one: Setting) -> bool:
    return type(value) is type(one.default) and bool(value == one.default)


def _like(key: object, known: Sequence[str]) -> str:
    near = nearest(str(key), known, 1)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
