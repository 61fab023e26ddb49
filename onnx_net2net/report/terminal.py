"""Lines that fit the terminal they are read on."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
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


def headline(text: str) -> str:
    """A step's first line, wrapped; names are not broken."""
    return textwrap.fill(
        text, columns(), subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def count(n: int, what: str, plural: str = "") -> str:
    """A number and what is counted.

    >>> count(1, "layer"), count(3, "layer")
    ('1 layer', '3 layers')
    """
    return f"{n} {what if n == 1 else plural or what + 's'}"


def table(rows: Sequence[Sequence[str]], numbers: AbstractSet[int] = frozenset()) -> str:
    """Rows as aligned columns that fit the terminal.

    Names that are too long for the first column get a line of their own, for they must be
    there to be copied; the last column is wrapped unless it is a number.

    >>> print(table([["conv1", "64"], ["fc", "10"]], {1}))
      conv1  64
      fc     10
    """
    if not rows:
        return ""
    last = len(rows[0]) - 1
    wrapped = last > 0 and last not in numbers
    widths = _widths(rows, last, wrapped)
    return "\n".join(x for row in rows for x in _row(row, widths, numbers, wrapped))


def _widths(rows: Sequence[Sequence[str]], last: int, wrapped: bool) -> list[int]:
    room, widths = columns() - 2, [max(map(len, column)) for column in zip(*rows, strict=True)]
    rest = sum(widths[1:last] if wrapped else widths[1:]) + 2 * last
    widths[0] = min(widths[0], max(room - rest - (min(widths[last], 40) if wrapped else 0), 20))
    if wrapped:
        widths[last] = max(room - rest - widths[0], 20)
    return widths


def _row(
    row: Sequence[str], widths: Sequence[int], numbers: AbstractSet[int], wrapped: bool
) -> list[str]:
    cells, above = list(row), []
    if len(cells[0]) > widths[0]:
        above, cells[0] = ["  " + cells[0]], ""
    tail = textwrap.wrap(cells[-1], widths[-1]) if wrapped else []
    cells[-1] = tail[0] if tail else cells[-1]
    done = [
        c.rjust(w) if k in numbers else c.ljust(w)
        for k, (c, w) in enumerate(zip(cells, widths, strict=True))
    ]
    margin = " " * (sum(widths[:-1]) + 2 * len(cells))
    return [*above, ("  " + "  ".join(done)).rstrip(), *(margin + line for line in tail[1:])]
