"""Operators that a user teaches: from refused, over the notation, to a verified student."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import onnx_net2net as n2n
from onnx_net2net.operators.notation import REGISTERED
from onnx_net2net.operators.registration import forget
from onnx_net2net.operators.table import TABLE
from support.command_line import Workplace, call, work
from support.custom_models import DOMAIN, between_convolutions, initializer

__all__ = ["work"]  # a fixture


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave the table as it was."""
    yield
    forget(*REGISTERED)


def group_norm(x: np.ndarray, s: np.ndarray, groups: int = 1, **_: Any) -> np.ndarray:
    g = x.reshape(len(x), groups, -1)
    g = (g - g.mean(2, keepdims=True)) / np.sqrt(g.var(2, keepdims=True) + 1e-5)
    return g.reshape(x.shape) * s[:, None, None]


def grouped_product(x: np.ndarray, w: np.ndarray, groups: int = 1, **_: Any) -> np.ndarray:
    parts = zip(np.split(x, groups, 1), np.split(w, groups), strict=True)
    return np.concatenate([np.einsum("nihw,oi->nohw", a, b) for a, b in parts], 1)


FORMS: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]] = {
    "scale": (
        lambda x, s: x * s[:, None, None],
        {"notation": "n c *, c -> n c *"},
        {},
    ),
    "clipped": (  # two parameters and something across the image
        lambda x, lo, hi: np.minimum(x - x.mean((2, 3), keepdims=True), hi[:, None, None]) + lo,
        {"notation": "n c *, 1, c -> n c *"},
        {"weights": {"lo": (1,), "hi": (6,)}},
    ),
    "grouped scale": (
        lambda x, s, groups: x * s[:, None, None] / groups,
        {"notation": "n (g c) *, (g c) -> n (g c) *", "sizes": {"g": "groups"}},
        {"groups": 3},
    ),
    "layer norm": (
        group_norm,
        {"notation": "n c *, c -> n c *", "roles": {"c": "mean"}},
        {},
    ),
    "group norm": (
        group_norm,
        {
            "notation": "n (g c) *, (g c) -> n (g c) *",
            "sizes": {"g": "groups"},
            "roles": {"c": "mean"},
        },
        {"groups": 2},
    ),
    "product": (
        lambda x, w, b: np.maximum(np.einsum("nihw,oi->nohw", x, w) + b[:, None, None], 0),
        {"notation": "n i *, o i, o -> n o *"},
        {"weights": {"w": (6, 6), "v": (6,)}},
    ),
    "grouped product": (
        grouped_product,
        {"notation": "n (g i) *, (g o) i -> n (g o) *", "sizes": {"g": "groups"}},
        {"weights": {"w": (6, 3)}, "groups": 2},
    ),
    "broadcast": (
        lambda x, s: x + s,
        {"notation": "..., ... -> ..."},
        {"weights": {"s": (6, 1, 1)}},
    ),
    "largest": (
        lambda x, s: (x * s[:, None, None]).max(1, keepdims=True) + np.zeros((1, 6, 1, 1), "f"),
        {"notation": "n c *, c -> n 1 *", "roles": {"c": "max"}},
        {"narrow": True},
    ),
    "average": (
        lambda x, s: (x * s[:, None, None]).mean(1, keepdims=True),
        {"notation": "n c *, c -> n 1 *", "roles": {"c": "mean"}},
        {"narrow": True},
    ),
}


def model_of(form: str) -> tuple[onnx.ModelProto, type[OpRun]]:
    """A model with the operator, and what computes it."""
    function, _, options = FORMS[form]
    options = dict(options)
    narrow = options.pop("narrow", False)
    model = between_convolutions("Op", options.pop("weights", None), **options)
    if narrow:
        w2 = initializer(model, "w2")
        w2.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(w2)[:, :1].copy(), "w2"))

    class Op(OpRun):
        op_domain = DOMAIN

        def _run(self, *arrays: np.ndarray, **attributes: Any) -> tuple[np.ndarray]:
            known = {k: v for k, v in attributes.items() if k == "groups"}
            y = np.asarray(function(*arrays, **known), np.float32)
            return (y[:, :1] if narrow else y,)

    return model, Op


def run(model: onnx.ModelProto, op: type[OpRun]) -> np.ndarray:
    x = np.random.default_rng(1).standard_normal((2, 3, 12, 12)).astype(np.float32)
    return np.asarray(ReferenceEvaluator(model, new_ops=[op]).run(None, {"x": x})[0])


@pytest.mark.parametrize("form", FORMS)
def test_grows_and_is_proved(form: str) -> None:
    model, op = model_of(form)
    n2n.register_operator(DOMAIN, "Op", **FORMS[form][1])
    student = n2n.widen(model, node="conv1", ratio=1.5)
    assert initializer(student, "w1").dims[0] >= 9
    verdict = n2n.verify(model, student)
    assert verdict.decided_by == "certificate"
    assert verdict.layer("runtime").status.value == "skipped"
    np.testing.assert_allclose(run(student, op), run(model, op), rtol=2e-4, atol=2e-5)
    forget(f"{DOMAIN}.Op")
    assert n2n.verify(model, student).equivalent is None


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_not_proved(form: str) -> None:
    """A parameter that is swapped or changed never passes the certificate."""
    model, op = model_of(form)
    n2n.register_operator(DOMAIN, "Op", **FORMS[form][1])
    student = n2n.widen(model, node="conv1", ratio=1.5)
    name = model.graph.node[2].input[-1]
    for how in ("swap", "change"):
        damaged = onnx.ModelProto.FromString(student.SerializeToString())
        tensor = initializer(damaged, name)
        array = numpy_helper.to_array(tensor).copy()
        if how == "swap":
            array[[0, 1]] = array[[1, 0]]
        else:
            array[0] *= 2
        tensor.CopyFrom(numpy_helper.from_array(array, name))
        assert not np.allclose(run(damaged, op), run(model, op), rtol=2e-4, atol=2e-5)
        assert not n2n.verify(model, damaged)


def test_swapped_groups_are_not_proved() -> None:
    """Which channels are averaged together matters, not only which there are."""
    model, op = model_of("group norm")
    n2n.register_operator(DOMAIN, "Op", **FORMS["group norm"][1])
    other = onnx.ModelProto.FromString(model.SerializeToString())
    order = [3, 1, 2, 0, 4, 5]
    for name, axis in (("w1", 0), ("b1", 0), ("s", 0), ("w2", 1)):
        tensor = initializer(other, name)
        array = np.take(numpy_helper.to_array(tensor), order, axis)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
    assert not np.allclose(run(other, op), run(model, op), rtol=1e-3)
    assert not n2n.verify(model, other)


def test_what_is_worked_across_keeps_its_order() -> None:
    n2n.register_operator(DOMAIN, "Scale", "n c *, c -> n c *", roles={"c": "across"})
    model = between_convolutions()
    with pytest.raises(n2n.RefusalError, match="works across"):
        n2n.widen(model, node="conv1", width=9)
    assert n2n.verify(model, model)
    other = onnx.ModelProto.FromString(model.SerializeToString())
    for name, axis in (("w1", 0), ("b1", 0), ("s", 0), ("w2", 1)):
        tensor = initializer(other, name)
        array = np.flip(numpy_helper.to_array(tensor), axis)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
    assert not n2n.verify(model, other)
    n2n.register_operator(DOMAIN, "Scale", "n c *, c -> n c *")
    assert n2n.verify(model, other)


def test_groups_follow_their_attribute() -> None:
    model, _ = model_of("grouped product")
    n2n.register_operator(DOMAIN, "Op", **FORMS["grouped product"][1])
    student = n2n.widen(model, node="custom", width=8)
    (groups,) = student.graph.node[2].attribute
    assert (groups.i, tuple(initializer(student, "w").dims)) == (2, (8, 3))


def test_several_outputs_have_shapes() -> None:
    model = between_convolutions(outputs=2)
    model.graph.node.append(onnx.helper.make_node("ReduceMean", ["c1"], ["z"], keepdims=0))
    z = onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [])
    model.graph.output.append(z)
    n2n.register_operator(DOMAIN, "Scale", "n c *, c -> n c *, n c")
    assert n2n.verify(model, n2n.widen(model, node="conv1", width=12)).decided_by == "certificate"


def test_declared_sizes_come_first() -> None:
    """The operator halves the image, which the notation cannot say."""
    model = between_convolutions()
    sizes = ["n", 6, 5, 5]
    info = onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, sizes)
    model.graph.value_info.append(info)
    n2n.register_operator(DOMAIN, "Scale", "n c *, c -> n c *")
    student = n2n.widen(model, node="conv1", width=9)
    (kept,) = student.graph.value_info
    assert [d.dim_value for d in kept.type.tensor_type.shape.dim] == [0, 9, 5, 5]


def test_zero_rows_pass_where_declared() -> None:
    from onnx_net2net.errors import RefusalError
    from onnx_net2net.files.patch import apply
    from onnx_net2net.files.reader import read
    from onnx_net2net.growth.widen.step import widen_step
    from onnx_net2net.growth.widen.units import Row
    from onnx_net2net.growth.widen.verb import Widen
    from onnx_net2net.inference.analysis import Analysis

    model = between_convolutions()
    for zero in (False, True):
        n2n.register_operator(DOMAIN, "Scale", "n c *, c -> n c *", zero=zero)
        analysis = Analysis(read(model))
        if not zero:
            with pytest.raises(RefusalError, match="zero rows do not pass"):
                widen_step(analysis, Widen(node="conv1", width=9), Row.ZERO)
            continue
        step = widen_step(analysis, Widen(node="conv1", width=9), Row.ZERO)
        student = apply(analysis.source, step.patch).to_proto()
        assert not numpy_helper.to_array(initializer(student, "s"))[6:].any()
        assert n2n.verify(model, student).decided_by == "certificate"


def test_without_a_row_only_what_it_touches_is_blocked() -> None:
    model = between_convolutions()
    report = n2n.inspect(model)
    (blocked,) = report.blocked
    assert (blocked.node, blocked.refusal.node) == ("conv1", "custom")
    assert "--operators FILE" in blocked.refusal.hint
    with pytest.raises(n2n.RefusalError, match=r"my\.domain\.Scale: n c \*, c -> n c \*"):
        n2n.widen(model, node="conv1", width=9)
    with pytest.raises(n2n.RefusalError, match="it lies behind 'custom'"):
        n2n.widen(model, node="conv2", width=9)


def test_a_row_is_of_one_domain() -> None:
    model = between_convolutions()
    n2n.register_operator("other.domain", "Scale", "n c *, c -> n c *")
    n2n.register_operator("my", "Scale", "n c *, c -> n c *")
    with pytest.raises(n2n.RefusalError, match="no rule for operator"):
        n2n.widen(model, node="conv1", width=9)
    model.graph.node[2].domain, model.graph.node[2].op_type = "my", "domain.Scale"
    model.opset_import.append(onnx.helper.make_opsetid("my", 1))
    n2n.register_operator(DOMAIN, "Scale", "n c *, c -> n c *")
    with pytest.raises(n2n.RefusalError, match="no rule for operator"):
        n2n.widen(model, node="conv1", width=9)


BAD: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "domain": (("", "Op", "c -> c"), {}, "the domain is ''; give a text"),
    "onnx": (("ai.onnx", "Op", "c -> c"), {}, "ONNX's own"),
    "dot": (("my", "domain.Op", "c -> c"), {}, "the domain and the operator apart"),
    "text": (("my", "Op", 3), {}, "the notation is 3; give a text"),
    "arrow": (("my", "Op", "n c"), {}, "has 0 '->'; expected one"),
    "arrows": (("my", "Op", "n -> c -> n"), {}, "has 2 '->'"),
    "sign": (("my", "Op", "n c; c -> n c"), {}, "unexpected ';'"),
    "open": (("my", "Op", "n (g c -> n"), {}, "unexpected '->'"),
    "unclosed": (("my", "Op", "n c -> n (g c"), {}, "'(' is not closed"),
    "nested": (("my", "Op", "n (g (h c)) -> n"), {}, "unexpected '('"),
    "single": (("my", "Op", "n (c) -> n"), {}, "needs two names"),
    "twice": (("my", "Op", "c c -> c"), {}, "has 'c' twice"),
    "stretches": (("my", "Op", "... * -> ..."), {}, "several of"),
    "made": (("my", "Op", "n c -> n d"), {}, "'d' is in the output alone"),
    "product": (("my", "Op", "n (g c) -> n (g c)"), {}, "the sizes of g and c in '(g c)' are open"),
    "role": (("my", "Op", "n c -> n c"), {"roles": {"d": "mean"}}, "'d' is no name"),
    "role kind": (("my", "Op", "n c -> n c"), {"roles": {"c": "median"}}, "expected 'mean' or"),
    "sum": (("my", "Op", "n c -> n c"), {"roles": {"c": "sum"}}, "in the output too"),
    "size": (("my", "Op", "n c -> n c"), {"sizes": {"d": "g"}}, "sizes: 'd' is no name"),
    "mapping": (("my", "Op", "n c -> n c"), {"roles": "mean"}, "roles is 'mean'; give a mapping"),
    "zero": (("my", "Op", "n c -> n c"), {"zero": 1}, "zero is 1; give true or false"),
    "ours": (("com.microsoft", "Gelu", "... -> ..."), {}, "has a row already"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_declarations(case: str) -> None:
    arguments, options, message = BAD[case]
    before = dict(TABLE)
    with pytest.raises(ValueError, match=re.escape(message)):
        n2n.register_operator(*arguments, **options)
    assert before == TABLE
    assert not REGISTERED


def test_registering_again_replaces() -> None:
    n2n.register_operator(DOMAIN, "Scale", "n c *, n c -> n c *")
    n2n.register_operator(DOMAIN, "Scale", "n c *, c -> n c *")
    assert n2n.widen(between_convolutions(), node="conv1", width=9)


WRONG = {
    "a list": ("- my.domain.Op\n", "ops.yaml:1: expected operators"),
    "empty": ("", "ops.yaml:1: expected operators"),
    "no notation": ("\nmy.domain.Op:\n  zero: true\n", "ops.yaml:2: 'my.domain.Op' has no"),
    "bad notation": ("# one\nmy.domain.Op: n c\n", "ops.yaml:2: notation 'n c' has 0 '->'"),
    "no domain": ("Op: n -> n\n", "ops.yaml:1: the domain is ''"),
    "unknown key": ("a.Op:\n  notation: n -> n\n  x: 1\n", "ops.yaml:3: unknown key 'x'"),
    "twice": ("a.Op: n -> n\na.Op: n -> n\n", "ops.yaml:2: 'a.Op' is given twice"),
    "key twice": ("a.Op:\n  zero: true\n  zero: true\n", "ops.yaml:3: 'zero' is given twice"),
    "alias": ("a.Op: * -> *\n", "ops.yaml:1: not YAML"),
    "zero": ("a.Op: {notation: n -> n, zero: maybe}\n", "'maybe' stands here; expected true or"),
    "roles": ("a.Op:\n  notation: n -> n\n  roles: [n]\n", "ops.yaml:3: ['n'] stands"),
    "a list of names": ("a.Op: [n, n]\n", "ops.yaml:1: ['n', 'n'] stands here"),
    "a tab": ("a.Op:\n\tnotation: n -> n\n", "ops.yaml:2: not YAML"),
}  # fmt: skip


class TestFile:
    GOOD = "my.domain.Scale: n c *, c -> n c *\n"

    @pytest.fixture
    def path(self, work: Workplace) -> str:
        onnx.save(between_convolutions(), "net.onnx")
        return "net.onnx"

    def test_every_command_that_analyses_takes_it(self, path: str) -> None:
        Path("ops.yaml").write_text(self.GOOD)
        ops = ("--operators", "ops.yaml")
        assert call("widen", path, "--node", "conv1", "--width", "9").code == 4
        assert call("widen", path, "--node", "conv1", "--width", "9", *ops).code == 0
        student = "net.widened.onnx"
        assert call("verify", path, student).code == 5
        assert call("verify", path, student, *ops).code == 0
        assert len(call("inspect", path, "--json").json["spaces"]) == 0
        assert len(call("inspect", path, "--json", *ops).json["spaces"]) == 1
        places = ("--after", "custom", "--kind", "linear")
        assert call("deepen", path, *places).code != 0
        assert call("deepen", path, *places, *ops).code == 0
        assert call("grow-kernel", path, "--node", "conv2", "--size", "5", *ops).code == 0
        assert not REGISTERED

    def test_long_form(self, path: str) -> None:
        text = "my.domain.Scale:\n  notation: n c *, c -> n c *\n  zero: true\n  roles: {c: mean}\n"
        Path("ops.yaml").write_text(text)
        found = call("inspect", path, "--json", "--operators", "ops.yaml").json["spaces"]
        assert found[0]["uniform"] == "custom"

    @pytest.mark.parametrize("case", WRONG)
    def test_errors_name_file_and_line(self, path: str, case: str) -> None:
        text, message = WRONG[case]
        Path("ops.yaml").write_text(text)
        found = call("inspect", path, "--operators", "ops.yaml")
        assert (found.code, found.out) == (2, "")
        assert message in found.err
        assert not REGISTERED

    def test_a_file_that_fails_leaves_nothing(self, path: str) -> None:
        Path("ops.yaml").write_text("a.One: n -> n\na.Two: n\n")
        assert call("inspect", path, "--operators", "ops.yaml").code == 2
        assert not REGISTERED

    @pytest.mark.parametrize("content", [None, b"\xff\xfe\xfa", b"[" * 5000])
    def test_unreadable(self, path: str, content: bytes | None) -> None:
        if content is not None:
            Path("ops.yaml").write_bytes(content)
        found = call("inspect", path, "--operators", "ops.yaml")
        assert found.code == 2
        assert "ops.yaml" in found.err
