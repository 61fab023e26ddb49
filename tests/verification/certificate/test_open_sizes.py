"""Pairs that differ at some sizes only: a proof must say at which, and be right there."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnx_net2net.verification.verdict import Claim
from onnx_net2net.verification.verify import verify
from support.same_function import session
from support.size_pairs import PAIRS, built

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


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_what_does_the_same_is_proved_for_every_size(name: str) -> None:
    _, v, w = PAIRS[name]
    for variant in (v, w):
        model = built(name, variant)
        verdict = verify(model, built(name, variant), layers="certificate")
        assert verdict.claim is Claim.PROVED, f"{variant}: {verdict}"
