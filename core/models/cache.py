"""Keys and values of the tokens that a causal model has read, so that the next token costs the work of one."""

import torch
import torch.nn.functional as F

from core.config import ModelConfig
from core.parallel.mesh import Mesh


class LayerCache:
    """Keys and values of one layer: of this rank's heads, with room for the model's sequence length."""

    def __init__(self, config: ModelConfig, mesh: Mesh, rows: int) -> None:
        shape = (2, rows, config.heads // mesh.tensor_size, config.sequence_length, config.head_size)
        self.stored = torch.empty(shape, device=mesh.device)
        self.length = 0  # tokens stored

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Store the keys and values of new tokens, and let these see themselves and all that came before.

        Args:
            query, key, value: of the new tokens, [rows, heads / tp, new, head size].

        Returns:
            the attention's result for the new tokens, of the same shape.
        """
        start, new = self.length, key.shape[2]
        self.length += new
        self.stored[0, :, :, start : self.length] = key
        self.stored[1, :, :, start : self.length] = value
        keys, values = self.stored[:, :, :, : self.length].to(query.dtype)
        mask = None  # one token sees everything
        if new > 1:
            mask = torch.ones(new, self.length, dtype=torch.bool, device=key.device).tril(start)
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)


class KeyValueCache:
    """What a model remembers of `rows` texts, read in step; pass the same one to each of its calls.

    fp32, 2 · layers · rows · sequence length · hidden / tp values.
    """

    def __init__(self, config: ModelConfig, mesh: Mesh, rows: int = 1) -> None:
        self.layers = [LayerCache(config, mesh, rows) for _ in range(config.layers)]

    @property
    def length(self) -> int:
        """Tokens read so far."""
        return self.layers[0].length

    def clear(self) -> None:
        """Forget all tokens; the room is used again."""
        for layer in self.layers:
            layer.length = 0
