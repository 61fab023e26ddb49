"""The operator table against execution: every row, every factor, every kind of row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import support.attention_cases
import support.fused_cases
import support.quantized_cases
import support.recurrent_cases  # noqa: F401
from onnx_net2net.errors import RefusalError
from onnx_net2net.graph.model import Node
from onnx_net2net.operators.spec import Block, Rule, Site, rule
from onnx_net2net.operators.table import TABLE
from support import movement_oracle
from support.movement_cases import MOVEMENTS
from support.operator_cases import CASES
from support.oracle import WrongError, check, check_shapes, execute
from support.references import REFERENCES
from support.single_node import Case, has_kernel

ALL = {op: CASES.get(op, []) + MOVEMENTS.get(op, []) for op in {**CASES, **MOVEMENTS}}


def test_every_row_has_a_case_and_every_case_a_row() -> None:
    # bodies and sequences need a model around them: see test_control_flow and test_sequences
    around = {op for op, row in TABLE.items() if row.ties is not None}
    around |= {op for op in TABLE if "Sequence" in op or "Optional" in op} - {"ReverseSequence"}
    assert set(ALL) == set(TABLE) - around
    moved = {op for op, row in TABLE.items() if row.movement is not None} - around
    assert set(MOVEMENTS) == moved


@pytest.mark.parametrize("op", sorted(CASES))
def test_row(op: str) -> None:
    assert sum(check(case) for case in CASES[op]) > 0 or not _claims(op)


def _claims(op: str) -> bool:
    return any(set(c.roles) & set("psmx") for c in CASES[op])


@pytest.mark.parametrize("op", sorted(MOVEMENTS))
def test_movement(op: str) -> None:
    for case in MOVEMENTS[op]:
        movement_oracle.check(case)


@pytest.mark.parametrize("op", sorted(ALL))
def test_shapes_and_folding(op: str) -> None:
    for case in ALL[op]:
        if op in MOVEMENTS or not case.refuses:
            check_shapes(case)


def test_most_rows_are_run_in_onnxruntime() -> None:
    cases = [c for op in ALL for c in ALL[op] if op in MOVEMENTS or not c.refuses]
    without = {c.op for c in cases if not has_kernel(c)}
    other = {"Relu", "Conv", "RNN", "GRU", "LSTM"}  # bfloat16, float64, batch first
    assert without - REFERENCES.keys() <= other | {"ImageDecoder", "SwiGLU"}  # onnx's reference


def test_a_row_needs_a_new_name() -> None:
    with pytest.raises(ValueError, match="has a row already"):
        rule("Conv")


# Rows made wrong on purpose: the oracle must fail on each.


def _fails(op: str, row: Rule, monkeypatch: pytest.MonkeyPatch, roles: bool = True) -> bool:
    """Whether the oracle shows that a row is wrong; by execution alone if not `roles`."""
    monkeypatch.setitem(TABLE, op, row)
    for case in (replace(c) for c in ALL[op]):
        try:
            fs = case.analysis.factors(case.node)
        except RefusalError:
            continue
        try:
            if row.movement:
                movement_oracle.check(case)
            elif roles and not case.refuses:
                check(case)
            else:
                execute(case, fs)
        except WrongError:
            return True
    return False


_OTHER = {
    "across": ("parallel",), "mean": ("parallel", "max"), "sum": ("parallel",),
    "max": ("sum", "mean"), "parallel": (),
}  # fmt: skip
_WRONG_ROLES = [
    (op, name, other)
    for op, row in sorted(TABLE.items())
    for name, role in row.roles.items()
    for other in _OTHER[role]
    if row.movement is None and name in "xrmc*" and (role, other) != ("max", "mean")
]


def _has_name(case: Case, name: str) -> bool:
    """Whether an operand of the case has an axis of that name."""
    return any(
        f.name.rstrip("0123456789") == name or f.name[0] == name
        for f in case.analysis.known_factors(case.node)
        if any(slot >= 0 for slot, _ in f.at)
    )


@pytest.mark.parametrize(("op", "name", "role"), _WRONG_ROLES)
def test_a_wrong_role_is_found(
    op: str, name: str, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not any(_has_name(case, name) for case in ALL[op]):
        pytest.skip("the name stands for a result's axis only, or for another operator's")
    row = replace(TABLE[op], roles={**TABLE[op].roles, name: role})
    assert _fails(op, row, monkeypatch, roles=False)


_EVENED = sorted(op for op, row in TABLE.items() if row.evens)


@pytest.mark.parametrize("op", _EVENED)
def test_copies_that_are_not_evened_out_are_found(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _fails(op, replace(TABLE[op], evens={}), monkeypatch, roles=False)


_NOTATIONS = [
    ("Softmax", "... -> ..."),
    ("LayerNormalization", "a b c, c, c -> a b c"),
    ("GroupNormalization", "n (g c) *, g, g -> n (g c) *"),
    ("GroupNormalization", "n (g c) *, (g c), (g c) -> n (g c) *"),
    ("Gemm", "m k, k n, m n -> m n"),
    ("Gemm", "m k, n k, m n -> m n"),
    ("Gemm", "k m, k n, m n -> m n"),
    ("Conv", "n (g i) *, (o g) i *, (g o) -> n (g o) *"),
    ("Conv", "n (i g) *, (g o) i *, (g o) -> n (g o) *"),
    ("Conv", "n (g i) *, (g o) i *, o -> n (g o) *"),
    ("Conv", "n i *, o i *, o -> n o *"),
    ("ConvTranspose", "n (g i) *, o (g i) *, (g o) -> n (g o) *"),
    ("BatchNormalization", "n c ..., c, c, c -> n c ..."),
    ("PRelu", "..., ~ -> ..."),
    ("MatMul", "... m k, ... n k -> ... m n"),
    ("DepthToSpace", "n (c p q) h w -> n c (h p) (w q)"),
    ("DepthToSpace", "n (p q c) h w -> n c (h p) (w q)"),
    ("SpaceToDepth", "n c (h p) (w q) -> n (c p q) h w"),
    ("ReduceSum", "... -> ..."),
    ("ScatterND", "x a b, ~ -> x a b"),
    ("Resize", "... -> ..."),
    ("RoiAlign", "x c *, r * -> r c *"),
    ("Trilu", "..., ~ -> ..."),
    ("LSTM", "s b i, d (q h) i, d (q h) k, d (t q h) -> s d b h, d b h"),
    ("GRU", "s b i, d (h q) i, d (h q) h, d (t h q) -> s d b h, d b h"),
    ("QLinearMatMul", "... m k, ~, ~, k n -> ... m n"),
    ("com.microsoft.MatMulNBits", "... (x k), n k y, n k -> ... n"),
    ("com.microsoft.MoE", "x m, y e, e (q f) m, e (q f), e m f, e m -> x m"),
    ("com.microsoft.GatedRMSNorm", "... (c h), c, ... (c h) -> ... (c h)"),
    ("com.microsoft.BiasSplitGelu", "n s (c q), (c q) -> n s c"),
    ("com.microsoft.Attention", "b x i, i (h y + h v + h y), (h y + h v + h y) -> b x (h v)"),
]


@pytest.mark.parametrize(("op", "notation"), _NOTATIONS)
def test_a_wrong_notation_is_found(op: str, notation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _fails(op, replace(TABLE[op], notation=notation), monkeypatch)


def _reversed_offsets(site: Site) -> Sequence[Block]:
    blocks = list(TABLE_CONCAT(site))
    if len(site.shapes) < 2:
        return blocks
    tables = [np.roll(b.table, len(b.table) // 2) if not b.aligned else b.table for b in blocks]
    return [replace(b, table=t) for b, t in zip(blocks, tables, strict=True)]


TABLE_CONCAT: Callable[[Site], Sequence[Block]] = TABLE["Concat"].movement  # type: ignore[assignment]


def _shifted(op: str) -> Callable[[Site], Sequence[Block]]:
    """Every position comes from its neighbour's source."""
    movement = TABLE[op].movement
    assert movement is not None
    return lambda s: [
        b if b.aligned else replace(b, table=np.roll(b.table, 1), contiguous=False)
        for b in movement(s)
    ]


_FIELDS: list[tuple[str, dict[str, Any]]] = [
    ("Conv", {"attributes": {}}),
    ("LSTM", {"attributes": {}}),
    ("GRU", {"divides": ()}),
    ("DequantizeLinear", {"notation": "..., ~, ~ -> ..."}),
    ("QLinearConv", {"offsets": {3: 7}}),
    ("Conv", {"sizes": lambda s: {"g": 1}}),
    ("GroupNormalization", {"attributes": {}}),
    ("DepthToSpace", {"sizes": lambda s: {"p": 1, "q": 1}}),
    ("Sigmoid", {"zero": ()}),
    ("Add", {"zero": ()}),
    ("Div", {"zero_keeps": ()}),
    ("BatchNormalization", {"zero": ()}),
    ("Clip", {"zero": ()}),
    ("Where", {"zero": (1,)}),
    ("Log", {"partial": ()}),
    ("Div", {"partial": ()}),
    ("Pow", {"partial": ()}),
    ("Concat", {"movement": _reversed_offsets}),
    *((op, {"movement": _shifted(op)}) for op in sorted(MOVEMENTS) if op != "ConstantOfShape"),
    *((op, {"slots": ()}) for op in sorted(MOVEMENTS) if TABLE[op].slots),
    ("Slice", {"slots": TABLE["Slice"].slots[:1]}),
    ("Slice", {"slots": TABLE["Slice"].slots[1:]}),
    ("Attention", {"pins": {}}),
    ("Attention", {"attributes": {}}),
    ("com.microsoft.MultiHeadAttention", {"pins": {}}),
    ("com.microsoft.Attention", {"attributes": {"num_heads": "h"}}),
    ("com.microsoft.MatMulNBits", {"divides": ()}),
    ("com.microsoft.MatMulNBits", {"attributes": {"N": "n"}}),
    ("com.microsoft.MoE", {"divides": ((4, 2),)}),
    ("com.microsoft.MoE", {"divides": ((2, 2),)}),
    ("com.microsoft.DynamicQuantizeMatMul", {"ranged": False}),
    ("com.microsoft.DynamicQuantizeLSTM", {"ranged": False}),
    ("Pad", {"zero": ()}),
    ("Resize", {"slots": ()}),
]


@pytest.mark.parametrize(("op", "fields"), _FIELDS)
def test_a_wrong_field_is_found(
    op: str, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _fails(op, replace(TABLE[op], **fields), monkeypatch)


def _folds_wrongly(case: Case, fold: Any, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setitem(TABLE, case.op, replace(TABLE[case.op], fold=fold))
    try:
        check_shapes(replace(case))
    except WrongError:
        return True
    return False


def _first(node: Node, args: list[Any]) -> list[Any]:
    return [args[0]]


@pytest.mark.parametrize(
    ("op", "fold"),
    [
        ("Div", lambda node, args: [args[0] // args[1]]),
        ("Mod", lambda node, args: [np.mod(args[0], args[1])]),
        ("Cast", _first),
        ("Squeeze", _first),
        ("Gather", _first),
        ("Slice", lambda node, args: [args[0][..., 1:3]]),
        ("ReduceMax", lambda node, args: [np.max(args[0], keepdims=True)]),
        ("Shape", lambda node, args: [np.asarray(args[0].shape)]),
        ("Range", lambda node, args: [np.arange(args[0], args[1])]),
    ],
)
def test_a_wrong_fold_is_found(op: str, fold: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(_folds_wrongly(c, fold, monkeypatch) for c in ALL[op] if not c.refuses)
