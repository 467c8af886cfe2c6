"""GPT-2 (paper section 3 and table 2): a causal, pre-LN transformer with a tied output layer."""

import torch
import torch.nn.functional as F

from core.config import ModelConfig
from core.models.cache import KeyValueCache
from core.models.transformer import Batch, EmbeddedTransformer, Places, PretrainingObjective, TransformerStack
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
            places: logits of these n places only, [n, padded vocabulary / tp]. The
                logits are by far the largest values, and an evaluation wants few of them. Not under sequence
                parallelism.
            cache: what was read before; each row's `tokens` go on from there and are remembered in it. Generation
                only: it keeps no gradients.
        """
        positions = None if cache is None else cache.extend(tokens.shape[1], tokens.device)
        hidden = self.transformer(self._embedded(tokens, positions), cache=cache, places=places)
        if places is not None:
            assert not self.mesh.sequence_parallel, "places are of whole sequences"
            return self.token_embedding.logits(hidden)
        return self._logits(hidden)

    def begin(self, batch: Batch) -> torch.Tensor:
        return self._embedded(batch["tokens"])

    def finish(self, values: torch.Tensor, batch: Batch) -> torch.Tensor:
        return self._logits(values)

    def _embedded(self, tokens: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        return F.dropout(self.embed(tokens, positions), self.config.dropout, self.training)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.token_embedding.logits(hidden, split=self.mesh.sequence_parallel)


class GPT2LanguageModeling(PretrainingObjective):
    """Next-token cross entropy of batches of `tokens` and `targets`, both [batch, sequence] int64: the loss
    "language_model"."""

    targets = ("targets",)

    def predict(self, batch: Batch) -> torch.Tensor:
        return self.network(batch["tokens"])

    def losses(self, predictions: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        losses = vocabulary_parallel_cross_entropy(
            predictions,
            batch["targets"],
            group=self.network.mesh.tensor_group,
            vocabulary_size=self.network.config.vocabulary_size,
        )
        return {"language_model": losses.sum()}
