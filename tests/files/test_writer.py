"""Writing: whole or not at all, nothing left behind, never in memory."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, numpy_helper

from onnx_net2net.files import patch as patch_module
from onnx_net2net.files import writer
from onnx_net2net.files.output_form import ExternalData, SingleFile
from onnx_net2net.files.patch import Splice, apply
from onnx_net2net.files.protobuf import varint
from onnx_net2net.files.reader import read
from onnx_net2net.files.rope import File, Range, Rope, memory
from support.onnx_samples import BIG, plain

FORMS = {"one": SingleFile, "external": ExternalData}


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.onnx"
    path.write_bytes(plain())
    return path


PATCH = [Splice(("graph", "initializer", 0), (numpy_helper.from_array(BIG * 2, "w"),))]


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_existing_files_and_the_teacher_are_kept(teacher: Path) -> None:
    pieces = apply(read(teacher), PATCH)
    target = teacher.with_name("out.onnx")
    pieces.write(target)
    with pytest.raises(FileExistsError):
        pieces.write(target)
    pieces.write(target, force=True)
    os.symlink(teacher, teacher.with_name("link.onnx"))
    os.link(teacher, teacher.with_name("hard.onnx"))
    for name in ("teacher.onnx", "link.onnx", "hard.onnx"):
        with pytest.raises(FileExistsError, match="never written"):
            pieces.write(teacher.with_name(name), force=True)
    assert teacher.read_bytes() == plain()
    with pytest.raises(FileNotFoundError):
        pieces.write(teacher.parent / "nowhere" / "out.onnx")
    with pytest.raises(IsADirectoryError):
        pieces.write(teacher.parent, force=True)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize(
    ("form", "step", "call"),
    [
        ("one", "_write", 1),
        ("one", "_copy_range", 2),
        ("one", "_sync", 1),
        ("one", "replace", 1),
        ("external", "_write", 1),
        ("external", "_write", 2),
        ("external", "_sync", 1),
        ("external", "_sync", 2),
        ("external", "replace", 1),
        ("external", "replace", 2),
    ],
)
def test_a_failure_leaves_nothing_behind(
    teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    step: str,
    call: int,
    error: BaseException,
) -> None:
    place = os if step == "replace" else writer
    real = getattr(place, step)
    calls = 0

    def fail(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return real(*args)

    monkeypatch.setattr(place, step, fail)
    pieces = apply(read(teacher), PATCH)
    with pytest.raises(type(error)):
        pieces.write(FORMS[form](teacher.with_name("out.onnx")))
    assert calls == call
    assert names(teacher.parent) == ["teacher.onnx"]
    assert teacher.read_bytes() == plain()


KILLED = """
import os, sys
from onnx_net2net.files.output_form import ExternalData, SingleFile
from onnx_net2net.files.reader import read
from onnx_net2net.files.patch import apply
real, left = getattr(os, sys.argv[2]), int(sys.argv[3])
def die(*args, **keys):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
    return real(*args, **keys)
setattr(os, sys.argv[2], die)
form = ExternalData if sys.argv[4] == "external" else SingleFile
apply(read(sys.argv[1]), []).write(form(os.path.join(os.path.dirname(sys.argv[1]), "out.onnx")))
"""


@pytest.mark.parametrize(
    ("call", "count", "form"),
    [
        ("fsync", 0, "one"),
        ("replace", 0, "one"),
        ("replace", 0, "external"),
        ("replace", 1, "external"),
    ],
)
def test_a_killed_writer_is_cleaned_up_after(
    teacher: Path, call: str, count: int, form: str
) -> None:
    command = [sys.executable, "-c", KILLED, str(teacher), call, str(count), form]
    killed = subprocess.run(command, check=False, env=environment())
    assert killed.returncode == -9
    left = set(names(teacher.parent)) - {"teacher.onnx"}
    assert left
    assert "out.onnx" not in left
    (teacher.parent / ".out.onnx.mine").touch()
    apply(read(teacher), PATCH).write(teacher.with_name("out.onnx"))
    assert names(teacher.parent) == [".out.onnx.mine", "out.onnx", "teacher.onnx"]


def environment() -> dict[str, str]:
    root = str(Path(patch_module.__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "PYTHONWARNINGS": "error"}


def test_a_writer_at_work_is_left_alone(teacher: Path) -> None:
    target = teacher.with_name("out.onnx")
    with writer._temporary(target) as (_, path):
        apply(read(teacher), []).write(target)
        assert path.exists()
    assert not path.exists()


def test_no_room_is_said_before_anything_is_written(
    teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(teacher.parent)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="100 free") as caught:
        apply(read(teacher), PATCH).write(teacher.with_name("out.onnx"))
    assert caught.value.errno == errno.ENOSPC
    assert names(teacher.parent) == ["teacher.onnx"]


@pytest.mark.parametrize("missing", [(), ("copy_file_range",), ("copy_file_range", "sendfile")])
def test_every_way_to_copy_gives_the_same_bytes(
    teacher: Path, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    def refuse(*args: Any, **keys: Any) -> int:
        raise OSError(errno.EXDEV, "other device")

    def shortly(name: str) -> Callable[..., int]:
        real, place = getattr(os, name), {"copy_file_range": 2, "sendfile": 3}[name]
        return lambda *args, **keys: real(
            *args[:place], min(args[place], 1000), *args[place + 1 :], **keys
        )

    for name in {"copy_file_range", "sendfile"} & set(dir(os)):
        monkeypatch.setattr(os, name, refuse if name in missing else shortly(name))
    pieces = apply(read(teacher), PATCH)
    target = teacher.with_name("out.onnx")
    pieces.write(target)
    assert target.read_bytes() == pieces.to_bytes()
    assert target.stat().st_mode & 0o444 == teacher.stat().st_mode & 0o444


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="the system has no such call")
@pytest.mark.parametrize("head", [0, 4096, 100])
def test_the_system_copies_what_keeps_its_place_in_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: int
) -> None:
    data, asked = os.urandom(1 << 20), []
    (tmp_path / "data").write_bytes(data)
    file = File.at(tmp_path / "data")
    real = os.copy_file_range
    monkeypatch.setattr(
        os, "copy_file_range", lambda *args, **keys: asked.append(1) or real(*args, **keys)
    )
    rope = Rope([memory(b"x" * head), Range(file, 4096, len(data) - 4096)])
    with (tmp_path / "out").open("xb", buffering=0) as out:
        writer._copy(rope, out)
    assert (tmp_path / "out").read_bytes() == b"x" * head + data[4096:]
    assert bool(asked) == (head % 4096 == 0)


LARGE = """
import resource, sys
import numpy as np, onnx
from onnx_net2net.files.reader import read
from onnx_net2net.files.patch import Splice, apply
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before = peak()
source = read(sys.argv[1])
weight = source.array(source.proto.graph.initializer[1])
wide = onnx.numpy_helper.from_array(np.concatenate([weight, weight]), "w1")
apply(source, [Splice(("graph", "initializer", 1), (wide,))]).write(sys.argv[2])
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts in other units")
def test_a_large_file_is_never_in_memory(tmp_path: Path) -> None:
    path, target = tmp_path / "large.onnx", tmp_path / "out.onnx"
    size, count = 4 << 20, 75
    head = TensorProto(dims=[1 << 20], data_type=TensorProto.FLOAT, name="w")
    one = head.SerializeToString() + varint(9 << 3 | 2) + varint(size)
    tensor = varint(5 << 3 | 2) + varint(len(one) + size) + one
    with path.open("wb") as stream:
        stream.write(b"\x08\x09" + b"\x3a" + varint(count * (len(tensor) + size)))
        for _ in range(count):
            stream.write(tensor)
            stream.seek(size, os.SEEK_CUR)
        stream.truncate()
    command = [sys.executable, "-c", LARGE, str(path), str(target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    assert target.stat().st_size > path.stat().st_size + size
    assert int(done.stdout) < 60, "MiB of memory for a tensor of 8 MiB"
