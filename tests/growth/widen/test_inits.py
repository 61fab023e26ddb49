"""New units: copies, fresh ones, twins, and the paper's baselines that do not preserve."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnx_net2net as n2n
from graph_builder import Net
from onnx_net2net.errors import Reason, RefusalError
from onnx_net2net.files.patch import apply
from onnx_net2net.files.reader import read
from onnx_net2net.growth.widen.scheme import INITS, Scheme
from onnx_net2net.growth.widen.shares import SPLITS
from onnx_net2net.growth.widen.step import widen_step
from onnx_net2net.growth.widen.units import Row
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.plans.plan import Plan, plan
from onnx_net2net.typing import Array
from support.command_line import Workplace, call, work
from support.same_function import MODELS, NAMES, Teacher, teacher

__all__ = ["work"]  # a fixture
EXACT: list[dict[str, Any]] = [{"split": s} for s in SPLITS]
EXACT += [{"init": i} for i in ("fresh", "twin")]
DIGITS = str(MODELS / "digits_cnn.onnx")


def names(how: dict[str, Any]) -> str:
    return "-".join(str(v) for v in how.values()) or "default"


def student(model: Any, node: str, **how: Any) -> onnx.ModelProto:
    size: dict[str, Any] = {} if "width" in how else {"ratio": 1.5}
    made = n2n.widen(model, node=node, verify="off", **{**size, **how})
    assert isinstance(made, onnx.ModelProto)
    return made


def all_spaces(name: str) -> list[str]:
    return [s.name for s in n2n.inspect(MODELS / f"{name}.onnx").spaces]


def arrays(model: onnx.ModelProto) -> dict[str, Array]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


@pytest.mark.parametrize("init", ["fresh", "twin"])
@pytest.mark.parametrize("name", NAMES)
def test_the_certificate_proves_every_space(name: str, init: str) -> None:
    analysis, refused = Analysis(read(str(MODELS / f"{name}.onnx"))), set()
    for space in all_spaces(name):
        try:
            step = widen_step(analysis, space=space, ratio=1.4, seed=3, init=init)
        except RefusalError as why:
            refused.add(why.reason)
            continue
        grown = apply(analysis.source, step.patch).to_proto()
        verdict = n2n.verify(teacher(name).model, grown, layers="certificate")
        assert verdict, f"{space}: {verdict}"
        assert verdict.figures["certificate.rounding"] == 0
    assert refused <= {Reason.ROW_KIND.value, Reason.MISALIGNED.value}


@pytest.mark.parametrize("how", EXACT, ids=names)
@pytest.mark.parametrize(
    ("name", "node"),
    [("cnn_float16", "conv1"), ("cnn_bfloat16", "conv1"), ("mlp_float64", "fc1"),
     ("residual_stage", "stem"), ("conv_grouped", "mix"), ("conv_depthwise", "expand"),
     ("dense_block", "conv0")],
)  # fmt: skip
def test_exact_in_every_type(name: str, node: str, how: dict[str, Any]) -> None:
    model = onnx.load(MODELS / f"{name}.onnx")
    grown = student(model, node, **how)
    verdict = n2n.verify(model, grown)
    assert verdict, str(verdict)
    assert verdict.figures["certificate.rounding"] == 0
    assert teacher(name).deviation(grown) <= (1e-12 if name == "mlp_float64" else 2e-6)


@pytest.mark.parametrize("name", ["digits_cnn", "mlp_gemm", "residual_stage"])
def test_fresh_units_change_no_bit(name: str) -> None:
    analysis = Analysis(read(str(MODELS / f"{name}.onnx")))
    for space in all_spaces(name):
        step = widen_step(analysis, space=space, ratio=1.5, init="fresh")
        grown = apply(analysis.source, step.patch).to_proto()
        assert teacher(name).deviation(grown) == 0.0, space


def lstm() -> onnx.ModelProto:
    """Two recurrent layers, one behind the other, and a linear one."""
    net = Net("lstm", opset=18)
    y = net.input("x", 5, 2, 4)
    for k, (units, inside) in enumerate(((6, 4), (8, 6))):
        w = net.weight(f"w{k}", 1, 4 * units, inside, fan_in=inside)
        r = net.weight(f"r{k}", 1, 4 * units, units, fan_in=units)
        b = net.draw(f"b{k}", 1, 8 * units)
        y = net.op("LSTM", y, w, r, b, n=3, at=f"lstm{k}", hidden_size=units)[0]
        y = net.op("Squeeze", y, net.const(f"one{k}", [1]))
    y = net.op("MatMul", y, net.weight("v", 8, 3, fan_in=8), at="out")
    return net.output("y", y, 5, 2, 3).model()


@pytest.mark.parametrize("how", EXACT, ids=names)
@pytest.mark.parametrize("node", ["lstm0", "lstm1"])
def test_recurrent_layers(node: str, how: dict[str, Any]) -> None:
    model = lstm()
    grown = student(model, node, width=12, **how)
    assert Teacher(model).deviation(grown) <= 2e-6
    assert n2n.verify(model, grown), how


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("how", [*EXACT, {"init": "random-pad"}], ids=names)
def test_quantised_weights(how: dict[str, Any], dtype: str) -> None:
    net, rng = Net("quantised", opset=18), np.random.default_rng(0)
    y, zero = net.input("x", "N", 6), 0 if dtype == "int8" else 120
    info = np.iinfo(dtype)
    for k, shape in enumerate(((6, 8), (8, 3))):
        w = np.clip(rng.normal(zero, 40, shape), info.min, info.max)
        parts = [net.const(f"w{k}", w, dtype), net.const(f"scale{k}", 0.01, np.float32),
                 net.const(f"zero{k}", zero, dtype)]  # fmt: skip
        y = net.op("MatMul", y, net.op("DequantizeLinear", *parts), at=f"fc{k}")
        y = net.op("Relu", y) if k == 0 else y
    model = net.output("y", y, "N", 3).model()
    grown = student(model, "fc0", width=14, **how)
    verdict = n2n.verify(model, grown)
    assert verdict.equivalent is ("random-pad" not in how.values()), str(verdict)
    assert arrays(grown)["w0"].std() > 20


def test_twins_are_equal_in_and_opposite_out() -> None:
    before, after = (
        arrays(onnx.load(DIGITS)),
        arrays(student(DIGITS, "conv1", width=22, init="twin")),
    )
    new = after["conv1.weight"][16:]
    np.testing.assert_array_equal(new[::2], new[1::2])
    assert len(np.unique(new, axis=0)) == 3
    assert not np.isin(new, before["conv1.weight"]).any()
    out = after["conv2.weight"][:, 16:]
    np.testing.assert_array_equal(out[:, ::2], -out[:, 1::2])
    assert (out != 0).all()
    np.testing.assert_array_equal(after["conv2.weight"][:, :16], before["conv2.weight"])
    for name in ("bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"):
        np.testing.assert_array_equal(after[name][16::2], after[name][17::2])


def test_twins_that_do_not_cancel_are_seen() -> None:
    grown = student(DIGITS, "conv1", width=18, init="twin")
    for tensor in grown.graph.initializer:
        if tensor.name == "conv1.weight":
            array = numpy_helper.to_array(tensor).copy()
            array[17, 0, 1, 1] *= 1.25
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    assert n2n.verify(DIGITS, grown).equivalent is False
    assert n2n.verify(DIGITS, grown, layers="certificate").equivalent is not True


def test_twins_come_in_pairs() -> None:
    with pytest.raises(ValueError, match=r"cannot get width 21; the nearest are 20 or 22 \(twins"):
        n2n.widen(DIGITS, node="conv1", width=21, init="twin")
    made = plan(DIGITS, [{"node": "conv1", "ratio": 1.2, "init": "twin"}])
    assert made.steps[0].width == (16, 20)
    assert set(made.steps[0].units.kind) == {Row.TWIN}


def test_a_product_of_two_operands_takes_twins_and_no_fresh_units() -> None:
    """The width of queries and keys: only a Mul in front can tell copies apart."""
    model = str(MODELS / "transformer_block.onnx")
    grown = student(model, "q", ratio=2, init="twin")
    assert n2n.verify(model, grown)
    with pytest.raises(RefusalError, match="could never train") as caught:
        n2n.widen(model, node="q", ratio=2, init="fresh")
    assert "twin" in caught.value.hint


@pytest.mark.parametrize("init", ["fresh", "twin"])
def test_norms_over_the_width_refuse_random_units(init: str) -> None:
    with pytest.raises(RefusalError, match="random rows do not pass LayerNorm") as caught:
        n2n.widen(MODELS / "transformer_block.onnx", node="embed", ratio=2, init=init)
    assert "replicate" in caught.value.hint
    grown = student(MODELS / "transformer_block.onnx", "embed", ratio=2, init="random-pad")
    assert teacher("transformer_block").deviation(grown) > 1e-3


# What does not preserve


@pytest.mark.parametrize("how", [{"init": "random-pad"}, {"noise": 0.05}], ids=names)
def test_declared_not_to_preserve(work: Workplace, how: dict[str, Any]) -> None:
    work.bring("digits_cnn")
    (option, value), out = next(iter(how.items())), "student.onnx"
    found = call("widen", "digits_cnn.onnx", "--node", "conv1", "--width", "24",
                 f"--{option}", str(value), "-o", out)  # fmt: skip
    assert found.code == 0
    assert "does not compute the teacher's function" in found.err
    assert str(value) in found.err
    assert str(value) in found.out
    marks = {p.key: p.value for p in onnx.load(out).metadata_props}
    assert marks["onnx_net2net.preserving"] == "false"
    assert call("verify", "digits_cnn.onnx", out).code == 1
    made = plan(DIGITS, [{"node": "conv1", "width": 24, **how}])
    assert (made.preserving, len(made.warnings)) == (False, 1)
    assert made.check() is None


@pytest.mark.parametrize("how", [{"init": "random-pad"}, {"noise": 0.05}], ids=names)
def test_declared_not_to_preserve_everywhere(how: dict[str, Any]) -> None:
    made = plan(DIGITS, "everywhere", **how)
    grown = made.apply()
    assert isinstance(grown, onnx.ModelProto)
    assert [p.value for p in grown.metadata_props if "preserving" in p.key] == ["false"]
    assert (made.preserving, len(made.warnings)) == (False, 1)
    assert teacher("digits_cnn").deviation(grown) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_random_pad_is_built_as_copies_are(name: str) -> None:
    analysis = Analysis(read(str(MODELS / f"{name}.onnx")))
    moved = []
    for space in all_spaces(name):
        how: dict[str, Any] = {"space": space, "ratio": 1.4, "seed": 3}
        try:
            copies = widen_step(analysis, **how)
        except RefusalError:
            continue
        pad = widen_step(analysis, init="random-pad", **how)
        assert copies.tensors == pad.tensors
        assert pad.inserted == 0
        moved.append(teacher(name).deviation(apply(analysis.source, pad.patch).to_proto()))
    assert max(moved) > 1e-3  # a unit may be dead behind its ReLU


def test_random_pad_keeps_the_teachers_weights() -> None:
    before = arrays(onnx.load(DIGITS))
    after = arrays(student(DIGITS, "conv2", width=48, init="random-pad"))
    for name, dim in (("conv2.weight", 0), ("conv3.weight", 1)):
        kept, new = np.split(after[name], [24], axis=dim)
        np.testing.assert_array_equal(kept, before[name])
        assert abs(new.std() / before[name].std() - 1) < 0.1


def test_noise_is_on_the_copies_alone_and_has_its_size() -> None:
    plain = arrays(student(DIGITS, "conv2", width=48))
    noisy = arrays(student(DIGITS, "conv2", width=48, noise=0.05))
    differ = {n for n in plain if not np.array_equal(plain[n], noisy[n])}
    assert differ == {"conv2.weight", "layer1.0.conv2.weight"}  # they share one width
    step = noisy["conv2.weight"] - plain["conv2.weight"]
    assert not step[:24].any()
    teachers = arrays(onnx.load(DIGITS))["conv2.weight"]
    assert abs(step[24:].std() / (0.05 * teachers.std()) - 1) < 0.05


def test_no_noise_is_no_noise() -> None:
    plain, none = (plan(DIGITS, [{"node": "conv1", "width": 24, **h}]) for h in ({}, {"noise": 0}))
    assert none.preserving
    assert serialised(plain) == serialised(none)


def serialised(made: Plan) -> bytes:
    found = made.apply(verify="off")
    assert isinstance(found, onnx.ModelProto)
    return found.SerializeToString(deterministic=True)


@pytest.mark.parametrize("init", ["fresh", "twin"])
def test_everywhere(init: str) -> None:
    made = plan(DIGITS, "everywhere", init=init, ratio=1.5)
    grown = made.apply()
    assert isinstance(grown, onnx.ModelProto)
    assert made.preserving
    assert len(made.changes) > 10
    assert teacher("digits_cnn").deviation(grown) <= 2e-6


# Seeds


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"init": "fresh"}, "a435577d2458"), ({"init": "twin"}, "051f7d17e7ec"),
        ({"init": "random-pad"}, "7158a823a45c"), ({"split": "uneven"}, "4625537a3fc8"),
        ({"noise": 0.01}, "bcf88fcf82b3"),
    ],
    ids=lambda v: names(v) if isinstance(v, dict) else "",
)  # fmt: skip
def test_same_seed_same_bytes(how: dict[str, Any], expected: str) -> None:
    """A change of these digests breaks the promise that users' seeds make the same students."""

    def digest(seed: int) -> str:
        made = plan(DIGITS, [{"node": "conv1", "width": 24, **how}], seed=seed)
        weights = [t.SerializeToString() for t in made.pieces.to_proto().graph.initializer]
        return hashlib.sha256(b"".join(weights)).hexdigest()[:12]

    assert digest(0) == digest(0) == expected
    assert digest(1) != expected


# Arguments


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"init": "fresch"}, "unknown init 'fresch'; choose one of replicate, fresh, twin"),
        ({"split": "odd"}, "unknown split 'odd'; choose one of zero-sum, even, one-hot, uneven"),
        ({"init": "fresh", "split": "even"}, "makes no copies; leave the split out"),
        ({"init": "twin", "noise": 0.1}, "makes no copies; leave the noise out"),
        ({"init": "random-pad", "noise": 0.1}, "makes no copies; leave the noise out"),
        ({"init": "fresh", "mapping": "balanced"}, "makes no copies; leave the mapping out"),
        ({"init": "twin", "mapping": [0] * 8}, "makes no copies; leave the mapping out"),
        *(({"noise": n}, "give 0 or more") for n in (-1, float("nan"), float("inf"), "1", True)),
    ],
)
def test_arguments_that_do_not_go_together(how: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        n2n.widen(DIGITS, node="conv1", width=24, **how)


@pytest.mark.parametrize(
    "options",
    ["--init fresh --split zero-sum", "--init twin --mapping random", "--init fresh --noise 0",
     "--init random-pad --noise 0.1", "--paper --init fresh", "--noise -1", "--noise nan",
     "--init zero"],
)  # fmt: skip
def test_options_that_do_not_go_together(work: Workplace, options: str) -> None:
    work.bring("digits_cnn")
    line = ["widen", "digits_cnn.onnx", "--node", "conv1", "--width", "24", *options.split()]
    assert call(*line).code == 2
    assert set(work.files()) == {"digits_cnn.onnx"}


def test_the_paper_with_noise(work: Workplace) -> None:
    work.bring("digits_cnn")
    line = ["widen", "digits_cnn.onnx", "--node", "conv1", "--width", "24", "--paper"]
    assert "stay equal" in call(*line, "--plan").err
    assert "stay equal" not in call(*line, "--noise", "0.01", "--plan").err


def test_every_init_is_offered_and_said() -> None:
    for init in INITS:
        said = Scheme(init=init).said
        assert bool(said) == (init != "replicate")


# Training: a linear layer, ReLU, a linear layer, in numpy


@cache
def small() -> onnx.ModelProto:
    net = Net("small", opset=18)
    y = net.op("Relu", net.gemm(net.input("x", "N", 6), "a", 6, 8))
    return net.output("y", net.gemm(y, "b", 8, 3), "N", 3).model()


class Trained:
    """The model above in float64 under SGD or Adam; `steps` of the mean squared error."""

    def __init__(self, model: onnx.ModelProto, adam: bool = False) -> None:
        found = arrays(model)
        order = ("a.weight", "a.bias", "b.weight", "b.bias")
        self.p = [found[n].astype(np.float64) for n in order]
        self.adam = [(np.zeros_like(p), np.zeros_like(p)) for p in self.p] if adam else None
        rng = np.random.default_rng(0)
        self.x, self.wanted = rng.standard_normal((64, 6)), rng.standard_normal((64, 3))
        self.count = 0

    def gradients(self) -> list[Array]:
        w, b, v, c = self.p
        z = self.x @ w.T + b
        h = np.maximum(z, 0)
        out = 2 * (h @ v.T + c - self.wanted) / len(self.x)
        inner = (out @ v) * (z > 0)
        return [inner.T @ self.x, inner.sum(0), out.T @ h, out.sum(0)]

    def steps(self, n: int, rate: float = 0.05) -> Trained:
        for _ in range(n):
            self.count += 1
            for k, g in enumerate(self.gradients()):
                step = g
                if self.adam is not None:
                    m, v = self.adam[k]
                    m[:], v[:] = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
                    step = m / (1 - 0.9**self.count)
                    step = step / (np.sqrt(v / (1 - 0.999**self.count)) + 1e-8) * 0.1
                self.p[k] = self.p[k] - rate * step
        return self


def reached(model: onnx.ModelProto) -> tuple[bool, bool]:
    """Whether the new units' incoming and outgoing weights get gradients within two steps."""
    run, rows, columns = Trained(model), False, False
    for _ in range(2):
        g = run.gradients()
        rows |= bool(g[0][8:].any(1).all())
        columns |= bool(g[2][:, 8:].any(0).all())
        run.steps(1)
    return rows, columns


@pytest.mark.parametrize("how", EXACT, ids=names)
@pytest.mark.parametrize("seed", range(3))
def test_no_exact_init_is_dead(how: dict[str, Any], seed: int) -> None:
    assert reached(student(small(), "a", width=14, seed=seed, **how)) == (True, True)


def test_units_that_are_zero_in_and_out_are_dead() -> None:
    """Why zero rows are not offered; and the test above can fail."""
    step = widen_step(Analysis(read(small())), node="a", width=14, rows=Row.ZERO)
    assert reached(apply(read(small()), step.patch).to_proto()) == (False, False)


def test_twins_get_both_gradients_at_once() -> None:
    g = Trained(student(small(), "a", width=14, init="twin")).gradients()
    assert g[0][8:].any(1).all()
    assert g[2][:, 8:].any(0).all()
    g = Trained(student(small(), "a", width=14, init="fresh")).gradients()
    assert not g[0][8:].any()


def apart(adam: bool, steps: int = 200, **how: Any) -> float:
    """How far copies are from their sources after training, relative to these."""
    made = plan(small(), [{"node": "a", "width": 14, **how}])
    found = made.apply(verify="off")
    assert isinstance(found, onnx.ModelProto)
    of = made.steps[0].units.source
    w = Trained(found, adam).steps(steps).p[0]
    return float(np.linalg.norm(w[8:] - w[of]) / np.linalg.norm(w[of]))


@pytest.mark.parametrize("adam", [False, True])
def test_even_copies_stay_equal_and_others_part(adam: bool) -> None:
    assert apart(adam, split="even", mapping=[0, 1, 2, 3, 4, 5]) < 1e-12
    assert apart(adam, split="even") < 1e-5  # one of three shares differs by an ulp
    assert apart(adam, split="zero-sum") > 0.1
    assert apart(adam, split="one-hot") > 0.1
    assert apart(adam, split="even", noise=0.05) > 0.01
    assert apart(adam, split="uneven") > 0.01


def test_adam_hardly_sees_uneven_shares() -> None:
    """It divides each gradient by its size, so a share that scales it makes no difference."""
    assert apart(True, 1, split="uneven") < 1e-4 * apart(True, 1, split="zero-sum")
    assert apart(False, 1, split="uneven") > 0.1 * apart(False, 1, split="zero-sum")
