"""Options, mappings and inputs that a command cannot take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnx_net2net.errors import Reason
from support.command_line import Workplace, call, work
from support.failing import WIDEN, failing, good

__all__ = ["good", "work"]  # fixtures
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
