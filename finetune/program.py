"""What a fine-tuning task says of itself: its examples, its model, its numbers. No torch.

Not here: training it (`tuner`), the models (`heads`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.config import ModelConfig
from data_pipeline.tokenization.tokenizers import Tokenizer
from recipes.records import Table
from recipes.schema import FinetuningSettings

if TYPE_CHECKING:
    from core.parallel.mesh import Mesh
    from finetune.heads import Scorer, TunedModel


class Program:
    """A task for one tokenizer and sequence length. A subclass says what a task must, and may say the rest.

    Methods with a scorer are collective: every rank calls them, with a model in eval mode.
    """

    def __init__(
        self, data: Path, tokenizer: Tokenizer, sequence_length: int, settings: FinetuningSettings
    ) -> None:
        """Read and check all data: a damaged test set must not show after hours of training."""
        raise NotImplementedError

    def examples(self, split: str) -> Any:
        """The `finetune.heads.Examples` of "train"; the task's own of other splits."""
        raise NotImplementedError

    def model(self, config: ModelConfig, mesh: "Mesh") -> "TunedModel":
        """The pretrained network's shape with the task's head, its weights not set."""
        raise NotImplementedError

    def on_dev(self, score: "Scorer") -> dict[str, Any]:
        """Numbers on the development set, asked after each epoch where the record has a `chosen_by`."""
        return {}

    def result(self, score: "Scorer", controls: bool) -> dict[str, Any]:
        """The numbers of the model that is best on the development set, and with `controls` what must be worse. What
        `on_dev` said of it the tuner adds as "dev"."""
        raise NotImplementedError

    def predictions(self, score: "Scorer") -> dict[str, Table]:
        """What the model says of each example, by split: written as `predictions/SPLIT.parquet`. Called after `result`, by
        all ranks. The record's `submission` makes files of them in the benchmark's official format, and its `labels` and
        `numbers` an ensemble, of columns "id" and "probabilities", a list an example."""
        return {}
