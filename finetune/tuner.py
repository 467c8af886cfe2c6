"""Fine-tuning of any task's model: train or go on, score, and publish. What a task says of itself is its `Program`."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

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
from finetune.predictions import write_predictions
from finetune.program import Program
from finetune.selection import BestOnDev, best_epoch
from recipes.records import FINE_TUNING
from recipes.schema import FinetuningSettings

RESULT_FILE = "result.json"
_BUSY_TOKENS = {"cpu": 2048, "cuda": 16384}  # that keep a device busy in one forward pass


class Epochs:
    """The objective for `core`'s trainer: epochs of differently shuffled examples, laid end to end.

    A batch may span two epochs, so only the very last can be short, and every example is seen `epochs` times. Which
    examples are in a batch depends on the seed and the epoch alone; in it they are by length, dealt in turns to the data
    ranks: so less is padded, and ranks have as much to do.

    Args:
        batch_size: examples a batch; 0 leaves them in their random order.
    """

    validation: BatchSource | None = None

    def __init__(
        self,
        model: TunedModel,
        examples: Examples,
        mesh: Mesh,
        epochs: int,
        seed: int,
        batch_size: int = 0,
        tokenizer_fingerprint: str = "",
    ) -> None:
        self.model = model
        self.total_samples = epochs * len(examples)
        self._counts, self._config = model.counts, model.config
        self._examples = examples
        self._mesh = mesh
        self._seed = seed
        self._tokenizer_fingerprint = tokenizer_fingerprint
        self._batch_size = batch_size
        self._order = lru_cache(maxsize=2)(self._shuffled)
        self._arranged = lru_cache(maxsize=1)(self._by_length)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.RandomState([self._seed, epoch]).permutation(len(self._examples))

    def chosen(self, indices: np.ndarray) -> np.ndarray:
        """Which examples stand at these places of the run."""
        epochs, places = np.divmod(indices, len(self._examples))
        return np.array([self._order(int(epoch))[place] for epoch, place in zip(epochs, places, strict=True)])

    def _by_length(self, batch: int) -> np.ndarray:
        """The examples of a batch as they lie in it: each data rank takes a run of them."""
        first = batch * self._batch_size
        chosen = self.chosen(np.arange(first, min(first + self._batch_size, self.total_samples)))
        longest_first = chosen[np.argsort(-self._examples.lengths[chosen], kind="stable")]
        ranks = self._mesh.data_size
        return np.concatenate([longest_first[rank::ranks] for rank in range(ranks)])

    def pass_size(self, most: int) -> int:
        """Examples in a forward pass: no more than keep the device busy, since few of like length pad less; passes of a
        batch are as large as each other.

        Args:
            most: examples that there is memory for.
        """
        rows = len(self._examples.batch(np.array([0]))["tokens"])
        tokens = max(1.0, rows * float(np.mean(self._examples.lengths)))
        busy = min(most, math.ceil(_BUSY_TOKENS[self._mesh.device.type] / tokens))
        share = math.ceil(self._batch_size / self._mesh.data_size)
        return math.ceil(share / math.ceil(share / busy))

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        if self._batch_size:
            batches, places = np.divmod(indices, self._batch_size)
            chosen = np.array(
                [self._arranged(int(b))[place] for b, place in zip(batches, places, strict=True)]
            )
        else:
            chosen = self.chosen(indices)
        return batch_of(self._examples, chosen, self._config.vocabulary_size)

    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        return self._counts(batch)

    def save(self, directory: Path) -> None:
        save_parameters(
            self.model.delivered, self._config, directory, self._mesh, self._tokenizer_fingerprint
        )


@dataclass(frozen=True)
class Tuning:
    """One run.

    Attributes:
        name: the task's, as results say it.
        program: what the task's record names, called as a `Program` is made.
        checkpoint: the pretrained model.
        data: of the task.
        output: where model, records and result go.
        config: the pretrained model's shape, for the tokenizer.
    """

    name: str
    program: Callable[..., Program]
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
                task = self.program(self.data, self.tokenizer, self.sequence_length, self.settings)
                if not self._train(task, mesh, asked, title, options):
                    return
                score = self._scorer(task, self.output / "model", mesh, title)
                result = {"task": self.name, **task.result(score, controls)}
                predictions = task.predictions(score)
                model = score.model
                if mesh.is_main:
                    result |= best_epoch(self.output)
                    write_predictions(self.output, predictions, FINE_TUNING[self.name].submission)
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
        """Train to the end, and choose the best epoch, unless that is done; False when a signal stopped it."""
        if on_main(mesh, read_state(self.output).get("status") == "finished"):
            return True
        examples = task.examples("train")
        model = task.model(self.config, mesh)
        model.load_pretrained(self.checkpoint, self.seed)
        config = self.settings.training_config(len(examples), self.seed)
        epochs, batch_size = self.settings.epochs, self.settings.batch_size
        objective = Epochs(model, examples, mesh, epochs, self.seed, batch_size, self.tokenizer.fingerprint)
        config = dataclasses.replace(config, micro_batch=objective.pass_size(config.micro_batch))
        run_options = RunOptions(title, canonical_json(asked), **options)
        record, selection = FINE_TUNING[self.name], None
        if record.chosen_by:
            selection = BestOnDev(
                self.output,
                record,
                mesh,
                epochs=self.settings.ends_of_epochs(len(examples)),
                save=objective.save,
                score=lambda path: task.on_dev(self._scorer(task, path, mesh, title)),
            )
        ended = train(objective, mesh, config, self.output, run_options, selection=selection)
        return ended.status == "finished"

    def _scorer(self, task: Program, directory: Path, mesh: Mesh, title: str) -> Scorer:
        """The model in a directory, to be scored."""
        model = task.model(read_config(directory), mesh)
        model.load_finetuned(directory)
        return Scorer(model, mesh, self.settings.micro_batch, title)
