"""One model in the algebra of the certificate: a Value or a Const for every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from onnx_net2net.files.tensor_data import MARKER
from onnx_net2net.graph.model import Leaf, Node
from onnx_net2net.inference.shapes import Facts
from onnx_net2net.inference.size_rules import Described
from onnx_net2net.inference.size_symbols import Sizes
from onnx_net2net.typing import Array, Shape
from onnx_net2net.verification.certificate.attributes import plain
from onnx_net2net.verification.certificate.constants import Constants
from onnx_net2net.verification.certificate.domain import Const, Term, UnknownError, Value
from onnx_net2net.verification.certificate.fixpoint import LOOPS, Body, valued
from onnx_net2net.verification.certificate.identities import note, simplified
from onnx_net2net.verification.certificate.jumps import jumps
from onnx_net2net.verification.certificate.names import Labels, key, mix, positions
from onnx_net2net.verification.certificate.open_axes import opened, sized
from onnx_net2net.verification.certificate.registry import Registry
from onnx_net2net.verification.certificate.sequences import LISTS, TAKING
from onnx_net2net.verification.certificate.transfer import padded_norms
from onnx_net2net.verification.certificate.transfer.base import Rule
from onnx_net2net.verification.certificate.transfer.elementwise import inactive
from onnx_net2net.verification.certificate.transfer.table import RULES, At, rule_of
from onnx_net2net.verification.sides import Side

_RANDOM = frozenset(
    "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike "
    "com.microsoft.BiasDropout com.microsoft.BitmaskBiasDropout com.microsoft.BitmaskDropout "
    "com.microsoft.RandomNormalLike com.microsoft.Sampling".split()
)
_LIMITS = (UnknownError, ArithmeticError, LookupError, TypeError, ValueError)


@dataclass
class Evaluation:
    """A model's tensors at one set of input sizes.

    Attributes:
        before: the teacher's, when this is the student's.
        sizes: what depends on the sizes of the inputs.
        terms: tensor -> what it is.
        whole: nodes whose outputs are only known as a whole, and why.
        rounded: the student's tensors that are what they are named only up to rounding.
        jumped: nodes that jump where such a tensor moves by a rounding.
    """

    side: Side
    facts: Facts
    constants: Constants
    registry: Registry
    sizes: Sizes
    before: Evaluation | None = None
    terms: dict[str, Term] = field(default_factory=dict)
    whole: dict[int, str] = field(default_factory=dict)
    rounded: set[str] = field(default_factory=set)
    jumped: set[str] = field(default_factory=set)
    _elements: dict[str, list[Term]] = field(default_factory=dict)
    _frames: dict[int | None, list[Node]] | None = None

    def run(self) -> Evaluation:
        """Evaluate all nodes in running order."""
        for name in self.side.model.inputs:
            tag = key("input", name, self.facts.dtype(name))
            found = Value(tag, self._places(name))
            self.terms[name] = self._known(name, found)
        for node in self._frame(None):
            self._step(node)
        return self

    def _places(self, name: str) -> tuple[Labels, ...] | None:
        """Labels of an input's axes: positions, marked as such where the student has more."""
        labels = _trivial(self.facts.shapes.get(name))
        grown = self.registry.embedding.inputs.get(name, {})
        if labels is None or not grown:
            return labels
        return tuple(mix(key("place"), v) if k in grown else v for k, v in enumerate(labels))

    def _frame(self, loop: Node | None) -> list[Node]:
        """The nodes that run when a loop's body does, without those of loops inside it."""
        if self._frames is None:
            model, self._frames = self.side.model, {}
            for node in model.nodes:
                owners = (model.owners[s] for s in model.within(node.scope))
                around = next(
                    (o.index for o in owners if o.op in LOOPS or o.op == "SequenceMap"), None
                )
                self._frames.setdefault(around, []).append(node)
        return self._frames.get(None if loop is None else loop.index, [])

    def _loop(self, node: Node, args: tuple[Term | None, ...]) -> list[Term]:
        """A Loop or Scan: its body is gone round until its states are settled."""

        def evaluate(given: Mapping[str, Term]) -> list[Term]:
            return self._round(node, given)

        model, losses = self.side.model, len(self.registry.losses)
        depth = sum(model.owners[s].op in LOOPS for s in model.within(node.scope))
        shapes = [self.facts.shapes.get(o) if o else None for o in node.outputs]
        given = [self.sizes.shape(t) if t else None for t in node.inputs]
        body = Body(node, args, self._name(node), depth, evaluate, shapes, given, self.registry)
        try:
            return body.results()
        except _LIMITS as why:
            del self.registry.losses[losses:]  # of states that are not what they were taken for
            evaluate({})
            raise UnknownError(str(why)) from None

    def _round(self, node: Node, given: Mapping[str, Term]) -> list[Term]:
        """What a body returns for some of its formal inputs; the others are anything."""
        for name in node.formals:
            if name not in node.inputs:
                self.terms.pop(name, None)
        for n in self._frame(node):
            self.whole.pop(n.index, None)
        for name, term in given.items():
            self.terms[name] = self._known(name, term)
        for n in self._frame(node):
            self._step(n)
        if self._reads_rounded(node) and self.rounded.isdisjoint(node.formals):
            self.rounded.update(node.formals)
            return self._round(node, given)
        return [self.term(t) for t in node.ends]

    def _mapped(self, node: Node, args: tuple[Term | None, ...]) -> list[Term]:
        """A SequenceMap: its body once for each element."""
        held = [self._elements.get(t) for t in node.inputs]
        counts = {len(h) for h in held if h is not None}
        if held[0] is None or len(counts) > 1:
            self._round(node, {})
            raise UnknownError("the elements of a sequence are not known one by one")
        rounds = []
        for k in range(len(held[0])):
            inside = [a if h is None else h[k] for a, h in zip(args, held, strict=True)]
            given = {f: t for f, t in zip(node.formals, inside, strict=True) if t is not None}
            rounds.append(self._round(node, given))
        found: list[Term] = []
        for k, name in enumerate(node.outputs):
            self._elements[name] = [ends[k] for ends in rounds]
            found.append(Value(key("sequence", [ends[k].whole for ends in rounds]), None))
        return found

    def term(self, name: str) -> Term:
        """What a tensor is; leaves and a body's formal inputs are made when first read."""
        if name not in self.terms:
            leaf = self.side.model.leaves.get(name)
            self.terms[name] = self._formal(name) if leaf is None else self._leaf(leaf)
        return self.terms[name]

    def _leaf(self, leaf: Leaf) -> Term:
        found = self.constants.leaf(leaf)
        if found is not None:
            return found
        # strings and sparse values: as stored
        return Value(self._stored(self.side.model.message(leaf.path)), None)

    def _stored(self, message: Any) -> int:
        """A name for a message; where its payload was cut out, one that nothing else has."""
        data = message.SerializeToString(deterministic=True)
        return key("stored", data, id(self) if MARKER.encode() in data else None)

    def _formal(self, name: str) -> Value:
        """An input of a body: what it stands for is settled where the body's owner is."""
        for scope in self.side.model.scopes.values():
            if name in scope.inputs:
                k, depth = scope.inputs.index(name), scope.name.count("/")
                shape = self.facts.shapes.get(name)
                tag = key("formal", depth, k, self.facts.dtype(name), shape)
                return Value(tag, _trivial(shape))
        return Value(key("unknown", name, id(self)), None)

    def _step(self, node: Node) -> None:
        outs = [o for o in node.outputs if o]
        known = [self.facts.values.get(o) for o in outs]
        if outs and all(v is not None for v in known) and not self._by_rule(node):
            for o, v in zip(outs, known, strict=True):
                self.terms[o] = self._folded(o, np.asarray(v))
            return
        args = tuple(self.term(t) if t else None for t in node.inputs)
        rounded = not self.rounded.isdisjoint(node.inputs)
        if rounded and jumps(node, self.facts):
            self._beyond_rounding(node)
            return
        self.registry.rounded = rounded
        self._named(node, args)
        if self.before is not None and (self.registry.rounded or self._reads_rounded(node)):
            self.rounded.update(outs)

    def _reads_rounded(self, node: Node) -> bool:
        """Whether an operand, or what a body returns, is right only up to rounding."""
        return not self.rounded.isdisjoint((*node.inputs, *node.ends))

    def _beyond_rounding(self, node: Node) -> None:
        """Outputs of an operator that jumps where its operand moves by a rounding."""
        self.whole[node.index] = "it jumps, and its operand is right only up to rounding"
        self.jumped.add(node.name)
        for o in node.outputs:
            if o:
                name = key("beyond rounding", o)
                self.terms[o] = Value(name, _trivial(self.facts.shapes.get(o)))

    def _named(self, node: Node, args: tuple[Term | None, ...]) -> None:
        sequential = node.op in LISTS or node.op in TAKING
        if not sequential and self.before is not None and self._as_before(self.before, node, args):
            return
        try:
            found = self._computed(node, args)
        except _LIMITS as why:
            # an odd model may break a rule's expectations: then the outputs have no parts
            self.whole[node.index] = str(why)
            found = self._as_whole(node, args)
        for name, term in zip(node.outputs, found, strict=False):
            if name:
                self.terms[name] = self._known(name, term)

    def _by_rule(self, node: Node) -> bool:
        """Whether a rule tells more of a known value than that it is computed so."""
        whole = any(isinstance(self.sizes.values.get(o), Described) for o in node.outputs)
        return whole and node.op in RULES

    def _folded(self, name: str, array: Array) -> Term:
        """A value that the facts hold: a constant unless it depends on a size."""
        if name not in self.sizes.values:
            return Const.of(array)
        tag = sized(self.sizes.values[name], self.facts.dtype(name))
        return self._known(name, Value(tag, _trivial(array.shape)))

    def _known(self, name: str, term: Term) -> Term:
        """The teacher's tensor of that name where it is the same, so that it is seen at once."""
        theirs = self.before.terms.get(name) if self.before is not None else None
        if not isinstance(theirs, Value) or not isinstance(term, Value):
            return term
        if theirs.tag != term.tag or theirs.scale is not None or term.scale is not None:
            return term
        if theirs.labels is None or term.labels is None or theirs.shape != term.shape:
            return term
        pairs = zip(theirs.labels, term.labels, strict=True)
        same = all(x is y or np.array_equal(x, y) for x, y in pairs)
        return theirs if same else term

    def _as_before(self, before: Evaluation, node: Node, args: tuple[Term | None, ...]) -> bool:
        """Take the teacher's results of a node that it has alike, with the same operands."""
        outs = [o for o in node.outputs if o]
        twin = before.side.model.producer.get(outs[0]) if outs else None
        if twin is None or node.bodies or node.proto != twin.proto or node.version != twin.version:
            return False
        if any(a.HasField("t") or a.tensors for a in node.proto.attribute):
            return False  # equal marks stand for the bytes of two files
        if not all(
            a is b or (isinstance(a, Const) and isinstance(b, Const) and a.key == b.key)
            for a, b in zip(args, (before.terms.get(t) for t in twin.inputs), strict=True)
        ):
            return False
        mine, theirs = self.facts, before.facts
        if any(
            mine.shapes.get(o) != theirs.shapes.get(o) or mine.dtype(o) != theirs.dtype(o)
            for o in outs
        ):
            return False
        self.terms.update((o, before.terms[o]) for o in outs)
        if twin.index in before.whole:
            self.whole[node.index] = before.whole[twin.index]
        return True

    def _computed(self, node: Node, args: tuple[Term | None, ...]) -> list[Term]:
        if node.op in LISTS or node.op in TAKING:
            return [self._sequence(node, args)]
        constant = [a for a in args if isinstance(a, Const)]
        if self._is_random(node, args):
            raise UnknownError("it draws random numbers")
        if len(constant) == sum(a is not None for a in args) and constant and not node.bodies:
            only = [a if isinstance(a, Const) else None for a in args]
            name = key("computed", self._name(node), [None if a is None else a.key for a in only])
            return [*self.constants.computed(name, node, only)]
        if node.op == "If":
            return self._branches(node, args)
        if node.op == "SequenceMap":
            return self._mapped(node, args)
        if node.op in LOOPS:
            return self._loop(node, args)
        rule = RULES.get(node.op) or rule_of(node.op)
        if rule is None:
            raise UnknownError(f"the certificate has no rule for {node.op}")
        return self._noted(self._at(node, args), rule)

    def _at(self, node: Node, args: tuple[Term | None, ...]) -> At:
        shapes = tuple(self.facts.shapes.get(o) if o else None for o in node.outputs)
        kinds = tuple(self.facts.dtype(o) for o in node.outputs)
        since, seen = _since(node, self.side), opened(node, self.sizes)
        return At(node, args, shapes, kinds, self._attributes(node), self.registry, since, seen)

    def _sequence(self, node: Node, args: tuple[Term | None, ...]) -> Term:
        """A sequence, which is what its elements are, or what is taken out of one."""
        at, held = self._at(node, args), [self._elements.get(t) for t in node.inputs]
        if node.op in TAKING:
            return TAKING[node.op](at, held)
        self._elements.pop(node.outputs[0], None)
        found = LISTS[node.op](at, held)
        self._elements[node.outputs[0]] = found
        return Value(key("sequence", [t.whole for t in found]), None)

    def _noted(self, at: At, rule: Rule) -> list[Term]:
        """Apply a rule; where the teacher has nothing of the kind, see if the node does nothing."""
        registry, losses = self.registry, self.registry.losses
        before = len(losses)
        found = list(padded_norms.apply(rule, at))
        values = [t for t in found if isinstance(t, Value)]
        if not registry.teaching:
            by_channel = at.node.op == "BatchNormalization"
            new = any(registry.is_new(t, by_channel) for t in values)
            simpler = simplified(at) if new or len(losses) > before else None
            if simpler is not None:
                del losses[before:]
                return [simpler]
        else:
            for t in values:
                registry.seen.setdefault(t.tag, []).append(t)
        note(at, found)
        return found

    def _is_random(self, node: Node, args: tuple[Term | None, ...]) -> bool:
        """Whether equal operands need not give equal results."""
        if node.op == "Dropout":
            return not inactive(node, args)
        return node.op in _RANDOM

    def _branches(self, node: Node, args: tuple[Term | None, ...]) -> list[Term]:
        """An If: each output is named by the condition and by both branches' outputs."""
        scopes = self.side.model.scopes
        bodies = [scopes[node.bodies[a]].outputs for a in ("then_branch", "else_branch")]
        if isinstance(args[0], Const) and args[0].size == 1:
            taken = bodies[0 if bool(args[0].array().all()) else 1]
            return [self.term(t) for t in taken]
        condition = args[0].whole if args[0] is not None else 0
        found: list[Term] = []
        for pair in zip(*bodies, strict=True):
            terms = [self.term(t) for t in pair]
            a, b = (valued(t) for t in terms)
            if a.shape != b.shape:
                raise UnknownError("the branches differ in shape")
            labels = [_either(x, y) for x, y in zip(a.axes, b.axes, strict=True)]
            found.append(Value(key("if", condition, a.tag, b.tag), tuple(labels)))
        return found

    def _as_whole(self, node: Node, args: tuple[Term | None, ...]) -> list[Term]:
        """Outputs named by everything that goes in, every position in its place."""
        scopes = self.side.model.scopes
        bodies = [
            (attribute, [self.term(t).whole for t in scopes[scope].outputs])
            for attribute, scope in sorted(node.bodies.items())
        ]
        name = key(
            "whole", self._name(node), [a.whole if a is not None else None for a in args], bodies
        )
        if self._is_random(node, args):
            name = key(name, node.outputs)
        found: list[Term] = []
        for k, o in enumerate(node.outputs):
            shape = self.facts.shapes.get(o) if o else None
            found.append(Value(key(name, k, shape), _trivial(shape)))
        return found

    def _name(self, node: Node) -> int:
        """Operator, version and attributes."""
        attributes = sorted(self._attributes(node).items())
        return key(node.op, _since(node, self.side), attributes)

    def _attributes(self, node: Node) -> dict[str, Any]:
        known = self.constants.attributes
        if node.index not in known:
            found = plain(node.proto, self.side.source, self._stored)
            known[node.index] = {k: v for k, v in found.items() if k not in node.bodies}
        return known[node.index]


def _trivial(shape: Shape | None) -> tuple[Labels, ...] | None:
    if shape is None or any(d is None for d in shape):
        return None
    return tuple(positions(d) for d in shape if d is not None)


def _either(x: Labels, y: Labels) -> Labels:
    return x if np.array_equal(x, y) else mix(x, y)


def _since(node: Node, side: Side) -> int:
    """The opset version in which the operator got the meaning that it has here."""
    domain, _, op = node.op.rpartition(".")
    version = node.version if node.called else side.model.opsets.get(domain, 1)
    if not onnx.defs.has(op, version, domain):
        return version
    return int(onnx.defs.get_schema(op, version, domain).since_version)
