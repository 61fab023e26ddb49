"""Pairs that differ at some sizes only: a proof must say at which, and be right there."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnx_net2net.verification.verdict import Claim
from onnx_net2net.verification.verify import verify
from support.same_function import session
from support.size_pairs import PAIRS, built, chained

SIZES = (1, 2, 7, 8, 9, 13, 16, 19, 20, 21, 22, 29, 30, 31, 32, 40, 63)


def outputs(model: onnx.ModelProto, size: int, batch: int) -> list[np.ndarray] | None:
    x = np.random.default_rng(size).standard_normal((batch, size, 4)).astype(np.float32)
    try:
        return session(model).run(None, {"x": x})
    except Exception:
        return None


def agree(a: onnx.ModelProto, b: onnx.ModelProto, size: int, batch: int = 3) -> bool | None:
    want, got = outputs(a, size, batch), outputs(b, size, batch)
    if want is None:
        return None
    if got is None or want[0].shape != got[0].shape:
        return False
    return bool(np.allclose(want[0], got[0], atol=1e-4))


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_what_differs_at_some_sizes_is_not_proved_for_all(name: str) -> None:
    _, v, w = PAIRS[name]
    a, b = built(name, v), built(name, w)
    seen = {size: agree(a, b, size) for size in SIZES}
    assert False in seen.values(), f"no pair: {seen}"
    verdict = verify(a, b, layers="certificate")
    assert not verdict, f"{verdict}\n{seen}"
    proof = verdict.layer("certificate")
    if verdict.claim is Claim.FOR_SIZES and proof is not None and proof.covered is not None:
        for size, same in seen.items():
            here = {"S": (size, size), "B": (3, 3)}
            assert same is not False or not proof.covered.accepted(here), (size, str(proof.covered))


@pytest.mark.parametrize("seed", range(30))
def test_one_behind_another(seed: int) -> None:
    """Random chains; where a run shows a difference, no proof may cover its sizes."""
    rng = np.random.default_rng(seed)
    names = sorted(PAIRS)
    while True:
        first, second = (names[k] for k in rng.integers(0, len(names), 2))
        before = outputs(built(first, PAIRS[first][1]), 9, 3)
        if before is not None and before[0].ndim == 3 and before[0].shape[::2] == (3, 4):
            break
    (_, a, b), (_, c, d) = PAIRS[first], PAIRS[second]
    other = [(b, c), (a, d), (b, d)][int(rng.integers(3))]
    one, two = chained(first, second, (a, c)), chained(first, second, other)
    seen = {size: agree(one, two, size) for size in SIZES}
    verdict = verify(one, two, layers="certificate")
    proof = verdict.layer("certificate")
    assert proof is not None
    if verdict.claim is Claim.PROVED:
        assert False not in seen.values(), (first, second, other, seen)
    elif verdict.claim is Claim.FOR_SIZES and proof.covered is not None:
        for size, same in seen.items():
            here = {"S": (size, size), "B": (3, 3)}
            assert same is not False or not proof.covered.accepted(here), (size, str(proof.covered))


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_what_does_the_same_is_proved_for_every_size(name: str) -> None:
    _, v, w = PAIRS[name]
    for variant in (v, w):
        model = built(name, variant)
        verdict = verify(model, built(name, variant), layers="certificate")
        assert verdict.claim is Claim.PROVED, f"{variant}: {verdict}"
