"""The models of a folder for the coverage tool: which there are, their weights, sizes to run at."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx

from tools.coverage.onnx_reading import Array

Feed = dict[str, Array]

# The convolutional and fully connected part of a manifest, by source and family.
FAMILIES: dict[str, dict[str, frozenset[str]]] = {
    "cnn": {
        "hand": frozenset(
            "cnn mlp unet autoencoder shuffle concat conv1d conv3d resnet_hand norm shared dtype"
            " multi_io attention_conv".split()
        ),
        "torchvision": frozenset(
            "convnext densenet detection efficientnet efficientnet_v2 googlenet mnasnet"
            " mobilenet_v2 mobilenet_v3 regnet_x regnet_y resnet resnext segmentation shufflenet"
            " squeezenet vgg video wide_resnet".split()
        ),
        "timm": frozenset(
            f"timm_{name}"
            for name in "byobnet convnext cspnet dla dpn efficientnet fasternet fastvit ghostnet"
            " hardcorenas hgnet mambaout metaformer mobilenetv3 nfnet rdnet regnet res2net resnest"
            " resnet resnetv2 rexnet selecsls senet starnet vovnet xception_aligned".split()
        ),
    }
}
# A manifest without families: what these operators or flags occur in is another part.
OTHER_PARTS = frozenset(
    "LSTM GRU RNN Loop If DynamicQuantizeLSTM QuantizeLinear MatMulInteger ConvInteger".split()
)


@dataclass(frozen=True)
class Case:
    """One model file, with its line of the manifest that lies beside or above it."""

    name: str
    path: Path
    entry: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def size(self) -> int:
        """Bytes with weights filled in."""
        return int(self.entry.get("hydrated_bytes") or self.path.stat().st_size)

    def belongs(self, family: str) -> bool:
        """Whether the manifest puts it into this part; a model without a manifest always is."""
        if not self.entry:
            return True
        if "family" in self.entry:
            wanted = FAMILIES[family].get(self.entry["source"], frozenset())
            return self.entry["family"] in wanted
        return not OTHER_PARTS & set(self.entry["ops"]) and "attn" not in self.entry["flags"]


def cases(folders: list[Path]) -> Iterator[Case]:
    """Every .onnx and .onnx.xz below the folders.

    >>> sorted(case.name for case in cases([Path("models")]))[0]
    'bn_anywhere'
    """
    for folder in folders:
        for path in sorted([*folder.rglob("*.onnx"), *folder.rglob("*.onnx.xz")]):
            name = path.name.removesuffix(".xz").removesuffix(".onnx")
            found = _above(path, "manifest.json")
            yield Case(name, path, _manifest(found).get(name, {}) if found else {})


def chosen(
    folders: list[Path], pattern: str, family: str | None, smoke: Path | None, limit: int | None
) -> list[Case]:
    """The cases that match, in the order of the smoke file if there is one, at most `limit`."""
    found = [c for c in cases(folders) if fnmatch.fnmatch(c.name, pattern)]
    if family:
        found = [c for c in found if c.belongs(family)]
    if smoke:
        order = {name: k for k, name in enumerate(smoke.read_text().split())}
        found = sorted((c for c in found if c.name in order), key=lambda c: order[c.name])
    return found[:limit]


def skeleton(case: Case) -> onnx.ModelProto:
    """The model as its file has it; a zoo skeleton has no weights yet."""
    data = case.path.read_bytes()
    return onnx.load_from_string(lzma.decompress(data) if case.path.suffix == ".xz" else data)


def fill(case: Case, model: onnx.ModelProto) -> None:
    """Give a skeleton its weights, in place; does nothing to a whole model."""
    if case.path.suffix == ".xz":
        _hydrate(case).hydrate_model(model, seed=0)


def known_feeds(case: Case, model: onnx.ModelProto) -> list[Feed]:
    """The input sets that come with the model, or random ones at sizes of our own."""
    names = {i.name for i in model.graph.input}
    if isinstance(inputs := case.entry.get("inputs"), list):
        count = max(len(i["shapes"]) for i in inputs)
        make = _hydrate(case).gen_inputs
        inputs = [i for i in inputs if i["name"] in names]
        inputs = [{**i, "shapes": (i["shapes"] * count)[:count]} for i in inputs]
        return [make(inputs, k, k) for k in range(count)]
    stored = _above(case.path, f"inputs/{case.name}.npz")
    if stored:
        # Text inputs are stored as objects.
        with np.load(stored, allow_pickle=True) as file:
            return [{k.replace("__SLASH__", "/"): file[k] for k in file.files}]
    return []


def guessed_feeds(model: onnx.ModelProto) -> Iterator[list[Feed]]:
    """Pairs of random input sets for a model that nothing is known of, to be tried in turn."""
    for size in (16, 32, 64, 224, 1024):
        yield [_random(model, 2, size), _random(model, 3, size + size // 2)]


def unseen_feeds(case: Case, model: onnx.ModelProto, feeds: list[Feed]) -> Iterator[Feed]:
    """Inputs of a size not among `feeds`, to be tried in turn: every open dimension, then some."""
    opened = _open_axes(case, model)
    if not opened or not feeds:
        return
    batch = {(name, k) for name, k, symbol in opened if k == 0 or symbol == "batch"}
    every = {(name, k) for name, k, _ in opened}
    for axes in (every, batch, every - batch):
        if axes:
            yield {name: _grown(array, name, axes, feeds) for name, array in feeds[-1].items()}


def _grown(array: Array, name: str, axes: set[tuple[str, int]], feeds: list[Feed]) -> Array:
    for k in range(array.ndim):
        if (name, k) in axes:
            length = _larger(max(feed[name].shape[k] for feed in feeds))
            array = np.take(array, np.arange(length), axis=k, mode="wrap")
    return array


def _larger(length: int) -> int:
    """A next size; the same for equal sizes, and a multiple of 32 stays one."""
    if length < 8:
        return length + 2
    return length + (32 if length % 32 == 0 else max(2, length // 4))


def _open_axes(case: Case, model: onnx.ModelProto) -> list[tuple[str, int, str]]:
    """(input, axis, symbol) of every dimension that the model leaves open."""
    inputs = case.entry.get("inputs")
    if isinstance(inputs, list):
        return [(i["name"], int(k), s) for i in inputs for k, s in i.get("dyn", {}).items()]
    return [
        (info.name, k, d.dim_param)
        for info in model.graph.input
        for k, d in enumerate(info.type.tensor_type.shape.dim)
        if d.dim_value <= 0
    ]


def _random(model: onnx.ModelProto, batch: int, size: int) -> Feed:
    fixed = {t.name for t in model.graph.initializer}
    feed = {}
    for info in model.graph.input:
        if info.name in fixed:
            continue
        kind = info.type.tensor_type
        dims = enumerate(kind.shape.dim)
        shape = [d.dim_value if d.dim_value > 0 else batch if k == 0 else size for k, d in dims]
        rng = np.random.default_rng(zlib.crc32(info.name.encode()))
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        values: Any = rng.standard_normal(shape)
        if dtype.kind in "iu":
            values = rng.integers(0, 4, shape)
        elif dtype.kind in "bO":
            values = np.full(shape, "a" if dtype.kind == "O" else True)
        feed[info.name] = np.asarray(values, dtype)
    return feed


def _above(path: Path, name: str) -> Path | None:
    """A file of this name in the folder of `path` or the two above it."""
    for folder in path.resolve().parents[:3]:
        if (folder / name).is_file():
            return folder / name
    return None


@cache
def _manifest(path: Path) -> dict[str, dict[str, Any]]:
    data = json.loads(path.read_text(encoding="utf-8"))
    rows = data if isinstance(data, list) else list(data.values())
    return {row["name"]: row for row in rows}


def _hydrate(case: Case) -> ModuleType:
    path = _above(case.path, "hydrate.py")
    if path is None:
        raise FileNotFoundError(f"no hydrate.py in or above {case.path.parent}")
    return _module(path)


@cache
def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("hydrate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
