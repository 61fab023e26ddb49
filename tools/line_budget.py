"""Lines of each wing beside its budget, as .ci/line_budget.txt has it.

    python -m tools.line_budget            the table; exit code 1 where a wing is over its budget

A wing is a folder of the package, or `top` for the files beside them. Whoever raises a number
says in that commit why; whoever needs fewer lines lowers it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUDGET = ROOT / ".ci" / "line_budget.txt"
PACKAGE = ROOT / "onnx_net2net"
TABLES = ("operators/families", "verification/certificate/transfer")
"""What grows with the operators that are known, and is counted apart."""


def wing(path: Path) -> str:
    """The wing of a file of the package; a part of `TABLES` is its own."""
    inside = path.relative_to(PACKAGE).parent.as_posix()
    table = next((t for t in TABLES if inside.startswith(t)), None)
    return table or ("top" if inside == "." else inside.partition("/")[0])


def lines() -> Counter[str]:
    """Lines by wing, blank ones and comments included."""
    found: Counter[str] = Counter()
    for path in PACKAGE.rglob("*.py"):
        found[wing(path)] += len(path.read_text(encoding="utf-8").splitlines())
    return found


def budget() -> dict[str, int]:
    """The lines that each wing may have."""
    rows = BUDGET.read_text(encoding="utf-8").splitlines()
    pairs = (row.split() for row in rows if row and not row.startswith("#"))
    return {name: int(most) for name, most in pairs}


def main() -> int:
    """Print the table."""
    found, most = lines(), budget()
    for name in sorted(found | most):
        over = "  over" if found[name] > most.get(name, 0) else ""
        print(f"{name:34} {found[name]:6,} of {most.get(name, 0):6,}{over}")
    rest = sum(n for name, n in found.items() if name not in TABLES)
    print(f"{'all':34} {found.total():6,}, without the operators' tables {rest:,}")
    return int(any(n > most.get(name, 0) for name, n in found.items()))


if __name__ == "__main__":
    raise SystemExit(main())
