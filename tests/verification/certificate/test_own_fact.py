"""The fact of ARCHITECTURE.md: attacked, and students proved by it; no file is changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnx_net2net as n2n
from onnx_net2net.operators.table import TABLE
from onnx_net2net.verification.certificate.facts.lines import FACTS, Fact
from support import single_node
from support.attack import attack
from support.custom_models import DOMAIN, between_convolutions, initializer
from support.recipes import followed

SNAKE = f"{DOMAIN}.Snake"
A = np.linspace(0.5, 2, 6, dtype=np.float32)


def snake(arrays: list[Any], _: Any) -> list[Any]:
    x, a = arrays[0], arrays[1][:, None, None]
    return [x + np.sin(a * x) ** 2 / a]


@pytest.fixture(autouse=True)
def fact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    followed("Adding an operator")
    followed("Adding a certificate fact")
    monkeypatch.setitem(single_node.REFERENCES, SNAKE, snake)
    yield
    del TABLE[SNAKE], FACTS[SNAKE]


def teacher() -> onnx.ModelProto:
    model = between_convolutions("Snake", {"s": (6,)})
    initializer(model, "s").CopyFrom(numpy_helper.from_array(A, "s"))
    return model


def attacked() -> bool:
    """Whether an attack finds the line wrong."""
    case = single_node.Case(SNAKE, "pppp p > pppp", (single_node.x(2, 6, 3, 3), single_node.w(6)))
    return any(attack(case, np.random.default_rng(seed), 40).wrong for seed in range(5))


def test_students_are_proved_without_running() -> None:
    student = n2n.widen(teacher(), node="conv1", width=10)
    assert str(n2n.verify(teacher(), student)).startswith("proved:")


def test_a_student_with_another_weight_is_not() -> None:
    student = n2n.widen(teacher(), node="conv1", width=10, verify="off")
    assert isinstance(student, onnx.ModelProto)
    held = initializer(student, "s")
    other = numpy_helper.to_array(held).copy()
    other[-1] += 0.5  # one copy's
    held.CopyFrom(numpy_helper.from_array(other, "s"))
    assert not n2n.verify(teacher(), student).equivalent


def test_without_the_fact_nothing_is_proved() -> None:
    known = FACTS.pop(SNAKE)
    student = n2n.widen(teacher(), node="conv1", width=10, verify="off")
    assert n2n.verify(teacher(), student).equivalent is None
    FACTS[SNAKE] = known


def test_the_attack_finds_lines_that_are_wrong() -> None:
    assert not attacked()
    FACTS[SNAKE] = Fact(SNAKE, "n c ..., k -> n c ...")  # equal x, another a
    assert attacked()
