"""Images and labels for the paper's experiments: Fashion-MNIST, or scikit-learn's digits."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.samples.digits import split
from tools.samples.graph_builder import Array

FOLDER = Path("/usr/share/datasets/fashion-mnist")
INSTALL = "Fashion-MNIST is not installed; run `apt-get install dataset-fashion-mnist`"


@dataclass(frozen=True)
class Data:
    """Images [N,1,H,W] in float32 and labels [N] in int64; a curve uses the first test images."""

    name: str
    images: Array
    labels: Array
    test_images: Array
    test_labels: Array
    curve: int = 5000


def load(name: str, train: int = 10_000, size: int = 14) -> Data:
    """The data set `fashion` or `digits`.

    Args:
        train: so many of the first training images (of Fashion-MNIST's 60,000).
        size: the side of the images; Fashion-MNIST's 28x28 are averaged down to it.

    Raises:
        FileNotFoundError: the Debian package is not installed.
    """
    if name == "digits":
        images, labels, test_images, test_labels = split()
        around = (size - images.shape[-1]) // 2  # as large as Fashion-MNIST: the same networks fit
        images, test_images = (np.pad(p, ((0, 0), (0, 0), *[(around, around)] * 2))
                               for p in (images, test_images))  # fmt: skip
        return Data(name, images, labels, test_images, test_labels)
    if not FOLDER.is_dir():
        raise FileNotFoundError(INSTALL)
    images, test_images = (_pixels(part, size) for part in ("train", "t10k"))
    labels, test_labels = (_idx(f"{part}-labels-idx1-ubyte.gz") for part in ("train", "t10k"))
    mean, deviation = images[:train].mean(), images[:train].std()
    images, test_images = ((part - mean) / deviation for part in (images[:train], test_images))
    return Data(
        name, images, labels[:train].astype(np.int64), test_images, test_labels.astype(np.int64)
    )


def _pixels(part: str, size: int) -> Array:
    images = _idx(f"{part}-images-idx3-ubyte.gz").astype(np.float32) / 255
    if 28 % size:
        raise ValueError(f"28x28 images do not pool to {size}; give a divisor of 28")
    blocks = images.reshape(len(images), 1, size, 28 // size, size, 28 // size)
    return blocks.mean((3, 5), dtype=np.float32)


def _idx(name: str) -> Array:
    """One file of LeCun's idx format: two zero bytes, type, rank, sizes, bytes."""
    raw = gzip.decompress((FOLDER / name).read_bytes())
    sizes = np.frombuffer(raw, ">i4", raw[3], 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(sizes)
