"""The layers of the paper's section 3. Parameters are stored as DTensors on the mesh's "tp" dimension and used
as plain local tensors, so that the forward pass reads as the paper writes it.

Under sequence parallelism the values outside tensor-parallel regions are [batch, sequence / tp, hidden], and what is
computed on them (LayerNorm, biases of row-parallel layers, positions) gives each rank the gradient of its part only.
Their modules name such parameters (`partial_gradients`), and `core.training.data_parallel.complete_gradients` adds up.

Each layer names how its parameters start (`initial`): a number is the standard deviation of N(0, ·), the words
"zeros" and "ones" are constants. `initialize_parameters` draws them so that no value depends on the layout.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from core.parallel.collectives import g, scatter_sequence
from core.parallel.column_product import column_product
from core.parallel.mesh import Mesh
from core.parallel.narrow_products import linear, linear_gelu
from core.parallel.parts import local, local_parts, new_part, own_part, place_of
from core.parallel.random import derived_seed

Initial = float | str
_DRAWN_AT_ONCE = 1 << 22  # values; a parameter of so many or more is drawn in pieces
_MOST_PIECES = 64  # of it: tensor-parallel sizes that divide this draw nothing twice


class ColumnParallelLinear(nn.Module):
    """Y = X A + b with A split by columns, behind the operator f: [Y1, Y2] = [X A1, X A2], so that what follows value by
    value, as in the paper's equation 3, goes on without the other ranks. A is stored transposed, [out, in]."""

    def __init__(self, inputs: int, outputs: int, mesh: Mesh, initial_std: float) -> None:
        super().__init__()
        self.group = mesh.tensor_group
        self.sequence_parallel = mesh.sequence_parallel
        self.weight = new_part((outputs, inputs), 0, mesh)
        self.bias = new_part((outputs,), 0, mesh)
        self.initial: dict[str, Initial] = {"weight": initial_std, "bias": "zeros"}

    def forward(self, values: torch.Tensor, gelu: str | None = None) -> torch.Tensor:
        """[batch, sequence, in], or under sequence parallelism [batch, sequence / tp, in] → [batch, sequence, out / tp].

        Args:
            gelu: of the product, in this of torch's approximations.
        """
        weight, bias = local_parts(self.weight, self.bias)
        compiled = torch.compiler.is_compiling()  # it would break the graph at the next question
        if gelu and not compiled and torch.is_inference_mode_enabled() and not self.sequence_parallel:
            return linear_gelu(values, weight, bias, gelu)
        product = column_product(values, weight, bias, self.group, self.sequence_parallel)
        return product if gelu is None else F.gelu(product, approximate=gelu)

    def extra_repr(self) -> str:
        return _shard_text(self.weight, "out", 0)


class RowParallelLinear(nn.Module):
    """Y = X A + b with A split by rows, before the operator g: Y = g(X1 A1 + X2 A2) + b, one product a rank. The bias is
    added once, after g."""

    def __init__(self, inputs: int, outputs: int, mesh: Mesh, initial_std: float) -> None:
        super().__init__()
        self.group = mesh.tensor_group
        self.leave = scatter_sequence if mesh.sequence_parallel else g  # figure 3's g
        self.partial_gradients = ("bias",) if mesh.sequence_parallel else ()
        self.weight = new_part((outputs, inputs), 1, mesh)
        self.bias = new_part((outputs,), None, mesh)
        self.initial: dict[str, Initial] = {"weight": initial_std, "bias": "zeros"}

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[batch, sequence, in / tp] → [batch, sequence, out], or under sequence parallelism [batch, sequence / tp, out]."""
        if self.group.size() == 1:
            return linear(values, *local_parts(self.weight, self.bias))
        summed = self.leave(linear(values, local(self.weight)), self.group)
        return summed + local(self.bias)

    def extra_repr(self) -> str:
        return _shard_text(self.weight, "in", 1)


class ReplicatedLinear(nn.Module):
    """A linear layer that every tensor rank computes whole (small heads)."""

    def __init__(self, inputs: int, outputs: int, mesh: Mesh, initial_std: float) -> None:
        super().__init__()
        self.weight = new_part((outputs, inputs), None, mesh)
        self.bias = new_part((outputs,), None, mesh)
        self.initial: dict[str, Initial] = {"weight": initial_std, "bias": "zeros"}

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[..., in] → [..., out]."""
        return linear(values, *local_parts(self.weight, self.bias))

    def extra_repr(self) -> str:
        return f"in={self.weight.shape[1]}, out={self.weight.shape[0]}, replicated"


class VocabularyParallelEmbedding(nn.Module):
    """An embedding split along the vocabulary: ids of other ranks' rows give zeros, g adds the ranks up. An id that has no
    row on any rank gives NaN (on a single rank, torch's error)."""

    def __init__(self, vocabulary_size: int, hidden: int, mesh: Mesh, initial_std: float) -> None:
        super().__init__()
        self.group = mesh.tensor_group
        self.leave = scatter_sequence if mesh.sequence_parallel else g
        self.rows = vocabulary_size // mesh.tensor_size
        self.start = mesh.tensor_rank * self.rows
        self.weight = new_part((vocabulary_size, hidden), 0, mesh)
        self.initial: dict[str, Initial] = {"weight": initial_std}

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[batch, sequence] ids → [batch, sequence, hidden]; under sequence parallelism this rank's part of it."""
        if self.group.size() == 1:
            return F.embedding(tokens, local(self.weight))
        rows = tokens - self.start
        elsewhere = (rows < 0) | (rows >= self.rows)
        embedded = F.embedding(rows.masked_fill(elsewhere, 0), local(self.weight))
        nowhere = (tokens < 0) | (tokens >= self.rows * self.group.size())
        absent = torch.zeros_like(embedded[..., :1]).masked_fill(nowhere.unsqueeze(-1), torch.nan)
        return self.leave(torch.where(elsewhere.unsqueeze(-1), absent, embedded), self.group)

    def logits(
        self, hidden: torch.Tensor, split: bool = False, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The tied output layer (behind f): [..., hidden] → this rank's columns [..., vocabulary / tp].

        Args:
            split: `hidden` is this rank's part of the sequence, [batch, sequence / tp, hidden].
            bias: of this rank's columns.
        """
        return column_product(hidden, local(self.weight), bias, self.group, split)

    def extra_repr(self) -> str:
        return _shard_text(self.weight, "rows", 0)


class ReplicatedEmbedding(nn.Module):
    """A table that every tensor rank holds whole (positions, token types), for ids of its part of the sequence."""

    def __init__(self, rows: int, hidden: int, mesh: Mesh, initial_std: float) -> None:
        super().__init__()
        self.partial_gradients = ("weight",) if mesh.sequence_parallel else ()
        self.weight = new_part((rows, hidden), None, mesh)
        self.initial: dict[str, Initial] = {"weight": initial_std}

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        """Ids [...] int64 → [..., hidden]."""
        return F.embedding(indices, local(self.weight))


class LayerNorm(nn.Module):
    """LayerNorm, computed by every tensor rank on the same values, or on its part of the sequence.

    Args:
        whole: the values are whole on every rank even under sequence parallelism.
    """

    def __init__(self, hidden: int, mesh: Mesh, eps: float, whole: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.partial_gradients = ("weight", "bias") if mesh.sequence_parallel and not whole else ()
        self.weight = new_part((hidden,), None, mesh)
        self.bias = new_part((hidden,), None, mesh)
        self.initial: dict[str, Initial] = {"weight": "ones", "bias": "zeros"}

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[..., hidden] → the same."""
        weight, bias = local_parts(self.weight, self.bias)
        return F.layer_norm(values, weight.shape, weight, bias, self.eps)


_left_out = contextvars.ContextVar("initial values left out", default=False)


@contextlib.contextmanager
def without_initial_values(leave_out: bool = True) -> Iterator[None]:
    """Inside, `initialize_parameters` leaves parameters as they are: for models that are loaded next."""
    token = _left_out.set(leave_out)
    try:
        yield
    finally:
        _left_out.reset(token)


def initialize_parameters(model: nn.Module, seed: int) -> None:
    """Give every parameter its initial values, which depend on its name and the seed, never on the layout.

    Each is drawn on the CPU from a generator of its own; a large one in pieces, from a generator each, of which a rank
    draws those that it has a part of.
    """
    if _left_out.get():
        return
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            _fill(parameter, module.initial[name], (seed, "initial", f"{module_name}.{name}"))


@torch.no_grad()
def _fill(parameter: torch.Tensor, initial: Initial, stream: tuple[object, ...]) -> None:
    target = own_part(parameter)
    if initial == "zeros":
        target.zero_()
    elif initial == "ones":
        target.fill_(1.0)
    else:
        for part, of_piece, shape, number in _pieces(parameter):
            generator = torch.Generator().manual_seed(derived_seed(*stream, *number))
            values = torch.empty(shape).normal_(0.0, float(initial), generator=generator)
            target[part].copy_(values[of_piece])


Slices = tuple[slice, ...]


def _pieces(parameter: torch.Tensor) -> Iterator[tuple[Slices, Slices, list[int], tuple[int, ...]]]:
    """The pieces that a parameter is drawn in, of those that this rank has a part of: where in the local tensor it goes,
    where in the piece it stands, the piece's shape, and what to add to the stream's name. A small parameter is one piece.
    """
    shared, rank, _ = place_of(parameter)
    split = shared or 0
    size, own = parameter.shape[split], own_part(parameter).shape[split]
    first = 0 if shared is None else rank * own
    pieces = 1 if parameter.numel() < _DRAWN_AT_ONCE else math.gcd(size, _MOST_PIECES)
    length = size // pieces
    shape = [*parameter.shape[:split], length, *parameter.shape[split + 1 :]]
    before = (slice(None),) * split
    for piece in range(first // length, math.ceil((first + own) / length)):
        start, end = max(first, piece * length), min(first + own, (piece + 1) * length)
        yield (
            (*before, slice(start - first, end - first)),
            (*before, slice(start - piece * length, end - piece * length)),
            shape,
            (piece,) if pieces > 1 else (),
        )


def _shard_text(weight: torch.Tensor, split: str, dimension: int) -> str:
    _, rank, ranks = place_of(weight)
    return f"shape={tuple(weight.shape)}, {split}={weight.shape[dimension]}/{ranks}, rank {rank}"
