"""Sizes that a caller names: `sequence<=512, x.1=3`."""

from __future__ import annotations

import pytest
from onnx import helper

from onnx_net2net.graph.model import Model
from onnx_net2net.verification.sizes import Interval, open_axes, parsed


def text() -> Model:
    info = helper.make_tensor_value_info
    inputs = [info("ids", 7, ["batch", "sequence"]), info("x", 1, [4, None])]
    graph = helper.make_graph([], "g", inputs, [])
    return Model(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    )


def test_every_open_axis_has_a_name() -> None:
    assert open_axes(text()) == {"ids": ("batch", "sequence"), "x": (4, "x.1")}


def test_relations_are_intervals() -> None:
    found = parsed("sequence<=512, batch > 1,x.1=7 , batch<9", text())
    assert found == {"sequence": Interval(1, 512), "batch": Interval(2, 8), "x.1": Interval(7, 7)}
    assert parsed(["sequence>=2", "sequence<4"], text()) == {"sequence": Interval(2, 3)}
    assert parsed(None, text()) == {}
    assert 3 in Interval(2, 3)
    assert 4 not in Interval(2, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "cannot be read"),
        ("sequence<=512,", "cannot be read"),
        ("sequence", "cannot be read"),
        ("sequence<=x", "cannot be read"),
        ("sequence<=-1", "cannot be read"),
        ("length<=512", "these are: batch, sequence, x.1"),
        ("x.0<=4", "no open size"),
        ("sequence<=4, sequence>4", "leave nothing"),
        ("sequence<1", "leave nothing"),
    ],
)
def test_what_makes_no_sense_is_an_error(given: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parsed(given, text())
