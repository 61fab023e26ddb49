"""Steps as they were asked for, in words: a recipe's headings and where a student comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx_net2net.plans.execution import Taken
from onnx_net2net.plans.provenance import asked

_SHOWN = 8


def in_words(step: Mapping[str, Any]) -> str:
    """A step on one line.

    >>> in_words({"verb": "widen", "every": "Conv", "ratio": 1.5})
    'widen every Conv, ratio 1.5'
    """
    said = []
    for key, value in step.items():
        if key == "verb":
            continue
        word = key.replace("_", " ")
        if value is True:
            said.append(word)
        elif isinstance(value, list) and len(value) > _SHOWN:
            said.append(f"{word} of {len(value)}")
        elif isinstance(value, Mapping):
            said.append(f"{word} with data {str(value.get('sha256', ''))[:12]}")
        else:
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            said.append(f"{word} {shown}")
    return f"{step.get('verb', 'widen')} {', '.join(said)}"


def heading(taken: Taken, number: int) -> list[str]:
    """What a step selected, above what it does."""
    from .terminal import listed, paragraph

    where = f" ({taken.step.where})" if taken.step.where else ""
    lines = [f"step {number}{where}: {in_words(asked(taken.step))}"]
    if len(taken.matched) > 1 or taken.step.selector in ("every", "stage", "everywhere"):
        lines.append(listed(f"fits {len(taken.matched)}: ", taken.matched))
    lines += [paragraph(f"left out: {name} ({why})") for name, why in taken.left_out.items()]
    if taken.note:
        lines.append(paragraph(taken.note))
    return lines


def taken_json(taken: Taken) -> dict[str, Any]:
    """The same as a JSON-able dict."""
    return {
        "asked": asked(taken.step),
        "where": taken.step.where or None,
        "matched": list(taken.matched),
        "left_out": taken.left_out,
        "reached": taken.note or None,
        "parameters": {"before": taken.parameters[0], "after": taken.parameters[1]},
    }


def origin(provenance: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Where a student comes from, a few lines for people."""
    if provenance is None:
        return ["provenance: unreadable"]
    lines = []
    for record in provenance:
        teacher = record["teacher"]
        lines.append(
            f"grown from {teacher['size']:,} bytes, hash {teacher['sha256'][:12]}, by onnx-net2net "
            f"{record['version']}, seed {record.get('seed')}"
            + ("" if record.get("preserving", True) else ", not preserving")
        )
        steps = [in_words(s) for s in record["steps"]]
        more = [f"... and {len(steps) - 3} more (--json lists all)"] if len(steps) > 3 else []
        lines += [f"- {step}" for step in [*steps[:3], *more]]
    return lines
