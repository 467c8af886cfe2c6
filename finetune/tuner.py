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
from core.evaluation import precision_of
from core.files import canonical_json, content_hash, write_json
from core.model_directory import model_fingerprint, read_config, save_parameters
from core.parallel.mesh import Mesh
from core.program.asked import ASKED, check_asked, finished_result, from_main
from core.program.output import on_main, writing
from core.program.ranks import publish
from core.training.batches import BatchSource
from core.training.records import read_state
from core.training.trainer import RunOptions, train
from data_pipeline.benchmarks import BENCHMARKS
from data_pipeline.benchmarks.identity import identified
from data_pipeline.tokenization.tokenizers import Tokenizer
from finetune.heads import Examples, Scorer, TunedModel, batch_of
from recipes.records import FINE_TUNING
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

    def __init__(
        self,
        model: TunedModel,
        examples: Examples,
        mesh: Mesh,
        epochs: int,
        seed: int,
        tokenizer_fingerprint: str = "",
    ) -> None:
        self.model = model
        self.total_samples = epochs * len(examples)
        self._term, self._config = model.term, model.config
        self._examples = examples
        self._mesh = mesh
        self._seed = seed
        self._tokenizer_fingerprint = tokenizer_fingerprint
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
        save_parameters(self.model, self._config, directory, self._mesh, self._tokenizer_fingerprint)


@dataclass(frozen=True)
class Tuning:
    """One run.

    Attributes:
        name: the task's, as results say it.
        program: the class that the task's record names.
        checkpoint: the pretrained model.
        data: of the task.
        output: where model, records and result go.
        config: the pretrained model's shape, for the tokenizer.
    """

    name: str
    program: type[Program]
    checkpoint: Path
    tokenizer: Tokenizer
    data: Path
    output: Path
    settings: FinetuningSettings
    seed: int
    config: ModelConfig

    @property
    def sequence_length(self) -> int:
        """Longest input in tokens."""
        return self.settings.sequence_length or self.config.sequence_length

    def asked(self) -> dict[str, Any]:
        """All that the training depends on, besides software and rounding; the main rank asks."""
        plugin = FINE_TUNING.plugin(self.name)
        return {
            "task": self.name,
            "settings": {
                **self.settings.significant(self.config.drops),
                "seed": self.seed,
                "sequence_length": self.sequence_length,
            },
            "data": content_hash(self.data),
            "model": model_fingerprint(self.checkpoint),
            "tokenizer": self.tokenizer.fingerprint,
            **({"plugin": plugin} if plugin else {}),
        }

    def run(self, mesh: Mesh, title: str, controls: bool, tokenizer_is: str, options: dict[str, Any]) -> None:
        """Train (or go on), score and publish, each unless it is done. Collective.

        Args:
            controls: whether what must be worse is scored, too.
            tokenizer_is: what `check_tokenizer` found.
        """
        with writing(self.output, mesh) as finished:
            if finished:
                return
            path, remedy = self.output / RESULT_FILE, "remove it to score the finished model anew"
            asked = from_main(mesh, self.asked)
            full = {**asked, "controls": controls}
            from_main(mesh, lambda: check_asked(self.output, asked))
            result = from_main(mesh, lambda: finished_result(path, full, remedy))
            if result is None:
                task = self.program(self.data, self.tokenizer, self.sequence_length)
                if not self._train(task, mesh, asked, title, options):
                    return
                model = task.model(read_config(self.output / "model"), mesh)
                model.load_finetuned(self.output / "model")
                score = Scorer(model, mesh, self.settings.micro_batch, title)
                result = {"task": self.name, **task.result(score, controls)}
                if mesh.is_main:
                    benchmark = BENCHMARKS[FINE_TUNING[self.name].benchmark]
                    result["data"] = identified(benchmark, self.data, asked["data"])
                    result |= {"sequence_length": self.sequence_length, "precision": precision_of(model)}
                    result["tokenizer_is"] = tokenizer_is
                    write_json(path, {**result, ASKED: full})
            if mesh.is_main:
                publish({**result, ASKED: full}, None)

    def _train(
        self, task: Program, mesh: Mesh, asked: dict[str, Any], title: str, options: dict[str, Any]
    ) -> bool:
        """Train to the end unless that is done; False when a signal stopped it."""
        if on_main(mesh, read_state(self.output).get("status") == "finished"):
            return True
        examples = task.examples("train")
        model = task.model(self.config, mesh)
        model.load_pretrained(self.checkpoint, self.seed)
        identity = canonical_json(asked)
        config = self.settings.training_config(len(examples), self.seed)
        objective = Epochs(model, examples, mesh, self.settings.epochs, self.seed, self.tokenizer.fingerprint)
        return (
            train(objective, mesh, config, self.output, RunOptions(title, identity, **options)).status
            == "finished"
        )
