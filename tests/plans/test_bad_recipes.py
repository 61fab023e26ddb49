"""Recipes that cannot be: one line with file and line number, exit code 2, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_net2net.errors import UsageError
from onnx_net2net.files.yaml_text import parse
from onnx_net2net.plans.recipe import load
from support.command_line import Workplace, call, work

__all__ = ["work"]  # a fixture

WRONG = {
    "unknown key": ("steps:\n  - node: conv1\n    witdh: 3\n", 3, "did you mean 'width'?"),
    "key of another verb": ("steps:\n  - {node: a, width: 3, kind: auto}\n", 2, "to deepen"),
    "unknown verb": ("steps:\n  - verb: widne\n", 2, "unknown verb 'widne'; choose one of widen"),
    "verb is no word": ("steps:\n  - verb: [widen]\n", 2, "unknown verb"),
    "unknown header": ("sede: 3\nsteps: []\n", 1, "did you mean 'seed'?"),
    "header of a step": ("width: 3\nsteps: []\n", 1, "unknown key 'width'"),
    "no steps": ("seed: 3\n", 1, "steps must be a list"),
    "steps empty": ("seed: 3\nsteps: []\n", 2, "no steps"),
    "steps a mapping": ("seed: 3\nsteps:\n  verb: widen\n", 2, "steps must be a list"),
    "a list at the top": ("- node: conv1\n  width: 3\n", 1, "write 'steps:'"),
    "a scalar": ("just text\n", 1, "a recipe is a mapping"),
    "empty": ("\n", 1, "a recipe is a mapping"),
    "a step that is text": ("steps:\n  - widen\n", 2, "a step is a mapping"),
    "no selector": ("steps:\n  - width: 3\n", 2, "say where to widen"),
    "two selectors": ("steps:\n  - {node: a, every: b, width: 3}\n", 2, "not node and every"),
    "no size": ("steps:\n  - node: a\n", 2, "say how far"),
    "two sizes": ("steps:\n  - {node: a, width: 3, ratio: 2}\n", 2, "not width and ratio"),
    "no kernel size": ("steps:\n  - {verb: grow-kernel, node: a}\n", 2, "say how far"),
    "width text": ("steps:\n  - node: a\n    width: wide\n", 3, "must be a whole number"),
    "width true": ("steps:\n  - {node: a, width: yes}\n", 2, "must be a whole number"),
    "ratio text": ("steps:\n  - {node: a, ratio: 1.5x}\n", 2, "must be a number"),
    "budget": ("steps:\n  - {node: a, parameters: twice}\n", 2, "e.g. 2.0x"),
    "budget zero": ("steps:\n  - {node: a, parameters: 0}\n", 2, "e.g. 2.0x"),
    "name is a number": ("steps:\n  - {node: 12, width: 3}\n", 2, "put quotes around"),
    "names hold a number": ("steps:\n  - {node: [a, 12], width: 3}\n", 2, "put quotes around"),
    "everywhere no": ("steps:\n  - {everywhere: no, ratio: 2}\n", 2, "must be true"),
    "flag": ("steps:\n  - {every: a, ratio: 2, where_possible: 1}\n", 2, "true or false"),
    "seed": ("seed: x\nsteps: []\n", 1, "must be a whole number"),
    "mapping": ("steps:\n  - {node: a, width: 3, mapping: {a: b}}\n", 2, "a JSON file or a list"),
    "calibrate": ("steps:\n  - {verb: deepen, after: a, calibrate: 3}\n", 2, "data.npz"),
    "size": ("steps:\n  - {verb: grow-kernel, node: a, size: big}\n", 2, "whole number from 1"),
    "a key twice": ("steps:\n  - node: a\n    width: 3\n    width: 4\n", 4, "first in line 3"),
    "a merge key": ("steps:\n  - {<<: {a: b}}\n", 2, "a key must be a word"),
    "a number as key": ("steps:\n  - {3: 4}\n", 2, "a key must be a word"),
    "an alias": ("a: &x [1]\nsteps: *x\n", 1, "anchors and aliases"),
    "a bomb": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", 1, "anchors and aliases"),
    "a tag": ("steps: !!python/object/apply:os.system [ls]\n", 1, "put it in quotes"),
    "a tagged scalar": ("steps:\n  - {node: !!python/name:os.system '', width: 3}\n", 2, "quotes"),
    "a date": ("steps:\n  - {node: 2020-01-01, width: 3}\n", 2, "put it in quotes"),
    "a broken list": ("steps:\n  - [a, b\nseed: 3\n", 3, "not YAML"),
    "a tab": ("steps:\n\t- a\n", 2, "not YAML"),
    "a control character": ("steps:\n  - \x01\n", None, "not YAML"),
    "two documents": ("seed: 1\n---\nseed: 2\n", 2, "not YAML"),
    "nested": ("steps: " + "[" * 5000 + "\n", 1, "nested"),
    "a long number": ("seed: " + "9" * 5000 + "\nsteps: []\n", 1, "cannot be read"),
    "huge": ("#" * (1 << 20) + "\n\n", None, "too many, at most"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_one_line_with_file_and_line(case: str, work: Workplace) -> None:
    text, line, said = WRONG[case]
    Path("r.yaml").write_text(text)
    model = work.bring("digits_cnn")
    before = work.files()
    found = call("apply", model, "r.yaml", "--json")
    assert found.code == 2, found.err
    assert found.err.startswith(f"error: r.yaml:{line}: " if line else "error: r.yaml"), found.err
    assert said in found.err
    assert len(found.err.splitlines()) == 1
    assert found.json["error"]["kind"] == "usage"
    assert work.files() == before


RUN = {
    "unknown layer": ("every: Conv\n    ratio: 1.1\n  - node: cnov1\n    width: 20", 4, 2, "conv1"),
    "not wider": ("node: conv1\n    width: 16", 2, 2, "has width 16 today"),
    "refused": ("node: fc\n    width: 20", 2, 4, "graph output at axis 1 of 'logits'"),
    "refused among many": ("every: '*'\n    ratio: 2", 2, 4, "where_possible: true"),
    "pattern of nothing": ("every: Cnov\n    ratio: 2", 2, 2, "did you mean Conv"),
    "stage of nothing": ("stage: layer9\n    ratio: 2", 2, 2, "did you mean layer1"),
    "nothing can": ("every: Gemm\n    ratio: 2\n    where_possible: true", 2, 4, "graph output"),
    "budget too small": ("every: Conv\n    parameters: 21700", 2, 2, "the smallest growth gives"),
    "a list for many": ("every: Conv\n    width: 40\n    mapping: [0, 1]", 2, 2, "fits one layer"),
    "no mapping file": ("node: conv1\n    width: 40\n    mapping: no.json", 2, 2, "does not exist"),
    "no data": (
        "verb: deepen\n    after: conv1\n    batchnorm: true\n    calibrate: no.npz", 2, 2, "no.npz"
    ),
    "ratio of depth": ("verb: deepen\n    every: Relu\n    ratio: 0.5", 2, 2, "does not deepen"),
    "kernel": ("verb: grow-kernel\n    node: conv1\n    size: 1", 2, 2, "give a larger size"),
}  # fmt: skip


@pytest.mark.parametrize("case", RUN)
def test_what_the_model_does_not_allow_names_the_step(case: str, work: Workplace) -> None:
    text, line, code, said = RUN[case]
    Path("r.yaml").write_text(f"steps:\n  - {text}\n")
    model = work.bring("digits_cnn")
    before = work.files()
    found = call("apply", model, "r.yaml", "--json")
    assert (found.code, found.err[:15]) == (code, f"error: r.yaml:{line}"), found.err
    assert said in found.err
    assert work.files() == before


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (None, 2, "no recipe 'r.yaml'"), (b"\xff\xfe\x00", 2, "not text"),
        (b"\x08\x08", 3, "holds no graph"), ("folder", 2, "directory"),
    ],
)  # fmt: skip
def test_no_recipe_at_all(
    work: Workplace, content: bytes | str | None, code: int, said: str
) -> None:
    if isinstance(content, bytes):
        Path("r.yaml").write_bytes(content)
    elif content:
        Path("r.yaml").mkdir()
    found = call("apply", work.bring("digits_cnn"), "r.yaml")
    assert found.code == code, found.err
    assert said in found.err


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from("abstepwidrno:-[]{}&*!|>'\"\n #%@,1.0<"), max_size=60))
def test_any_text_is_a_recipe_or_a_value_error(text: str) -> None:
    for start in ("", "steps:\n  - "):
        try:
            load(f"{start}{text}\n")
        except ValueError as error:
            said = error
            assert (type(said), str(said)[:6]) == (UsageError, "recipe")


def test_values_are_plain_and_their_lines_known() -> None:
    text = "a: [1, 1.5, true, null]\nb:\n  - c: x\n    d: 'on'\n"
    assert parse(text, "r") == (
        {"a": [1, 1.5, True, None], "b": [{"c": "x", "d": "on"}]},
        {("a",): 1, **{("a", k): 1 for k in range(4)}, ("b",): 2, ("b", 0): 3, ("b", 0, "c"): 3,
         ("b", 0, "d"): 4},
    )  # fmt: skip


def test_a_list_of_steps_says_which() -> None:
    with pytest.raises(ValueError, match=r"^step 2: unknown key 'widht'.*'width'"):
        load([{"node": "a", "width": 3}, {"node": "a", "widht": 3}])
