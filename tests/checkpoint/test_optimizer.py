"""Optimiser state of the grown checkpoint, against the student's own gradients by autograd.

A gradient of the teacher, put in the place of the momentum, must grow into the student's.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

import onnx_net2net as n2n
from support.torch_models import (
    IMAGE,
    TOKENS,
    Cnn,
    Recurrent,
    Transformer,
    everywhere,
    exported,
    torch,
    trained,
)

pytestmark = pytest.mark.torch
TARGET = torch.tensor([1, 2])


def gradients(module: Any, x: Any) -> dict[str, Any]:
    """Of a loss, norms as in training; in float64, so that a zero is not a processor's rounding."""
    wide = copy.deepcopy(module).double().train()
    wide.zero_grad()
    given = x.double() if x.is_floating_point() else x
    torch.nn.functional.cross_entropy(wide(given), TARGET).backward()
    return {n: p.grad.clone() for n, p in wide.named_parameters()}


def with_gradient(module: Any, found: dict[str, Any], adam: bool = False) -> Any:
    """An optimiser whose first moment is the gradient and second its square."""
    kind = torch.optim.AdamW if adam else torch.optim.SGD
    optimizer = kind(module.parameters(), lr=0.1, **({} if adam else {"momentum": 0.9}))
    for name, p in module.named_parameters():
        g = found[name].to(p.dtype)
        optimizer.state[p] = (
            {"step": torch.tensor(7.0), "exp_avg": g.clone(), "exp_avg_sq": g * g}
            if adam
            else {"momentum_buffer": g.clone()}
        )
    return optimizer


def names(module: Any) -> list[str]:
    return [n for n, _ in module.named_parameters()]


def grown_with(net: Any, x: Any, split: str, how: str = "folded") -> tuple[Any, Any]:
    teacher = exported(net, x, how)
    steps = [{**s, "split": split} for s in everywhere(teacher)]
    if split == "one-hot":  # a norm over the units mixes their gradients
        uniform = {s.name for s in n2n.inspect(teacher).spaces if s.uniform}
        steps = [s for s in steps if s["space"] not in uniform]
    plan = n2n.plan(teacher, steps)
    grown = n2n.torch.grow_state_dict(net.state_dict(), plan, teacher=teacher)
    wider = grown.widened(net)
    for factors in grown.factors.values():
        wider.attn.shares, wider.attn.size, wider.attn.heads = factors.squeeze(), 6, 5
    return grown, wider


NETS = {
    "cnn": (Cnn, IMAGE), "transformer": (Transformer, TOKENS), "recurrent": (Recurrent, TOKENS)
}  # fmt: skip


@pytest.mark.parametrize("split", ["even", "one-hot"])
@pytest.mark.parametrize("net", NETS)
def test_every_gradient_is_the_formulas(net: str, split: str) -> None:
    kind, x = NETS[net]
    teacher = trained(kind())
    grown, student = grown_with(teacher, x, split)
    before = gradients(teacher, x)
    state = with_gradient(teacher, before).state_dict()
    made = n2n.torch.grow_optimizer(state, grown, names(teacher))
    wanted = gradients(student, x)
    for k, name in enumerate(names(student)):
        got = made["state"][k]["momentum_buffer"]
        largest = float(wanted[name].abs().max())
        assert got.shape == wanted[name].shape
        assert float((got - wanted[name]).abs().max()) < 2e-5 * max(largest, 1e-3), name


def test_a_norm_over_copies_with_unequal_shares_is_not_derived() -> None:
    teacher = trained(Transformer())
    file = exported(teacher, TOKENS)
    plan = n2n.plan(file, [{"node": "embed", "ratio": 2, "split": "one-hot"}])
    grown = n2n.torch.grow_state_dict(teacher.state_dict(), plan, teacher=file)
    state = with_gradient(teacher, gradients(teacher, TOKENS)).state_dict()
    with pytest.raises(ValueError, match="embed"):
        n2n.torch.grow_optimizer(state, grown, names(teacher))


def test_second_moments_go_with_the_square() -> None:
    teacher = trained(Cnn())
    grown, student = grown_with(teacher, IMAGE, "even")
    state = with_gradient(teacher, gradients(teacher, IMAGE), adam=True).state_dict()
    made = n2n.torch.grow_optimizer(state, grown, names(teacher))
    wanted = gradients(student, IMAGE)
    for k, name in enumerate(names(student)):
        got, square = made["state"][k]["exp_avg_sq"], wanted[name] ** 2
        assert float((got - square).abs().max()) < 1e-4 * max(float(square.max()), 1e-6), name
        assert made["state"][k]["step"] == 7
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.1)
    optimizer.load_state_dict(made)
    gradients(student, IMAGE)
    optimizer.step()


def test_readers_are_exact_for_any_split_and_producers_are_not() -> None:
    teacher = trained(Cnn())
    file = exported(teacher, IMAGE)
    plan = n2n.plan(file, [{"node": "/layer1/layer1.0/conv1/Conv", "width": 9}])
    grown = n2n.torch.grow_state_dict(teacher.state_dict(), plan, teacher=file)
    student = grown.widened(teacher)
    state = with_gradient(teacher, gradients(teacher, IMAGE)).state_dict()
    with pytest.raises(ValueError, match=r"layer1\.0\.conv1\.weight.*reset='producers'"):
        n2n.torch.grow_optimizer(state, grown, names(teacher))
    made = n2n.torch.grow_optimizer(state, grown, names(teacher), reset="producers")
    wanted = gradients(student, IMAGE)
    reset = []
    for k, name in enumerate(names(student)):
        if k not in made["state"]:
            reset.append(name)
            continue
        got = made["state"][k]["momentum_buffer"]
        assert float((got - wanted[name]).abs().max()) < 1e-6, name
    assert reset == ["layer1.0.conv1.weight", "layer1.0.bn1.weight", "layer1.0.bn1.bias"]
    naive = gradients(teacher, IMAGE)["layer1.0.bn1.bias"] / 2  # the paper's rule does not hold
    sources = plan.mapping["onnx::Conv_58"][0]["source"] if "onnx::Conv_58" in plan.mapping else []
    twice = [j for j in range(6) if sources.count(j) == 2] if sources else []
    assert all(abs(float(wanted["layer1.0.bn1.bias"][j] - naive[j])) > 1e-4 for j in twice)


def test_new_layers_have_no_state() -> None:
    teacher = trained(Cnn())
    file = exported(teacher, IMAGE)
    steps = [{"verb": "deepen", "after": "/Relu_output_0", "kind": "identity", "kernel": 3}]
    grown = n2n.torch.grow_state_dict(teacher.state_dict(), n2n.plan(file, steps), teacher=file)
    state = with_gradient(teacher, gradients(teacher, IMAGE), adam=True).state_dict()
    with pytest.raises(ValueError, match="new_names"):
        n2n.torch.grow_optimizer(state, grown, names(teacher))
    student = Cnn(8, 6, stem=8)
    student.load_state_dict(grown.state_dict)
    made = n2n.torch.grow_optimizer(state, grown, names(teacher), new_names=names(student))
    order = names(student)
    missing = {order[k] for k in range(len(order)) if k not in made["state"]}
    assert missing == set(grown.new_parameters)
    for k, name in enumerate(order):
        if name not in missing:
            old = state["state"][names(teacher).index(name)]["exp_avg"]
            assert torch.equal(made["state"][k]["exp_avg"], old)
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.1)
    optimizer.load_state_dict(made)
    gradients(student, IMAGE)
    optimizer.step()


def test_other_optimisers_are_refused() -> None:
    teacher = trained(Cnn())
    grown, _ = grown_with(teacher, IMAGE, "even")
    optimizer = torch.optim.Adagrad(teacher.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="no state of SGD or Adam"):
        n2n.torch.grow_optimizer(optimizer.state_dict(), grown, names(teacher))
    state = torch.optim.SGD(teacher.parameters(), lr=0.1).state_dict()
    with pytest.raises(ValueError, match="3 names for"):
        n2n.torch.grow_optimizer(state, grown, ["a", "b", "c"])


@pytest.mark.parametrize("init", ["fresh", "twin"])
def test_the_teachers_units_keep_their_state_beside_new_ones(init: str) -> None:
    teacher = trained(Cnn())
    file = exported(teacher, IMAGE)
    step = {"node": "/layer1/layer1.0/conv1/Conv", "width": 10, "init": init}
    grown = n2n.torch.grow_state_dict(teacher.state_dict(), n2n.plan(file, [step]), teacher=file)
    state = with_gradient(teacher, gradients(teacher, IMAGE)).state_dict()
    made = n2n.torch.grow_optimizer(state, grown, names(teacher))
    student = grown.widened(teacher)
    wanted = gradients(student, IMAGE)
    for k, (name, old) in enumerate(teacher.named_parameters()):
        got = made["state"][k]["momentum_buffer"]
        here = tuple(slice(n) for n in old.shape)  # the teacher's units stand first
        assert float((got[here] - wanted[name][here]).abs().max()) < 1e-6, name
        assert float(got.abs().sum()) == pytest.approx(float(got[here].abs().sum()))


def test_students_with_noise_have_no_derived_state() -> None:
    teacher = trained(Cnn())
    file = exported(teacher, IMAGE)
    plan = n2n.plan(file, [{"node": "/stem/Conv", "width": 10, "noise": 0.01}])
    grown = n2n.torch.grow_state_dict(teacher.state_dict(), plan, teacher=file)
    state = with_gradient(teacher, gradients(teacher, IMAGE)).state_dict()
    with pytest.raises(ValueError, match="start the optimiser anew"):
        n2n.torch.grow_optimizer(state, grown, names(teacher), reset="producers")
