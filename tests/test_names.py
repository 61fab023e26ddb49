"""A public name means one thing: top-level names that stand in more than one module.

`tests/names_twice.txt` lists those that do today. It only shrinks: rename what is new, and take
off the list what has gone.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "onnx_net2net"
ALLOWED = Path(__file__).with_name("names_twice.txt")
MOST = 60


def defined(tree: ast.Module) -> Iterator[str]:
    """Names of functions, classes and constants at a module's top."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = (n for target in targets for n in ast.walk(target))
            yield from (n.id for n in names if isinstance(n, ast.Name))


def standing_twice() -> dict[str, set[str]]:
    """Public names of several modules, with these."""
    found = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for name in defined(ast.parse(path.read_text(encoding="utf-8"))):
            if not name.startswith("_"):
                found[name].add(str(path.relative_to(PACKAGE)))
    return {name: modules for name, modules in found.items() if len(modules) > 1}


def test_a_public_name_means_one_thing() -> None:
    found, allowed = standing_twice(), set(ALLOWED.read_text(encoding="utf-8").split())
    new = {name: modules for name, modules in found.items() if name not in allowed}
    assert not new, "choose another name for one of them"
    assert not allowed - found.keys(), f"take these off {ALLOWED.name}"


def test_the_list_is_short() -> None:
    assert len(ALLOWED.read_text(encoding="utf-8").split()) <= MOST
