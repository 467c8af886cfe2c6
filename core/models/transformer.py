"""The parallel transformer stack (paper section 3): attention by heads, MLP by columns and rows, one all-reduce
after each; both layer-norm orders of figure 7."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from core.config import ModelConfig
from core.errors import ConfigurationError, UserError
from core.families import FAMILIES
from core.models.cache import KeyValueCache, LayerCache
from core.parallel.collectives import whole_sequence
from core.parallel.layers import (
    ColumnParallelLinear,
    LayerNorm,
    ReplicatedEmbedding,
    RowParallelLinear,
    VocabularyParallelEmbedding,
)
from core.parallel.mesh import Mesh
from core.parallel.narrow_products import linear
from core.parallel.parts import local_parts, make_leaves

Batch = Mapping[str, torch.Tensor]


class Places(NamedTuple):
    """Where values are wanted: n places of a batch, [n] each, none of them before the position `first`, a number that the
    host knows."""

    rows: torch.Tensor
    positions: torch.Tensor
    first: int = 0


class SelfAttention(nn.Module):
    """Multi-head attention; each tensor rank computes heads / tp of them between f and g (paper figure 3b).

    The fused projection's rows are ordered (head, query/key/value, head size), so that a slice of dimension 0
    is whole heads. With `recompute`, the backward pass computes the attention's core, between query, key and value
    and the output projection, again: large to keep and cheap to repeat (Korthikanti et al. 2022, section 5).
    """

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        self.head_size = config.head_size
        self.local_heads = config.heads // mesh.tensor_size
        self.causal = FAMILIES[config.family].causal
        self.dropout = config.attention_dropout
        self.streams = mesh.streams
        self.recompute = False
        output_std = config.initial_std / math.sqrt(2 * config.layers)
        self.query_key_value = ColumnParallelLinear(
            config.hidden, 3 * config.hidden, mesh, config.initial_std
        )
        self.output = RowParallelLinear(config.hidden, config.hidden, mesh, output_std)

    def forward(
        self,
        values: torch.Tensor,
        mask: torch.Tensor | None,
        cache: LayerCache | None = None,
        places: Places | None = None,
    ) -> torch.Tensor:
        """[batch, sequence, hidden] → the same; mask [batch, 1, 1, sequence], True where a key may be seen.

        Under sequence parallelism input and result are this rank's part of the sequence. With a cache, `values` are
        of new tokens, which see those before them, too. With places, the result is theirs only, [n, hidden].
        """
        if places is not None and cache is None and not (self.training or torch.is_grad_enabled()):
            return self.output(self._core_of(values, places))
        fused = self.query_key_value(values)
        own_stream = self.dropout and self.streams.separate and not torch.compiler.is_compiling()
        if self.training and (self.recompute or own_stream):
            context = self._core_apart(fused, mask)
        else:
            context = self._core(fused, mask, cache)
        return self.output(context if places is None else context[places.rows, places.positions])

    def _core_of(self, values: torch.Tensor, places: Places) -> torch.Tensor:
        """[batch, sequence, hidden] → context of the places, [n, hidden / tp]: of all others nothing is computed but what
        the places see of them, keys and values. Causal, without dropout and cache."""
        batch, sequence, hidden = values.shape
        layer, heads, size = self.query_key_value, self.local_heads, self.head_size
        weight, bias = local_parts(layer.weight, layer.bias)
        weights, biases = weight.view(heads, 3, size, hidden), bias.view(heads, 3, size)
        others = linear(values, weights[:, 1:].reshape(-1, hidden), biases[:, 1:].flatten())
        key, value = others.view(batch, sequence, heads, 2, size).permute(3, 0, 2, 1, 4)
        own = linear(values[:, places.first :], weights[:, 0].reshape(-1, hidden), biases[:, 0].flatten())
        query = own.view(batch, -1, heads, size).transpose(1, 2)
        seen = None
        if places.first:  # a mask costs more than it saves where there is nothing to leave out
            whole = torch.ones(sequence - places.first, sequence, dtype=torch.bool, device=values.device)
            seen = whole.tril(places.first)
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, is_causal=seen is None)
        return context.transpose(1, 2).flatten(2)[places.rows, places.positions - places.first]

    def _core(
        self, fused: torch.Tensor, mask: torch.Tensor | None, cache: LayerCache | None = None
    ) -> torch.Tensor:
        """Projected values [batch, sequence, 3 · hidden / tp] → context [batch, sequence, hidden / tp]."""
        batch, sequence, _ = fused.shape
        parts = fused.view(batch, sequence, self.local_heads, 3, self.head_size)
        query, key, value = parts.permute(3, 0, 2, 1, 4)  # each [batch, heads / tp, sequence, head size]
        if cache is None:
            dropout = self.dropout if self.training else 0.0
            context = F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=self.causal
            )
        else:
            context = cache.attend(query, key, value)
        return context.transpose(1, 2).reshape(batch, sequence, -1)

    def _core_apart(self, fused: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """With a random stream of its own, or recomputed: what a compiler cannot see through. In compiled code that does
        not recompute it the stream is all of the layer's (`TransformerLayer.compile_computation`)."""
        if not self.recompute:
            return self._core_on_stream(fused, mask)
        contexts = self.streams.recomputation_contexts
        return checkpoint(self._core_on_stream, fused, mask, use_reentrant=False, context_fn=contexts)

    def _core_on_stream(self, fused: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        with self.streams.attention():
            return self._core(fused, mask)


class FeedForward(nn.Module):
    """Z = GeLU(X A) B; the width 4 · hidden is split over the tensor ranks (paper section 3, figure 3a).

    Splitting A by rows, X = [X1, X2] and A = [A1; A2] (equation 2), would need the ranks' sum before the GeLU, because
    GeLU(X1 A1 + X2 A2) is not GeLU(X1 A1) + GeLU(X2 A2). Splitting it by columns, A = [A1, A2], needs none:

        [Y1, Y2] = [GeLU(X A1), GeLU(X A2)]    (equation 3)

    and the rows of B are split as these columns are: Z = g(Y1 B1 + Y2 B2). So f before A and g after B are all there
    is: one all-reduce forward, one backward.
    """

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        output_std = config.initial_std / math.sqrt(2 * config.layers)
        self.expand = ColumnParallelLinear(config.hidden, 4 * config.hidden, mesh, config.initial_std)
        self.contract = RowParallelLinear(4 * config.hidden, config.hidden, mesh, output_std)
        self.approximate = gelu_form(config)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[batch, sequence, hidden], or this rank's part of the sequence → the same."""
        return self.contract(self.expand(values, gelu=self.approximate))


class TransformerLayer(nn.Module):
    """One layer: 2 all-reduces forward and 2 backward (paper figure 4). With `recompute`, only its input is kept for the
    backward pass (activation checkpointing, paper section 4.2)."""

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        self.pre_norm = config.norm_order == "pre"
        self.dropout = config.dropout
        self.streams = mesh.streams
        self.recompute = False
        self.attention_norm = LayerNorm(config.hidden, mesh, config.layer_norm_eps)
        self.attention = SelfAttention(config, mesh)
        self.feed_forward_norm = LayerNorm(config.hidden, mesh, config.layer_norm_eps)
        self.feed_forward = FeedForward(config, mesh)

    def forward(
        self,
        values: torch.Tensor,
        mask: torch.Tensor | None = None,
        cache: LayerCache | None = None,
        places: Places | None = None,
    ) -> torch.Tensor:
        """[batch, sequence, hidden], or this rank's part of the sequence → the same; mask, cache and places as in
        `SelfAttention.forward`."""
        if self.recompute and self.training:
            contexts = self.streams.recomputation_contexts
            return checkpoint(
                self._compute, values, mask, None, places, use_reentrant=False, context_fn=contexts
            )
        return self._compute(values, mask, cache, places)

    def _compute(
        self,
        values: torch.Tensor,
        mask: torch.Tensor | None,
        cache: LayerCache | None = None,
        places: Places | None = None,
        kept: tuple[torch.Tensor | None, ...] = (None, None),
    ) -> torch.Tensor:
        """As `forward`; `kept`: what the layer's two residual dropouts keep, None where they draw it themselves."""
        first, second = kept
        if self.pre_norm:  # figure 7(b): the residual is the un-normalised stream
            attended = self.attention(self.attention_norm(values), mask, cache, places)
            values = (values if places is None else values[places.rows, places.positions]) + self._drop(
                attended, first
            )
            return values + self._drop(self.feed_forward(self.feed_forward_norm(values)), second)
        assert places is None, "for causal models, which are pre-LN"
        values = self.attention_norm(values + self._drop(self.attention(values, mask), first))  # figure 7(a)
        return self.feed_forward_norm(values + self._drop(self.feed_forward(values), second))

    def compile_computation(self) -> None:
        """Let `torch.compile` fuse what lies between the matrix products; recomputation stays outside of it.

        A compiler knows one random stream. Where attention has one of its own, it is that; what the residual dropouts keep
        is drawn before.
        """
        apart: Any = torch.compiler.disable(self.attention._core_apart)
        self.attention._core_apart = apart  # type: ignore[method-assign]
        compiled = torch.compile(self._compute)

        def compute(
            values: torch.Tensor, mask: Any = None, cache: Any = None, places: Places | None = None
        ) -> torch.Tensor:
            make_leaves(self)
            if not (self.training and self.attention.dropout and self.streams.separate):
                return compiled(values, mask, cache, places)
            kept = tuple(
                [
                    self._draw(values if places is None else values[places.rows, places.positions])
                    for _ in range(2)
                ]
            )
            with self.streams.attention():
                return compiled(values, mask, cache, places, kept)

        self._compute = compute  # type: ignore[method-assign, assignment]

    def _drop(self, values: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        if kept is None:
            return F.dropout(values, self.dropout, self.training)
        return values * kept * (1 / (1 - self.dropout))

    def _draw(self, like: torch.Tensor) -> torch.Tensor | None:
        return torch.empty_like(like, dtype=torch.bool).bernoulli_(1 - self.dropout) if self.dropout else None


class TransformerStack(nn.Module):
    """All layers, and the final LayerNorm of the pre-LN order; on a rank of a pipeline those of its stages, each layer
    under its number in the whole model."""

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        self.parts = mesh.own_layers(config.layers)
        self.streams = mesh.streams
        self.drops = config.drops
        self.layers = nn.ModuleDict(
            {str(number): TransformerLayer(config, mesh) for part in self.parts for number in part}
        )
        self.last = mesh.has_last_stage
        normed = config.norm_order == "pre" and self.last
        self.final_norm = LayerNorm(config.hidden, mesh, config.layer_norm_eps) if normed else None

    def forward(
        self,
        values: torch.Tensor,
        mask: torch.Tensor | None = None,
        cache: KeyValueCache | None = None,
        part: int = 0,
        places: Places | None = None,
    ) -> torch.Tensor:
        """[batch, sequence, hidden], or this rank's part of the sequence → the same; mask as in `SelfAttention.forward`.

        With places, the result is theirs only, [n, hidden]: in the last layer the others are keys and values for them,
        and nothing more is computed of them.

        Args:
            part: which of the rank's stages.
        """
        ends = self.ends(part)
        for number in self.parts[part]:
            if self.training and self.drops:
                self.streams.start_layer(number)
            wanted = places if ends and number == self.parts[part][-1] else None
            of_layer = None if cache is None else cache.layers[number]
            values = self.layers[str(number)](values, mask, of_layer, wanted)
        return values if self.final_norm is None or not ends else self.final_norm(values)

    def ends(self, part: int) -> bool:
        """Whether the last layer of the whole model is in this part."""
        return self.last and part == len(self.parts) - 1


class EmbeddedTransformer(nn.Module):
    """What GPT-2 and BERT begin with: a checked shape, and token and position embeddings.

    A rank of a pipeline has only what its stages compute with: the first what comes before the layers, the last what
    comes after them, and both the token embedding, which is tied to the output layer.

    Attributes:
        transformer: the stack of layers, which subclasses make.
        pretraining_heads: modules that nothing but the pretraining objective needs.

    Raises:
        ConfigurationError: the shape is wrong or cannot be split over the mesh's tensor ranks.
    """

    pretraining_heads: tuple[str, ...] = ()
    transformer: TransformerStack

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        errors = config.errors()
        stages = mesh.pipeline_size * mesh.pipeline_chunks
        errors += config.layout_errors(
            mesh.tensor_size, sequence_parallel=mesh.sequence_parallel, stages=stages
        )
        if errors:
            raise ConfigurationError(errors)
        self.config = config
        self.mesh = mesh
        hidden, std = config.hidden, config.initial_std
        if mesh.has_first_stage or mesh.has_last_stage:
            self.token_embedding = VocabularyParallelEmbedding(
                config.padded_vocabulary_size, hidden, mesh, std
            )
        if mesh.has_first_stage:
            self.make_positions()

    def make_positions(self) -> None:
        """Make what `add_positions` needs; a family that tells positions apart in another way overrides both."""
        config = self.config
        self.position_embedding = ReplicatedEmbedding(
            config.sequence_length, config.hidden, self.mesh, config.initial_std
        )

    def add_positions(self, values: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Embedded tokens [batch, sequence, hidden] and their places, [sequence] or [batch, sequence] (under sequence
        parallelism both this rank's part) → the input of the first layer, of the same shape."""
        return values + self.position_embedding(positions)

    def begin(self, batch: Batch) -> torch.Tensor:
        """What the first stage of a pipeline does: a batch of pretraining → the input of the first layer, [batch,
        sequence, hidden], or this rank's part of the sequence under sequence parallelism."""
        raise NotImplementedError

    def mask(self, batch: Batch) -> torch.Tensor | None:
        """The mask of a batch for all layers, as in `SelfAttention.forward`."""
        return None

    def finish(self, values: torch.Tensor, batch: Batch) -> Any:
        """What the last stage of a pipeline does: the stack's result → what `forward` gives."""
        raise NotImplementedError

    def embed(self, tokens: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        """[batch, sequence] int64 → tokens and positions embedded, [batch, sequence, hidden], or this rank's part of it
        under sequence parallelism.

        Args:
            positions: of the tokens, [batch, sequence], none beyond the model's; by default they begin at 0.
        """
        if positions is None:
            length = tokens.shape[1]
            if length > self.config.sequence_length:
                raise UserError(
                    f"{length} tokens are more than the model's sequence_length {self.config.sequence_length}"
                )
            positions = torch.arange(length, device=tokens.device)
        positions = self.part_of_sequence(positions)
        return self.add_positions(self.token_embedding(tokens), positions)

    def part_of_sequence(self, places: torch.Tensor) -> torch.Tensor:
        """[..., sequence] → under sequence parallelism this rank's part of it, else all.

        Raises:
            UserError: the sequence cannot be split evenly.
        """
        if not self.mesh.sequence_parallel:
            return places
        if places.shape[-1] % self.mesh.tensor_size:
            raise UserError(
                f"sequence parallelism splits sequences over {self.mesh.tensor_size} ranks; {places.shape[-1]} "
                "tokens do not divide evenly: pad them, or turn it off"
            )
        return places.chunk(self.mesh.tensor_size, dim=-1)[self.mesh.tensor_rank]

    def whole(self, hidden: torch.Tensor) -> torch.Tensor:
        """The stack's result → [batch, sequence, hidden] on every rank, which goes on to compute the same."""
        return whole_sequence(hidden, self.mesh.tensor_group) if self.mesh.sequence_parallel else hidden


class PretrainingObjective(nn.Module):
    """What a network is pretrained for; `forward` takes a batch to its losses, or in a pipeline a part of the way.

    Attributes:
        targets: entries of a batch in which -100 says that nothing is predicted; a row that is to be ignored has it in
            all of them.
    """

    targets: tuple[str, ...]

    def __init__(self, network: EmbeddedTransformer) -> None:
        super().__init__()
        self.network = network

    def predict(self, batch: Batch) -> Any:
        """What the whole network gives for a batch."""
        raise NotImplementedError

    def losses(self, predictions: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """What the network gives → {term: loss in nats, summed over the batch}, fp32 scalars."""
        raise NotImplementedError

    def forward(
        self, received: torch.Tensor | None = None, /, *, part: int = 0, **batch: torch.Tensor
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """A batch → the losses, from the last stage of a pipeline; from the others what the next one is to receive.

        Args:
            received: what the stage before gave.
            part: which of this rank's stages.
        """
        network = self.network
        if network.mesh.pipeline_size == 1:
            return self.losses(self.predict(batch), batch)
        values = network.begin(batch) if received is None else received
        values = network.transformer(values, network.mask(batch), part=part)
        if not network.transformer.ends(part):
            return values
        return self.losses(network.finish(values, batch), batch)


def gelu_form(config: ModelConfig) -> str:
    """The `approximate` argument of torch's GeLU for the configured activation."""
    return "tanh" if config.activation == "gelu_tanh" else "none"
