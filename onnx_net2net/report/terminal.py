"""Lines that fit the terminal they are read on."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable
from typing import TextIO


def columns() -> int:
    """How wide the terminal is; 80 where there is none."""
    return max(shutil.get_terminal_size((80, 24)).columns, 60)


def fitted(text: str, stream: TextIO | None) -> str:
    """Errors and warnings, wrapped if `stream` is a terminal; whole lines for logs and grep.

    >>> fitted("error: " + "a " * 60, None).count(chr(10))
    0
    """
    if stream is None or not stream.isatty():
        return text
    return "\n".join(
        textwrap.fill(
            line, columns(), subsequent_indent="  ", drop_whitespace=True,
            break_long_words=False, break_on_hyphens=False,
        )
        for line in text.splitlines()
    )  # fmt: skip


def listed(start: str, names: Iterable[str], most: int = 8) -> str:
    """`start` and names, wrapped; what is beyond `most` is only counted.

    >>> print(listed("read by: ", ["conv2", "conv3"]))
      read by: conv2, conv3
    """
    names = list(names)
    text = start + ", ".join(n.replace(" ", "\0") for n in names[:most])
    if len(names) > most:
        text += f" and {len(names) - most} more"
    return paragraph(text).replace("\0", " ")


def paragraph(text: str) -> str:
    """Text wrapped and indented; names are not broken."""
    return textwrap.fill(
        text, columns(), initial_indent="  ", subsequent_indent="    ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
