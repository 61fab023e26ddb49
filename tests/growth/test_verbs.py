"""The verb of ARCHITECTURE.md: command, recipe, Python, replay; no file of the package changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

import onnx_net2net as n2n
from onnx_net2net.api import call as call_of
from onnx_net2net.growth import verbs
from onnx_net2net.growth.result import Patched
from onnx_net2net.growth.verb import Verb
from support.command_line import Workplace, call, work
from support.recipes import followed

__all__ = ["work"]  # a fixture


@pytest.fixture(autouse=True)
def tag() -> Iterator[type[Verb]]:
    yield followed("Adding a verb")["Tag"]
    del verbs.VERBS["tag"]


def tags(path: str) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(path).metadata_props if p.key.startswith("tag")}


def test_as_a_command(work: Workplace) -> None:
    model = work.bring("digits_cnn")
    assert "tag" in call("--help").out
    shown = call("tag", "--help").out
    for part in ("Write a note on a layer", "--node", "[seen|kept]", "[default: seen]", "[x>=1]"):
        assert part in shown
    found = call("tag", model, "--node", "conv1", "--node", "fc", "--times", "2")
    assert (found.code, found.err) == (0, "warning: this is only a note\n"), found
    assert tags("digits_cnn.tagged.onnx") == {
        "tag of /conv1/Conv": "seenseen", "tag of /fc/Gemm": "seenseen"
    }  # fmt: skip
    assert call("tag", model, "--node", "conv1", "--times", "0").code == 2
    assert call("tag", model).code == 2


def test_in_a_recipe_and_replayed(work: Workplace) -> None:
    model = work.bring("digits_cnn")
    Path("r.yaml").write_text(
        "steps:\n  - {node: conv1, width: 20}\n  - {verb: tag, every: Conv, words: kept}\n"
    )
    assert call("apply", model, "r.yaml", "-o", "a.onnx").code == 0
    assert list(tags("a.onnx").values()) == ["kept"] * 5
    assert call("apply", model, "a.onnx", "-o", "b.onnx").code == 0
    assert work.files()["a.onnx"] == work.files()["b.onnx"]
    Path("r.yaml").write_text("steps:\n  - {verb: tag, node: conv1, word: kept}\n")
    assert "unknown key 'word' in a tag step; did you mean 'words'?" in call(
        "apply", model, "r.yaml"
    ).err.replace("\n  ", " ")


def test_from_python(work: Workplace, tag: type[Verb]) -> None:
    model = work.bring("digits_cnn")
    plan = n2n.plan(model, [{"verb": "tag", "node": "conv1"}])
    assert [type(step) for step in plan.steps] == [Patched]
    assert (plan.changes, plan.mapping, plan.new_rows, plan.new_parameters) == ({}, {}, {}, ())
    grow = call_of(tag)
    assert "times: How often." in (grow.__doc__ or "")
    assert tags(str(grow(model, node="fc", words="kept", output="t.onnx")))
    with pytest.raises(TypeError, match="wrods"):
        grow(model, node="fc", wrods="kept")
    with pytest.raises(n2n.UsageError, match="'times' must be a whole number from 1"):
        grow(model, node="fc", times=0)


def test_a_name_is_given_once(tag: type[Verb]) -> None:
    with pytest.raises(n2n.UsageError, match="there is a verb 'tag' already"):
        verbs.register(tag)


@pytest.mark.parametrize("verb", verbs.VERBS.values())
def test_every_setting_is_documented_for_python(verb: type[Verb]) -> None:
    words = " ".join(getattr(n2n, verb.verb.replace("-", "_")).__doc__.split())
    for name, one in verb.settings().items():
        assert f"{name}: " in words
        assert " ".join(one.help.split()) in words
