"""What verification found: one result per layer, and the claim that follows from them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from onnx_net2net.inference.size_conditions import Covered, SizeInterval

SCHEMA = "onnx-net2net/verdict/1"
_WIDTH = 80


class Claim(str, Enum):
    """What a verdict claims of two models, and no more than that.

    >>> Claim("agrees on runs").exit_code, Claim.FOR_SIZES.exit_code
    (0, 5)
    """

    PROVED = "proved"
    TO_ROUNDING = "proved to rounding"
    FOR_SIZES = "proved for SIZES"
    AGREES = "agrees on runs"
    DIFFERENT = "different"
    CANNOT_TELL = "cannot tell"

    @property
    def meaning(self) -> str:
        """What the claim covers, in a few words."""
        return _MEANINGS[self]

    @property
    def exit_code(self) -> int:
        """The command line's, where the caller accepts no sizes and requires no proof."""
        if self is Claim.DIFFERENT:
            return 1
        return 5 if self in (Claim.FOR_SIZES, Claim.CANNOT_TELL) else 0


_MEANINGS = {
    Claim.PROVED: "the same function in exact arithmetic, for every input and size",
    Claim.TO_ROUNDING: "the same function but for a measured rounding of weights or operations",
    Claim.FOR_SIZES: "the same function, at these sizes",
    Claim.AGREES: "no proof; both agree on every run, and damage would have been seen",
    Claim.DIFFERENT: "not the same function",
    Claim.CANNOT_TELL: "neither a proof nor runs that tell",
}


class Status(str, Enum):
    """What one layer says."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Layer:
    """One check: what it says, why, and the figures that it measured.

    `covered`: the sizes at which what a proof says holds; None: all.
    """

    name: str
    status: Status
    detail: str = ""
    seconds: float = 0.0
    figures: Mapping[str, Any] = field(default_factory=dict)
    covered: Covered | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether teacher and student are the same function, and on what grounds.

    Attributes:
        claim: what is known.
        equivalent: True, False, or None where that was not decided: a claim for some sizes
            counts where the caller's `sizes` imply them, agreement on runs where the caller does
            not require a proof.
        layers: the checks in the order in which they ran.
        decided_by: the layer that decided; "" if none did.
        conditions: on sizes, under which the claim holds.
        remarks: what the reader should know or do.
        saved_inputs: the file with inputs on which the models differ, if one was written.
    """

    claim: Claim
    equivalent: bool | None
    layers: tuple[Layer, ...] = ()
    decided_by: str = ""
    conditions: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    saved_inputs: Path | None = None

    def __bool__(self) -> bool:
        return self.equivalent is True

    @property
    def exit_code(self) -> int:
        """What `verify` exits with: 0 equivalent, 1 different, 5 not decided."""
        return {True: 0, False: 1, None: 5}[self.equivalent]

    @property
    def figures(self) -> dict[str, Any]:
        """Everything that was measured, as `layer.figure`."""
        return {f"{y.name}.{k}": v for y in self.layers for k, v in y.figures.items()}

    def layer(self, name: str) -> Layer | None:
        """The layer of that name, None if it did not run."""
        return next((y for y in self.layers if y.name == name), None)

    def __str__(self) -> str:
        """The claim, a paragraph for each layer and the remarks, at most 80 columns wide."""
        claim = self.claim.value.replace("SIZES", ", ".join(self.conditions))
        lines = _wrapped("", f"{claim}: {self.claim.meaning}")
        for y in self.layers:
            text = f"{y.detail} [{y.seconds:.2f} s]" if y.seconds >= 0.005 else y.detail
            lines += _wrapped(f"  {y.name:<12} {y.status.value:<10}", text)
        for remark in self.remarks:
            lines += _wrapped("  ", remark)
        if self.saved_inputs:
            lines.append(f"  inputs that show the difference: {self.saved_inputs}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values, with a `schema` key."""
        return {
            "schema": SCHEMA,
            "claim": self.claim.value,
            "conditions": list(self.conditions),
            "equivalent": self.equivalent,
            "decided_by": self.decided_by or None,
            "remarks": list(self.remarks),
            "layers": [
                {
                    "name": y.name,
                    "status": y.status.value,
                    "detail": y.detail,
                    "seconds": round(y.seconds, 4),
                    "figures": dict(y.figures),
                }
                for y in self.layers
            ],
            "saved_inputs": str(self.saved_inputs) if self.saved_inputs else None,
        }


def _wrapped(start: str, text: str) -> list[str]:
    margin = " " * len(start) or "  "
    found = textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=margin)
    return found or [start.rstrip()]


@dataclass(frozen=True)
class Terms:
    """What the caller accepts: the sizes that he will use, and whether only a proof will do."""

    sizes: Mapping[str, SizeInterval] = field(default_factory=dict)
    proof_required: bool = False


def conclude(
    layers: tuple[Layer, ...], terms: Terms | None = None, saved: Path | None = None
) -> Verdict:
    """The verdict that follows from the layers.

    A difference that any layer is certain of beats every proof; then comes the proof; equal
    outputs count only where a damaged student would have been seen, and no weight is suspect.

    >>> conclude((Layer("certificate", Status.PASSED),)).claim.value
    'proved'
    >>> conclude((Layer("runtime", Status.PASSED),)).claim.value
    'cannot tell'
    """
    terms = terms or Terms()
    known = {y.name: y for y in layers}
    said = {name: y.status for name, y in known.items()}
    for name in ("interface", "runtime", "certificate"):
        if said.get(name) is Status.FAILED:
            return Verdict(Claim.DIFFERENT, False, layers, name, (), _contradiction(known), saved)
    proof = known.get("certificate")
    if proof is not None and proof.status is Status.PASSED:
        return _proved(proof, layers, terms.sizes)
    suspect = any(y.figures.get("suspect") for y in layers)
    if said.get("runtime") is said.get("sensitivity") is Status.PASSED and not suspect:
        if terms.proof_required:
            remarks = ("a proof is required, and there is none",)
            return Verdict(Claim.AGREES, None, layers, "runtime", (), remarks)
        return Verdict(Claim.AGREES, True, layers, "runtime")
    return Verdict(Claim.CANNOT_TELL, None, layers)


def _proved(proof: Layer, layers: tuple[Layer, ...], sizes: Mapping[str, SizeInterval]) -> Verdict:
    remarks = _ran_nowhere(layers)
    estimate = next((y.status for y in layers if y.name == "rounding"), Status.SKIPPED)
    if estimate is Status.SKIPPED and proof.figures.get("cancelled"):
        remarks = ("a weight is lost to rounding; only runs can tell what that does", *remarks)
        return Verdict(Claim.CANNOT_TELL, None, layers, "", (), remarks)
    if estimate is Status.UNDECIDED:
        return Verdict(Claim.CANNOT_TELL, None, layers, "", (), remarks)
    if proof.covered is not None and not proof.covered.every:
        granted = True if proof.covered.accepted(sizes) else None
        if not granted:
            remarks = ("--sizes says which of them you will use, and accepts the proof", *remarks)
        conditions = (str(proof.covered),)
        return Verdict(Claim.FOR_SIZES, granted, layers, proof.name, conditions, remarks)
    claim = Claim.TO_ROUNDING if proof.figures.get("rounding") else Claim.PROVED
    return Verdict(claim, True, layers, proof.name, (), remarks)


def _ran_nowhere(layers: tuple[Layer, ...]) -> tuple[str, ...]:
    runs = next((y for y in layers if y.name == "runtime"), None)
    if runs is None or runs.status is not Status.SKIPPED:
        return ()
    hint = runs.figures.get("hint")
    return ("nothing was run: this is the proof alone" + (f"; {hint}" if hint else ""),)


def _contradiction(known: Mapping[str, Layer]) -> tuple[str, ...]:
    """What to say where a run shows a difference that a proof rules out."""
    proof, runs = known.get("certificate"), known.get("runtime")
    if runs is None or runs.status is not Status.FAILED or not runs.figures.get("ruled_out"):
        return ()
    if proof is None or proof.status is not Status.PASSED:
        return ()
    return (
        "the proof, in exact arithmetic, says otherwise: either the student rounds where the "
        "teacher does not, or this is a bug; please report it with both models and the inputs",
    )
