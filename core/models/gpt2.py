"""GPT-2 (paper section 3 and table 2): a causal, pre-LN transformer with a tied output layer."""

import torch
import torch.nn.functional as F
from torch import nn

from core.config import ModelConfig
from core.models.cache import KeyValueCache
from core.models.transformer import EmbeddedTransformer, Places, TransformerStack
from core.parallel.cross_entropy import vocabulary_parallel_cross_entropy
from core.parallel.mesh import Mesh


class GPT2Model(EmbeddedTransformer):
    """Tokens to next-token logits, split along the vocabulary."""

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__(config, mesh)
        self.transformer = TransformerStack(config, mesh)

    def forward(
        self,
        tokens: torch.Tensor,
        places: Places | None = None,
        cache: KeyValueCache | None = None,
    ) -> torch.Tensor:
        """[batch, sequence] int64 → this rank's logits [batch, sequence, padded vocabulary / tp], in the precision of the
        weights; what is made of them is fp32.

        Args:
            places: (rows, positions), [n] each: logits of these places only, [n, padded vocabulary / tp]. The
                logits are by far the largest values, and an evaluation wants few of them. Not under sequence
                parallelism.
            cache: what was read before; each row's `tokens` go on from there and are remembered in it. Generation
                only: it keeps no gradients.
        """
        values = self.embed(tokens, None if cache is None else cache.extend(tokens.shape[1], tokens.device))
        values = F.dropout(values, self.config.dropout, self.training)
        hidden = self.transformer(values, cache=cache, places=places)
        if places is not None:
            assert not self.mesh.sequence_parallel, "places are of whole sequences"
            return self.token_embedding.logits(hidden)
        return self.token_embedding.logits(hidden, split=self.mesh.sequence_parallel)


class GPT2LanguageModeling(nn.Module):
    """The pretraining objective: next-token cross entropy, summed over the micro-batch."""

    def __init__(self, network: GPT2Model) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """tokens and targets [batch, sequence] int64 → {"language_model": summed loss in nats}."""
        losses = vocabulary_parallel_cross_entropy(
            self.network(tokens),
            targets,
            group=self.network.mesh.tensor_group,
            vocabulary_size=self.network.config.vocabulary_size,
        )
        return {"language_model": losses.sum()}
