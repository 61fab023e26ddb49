"""From ONNX to a module: a converter's word counts only if onnxruntime agrees."""

from __future__ import annotations

from typing import Any

import pytest

import onnx_net2net as n2n
from support.torch_models import Cnn, away, exported, run, torch, trained

pytestmark = pytest.mark.torch
IMAGE = torch.randn(2, 1, 7, 7, generator=torch.Generator().manual_seed(1))


def test_takes_the_first_that_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_net2net.checkpoint import conversion

    right, wrong = trained(Cnn()), trained(Cnn(), seed=3)
    model = exported(right, IMAGE)
    inputs = {model.graph.input[0].name: IMAGE.numpy()}

    def fails(_: Any) -> Any:
        raise KeyError("Conv_3")

    made = {"broken": fails, "other": lambda _: wrong, "good": lambda _: right}
    monkeypatch.setattr(conversion, "CONVERTERS", made)
    assert n2n.torch.from_onnx(model, inputs) is right
    del made["good"]
    with pytest.raises(ValueError, match="broken: KeyError: 'Conv_3'\n  other: its outputs are"):
        n2n.torch.from_onnx(model, inputs)


@pytest.mark.convert
@pytest.mark.parametrize("name", ["onnx2pytorch", "onnx2torch"])
def test_converters_that_are_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(name, reason=f"needs {name}, the extra [convert]")
    from onnx_net2net.checkpoint import conversion

    monkeypatch.setattr(conversion, "CONVERTERS", {name: conversion.CONVERTERS[name]})
    model = exported(trained(Cnn()), IMAGE, opset=17)
    student = n2n.widen(model, node="/stem/Conv", width=12)
    module = n2n.torch.from_onnx(student, {model.graph.input[0].name: IMAGE.numpy()})
    assert away(run(student, IMAGE), module(IMAGE)) < 1e-5
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(IMAGE).square().mean().backward()
    before = [p.clone() for p in module.parameters()]
    optimizer.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
