"""What the tests of pipelines share: four-layer models, modes of training them, and meshes made once."""

from dataclasses import dataclass, replace

from objectives import BERT, GPT2, POST_NORM_BERT

import core.training.trainer as trainer
from core.config import ModelConfig, TrainingConfig
from core.parallel.mesh import Mesh, initialize
from core.training.peak import Peak

LAYERS = 4
CONFIGS = {name: replace(config, layers=LAYERS) for name, config in
           (("gpt2", GPT2), ("bert", BERT), ("post-norm bert", POST_NORM_BERT))}  # fmt: skip
DROPPING = {name: replace(CONFIGS[name], dropout=0.1, attention_dropout=0.1) for name in ("gpt2", "bert")}
RATE = 0.5
STEPS, BATCH, SAMPLES = 3, 8, 2 * 8 + 3  # the last batch is short
SGD = TrainingConfig(
    steps=STEPS, global_batch=BATCH, micro_batch=1, learning_rate=RATE, schedule="constant", clip_gradient_norm=0.0,
)  # fmt: skip
ADAM = TrainingConfig(
    steps=8,
    global_batch=4,
    micro_batch=1,
    learning_rate=1e-2,
    warmup_steps=2,
    checkpoint_interval=4,
    log_interval=1,
)


@dataclass(frozen=True)
class Mode:
    model: str = "gpt2"
    micro_batch: int = 2
    recompute: str = "none"
    zero: int = 1
    sequence_parallel: bool = False
    schedule: str = "1f1b"
    chunks: int = 1
    precision: str = "fp32"
    drops: bool = False

    def training(self) -> TrainingConfig:
        return replace(
            SGD, micro_batch=self.micro_batch, recompute=self.recompute, precision=self.precision,
            loss_scale_window=2, initial_loss_scale=2.0**20,
        )  # fmt: skip

    @property
    def validates(self) -> bool:
        return self.recompute == "none" and not self.drops

    @property
    def samples(self) -> int:
        """In a micro-batch that is filled up, dropout draws other masks than in a short one."""
        return 1000 if self.drops else SAMPLES

    def config(self) -> ModelConfig:
        return (DROPPING if self.drops else CONFIGS)[self.model]


CHUNKS = Mode(chunks=2)


class Meshes(dict):
    """By (pipeline, tensor, sequence_parallel, chunks), each made once."""

    def __missing__(self, key: tuple) -> Mesh:
        stages, tensor, split, chunks = key
        self[key] = initialize(tensor, split, pipeline_parallel=stages, pipeline_chunks=chunks)
        return self[key]


def without_measuring() -> None:
    """In this process, the peak of a device, which has tests of its own, is not measured."""
    trainer.device_peak = lambda mesh, precision, measure: Peak(1e12, "table")
