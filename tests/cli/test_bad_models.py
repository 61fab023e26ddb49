"""Files that are no model, or one that is wrong: one exit code, a short message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from support.command_line import Workplace, call, work
from support.failing import DIGITS, failing, good

__all__ = ["good", "work"]  # fixtures


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
