"""kill -9 at any moment of a write: the output is absent or whole, and nothing stays behind."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from onnx_net2net.files.output_form import ExternalData, LinkedToTeacher, SingleFile
from onnx_net2net.files.patch import Splice, apply
from onnx_net2net.files.reader import read
from support.onnx_samples import BIG, model_of

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
FORMS = ("one", "external", "linked")
PATCH = [Splice(("graph", "initializer", 0), (numpy_helper.from_array(BIG * 2, "w0"),))]


def write(teacher: Path, target: Path, form: str, patched: bool) -> None:
    source = read(teacher)
    forms = {
        "one": SingleFile(target, force=True),
        "external": ExternalData(target, force=True),
        "linked": LinkedToTeacher(target, source, force=True),
    }
    apply(source, PATCH if patched else []).write(forms[form])


def killed(teacher: Path, target: Path, form: str, patched: bool, after: float) -> bool:
    """Write in a process of its own, which is killed; False if it was done before."""
    child = os.fork()
    if not child:
        try:
            write(teacher, target, form, patched)
        finally:
            os._exit(0)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def arrays(path: Path) -> list[bytes]:
    source = read(path)
    return [source.array(tensor).tobytes() for tensor in source.proto.graph.initializer]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("form", FORMS)
def test_killed_at_a_hundred_moments(tmp_path: Path, form: str) -> None:
    teacher, target = tmp_path / "teacher.onnx", tmp_path / "out.onnx"
    weights = [np.full((150, 150), k, np.float32) for k in range(40)]
    named = [numpy_helper.from_array(w, f"w{k}") for k, w in enumerate(weights)]
    teacher.write_bytes(model_of(weights=tuple(named)).SerializeToString())
    digest = hashlib.sha256(teacher.read_bytes()).hexdigest()
    wanted = []
    started = time.perf_counter()
    for patched in (False, True):
        write(teacher, target, form, patched)
        wanted.append(arrays(target))
    usual = (time.perf_counter() - started) / 2
    for path in tmp_path.glob("out*"):
        path.unlink()
    draw, cut_short = random.Random(0), 0
    for k in range(100):
        if k % 10 == 0:  # the first write to an empty place, the others replace
            target.unlink(missing_ok=True)
        was = target.exists()
        cut_short += killed(teacher, target, form, k % 2 == 0, draw.uniform(0, 1.5) * usual)
        assert hashlib.sha256(teacher.read_bytes()).hexdigest() == digest
        assert target.exists() or not was
        if target.exists():
            assert arrays(target) in wanted
    assert cut_short, "the kills came too late to mean anything"
    write(teacher, target, form, True)
    assert arrays(target) == wanted[1]
    left = {p.name for p in tmp_path.iterdir()} - {"teacher.onnx", "out.onnx"}
    assert len(left) == (form == "external"), left
