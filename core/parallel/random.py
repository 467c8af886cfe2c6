"""The two random streams of dropout (paper section 3 and appendix B).

Dropout on the residual stream must be the same on all tensor ranks, which hold the same values, and different
across data ranks; dropout on attention probabilities must differ across tensor ranks, which hold different heads.
Under sequence parallelism the ranks hold different parts of the residual stream too, and one stream a rank serves.

Streams are derived, not carried: both are seeded from (seed, step, micro-batch, rank) for what comes before the layers
of a micro-batch, and from these and its number for each layer. So a resumed run needs no saved random state, and no mask
depends on which layers a rank of a pipeline holds. A whole micro-batch draws from one stream (a stream a sample would
need the attention of each sample apart), so masks depend on `micro_batch` and on the number of data and tensor ranks:
other ones, as good. The residual stream is torch's default generator; attention swaps its own state in.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import torch


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts, the same in every process and on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class RandomStreams:
    """Residual stream (the default generator) and attention stream (a state swapped in where it is used)."""

    def __init__(
        self,
        device: torch.device,
        data_rank: int,
        tensor_rank: int,
        tensor_size: int,
        sequence_parallel: bool = False,
    ) -> None:
        self._device = device
        self._tensor_rank = tensor_rank
        self._rank = (data_rank, "sequence", tensor_rank) if sequence_parallel else (data_rank,)
        # One rank that holds all heads, or values of its own only: one stream serves.
        self.separate = tensor_size > 1 and not sequence_parallel
        self._attention_state: torch.Tensor | None = None
        self._micro_batch: tuple[object, ...] | None = None

    def start_micro_batch(self, seed: int, step: int, micro_batch: int) -> None:
        """Seed both streams for one forward (and backward) pass."""
        self._micro_batch = (seed, "dropout", step, micro_batch, *self._rank)
        self._seed(self._micro_batch)

    def start_layer(self, number: int) -> None:
        """Seed both streams for a layer of the micro-batch; without one, the streams go on as they are.

        Args:
            number: of the layer in the whole model.
        """
        if self._micro_batch is not None:
            self._seed((*self._micro_batch, "layer", number))

    def _seed(self, place: tuple[object, ...]) -> None:
        if self.separate:
            self._start_at(derived_seed(*place, "attention", self._tensor_rank))
            self._attention_state = self._get_state()
        self._start_at(derived_seed(*place))

    def _start_at(self, seed: int) -> None:
        """What `torch.manual_seed` does, but not for kinds of devices that are not used: there it keeps a traceback of each
        call, for when they are, which takes longer than a layer of a small model."""
        torch.default_generator.manual_seed(seed)
        if self._device.type == "cuda":
            torch.cuda.manual_seed(seed)

    @contextlib.contextmanager
    def attention(self) -> Iterator[None]:
        """Inside, random numbers come from the attention stream."""
        if not self.separate or self._attention_state is None:
            yield
            return
        residual_state = self._get_state()
        self._set_state(self._attention_state)
        try:
            yield
        finally:
            self._attention_state = self._get_state()
            self._set_state(residual_state)

    def recomputation_contexts(self) -> tuple[Any, Any]:
        """`context_fn` for `torch.utils.checkpoint`, which by itself restores the default generator only.

        Without it a recomputed layer would draw other attention masks than its forward pass, in silence.
        """
        return contextlib.nullcontext(), self._recomputing(self._attention_state)

    @contextlib.contextmanager
    def _recomputing(self, state_at_forward: torch.Tensor | None) -> Iterator[None]:
        current = self._attention_state
        self._attention_state = state_at_forward
        try:
            yield
        finally:
            self._attention_state = current

    def _get_state(self) -> torch.Tensor:
        return torch.cuda.get_rng_state() if self._device.type == "cuda" else torch.get_rng_state()

    def _set_state(self, state: torch.Tensor) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state)
        else:
            torch.set_rng_state(state)
