"""Where tensors cross the boundary of a body: one declaration for each operator that has one.

An axis of a tensor outside and one of a tensor inside are the same axis wherever a tie puts
them together; everything else (shapes, spaces, weights passed in as state) follows from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from onnx import AttributeProto, GraphProto, NodeProto


@dataclass(frozen=True)
class Tie:
    """One tensor on both sides: the node's `input` and `output`, in each body `formal` and `end`.

    `formal` is an input of the body, `end` an output; None where there is none. `outer`: the
    axes that the tensors outside have and those inside lack (what is scanned over).
    """

    input: int | None = None
    output: int | None = None
    formal: int | None = None
    end: int | None = None
    outer: tuple[int, ...] = ()

    @property
    def carried(self) -> bool:
        """Whether it is a state that goes round."""
        return self.formal is not None and self.end is not None


def bodies(node: NodeProto) -> list[GraphProto]:
    """The graphs that a node carries, in the order of its attributes."""
    found: list[GraphProto] = []
    for a in node.attribute:
        found += [a.g] if a.type == AttributeProto.GRAPH else a.graphs
    return found


def _ints(node: NodeProto, name: str, count: int) -> list[int]:
    given = next((list(a.ints) for a in node.attribute if a.name == name), [])
    return given or [0] * count


def _branches(node: NodeProto, version: int) -> Iterator[Tie]:
    for k in range(len(node.output)):
        yield Tie(output=k, end=k)


def _loop(node: NodeProto, version: int) -> Iterator[Tie]:
    states = max(len(node.input) - 2, 0)
    yield Tie(input=1, formal=1, end=0)  # whether to go on
    for k in range(states):
        yield Tie(2 + k, k, 2 + k, 1 + k)
    for k in range(states, len(node.output)):
        yield Tie(output=k, end=1 + k, outer=(0,))


def _scan(node: NodeProto, version: int) -> Iterator[Tie]:
    first, batch = (1, (0,)) if version < 9 else (0, ())  # opset 8: lengths first, batches
    scanned = next((int(a.i) for a in node.attribute if a.name == "num_scan_inputs"), 0)
    states = len(node.input) - first - scanned
    for k in range(states):
        yield Tie(first + k, k, k, k, batch)
    along = _ints(node, "scan_input_axes", scanned)
    for k in range(scanned):
        axes = (0, 1) if batch else (along[k],)
        yield Tie(first + states + k, None, states + k, None, axes)
    stacked = len(node.output) - states
    along = _ints(node, "scan_output_axes", stacked)
    for k in range(stacked):
        axes = (0, 1) if batch else (along[k],)
        yield Tie(None, states + k, None, states + k, axes)


def _mapped(node: NodeProto, version: int) -> Iterator[Tie]:
    for k in range(len(node.input)):
        yield Tie(input=k, formal=k)
    for k in range(len(node.output)):
        yield Tie(output=k, end=k)


BOUNDARIES: dict[str, Callable[[NodeProto, int], Iterator[Tie]]] = {
    "If": _branches,
    "Loop": _loop,
    "Scan": _scan,
    "SequenceMap": _mapped,
}


def ties(op: str, node: NodeProto, version: int) -> list[Tie]:
    """How a node's inputs and outputs meet those of its bodies; of unknown operators nothing.

    Args:
        op: the operator, as the table names it.
        node: with as many inputs and outputs as it has.
        version: of its operator set.
    """
    found = BOUNDARIES.get(op)
    return list(found(node, version)) if found else []


def invariants(op: str, node: NodeProto, version: int) -> dict[int, int]:
    """States that the body hands on as they came: formal input -> the node's input.

    Args:
        op, node, version: see `ties`.
    """
    graphs = bodies(node)
    if len(graphs) != 1:
        return {}
    ends = _passed_on(graphs[0])
    found: dict[int, int] = {}
    for tie in ties(op, node, version):
        if tie.input is None or tie.formal is None or tie.end is None or tie.outer:
            continue
        formals = graphs[0].input[tie.formal : tie.formal + 1]
        same = [i.name for i in formals] == ends[tie.end : tie.end + 1]
        if formals and same and node.input[tie.input]:
            found[tie.formal] = tie.input
    return found


def _passed_on(body: GraphProto) -> list[str]:
    """What the outputs of a body are, before nodes that hand on what they get."""
    passed = {n.output[0]: n.input[0] for n in body.node if n.op_type == "Identity" and n.output}
    found = []
    for name in (o.name for o in body.output):
        seen = set[str]()
        while name in passed and name not in seen:
            seen.add(name)
            name = passed[name]
        found.append(name)
    return found
