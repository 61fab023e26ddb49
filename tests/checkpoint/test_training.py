"""The whole way: torch, ONNX, grown, wider module == student, an epoch, ONNX, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_net2net as n2n
from support.command_line import Workplace, call, work
from support.torch_models import Cnn, Transformer, away, exported, run, torch, trained

__all__ = ["work"]  # a fixture

pytestmark = pytest.mark.torch
CLOSE = 2e-6


def digits() -> tuple[Any, Any]:
    datasets = pytest.importorskip("sklearn.datasets")
    data = datasets.load_digits()
    images = torch.from_numpy(data.images[:512].astype(np.float32) / 8 - 1)
    return images, torch.from_numpy(data.target[:512])


def epoch(module: Any, x: Any, y: Any, rate: float) -> float:
    """One pass of SGD; the mean loss of its first and last batches, last minus first."""
    optimizer = torch.optim.SGD(module.parameters(), lr=rate, momentum=0.9)
    module.train()
    losses = []
    for k in range(0, len(x), 32):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(x[k : k + 32]), y[k : k + 32])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    module.eval()
    return float(np.mean(losses[-4:]) - np.mean(losses[:4]))


def as_tokens(images: Any) -> Any:
    return images[:, :, :6].contiguous()


CASES = {
    "cnn": (Cnn, lambda i: i[:, None], "/stem/Conv"),
    "transformer": (Transformer, as_tokens, "mlp.0"),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["folded", "unfused"])
@pytest.mark.parametrize("case", CASES)
def test_from_torch_and_back(work: Workplace, case: str, how: str) -> None:
    kind, shaped, layer = CASES[case]
    images, labels = digits()
    x = shaped(images)
    if case == "transformer":
        labels = labels % 5
    torch.manual_seed(0)
    net = trained(kind())
    epoch(net, x, labels, 0.02)
    sample = x[:4]
    onnx.save(exported(net, sample, how), "teacher.onnx")

    found = call(
        "widen", "teacher.onnx", "--node", layer, "--ratio", "1.5", "-o", "student.onnx",
        "--save-mapping", "map.json",
    )  # fmt: skip
    assert found.code == 0, found.err
    grown = n2n.torch.grow_state_dict(net.state_dict(), "map.json", teacher="teacher.onnx")
    wider = grown.widened(net)
    student = onnx.load("student.onnx")
    assert away(run(student, sample), wider(sample)) < CLOSE

    onnx.save(exported(wider, sample, how), "wider.onnx")
    before = n2n.verify("teacher.onnx", "wider.onnx")
    assert before.equivalent is True, str(before)

    assert epoch(wider, x, labels, 0.02) < 0
    after = exported(wider, sample, how)
    onnx.save(after, "trained.onnx")
    assert away(run(after, sample), wider(sample)) < CLOSE
    assert n2n.verify("teacher.onnx", "trained.onnx").equivalent is False
    weight = wider.state_dict()["stem.weight" if case == "cnn" else "mlp.0.weight"]
    units = weight.reshape(len(weight), -1)
    same = (units[:, None] - units[None]).abs().amax(-1) == 0
    assert int(same.sum()) == len(units)  # no copy is its source any more


def test_the_mapping_is_not_written_where_something_is(work: Workplace, tmp_path: Path) -> None:
    name = work.bring("digits_cnn")
    Path("map.json").write_text("mine")
    line = ("widen", name, "--node", "conv1", "--ratio", "1.5", "--save-mapping", "map.json")
    assert call(*line).code == 2
    assert Path("map.json").read_text() == "mine"
    assert not Path("digits_cnn.widened.onnx").exists()
    assert call(*line, "--force").code == 0
    assert Path("map.json").read_text() != "mine"
