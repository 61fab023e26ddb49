"""The examples in docstrings are run: each prints what it shows."""

from __future__ import annotations

import doctest
from importlib import import_module
from pkgutil import walk_packages

import pytest

import onnx_net2net

TORCH = ("onnx_net2net.torch", "onnx_net2net.checkpoint.conversion")
FOUND = [m.name for m in walk_packages(onnx_net2net.__path__, "onnx_net2net.")]
NAMES = ["onnx_net2net", *(n for n in FOUND if not n.endswith("__main__"))]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.torch] * (n in TORCH)) for n in NAMES]
)
def test_examples(name: str) -> None:
    if name in TORCH:
        pytest.importorskip("torch", reason="needs PyTorch, the extra [torch]")
    assert not doctest.testmod(import_module(name)).failed


def test_there_are_examples() -> None:
    found = doctest.DocTestFinder().find(import_module("onnx_net2net.operators.notation"))
    assert any(test.examples for test in found)
