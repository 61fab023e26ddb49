"""Growing the model's own inputs and outputs: only when allowed, and the old part as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import onnx_net2net as n2n
from onnx_net2net.growth.widen.interface import KEY
from onnx_net2net.plans.plan import plan
from support.command_line import Workplace, call, work
from support.interface_models import (
    FLOAT,
    attention_with_cache,
    language,
    made,
    normalized_image,
)
from support.same_function import MODELS, session

__all__ = ["work"]  # a fixture

DIGITS = str(MODELS / "digits_cnn.onnx")


def declared(model: onnx.ModelProto) -> dict[str, Any]:
    return json.loads(next(p.value for p in model.metadata_props if p.key == KEY))


def undeclared(model: onnx.ModelProto) -> onnx.ModelProto:
    other = onnx.ModelProto.FromString(model.SerializeToString())
    del other.metadata_props[:]
    return other


def sizes(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    return {
        i.name: [d.dim_value or d.dim_param for d in i.type.tensor_type.shape.dim]
        for i in (*model.graph.input, *model.graph.output)
    }


def initializers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def run(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    running = session(model)
    names = [o.name for o in running.get_outputs()]
    return dict(zip(names, running.run(None, feed), strict=True))


def feeds(teacher: onnx.ModelProto, student: onnx.ModelProto, fill: float) -> tuple[Any, Any]:
    """Random inputs, and the same with `fill` at the new positions."""
    rng = np.random.default_rng(3)
    mine, theirs = {}, {}
    known = {"n": 2, "t": 5, "past": 3, "N": 2}
    for info in teacher.graph.input:
        shape = [known.get(d, d) for d in sizes(teacher)[info.name]]
        wide = [known.get(d, d) for d in sizes(student)[info.name]]
        if info.type.tensor_type.elem_type == FLOAT:
            mine[info.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            mine[info.name] = rng.integers(0, 11, shape)
        grown = np.full(wide, fill).astype(mine[info.name].dtype)
        grown[tuple(slice(d) for d in shape)] = mine[info.name]
        theirs[info.name] = grown
    return mine, theirs


GROWN: dict[str, tuple[Callable[[], onnx.ModelProto], list[tuple[str, int]], list[str]]] = {
    "classes": (lambda: onnx.load(DIGITS), [("fc", 14)], ["outputs logits 1"]),
    "classes by output": (lambda: onnx.load(DIGITS), [("logits", 14)], ["outputs logits 1"]),
    "channels": (lambda: onnx.load(DIGITS), [("images", 3)], ["inputs images 1"]),
    "both": (
        lambda: onnx.load(DIGITS),
        [("images", 3), ("fc", 12), ("fc", 15)],
        ["inputs images 1", "outputs logits 1"],
    ),
    "normalised": (normalized_image, [("image", 4)], ["inputs image 1"]),
    "vocabulary": (
        lambda: language(False),
        [("head", 14), ("embed.weight:0", 14)],
        ["outputs logits 2", "tables embed.weight 0"],
    ),
    "tied vocabulary": (
        lambda: language(True),
        [("head", 14)],
        ["outputs logits 2", "tables embed.weight 0"],
    ),
    "cache heads": (
        attention_with_cache,
        [("past_key:1", 3)],
        [
            *(f"inputs past_{x} 1" for x in ("key", "value")),
            *(f"outputs present_{x} 1" for x in ("key", "value")),
        ],
    ),
    "key width": (
        attention_with_cache,
        [("past_key:3", 6)],
        ["inputs past_key 3", "outputs present_key 3"],
    ),
    "value width": (
        attention_with_cache,
        [("v", 12)],
        ["inputs past_value 3", "outputs present_value 3"],
    ),
    "model width in": (attention_with_cache, [("x", 9)], ["inputs x 2"]),
}


def student_of(case: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    build, steps, _ = GROWN[case]
    teacher = build()
    widened = [{"node": n, "width": w, "allow_interface": True} for n, w in steps]
    return teacher, plan(teacher, widened).apply()


@pytest.mark.parametrize("case", GROWN)
def test_old_part_is_as_it_was(case: str) -> None:
    teacher, student = student_of(case)
    onnx.checker.check_model(student, full_check=True)
    said = declared(student)
    axes = [f"{k} {n} {e['axis']}" for k in said for n in said[k] for e in said[k][n]]
    assert sorted(axes) == sorted(GROWN[case][2])
    for fill in (0.0, 1e4, -3.0):
        mine, theirs = feeds(teacher, student, fill)
        before, after = run(teacher, mine), run(student, theirs)
        for name, value in before.items():
            old = after[name][tuple(slice(d) for d in value.shape)]
            np.testing.assert_allclose(old, value, rtol=1e-5, atol=1e-5)
    verdict = n2n.verify(teacher, student)
    assert (verdict.equivalent, verdict.decided_by) == (True, "certificate")
    assert verdict.layer("runtime").status.value == "passed"


@pytest.mark.parametrize("case", GROWN)
def test_without_its_declaration_the_interface_differs(case: str) -> None:
    teacher, student = student_of(case)
    verdict = n2n.verify(teacher, undeclared(student))
    assert not verdict
    if "table" not in "".join(GROWN[case][2]):
        assert (verdict.equivalent, verdict.decided_by) == (False, "interface")


@pytest.mark.parametrize("case", GROWN)
def test_refused_where_not_allowed(case: str) -> None:
    build, steps, _ = GROWN[case]
    node, width = steps[0]
    with pytest.raises((n2n.RefusalError, n2n.AmbiguousError)) as found:
        n2n.widen(build(), node=node, width=width)
    if isinstance(found.value, n2n.RefusalError):
        assert "--allow-interface" in found.value.hint


def damaged(student: onnx.ModelProto, name: str, at: Any) -> onnx.ModelProto:
    other = onnx.ModelProto.FromString(student.SerializeToString())
    (tensor,) = (t for t in other.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array[at] += 0.5
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return other


@pytest.mark.parametrize(
    ("case", "name", "at", "equal"),
    [
        ("channels", "conv1.weight", (0, 1), False),  # a new channel that matters
        ("classes", "fc.weight", (3,), False),  # an old class
        ("classes", "fc.weight", (12,), True),  # a new one may be anything
        ("vocabulary", "embed.weight", (4,), False),
        ("vocabulary", "embed.weight", (12,), True),
        ("tied vocabulary", "embed.weight", (12,), True),
        ("tied vocabulary", "embed.weight", (2,), False),
        ("cache heads", "out.weight", (9,), False),
        ("cache heads", "k.weight", (0, 9), True),
    ],
)
def test_only_what_is_new_may_change(case: str, name: str, at: Any, equal: bool) -> None:
    teacher, student = student_of(case)
    verdict = n2n.verify(teacher, damaged(student, name, at))
    assert verdict.equivalent is equal
    other = n2n.verify(teacher, damaged(student, name, at), layers="certificate")
    assert bool(other) is equal


def test_new_classes_are_copies_and_new_channels_have_zero_weights() -> None:
    weights = initializers(n2n.widen(DIGITS, node="fc", width=13, allow_interface=True))
    assert all((weights["fc.weight"][:10] == row).all(1).any() for row in weights["fc.weight"][10:])
    weights = initializers(n2n.widen(DIGITS, node="images", width=3, allow_interface=True))
    assert not weights["conv1.weight"][:, 1:].any()


def test_new_units_of_other_kinds() -> None:
    """Classes may be new in any way; what is new of an input is read by zeros only."""
    model = onnx.load(DIGITS)
    student = n2n.widen(model, node="fc", width=12, allow_interface=True, init="fresh")
    assert n2n.verify(model, student).decided_by == "certificate"
    for how in ({"init": "twin"}, {"init": "random-pad"}, {"noise": 0.1}):
        with pytest.raises(ValueError, match="leave init and noise out"):
            n2n.widen(model, node="images", width=3, allow_interface=True, **how)


def test_a_constant_zero_is_said() -> None:
    model = attention_with_cache()
    steps = [{"node": "past_key:3", "width": 6, "allow_interface": True}]
    assert any("a constant 0 stands where" in w for w in plan(model, steps).warnings)
    steps = [{"node": "past_key:1", "width": 3, "allow_interface": True}]
    assert not plan(model, steps).warnings


def test_a_tied_table_stays_tied() -> None:
    _, student = student_of("tied vocabulary")
    assert {n: w.shape for n, w in initializers(student).items()} == {
        "embed.weight": (14, 6),
        "w": (6, 6),
    }
    with pytest.raises(ValueError, match="tied to head; widen 'head'"):
        n2n.widen(language(True), node="embed.weight:0", width=14, allow_interface=True)


def probabilities() -> onnx.ModelProto:
    node = helper.make_node
    return made(
        [
            node("Gemm", ["x", "w"], ["logits"], "head"),
            node("Softmax", ["logits"], ["p"], "softmax", axis=-1),
        ],
        {"x": (FLOAT, ["n", 6])},
        {"p": ["n", 4]},
        {"w": (6, 4)},
    )


def averaged_image() -> onnx.ModelProto:
    node = helper.make_node
    return made(
        [
            node("LayerNormalization", ["x", "s", "b"], ["a"], "norm"),
            node("MatMul", ["a", "w"], ["y"], "layer"),
        ],
        {"x": (FLOAT, ["n", 6])},
        {"y": ["n", 4]},
        {"s": (6,), "b": (6,), "w": (6, 4)},
    )


def joined() -> onnx.ModelProto:
    node = helper.make_node
    return made(
        [
            node("MatMul", ["x", "w"], ["a"], "first"),
            node("MatMul", ["x", "v"], ["b"], "second"),
            node("Concat", ["a", "b"], ["y"], "both", axis=1),
        ],
        {"x": (FLOAT, ["n", 6])},
        {"y": ["n", 7]},
        {"w": (6, 4), "v": (6, 3)},
    )


def logarithm() -> onnx.ModelProto:
    node = helper.make_node
    return made(
        [node("Log", ["x"], ["a"], "log"), node("MatMul", ["a", "w"], ["y"], "layer")],
        {"x": (FLOAT, ["n", 6])},
        {"y": ["n", 4]},
        {"w": (6, 4)},
    )


@pytest.mark.parametrize(
    ("build", "node", "width", "reason", "said"),
    [
        (probabilities, "head", 5, "works across this axis", "Softmax"),
        (averaged_image, "x", 12, "new units of this kind do not pass", "LayerNormalization"),
        (joined, "first", 6, "copies do not line up", "the old positions would not stay first"),
        (logarithm, "x", 8, "new units of this kind do not pass", "Log"),
        (lambda: onnx.load(DIGITS), "images:2", 16, "works across this axis", "Conv"),
    ],
)
def test_what_would_change_the_old_part_is_refused(
    build: Callable[[], onnx.ModelProto], node: str, width: int, reason: str, said: str
) -> None:
    with pytest.raises(n2n.RefusalError, match=said) as found:
        n2n.widen(build(), node=node, width=width, allow_interface=True)
    assert found.value.reason == reason
    if reason != "copies do not line up":
        assert found.value.hint == "new positions would change what it computes for the old ones"


def test_an_output_of_changing_rank_is_refused() -> None:
    model = joined()
    del model.graph.output[0].type.tensor_type.shape.dim[1]
    with pytest.raises(n2n.RefusalError, match="the file declares another rank"):
        n2n.widen(model, node="second", width=5, allow_interface=True)


def test_what_ends_a_concat_can_grow() -> None:
    student = n2n.widen(joined(), node="second", width=5, allow_interface=True)
    assert sizes(student)["y"] == ["n", 9]
    assert n2n.verify(joined(), student).decided_by == "certificate"


def test_inside_nothing_changes() -> None:
    plain = n2n.widen(DIGITS, node="conv2", width=30)
    allowed = n2n.widen(DIGITS, node="conv2", width=30, allow_interface=True)
    assert allowed.graph == plain.graph  # the steps in the metadata differ


def test_names() -> None:
    with pytest.raises(n2n.AmbiguousError) as found:
        n2n.widen(attention_with_cache(), node="past_key", width=6, allow_interface=True)
    assert found.value.candidates == ("past_key:1", "past_key:3")
    with pytest.raises(ValueError, match="'images' has no axis 7; its axes are 0 to 3"):
        n2n.widen(DIGITS, node="images:7", width=6, allow_interface=True)
    with pytest.raises(ValueError, match=r"no row of 'fc\.weight' is picked"):
        n2n.widen(DIGITS, node="fc.weight:0", width=12, allow_interface=True)
    with pytest.raises(n2n.RefusalError, match="follows the input's size"):
        n2n.widen(DIGITS, node="images:0", width=6, allow_interface=True)


def test_growing_again_is_seen_from_either_teacher() -> None:
    teacher = onnx.load(DIGITS)
    first = n2n.widen(teacher, node="fc", width=12, allow_interface=True)
    second = n2n.widen(first, node="fc", width=15, allow_interface=True)
    assert n2n.verify(teacher, second)
    assert n2n.verify(first, second)
    assert n2n.verify(second, second)
    assert n2n.verify(second, first).decided_by == "interface"
    grown = n2n.widen(second, node="conv1", width=20)
    assert n2n.verify(teacher, grown)


def test_given_shapes_and_data_are_the_teachers(tmp_path: Any) -> None:
    teacher = onnx.load(DIGITS)
    shapes = {"images": (2, 1, 8, 8)}
    first = {"node": "images", "width": 3, "allow_interface": True}
    steps = [first, {"node": "conv1", "width": 20}]
    student = plan(teacher, steps, shapes=shapes).apply()
    data = {"images": np.ones((2, 1, 8, 8), np.float32)}
    assert n2n.verify(teacher, student, inputs=data, shapes=shapes)


ENTRY = '{"outputs": {"logits": [{"axis": %s, "from": %s, "to": %s}]}}'
BAD = ["", "3", "[]", "{}", '{"outputs": 3}', '{"outputs": {"logits": 4}}', '{"outputs": [1]}',
       '{"outputs": {"logits": [3]}}', ENTRY % (9, 1, 14), ENTRY % (1, '"a"', 14),
       ENTRY % (1, 11, 14), ENTRY % (1, 10, 13)]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_a_declaration_that_does_not_fit_counts_as_none(text: str) -> None:
    teacher, student = student_of("classes")
    other = undeclared(student)
    helper.set_model_props(other, {KEY: text})
    assert n2n.verify(teacher, other).decided_by == "interface"
    again = n2n.widen(other, node="fc", width=16, allow_interface=True)
    assert n2n.verify(other, again)


def test_on_the_command_line(work: Workplace) -> None:
    path = work.bring("digits_cnn")
    line = ("widen", path, "--node", "fc", "--width", "12")
    refused = call(*line)
    assert refused.code == 4
    assert "--allow-interface" in refused.err
    found = call(*line, "--allow-interface")
    assert found.code == 0
    assert (
        "  output 'logits' changed: axis 1 10 -> 12; the first 10 are as they were\n" in found.out
    )
    assert call("verify", path, "digits_cnn.widened.onnx").code == 0
    assert call("verify", "digits_cnn.widened.onnx", path).code == 1
    step = call(*line, "--allow-interface", "--plan", "--json").json["steps"][0]
    assert step["interface"] == [
        {"kind": "output", "name": "logits", "axis": 1, "before": 10, "after": 12}
    ]


def test_runs_at_the_new_size() -> None:
    _, student = student_of("both")
    running = ort.InferenceSession(student.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = running.run(None, {"images": np.ones((2, 3, 8, 8), np.float32)})
    assert y.shape == (2, 15)
