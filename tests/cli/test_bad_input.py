"""Everything a user can get wrong: one exit code, a short message, nothing written.

Exit code 1 belongs to "not equivalent" alone; the last part of this file makes sure of it.
"""

from __future__ import annotations

import builtins
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

import onnx_net2net
from onnx_net2net import errors
from onnx_net2net.cli.exit_codes import explain
from onnx_net2net.errors import NotEquivalentError, Reason, Refusal, RefusalError
from onnx_net2net.files import writer
from onnx_net2net.verification.verify import Claim, Verdict
from support.command_line import MODELS, Outcome, Workplace, call, work

__all__ = ["work"]  # a fixture

DIGITS = (MODELS / "digits_cnn.onnx").read_bytes()


def failing(work: Workplace, code: int, *arguments: str) -> Outcome:
    """Run a command that must fail with `code`, both as text and as JSON, and change nothing."""
    before = work.files()
    found = call(*arguments)
    assert found.code == code, found
    assert found.out == ""
    lines = found.err.splitlines()
    assert lines[0].startswith("error: ")
    assert 1 <= len(lines) <= 3
    assert "Traceback" not in found.err
    again = call(*arguments, "--json")
    assert (again.code, again.err) == (code, found.err)
    error = again.json["error"]
    assert again.json["schema"] == "onnx-net2net/error/1"
    assert {"kind", "node", "axis", "reason", "hint"} <= set(error)
    assert error["reason"]
    assert work.files() == before
    return found


def initializer(model: ModelProto, name: str) -> TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def node(model: ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def undefined(m: ModelProto) -> None:
    node(m, "/conv2/Conv").input[0] = "nowhere"


def cycle(m: ModelProto) -> None:
    node(m, "/conv1/Conv").input[0] = node(m, "/conv2/Conv").output[0]


def own_cycle(m: ModelProto) -> None:
    node(m, "/conv1/Conv").input[0] = node(m, "/conv1/Conv").output[0]


def made_twice(m: ModelProto) -> None:
    node(m, "/conv2/Conv").output[0] = node(m, "/conv1/Conv").output[0]


def wrong_channels(m: ModelProto) -> None:
    zeros = np.zeros((24, 7, 3, 3), np.float32)
    initializer(m, "conv2.weight").CopyFrom(numpy_helper.from_array(zeros, "conv2.weight"))


def wrong_rank(m: ModelProto) -> None:
    zeros = np.zeros((16, 1, 3), np.float32)
    initializer(m, "conv1.weight").CopyFrom(numpy_helper.from_array(zeros, "conv1.weight"))


def wrong_norm(m: ModelProto) -> None:
    zeros = np.zeros(15, np.float32)
    initializer(m, "bn1.weight").CopyFrom(numpy_helper.from_array(zeros, "bn1.weight"))


def wrong_dims(m: ModelProto) -> None:
    initializer(m, "conv1.weight").dims[0] = 17


def negative_dims(m: ModelProto) -> None:
    initializer(m, "conv1.weight").dims[0] = -16


def unknown_type(m: ModelProto) -> None:
    initializer(m, "bn1.weight").data_type = 99


def no_data(m: ModelProto) -> None:
    initializer(m, "conv1.weight").ClearField("raw_data")


def missing_data(m: ModelProto) -> None:
    no_data(m)
    tensor = initializer(m, "conv1.weight")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="gone.bin")


def data_outside(m: ModelProto) -> None:
    missing_data(m)
    initializer(m, "conv1.weight").external_data[0].value = "../secret.bin"


def no_opset(m: ModelProto) -> None:
    del m.opset_import[:]


def no_inputs(m: ModelProto) -> None:
    del node(m, "/conv1/Conv").input[:]


def no_graph(m: ModelProto) -> None:
    m.ClearField("graph")


def no_input_type(m: ModelProto) -> None:
    m.graph.input[0].ClearField("type")


def strange_strides(m: ModelProto) -> None:
    (strides,) = (a for a in node(m, "/conv1/Conv").attribute if a.name == "strides")
    strides.ints[:] = [0, 0]


INVALID: list[Callable[[ModelProto], None]] = [
    undefined, cycle, own_cycle, made_twice, wrong_channels, wrong_rank, wrong_norm, wrong_dims,
    negative_dims, unknown_type, no_opset, no_inputs, no_graph, no_input_type, strange_strides,
]  # fmt: skip
UNREADABLE: list[Callable[[ModelProto], None]] = [missing_data, data_outside, no_data]
FILES = {
    "text": b"once upon a time\n" * 40,
    "empty": b"",
    "zeros": bytes(1000),
    "zip": b"PK\x03\x04" + bytes(range(256)) * 8,
    "pickle": b"\x80\x02}q\x00." * 50,
    "json": b'{"format": "tensorflowjs"}',
    "web page": b"<!DOCTYPE html><title>404</title>" * 9,
    "git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "a tensor": numpy_helper.from_array(np.zeros(3, np.float32), "t").SerializeToString(),
    "a graph": ModelProto.FromString(DIGITS).graph.SerializeToString(),
}
CUTS = [1, 2, 5, 40, 130, 1000, 40_000, len(DIGITS) - 1000, len(DIGITS) - 21, len(DIGITS) - 1]


def each_command(path: str) -> list[tuple[str, ...]]:
    return [
        ("inspect", path),
        ("widen", path, "--node", "conv1", "--width", "20"),
        ("verify", path, "good.onnx"),
        ("verify", "good.onnx", path),
    ]


@pytest.fixture
def good(work: Workplace) -> str:
    Path("good.onnx").write_bytes(DIGITS)
    return "good.onnx"


WIDEN = ("widen", "good.onnx", "--node", "conv1")


class TestModel:
    @pytest.mark.parametrize("name", FILES)
    def test_no_model(self, work: Workplace, good: str, name: str) -> None:
        Path("bad.onnx").write_bytes(FILES[name])
        for command in each_command("bad.onnx"):
            assert "bad.onnx" in failing(work, 3, *command).err

    @pytest.mark.parametrize("length", CUTS)
    def test_truncated(self, work: Workplace, good: str, length: int) -> None:
        Path("bad.onnx").write_bytes(DIGITS[:length])
        for command in each_command("bad.onnx"):
            assert "bad.onnx" in failing(work, 3, *command).err

    def test_missing(self, work: Workplace, good: str) -> None:
        for path in ("gone.onnx", "no/such/folder/gone.onnx", "n" * 300):
            for command in each_command(path):
                assert path in failing(work, 3, *command).err

    def test_folder(self, work: Workplace, good: str) -> None:
        Path("folder.onnx").mkdir()
        for command in each_command("folder.onnx"):
            assert "is not a file" in failing(work, 3, *command).err

    @pytest.mark.parametrize("damage", INVALID)
    def test_invalid_graph(
        self, work: Workplace, good: str, damage: Callable[[ModelProto], None]
    ) -> None:
        model = ModelProto.FromString(DIGITS)
        damage(model)
        Path("bad.onnx").write_bytes(model.SerializeToString())
        commands = each_command("bad.onnx")
        if damage is no_input_type:  # which is another interface before anything else
            commands = commands[:2]
        for command in commands:
            said = failing(work, 3, *command).err
            if command[0] == "verify" and damage is not no_graph:
                assert ("teacher" if command[1] == "bad.onnx" else "student") in said

    @pytest.mark.parametrize("damage", UNREADABLE)
    def test_data_that_is_not_there(
        self, work: Workplace, good: str, damage: Callable[[ModelProto], None]
    ) -> None:
        model = ModelProto.FromString(DIGITS)
        damage(model)
        Path("bad.onnx").write_bytes(model.SerializeToString())
        commands = each_command("bad.onnx")
        for command in commands[1:] if damage is no_data else commands:
            assert "conv1.weight" in failing(work, 3, *command).err

    def test_external_data_that_is_too_short(self, work: Workplace, good: str) -> None:
        model = ModelProto.FromString(DIGITS)
        onnx.save(model, "big.onnx", save_as_external_data=True, location="big.bin",
                  size_threshold=0)  # fmt: skip
        with open("big.bin", "rb+") as data:
            data.truncate(100)
        assert "big.bin" in failing(work, 3, "widen", "big.onnx", "--node", "conv1",
                                    "--width", "20").err  # fmt: skip

    def test_unsorted_nodes_work(self, work: Workplace, good: str) -> None:
        path = work.bring("unsorted_nodes")
        name = call("inspect", path, "--json").json["spaces"][0]["name"]
        assert call("widen", path, "--space", name, "--ratio", "1.5", "-o", "w.onnx").code == 0
        assert call("verify", path, "w.onnx").code == 0


USAGE: dict[str, tuple[tuple[str, ...], str]] = {
    "no node": (("--width", "20"), "either --node or --space"),
    "no width": (("--node", "conv1"), "either --width or --ratio"),
    "node and space": (
        ("--node", "conv1", "--space", "/conv2/Conv", "--width", "20"), "either --node or --space",
    ),
    "width and ratio": (
        ("--node", "conv1", "--width", "20", "--ratio", "2"), "either --width or --ratio",
    ),
    "two widths, three nodes": (
        ("--node", "conv1", "--node", "conv2", "--node", "conv3", "--width", "40", "--width", "41"),
        "3 layers and 2 widths",
    ),
    "two ratios, one node": (("--node", "conv1", "--ratio", "2", "--ratio", "3"),
                             "1 layer and 2 ratios"),
    "unknown node": (("--node", "cnov1", "--width", "20"), "did you mean conv1"),
    "nothing like it": (("--node", "zzz", "--width", "20"), "`inspect` lists"),
    "empty node": (("--node", "", "--width", "20"), "named ''"),
    "unknown space": (("--space", "conv1x", "--width", "20"), "did you mean /conv1/Conv"),
    "smaller": (("--node", "conv1", "--width", "8"), "has width 16 today"),
    "equal": (("--node", "conv1", "--width", "16"), "has width 16 today"),
    "zero": (("--node", "conv1", "--width", "0"), "has width 16 today"),
    "negative": (("--node", "conv1", "--width", "-1"), "has width 16 today"),
    "no number": (("--node", "conv1", "--width", "many"), "not a valid integer"),
    "ratio one": (("--node", "conv1", "--ratio", "1"), "does not widen"),
    "ratio below": (("--node", "conv1", "--ratio", "0.5"), "does not widen"),
    "ratio negative": (("--node", "conv1", "--ratio", "-2"), "does not widen"),
    "ratio nan": (("--node", "conv1", "--ratio", "nan"), "does not widen"),
    "ratio infinite": (("--node", "conv1", "--ratio", "inf"), "does not widen"),
    "multiple of zero": (("--node", "conv1", "--ratio", "2", "--multiple-of", "0"), "x>=1"),
    "shape of no form": (("--node", "conv1", "--width", "20", "--shape", "1x3"), "of the form"),
    "shape zero": (("--node", "conv1", "--width", "20", "--shape", "images=1x0"), "of the form"),
    "shape huge": (
        ("--node", "conv1", "--width", "20", "--shape", "images=1x1x8x99999999999999999999"),
        "of the form",
    ),
    "shape twice": (
        ("--node", "conv1", "--width", "20", "--shape", "images=1x1x8x8", "--shape",
         "images=2x1x8x8"), "given twice",
    ),
    "shape of no input": (
        ("--node", "conv1", "--width", "20", "--shape", "x=1x1x8x8"), "the inputs are images",
    ),
    "shape of another rank": (
        ("--node", "conv1", "--width", "20", "--shape", "images=8x8"), "is Nx1x8x8, not 8x8",
    ),
    "shape that contradicts": (
        ("--node", "conv1", "--width", "20", "--shape", "images=1x3x8x8"), "not 1x3x8x8",
    ),
    "unknown split": (("--node", "conv1", "--width", "20", "--split", "odd"), "--split"),
    "unknown mapping": (("--node", "conv1", "--width", "20", "--mapping", "rnd"), "'rnd'"),
    "unknown option": (("--node", "conv1", "--widht", "20"), "--widht"),
}  # fmt: skip
MAPPINGS = {
    "text": ("copy the first", "JSON"),
    "empty": ("", "JSON"),
    "an object": ('{"units": [1]}', "list of integers"),
    "no integers": ("[0.5, 1, 2, 3]", "list of integers"),
    "booleans": ("[true, false, true, true]", "list of integers"),
    "too large": ("[0, 1, 2, 16]", "expected 0 to 15"),
    "negative": ("[0, 1, 2, -1]", "expected 0 to 15"),
    "too short": ("[0, 1, 2]", "asks for 4"),
    "too long": ("[0, 1, 2, 3, 4]", "asks for 4"),
    "nested too deep": ("[" * 100_000, "JSON"),
}


class TestUsage:
    @pytest.mark.parametrize("name", USAGE)
    def test_options(self, work: Workplace, good: str, name: str) -> None:
        options, said = USAGE[name]
        assert said in failing(work, 2, "widen", good, *options).err

    @pytest.mark.parametrize("name", MAPPINGS)
    def test_mapping(self, work: Workplace, good: str, name: str) -> None:
        content, said = MAPPINGS[name]
        Path("map.json").write_text(content)
        assert said in failing(work, 2, *WIDEN, "--width", "20", "--mapping", "map.json").err

    def test_mapping_that_is_no_file(self, work: Workplace, good: str) -> None:
        Path("folder").mkdir()
        Path("binary").write_bytes(b"\xff\xfe\x00")
        for path in ("gone.json", "folder", "binary"):
            assert path in failing(work, 2, *WIDEN, "--width", "20", "--mapping", path).err

    def test_illegal_width_names_the_nearest(self, work: Workplace) -> None:
        path = work.bring("channel_shuffle")
        found = failing(work, 2, "widen", path, "--node", "/grouped1/Conv", "--width", "30")
        assert "the nearest are 24 or 36" in found.err

    def test_ambiguous_node(self, work: Workplace) -> None:
        path = work.bring("residual_stage")
        arguments = ("widen", path, "--node", "conv2", "--width", "20")
        assert "'conv2' fits 4 layers" in failing(work, 2, *arguments).err
        assert len(call(*arguments, "--json").json["error"]["candidates"]) == 4

    def test_refused(self, work: Workplace, good: str) -> None:
        arguments = ("widen", good, "--node", "fc", "--width", "20")
        failing(work, 4, *arguments)
        error = call(*arguments, "--json").json["error"]
        assert error["kind"] == "refused"
        assert error["axis"] == ["logits", 1]
        assert error["reason"] in {r.value for r in Reason}
        assert error["hint"]

    def test_commands(self, work: Workplace, good: str) -> None:
        assert call().code == call("--json").code == 2
        for arguments in (("shrink",), ("inspect",), ("verify", good), ("inspect", good, good)):
            failing(work, 2, *arguments)
        failing(work, 2, "inspect", good, "--node", "zzz")
        failing(work, 2, "verify", good, good, "--provider", "tpu")
        failing(work, 2, "verify", good, good, "--seeds", "0")

    def test_inputs(self, work: Workplace, good: str) -> None:
        Path("text.npz").write_text("no archive")
        Path("empty.npz").write_bytes(b"")
        Path("folder.npz").mkdir()
        np.savez("other.npz", pictures=np.zeros((1, 1, 8, 8), np.float32))
        np.savez("shape.npz", images=np.zeros((1, 3, 8, 8), np.float32))
        np.savez("objects.npz", images=np.array([{}, []], dtype=object))
        for name in ("gone", "text", "empty", "folder", "other", "shape", "objects"):
            failing(work, 2, "verify", good, good, "--inputs", f"{name}.npz")


class TestOutput:
    ARGUMENTS = (*WIDEN, "--width", "20")

    def test_exists(self, work: Workplace, good: str) -> None:
        Path("there.onnx").write_text("mine")
        Path("good.widened.onnx").symlink_to("nowhere")
        for output in (("-o", "there.onnx"), ()):
            assert "give --force" in failing(work, 2, *self.ARGUMENTS, *output).err

    def test_teacher(self, work: Workplace, good: str) -> None:
        os.link(good, "hard.onnx")
        Path("soft.onnx").symlink_to(good)
        for name in (good, "hard.onnx", "soft.onnx", f"./{good}"):
            for force in ((), ("--force",)):
                found = failing(work, 2, *self.ARGUMENTS, "-o", name, *force)
                assert "never written to" in found.err
                assert "--force" not in found.err

    def test_external_data_of_the_teacher(self, work: Workplace, good: str) -> None:
        model = ModelProto.FromString(DIGITS)
        onnx.save(model, "big.onnx", save_as_external_data=True, location="big.bin",
                  size_threshold=0)  # fmt: skip
        failing(work, 2, "widen", "big.onnx", "--node", "conv1", "--width", "20",
                "-o", "big.bin", "--force")  # fmt: skip

    def test_no_place(self, work: Workplace, good: str) -> None:
        Path("folder").mkdir()
        for name in ("folder", "no/such/out.onnx", f"{good}/out.onnx", "n" * 300):
            failing(work, 2, *self.ARGUMENTS, "-o", name, "--force")

    def test_device(self, work: Workplace, good: str) -> None:
        if not hasattr(os, "mkfifo"):
            pytest.skip("no named pipes here")
        os.mkfifo("pipe")
        failing(work, 2, *self.ARGUMENTS, "-o", "pipe", "--force")

    def test_not_writable(
        self, work: Workplace, good: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
        assert "not writable" in failing(work, 6, *self.ARGUMENTS).err

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
    def test_folder_that_is_read_only(self, work: Workplace, good: str) -> None:
        Path("locked").mkdir(mode=0o500)
        failing(work, 6, *self.ARGUMENTS, "-o", "locked/out.onnx")

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EIO])
    @pytest.mark.parametrize("where", ["_temporary", "_copy", "_publish", "_sync"])
    def test_writing_fails(
        self, work: Workplace, good: str, monkeypatch: pytest.MonkeyPatch, code: int, where: str
    ) -> None:
        def fail(*arguments: object) -> None:
            raise OSError(code, os.strerror(code), "out.onnx")

        monkeypatch.setattr(writer, where, fail)
        found = failing(work, 6, *self.ARGUMENTS, "--verify", "off")
        assert os.strerror(code) in found.err

    def test_disk_full(self, work: Workplace, good: str, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = shutil.disk_usage(".")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
        assert "10 free" in failing(work, 6, *self.ARGUMENTS, "--verify", "off").err

    @pytest.mark.parametrize("sizes", [("--width", str(10**k)) for k in (9, 12, 30)]
                             + [("--ratio", "1e12"), ("--ratio", "1e300")])  # fmt: skip
    @pytest.mark.parametrize("model", ["digits_cnn", "channel_shuffle", "transformer_block"])
    def test_too_large_for_memory(
        self, work: Workplace, model: str, sizes: tuple[str, str]
    ) -> None:
        path = work.bring(model)
        for space in call("inspect", path, "--json").json["spaces"]:
            before, started = work.files(), time.monotonic()
            found = call("widen", path, "--space", space["name"], *sizes)
            assert found.code in (6, 2), found
            assert "GiB" in found.err or "the nearest are" in found.err
            assert work.files() == before
            assert time.monotonic() - started < 10

    def test_memory_that_runs_out(
        self, work: Workplace, good: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from onnx_net2net.plans import plan

        monkeypatch.setattr(plan, "Analysis", raising(MemoryError()))
        assert "too little memory" in failing(work, 6, *self.ARGUMENTS).err


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*arguments: object, **options: object) -> Any:
        raise error

    return fail


class TestInterrupted:
    @pytest.mark.parametrize("where", ["_copy", "_publish"])
    def test_while_writing(
        self, work: Workplace, good: str, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        monkeypatch.setattr(writer, where, raising(KeyboardInterrupt()))
        found = failing(work, 130, *WIDEN, "--width", "20", "--verify", "off")
        assert "nothing was written" in found.err

    @pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send")
    def test_signal(self, work: Workplace, good: str) -> None:
        before = work.files()
        code = (
            "import os, signal, sys\n"
            "from onnx_net2net.files import writer as save\n"
            "from onnx_net2net.cli.main import main\n"
            "real = save._copy\n"
            "def slow(*args):\n"
            "    real(*args)\n"
            "    os.kill(os.getpid(), signal.SIGINT)\n"
            "save._copy = slow\n"
            "main()\n"
        )
        environment = os.environ | {"PYTHONPATH": str(Path(onnx_net2net.__file__).parent.parent)}
        found = subprocess.run(
            [sys.executable, "-c", code, *WIDEN, "--width", "20", "--verify", "off"],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        assert (found.returncode, found.stdout) == (130, "")
        assert found.stderr == "error: interrupted; nothing was written\n"
        assert work.files() == before


class TestInternal:
    def test_one_line_and_how_to_report(
        self, work: Workplace, good: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from onnx_net2net.plans import plan

        monkeypatch.setattr(plan, "Analysis", raising(KeyError("what\nis this")))
        found = failing(work, 70, *WIDEN, "--width", "20")
        assert found.err.startswith("error: internal error: KeyError: ")
        assert "please report it" in found.err

    def test_debug_gives_the_traceback(
        self, work: Workplace, good: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from onnx_net2net.plans import plan

        monkeypatch.setattr(plan, "Analysis", raising(ZeroDivisionError("1/0")))
        found = call(*WIDEN, "--width", "20", "--debug")
        assert found.code == 70
        assert "Traceback (most recent call last)" in found.err
        assert "ZeroDivisionError: 1/0" in found.err

    def test_a_foreign_value_error_is_no_usage_error(self) -> None:
        for wrong in (lambda: int("x"), lambda: json.loads("x"), lambda: np.zeros(3).reshape(2)):
            with pytest.raises(ValueError) as caught:  # noqa: PT011
                wrong()
            assert explain(caught.value)[1] == 70

    def test_our_value_errors_are_usage_errors(self) -> None:
        with pytest.raises(ValueError, match="steps") as caught:
            onnx_net2net.plan(MODELS / "digits_cnn.onnx", "nowhere")
        assert explain(caught.value)[1] == 2

    def test_broken_installation(self) -> None:
        message = "No module named 'onnxruntime'"
        assert explain(ModuleNotFoundError(message, name="onnxruntime"))[1] == 6
        ours = ModuleNotFoundError("No module named 'x'", name="onnx_net2net.x")
        assert explain(ours)[1] == 70


def exceptions() -> list[BaseException]:
    """One of every exception there is: Python's, click's, ours, numpy's, onnx's, onnxruntime's."""
    import google.protobuf.message as protobuf
    import onnxruntime.capi.onnxruntime_pybind11_state as runtime

    kinds: set[type[BaseException]] = set()
    modules = (builtins, click.exceptions, click, errors, protobuf, runtime, onnx.checker,
               onnx.shape_inference, np.exceptions, json.decoder, subprocess)  # fmt: skip
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseException):
                kinds.add(value)
    made: list[BaseException] = []
    attempts: list[tuple[Any, ...]] = [
        (), ("x",), (1,), ("x", 1), ("x", "y"), ("x", "y", "z"), ("x", [OSError()]), ("x", "y", 0),
        (errno.EPERM, "x", "y"), ("ascii", b"x", 0, 1, "why"), ("ascii", "x", 0, 1, "why"),
        (cli_context(),),
    ]  # fmt: skip
    for kind in sorted(kinds, key=lambda k: (k.__module__, k.__name__)):
        for arguments in attempts:
            try:
                error = kind(*arguments)
            except Exception:
                continue
            made.append(error)
    return made


def cli_context() -> click.Context:
    from onnx_net2net.cli.main import cli

    return click.Context(cli, info_name="onnx-net2net")


class TestExitCodes:
    CODES = (0, 2, 3, 4, 5, 6, 70, 130)

    def test_nothing_but_a_verdict_exits_1(self) -> None:
        found = exceptions()
        assert len({type(e) for e in found}) > 90
        for error in found:
            if isinstance(error, NotEquivalentError):
                continue
            kind, code, message = explain(error)
            assert code in self.CODES, error
            assert kind != "not equivalent"
            assert (code == 0) <= (message == ""), error

    def test_not_equivalent_exits_1(self) -> None:
        assert explain(NotEquivalentError("no", Verdict(Claim.DIFFERENT, False)))[1] == 1
        assert explain(NotEquivalentError("?", Verdict(Claim.CANNOT_TELL, None)))[1] == 5

    def test_every_system_error(self) -> None:
        for code, name in errno.errorcode.items():
            found = explain(OSError(code, os.strerror(code), "file"))
            assert found[1] in (2, 6), name

    @pytest.mark.parametrize("code", [1, 2, 3, "text", 255])
    def test_a_library_that_exits_is_an_internal_error(self, code: Any) -> None:
        assert explain(SystemExit(code))[1] == 70
        if isinstance(code, int):
            assert explain(click.exceptions.Exit(code))[1] == 70

    @pytest.mark.parametrize("reason", Reason)
    def test_refusals(self, reason: Reason) -> None:
        refusal = Refusal(reason, "node", ("t", 1), "detail", "do this")
        assert explain(RefusalError(refusal, "'x'"))[1] == 4

    def test_whatever_a_command_raises(
        self, work: Workplace, good: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from onnx_net2net.plans import inspection

        for error in exceptions():
            if isinstance(error, NotEquivalentError):
                continue
            monkeypatch.setattr(inspection, "inspect", raising(error))
            assert call("inspect", good).code in self.CODES, error
