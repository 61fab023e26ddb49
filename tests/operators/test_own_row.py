"""The operator of ARCHITECTURE.md: its row's claims run, students grown; no file is changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import onnx_net2net as n2n
from onnx_net2net.operators.table import TABLE
from support import single_node
from support.custom_models import DOMAIN, between_convolutions, initializer
from support.oracle import WrongError, check, check_shapes
from support.recipes import followed

SNAKE = f"{DOMAIN}.Snake"
X, A = single_node.x(2, 6, 3, 3), single_node.w(6, low=0.5)


def snake(x: np.ndarray, a: np.ndarray) -> np.ndarray:
    a = a[:, None, None]
    return x + np.sin(a * x) ** 2 / a


class Snake(OpRun):
    op_domain = DOMAIN

    def _run(self, x: np.ndarray, a: np.ndarray) -> tuple[np.ndarray]:
        return (snake(x, a).astype(np.float32),)


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    followed("Adding an operator")
    monkeypatch.setitem(single_node.REFERENCES, SNAKE, lambda a, _: [snake(*a)])
    yield
    TABLE.pop(SNAKE, None)


def case(roles: str = "pppp p > pppp", a: single_node.Operand = A) -> single_node.Case:
    return single_node.Case(SNAKE, roles, (X, a))


def test_the_oracle_bears_out_what_the_row_claims() -> None:
    check_shapes(case())
    assert check(case()) > 8
    assert check(case(a=single_node.x(6, low=0.5))) > 8  # computed


@pytest.mark.parametrize(
    "wrong",
    [
        {"zero_keeps": ()},  # a is 0 in zero rows: 0 / 0
        {"notation": "n c ..., k -> n c ..."},
        {"notation": "n c *, c -> n c *", "roles": {"*": "sum"}},
    ],
    ids=str,
)
def test_the_oracle_fails_on_rows_that_are_wrong(wrong: dict[str, Any]) -> None:
    TABLE[SNAKE] = replace(TABLE[SNAKE], **wrong)
    with np.errstate(all="ignore"), pytest.raises(WrongError):
        check(case())


@pytest.mark.parametrize("init", ["replicate", "fresh", "twin"])
def test_students_compute_the_same(init: str) -> None:
    teacher = between_convolutions("Snake", {"s": (6,)})
    initializer(teacher, "s").CopyFrom(numpy_helper.from_array(A.value, "s"))
    student = n2n.widen(teacher, node="conv1", width=10, init=init, verify="off")
    assert isinstance(student, onnx.ModelProto)
    shapes = {t.name: list(t.dims) for t in student.graph.initializer}
    assert (shapes["w1"], shapes["s"], shapes["w2"]) == ([10, 3, 3, 3], [10], [4, 10, 3, 3])
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32)}
    before, after = (ReferenceEvaluator(m, new_ops=[Snake]).run(None, feeds)[0]
                     for m in (teacher, student))  # fmt: skip
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


def test_without_the_row_the_layer_is_refused() -> None:
    del TABLE[SNAKE]
    with pytest.raises(n2n.RefusalError, match="custom"):
        n2n.widen(between_convolutions("Snake", {"s": (6,)}), node="conv1", width=10)
