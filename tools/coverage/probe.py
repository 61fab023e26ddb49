"""One model of the coverage run: widen each channel space, run both models, say what came out."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tools.coverage.interface_walk import InterfaceWalk
from tools.coverage.models import (
    Case,
    Feed,
    fill,
    guessed_feeds,
    known_feeds,
    skeleton,
    unseen_feeds,
)
from tools.coverage.onnx_reading import Constants, flat_nodes, shapes_of, without_functions
from tools.coverage.runtime import Teacher, grew, inner_shapes, run, same_interface
from tools.coverage.time_limit import OutOfTime, within
from tools.coverage.weight_nodes import WeightNode, weight_nodes

Row = dict[str, Any]
RATIO = 1.5
NOTHING = "nothing grew"


@dataclass(frozen=True)
class Settings:
    """What one probe needs to know of the command line."""

    sample: int | None = None
    seconds: int = 600
    cache: Path | None = None
    everywhere: bool = True


def widen_node(n2n: Any, model: onnx.ModelProto, node: str) -> onnx.ModelProto:
    """The student for one node."""
    try:
        student: onnx.ModelProto = n2n.widen(model, node=node, ratio=RATIO, seed=0, verify="off")
    except n2n.AmbiguousError as several:  # heads, query and value widths: all of them
        if not all(":" in name for name in several.candidates):
            raise
        steps = [{"space": name, "ratio": RATIO} for name in several.candidates]
        student = n2n.plan(model, steps).apply(verify="off")
    return student


def widen_everywhere(n2n: Any, model: onnx.ModelProto) -> onnx.ModelProto:
    """The student with everything that can grow grown at once."""
    student: onnx.ModelProto = n2n.plan(model, "everywhere", ratio=RATIO).apply(verify="off")
    return student


def spaces_by_node(n2n: Any, model: onnx.ModelProto) -> dict[str, str]:
    """Node name -> the space that holds its output axis, as the engine lists them."""
    return {node: space.name for space in n2n.inspect(model).spaces for node in space.nodes}


def probe(case: Case, settings: Settings) -> Row:
    """Everything about one model, as one JSON-able row; never raises."""
    started = time.perf_counter()
    row: Row = {"model": case.name, "file": case.path.name, "nodes": []}
    try:
        with within(settings.seconds):
            _fill_row(row, case, settings)
    except OutOfTime:
        row["error"] = f"out of time after {settings.seconds} s"
    except Exception as error:
        row["error"] = _words(error)
    for entry in row["nodes"]:
        if "result" not in entry:
            entry.update(result="crashed", reason=row.get("error", "not reached"))
    row["seconds"] = round(time.perf_counter() - started, 2)
    return row


def _fill_row(row: Row, case: Case, settings: Settings) -> None:
    import onnx_net2net as n2n

    bare = skeleton(case)
    feeds = known_feeds(case, bare)
    model = onnx.ModelProto()
    model.CopyFrom(bare)
    fill(case, model)
    teacher = Teacher(model, settings.cache)
    try:
        feeds = feeds or _first_that_runs(model, guessed_feeds(model))
        teacher.learn(feeds)
    except Exception as error:
        row["skipped"] = "the teacher does not run: " + _words(error)
        return
    row["sizes"] = len(feeds) + _learn_unseen(teacher, case, feeds)

    plain = without_functions(model)
    constants = Constants(plain)
    nodes = weight_nodes(plain, constants)
    shapes = _shapes(without_functions(bare), plain, feeds[0], constants)
    walk = InterfaceWalk(plain, shapes)
    for node in nodes:
        shown = walk.is_interface(node.output, node.axis)
        row["nodes"].append({"node": node.name, "op": node.op, "interface": shown})
    if settings.sample is not None and settings.sample < len(nodes):
        picked = sorted(random.Random(case.name).sample(range(len(nodes)), settings.sample))
        row["nodes"] = [row["nodes"][k] for k in picked]
        nodes = [nodes[k] for k in picked]

    try:
        spaces = spaces_by_node(n2n, model)
    except Exception as error:
        spaces, row["error"] = {}, "inspect: " + _words(error)
    for group in _groups(nodes, row["nodes"], spaces):
        result = _try(n2n, teacher, partial(widen_node, n2n, model, group[0]["node"]))
        for entry in group:
            entry.update(result)
    if settings.everywhere:
        row["everywhere"] = _try(n2n, teacher, partial(widen_everywhere, n2n, model))
        if row["everywhere"].get("reason") == NOTHING:
            row["everywhere"]["result"] = "refused"


def _groups(nodes: list[WeightNode], rows: list[Row], spaces: dict[str, str]) -> list[list[Row]]:
    """Rows whose nodes share a space together, each other row alone."""
    groups: dict[str, list[Row]] = {}
    for node, row in zip(nodes, rows, strict=True):
        space = spaces.get(node.name, spaces.get(node.output))
        if space:
            row["space"] = space
        groups.setdefault(space or f"\0{node.name}", []).append(row)
    return list(groups.values())


def _try(n2n: Any, teacher: Teacher, make: Callable[[], onnx.ModelProto]) -> Row:
    """preserved, refused, wrong or crashed, with the figures or the reason."""
    started = time.process_time()
    try:
        student = make()
    except n2n.RefusalError as refusal:
        reason = str(refusal.reason)
        if reason.startswith("no rule"):
            reason += f" {_operator(teacher.model, str(refusal.node))}"
        return {"result": "refused", "reason": reason, "at": str(refusal.node)}
    except Exception as error:
        return {"result": "crashed", "reason": _words(error)}
    spent = round(time.process_time() - started, 3)
    if not grew(teacher.model, student):
        return {"result": "wrong", "reason": NOTHING, "cpu": spent}
    if not same_interface(teacher.model, student):
        return {"result": "wrong", "reason": "inputs or outputs are declared otherwise"}
    try:
        verdict = teacher.judge(student)
    except Exception as error:
        return {"result": "wrong", "reason": "student does not run: " + _words(error)}
    return {
        "result": "preserved" if verdict.right else "wrong",
        **({} if verdict.right else {"reason": "outputs differ"}),
        # JSON has no infinity.
        "deviation": min(verdict.deviation, 1e30),
        "multiple": min(verdict.multiple, 1e30),
        "draws": verdict.draws,
        "cpu": spent,
    }


def _operator(model: onnx.ModelProto, name: str) -> str:
    nodes = list(flat_nodes(model.graph))
    exact = (n.op_type for n in nodes if name == n.name or name in n.output)
    # The place may be a path: a branch of the node that carries it.
    within = (n.op_type for n in nodes if n.name and n.name in name)
    return next(exact, None) or next(within, "?")


def _shapes(
    bare: onnx.ModelProto, model: onnx.ModelProto, feed: Feed, constants: Constants
) -> dict[str, tuple[int, ...]]:
    """Concrete shapes of all tensors; what inference leaves open is asked of the runtime."""
    shapes = shapes_of(bare, feed)
    made = (name for node in model.graph.node for name in node.output)
    missing = [n for n in made if n and n not in shapes and n not in constants]
    if missing:
        try:
            shapes.update(inner_shapes(model, feed, missing))
        except Exception:  # sequences and optional values cannot be outputs; the walk does without
            return shapes
    return shapes


def _learn_unseen(teacher: Teacher, case: Case, feeds: list[Feed]) -> int:
    """Add the first size beyond the known ones at which the teacher itself runs."""
    for feed in unseen_feeds(case, teacher.model, feeds):
        try:
            teacher.learn([feed])
        except Exception:  # this size is beyond the teacher: try the next
            continue
        return 1
    return 0


def _first_that_runs(model: onnx.ModelProto, candidates: Iterator[list[Feed]]) -> list[Feed]:
    error: Exception | None = None
    for feeds in candidates:
        try:
            outputs = run(model, feeds)
        except Exception as failed:
            error = error or failed
            continue
        if all(np.size(y) for y in outputs[0]):
            return feeds
    raise error or RuntimeError("no output at any guessed size")


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]
