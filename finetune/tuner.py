"""Fine-tuning of any task's model: train or go on, score, and publish.

What a task says of itself is small: its examples, its model, its result (`Program`).
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from core.config import ModelConfig
from core.files import read_json, write_json
from core.model_directory import quick_fingerprint, read_config, save_parameters
from core.parallel.mesh import Mesh
from core.program.output import on_main, writing
from core.program.ranks import publish
from core.training.batches import BatchSource
from core.training.records import read_state
from core.training.trainer import RunOptions, train
from data_pipeline.tokenization.tokenizers import Tokenizer
from finetune.heads import Examples, Scorer, TunedModel, batch_of
from recipes.schema import FinetuningSettings

RESULT_FILE = "result.json"


class Program(Protocol):
    """What is asked of a task (`recipes.records.FineTuning.program`)."""

    def __init__(self, data: Path, tokenizer: Tokenizer, sequence_length: int) -> None:
        """Read and check all its data: a damaged test set must not show after hours of training."""

    def examples(self, split: str) -> Any:
        """The `Examples` of "train"; the task's own of other splits."""

    def model(self, config: ModelConfig, mesh: Mesh) -> TunedModel:
        """The pretrained network's shape with the task's head, its weights not set."""

    def result(self, score: Scorer, controls: bool) -> dict[str, Any]:
        """The task's result, and with `controls` what must be worse."""


class Epochs:
    """The objective for `core`'s trainer: epochs of differently shuffled examples, laid end to end.

    A batch may span two epochs, so only the very last can be short, and every example is seen `epochs` times.
    The order depends on the seed and the epoch alone.
    """

    validation: BatchSource | None = None

    def __init__(self, model: TunedModel, examples: Examples, mesh: Mesh, epochs: int, seed: int) -> None:
        self.model = model
        self.total_samples = epochs * len(examples)
        self._term, self._config = model.term, model.config
        self._examples = examples
        self._mesh = mesh
        self._seed = seed
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.RandomState([self._seed, epoch]).permutation(len(self._examples))

    def chosen(self, indices: np.ndarray) -> np.ndarray:
        """Which examples stand at these places of the run."""
        epochs, places = np.divmod(indices, len(self._examples))
        return np.array([self._order(int(epoch))[place] for epoch, place in zip(epochs, places, strict=True)])

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        return batch_of(self._examples, self.chosen(indices), self._config.vocabulary_size)

    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        return {self._term: len(batch["answers"])}

    def save(self, directory: Path) -> None:
        save_parameters(self.model, self._config, directory, self._mesh)


@dataclass(frozen=True)
class Tuning:
    """One run.

    Attributes:
        name: the task's, as results say it.
        program: the class that the task's record names.
        checkpoint: the pretrained model.
        data: of the task.
        output: where model, records and result go.
        sequence_length: longest input in tokens.
    """

    name: str
    program: type[Program]
    checkpoint: Path
    tokenizer: Tokenizer
    data: Path
    output: Path
    settings: FinetuningSettings
    seed: int
    sequence_length: int

    def run(self, mesh: Mesh, title: str, controls: bool, options: dict[str, Any]) -> None:
        """Train (or go on), score and publish, each unless it is done. Collective."""
        with writing(self.output, mesh) as finished:
            if finished:
                return
            path = self.output / RESULT_FILE
            if not on_main(mesh, path.exists()):
                task = self.program(self.data, self.tokenizer, self.sequence_length)
                if not self._train(task, mesh, title, options):
                    return
                model = task.model(read_config(self.output / "model"), mesh)
                model.load_finetuned(self.output / "model")
                score = Scorer(model, mesh, self.settings.micro_batch, title)
                result = {"task": self.name, **task.result(score, controls)}
                if mesh.is_main:
                    write_json(path, result)
            if mesh.is_main:
                publish(read_json(path), None)

    def _train(self, task: Program, mesh: Mesh, title: str, options: dict[str, Any]) -> bool:
        """Train to the end unless that is done; False when a signal stopped it."""
        if on_main(mesh, read_state(self.output).get("status") == "finished"):
            return True
        examples = task.examples("train")
        model = task.model(read_config(self.checkpoint), mesh)
        model.load_pretrained(self.checkpoint, self.seed)
        start = quick_fingerprint(self.checkpoint)
        identity = f"{start} {self.sequence_length} {self.tokenizer.fingerprint}"
        config = self.settings.training_config(len(examples), self.seed)
        objective = Epochs(model, examples, mesh, self.settings.epochs, self.seed)
        return (
            train(objective, mesh, config, self.output, RunOptions(title, identity, **options)).status
            == "finished"
        )
