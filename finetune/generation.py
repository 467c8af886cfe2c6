"""Causal models that learn to answer: a prompt, then an answer whose tokens alone count. For any task that is generation.

Not here: how text is made (`core.generation`), what it is worth (`data_pipeline.benchmarks.text_metrics`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from core.evaluation import exact_sum, ratio_standard_error, scores_of_items
from core.generation.batches import Generated, Method, generate_all
from core.models.transformer import Places
from core.parallel.cross_entropy import IGNORED, vocabulary_parallel_cross_entropy
from data_pipeline.benchmarks.text_metrics import Share
from data_pipeline.tokenization.tokenizers import Tokenizer
from finetune.heads import Scorer, TunedModel

if TYPE_CHECKING:
    from core.config import ModelConfig
    from core.parallel.mesh import Mesh

_ENCODED_AT_ONCE = 2048


class Answering(TunedModel):
    """A causal network as it is, output layer included; what fine-tuning delivers is a model like the pretrained one, and
    generates and is exported as that does."""

    def __init__(self, config: "ModelConfig", mesh: "Mesh", term: str) -> None:
        super().__init__(config, mesh, term)
        self._mesh = mesh

    @property
    def delivered(self) -> nn.Module:
        return self.network

    def counts(self, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """The loss is over the answers' tokens."""
        return {self.term: int((batch["targets"] != IGNORED).sum())}

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """The training objective: cross entropy summed over the answers' tokens; both [examples, sequence] int64."""
        return {self.term: self._losses(tokens, targets)[1].sum()}

    def losses(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """[examples], each summed over its answer's tokens, in nats, float64."""
        rows, losses = self._losses(tokens, targets)
        return torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device).index_add_(
            0, rows, losses.double()
        )

    def _losses(self, tokens: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each token of an answer its row and its loss; only these places go through the output layer."""
        rows, places = (targets != IGNORED).nonzero(as_tuple=True)
        losses = vocabulary_parallel_cross_entropy(
            self.network(tokens, places=Places(rows, places)),
            targets[rows, places],
            group=self._mesh.tensor_group,
            vocabulary_size=self.config.vocabulary_size,
        )
        return rows, losses


@dataclass(frozen=True)
class AnswerExamples:
    """Prompts and answers as token ids (`finetune.heads.Examples`).

    Attributes:
        prompts: of one token at least.
        answers: with the token that ends one, where it is not cut.
        groups: by example, equal numbers for those that are not independent.
        sequence_length: the longest input in tokens: a prompt with its answer but for the last.
        pad: any token.
    """

    prompts: list[np.ndarray]
    answers: list[np.ndarray]
    groups: np.ndarray
    sequence_length: int
    pad: int

    def __len__(self) -> int:
        return len(self.answers)

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.array(
            [len(p) + len(a) - 1 for p, a in zip(self.prompts, self.answers, strict=True)], np.int64
        )

    def with_prompts(self, prompts: list[np.ndarray]) -> "AnswerExamples":
        """The same answers after other prompts."""
        return replace(self, prompts=prompts)

    def batch(self, examples: np.ndarray) -> dict[str, np.ndarray]:
        """ "tokens" and "targets" [examples, sequence] int64; targets beside the answers are `IGNORED`."""
        shape = (len(examples), int(self.lengths[examples].max()))
        tokens, targets = np.full(shape, self.pad, np.int64), np.full(shape, IGNORED, np.int64)
        for row, example in enumerate(examples):
            prompt, answer = self.prompts[example], self.answers[example]
            end = len(prompt) + len(answer) - 1
            tokens[row, : len(prompt)] = prompt
            tokens[row, len(prompt) : end] = answer[:-1]
            targets[row, len(prompt) - 1 : end] = answer
        return {"tokens": tokens, "targets": targets}


def answer_losses(score: Scorer, examples: AnswerExamples, what: str) -> np.ndarray:
    """[examples] losses in nats, each summed over its answer's tokens. Collective."""
    model = score.model
    assert isinstance(model, Answering)
    return score.outputs(examples, lambda batch: model.losses(**batch)[:, None], 1, what)[:, 0]


def perplexities(
    examples: AnswerExamples, losses: np.ndarray, tokenizer: Tokenizer
) -> dict[str, float | int | None]:
    """Perplexity of the answers by token, and by word: the end of an answer counts as a token, and as a word."""
    tokens = np.array([len(answer) for answer in examples.answers])
    ended = [answer[-1] == tokenizer.end_of_document for answer in examples.answers]
    texts = [
        tokenizer.decode(answer[:-1] if end else answer)
        for answer, end in zip(examples.answers, ended, strict=True)
    ]
    words = sum(len(text.split()) for text in texts) + sum(map(int, ended))
    loss = exact_sum(losses)
    return {
        "perplexity": _exponential(loss / tokens.sum()),
        "word_perplexity": _exponential(loss / words),
        "loss": loss / int(tokens.sum()),
        "loss_standard_error": ratio_standard_error(losses, tokens, examples.groups),
        "answer_tokens": int(tokens.sum()),
        "answer_words": words,
    }


def _exponential(loss: float) -> float:
    return math.exp(min(loss, 700.0))  # of a model that learned nothing, JSON has no infinity


def answers_of(
    score: Scorer, prompts: Sequence[np.ndarray], tokens: int, *, stop: int, method: Method, what: str
) -> list[Generated]:
    """What the model answers, `micro_batch` prompts at a time. Collective."""
    return generate_all(
        score.model.network,
        score.mesh,
        [prompt.tolist() for prompt in prompts],
        tokens,
        stop=stop,
        method=method,
        places=score.micro_batch,
        title=f"{score.title} ({what})",
    )


def shared_by(score: Scorer, what: str) -> Share:
    """How the data ranks share what is computed of texts."""

    def share(batches: list[list[int]], compute: Any, columns: int) -> np.ndarray:
        return scores_of_items(batches, compute, columns, score.mesh, f"{score.title} ({what})")

    return share


def ended_answers(texts: Sequence[str], tokenizer: Tokenizer, room: int) -> tuple[list[np.ndarray], int]:
    """Each text's tokens and the one that ends a document, at most `room`; and how many were cut."""
    answers, cut = [], 0
    for start in range(0, len(texts), _ENCODED_AT_ONCE):
        for ids in tokenizer.encode_batch(list(texts[start : start + _ENCODED_AT_ONCE])):
            cut += len(ids) >= room
            answers.append(np.array([*ids, tokenizer.end_of_document][:room], np.int32))
    return answers, cut
