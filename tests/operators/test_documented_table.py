"""The page about the operator table is up to date and says what the table lacks."""

from __future__ import annotations

import pytest

from onnx_net2net.operators.table import TABLE
from tools import operator_table

BODIES = {"Constant", "If", "Loop", "Scan", "SequenceMap"}


def test_the_page_is_up_to_date() -> None:
    text = operator_table.PAGE.read_text(encoding="utf-8")
    if operator_table.installed() not in text:
        pytest.skip("written with other versions of onnx and onnxruntime")
    assert text == operator_table.page(), "run python -m tools.operator_table"


def test_no_operator_lacks_a_row() -> None:
    missing = set(operator_table.without_row(TABLE))
    sequences = {o for o in missing if "Sequence" in o or o.startswith("Optional")}
    assert missing <= BODIES | sequences
