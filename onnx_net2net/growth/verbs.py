"""The verbs that commands, recipes and Python know: one line each."""

from __future__ import annotations

from onnx_net2net.errors import UsageError
from onnx_net2net.growth.deepen.verb import Deepen
from onnx_net2net.growth.kernel.verb import GrowKernel
from onnx_net2net.growth.verb import Verb
from onnx_net2net.growth.widen.verb import Widen

VERBS: dict[str, type[Verb]] = {v.verb: v for v in (Widen, Deepen, GrowKernel)}


def register(verb: type[Verb]) -> None:
    """Teach commands, recipes and Python another verb.

    Raises:
        UsageError: there is one of this name already.
    """
    if verb.verb in VERBS:
        raise UsageError(f"there is a verb '{verb.verb}' already", "give it another name")
    VERBS[verb.verb] = verb


def header() -> tuple[str, ...]:
    """The settings that a recipe may say once, for all steps."""
    found = (n for v in VERBS.values() for n, s in v.settings().items() if s.header)
    return tuple(sorted(dict.fromkeys(found), key=lambda n: n != "seed"))
