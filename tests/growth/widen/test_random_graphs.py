"""Random movements between random layers: a student is refused or equal, never wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnx_net2net.coupling.catalogue import space_name, spaces
from onnx_net2net.errors import RefusalError
from onnx_net2net.files.patch import apply
from onnx_net2net.files.reader import read
from onnx_net2net.growth.widen.step import widen_step
from onnx_net2net.growth.widen.units import Row
from onnx_net2net.growth.widen.verb import Widen
from onnx_net2net.inference.analysis import Analysis
from support.random_graphs import Builder, Pick
from support.same_function import Teacher
from tools.samples.graph_builder import Net


def compare(model: onnx.ModelProto, pick: Pick) -> tuple[int, int]:
    """Grow every space; how many students were equal and how many refused."""
    teacher, equal, refused = Teacher(model), 0, 0
    analysis = Analysis(read(model))
    for space, _, nodes in spaces(analysis)[0]:
        how: dict[str, Any] = {
            "ratio": pick([1.2, 1.5, 2.0]), "mapping": pick(["random", "balanced"]),
            "split": pick(["zero-sum", "even"]), "seed": pick(range(4)),
        }  # fmt: skip
        rows = pick([Row.COPY, Row.COPY, Row.FREE, Row.TWIN, Row.ZERO])
        try:
            step = widen_step(analysis, Widen(space=space_name(space, nodes[0]), **how), rows)
        except (RefusalError, ValueError):
            refused += 1
            continue
        student = apply(analysis.source, step.patch).to_proto()
        onnx.checker.check_model(student, full_check=True)
        assert teacher.deviation(student) < 1e-5, (nodes[0].name, how)
        equal += 1
    return equal, refused


@settings(
    derandomize=True, max_examples=250, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(st.data())
def test_refused_or_equal(data: st.DataObject) -> None:
    def pick(options: Sequence[Any]) -> Any:
        return data.draw(st.sampled_from(options))

    compare(Builder(pick).model(pick(range(1, 9))), pick)


def test_a_slice_through_channels() -> None:
    """Rows of an image merged into the channels and cut inside one: no copies line up."""
    net = Net("slice", opset=18)
    x = net.input("x", 2, 3, 4, 4)
    y = net.conv(x, "conv1", 3, 6, 1)
    y = net.op("Reshape", y, net.const("shape", [2, 24, 2, 2]))
    bounds = [net.const(f"bound{k}", [v]) for k, v in enumerate((7, -1, 1, 1))]
    y = net.conv(net.op("Slice", y, *bounds), "conv2", 16, 3, 1)
    model = net.output("y", y, 2, 3, 2, 2).model()
    for seed in range(8):
        compare(model, random.Random(seed).choice)


def test_most_grow() -> None:
    """Were all refused, the test above would say nothing."""
    equal = refused = 0
    for seed in range(60):
        pick = random.Random(seed).choice
        found = compare(Builder(pick).model(pick(range(1, 7))), pick)
        equal, refused = equal + found[0], refused + found[1]
    assert equal > 2 * refused
    assert equal > 50
