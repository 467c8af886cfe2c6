"""Keys and values of the tokens that a causal model has read, so that the next token costs the work of one."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from core.config import ModelConfig
from core.errors import UserError
from core.parallel.mesh import Mesh


class KeyValueCache:
    """What a model remembers of some texts, a row each; pass the same one to each of its calls.

    All rows are given the same number of new tokens, shorter ones padded on the right; `lengths` is then set to what
    they really hold. What lies behind a row's length is seen by none and written over.

    2 · layers · rows · room · hidden / tp values.

    Args:
        rows: texts that there is room for.
        room: tokens a row; the model's sequence length by default.
        dtype: of keys and values; the model's.

    Attributes:
        lengths: tokens of each row that is in use: the first ones.
        starts, positions, mask: for the layers: of each row, how many tokens came before the new ones; the new ones'
            places, [rows, new]; which places they see, [rows, 1, new, longest], None where all see what is natural.
    """

    def __init__(
        self,
        config: ModelConfig,
        mesh: Mesh,
        rows: int = 1,
        room: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._sequence_length = config.sequence_length
        room = config.sequence_length if room is None else room
        shape = (2, rows, config.heads // mesh.tensor_size, room, config.head_size)
        # Zeros: what no token sees is multiplied by 0, which memory as it is may not survive.
        stored = [torch.zeros(shape, dtype=dtype, device=mesh.device) for _ in range(config.layers)]
        self._use(stored, [0] * rows)

    def _use(self, stored: list[torch.Tensor], lengths: list[int]) -> None:
        self._stored, self.lengths = stored, lengths
        self.layers = [LayerCache(self, values) for values in stored]
        self.starts = lengths
        self.positions = torch.empty(0)
        self.mask: torch.Tensor | None = None

    def empty_rows(self, first: int, count: int) -> "KeyValueCache":
        """Some rows as a cache of their own in the same memory, in which nothing is read yet."""
        part = object.__new__(KeyValueCache)
        part._sequence_length = self._sequence_length
        part._use([values[:, first : first + count] for values in self._stored], [0] * count)
        return part

    def take(self, rows: Sequence[int]) -> None:
        """Let row i from now on be what row `rows[i]` is; the others are given up."""
        moved = [(place, row) for place, row in enumerate(rows) if place != row]
        if moved:
            targets, sources = map(list, zip(*moved, strict=True))
            longest = max(self.lengths[row] for row in sources)
            for values in self._stored:
                values[:, targets, :, :longest] = values[:, sources, :, :longest]
        self.lengths = [self.lengths[row] for row in rows]

    def extend(self, new: int, device: torch.device) -> torch.Tensor:
        """Make ready for `new` tokens more in each row; the model calls it before its layers.

        Returns:
            their positions, [rows, new] int64.

        Raises:
            UserError: a row would be longer than the model reads.
        """
        starts = self.lengths
        longest = max(starts) + new
        if longest > self._sequence_length:
            raise UserError(
                f"{longest} tokens are more than the model's sequence_length {self._sequence_length}"
            )
        self.starts, self.lengths = starts, [start + new for start in starts]
        self.positions = torch.tensor(starts, device=device)[:, None] + torch.arange(new, device=device)
        self.mask = None
        if len(set(starts)) > 1 or (new > 1 and starts[0]):  # else all see all, or all before themselves
            self.mask = torch.arange(longest, device=device) <= self.positions[:, None, :, None]
        return self.positions


class LayerCache:
    """Keys and values of one layer: of this rank's heads."""

    def __init__(self, cache: KeyValueCache, stored: torch.Tensor) -> None:
        self._cache = cache
        self._stored = stored  # [2, rows, heads / tp, room, head size]

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Store the keys and values of new tokens, and let these see themselves and all that came before.

        Args:
            query, key, value: of the new tokens, [rows, heads / tp, new, head size].

        Returns:
            the attention's result for the new tokens, of the same shape.
        """
        starts, new, count = self._cache.starts, key.shape[2], key.shape[0]
        if len(set(starts)) == 1:
            place = slice(starts[0], starts[0] + new)
            self._stored[0, :count, :, place] = key
            self._stored[1, :count, :, place] = value
        else:
            rows = torch.arange(count, device=key.device)[:, None]
            self._stored[0, rows, :, self._cache.positions] = key.transpose(1, 2)
            self._stored[1, rows, :, self._cache.positions] = value.transpose(1, 2)
        if not any(starts):
            return F.scaled_dot_product_attention(query, key, value, is_causal=True)
        keys, values = self._stored[:, :count, :, : max(starts) + new]
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=self._cache.mask)
