"""Models run at odd and even sizes, and beyond what they compare sizes with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_net2net.errors import UsageError
from onnx_net2net.inference import validity
from onnx_net2net.verification.runtime.run_sizes import OpenSizes, compared, sizes_of
from onnx_net2net.verification.sides import Side
from onnx_net2net.verification.verify import Claim, verify


def model(nodes: list[Any], shape: list[Any], **constants: Any) -> ModelProto:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, shape)], [info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def sliced(end: int, shape: list[Any] | None = None) -> ModelProto:
    node = helper.make_node("Slice", ["x", "start", "end", "axis"], ["y"])
    return model([node], shape or ["N", "L"], start=[0], end=[end], axis=[1])


def positions(table: Any) -> ModelProto:
    """x plus as many rows of a table as it is long."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["length"]),
        helper.make_node("Range", ["zero", "length", "one"], ["at"]),
        helper.make_node("Gather", ["table", "at"], ["rows"]),
        helper.make_node("Add", ["x", "rows"], ["y"]),
    ]
    return model(nodes, ["N", "L", 4], one=np.int64(1), zero=np.int64(0), table=table)


def sizes(m: ModelProto, wanted: Any = None) -> tuple[OpenSizes, Any]:
    side = Side.of(m)
    facts = validity.checked(side.source, side.model)
    return OpenSizes(side.model, facts, wanted), list(compared(side.model, facts))


def test_odd_and_even_and_one_example() -> None:
    open_sizes, _ = sizes(sliced(2**40))
    shapes = [s["x"] for stage in open_sizes.stages() for s in stage]
    assert {n % 2 for _, n in shapes} == {0, 1}
    assert 1 in {n for n, _ in shapes}


def test_beyond_what_a_size_is_compared_with() -> None:
    open_sizes, numbers = sizes(sliced(512))
    assert [{"x": (1, 513)}, {"x": (1, 512)}] in open_sizes.telling(numbers)


def test_the_whole_of_a_table() -> None:
    open_sizes, numbers = sizes(positions(np.zeros((300, 4), np.float32)))
    assert [{"x": (1, 301, 4)}, {"x": (1, 300, 4)}] in open_sizes.telling(numbers)


def test_large_batches_only_where_they_are_compared() -> None:
    stale = model([helper.make_node("Reshape", ["x", "s"], ["y"])], ["N", 4, 6], s=[8, -1])
    open_sizes, numbers = sizes(stale)
    assert {"x": (9, 4, 6)} in [s for stage in open_sizes.telling(numbers) for s in stage]
    open_sizes, numbers = sizes(sliced(512))
    assert all(s["x"][0] <= 16 for stage in open_sizes.telling(numbers) for s in stage)


def test_no_size_that_the_caller_rules_out() -> None:
    open_sizes, numbers = sizes(sliced(512), {"L": (20, 100), "N": (2, 2)})
    stages = open_sizes.stages() + open_sizes.telling(numbers)
    shapes = [s["x"] for stage in stages for s in stage]
    assert all(n == 2 and 20 <= length <= 100 for n, length in shapes)


def test_symbols_of_one_name_have_one_size() -> None:
    side = Side.of(sliced(9, ["N", None]))
    assert sizes_of(side.model, {"x": (2, 7)}) == {"N": (2, 2), "x.1": (7, 7)}


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        (sliced(2**40), sliced(512)),
        (sliced(64), sliced(63)),
        (
            positions(np.zeros((300, 4), np.float32)),
            positions(np.eye(300, 4, -296, np.float32)),
        ),
    ],
)
def test_what_only_a_long_input_shows(teacher: ModelProto, student: ModelProto) -> None:
    assert verify(teacher, student).claim is Claim.DIFFERENT
    assert verify(teacher, teacher)


@pytest.mark.parametrize("wrong", ["", "L", "L<=512,", "L<=x", "M<=3", "x.0<=3", "L<=4,L>4"])
def test_sizes_that_make_no_sense(wrong: str) -> None:
    with pytest.raises(UsageError, match="sizes") as error:
        verify(sliced(512), sliced(512), sizes=wrong)
    assert error.value.hint


def test_sizes_that_contradict_one_another() -> None:
    info = helper.make_tensor_value_info
    two = model([helper.make_node("Add", ["x", "z"], ["y"])], ["N", 4])
    two.graph.input.append(info("z", TensorProto.FLOAT, ["N", 4]))
    with pytest.raises(UsageError, match=r"'N' is 2 in 'z' and is 1 in 'x'"):
        verify(two, two, shapes={"x": (1, 4), "z": (2, 4)})
    with pytest.raises(UsageError, match=r"'N' is 9 in 'x' and may not be"):
        verify(two, two, shapes={"x": (9, 4)}, sizes="N<=8")
    assert verify(two, two, shapes={"x": (2, 4), "z": (2, 4)}, sizes="N<=8")


def test_at_the_sizes_of_the_caller_nothing_else_is_run() -> None:
    found = verify(sliced(2**40), sliced(512), sizes="L<=512").layer("runtime")
    assert found is not None
    assert found.status == "passed"
