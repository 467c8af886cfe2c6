"""RACE: fine-tuning BERT to answer four-option reading questions, and its accuracy (paper section 5.4).

A question's four sequences (question with option, passage) go through BERT, its pooler, dropout and one linear
output; a softmax over the four scores gives the answer. Not here: reading and encoding (`finetune.race_data`).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from core.config import ModelConfig, TrainingConfig
from core.model_directory import load_parameters, model_path, read_config, save_parameters
from core.models.bert import BertModel
from core.parallel.layers import ReplicatedLinear, initialize_parameters
from core.parallel.mesh import Mesh
from core.training.batches import BatchSource
from evaluate.scoring import batches_by_length, total_over_batches
from finetune.race_data import LEVELS, OPTIONS, EncodedSplit

_CHECKPOINTS_A_RUN = 10
_LARGEST_CHECKPOINT_INTERVAL_STEPS = 500


class MultipleChoiceModel(nn.Module):
    """BERT without its pretraining heads, and one score per sequence."""

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        self.config = config
        self.network = BertModel(config, mesh)
        # Parameters that never get a gradient would still be sharded, saved and decayed.
        del self.network.masked_token_head, self.network.sentence_order_head
        self.multiple_choice_head = ReplicatedLinear(config.hidden, 1, mesh, config.initial_std)

    @classmethod
    def from_pretrained(cls, checkpoint: Path, mesh: Mesh, seed: int) -> "MultipleChoiceModel":
        """A pretrained BERT with a new head, whose weights depend on the seed only."""
        model = cls(read_config(checkpoint), mesh)
        load_parameters(model.network, model_path(checkpoint))
        initialize_parameters(nn.ModuleDict({"multiple_choice_head": model.multiple_choice_head}), seed)
        return model

    @classmethod
    def from_finetuned(cls, directory: Path, mesh: Mesh) -> "MultipleChoiceModel":
        """A model directory that fine-tuning wrote, in eval mode."""
        model = cls(read_config(directory), mesh)
        load_parameters(model, model_path(directory))
        return model.eval()

    def scores(
        self, tokens: torch.Tensor, token_types: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """[4 · questions, sequence] inputs → [questions, 4] scores, fp32; the largest is the answer."""
        _, pooled = self.network.encode(tokens, token_types, attention_mask)
        pooled = F.dropout(pooled, self.config.dropout, self.training)
        return self.multiple_choice_head(pooled).view(-1, OPTIONS).float()

    def forward(
        self,
        tokens: torch.Tensor,
        token_types: torch.Tensor,
        attention_mask: torch.Tensor,
        answers: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """The training objective: {"race": cross entropy summed over the questions}; answers [questions] int64."""
        scores = self.scores(tokens, token_types, attention_mask)
        return {"race": F.cross_entropy(scores, answers, reduction="sum")}


@dataclass(frozen=True)
class FinetuningSettings:
    """The hyper-parameters of one run; `batch_size` and `micro_batch` count questions, of four sequences each."""

    epochs: int = 3
    batch_size: int = 32
    micro_batch: int = 8
    learning_rate: float = 2e-5
    warmup_fraction: float = 0.06
    seed: int = 1

    def training_config(self, questions: int) -> TrainingConfig:
        """Linear warm-up and decay over all epochs of `questions` questions."""
        steps = math.ceil(self.epochs * questions / self.batch_size)
        return TrainingConfig(
            steps=steps,
            global_batch=self.batch_size,
            micro_batch=min(self.micro_batch, self.batch_size),
            learning_rate=self.learning_rate,
            warmup_steps=int(self.warmup_fraction * steps),
            schedule="linear",
            seed=self.seed,
            checkpoint_interval=min(_LARGEST_CHECKPOINT_INTERVAL_STEPS, max(1, steps // _CHECKPOINTS_A_RUN)),
        )


class RaceTask:
    """The objective for `core`'s trainer: epochs of differently shuffled questions, laid end to end.

    A batch may span two epochs, so only the very last can be short, and every question is seen `epochs` times.
    The order depends on the seed and the epoch alone.
    """

    validation: BatchSource | None = None

    def __init__(
        self, model: MultipleChoiceModel, split: EncodedSplit, mesh: Mesh, epochs: int, seed: int
    ) -> None:
        self.model: nn.Module = model
        self.total_samples = epochs * len(split)
        self._config = model.config
        self._split = split
        self._mesh = mesh
        self._seed = seed
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.RandomState([self._seed, epoch]).permutation(len(self._split))

    def questions(self, indices: np.ndarray) -> np.ndarray:
        """Which questions stand at these places of the run."""
        epochs, places = np.divmod(indices, len(self._split))
        return np.array([self._order(int(epoch))[place] for epoch, place in zip(epochs, places, strict=True)])

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        return as_tensors(self._split.batch(self.questions(indices)))

    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        return {"race": len(batch["answers"])}

    def save(self, directory: Path) -> None:
        save_parameters(self.model, self._config, directory, self._mesh)


def as_tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The same arrays, not copied, as CPU tensors."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@dataclass(frozen=True)
class Accuracy:
    """Right answers and questions: over all, and by school level."""

    correct: dict[str, int]
    total: dict[str, int]

    @property
    def share(self) -> dict[str, float]:
        return {name: self.correct[name] / self.total[name] for name in self.correct}


def accuracy(
    model: MultipleChoiceModel, split: EncodedSplit, mesh: Mesh, micro_batch: int, title: str = ""
) -> Accuracy:
    """Answer every question of a split once; exact for any number of data ranks. Collective.

    Args:
        model: in eval mode.
        micro_batch: questions of the full sequence length in a forward pass, of shorter ones more.
    """
    is_level = {level: split.levels == level for level in LEVELS}

    def score(batch_of_questions: list[int]) -> list[float]:
        questions = np.array(batch_of_questions)
        tensors = as_tensors(split.batch(questions))
        batch = {name: values.to(mesh.device) for name, values in tensors.items()}
        answers = batch.pop("answers")
        right = (model.scores(**batch).argmax(dim=1) == answers).cpu().numpy()
        return [float((right & is_level[level][questions]).sum()) for level in LEVELS]

    batches = batches_by_length(split.lengths, micro_batch * split.sequence_length)
    sums = total_over_batches(batches, score, len(LEVELS), mesh, title)
    correct = {level: round(value) for level, value in zip(LEVELS, sums, strict=True)}
    total = {level: int(is_level[level].sum()) for level in LEVELS}
    return Accuracy(
        {"all": sum(correct.values()), **correct},
        {"all": sum(total.values()), **total},
    )
