"""Pretrained networks with what tasks put on them, and their accuracy. Not here: training them (`finetune.tuner`)."""

import math
from collections.abc import Callable, Mapping, Sequence
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

    def counts(self, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """By how many a batch's summed loss is divided (over all ranks and micro-batches), by term: examples. A head with
        another loss, as one over tokens, says so here."""
        return {self.term: len(batch["answers"])}

    def load_pretrained(self, checkpoint: Path, seed: int) -> None:
        """Take a pretrained network's weights, and new ones for the head, which depend on the seed only."""
        load_parameters(self.network, model_path(checkpoint))
        heads = {name: child for name, child in self.named_children() if child is not self.network}
        initialize_parameters(nn.ModuleDict(heads), seed)

    @property
    def delivered(self) -> nn.Module:
        """Whose parameters are written, and read again."""
        return self

    def load_finetuned(self, directory: Path) -> None:
        """Take the weights of a model directory that fine-tuning wrote; from now on in eval mode."""
        load_parameters(self.delivered, model_path(directory))
        self.eval()


class Classifier(TunedModel):
    """A head that scores possible answers: dropout on the pooled first token, and one linear layer (Devlin et al. 2019,
    section 4.1). Trained by cross entropy."""

    def forward(self, answers: torch.Tensor, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """The training objective: cross entropy summed over the examples; answers [examples] int64."""
        return {self.term: F.cross_entropy(self.scores(**inputs), answers, reduction="sum")}

    def pooled(
        self, tokens: torch.Tensor, token_types: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """[sequences, sequence] inputs → [sequences, hidden]."""
        _, pooled = self.network.encode(tokens, token_types, attention_mask)
        return F.dropout(pooled, self.config.dropout, self.training)


class Classification(Classifier):
    """A score a label for each sequence."""

    def __init__(self, config: ModelConfig, mesh: Mesh, labels: int, term: str) -> None:
        super().__init__(config, mesh, term)
        self.classification_head = ReplicatedLinear(config.hidden, labels, mesh, config.initial_std)

    def scores(self, **inputs: torch.Tensor) -> torch.Tensor:
        """[examples, sequence] inputs → [examples, labels] scores, fp32; the largest is the answer."""
        return self.classification_head(self.pooled(**inputs)).float()


class MultipleChoice(Classifier):
    """One score a sequence; softmax over an example's sequences."""

    def __init__(self, config: ModelConfig, mesh: Mesh, choices: int, term: str) -> None:
        super().__init__(config, mesh, term)
        self.choices = choices
        self.multiple_choice_head = ReplicatedLinear(config.hidden, 1, mesh, config.initial_std)

    def scores(self, **inputs: torch.Tensor) -> torch.Tensor:
        """[choices · examples, sequence] inputs → [examples, choices] scores, fp32; the largest is the answer."""
        return self.multiple_choice_head(self.pooled(**inputs)).view(-1, self.choices).float()


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

    def outputs(
        self,
        examples: "Examples",
        compute: Callable[[dict[str, torch.Tensor]], torch.Tensor],
        columns: int,
        what: str,
    ) -> np.ndarray:
        """What the model says of every example, each asked once; exact for any number of data ranks. Collective.

        Args:
            compute: a batch's arrays on the mesh's device → [examples, columns].
            what: the examples are called, on the progress bar and in messages.

        Returns:
            [examples, columns] float64, the same on every rank.

        Raises:
            UserError: a token of an example is none of the vocabulary's, or an output is not a finite number.
        """

        def score(chosen: Sequence[int]) -> np.ndarray:
            batch = batch_of(examples, np.array(chosen), self.model.config.vocabulary_size)
            on_device = {name: values.to(self.mesh.device) for name, values in batch.items()}
            return compute(on_device).double().cpu().numpy()

        batches = batches_by_length(examples.lengths, self.micro_batch * examples.sequence_length)
        found = scores_of_items(batches, score, columns, self.mesh, f"{self.title} ({what})")
        if unusable := int((~np.isfinite(found)).any(axis=1).sum()):
            raise UserError(
                f"the model's scores of {unusable} questions are not finite numbers ({what}); are its weights?"
            )
        return found

    def probabilities(self, examples: "Examples", what: str, answers: int) -> np.ndarray:
        """[examples, answers] probabilities of the possible answers, by a model's `scores`; see `outputs`."""

        def compute(batch: dict[str, torch.Tensor]) -> torch.Tensor:
            batch.pop("answers")
            return self.model.scores(**batch)

        scores = self.outputs(examples, compute, answers, what)
        return torch.from_numpy(scores).softmax(dim=1).numpy()

    def __call__(self, examples: PairExamples, what: str, groups: Sequence[str] = ()) -> Accuracy:
        """The share of right answers, see `outputs`.

        Args:
            groups: whose accuracy is stated beside that of all.
        """

        def compute(batch: dict[str, torch.Tensor]) -> torch.Tensor:
            answers = batch.pop("answers")
            scores = self.model.scores(**batch)
            right = (scores.argmax(dim=1) == answers).float()
            return right.masked_fill(~scores.isfinite().all(dim=1), math.nan)[:, None]

        return accuracy(self.outputs(examples, compute, 1, what)[:, 0] > 0, examples, groups)


def accuracy(right: np.ndarray, examples: PairExamples, groups: Sequence[str] = ()) -> Accuracy:
    """Count right answers.

    Args:
        right: [examples] bool.
        groups: whose accuracy is stated beside that of all.
    """
    of = {"all": np.ones(len(examples), bool), **{group: examples.groups == group for group in groups}}
    return Accuracy(
        {name: int(right[member].sum()) for name, member in of.items()},
        {name: int(member.sum()) for name, member in of.items()},
        {
            name: ratio_standard_error(right[m].astype(float), np.ones(m.sum()), examples.second_of[m])
            for name, m in of.items()
        },
        len(np.unique(examples.second_of)),
    )


class Examples(Protocol):
    """Encoded examples of a split.

    Attributes:
        lengths: [examples] tokens of each one's longest sequence.
        sequence_length: the longest there may be.
    """

    @property
    def lengths(self) -> np.ndarray: ...

    @property
    def sequence_length(self) -> int: ...

    def __len__(self) -> int: ...

    def batch(self, examples: np.ndarray) -> dict[str, np.ndarray]:
        """The model's keyword arguments for these examples; among them "tokens", as many rows for each example, and
        where one of several answers is to be given "answers", one an example."""


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

    answers = arrays.get("answers", np.zeros(0))
    if len(answers) and answers.min() < 0:
        raise UserError(
            f"example {chosen[answers.argmin()]}: its answer is {answers.min()}, no number from 0"
        )
    check_token_ids(tokens, vocabulary_size, where, "give the tokenizer that the model was trained with")
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
