"""Parameter names: wrappers' prefixes, EMA copies, and module paths of ONNX nodes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_WRAPPERS = re.compile(r"^((module|model|_orig_mod|ema|ema_model|model_ema|averaged_model)\.)+")


def base(name: str) -> str:
    """A parameter's name without what wrappers put in front.

    >>> base("module._orig_mod.conv1.weight")
    'conv1.weight'
    """
    return _WRAPPERS.sub("", name)


def copies(names: Iterable[str]) -> list[dict[str, str]]:
    """The networks in one checkpoint (a model and its EMA), each as base name -> name.

    >>> copies(["model.fc.bias", "ema.fc.bias"])
    [{'fc.bias': 'model.fc.bias'}, {'fc.bias': 'ema.fc.bias'}]
    """
    by_base: dict[str, list[str]] = {}
    for name in names:
        by_base.setdefault(base(name), []).append(name)
    prefixes = dict.fromkeys(
        n[: len(n) - len(b)] for b, group in by_base.items() if len(group) > 1 for n in group
    )
    found = []
    for prefix in prefixes or [""]:
        of = {b: n for b, group in by_base.items() for n in group if n == prefix + b}
        found.append({**of, **{b: g[0] for b, g in by_base.items() if len(g) == 1}})
    return found


def module(name: str) -> str:
    """The module of a parameter.

    >>> module("layer1.0.conv1.weight"), module("attn.in_proj_weight"), module("scale")
    ('layer1.0.conv1', 'attn', '')
    """
    return name.rpartition(".")[0]


def module_of_node(node: str) -> str:
    """The module that a node's name tells, "" if none.

    >>> module_of_node("/layer1/layer1.0/conv1/Conv"), module_of_node("node_conv2d_3")
    ('layer1.0.conv1', '')
    """
    parts: list[str] = []
    for word in node.strip("/").split("/")[:-1]:
        if parts and word.startswith(parts[-1] + "."):
            parts[-1] = word
        else:
            parts.append(word)
    return ".".join(parts)


def closeness(parameter: str, tensors: Sequence[str], node: str) -> int:
    """How well a parameter's name fits a constant's: 4 and 3 its own, 2 its module's, 0 neither.

    Args:
        tensors: the constant's names from its reader (which counts most) to the file.
    """
    if base(tensors[0]) == parameter:
        return 4
    if any(base(t) == parameter for t in tensors):
        return 3
    modules = {module_of_node(node), *(module(base(t)) for t in tensors if "::" not in t)} - {""}
    return 2 if module(parameter) in modules else 0
