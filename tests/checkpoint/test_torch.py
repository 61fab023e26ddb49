"""A grown checkpoint in the wider module is the student, whatever the exporter and the layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_net2net as n2n
from support.torch_models import (
    EXPORTS,
    IMAGE,
    TOKENS,
    Cnn,
    Recurrent,
    Transformer,
    away,
    everywhere,
    exported,
    run,
    torch,
    trained,
)

pytestmark = pytest.mark.torch
CLOSE = 2e-6


@pytest.mark.parametrize("how", EXPORTS)
def test_convolutions_with_folded_and_kept_norms(how: str) -> None:
    net = trained(Cnn())
    teacher = exported(net, IMAGE, how)
    plan = n2n.plan(teacher, everywhere(teacher))
    grown = n2n.torch.grow_state_dict(net.state_dict(), plan, teacher=teacher)
    wider = Cnn(12, 9).eval()
    wider.load_state_dict(grown.state_dict)
    student = plan.apply(verify="off")
    assert away(run(student, IMAGE), wider(IMAGE)) < CLOSE
    assert away(net(IMAGE), wider(IMAGE)) < CLOSE
    assert "layer1.0.conv1: in_channels 8 -> 12" in grown.edits
    assert "layer1.1.bn1: num_features 6 -> 9" in grown.edits
    assert "depthwise: groups 8 -> 12" in grown.edits
    assert away(wider(IMAGE), grown.widened(net)(IMAGE)) == 0


@pytest.mark.parametrize("how", EXPORTS)
def test_norms_as_they_are_created(how: str) -> None:
    """All statistics are alike, so exporters share them and values do not tell them apart."""
    torch.manual_seed(0)
    net = Cnn().eval()
    teacher = exported(net, IMAGE, how)
    for step in everywhere(teacher):
        plan = n2n.plan(teacher, [step])
        grown = n2n.torch.grow_state_dict(net.state_dict(), plan, teacher=teacher)
        assert away(net(IMAGE), grown.widened(net)(IMAGE)) < CLOSE


@pytest.mark.parametrize("split", ["zero-sum", "even", "one-hot"])
@pytest.mark.parametrize("how", EXPORTS)
def test_transformer(how: str, split: str) -> None:
    net = trained(Transformer())
    teacher = exported(net, TOKENS, how)
    steps = [{**s, "split": split} for s in everywhere(teacher)]
    assert len(steps) == 4
    plan = n2n.plan(teacher, steps)
    grown = n2n.torch.grow_state_dict(net.state_dict(), plan, teacher=teacher)
    wider = Transformer(24, 6, 30, heads=5).eval()
    wider.load_state_dict(grown.state_dict)
    (wider.attn.shares,) = (f.squeeze() for f in grown.factors.values())
    assert any("multiply by" in line for line in grown.code)
    assert away(run(plan.apply(verify="off"), TOKENS), wider(TOKENS)) < CLOSE
    assert away(net(TOKENS), wider(TOKENS)) < CLOSE
    longer = torch.randn(2, 16, 6)  # all of the position table, of which the file has a part
    assert away(net(longer), wider(longer)) < CLOSE
    assert "norm: normalized_shape 12 -> 24" in grown.edits
    assert "position: shape (1, 16, 12) -> (1, 16, 24)" in grown.edits
    assert any("Reshape" in line for line in grown.code)


@pytest.mark.parametrize("how", ["folded", "dynamo"])
def test_recurrent_layers(how: str) -> None:
    net = trained(Recurrent(plain=how == "folded"))
    teacher = exported(net, TOKENS, how)
    plan = n2n.plan(teacher, everywhere(teacher))
    grown = n2n.torch.grow_state_dict(net.state_dict(), plan, teacher=teacher)
    wider = grown.widened(net)
    assert {"lstm: hidden_size 8 -> 12", "gru: input_size 16 -> 24"} <= set(grown.edits)
    assert away(run(plan.apply(verify="off"), TOKENS), wider(TOKENS)) < CLOSE
    assert away(net(TOKENS), wider(TOKENS)) < CLOSE


@pytest.mark.parametrize("how", EXPORTS)
def test_deeper_and_wider(how: str) -> None:
    net = trained(Cnn())
    teacher = exported(net, IMAGE, how)
    stem = next(n for n in teacher.graph.node if n.op_type == "Conv").name
    relu = next(n for n in teacher.graph.node if n.op_type == "Relu").output[0]
    steps = [
        {"verb": "deepen", "after": relu, "kind": "identity", "kernel": 3},
        {"node": stem, "width": 11},
    ]
    plan = n2n.plan(teacher, steps)
    grown = n2n.torch.grow_state_dict(net.state_dict(), plan, teacher=teacher)
    (line,) = grown.new_modules
    assert "nn.Conv2d(11, 8, 3, padding=1)" in line
    name = line.split(" = ")[0]
    assert grown.new_parameters == [f"{name}.weight", f"{name}.bias"]
    state = {k.replace(name, "stem_deeper"): v for k, v in grown.state_dict.items()}
    wider = Cnn(8, 6, stem=11).eval()
    wider.load_state_dict(state)
    assert away(run(plan.apply(verify="off"), IMAGE), wider(IMAGE)) < CLOSE
    with pytest.raises(ValueError, match="insert these"):
        grown.widened(net)


def test_larger_kernels() -> None:
    net = trained(Cnn())
    teacher = exported(net, IMAGE)
    plan = n2n.plan(teacher, [{"verb": "grow-kernel", "node": "/stem/Conv", "size": 5}])
    grown = n2n.torch.grow_state_dict(net.state_dict(), plan, teacher=teacher)
    assert "stem: kernel_size (3, 3) -> (5, 5)" in grown.edits
    wider = grown.widened(net)
    wider.stem.padding = (2, 2)
    assert any("pads" in line for line in grown.code)
    assert away(net(IMAGE), wider(IMAGE)) < CLOSE


def test_the_students_own_bytes_where_nothing_was_folded() -> None:
    net = trained(Cnn())
    teacher = exported(net, IMAGE, "unfused")
    plan = n2n.plan(teacher, everywhere(teacher))
    grown = n2n.torch.grow_state_dict(net.state_dict(), plan, teacher=teacher)
    for t in plan.apply(verify="off").graph.initializer:
        if t.name in grown.state_dict:
            got = grown.state_dict[t.name].numpy()
            np.testing.assert_array_equal(got, onnx.numpy_helper.to_array(t))


def wrapped(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + k: v for k, v in state.items()}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module.model."])
def test_wrappers(prefix: str) -> None:
    net = trained(Cnn())
    teacher = exported(net, IMAGE)
    plan = n2n.plan(teacher, everywhere(teacher))
    plain = n2n.torch.grow_state_dict(net.state_dict(), plan, teacher=teacher).state_dict
    grown = n2n.torch.grow_state_dict(wrapped(net.state_dict(), prefix), plan, teacher=teacher)
    assert grown.state_dict.keys() == wrapped(plain, prefix).keys()
    assert all(torch.equal(plain[k], grown.state_dict[prefix + k]) for k in plain)


def test_ema_copies_grow_along() -> None:
    net, average = trained(Cnn()), trained(Cnn(), seed=5)
    teacher = exported(average, IMAGE)  # what people deploy is the average
    plan = n2n.plan(teacher, everywhere(teacher))
    both = {**wrapped(net.state_dict(), "model."), **wrapped(average.state_dict(), "ema.")}
    grown = n2n.torch.grow_state_dict(both, plan, teacher=teacher)
    separate = n2n.torch.grow_state_dict(average.state_dict(), plan, teacher=teacher)
    for source, prefix, state in (
        (net, "model.", separate.also(net.state_dict())),
        (average, "ema.", separate.state_dict),
    ):
        wider = Cnn(12, 9).eval()
        wider.load_state_dict(state)
        assert away(source(IMAGE), wider(IMAGE)) < CLOSE
        assert all(torch.equal(v, grown.state_dict[prefix + k]) for k, v in state.items())


def test_from_files(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    net = trained(Cnn())
    onnx.save(exported(net, IMAGE), tmp_path / "teacher.onnx")
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    plan = n2n.plan(tmp_path / "teacher.onnx", [{"node": "/stem/Conv", "width": 10}])
    plan.save_mapping(tmp_path / "map.json")
    grown = n2n.torch.grow_state_dict(
        tmp_path / "weights.safetensors", tmp_path / "map.json", teacher=tmp_path / "teacher.onnx"
    )
    assert away(net(IMAGE), grown.widened(net)(IMAGE)) < CLOSE


def test_half_precision_checkpoints() -> None:
    net = trained(Cnn())
    for dtype in (torch.bfloat16, torch.float16):
        half = {k: v.to(dtype) if v.is_floating_point() else v for k, v in net.state_dict().items()}
        same = trained(Cnn())
        same.load_state_dict(half)
        teacher = exported(same, IMAGE, "unfused")
        plan = n2n.plan(teacher, everywhere(teacher))
        grown = n2n.torch.grow_state_dict(half, plan, teacher=teacher)
        assert grown.state_dict["fc.weight"].dtype == dtype
        assert grown.state_dict["bn.num_batches_tracked"].dtype == torch.int64
        wider = Cnn(12, 9).eval()
        wider.load_state_dict(grown.state_dict)
        assert away(same(IMAGE), wider(IMAGE)) < CLOSE


def test_tied_weights_stay_tied_or_are_refused() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.nn.Linear(6, 8), torch.nn.Linear(8, 8)
            self.c, self.d = torch.nn.Linear(8, 8), torch.nn.Linear(8, 3)
            self.c.weight = self.b.weight

        def forward(self, x: Any) -> Any:
            return self.d(torch.relu(self.c(torch.relu(self.b(torch.relu(self.a(x)))))))

    net = trained(Tied())
    x = TOKENS[:, 0]
    teacher = exported(net, x)
    state = net.state_dict()
    plan = n2n.plan(teacher, [{"node": "/a/Gemm", "width": 11}])
    grown = n2n.torch.grow_state_dict(state, plan, teacher=teacher)
    student = plan.apply(verify="off")
    wider = Tied()
    for name, tensor in grown.state_dict.items():
        owner, _, role = name.rpartition(".")
        setattr(wider.get_submodule(owner), role, torch.nn.Parameter(tensor))
    assert away(run(student, x), wider(x)) < CLOSE
    single = {k: v for k, v in state.items() if k != "c.weight"}
    shapes = {k: tuple(v.shape) for k, v in grown.state_dict.items()}
    if shapes["b.weight"] != shapes["c.weight"]:
        with pytest.raises(n2n.torch.UnmatchedError, match=r"b\.weight"):
            n2n.torch.grow_state_dict(
                single, n2n.plan(teacher, everywhere(teacher)), teacher=teacher
            )


def test_another_checkpoint_is_refused() -> None:
    net = trained(Cnn())
    teacher = exported(net, IMAGE)
    plan = n2n.plan(teacher, everywhere(teacher))
    other = trained(Cnn(), seed=9).state_dict()
    with pytest.raises(n2n.torch.UnmatchedError) as caught:
        n2n.torch.grow_state_dict(other, plan, teacher=teacher)
    assert "depthwise.weight" in caught.value.names
    assert "fc.weight" in str(caught.value)
    with pytest.raises(ValueError, match="another model"):
        n2n.torch.grow_state_dict(net.state_dict(), plan, teacher=exported(trained(Cnn(9)), IMAGE))
    with pytest.raises(TypeError, match="entry that holds the model"):
        n2n.torch.grow_state_dict({"model": {}, "epoch": 3}, plan, teacher=teacher)


def test_equal_layers_are_told_apart_by_name_or_refused() -> None:
    """Two convolutions with the same values; the checkpoint's names are not the file's."""
    net = trained(Cnn())
    net.layer1[1].load_state_dict(net.layer1[0].state_dict())
    teacher = exported(net, IMAGE)
    plan = n2n.plan(teacher, everywhere(teacher))
    grown = n2n.torch.grow_state_dict(net.state_dict(), plan, teacher=teacher)
    assert away(net(IMAGE), grown.widened(net)(IMAGE)) < CLOSE


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("how", EXPORTS)
def test_a_norm_that_did_nothing_is_found_behind_its_layer(how: str, bias: bool) -> None:
    """As `deepen` makes it: folding it leaves the convolution's own values, and no trace."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 8, 3, bias=bias)
            self.bn = torch.nn.BatchNorm2d(8)
            self.fc = torch.nn.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))

    torch.manual_seed(0)
    net = Net().eval()
    net.bn.running_var.fill_(1 - 1e-5)
    teacher = exported(net, IMAGE, how)
    plan = n2n.plan(teacher, everywhere(teacher))
    grown = n2n.torch.grow_state_dict(net.state_dict(), plan, teacher=teacher)
    assert "bn: num_features 8 -> 12" in grown.edits
    assert away(net(IMAGE), grown.widened(net)(IMAGE)) < CLOSE


def test_transposed_convolutions_and_linear_layers_with_folded_norms() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = torch.nn.ConvTranspose2d(1, 6, 2, stride=2)
            self.bn1 = torch.nn.BatchNorm2d(6)
            self.fc1 = torch.nn.Linear(6, 10)
            self.bn2 = torch.nn.BatchNorm1d(10)
            self.fc2 = torch.nn.Linear(10, 3)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.bn1(self.up(x))).mean((2, 3))
            return self.fc2(torch.relu(self.bn2(self.fc1(x))))

    net = trained(Net())
    for how in EXPORTS:
        teacher = exported(net, IMAGE, how)
        plan = n2n.plan(teacher, everywhere(teacher))
        grown = n2n.torch.grow_state_dict(net.state_dict(), plan, teacher=teacher)
        assert {"bn1: num_features 6 -> 9", "bn2: num_features 10 -> 15"} <= set(grown.edits)
        assert away(net(IMAGE), grown.widened(net)(IMAGE)) < CLOSE


def test_packed_projections_of_multihead_attention() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Linear(6, 8)
            self.attn = torch.nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = torch.nn.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            x = self.embed(x)
            return self.head((x + self.attn(x, x, x, need_weights=False)[0]).mean(1))

    net = trained(Net())
    teacher = exported(net, TOKENS)
    spaces = {s.name.rpartition(":")[2]: s.name for s in n2n.inspect(teacher).spaces}
    steps = [{"space": spaces["heads"], "ratio": 2}, {"node": "embed", "ratio": 2}]
    plan = n2n.plan(teacher, steps)
    grown = n2n.torch.grow_state_dict(net.state_dict(), plan, teacher=teacher)
    assert "attn: embed_dim 8 -> 16" in grown.edits
    with pytest.raises(ValueError, match="rebuild 'attn'"):
        grown.widened(net)
    wider = Net()
    wider.embed, wider.head = torch.nn.Linear(6, 16), torch.nn.Linear(16, 3)
    wider.attn = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    wider.load_state_dict(grown.state_dict)
    wider.eval()
    assert away(net(TOKENS), wider(TOKENS)) < CLOSE
    half = n2n.plan(teacher, steps[:1])
    grown = n2n.torch.grow_state_dict(net.state_dict(), half, teacher=teacher)
    assert "attn.in_proj_weight: shape (24, 8) -> (48, 8)" in grown.edits


def test_a_norm_of_another_network_stays() -> None:
    net = trained(Cnn())
    teacher = exported(net, IMAGE)
    plan = n2n.plan(teacher, everywhere(teacher))
    other = torch.nn.BatchNorm2d(8)
    other.running_var.fill_(1 - 1e-5)
    state = {**net.state_dict(), **wrapped(other.state_dict(), "head2.")}
    grown = n2n.torch.grow_state_dict(state, plan, teacher=teacher)
    assert grown.state_dict["head2.weight"].shape == (8,)


@pytest.mark.parametrize("init", ["fresh", "twin"])
@pytest.mark.parametrize("how", EXPORTS)
def test_units_that_are_no_copies(how: str, init: str) -> None:
    net = trained(Cnn())
    teacher = exported(net, IMAGE, how)
    inner = [s.name for s in n2n.inspect(teacher).spaces if s.width == 6]
    steps = [{"space": s, "width": 10, "init": init} for s in inner]
    plan = n2n.plan(teacher, steps)
    grown = n2n.torch.grow_state_dict(net.state_dict(), plan, teacher=teacher)
    assert away(net(IMAGE), grown.widened(net)(IMAGE)) < CLOSE
