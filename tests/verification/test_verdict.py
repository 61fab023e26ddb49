"""Which claim follows from what the layers say, and with which exit code."""

from __future__ import annotations

from typing import Any

import pytest

from onnx_net2net.inference.expressions import symbol
from onnx_net2net.inference.size_conditions import Condition, Covered
from onnx_net2net.verification.verdict import Claim, Layer, Status, Terms, Verdict, conclude


def layers(said: dict[str, str], **figures: Any) -> tuple[Layer, ...]:
    return tuple(Layer(n, Status(s), figures=figures.get(n, {})) for n, s in said.items())


@pytest.mark.parametrize(
    ("said", "claim", "by"),
    [
        ({"certificate": "passed"}, Claim.PROVED, "certificate"),
        ({"certificate": "passed", "runtime": "skipped"}, Claim.PROVED, "certificate"),
        ({"certificate": "passed", "runtime": "undecided"}, Claim.PROVED, "certificate"),
        ({"certificate": "passed", "runtime": "failed"}, Claim.DIFFERENT, "runtime"),
        ({"certificate": "failed", "runtime": "passed"}, Claim.DIFFERENT, "certificate"),
        ({"interface": "failed"}, Claim.DIFFERENT, "interface"),
        ({"certificate": "passed", "rounding": "passed"}, Claim.PROVED, "certificate"),
        ({"certificate": "passed", "rounding": "undecided"}, Claim.CANNOT_TELL, ""),
        ({"certificate": "undecided", "runtime": "passed"}, Claim.CANNOT_TELL, ""),
        ({"runtime": "passed", "sensitivity": "passed"}, Claim.AGREES, "runtime"),
        ({"runtime": "passed", "sensitivity": "undecided"}, Claim.CANNOT_TELL, ""),
        ({"runtime": "skipped", "sensitivity": "skipped"}, Claim.CANNOT_TELL, ""),
    ],
)
def test_conclusion(said: dict[str, str], claim: Claim, by: str) -> None:
    verdict = conclude(layers(said))
    assert (verdict.claim, verdict.decided_by) == (claim, by)
    assert verdict.exit_code == claim.exit_code
    assert bool(verdict) is (claim.exit_code == 0)
    assert str(verdict).startswith(f"{claim.value}: ")
    assert verdict.to_json()["claim"] == claim.value


def test_rounding_of_weights_is_named() -> None:
    found = conclude(layers({"certificate": "passed"}, certificate={"rounding": 1e-7}))
    assert (found.claim, found.exit_code) == (Claim.TO_ROUNDING, 0)


def test_a_claim_for_sizes_counts_only_where_these_are_all() -> None:
    short = Condition(512 - symbol("sequence"), ">=")
    proof = Layer("certificate", Status.PASSED, covered=Covered((frozenset([short]),)))
    found = conclude((proof,))
    assert (found.claim, found.equivalent, found.exit_code) == (Claim.FOR_SIZES, None, 5)
    assert str(found).startswith("proved for sequence <= 512: ")
    assert "--sizes" in str(found)
    assert found.to_json()["conditions"] == ["sequence <= 512"]
    found = conclude((proof,), Terms({"sequence": (1, 100)}))
    assert (found.claim, found.equivalent, found.exit_code) == (Claim.FOR_SIZES, True, 0)


def test_a_proof_may_be_required() -> None:
    said = layers({"certificate": "undecided", "runtime": "passed", "sensitivity": "passed"})
    assert conclude(said).exit_code == 0
    found = conclude(said, Terms(proof_required=True))
    assert (found.claim, found.exit_code) == (Claim.AGREES, 5)
    assert "a proof is required" in str(found)


def test_a_suspect_weight_may_do_less_than_a_run_shows() -> None:
    said = {"certificate": "undecided", "runtime": "passed", "sensitivity": "passed"}
    assert conclude(layers(said, certificate={"suspect": True})).claim is Claim.CANNOT_TELL


def test_a_run_that_contradicts_the_proof_is_called_a_bug() -> None:
    said = {"certificate": "passed", "runtime": "failed"}
    found = conclude(layers(said, runtime={"ruled_out": True}))
    assert found.exit_code == 1
    assert "please report" in " ".join(str(found).split())
    assert "report" not in str(conclude(layers(said)))  # beyond the sizes of the proof


def test_what_ran_nowhere_says_so_and_how_to_run_it() -> None:
    said = layers({"certificate": "passed", "runtime": "skipped"}, runtime={"hint": "use --shape"})
    assert "nothing was run" in str(conclude(said))
    assert "use --shape" in str(conclude(said))


def test_text_fits_in_80_columns() -> None:
    verdict = conclude((Layer("certificate", Status.UNDECIDED, "a reason that goes on " * 9, 1.5),))
    assert max(map(len, str(verdict).splitlines())) <= 80


def test_true_only_where_equivalent() -> None:
    assert not Verdict(Claim.CANNOT_TELL, None)
    assert not Verdict(Claim.DIFFERENT, False)
    assert Verdict(Claim.AGREES, True)
