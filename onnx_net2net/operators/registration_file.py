"""Operators taught by a YAML file.

my.domain.Scale: n c *, c -> n c *
my.domain.GroupedScale:
  notation: n (g c) *, (g c) -> n (g c) *
  sizes: {g: groups}
  roles: {c: mean}
  zero: true
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnx_net2net.errors import UsageError
from onnx_net2net.files.yaml_text import parse_file
from onnx_net2net.operators.notation import REGISTERED
from onnx_net2net.operators.registration import forget, register_operator

_KEYS = {
    "notation": (str, "a notation such as n c *, c -> n c *"),
    "roles": (dict, "a mapping such as {c: mean}"),
    "sizes": (dict, "a mapping such as {g: groups}"),
    "zero": (bool, "true or false"),
}
_FORM = "my.domain.Op: n c *, c -> n c *"


def register_file(path: str) -> list[str]:
    """Register the operators of a file; their names, for `forget`.

    Raises:
        UsageError: with file and line, what stands there and what was expected.
        OSError: the file cannot be read.
    """
    done: list[str] = []
    try:
        for name, fields, mark in _entries(path):
            domain, _, op = name.rpartition(".")
            try:
                fresh = name not in REGISTERED
                register_operator(domain, op, **fields)
            except UsageError as why:
                why.prefix(mark)
                raise
            done += [name] if fresh else []
    except UsageError:
        forget(*done)
        raise
    return done


def _entries(path: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(operator, arguments of `register_operator`, file and line)."""
    root, lines = parse_file(path)
    if not isinstance(root, dict):
        raise UsageError(f"{path}:1: expected operators, each like `{_FORM}`")
    for name, value in root.items():
        mark = f"{path}:{lines[name,]}"
        if isinstance(value, str):
            yield name, {"notation": value}, mark
            continue
        _expect(value, dict, mark, f"a notation, or {', '.join(_KEYS)}")
        for key, field in value.items():
            here = f"{path}:{lines[name, key]}"
            if key not in _KEYS:
                raise UsageError(f"{here}: unknown key '{key}'", f"expected {', '.join(_KEYS)}")
            kind, expected = _KEYS[key]
            _expect(field, kind, here, expected)
        if "notation" not in value:
            raise UsageError(f"{mark}: '{name}' has no notation", f"give one like `{_FORM}`")
        yield name, value, mark


def _expect(value: Any, kind: type, mark: str, expected: str) -> None:
    if not isinstance(value, kind):
        raise UsageError(f"{mark}: {value!r:.60} stands here", f"expected {expected}")


__all__ = ["register_file"]
