"""Which axes of each operator's tensors are the same channels: the rules of the interface walk."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx

from tools.coverage.interface_ties import Shapes, Tie, aligned, blocks, pieces, ready, same
from tools.coverage.onnx_reading import Constants, attribute, subgraphs

# Stands for the user: an index into an axis is an answer that he reads.
VISIBLE = "\0user"
Rule = Callable[[onnx.NodeProto, Shapes, Constants], Iterator[Tie]]
RULES: dict[str, Rule] = {}


def ties(node: onnx.NodeProto, shapes: Shapes, constants: Constants) -> Iterator[Tie]:
    """The ties of one node, over those of its tensors whose shapes are known."""
    return RULES.get(node.op_type, _elementwise)(node, shapes, constants)


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def _elementwise(node: onnx.NodeProto, shapes: Shapes, _: Constants) -> Iterator[Tie]:
    """Everything without a rule of its own: axes that line up and have one length stay the same."""
    for x in node.input:
        if ready(shapes, x, node.output[0]):
            yield from aligned(x, node.output[0], shapes)


@_rule("Shape", "Size", "ConstantOfShape", "Range", "NonZero", "NonMaxSuppression")
def _ends(node: onnx.NodeProto, shapes: Shapes, _: Constants) -> Iterator[Tie]:
    return iter(())


@_rule("Conv", "FusedConv", "ConvTranspose", "ConvInteger", "QLinearConv")
def _conv(node: onnx.NodeProto, shapes: Shapes, _: Constants) -> Iterator[Tie]:
    """A contraction, but for depthwise; FusedConv adds its fourth input to the output."""
    x, y = node.input[0], node.output[0]
    if not ready(shapes, x, y):
        return
    groups = attribute(node, "group", 1)
    if groups > 1 and groups == shapes[x][1]:
        yield from same(x, y, [(1, 1)], shapes)
    if node.op_type == "FusedConv" and len(node.input) > 3 and node.input[3] in shapes:
        yield from aligned(node.input[3], y, shapes)


@_rule("Gemm", "FusedGemm", "QGemm", "MatMulNBits", "DynamicQuantizeMatMul")
def _gemm(node: onnx.NodeProto, shapes: Shapes, _: Constants) -> Iterator[Tie]:
    """A contraction; a computed C is added, computed operands keep their other axis."""
    a, b, y = node.input[0], node.input[1], node.output[0]
    if node.op_type not in ("Gemm", "FusedGemm") or not ready(shapes, a, b, y):
        return
    row, column = attribute(node, "transA", 0), 1 - attribute(node, "transB", 0)
    yield from same(a, y, [(row, 0)], shapes)
    yield from same(b, y, [(column, 1)], shapes)
    yield from same(a, b, [(1 - row, 1 - column)], shapes)
    if len(node.input) > 2 and node.input[2] in shapes:
        yield from aligned(node.input[2], y, shapes)


@_rule("MatMul", "FusedMatMul", "MatMulInteger", "QLinearMatMul")
def _matmul(node: onnx.NodeProto, shapes: Shapes, _: Constants) -> Iterator[Tie]:
    """Rows, columns and batch axes are kept; two activations share the summed axis."""
    a, y = node.input[0], node.output[0]
    b = node.input[3 if node.op_type == "QLinearMatMul" else 1]
    if not ready(shapes, a, b, y) or min(len(shapes[a]), len(shapes[b])) < 2:
        return
    turned_a, turned_b = attribute(node, "transA", 0), attribute(node, "transB", 0)
    yield from same(a, y, [(turned_a - 2, -2)], shapes)
    yield from same(b, y, [(-1 - turned_b, -1)], shapes)
    yield from same(a, b, [(-1 - turned_a, turned_b - 2)], shapes)
    for x in (a, b):
        yield from (t for t in aligned(x, y, shapes) if t.a[1] < len(shapes[x]) - 2)


@_rule("Einsum")
def _einsum(node: onnx.NodeProto, shapes: Shapes, _: Constants) -> Iterator[Tie]:
    """Equal letters are the same axis."""
    text = attribute(node, "equation", b"").decode().replace(" ", "")
    left, _arrow, right = text.partition("->")
    if "." in text or not _arrow:
        return
    names = [*node.input, node.output[0]]
    places = [
        (name, k, letter)
        for name, term in zip(names, [*left.split(","), right], strict=True)
        for k, letter in enumerate(term)
        if name in shapes
    ]
    for n, (a, i, letter) in enumerate(places):
        for b, j, other in places[n + 1 :]:
            if letter == other:
                yield from same(a, b, [(i, j)], shapes)


@_rule("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
def _recurrent(node: onnx.NodeProto, shapes: Shapes, _: Constants) -> Iterator[Tie]:
    """The hidden axis is last in all outputs and in the initial states."""
    states = [x for k in (5, 6) if (x := (list(node.input) + [""] * 7)[k]) in shapes]
    outputs = [y for y in node.output if y in shapes]
    for other in (*outputs[1:], *states):
        if outputs:
            yield from same(outputs[0], other, [(-1, -1)], shapes)


@_rule("If", "Loop", "Scan")
def _nested(node: onnx.NodeProto, shapes: Shapes, _: Constants) -> Iterator[Tie]:
    """What goes in or comes out of a subgraph is the same tensor on both sides."""
    pairs: list[tuple[str, str]] = []
    for graph in subgraphs(node):
        inner = [o.name for o in graph.output]
        if node.op_type == "Loop":
            carried = [i.name for i in graph.input][2:]
            pairs += zip(node.input[2:], carried, strict=False)
            pairs += zip(carried, inner[1:], strict=False)
            inner = inner[1:]
        pairs += zip(inner, node.output, strict=False)
    for a, b in pairs:
        if ready(shapes, a, b):
            yield from aligned(a, b, shapes)


@_rule("Transpose")
def _transpose(node: onnx.NodeProto, shapes: Shapes, _: Constants) -> Iterator[Tie]:
    x, y = node.input[0], node.output[0]
    if ready(shapes, x, y):
        order = attribute(node, "perm", list(range(len(shapes[x])))[::-1])
        yield from same(x, y, [(i, j) for j, i in enumerate(order)], shapes)


@_rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(node: onnx.NodeProto, shapes: Shapes, _: Constants) -> Iterator[Tie]:
    if ready(shapes, node.input[0], node.output[0]):
        yield from blocks(node.input[0], node.output[0], shapes)


@_rule("Concat")
def _concat(node: onnx.NodeProto, shapes: Shapes, _: Constants) -> Iterator[Tie]:
    if node.output[0] in shapes:
        axis = attribute(node, "axis", 1)
        yield from pieces(node.output[0], list(node.input), axis, shapes)


@_rule("Split")
def _split(node: onnx.NodeProto, shapes: Shapes, _: Constants) -> Iterator[Tie]:
    if node.input[0] in shapes:
        yield from pieces(node.input[0], list(node.output), attribute(node, "axis", 0), shapes)


@_rule("Slice")
def _slice(node: onnx.NodeProto, shapes: Shapes, constants: Constants) -> Iterator[Tie]:
    """A cut with known bounds is a piece; with computed ones or steps, the whole."""
    x, y = node.input[0], node.output[0]
    if not ready(shapes, x, y):
        return
    given = [attribute(node, key, None) for key in ("starts", "axes")]
    slots = list(node.input) + [""] * 5
    starts, axes = (
        list(g) if g is not None else constants.integers(slots[k])
        for g, k in zip(given, (1, 3), strict=True)
    )
    steps = constants.integers(slots[4]) if slots[4] else []
    axes = list(range(len(starts or []))) if axes is None else axes
    at = {k % len(shapes[x]): n for n, k in enumerate(axes)}
    for k, (whole, part) in enumerate(zip(shapes[x], shapes[y], strict=True)):
        if whole == part:
            yield Tie((x, k), (y, k), 0, 0, whole)
        elif k in at and starts is not None and steps is not None and set(steps) <= {1}:
            first = starts[at[k]]
            yield Tie((x, k), (y, k), first + whole if first < 0 else first, 0, part)
        else:
            yield Tie((x, k), (y, k))


@_rule("Gather")
def _gather(node: onnx.NodeProto, shapes: Shapes, constants: Constants) -> Iterator[Tie]:
    """Axes before and after the gathered one move by the rank of the indices."""
    x, index, y = node.input[0], node.input[1], node.output[0]
    if not ready(shapes, x, y):
        return
    rank = len(shapes[x])
    axis = attribute(node, "axis", 0) % max(rank, 1)
    shift = len(shapes[y]) - rank
    others = [(k, k if k < axis else k + shift) for k in range(rank) if k != axis]
    yield from same(x, y, others, shapes)
    if shift == 0:
        yield Tie((x, axis), (y, axis))
    picked = constants.integers(index)
    if shift == 0 and picked and picked == list(range(picked[0], picked[0] + len(picked))):
        yield Tie((x, axis), (y, axis), picked[0], 0, len(picked))


def _reduce(node: onnx.NodeProto, shapes: Shapes, constants: Constants) -> Iterator[Tie]:
    """The axes that are not reduced; an index into the reduced axis is shown to the user."""
    x, y = node.input[0], node.output[0]
    if not ready(shapes, x, y):
        return
    rank, picks = len(shapes[x]), node.op_type.startswith("Arg")
    axes = attribute(node, "axes", None)
    if axes is None and len(node.input) > 1:
        axes = constants.integers(node.input[1])
    if axes is None:
        everything = not attribute(node, "noop_with_empty_axes", 0)
        axes = [attribute(node, "axis", 0)] if picks else range(rank) if everything else []
    gone = {k % rank for k in axes}
    kept = [k for k in range(rank) if k not in gone]
    stays = attribute(node, "keepdims", 1)
    yield from same(x, y, [(k, k if stays else n) for n, k in enumerate(kept)], shapes)
    for k in gone if picks else ():
        yield Tie((x, k), (VISIBLE, 0), 0, 0, shapes[x][k])


RULES.update(
    dict.fromkeys(
        [f"Reduce{k}" for k in "Mean Sum Max Min Prod L1 L2 LogSum LogSumExp SumSquare".split()]
        + ["ArgMax", "ArgMin"],
        _reduce,
    )
)


@_rule("Tile", "DepthToSpace", "SpaceToDepth", "TopK")
def _rearranged(node: onnx.NodeProto, shapes: Shapes, _: Constants) -> Iterator[Tie]:
    """Each axis goes into the one of the same number, not piece by piece."""
    x, y = node.input[0], node.output[0]
    if ready(shapes, x, y):
        for k in range(len(shapes[x])):
            yield Tie((x, k), (y, k))


@_rule("Pad")
def _pad(node: onnx.NodeProto, shapes: Shapes, constants: Constants) -> Iterator[Tie]:
    x, y = node.input[0], node.output[0]
    if not ready(shapes, x, y):
        return
    pads = attribute(node, "pads", None)
    if pads is None and len(node.input) > 1:
        pads = constants.integers(node.input[1])
    for k, length in enumerate(shapes[x]):
        known = pads is not None and len(pads) == 2 * len(shapes[x])
        if shapes[y][k] == length or known:
            yield Tie((x, k), (y, k), 0, pads[k] if known else 0, length)
        else:
            yield Tie((x, k), (y, k))
