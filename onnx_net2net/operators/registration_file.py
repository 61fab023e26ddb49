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
from pathlib import Path
from typing import Any

from onnx_net2net.operators.notation import REGISTERED
from onnx_net2net.operators.registration import forget, register_operator

_KEYS = ("notation", "roles", "sizes", "zero")
_FORM = "my.domain.Op: n c *, c -> n c *"


def register_file(path: str) -> list[str]:
    """Register the operators of a file; their names, for `forget`.

    Raises:
        ValueError: with file and line, what stands there and what was expected.
        OSError: the file cannot be read.
    """
    done: list[str] = []
    try:
        for name, fields, mark in _entries(path):
            domain, _, op = name.rpartition(".")
            if name in done:
                raise ValueError(f"{mark}: '{name}' stands here a second time; give it once")
            try:
                fresh = name not in REGISTERED
                register_operator(domain, op, **fields)
            except ValueError as why:
                raise ValueError(f"{mark}: {why}") from None
            done += [name] if fresh else []
    except ValueError:
        forget(*done)
        raise
    return done


def _entries(path: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(operator, arguments of `register_operator`, file and line)."""
    import yaml

    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text in UTF-8; expected YAML like `{_FORM}`") from None
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply; expected YAML like `{_FORM}`") from None
    except yaml.YAMLError as why:
        mark = getattr(why, "problem_mark", None)
        where = path if mark is None else f"{path}:{mark.line + 1}"
        said = getattr(why, "problem", None) or "not readable"
        hint = "quote a notation that begins with '*', '...' or '~'"
        raise ValueError(f"{where}: no YAML: {said}; {hint}") from None
    if not isinstance(root, yaml.MappingNode):
        raise ValueError(f"{_mark(path, root)}: expected operators, each like `{_FORM}`")
    for key, value in root.value:
        mark = _mark(path, key)
        name = _text(path, key, "an operator's name")
        if isinstance(value, yaml.ScalarNode):
            yield name, {"notation": value.value}, mark
            continue
        fields = _mapping(path, value, f"a notation, or {', '.join(_KEYS)}")
        unknown = next((k for k in fields if k not in _KEYS), None)
        if unknown is not None:
            raise ValueError(
                f"{fields[unknown][1]}: unknown key '{unknown}'; expected {', '.join(_KEYS)}"
            )
        if "notation" not in fields:
            raise ValueError(f"{mark}: '{name}' has no notation; give one like `{_FORM}`")
        yield name, {k: _value(path, k, node) for k, (node, _) in fields.items()}, mark


def _value(path: str, key: str, node: Any) -> Any:
    if key in ("roles", "sizes"):
        inner = _mapping(path, node, "a mapping such as {c: mean}")
        return {k: _text(path, v, "a word") for k, (v, _) in inner.items()}
    text = _text(path, node, "one value")
    if key != "zero":
        return text
    if text not in ("true", "false"):
        raise ValueError(f"{_mark(path, node)}: zero is '{text}'; expected true or false")
    return text == "true"


def _mapping(path: str, node: Any, expected: str) -> dict[str, tuple[Any, str]]:
    """Key -> (node, file and line)."""
    if node.id != "mapping":
        raise ValueError(f"{_mark(path, node)}: a {node.id} stands here; expected {expected}")
    found: dict[str, tuple[Any, str]] = {}
    for key, value in node.value:
        name = _text(path, key, "a word")
        if name in found:
            raise ValueError(f"{_mark(path, key)}: '{name}' stands here twice; give it once")
        found[name] = (value, _mark(path, value))
    return found


def _text(path: str, node: Any, expected: str) -> str:
    if node.id != "scalar":
        raise ValueError(f"{_mark(path, node)}: a {node.id} stands here; expected {expected}")
    return str(node.value)


def _mark(path: str, node: Any) -> str:
    return path if node is None else f"{path}:{node.start_mark.line + 1}"


__all__ = ["register_file"]
