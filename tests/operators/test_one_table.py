"""What is known of an operator stands in its row: nothing that grows models asks for it by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import onnx_net2net
from onnx_net2net.operators.table import TABLE

ROOT = Path(onnx_net2net.__file__).parent
FILES = [
    path
    for wing in ("inference", "coupling", "growth")
    for path in sorted((ROOT / wing).rglob("*.py"))
]


def asked_by_name(tree: ast.AST) -> Iterator[int]:
    """Lines on which an operator's name decides: compared, or one of a list."""
    rows = {id(word) for node in ast.walk(tree) for word in _rows(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if not any(isinstance(s, ast.Attribute) and s.attr == "op" for s in sides):
                continue
            listed = isinstance(node.ops[0], (ast.In, ast.NotIn)) and not isinstance(
                node.left, ast.Constant
            )
            named = any(isinstance(s, ast.Constant) and s.value in TABLE for s in sides)
            if named or (listed and not any(_is_table(s) for s in node.comparators)):
                yield node.lineno
        words = (
            node.value.split()
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            else []
        )
        if id(node) not in rows and len(words) > 1 and all(word in TABLE for word in words):
            yield node.lineno


def _rows(node: ast.AST) -> Iterator[ast.expr]:
    """Names of operators that a decorator puts into a table of rules: of sizes, say."""
    if isinstance(node, ast.FunctionDef):
        for made in node.decorator_list:
            yield from made.args if isinstance(made, ast.Call) else ()


def _is_table(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("TABLE", "OPERATORS")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_list_stands_beside_the_table(path: Path) -> None:
    assert not list(asked_by_name(ast.parse(path.read_text("utf-8"))))


@pytest.mark.parametrize(
    "code", ["node.op == 'If'", "n.op in _NORMS", "L = 'Conv Gemm'.split()", "'Relu' != node.op"]
)
def test_such_lists_are_found(code: str) -> None:
    assert list(asked_by_name(ast.parse(code)))
