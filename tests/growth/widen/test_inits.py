"""New units that preserve: copies, fresh ones, twins."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnx_net2net as n2n
from onnx_net2net.errors import Reason, RefusalError
from onnx_net2net.files.patch import apply
from onnx_net2net.files.reader import read
from onnx_net2net.growth.widen.inits import INITS
from onnx_net2net.growth.widen.scheme import Scheme
from onnx_net2net.growth.widen.step import widen_step
from onnx_net2net.growth.widen.units import Row
from onnx_net2net.growth.widen.verb import Widen
from onnx_net2net.inference.analysis import Analysis
from onnx_net2net.plans.plan import plan
from support.command_line import Workplace, call, work
from support.new_units import DIGITS, EXACT, all_spaces, arrays, names, student
from support.same_function import MODELS, NAMES, Teacher, teacher
from tools.samples.graph_builder import Net

__all__ = ["work"]  # a fixture


@pytest.mark.parametrize("init", ["fresh", "twin"])
@pytest.mark.parametrize("name", NAMES)
def test_the_certificate_proves_every_space(name: str, init: str) -> None:
    analysis, refused = Analysis(read(str(MODELS / f"{name}.onnx"))), set()
    for space in all_spaces(name):
        try:
            step = widen_step(analysis, Widen(space=space, ratio=1.4, seed=3, init=init))
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
        step = widen_step(analysis, Widen(space=space, ratio=1.5, init="fresh"))
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
        *(({"noise": n}, "give 0 or more") for n in (-1, float("nan"), float("inf"))),
        *(({"noise": n}, "'noise' must be a number") for n in ("1", True)),
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
