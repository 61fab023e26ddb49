"""How the project is laid out: short files, wings with a face and a line budget."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tools import line_budget

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("onnx_net2net", "tests", "tools")
MOST = 400
FACES = sorted(p.parent for p in (ROOT / "onnx_net2net").rglob("*.py"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_is_longer_than_what_is_read_at_one_go(folder: str) -> None:
    long = {
        str(path.relative_to(ROOT)): n
        for path in (ROOT / folder).rglob("*.py")
        if (n := len(path.read_text(encoding="utf-8").splitlines())) > MOST
    }
    assert not long, f"over {MOST} lines; split by topic"


@pytest.mark.parametrize("folder", sorted(set(FACES)), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_wing_says_what_lives_there(folder: Path) -> None:
    face = folder / "__init__.py"
    assert face.is_file(), f"{folder} has no __init__.py"
    said = ast.get_docstring(ast.parse(face.read_text(encoding="utf-8"))) or ""
    assert said.splitlines()[0].endswith(".")


def test_few_files_stand_at_the_top() -> None:
    assert len(list((ROOT / "onnx_net2net").glob("*.py"))) <= 12


def test_every_wing_has_a_line_budget() -> None:
    """`python -m tools.line_budget`, which CI runs, holds them to it."""
    assert line_budget.lines().keys() == line_budget.budget().keys()


def test_the_architecture_names_what_is_there_and_is_read_in_an_afternoon() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    paths = re.findall(r"`(tests/[^`]+\.py)`", text)
    afternoon = re.findall(r"\]\(([^)]+\.py)\)", text)
    assert not [path for path in (*paths, *afternoon) if not (ROOT / path).is_file()]
    lines = [len((ROOT / p).read_text(encoding="utf-8").splitlines()) for p in afternoon]
    assert 2500 < sum(lines) < 3500


def test_the_picture_is_the_contract() -> None:
    """The floors of ARCHITECTURE.md are those of .importlinter, but for (wings) to come."""
    contract = (ROOT / ".importlinter").read_text(encoding="utf-8")
    layers = contract.partition("layers =")[2].partition("\n\n")[0].splitlines()
    wanted = [set(re.findall(r"(?<![(\w])[a-z]\w+", line)) for line in layers]
    picture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("```")[1]
    shown = [set(re.findall(r"\w+(?=/|\.py)", line[:30])) for line in picture.splitlines()]
    assert [floor for floor in shown if floor] == [floor for floor in wanted if floor]
