"""BERT (paper section 5.3, figure 7): both layer-norm orders, with its pretraining heads."""

import torch
import torch.nn.functional as F
from torch import nn

from core.config import ModelConfig
from core.models.transformer import (
    Batch,
    EmbeddedTransformer,
    PretrainingObjective,
    TransformerStack,
    gelu_form,
)
from core.parallel.cross_entropy import IGNORED, vocabulary_parallel_cross_entropy
from core.parallel.layers import (
    Initial,
    LayerNorm,
    ReplicatedEmbedding,
    ReplicatedLinear,
    VocabularyParallelEmbedding,
)
from core.parallel.mesh import Mesh
from core.parallel.parts import local, new_part

TOKEN_TYPES = 2


class MaskedTokenHead(nn.Module):
    """Dense, GeLU, LayerNorm, then the tied embedding with a bias per vocabulary entry."""

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        self.dense = ReplicatedLinear(config.hidden, config.hidden, mesh, config.initial_std)
        self.norm = LayerNorm(config.hidden, mesh, config.layer_norm_eps, whole=True)
        self.approximate = gelu_form(config)
        self.bias = new_part((config.padded_vocabulary_size,), 0, mesh)
        self.initial: dict[str, Initial] = {"bias": "zeros"}

    def forward(self, hidden: torch.Tensor, embedding: VocabularyParallelEmbedding) -> torch.Tensor:
        """[rows, hidden] → this rank's logits [rows, padded vocabulary / tp]."""
        hidden = self.norm(F.gelu(self.dense(hidden), approximate=self.approximate))
        return embedding.logits(hidden, bias=local(self.bias))


class BertModel(EmbeddedTransformer):
    """Encoder, pooler, and the heads for masked tokens and sentence order."""

    pretraining_heads = ("masked_token_head", "sentence_order_head")

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__(config, mesh)
        hidden, std = config.hidden, config.initial_std
        if mesh.has_first_stage:
            self.token_type_embedding = ReplicatedEmbedding(TOKEN_TYPES, hidden, mesh, std)
            self.embedding_norm = (
                LayerNorm(hidden, mesh, config.layer_norm_eps) if config.embedding_norm else None
            )
        self.transformer = TransformerStack(config, mesh)
        if mesh.has_last_stage:
            self.pooler = ReplicatedLinear(hidden, hidden, mesh, std)
            self.masked_token_head = MaskedTokenHead(config, mesh)
            self.sentence_order_head = ReplicatedLinear(hidden, 2, mesh, std)

    def hidden_states(
        self, tokens: torch.Tensor, token_types: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """[batch, sequence, hidden].

        Args:
            tokens, token_types: [batch, sequence] int64.
            attention_mask: [batch, sequence], nonzero where there is a token, 0 where there is padding. None where there is
                none, for which attention has faster code.
        """
        values = self._embedded(tokens, token_types)
        return self.whole(self.transformer(values, _seen(attention_mask)))

    def encode(
        self, tokens: torch.Tensor, token_types: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`hidden_states`, and the pooled first token [batch, hidden]."""
        hidden = self.hidden_states(tokens, token_types, attention_mask)
        return hidden, self._pooled(hidden)

    def forward(
        self,
        tokens: torch.Tensor,
        token_types: torch.Tensor,
        attention_mask: torch.Tensor | None,
        masked_positions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the masked tokens and of the sentence order.

        Args:
            masked_positions: [batch, predictions] int64, places in the sequence whose tokens are predicted.

        Returns:
            this rank's columns [batch, predictions, padded vocabulary / tp], and [batch, 2] in fp32.
        """
        encoded = self.encode(tokens, token_types, attention_mask)
        return self._heads(*encoded, masked_positions)

    def begin(self, batch: Batch) -> torch.Tensor:
        return self._embedded(batch["tokens"], batch["token_types"])

    def mask(self, batch: Batch) -> torch.Tensor | None:
        return _seen(batch.get("attention_mask"))

    def finish(self, values: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.whole(values)
        return self._heads(hidden, self._pooled(hidden), batch["masked_positions"])

    def _embedded(self, tokens: torch.Tensor, token_types: torch.Tensor) -> torch.Tensor:
        values = self.embed(tokens) + self.token_type_embedding(self.part_of_sequence(token_types))
        if self.embedding_norm is not None:
            values = self.embedding_norm(values)
        return F.dropout(values, self.config.dropout, self.training)

    def _pooled(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.pooler(hidden[:, 0]))

    def _heads(
        self, hidden: torch.Tensor, pooled: torch.Tensor, masked_positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        index = masked_positions.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
        masked = hidden.gather(1, index)
        logits = self.masked_token_head(masked, self.token_embedding)
        return logits, self.sentence_order_head(pooled).float()


def _seen(attention_mask: torch.Tensor | None) -> torch.Tensor | None:
    """[batch, sequence] → the layers' mask, [batch, 1, 1, sequence]; none where all may be seen."""
    return None if attention_mask is None else attention_mask.bool()[:, None, None, :]


class BertPretraining(PretrainingObjective):
    """Masked tokens and sentence order: the losses "masked_token" and "sentence_order".

    A batch holds the arguments of `BertModel.forward` (without `attention_mask` where nothing is padding) and

        masked_targets: [batch, predictions] int64, -100 where a row has fewer masks;
        order_labels: [batch] int64, 1 where the two halves are swapped.
    """

    targets = ("masked_targets", "order_labels")

    def predict(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = ("tokens", "token_types", "attention_mask", "masked_positions")
        return self.network(*(batch.get(name) for name in inputs))

    def losses(self, predictions: tuple[torch.Tensor, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        logits, order_logits = predictions
        masked = vocabulary_parallel_cross_entropy(
            logits,
            batch["masked_targets"],
            group=self.network.mesh.tensor_group,
            vocabulary_size=self.network.config.vocabulary_size,
        )
        labels = batch["order_labels"]
        order = F.cross_entropy(order_logits, labels, ignore_index=IGNORED, reduction="sum")
        return {"masked_token": masked.sum(), "sentence_order": order}
