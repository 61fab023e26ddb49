"""Growing a PyTorch checkpoint as its ONNX export was grown; needs the extra `[torch]`.

>>> import onnx_net2net as n2n
>>> grown = n2n.torch.grow_state_dict(                               # doctest: +SKIP
...     model.state_dict(), "map.json", teacher="teacher.onnx")
>>> print(grown)                                                     # doctest: +SKIP
>>> wider.load_state_dict(grown.state_dict)                          # doctest: +SKIP
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from onnx_net2net.checkpoint import Grown, UnmatchedError, grow
from onnx_net2net.checkpoint.edits import Edit
from onnx_net2net.checkpoint.moments import POWERS, grow_moments
from onnx_net2net.checkpoint.names import copies
from onnx_net2net.errors import UsageError
from onnx_net2net.typing import Array

try:
    import torch
    from torch import Tensor
except ImportError as why:
    raise ImportError(
        "growing a checkpoint needs PyTorch; pip install 'onnx-net2net[torch]'", name="torch"
    ) from why

from onnx_net2net.checkpoint.conversion import from_onnx

_VIEWED: dict[torch.dtype, tuple[torch.dtype, Any]] = {
    torch.bfloat16: (torch.int16, ml_dtypes.bfloat16)
}
State = Mapping[str, Any]


@dataclass(frozen=True)
class GrownState:
    """A grown `state_dict` and what to do with it; `print` shows the latter.

    `edits`: module arguments, `layer1.0.conv1: out_channels 64 -> 96`; `new_modules`: layers
    to insert; `code`: other numbers that the graph holds; `new_parameters` and
    `grown_parameters`: names, for freezing or a learning rate of their own.
    """

    state_dict: dict[str, Tensor]
    _grown: Grown

    @property
    def edits(self) -> list[str]:
        return [str(e) for e in self._grown.edits]

    @property
    def new_modules(self) -> list[str]:
        return [str(m) for m in self._grown.new_modules]

    @property
    def code(self) -> list[str]:
        return self._grown.code

    @property
    def new_parameters(self) -> list[str]:
        return self._grown.new_parameters

    @property
    def grown_parameters(self) -> list[str]:
        return self._grown.grown_parameters

    @property
    def factors(self) -> dict[str, Tensor]:
        """What `code` says to multiply by, where no weight could take the division."""
        return {n: _tensor(a) for n, a in self._grown.factors.items()}

    def also(self, state_dict: State | str | os.PathLike[str]) -> dict[str, Tensor]:
        """The same growth of another checkpoint with these names: an EMA, an earlier epoch."""
        state = _opened(state_dict)
        return _tensors(self._grown.also(_arrays(state)), state)

    def widened(self, module: torch.nn.Module) -> torch.nn.Module:
        """A copy of the module with its arguments edited and the grown state in place.

        What `forward` itself says (`code`) stays as it is, so compare with the student.

        Raises:
            UsageError: there are layers to insert, or a module holds its sizes in ways
                that only its constructor knows.
        """
        if self.new_modules:
            raise UsageError(f"insert these into the module's code first: {self.new_modules[0]}")
        wider = copy.deepcopy(module)
        for edit in self._grown.edits:
            _edit(wider, edit)
        for name, tensor in self.state_dict.items():
            owner, _, role = name.rpartition(".")
            held = wider.get_submodule(owner)
            if role in held._buffers:
                held._buffers[role] = tensor.clone()
            else:
                old = held.get_parameter(role)
                setattr(held, role, torch.nn.Parameter(tensor.clone(), old.requires_grad))
        return wider

    def __str__(self) -> str:
        parts = [
            ("edit in the model's code", self.edits),
            ("insert", self.new_modules),
            ("check in forward(), where the code says it", self.code),
            ("new parameters", self.new_parameters),
        ]
        lines = [f"{title}:\n  " + "\n  ".join(said) for title, said in parts if said]
        return "\n".join(lines) or "nothing changes"


def _edit(module: torch.nn.Module, edit: Edit) -> None:
    """Set an argument of a module where its attribute is what the module goes by."""
    if edit.argument == "shape":  # a parameter that forward uses as it is
        return
    held = module.get_submodule(edit.module)
    if isinstance(held, torch.nn.MultiheadAttention) or not hasattr(held, edit.argument):
        raise UsageError(f"rebuild '{edit.module}' ({type(held).__name__}) by hand: {edit}")
    value = edit.after
    if isinstance(getattr(held, edit.argument), tuple) and not isinstance(value, tuple):
        value = (value,)
    setattr(held, edit.argument, value)


def grow_state_dict(
    state_dict: State | str | os.PathLike[str], mapping: Any, *, teacher: Any
) -> GrownState:
    """Grow a checkpoint as the teacher's ONNX file was grown.

    The parameters of each changed tensor are found by name and by value, through what
    exporters do: transposed and renamed weights, folded BatchNormalization, packed
    projections, recurrent gates. EMA copies under the same names grow along.

    Args:
        state_dict: of the module that was exported to `teacher`, or a .safetensors file.
        mapping: what `--save-mapping` wrote (path or content), or a plan.
        teacher: the ONNX file that was grown.

    Raises:
        UnmatchedError: the parameters of some tensors cannot be told (`.names`).
        UsageError: the mapping belongs to another model.
    """
    state = _opened(state_dict)
    owners = {n: _memory(t) for n, t in state.items()}
    grown = grow(_arrays(state), mapping, teacher, owners)
    return GrownState(_tensors(grown.arrays, state), grown)


def grow_optimizer(
    optimizer_state: State, grown: GrownState, names: Sequence[str], *,
    new_names: Sequence[str] | None = None, reset: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Grow the state of SGD (with momentum), Adam or AdamW; see docs/checkpoints.md.

    Args:
        optimizer_state: `optimizer.state_dict()` of the teacher's training.
        grown: what `grow_state_dict` returned.
        names: the parameters' names in the optimiser's order:
            `[n for n, _ in model.named_parameters()]`.
        new_names: likewise for the grown module; needed where it has new parameters, which
            join the parameter group of the name in front of them.
        reset: `producers`: drop state that cannot be derived, so that these parameters
            start anew. By default that is an error.

    Returns:
        A state for `load_state_dict` of an optimiser over the grown module.

    Raises:
        UsageError: state that cannot be derived (the split is not `even` or `one-hot`), an
            optimiser of another kind, or names that do not fit.
    """
    if reset not in (None, "producers"):
        raise UsageError(f"unknown reset '{reset}'", "choose producers or leave it out")
    if not all(r.scheme.preserving for s in grown._grown.follower.steps for r in s.tensors):
        raise UsageError(
            "the student does not compute the teacher's function, so no state can be derived",
            "start the optimiser anew",
        )
    groups = optimizer_state["param_groups"]
    order = [k for g in groups for k in g["params"]]
    if len(order) != len(names):
        raise UsageError(
            f"{len(names)} names for {len(order)} parameters of the optimiser",
            "give the names of the module's parameters, in its order",
        )
    of = dict(zip(names, order, strict=True))
    state = {n: dict(optimizer_state["state"].get(k, {})) for n, k in of.items()}
    unknown = _grow_state(state, grown)
    if unknown and reset is None:
        raise UsageError(
            f"the state of {', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''} cannot be "
            "derived, as their gradients depend on how the copies divide entry by entry",
            "give reset='producers', or grow with --split even",
        )
    for name in unknown:
        state[name] = {}
    final = list(new_names or names)
    if set(names) - set(final) or (new_names is None and grown.new_parameters):
        raise UsageError(
            "give new_names, the names of the grown module's parameters in order, which hold all "
            "of the old ones",
            f"new: {', '.join(grown.new_parameters[:5])}",
        )
    result = {
        **optimizer_state,
        "state": {k: state[n] for k, n in enumerate(final) if state.get(n)},
    }
    result["param_groups"] = _groups(groups, of, final)
    return result


def _grow_state(state: dict[str, dict[str, Any]], grown: GrownState) -> list[str]:
    """Grow every kind of state in place; the parameters whose state cannot be derived."""
    unknown: dict[str, None] = {}
    kinds = dict.fromkeys(k for s in state.values() for k, v in s.items() if _is_moment(k, v))
    for kind in kinds:
        if kind not in POWERS:
            raise UsageError(
                f"'{kind}' is no state of SGD or Adam(W)", "start the optimiser anew instead"
            )
        held = {n: s[kind] for n, s in state.items() if s.get(kind) is not None}
        for network in copies(held):
            arrays = {b: _array(held[n].float()) for b, n in network.items()}
            made, lost = grow_moments(grown._grown.follower, arrays, POWERS[kind])
            for b, n in network.items():
                state[n][kind] = _tensor(made[b]).to(held[n])
            unknown.update({network[b]: None for b in lost})
    return list(unknown)


def _is_moment(kind: str, value: Any) -> bool:
    return kind != "step" and isinstance(value, Tensor)


def _groups(
    groups: Sequence[Mapping[str, Any]], of: Mapping[str, int], final: Sequence[str]
) -> list[dict[str, Any]]:
    """Parameter groups with new indices; a new parameter joins the one in front of it."""
    found = [{k: v for k, v in g.items() if k != "param_names"} | {"params": []} for g in groups]
    group_of = {k: j for j, g in enumerate(groups) for k in g["params"]}
    current = 0
    for k, name in enumerate(final):
        current = group_of[of[name]] if name in of else current
        found[current]["params"].append(k)
    return found


def _opened(state: State | str | os.PathLike[str]) -> dict[str, Tensor]:
    if isinstance(state, (str, os.PathLike)):
        from safetensors.torch import load_file

        return dict(load_file(os.fspath(state)))
    found = dict(state)
    wrong = [n for n, t in found.items() if not isinstance(t, Tensor)]
    if wrong:
        raise TypeError(
            f"expected a state_dict of tensors; '{wrong[0]}' is {type(found[wrong[0]]).__name__}: "
            "of a training checkpoint, give the entry that holds the model"
        )
    return found


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    return (
        (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if tensor.numel()
        else (id(tensor),)
    )


def _arrays(state: Mapping[str, Tensor]) -> dict[str, Array]:
    return {n: _array(t) for n, t in state.items()}


def _array(tensor: Tensor) -> Array:
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype in _VIEWED:
        bits, dtype = _VIEWED[tensor.dtype]
        return tensor.view(bits).numpy().view(dtype)
    return np.asarray(tensor.numpy())


def _tensor(array: Array) -> Tensor:
    array = np.array(array, order="C")
    for dtype, (bits, like) in _VIEWED.items():
        if array.dtype == like:
            return torch.from_numpy(array.view(np.int16)).view(bits).view(dtype)
    return torch.from_numpy(array)


def _tensors(arrays: Mapping[str, Array], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Arrays as tensors where the checkpoint's are; what did not change stays its tensor."""
    like = next((t for t in state.values() if t.is_floating_point()), torch.zeros(()))
    found: dict[str, Tensor] = {}
    for name, array in arrays.items():
        old = state.get(name)
        if old is not None and old.shape == array.shape and np.array_equal(_array(old), array):
            found[name] = old
            continue
        found[name] = _tensor(array).to((old if old is not None else like).device)
    return found


__all__ = ["GrownState", "UnmatchedError", "from_onnx", "grow_optimizer", "grow_state_dict"]
