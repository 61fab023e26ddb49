"""YAML to plain values, and the line on which each of them stands.

Only plain data are taken: no anchors and aliases, no tags, no key twice.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from onnx_net2net.errors import UsageError

YamlPath = tuple[str | int, ...]
"""Where a value stands in the text, e.g. `("steps", 0, "width")`."""

_MOST_BYTES = 1 << 20
_DEEPEST = 20
_KINDS = ("null", "bool", "int", "float", "str", "seq", "map")


def parse_file(path: str | os.PathLike[str]) -> tuple[Any, dict[YamlPath, int]]:
    """What `parse` says of a file.

    Raises:
        UsageError: not a text, or see `parse`. OSError: the file cannot be read.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not text in UTF-8", "write YAML") from None
    return parse(text, str(path))


def parse(text: str, name: str) -> tuple[Any, dict[YamlPath, int]]:
    """The values of a YAML text, and the line (from 1) of each key and item.

    Args:
        name: in front of the line in messages.

    Raises:
        UsageError: `name:line: what is wrong`.

    >>> parse("seed: 3\\nsteps: []", "r.yaml")
    ({'seed': 3, 'steps': []}, {('seed',): 1, ('steps',): 2})
    """
    import yaml

    if len(text) > _MOST_BYTES:
        raise UsageError(f"{name}: {len(text):,} characters are too many, at most {_MOST_BYTES:,}")
    try:
        _check(text, name)
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UsageError(f"{name}{_where(error)}: not YAML: {_said(error)}") from None
    lines: dict[YamlPath, int] = {}
    return (None if root is None else _value(root, (), lines, name)), lines


def _where(error: Any) -> str:
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}" if mark is not None else ""


def _said(error: Any) -> str:
    context, problem = getattr(error, "context", None), getattr(error, "problem", None)
    if problem is None:  # a character that YAML does not allow
        return str(getattr(error, "reason", "") or "unreadable").splitlines()[0]
    return f"{problem} {context}" if context else str(problem)


def _check(text: str, name: str) -> None:
    """Refuse what composing would multiply or nest without end."""
    import yaml

    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise UsageError(
                f"{name}:{line}: anchors and aliases (&, *) are not taken", "write out or quote"
            )
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise UsageError(f"{name}:{line}: nested {depth} deep, at most {_DEEPEST}")


def _value(node: Any, path: YamlPath, lines: dict[YamlPath, int], name: str) -> Any:
    import yaml

    line, kind = node.start_mark.line + 1, node.tag.rpartition(":")[2]
    if kind not in _KINDS or not node.tag.startswith("tag:yaml.org,2002:"):
        what = f"'{node.value}'" if isinstance(node.value, str) else "this"
        raise UsageError(f"{name}:{line}: {what} is read as a {kind}", "put it in quotes")
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines, name)
    if isinstance(node, yaml.SequenceNode):
        found = []
        for k, item in enumerate(node.value):
            lines[(*path, k)] = item.start_mark.line + 1
            found.append(_value(item, (*path, k), lines, name))
        return found
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (ValueError, KeyError, yaml.YAMLError):
        raise UsageError(f"{name}:{line}: '{node.value[:40]}' cannot be read") from None


def _mapping(node: Any, path: YamlPath, lines: dict[YamlPath, int], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag != "tag:yaml.org,2002:str":
            raise UsageError(f"{name}:{line}: a key must be a word", "quote others")
        if key.value in found:
            first = lines[(*path, key.value)]
            raise UsageError(f"{name}:{line}: '{key.value}' is given twice, first in line {first}")
        lines[(*path, key.value)] = line
        found[key.value] = _value(value, (*path, key.value), lines, name)
    return found
