"""The figures of a coverage run, and how a person sees them."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Column, Table

Row = dict[str, Any]
RESULTS = ("preserved", "refused", "wrong", "crashed")


def figures(rows: list[Row]) -> dict[str, Any]:
    """Sums over models. `misses` are refusals of axes that are not interface, by reason.

    A model that failed as a whole counts as one crash. `contradictions` are nodes that were
    preserved though the walk calls them interface: errors of the walk.
    """
    nodes = [entry for row in rows for entry in row["nodes"]]
    inner = [entry for entry in nodes if not entry["interface"]]
    count = Counter(entry["result"] for entry in nodes)
    everywhere = Counter(row["everywhere"]["result"] for row in rows if "everywhere" in row)
    whole = [row for row in rows if _failed(row)]
    kept = [e for e in nodes if e["result"] == "preserved"]
    tried = sum("skipped" not in row for row in rows)
    every = [row["everywhere"] for row in rows if "everywhere" in row]
    return {
        "models_run": len(rows),
        "skipped": sum("skipped" in row for row in rows),
        "nodes": len(nodes),
        "inner_nodes": len(inner),
        "preserved": count["preserved"],
        "refused": count["refused"],
        "wrong": count["wrong"] + everywhere["wrong"],
        "crashed": count["crashed"] + everywhere["crashed"] + len(whole),
        "preserved_of_inner": _share(inner),
        "preserved_of_all": _share(nodes),
        "misses": _reasons([e for e in inner if e["result"] == "refused"]),
        "interface_refusals": _reasons(
            [e for e in nodes if e["interface"] and e["result"] == "refused"]
        ),
        "contradictions": sum(e["interface"] for e in kept),
        "everywhere": {**everywhere, "share": _share(every, tried)},
        "everywhere_refusals": _reasons([e for e in every if e["result"] == "refused"]),
        "largest_multiple": max((e["multiple"] for e in kept), default=0.0),
        "largest_deviation": max((e["deviation"] for e in kept), default=0.0),
        "median_deviation": median([e["deviation"] for e in kept] or [0.0]),
    }


def show(rows: list[Row], sums: dict[str, Any], console: Console) -> None:
    """The table per model, the reasons and the sums."""
    console.print(_models(rows))
    for title, key in (
        ("refused, not interface", "misses"),
        ("refused, interface", "interface_refusals"),
        ("x1.5 everywhere refused", "everywhere_refusals"),
    ):
        for reason, number in sums[key].items():
            console.print(f"{title}: {number:5d}  {reason}", markup=False)
    for line in _faults(rows)[:40]:
        console.print(line, style="red", markup=False)
    console.print(
        f"{sums['models_run']} models ({sums['skipped']} do not run), "
        f"{sums['nodes']} weight-bearing nodes, {sums['inner_nodes']} of them not interface: "
        f"preserved {sums['preserved']}, refused {sums['refused']}, "
        f"wrong {sums['wrong']}, crashed {sums['crashed']}\n"
        f"preserved {sums['preserved_of_inner']:.1%} of what is not interface, "
        f"{sums['preserved_of_all']:.1%} of all; "
        f"{sums['contradictions']} preserved though the walk says interface\n"
        f"x1.5 everywhere works on {sums['everywhere']['share']:.1%} of the models\n"
        f"largest {sums['largest_multiple']:.2f} x floor, largest deviation "
        f"{sums['largest_deviation']:.1e}, median {sums['median_deviation']:.1e} of the scale",
        markup=False,
    )


def _models(rows: list[Row]) -> Table:
    table = Table(
        Column("model", no_wrap=True), "nodes", "interface", *RESULTS, "x floor", "everywhere", "s"
    )
    for row in rows:
        count = Counter(entry["result"] for entry in row["nodes"])
        multiples = [e["multiple"] for e in row["nodes"] if "multiple" in e]
        table.add_row(
            row["model"],
            str(len(row["nodes"])),
            str(sum(entry["interface"] for entry in row["nodes"])),
            *(str(count[r] or "") for r in RESULTS),
            f"{max(multiples):.2f}" if multiples else "",
            row.get("everywhere", {}).get("result") or _without(row),
            f"{row.get('seconds', 0):.1f}",
        )
    return table


def _faults(rows: list[Row]) -> list[str]:
    lines = [f"{row['model']}: {row[k]}" for k in ("skipped", "error") for row in rows if k in row]
    for row in rows:
        entries = [*row["nodes"], {"node": "everywhere", **row.get("everywhere", {})}]
        for e in entries:
            if e.get("result") in ("wrong", "crashed"):
                size = f" ({e['multiple']:.1f} x floor)" if "multiple" in e else ""
                lines.append(f"{row['model']} {e['node']}: {e['result']}: {e['reason']}{size}")
    return lines


def _without(row: Row) -> str:
    return next((word for word in ("skipped", "error") if word in row), "")


def _failed(row: Row) -> bool:
    """A row with an error that no node of it shows."""
    return "error" in row and not any(e["result"] == "crashed" for e in row["nodes"])


def _share(entries: list[Row], of: int | None = None) -> float:
    total = len(entries) if of is None else of
    return sum(e["result"] == "preserved" for e in entries) / total if total else 0.0


def _reasons(entries: list[Row]) -> dict[str, int]:
    return dict(Counter(e["reason"] for e in entries).most_common())
