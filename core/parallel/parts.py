"""This rank's parts of parameters, as layers compute with them: plain tensors, each a leaf of autograd whose gradient becomes
the parameter's. A parameter itself is a DTensor, for `fully_shard` and checkpoints.

`DTensor.to_local` is an operation: each backward pass works out anew what its gradient is a gradient of, and adds it up
through torch's dispatch of DTensors, which takes the host longer than a small matrix product; under `torch.compile` every
call of a layer wraps and unwraps all its parameters. The parameter knows all that.

A program that only scores gets plain tensors where no tensor ranks share them: DTensors take half a second to import.

Where nothing is split over data ranks, bf16 and fp16 compute with narrow copies of the parts, made once a step; their
gradients are added up in fp32. That gives the bits of `fully_shard`'s mixed precision, without its work.
"""

import copy
import weakref
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeGuard, cast

import torch
from torch import nn

from core.errors import UserError
from core.parallel.mesh import Mesh

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def new_part(shape: tuple[int, ...], split: int | None, mesh: Mesh) -> nn.Parameter:
    """An uninitialised parameter of global `shape`, stored as this rank's part of it (fp32).

    Args:
        split: the dimension that the tensor ranks share, whose size they divide; None: each has all of it.
    """
    sizes = list(shape)
    if split is not None:
        sizes[split], left = divmod(shape[split], mesh.tensor_size)
        if left:
            raise UserError(
                f"dimension {shape[split]} is not divisible by {mesh.tensor_size} tensor-parallel ranks"
            )
    values = torch.empty(sizes, device=mesh.device)
    if mesh.tensor_size == 1 and not mesh.trains:
        return nn.Parameter(values)
    from torch.distributed.tensor import DTensor, Replicate, Shard

    placement = Replicate() if split is None else Shard(split)
    return nn.Parameter(DTensor.from_local(values, mesh.device_mesh["tp"], [placement], run_check=False))


def is_distributed(parameter: torch.Tensor) -> "TypeGuard[DTensor]":
    """Whether a parameter is a DTensor; asked without importing them."""
    return hasattr(parameter, "_spec")


def place_of(parameter: torch.Tensor) -> tuple[int | None, int, int]:
    """The dimension of it that tensor ranks share (None: each has all of it), this rank among them, and their number."""
    if not is_distributed(parameter):
        return None, 0, 1
    # fully_shard puts "dp" before it
    ranks, placement = parameter.device_mesh["tp"], parameter.placements[-1]
    return placement.dim if placement.is_shard() else None, ranks.get_local_rank(), ranks.size()  # type: ignore[attr-defined]


def own_part(parameter: torch.Tensor) -> torch.Tensor:
    """This tensor rank's part of a parameter itself, to be read and written.

    Outside the hooks of `fully_shard` a parameter lives on ("dp", "tp"), and its local tensor would silently be
    a data rank's fragment: that is refused.
    """
    if not is_distributed(parameter):
        return parameter
    if parameter._spec.mesh.mesh_dim_names != ("tp",):
        raise RuntimeError(
            f"a parameter on mesh dimensions {parameter.device_mesh.mesh_dim_names} was used outside the root "
            "module's forward; enter through it, or load the model without fully_shard"
        )
    return parameter._local_tensor


def local(parameter: torch.Tensor) -> torch.Tensor:
    """This tensor rank's part of a parameter, differentiable, in the precision of the computation."""
    return local_parts(parameter)[0]


def local_parts(*parameters: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """As `local`, of parameters that are used together."""
    if torch.compiler.is_compiling():  # `make_leaves` comes before
        return tuple([cast(_Leaf, parameter._leaf).values for parameter in parameters])  # type: ignore[attr-defined]
    return tuple([_leaf(one).values if is_distributed(one) else one for one in parameters])


def make_leaves(module: nn.Module) -> None:
    """Make what `local` gives for a module's parameters, before compiled code asks for it."""
    for parameter in module.parameters():
        _leaf(cast("DTensor", parameter))


def compute_in(model: nn.Module, dtype: torch.dtype) -> None:
    """From now on `local` gives narrow copies of the parameters' parts, which `refresh` makes what the parts are."""
    for parameter in model.parameters():
        own_part(parameter)
        parameter._leaf = _Leaf(cast("DTensor", parameter), dtype)  # type: ignore[attr-defined]


@torch.no_grad()
def refresh(model: nn.Module) -> None:
    """Bring narrow copies up to date, before the passes of a step or a validation; nothing where there are none."""
    leaves = [leaf for leaf in _leaves(model.parameters()) if leaf.is_copy]
    if leaves:
        torch._foreach_copy_([leaf.values for leaf in leaves], [leaf.part for leaf in leaves])


def _leaves(parameters: Iterable[torch.Tensor]) -> "list[_Leaf]":
    found = [getattr(parameter, "_leaf", None) for parameter in parameters]
    return [leaf for leaf in found if leaf is not None]


class _Leaf:
    """A part as autograd sees it.

    Args:
        dtype: of a copy to compute with; None computes with the part.
    """

    def __init__(self, parameter: "DTensor", dtype: torch.dtype | None = None) -> None:
        from torch.distributed.tensor import DTensor

        self.part, self.dtype = parameter._local_tensor, dtype
        self.is_copy = dtype is not None and dtype != self.part.dtype
        self.values = (self.part.detach().to(dtype) if self.is_copy else self.part.detach()).requires_grad_(
            parameter.requires_grad
        )
        self._distributed = partial(DTensor, spec=copy.copy(parameter._spec), requires_grad=False)
        self._parameter = weakref.ref(parameter)
        if parameter.requires_grad:
            self.values.register_post_accumulate_grad_hook(self._hand_over)

    def _hand_over(self, leaf: torch.Tensor) -> None:
        gradient, leaf.grad = leaf.grad, None
        parameter = self._parameter()
        assert gradient is not None and parameter is not None
        if parameter.grad is None:
            parameter.grad = self._distributed(gradient.to(self.part.dtype))
        else:
            cast("DTensor", parameter.grad)._local_tensor.add_(gradient)


def _leaf(parameter: "DTensor") -> _Leaf:
    """Of a parameter, made anew where the parameter was given another part, or is trained no more."""
    part = own_part(parameter)
    leaf: _Leaf | None = getattr(parameter, "_leaf", None)
    if leaf is None or leaf.part is not part or leaf.values.requires_grad != parameter.requires_grad:
        leaf = parameter._leaf = _Leaf(parameter, leaf.dtype if leaf else None)  # type: ignore[attr-defined]
    return leaf
