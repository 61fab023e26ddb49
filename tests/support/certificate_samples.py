"""Students of the sample models and of the zoo, and what the certificate says of them."""

from __future__ import annotations

import importlib.util
import lzma
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import ModelProto, TensorProto

import onnx_net2net as n2n
from onnx_net2net.errors import RefusalError
from onnx_net2net.files.patch import apply
from onnx_net2net.files.reader import read
from onnx_net2net.growth.widen.step import widen_step
from onnx_net2net.growth.widen.units import Row
from onnx_net2net.growth.widen.verb import Widen
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.verification.verify import Status, Verdict, verify

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT.parent / "shared" / "zoo"
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def certificate(teacher: Any, student: Any) -> Verdict:
    return verify(teacher, student, layers="certificate")


def status(teacher: Any, student: Any) -> Status:
    found = certificate(teacher, student).layer("certificate")
    assert found is not None
    return found.status


def spaces(teacher: ModelProto) -> list[str]:
    return [s.name for s in n2n.inspect(teacher).spaces]


Sources = dict[tuple[str, int], list[int]]
"""(weight, axis) -> which of the teacher's positions each position copies."""


def planned(teacher: ModelProto, space: str, **step: Any) -> tuple[ModelProto, Sources]:
    plan = n2n.plan(teacher, [{"space": space, "ratio": 1.5} | step])
    student = plan.apply(verify="off")
    assert isinstance(student, ModelProto)
    return student, {(t, a["axis"]): a["source"] for t, axes in plan.mapping.items() for a in axes}


def grown(teacher: ModelProto, space: str, **step: Any) -> ModelProto:
    return planned(teacher, space, **step)[0]


def students(
    teacher: ModelProto, most: int = 99, **step: Any
) -> Iterator[tuple[str, ModelProto, Sources]]:
    for space in spaces(teacher)[:most]:
        try:
            yield space, *planned(teacher, space, **step)
        except RefusalError:
            continue


def students_of(teacher: ModelProto, rows: Row) -> Iterator[tuple[str, ModelProto]]:
    """New units of one kind, whatever the inits make of it."""
    for space in spaces(teacher):
        analysis = Analysis(read(teacher))
        try:
            found = widen_step(analysis, Widen(space=space, ratio=1.5), rows)
        except RefusalError:
            continue
        yield space, apply(analysis.source, found.patch).to_proto()


@lru_cache
def sample(name: str) -> ModelProto:
    return onnx.load(ROOT / "models" / f"{name}.onnx")


@lru_cache
def zoo(name: str) -> ModelProto:
    """A hydrated model of the shared zoo."""
    if not (ZOO / "hydrate.py").exists():
        pytest.skip("no shared models beside the checkout")
    spec = importlib.util.spec_from_file_location("hydrate", ZOO / "hydrate.py")
    assert spec is not None
    assert spec.loader is not None
    hydrate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hydrate)
    packed = (ZOO / "skel" / f"{name}.onnx.xz").read_bytes()
    found = onnx.load_from_string(lzma.decompress(packed))
    hydrate.hydrate_model(found)
    return found


def changed(teacher: ModelProto, student: ModelProto) -> list[TensorProto]:
    """The student's float weights that the teacher has not."""
    mine = {t.name: (list(t.dims), t.raw_data) for t in teacher.graph.initializer}
    return [
        t
        for t in student.graph.initializer
        if t.data_type in FLOATS and mine.get(t.name) != (list(t.dims), t.raw_data)
    ]
