"""Pretrained networks with what tasks put on them, and their accuracy. Not here: training them (`finetune.tuner`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from core.config import ModelConfig
from core.errors import UserError
from core.evaluation import batches_by_length, ratio_standard_error, scores_of_items
from core.families import FAMILIES
from core.model_directory import load_parameters, model_path
from core.parallel.layers import ReplicatedLinear, initialize_parameters
from core.parallel.mesh import Mesh
from core.registry import attribute
from data_pipeline.tokenization.ids import check_token_ids
from finetune.pairs import PairExamples


class TunedModel(nn.Module):
    """A network without its pretraining heads. Subclasses add a head, and `forward`: {`term`: summed loss}.

    Args:
        term: the loss's name in the records.

    Attributes:
        scores: (**inputs) → [examples, possible answers]; the largest is the answer.
    """

    scores: Callable[..., torch.Tensor]

    def __init__(self, config: ModelConfig, mesh: Mesh, term: str) -> None:
        super().__init__()
        self.config = config
        self.term = term
        self.network = attribute(FAMILIES[config.family].network)(config, mesh)
        # Parameters that never get a gradient would still be sharded, saved and decayed.
        for name in self.network.pretraining_heads:
            delattr(self.network, name)

    def load_pretrained(self, checkpoint: Path, seed: int) -> None:
        """Take a pretrained network's weights, and new ones for the head, which depend on the seed only."""
        load_parameters(self.network, model_path(checkpoint))
        heads = {name: child for name, child in self.named_children() if child is not self.network}
        initialize_parameters(nn.ModuleDict(heads), seed)

    def load_finetuned(self, directory: Path) -> None:
        """Take the weights of a model directory that fine-tuning wrote; from now on in eval mode."""
        load_parameters(self, model_path(directory))
        self.eval()


class MultipleChoice(TunedModel):
    """One score a sequence: the pooler, dropout and one linear output; softmax over an example's sequences."""

    def __init__(self, config: ModelConfig, mesh: Mesh, choices: int, term: str) -> None:
        super().__init__(config, mesh, term)
        self.choices = choices
        self.multiple_choice_head = ReplicatedLinear(config.hidden, 1, mesh, config.initial_std)

    def scores(
        self, tokens: torch.Tensor, token_types: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """[choices · examples, sequence] inputs → [examples, choices] scores, fp32; the largest is the answer."""
        _, pooled = self.network.encode(tokens, token_types, attention_mask)
        pooled = F.dropout(pooled, self.config.dropout, self.training)
        return self.multiple_choice_head(pooled).view(-1, self.choices).float()

    def forward(
        self,
        tokens: torch.Tensor,
        token_types: torch.Tensor,
        attention_mask: torch.Tensor,
        answers: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """The training objective: cross entropy summed over the examples; answers [examples] int64."""
        scores = self.scores(tokens, token_types, attention_mask)
        return {self.term: F.cross_entropy(scores, answers, reduction="sum")}


@dataclass(frozen=True)
class Accuracy:
    """Right answers and examples: over all, and by group.

    Attributes:
        standard_error: of their share. Examples that share a second text (questions about one passage) are not
            independent: it is over second texts.
        texts: how many second texts there are.
    """

    correct: dict[str, int]
    total: dict[str, int]
    standard_error: dict[str, float | None]
    texts: int

    @property
    def share(self) -> dict[str, float]:
        return {name: self.correct[name] / self.total[name] for name in self.correct}


@dataclass(frozen=True)
class Scorer:
    """A fine-tuned model and how it answers, which is what a task is given.

    Attributes:
        model: in eval mode.
        micro_batch: examples of the full sequence length in a forward pass, of shorter ones more.
        title: before the progress bar.
    """

    model: TunedModel
    mesh: Mesh
    micro_batch: int
    title: str = ""

    def __call__(self, examples: PairExamples, what: str, groups: Sequence[str] = ()) -> Accuracy:
        """Answer every example once; exact for any number of data ranks. Collective.

        Raises:
            UserError: a token of an example is none of the vocabulary's, or a score is not a finite number.

        Args:
            what: the examples are called on the progress bar.
            groups: whose accuracy is stated beside that of all.
        """
        members = [np.ones(len(examples), bool), *(examples.groups == group for group in groups)]

        def score(batch_of_examples: Sequence[int]) -> np.ndarray:
            chosen = np.array(batch_of_examples)
            tensors = batch_of(examples, chosen, self.model.config.vocabulary_size)
            batch = {name: values.to(self.mesh.device) for name, values in tensors.items()}
            answers = batch.pop("answers")
            scores = self.model.scores(**batch)
            right = scores.argmax(dim=1) == answers
            return torch.stack([right, ~scores.isfinite().all(dim=1)], dim=1).cpu().numpy()

        batches = batches_by_length(examples.lengths, self.micro_batch * examples.sequence_length)
        title = f"{self.title} ({what})"
        right, unusable = scores_of_items(batches, score, 2, self.mesh, title).T
        if unusable.any():
            raise UserError(
                f"the model's scores of {int(unusable.sum())} questions are not finite numbers ({what}); are its weights?"
            )
        of = dict(zip(("all", *groups), members, strict=True))
        return Accuracy(
            {name: int(right[member].sum()) for name, member in of.items()},
            {name: int(member.sum()) for name, member in of.items()},
            {
                name: ratio_standard_error(right[m], np.ones(m.sum()), examples.second_of[m])
                for name, m in of.items()
            },
            len(np.unique(examples.second_of)),
        )


class Examples(Protocol):
    """Encoded examples of a split."""

    def __len__(self) -> int: ...

    def batch(self, examples: np.ndarray) -> dict[str, np.ndarray]:
        """The model's keyword arguments for these examples; among them "tokens", as many rows for each example, and
        "answers", one an example."""


def batch_of(examples: Examples, chosen: np.ndarray, vocabulary_size: int) -> dict[str, torch.Tensor]:
    """The model's keyword arguments for these examples, as CPU tensors.

    Raises:
        UserError: a token is none of the vocabulary's, or an answer is negative (-100 would count as none, in silence);
            the message names the example.
    """
    arrays = examples.batch(chosen)
    tokens = arrays["tokens"]

    def where(place: int, _: int) -> str:
        return f"example {chosen[place * len(chosen) // tokens.size]}"

    answers = arrays["answers"]
    if len(answers) and answers.min() < 0:
        raise UserError(
            f"example {chosen[answers.argmin()]}: its answer is {answers.min()}, no number from 0"
        )
    check_token_ids(tokens, vocabulary_size, where, "give the tokenizer that the model was trained with")
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
