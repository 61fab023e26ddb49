"""Recurrent layers: the hidden width passes through gates and is fed back to itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_net2net.operators.spec import Site, rule


def _sizes(gates: int) -> Any:
    def sizes(site: Site) -> Mapping[str, int]:
        return {"q": gates, "t": 2, "p": 3}

    return sizes


def _recurrent(outputs: int, peepholes: bool) -> Any:
    """X, W, R, B, sequence_lens, initial_h, initial_c, P -> Y, Y_h, Y_c."""

    def notation(site: Site) -> str:
        batch_first = bool(site.attr("layout", 0))
        x, state = ("b s i", "b d h") if batch_first else ("s b i", "d b h")
        y = "b s d h" if batch_first else "s d b h"
        ins = [x, "d (q h) i", "d (q h) h", "d (t q h)", "b", state]
        if peepholes:
            ins += [state, "d (p h)"]
        return ", ".join(ins) + " -> " + ", ".join([y, state, state][:outputs])

    return notation


for _name, _gates, _outputs in (("RNN", 1, 2), ("GRU", 3, 2), ("LSTM", 4, 3)):
    rule(
        _name,
        notation=_recurrent(_outputs, _name == "LSTM"),
        sizes=_sizes(_gates),
        roles={"s": "across", "d": "across", "q": "across", "t": "across", "p": "across"},
        attributes={"hidden_size": "h"},
        divides=((2, 2),),  # the state is fed back through R
    )


def _dynamic(site: Site) -> str:
    """Weights transposed and quantised, by tensor or by column."""

    def scale(slot: int) -> str:
        return "d (q h)" if site.rank(slot) == 2 else "d"

    ins = ["s b i", "d i (q h)", "d h (q h)", "d (t q h)", "b", "d b h", "d b h", "d (p h)"]
    ins += [scale(k) for k in (8, 9, 10, 11)]
    return ", ".join(ins) + " -> s d b h, d b h, d b h"


rule(
    "com.microsoft.DynamicQuantizeLSTM",
    notation=_dynamic,
    sizes=_sizes(4),
    roles={**dict.fromkeys("sdqtp", "across"), "i": "parallel"},
    attributes={"hidden_size": "h"},
    divides=((1, 1), (2, 1)),
    offsets={1: 9, 2: 11},
    ranged=True,
)
