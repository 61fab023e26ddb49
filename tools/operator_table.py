"""Write docs/operators.md: what every row of the operator table lets pass, in words.

    python -m tools.operator_table            writes docs/operators.md
    python -m tools.operator_table --print    prints it

Rows whose notation depends on attributes are asked at the cases of the oracle, so that the
page shows what is tested.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "operators.md"
WORDS = {
    "parallel": "passes", "sum": "summed", "mean": "averaged", "max": "maximum",
    "even": "evened out", "across": "works across", "size": "size only",
}  # fmt: skip
DOMAINS = ("ai.onnx", "com.microsoft", "ai.onnx.ml")
HEAD = """# Operators

What happens to an axis that grows, operator by operator. Written by
`tools/operator_table.py` from the operator table and the cases that the oracle runs
({installed}).

In a notation a name is an index that axes share; `(g i)` is an axis that is a product, `g`
outermost; `(h d + h v)` lies end to end; `...` are axes that pass one by one; `*` are axes that
the operator works across; `~` are read for their size only; `1` is an axis of one position.

- **passes**: copies of an operand's units make copies of the result's.
- **summed**: the weights that read the copies add up to the old weight.
- **averaged**: all units must be copied equally often (a whole multiple of the width).
- **maximum**: any copies.
- **evened out**: a node before the operator, or one behind it, makes copies count as one.
- **moved**: proved on index tables, position by position.
- **works across**: this axis cannot grow; the others can.

New units are copies wherever an axis can grow. *Zero* says where units of zeros also pass,
*free* whether units of any numbers do.
"""


def cases() -> dict[str, list[Any]]:
    """The oracle's cases by operator."""
    sys.path.insert(0, str(ROOT / "tests"))
    for name in ("attention", "fused", "quantized", "recurrent"):
        importlib.import_module(f"support.{name}_cases")
    found: dict[str, list[Any]] = dict(importlib.import_module("support.operator_cases").CASES)
    for op, moved in importlib.import_module("support.movement_cases").MOVEMENTS.items():
        found[op] = [*found.get(op, []), *moved]
    return found


def since(op: str) -> str:
    """The version that introduced an operator and those that replaced it."""
    domain, _, name = op.rpartition(".")
    schemas = onnx.defs.get_all_schemas_with_history()
    versions = sorted({s.since_version for s in schemas if (s.domain, s.name) == (domain, name)})
    return ", ".join(map(str, versions)) or "1"


def _asked(row: Any, known: list[Any]) -> Iterator[str]:
    """Each notation once, with what all cases together show of its names."""
    from onnx_net2net.errors import RefusalError

    roles: dict[str, dict[str, str]] = {}
    refused = []
    for case in known:
        try:
            fs = case.analysis.factors(case.node)
        except RefusalError as why:
            refused.append(f"refused: {why.refusal.detail or why.reason}")
            continue
        text = row.notation if isinstance(row.notation, str) else row.notation(case.site)
        said = roles.setdefault(text, {})
        for f in fs:
            name = {".": "...", "*": "*", "~": "~"}.get(f.name[0], f.name)
            # an index of one position, or one that broadcasts, says less than another case
            role = "even" if row.evening(case.site, f.name) else f.role
            said[name] = min(said.get(name, role), role, key=list(WORDS).index)
    for text, said in roles.items():
        names = {w: sorted(n for n, r in said.items() if r == w) for w in WORDS}
        words = "; ".join(f"{WORDS[w]} {' '.join(n)}" for w, n in names.items() if n)
        yield f"`{text}`: {words}" if words else f"`{text}`"
    yield from refused


def axes(op: str, row: Any, known: list[Any]) -> list[str]:
    """What a row says of its axes: a line for each form that the cases show."""
    if row.random:
        return ["draws at run time: works across all axes"]
    if row.movement is not None:
        moved = ["moved"]
        if row.notation is None:
            return moved
        return [*moved, "at indices of run time the axis that is picked from is worked across"]
    if row.notation is None:
        return ["works across all axes" if not getattr(row, "ties", None) else "see its family"]
    return list(dict.fromkeys(_asked(row, known)))


def kinds(row: Any) -> tuple[str, str]:
    """Where zero rows pass, and whether free rows do."""
    zero = "passing and summed axes"
    if row.zero is None:
        zero = "summed axes"
    elif callable(row.zero):
        zero = "depends on attributes"
    elif 0 < len(row.zero) < 99:
        zero = "where inputs " + ", ".join(map(str, row.zero)) + " have the axis"
    free = "no" if row.ranged else "not at run time" if row.partial else "yes"
    return zero, free


def without_row(table: Any) -> list[str]:
    """Operators of the installed onnx and onnxruntime that have no row."""
    schemas = onnx.defs.get_all_schemas()
    names = {s.name for s in schemas if s.domain == ""}
    names |= {f"{s.domain}.{s.name}" for s in schemas if s.domain == "ai.onnx.ml"}
    schemas = onnxruntime.capi.onnxruntime_pybind11_state.get_all_operator_schema()
    names |= {f"{s.domain}.{s.name}" for s in schemas if s.domain == "com.microsoft"}
    return sorted(names - set(table))


def installed() -> str:
    """The versions that the page is written with."""
    return f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}"


def page() -> str:
    """The whole page."""
    known = cases()
    from onnx_net2net.operators.table import TABLE

    return "\n".join(_lines(TABLE, known)) + "\n"


def _lines(table: Any, known: dict[str, list[Any]]) -> Iterator[str]:
    yield HEAD.replace("{installed}", installed())
    for domain in DOMAINS:
        prefix = "" if domain == "ai.onnx" else f"{domain}."
        names = sorted(o for o in table if o.rpartition(".")[0] == prefix.rstrip("."))
        yield f"## {domain}\n\n| Operator | Versions | Axes | Zero | Free |"
        yield "| --- | --- | --- | --- | --- |"
        for op in names:
            row = table[op]
            said = axes(op, row, known.get(op, []))
            claims = any(w in s for s in said for w in ("passes", "summed", "averaged", "maximum"))
            zero, free = kinds(row) if claims or row.movement else ("", "")
            cell = "<br>".join(said).replace("|", "\\|")
            yield f"| {op.removeprefix(prefix)} | {since(op)} | {cell} | {zero} | {free} |"
        yield ""
    missing = without_row(table)
    yield "## Without a row\n"
    yield ("A Constant is a weight. These have no row of their own: " + ", ".join(missing) + ".")


def main() -> None:
    """Write the page, or print it."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--print", action="store_true", dest="shown")
    if options.parse_args().shown:
        sys.stdout.write(page())
        return
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
