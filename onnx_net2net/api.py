"""The public calls that grow a model: `widen`, `deepen`, `grow_kernel`, `apply`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from onnx_net2net.growth.result import Shapes
from onnx_net2net.plans.plan import plan


def widen(
    teacher: Any,
    *,
    node: str | None = None,
    space: str | None = None,
    width: int | None = None,
    ratio: float | None = None,
    multiple_of: int = 1,
    mapping: str | Sequence[int] = "random",
    split: str = "zero-sum",
    init: str = "replicate",
    noise: float = 0.0,
    seed: int = 0,
    allow_interface: bool = False,
    shapes: Shapes | None = None,
    verify: str = "auto",
    output: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> onnx.ModelProto | Path:
    """Net2WiderNet: a wider student that computes the teacher's function.

    New units copy units drawn by `mapping`; everything coupled to them grows along, and the
    weights that read them are divided among the copies, exactly.

    Args:
        teacher: a path, an `onnx.ModelProto` or a `gs.Graph`; not changed.
        node: the layer to widen: node, output tensor, parameter or part of a module path.
        space: instead of `node`, a space as `inspect` names it.
        width: the new length of the node's output axis (with `space`: its size).
        ratio: instead of `width`, at least this times today's.
        multiple_of: round the width up to a multiple of this.
        mapping: `random` (with replacement, the paper's), `balanced`, or the source of each
            unit as a list of integers.
        split: `zero-sum` (copies can diverge in training), `even` (the paper), `one-hot`,
            `uneven` (a positive share for each copy; Adam hardly sees the difference).
        init: new units are copies (`replicate`); random in and zero out (`fresh`); random
            pairs, equal in and opposite out (`twin`); or the paper's baseline, random in and
            out (`random-pad`), declared not to preserve.
        noise: on the copies' own weights, in terms of their standard deviation; declared not
            to preserve.
        seed: same seed, same bytes.
        allow_interface: grow also what is the model's own input or output; `node` may then be
            an input, an output or a table of embeddings (`NAME:AXIS` where that is not clear).
            New positions stand last. Those of an input are read by zero weights, so that their
            values do not matter; those of an output are copies. The student's metadata say so,
            and `verify` compares on the teacher's positions.
        shapes: input name -> sizes, for inputs that declare none.
        verify: `auto`, `certificate`, `full` or `off`.
        output: write to this file and return its path.
        force: replace an existing output.

    Returns:
        A self-contained ModelProto, or the path written.

    Raises:
        RefusalError: no function-preserving way (.node .axis .reason .hint).
        NotEquivalentError: the student did not pass verification; nothing is written.
        AmbiguousError, UsageError: the arguments. ModelError: the teacher.

    Source: Net2Net (Chen, Goodfellow, Shlens 2015), section 2.1.

    >>> import onnx_net2net as n2n
    >>> student = n2n.widen("models/digits_cnn.onnx", node="conv1", ratio=1.5)  # doctest: +SKIP
    """
    step = {
        "node": node, "space": space, "width": width, "ratio": ratio,
        "multiple_of": multiple_of, "mapping": mapping, "allow_interface": allow_interface,
    }  # fmt: skip
    how: dict[str, Any] = {"split": split, "init": init, "noise": noise, "seed": seed}
    made = plan(teacher, [step], shapes=shapes, **how)
    return made.apply(output, force=force, verify=verify)


def deepen(
    teacher: Any,
    *,
    after: str | None = None,
    before: str | None = None,
    every: str | None = None,
    kind: str = "auto",
    activation: str | None = None,
    kernel: int | None = None,
    groups: int = 1,
    depthwise: bool = False,
    batchnorm: bool = False,
    calibrate: Mapping[str, Any] | None = None,
    count: int = 1,
    only_into: str | None = None,
    init: str = "identity",
    inner: int | None = None,
    seed: int = 0,
    shapes: Shapes | None = None,
    verify: str = "auto",
    output: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> onnx.ModelProto | Path:
    """Net2DeeperNet: a deeper student that computes the teacher's function.

    Args:
        teacher: a path, an `onnx.ModelProto` or a `gs.Graph`; not changed.
        after, before: a layer (after its BatchNormalization and activation) or a tensor.
        every: instead, a pattern of layer names or operators (`Relu`, `layer1*`).
        kind: `identity` (the paper's), `linear`, `residual`, `pair`, `shift`; `auto`:
            identity where it is exact, else residual.
        activation, kernel, groups, depthwise, inner: the inserted layer's.
        batchnorm: with a BatchNormalization; `calibrate`: input name -> array, the data for
            its statistics.
        count: how many, one behind the other.
        only_into: the one reader to feed, where a tensor has several.
        init: `random`: the paper's baseline; declared not to preserve.
        seed, shapes, verify, output, force: see `widen`.

    Returns, raises: see `widen`.

    Source: Net2Net (Chen, Goodfellow, Shlens 2015), section 2.3.

    >>> import onnx_net2net as n2n
    >>> student = n2n.deepen("models/digits_cnn.onnx", after="conv1")  # doctest: +SKIP
    """
    step = {
        "verb": "deepen", "kind": kind, "activation": activation, "kernel": kernel,
        "groups": groups, "depthwise": depthwise, "batchnorm": batchnorm,
        "calibrate": calibrate, "count": count, "only_into": only_into, "init": init,
        "inner": inner, "after": after, "before": before, "every": every,
    }  # fmt: skip
    made = plan(teacher, [step], seed=seed, shapes=shapes)
    return made.apply(output, force=force, verify=verify)


def grow_kernel(
    teacher: Any,
    *,
    node: str,
    size: int | Sequence[int],
    shapes: Shapes | None = None,
    verify: str = "auto",
    output: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> onnx.ModelProto | Path:
    """A student whose convolution has a larger kernel: a ring of zeros, with matching pads.

    Args:
        node: the convolution; size: of all spatial axes, or one for each.
        teacher, shapes, verify, output, force: see `widen`.

    Returns, raises: see `widen`.

    Source: Network Morphism (Wei et al. 2016), kernel size morphing.
    """
    made = plan(teacher, [{"verb": "grow-kernel", "node": node, "size": size}], shapes=shapes)
    return made.apply(output, force=force, verify=verify)


def apply(
    teacher: Any,
    recipe: Any,
    *,
    seed: int | None = None,
    shapes: Shapes | None = None,
    calibrate: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
    verify: str = "auto",
    output: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> onnx.ModelProto | Path:
    """A student grown by several steps, in one go.

    Args:
        recipe: a YAML file, its text, a mapping, or a list of steps (docs/recipes.md); or a
            student, whose provenance is replayed byte for byte.
        seed: instead of the recipe's.
        calibrate: data that a student's provenance names by its hash, input name -> array.
        teacher, shapes, verify, output, force: see `widen`.

    Returns, raises: see `widen`; what is wrong in a file begins with its name and line.

    >>> import onnx_net2net as n2n
    >>> steps = [{"everywhere": True, "ratio": 1.5}, {"verb": "deepen", "every": "Relu"}]
    >>> student = n2n.apply("models/digits_cnn.onnx", steps)  # doctest: +SKIP
    """
    data = [calibrate] if isinstance(calibrate, Mapping) else calibrate
    made = plan(teacher, recipe, seed=seed, shapes=shapes, calibrate=data)
    return made.apply(output, force=force, verify=verify)
