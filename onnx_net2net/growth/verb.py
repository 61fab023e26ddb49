"""Verbs: what one step of growth may say, as the fields of a frozen dataclass.

Command line options, recipe keys, checks of values, Python keywords and their help are read off
the fields. A new verb is a package under growth/ whose `verb.py` holds such a class, and a line
in `growth.verbs`. Imports the standard library alone, so that help is quick.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, ClassVar, TypeVar

from onnx_net2net.errors import UsageError

Names = str | list[str] | None
T = TypeVar("T", bound="Verb")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value >= 1


def _are(one: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(one, value))


def _is_name(value: Any) -> bool:
    return isinstance(value, str)


def _is_budget(value: Any) -> bool:
    """A number of parameters, or a multiple of the teacher's: `2.0x`."""
    head = value.removesuffix("x") if isinstance(value, str) else ""
    return _is_count(value) or (head != value and head.replace(".", "", 1).isdecimal())


@dataclass(frozen=True)
class Kind:
    """What a value has to be: a test, in words, and the type of its command line option."""

    fits: Callable[[Any], bool]
    words: str
    option: type = str
    least: int | None = None


NAME = Kind(_is_name, "a name; put quotes around one that looks like a number")
NAMES = Kind(lambda v: _is_name(v) or _are(_is_name, v), f"{NAME.words}; or a list of names")
WHOLE = Kind(_is_whole, "a whole number", int)
COUNT = Kind(_is_count, "a whole number from 1", int, 1)
COUNTS = Kind(lambda v: _is_count(v) or _are(_is_count, v), "a whole number from 1, or a list",
              int, 1)  # fmt: skip
NUMBER = Kind(lambda v: _is_whole(v) or isinstance(v, float), "a number", float)
FLAG = Kind(lambda v: isinstance(v, bool), "true or false", bool)
TRUE = Kind(lambda v: v is True, "true", bool)
BUDGET = Kind(_is_budget, "a number of parameters or a multiple of today's, e.g. 2.0x")
SOURCES = Kind(
    lambda v: _is_name(v) or _are(_is_whole, v), "random, balanced, a JSON file or a list"
)
ARRAYS = Kind(lambda v: isinstance(v, (str, Mapping)), "the data, data.npz")


@dataclass(frozen=True)
class Setting:
    """What is known of a field beside its name and default.

    `role`: "where" (one of these selects), "far" (one of these says how far), or "".
    `option`: it is also an option of the command. `header`: a recipe may say it once, for all
    steps. `decides`: settings that are no choice any more once this one is not its default.
    """

    kind: Kind
    help: str
    role: str = ""
    option: bool = True
    header: bool = False
    choices: Collection[str] = ()
    metavar: str | None = None
    decides: tuple[str, ...] = ()
    default: Any = None

    def check(self, key: str, value: Any, at: str = "") -> None:
        """Raise UsageError where a value cannot be what is asked for.

        Args:
            key: the setting's name.
            value: what was given, None for nothing.
            at: where, in front of the message.
        """
        value = plain(value)
        if value is None:
            return
        if not self.kind.fits(value):
            raise UsageError(f"{at}'{key}' must be {self.kind.words}", f"this is {value!r:.60}")
        if self.choices and value not in self.choices:
            known = ", ".join(self.choices)
            raise UsageError(f"{at}unknown {key} '{value}'", f"choose one of {known}")


def setting(kind: Kind, help: str, default: Any = None, **more: Any) -> Any:
    """A field of a verb.

    Args:
        kind: what its values have to be.
        help: for the command line and Python.
        default: None where nothing is assumed.
        more: other fields of `Setting`.
    """
    return field(default=default, metadata={"": Setting(kind, help, default=default, **more)})


@dataclass(frozen=True)
class Preset:
    """A flag that stands for several settings, such as --paper."""

    help: str
    means: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One step as it was asked for. What is None was not said.

    A verb of its own is a frozen dataclass with the class attributes below and `grow`, or with
    `run` where several places go together.
    """

    verb: ClassVar[str]
    summary: ClassVar[str]
    suffix: ClassVar[str] = ".grown"
    examples: ClassVar[tuple[str, ...]] = ()
    paper: ClassVar[Preset | None] = None
    of_nodes: ClassVar[bool] = False
    """Whether `every` finds any nodes, not layers alone."""

    every: Names = setting(
        NAMES, "All layers of an operator, of a kind (`depthwise`, `grouped`, `pointwise`) or that "
        "a pattern fits.", role="where", option=False,
    )  # fmt: skip
    stage: Names = setting(
        NAMES, "All layers whose module path begins so.", role="where", option=False
    )
    everywhere: bool | None = setting(TRUE, "All layers.", role="where", option=False)
    where_possible: bool | None = setting(
        FLAG, "Leave out what cannot grow; so it is anyway for `everywhere`.", option=False
    )
    seed: int | None = setting(
        WHOLE, "Same seed, same bytes (0; the k-th thing grown gets seed + k).",
        header=True, option=False,
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name, one in self.settings().items():
            one.check(name, getattr(self, name))
        said = {k: v for k in self.settings() if (v := getattr(self, k)) is not None}
        self.check_whole(said)

    @classmethod
    @cache
    def settings(cls) -> dict[str, Setting]:
        """The settings by name: the verb's own, then those of all verbs."""
        found = {f.name: f.metadata[""] for f in fields(cls)}
        common = {f.name for f in fields(Verb)} - cls.__annotations__.keys()
        own = [n for n in cls.__annotations__ if n in found]
        return {n: found[n] for n in [*own, *(n for n in found if n in common)]}

    @classmethod
    def named(cls, role: str) -> list[str]:
        """The settings of a role."""
        return [n for n, s in cls.settings().items() if s.role == role]

    @classmethod
    def check_whole(cls, said: Mapping[str, Any], at: str = "") -> None:
        """Raise UsageError unless one setting says where and, if there are any, one how far."""
        for role, ask in (("where", f"say where to {cls.verb}"), ("far", "say how far")):
            known = cls.named(role)
            given = [n for n in known if said.get(n) is not None]
            if known and len(given) != 1:
                hint = f"not {' and '.join(given)}" if given else "this one says nothing"
                raise UsageError(f"{at}{ask}: one of {', '.join(known)}", hint)

    @property
    def selector(self) -> str:
        """The setting that says where."""
        return next(n for n in self.named("where") if getattr(self, n) is not None)

    @property
    def lenient(self) -> bool:
        """Whether what cannot grow is left out."""
        everywhere = self.selector == "everywhere"
        return everywhere if self.where_possible is None else self.where_possible

    def at(self: T, **where: Any) -> T:
        """The same at one place only."""
        return replace(self, **{**dict.fromkeys(self.named("where")), **where})

    def grow(self, analysis: Any) -> Any:
        """What happens at one place: a `growth.result.Result`; `seed` is a number here."""
        raise NotImplementedError(f"{type(self).__name__} says neither `grow` nor `run`")

    def run(self, student: Any, task: Any) -> tuple[list[str], str]:
        """Grow all places that the selector finds.

        Args:
            student: the `growth.student.Student` that takes the results.
            task: the `growth.student.Task` with this step.

        Returns:
            What the selector found, and a note on what was reached ("" for none).
        """
        return task.grow_all(student), ""


def plain(value: Any) -> Any:
    """Tuples as lists and numpy's numbers as Python's, as JSON gives them back.

    >>> plain((1, 2))
    [1, 2]
    """
    if hasattr(value, "item") and not getattr(value, "shape", ()):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    return [plain(v) for v in value] if isinstance(value, (list, tuple, range)) else value
