"""The files in models/: made by our script, legal, runnable, no two channels alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from tools.samples import make_models

FOLDER = Path(__file__).resolve().parents[2] / "models"
FILES = sorted(p.stem for p in FOLDER.glob("*.onnx") if p.suffixes == [".onnx"])  # no students
NOT_SORTED = {"unsorted_nodes"}
NO_KERNEL = {"cnn_bfloat16"}
# Norms of the exporters' own making and Resize scales; equal by intention.
DUMMIES = {"ones", "zeros", "scales"}


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def draw(info: Any, batch: int, size: int) -> Any:
    """A random input; symbolic dimensions take `batch` first, then `size`."""
    shape = [d if isinstance(d, int) else batch if d == "N" else size for d in info.shape]
    rng = np.random.default_rng(len(shape))
    if info.type == "tensor(bool)":
        return np.array(True)
    if info.type == "tensor(int64)":
        return rng.integers(0, 20, shape)
    kinds = {"tensor(float)": "f4", "tensor(double)": "f8", "tensor(float16)": "f2"}
    return rng.standard_normal(shape).astype(kinds[info.type])


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Every float constant of the file by name."""
    tensors = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            tensors[node.output[0]] = node.attribute[0].t
    arrays = {name: numpy_helper.to_array(t) for name, t in tensors.items()}
    return {n: a.astype("f8") for n, a in arrays.items() if a.dtype.kind not in "iub"}


def test_every_file_has_a_maker() -> None:
    assert set(FILES) == set(make_models.QUIRKS) | {"digits_cnn"}


def test_sizes() -> None:
    sizes = [path.stat().st_size for path in FOLDER.iterdir()]
    assert max(sizes) <= 1_000_000
    assert sum(sizes) < 4_000_000


@pytest.mark.parametrize("name", sorted(make_models.QUIRKS))
def test_same_bytes_again(name: str) -> None:
    assert make_models.make(name) == (FOLDER / f"{name}.onnx").read_bytes()


def test_table_lists_every_file() -> None:
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"| {name}.onnx |" in table for name in FILES)


@pytest.mark.parametrize("name", [n for n in FILES if n not in NOT_SORTED])
def test_checker(name: str) -> None:
    onnx.checker.check_model(onnx.load(FOLDER / f"{name}.onnx"), full_check=True)


@pytest.mark.parametrize("name", sorted(NOT_SORTED))
def test_checker_refuses_unsorted(name: str) -> None:
    with pytest.raises(onnx.checker.ValidationError, match="sorted"):
        onnx.checker.check_model(onnx.load(FOLDER / f"{name}.onnx"))


@pytest.mark.parametrize("name", [n for n in FILES if n not in NO_KERNEL])
def test_runs_and_answers_its_input(name: str) -> None:
    run = session(FOLDER / f"{name}.onnx")
    for batch, size in ((1, 24), (3, 32)):
        feed = {i.name: draw(i, batch, size) for i in run.get_inputs()}
        outputs = run.run(None, feed)
        other = {k: np.array(np.flip(v)) for k, v in feed.items()}
        moved = run.run(None, other)
        for y, z in zip(outputs, moved, strict=True):
            assert np.isfinite(y).all()
            assert 0.005 < np.abs(y).max() < 1000
            assert not np.array_equal(y, z)


@pytest.mark.parametrize("name", FILES)
def test_no_two_channels_alike(name: str) -> None:
    for key, array in weights(onnx.load(FOLDER / f"{name}.onnx")).items():
        if key in DUMMIES:
            continue
        assert np.count_nonzero(array) == array.size or array.ndim == 0, key
        for axis in range(array.ndim):
            rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
            assert len(np.unique(rows, axis=0)) == len(rows), (key, axis)


def test_digits_accuracy_is_what_the_file_says() -> None:
    model = onnx.load(FOLDER / "digits_cnn.onnx")
    recorded = {p.key: p.value for p in model.metadata_props}["accuracy"]
    with np.load(FOLDER / "digits_test.npz") as held_out:
        images, labels = held_out["images"], held_out["labels"]
    (logits,) = session(FOLDER / "digits_cnn.onnx").run(None, {"images": images})
    accuracy = float((logits.argmax(1) == labels).mean())
    assert len(labels) == 450
    assert f"{accuracy:.4f}" == recorded
    assert accuracy >= 0.96
    assert recorded in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_held_out_digits_are_not_trained_on() -> None:
    pytest.importorskip("sklearn")
    from tools.samples import digits

    images, _, held_out, labels = digits.split()
    with np.load(FOLDER / "digits_test.npz") as stored:
        np.testing.assert_array_equal(stored["images"], held_out)
        np.testing.assert_array_equal(stored["labels"], labels)
    seen = {image.tobytes() for image in images}
    assert not any(image.tobytes() in seen for image in held_out)
