"""Write the sample models into models/, with a table of what each one holds.

    python -m tools.samples            all but the trained model, the same bytes everywhere
    python -m tools.samples --train    digits_cnn.onnx too (seconds; needs scikit-learn)

Training goes through the machine's BLAS, so its last bits may differ from machine to machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx

from tools.samples import (
    quirks_files,
    quirks_flow,
    quirks_layers,
    quirks_norms,
    quirks_structure,
    quirks_wiring,
)
from tools.samples.graph_builder import QUIRKS

SOURCES = (
    quirks_layers, quirks_norms, quirks_structure, quirks_wiring, quirks_files, quirks_flow,
)  # fmt: skip
MODELS = Path(__file__).resolve().parents[2] / "models"
DIGITS = "Really trained on scikit-learn's digits: Conv-BN-Relu chains and a residual block"


def quirk_of(name: str) -> str:
    """What a model holds: the first line of the docstring of the function that makes it."""
    return (QUIRKS[name].__doc__ or "").strip().splitlines()[0]


def make(name: str) -> bytes:
    """A model's file, byte for byte the same on every machine.

    >>> len(make("mlp_gemm")) < 1_000_000
    True
    """
    model = QUIRKS[name]()
    model.doc_string = quirk_of(name)
    return model.SerializeToString(deterministic=True)


def make_digits(folder: Path) -> None:
    """Train and write digits_cnn.onnx and the held-out digits_test.npz."""
    from tools.samples import digits

    net, accuracy = digits.train()
    model = digits.build(net.p, accuracy)
    model.doc_string = DIGITS
    (folder / "digits_cnn.onnx").write_bytes(model.SerializeToString(deterministic=True))
    _, _, images, labels = digits.split()
    np.savez_compressed(folder / "digits_test.npz", images=images, labels=labels)


def digits_accuracy(folder: Path) -> str:
    """The held-out accuracy that the model's file records."""
    model = onnx.load(folder / "digits_cnn.onnx")
    return {p.key: p.value for p in model.metadata_props}["accuracy"]


def write_table(folder: Path) -> None:
    """models/README.md, one row a file."""
    accuracy = digits_accuracy(folder)
    rows = [f"| digits_cnn.onnx | {DIGITS}; {accuracy} right of the held-out part |"]
    rows.append("| digits_test.npz | the 450 held-out images [450,1,8,8] in 0..1 and labels |")
    rows += [f"| {name}.onnx | {quirk_of(name)} |" for name in sorted(QUIRKS)]
    text = "\n".join(rows)
    (folder / "README.md").write_text(
        "# Sample models\n"
        "Made by `python -m tools.samples` and nothing else.\n"
        "Weights are random, no two channels alike; one model is trained.\n"
        "Batch (and mostly size) is open unless said.\n\n"
        f"| file | what it holds |\n|---|---|\n{text}\n",
        encoding="utf-8",
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--train", action="store_true", help="train digits_cnn.onnx again")
    parser.add_argument("--out", type=Path, default=MODELS, help="folder (default: models/)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in QUIRKS:
        (arguments.out / f"{name}.onnx").write_bytes(make(name))
    if arguments.train or not (arguments.out / "digits_cnn.onnx").exists():
        make_digits(arguments.out)
    write_table(arguments.out)
