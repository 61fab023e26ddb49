"""What is one: classes of things that are joined two by two."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

import numpy as np

from onnx_net2net.typing import Array

Thing = TypeVar("Thing", bound=Hashable)


class UnionFind(Generic[Thing]):
    """Classes of things; each is known by one of them, and alone until it is joined.

    >>> classes = UnionFind()
    >>> classes.join("a", "b"), classes.root("b"), classes.root("c")
    ('a', 'a', 'c')
    """

    def __init__(self) -> None:
        self._parent: dict[Thing, Thing] = {}

    def copy(self) -> UnionFind[Thing]:
        """The same classes, to be joined apart from these."""
        other = UnionFind[Thing]()
        other._parent = dict(self._parent)
        return other

    def root(self, thing: Thing) -> Thing:
        """The one by which a thing's class is known."""
        parent = self._parent
        while (above := parent.get(thing, thing)) != thing:
            parent[thing] = thing = parent.get(above, above)
        return thing

    def join(self, a: Thing, b: Thing) -> Thing:
        """Make two classes one, known by the root of `a`."""
        a, b = self.root(a), self.root(b)
        if a != b:
            self._parent[b] = a
        return a


def components(count: int, a: Array, b: Array) -> Array:
    """The smallest position of each position's class, where `a[k]` and `b[k]` are joined.

    Args:
        count: of positions.
        a, b: positions, pair by pair.

    >>> components(5, np.array([4, 1]), np.array([1, 2])).tolist()
    [0, 1, 1, 3, 1]
    """
    root = np.arange(count)
    while True:
        low = np.minimum(root[a], root[b])
        new = root.copy()
        np.minimum.at(new, a, low)
        np.minimum.at(new, b, low)
        new = new[new]
        if (new == root).all():
            return root
        root = new
