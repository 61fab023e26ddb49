"""Functions whose cognitive complexity (complexipy's) is over 15, held to .ci/complexity.txt.

    python -m tools.complexity             what is new or has grown; exit code 1 where anything is
    python -m tools.complexity --write     the list anew, after functions became simpler

The list only shrinks: a commit that lengthens it is to be turned down.
"""

from __future__ import annotations

import sys
from pathlib import Path

from complexipy import file_complexity

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / ".ci" / "complexity.txt"
MOST = 15


def over() -> dict[str, int]:
    """`path function` of each that is over, with its complexity."""
    paths = sorted(p for f in ("onnx_net2net", "tools") for p in (ROOT / f).rglob("*.py"))
    return {
        f"{path.relative_to(ROOT)} {function.name}": function.complexity
        for path in paths
        for function in file_complexity(str(path)).functions
        if function.complexity > MOST
    }


def main() -> int:
    """Compare with the list, or write it."""
    found = over()
    if sys.argv[1:] == ["--write"]:
        LIST.write_text("".join(f"{name} {n}\n" for name, n in found.items()), encoding="utf-8")
        return 0
    rows = (row.rpartition(" ") for row in LIST.read_text(encoding="utf-8").splitlines())
    allowed = {name: int(n) for name, _, n in rows}
    worse = {name: n for name, n in found.items() if n > allowed.get(name, MOST)}
    for name, n in worse.items():
        print(f"{name}: {n}, at most {allowed.get(name, MOST)}; split it by what it does")
    print(f"{len(found)} functions are over {MOST}, {len(allowed)} may be")
    return int(bool(worse))


if __name__ == "__main__":
    raise SystemExit(main())
