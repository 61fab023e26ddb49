"""Operators that a user teaches: rows for those of custom domains.

What a user declares makes a row of the table that grows models; the certificate interprets the
declaration by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from onnx_net2net.errors import UsageError
from onnx_net2net.operators.notation import REGISTERED, attribute_sizes, declared
from onnx_net2net.operators.spec import ALL, Rule
from onnx_net2net.operators.table import TABLE


def register_operator(
    domain: str,
    name: str,
    notation: str,
    *,
    roles: Mapping[str, str] | None = None,
    sizes: Mapping[str, str] | None = None,
    zero: bool = False,
) -> None:
    """Say what an operator of a custom domain does with its axes, so that they can grow.

    The notation has the axes of the inputs, `->`, and those of the outputs. A name is an index
    that axes share: in the output it passes through, the operator treats its positions alike
    and apart; two inputs' name that no output has is summed over their product. `(g c)` is an
    axis that is a product; `...` are axes that pass through one by one; `*` are axes that are
    worked across (their sizes stay unless the file declares others); `~` are axes of which
    only the size is read; `1` has one position.

    Args:
        roles: what else happens along a name (`.`: along `...`): `mean` (averaged or
            normalised), `max`, `sum` (summed in one input alone), `across` (cannot grow).
        sizes: the integer attribute that holds a name's size, e.g. `{"g": "groups"}`.
        zero: where all operands are zero the output is, too.

    Raises:
        UsageError: it contradicts itself, or the operator has a row of our own.

    >>> register_operator("my.domain", "Scale", "n c *, c -> n c *")
    >>> forget("my.domain.Scale")
    """
    found = declared(domain, name, notation, roles or {}, sizes or {}, zero)
    if found.name in TABLE and found.name not in REGISTERED:
        raise UsageError(
            f"operator {found.name} has a row already", "only others can be registered"
        )
    REGISTERED[found.name] = found
    attributes = {attribute: n for n, attribute in found.sizes.items()}
    TABLE[found.name] = Rule(
        notation=notation,
        sizes=partial(attribute_sizes, found.sizes) if found.sizes else None,
        roles=dict(found.roles),
        attributes=attributes,
        zero=ALL if zero else None,
        custom=True,
    )


def forget(*names: str) -> None:
    """Take registered operators (`my.domain.Op`) out of the table again."""
    for name in names:
        if REGISTERED.pop(name, None) is not None:
            del TABLE[name]


__all__ = ["REGISTERED", "forget", "register_operator"]
