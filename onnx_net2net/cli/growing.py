"""A command for each verb, its options read off the verb's settings."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from onnx_net2net.errors import UsageError
from onnx_net2net.growth.verb import ARRAYS, Setting, Verb
from onnx_net2net.growth.verbs import VERBS
from .delivery import deliver, form
from .options import PATH, writing


class Commands(click.Group):
    """The commands that are written out, and one for each verb that is registered."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return sorted({*self.commands, *VERBS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name."""
        found = super().get_command(ctx, cmd_name)
        return command(VERBS[cmd_name]) if found is None and cmd_name in VERBS else found


def command(verb: type[Verb]) -> click.Command:
    """The command of a verb."""

    def grow(model: str, **options: Any) -> None:
        from onnx_net2net.plans.plan import COMMON, plan

        _settle(verb, options)
        settings = verb.settings()
        common = {n: options[n] for n, s in settings.items() if s.header and n in COMMON}
        made = plan(model, _steps(verb, options), shapes=options["shapes"], **common)
        deliver(made, form(made.source, model, verb.suffix, options), verb.verb, options)

    about = (verb.__doc__ or verb.summary).split("\n\n")[0]
    lines = "\n".join(f"onnx-net2net {verb.verb} model.onnx {line}" for line in verb.examples)
    grow.__doc__ = f"{about}\n\n\b\n{lines}"
    wrapped = writing(grow)
    if verb.paper is not None:
        wrapped = click.option("--paper", is_flag=True, help=verb.paper.help)(wrapped)
    for name in reversed(_offered(verb)):
        wrapped = _option(verb, name, verb.settings()[name])(wrapped)
    wrapped = click.argument("model", type=PATH)(wrapped)
    return click.command(verb.verb, short_help=verb.summary)(wrapped)


def _offered(verb: type[Verb], *roles: str) -> list[str]:
    """The settings that are options of the command, of some roles or all."""
    known = verb.settings().items()
    return [n for n, s in known if s.option and (not roles or s.role in roles)]


def _option(verb: type[Verb], name: str, one: Setting) -> Any:
    flag = f"--{name.replace('_', '-')}"
    if one.kind.option is bool:
        return click.option(flag, is_flag=True, help=one.help)
    kind: Any = one.kind.option
    if one.choices:
        kind = click.Choice(list(one.choices))
    elif one.kind.least is not None:
        kind = click.IntRange(one.kind.least)
    elif one.kind is ARRAYS:
        kind = click.Path()
    more: dict[str, Any] = {"default": one.default, "show_default": isinstance(one.default, str)}
    if one.role:
        more = {"multiple": True, "required": _offered(verb, one.role) == [name]}
    return click.option(flag, name, type=kind, metavar=one.metavar, help=one.help, **more)


def _settle(verb: type[Verb], options: dict[str, Any]) -> None:
    """Refuse options that others decide on, and put in what a preset means."""
    if verb.paper is not None and options["paper"]:
        _not_given("paper", *verb.paper.means)
        options.update(verb.paper.means)
    for name, one in verb.settings().items():
        if one.decides and options[name] != one.default:
            _not_given(name, *one.decides)


def _not_given(flag: str, *others: str) -> None:
    context = click.get_current_context()
    for other in others:
        if context.get_parameter_source(other) is not ParameterSource.DEFAULT:
            raise UsageError(f"--{flag} decides on --{other}", "give one of them")


def _steps(verb: type[Verb], options: dict[str, Any]) -> list[dict[str, Any]]:
    """One step for each place, with how far if the verb asks for that."""
    where, far = (_values(verb, role, options) for role in ("where", "far"))
    if not where or (far and len({n for n, _ in where}) > 1):
        raise click.UsageError(f"say where to {verb.verb}, with {_either(verb, 'where')}")
    if len({n for n, _ in far}) != bool(_offered(verb, "far")):
        raise click.UsageError(f"say how far, with {_either(verb, 'far')}")
    if len(far) > 1 and len(far) != len(where):
        given = f"{_count(len(where), 'layer')} and {_count(len(far), far[0][0])}"
        raise UsageError(given, "give one for each layer, or one for all")
    far = far * len(where) if len(far) == 1 else far
    common = {"verb": verb.verb, **{n: options[n] for n in _offered(verb, "")}}
    own = [dict([w, *far[k : k + 1]]) for k, w in enumerate(where)]
    return [{**common, **one} for one in own]


def _values(verb: type[Verb], role: str, options: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(n, value) for n in _offered(verb, role) for value in options[n]]


def _either(verb: type[Verb], role: str) -> str:
    *first, last = (f"--{n.replace('_', '-')}" for n in _offered(verb, role))
    return f"{'either ' * (len(first) == 1)}{', '.join(first)} or {last}" if first else last


def _count(n: int, one: str) -> str:
    return f"{n} {one if n == 1 else one + 's'}"
