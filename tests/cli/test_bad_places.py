"""Places where nothing can be written, and writing that is interrupted."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
from onnx import ModelProto

import onnx_net2net
from onnx_net2net.files import writer
from support.command_line import Workplace, call, work
from support.failing import DIGITS, WIDEN, failing, good, raising

__all__ = ["good", "work"]  # fixtures


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
