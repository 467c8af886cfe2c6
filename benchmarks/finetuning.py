"""Fine-tuning speed on RACE-shaped questions against `transformers`' Trainer.

The same BERT (`BertForMultipleChoice` and ours), questions, batches, precision and threads on both sides, each in a process
of its own; both pad a batch to its longest sequence. Questions are random tokens with the lengths of RACE's: four sequences
that share a passage of some 350 tokens, at most 512 each. What counts are questions a second of processor time, since
machines are shared. Ours takes as few questions a pass as keep the device busy, and those of like length together. The
Trainer needs the package accelerate.
"""

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from core.config import ModelConfig, TrainingConfig
from core.parallel.mesh import initialize

OURS, TRAINER = "ours", "transformers' Trainer"
OPTIONS = 4
_WARMUP_STEPS = 1
_PASSAGE_TOKENS, _SPREAD = 350, 0.35  # median and spread of the logarithm
_CLS, _SEP = 101, 102


@dataclass(frozen=True)
class Settings(harness.Settings):
    """A BERT, and what is trained: `batch` questions a step, at most `micro_batch` of them in a forward pass."""

    layers: int = 4
    hidden: int = 256
    sequence: int = 512
    vocabulary: int = 30522
    batch: int = 16
    micro_batch: int = 4
    steps: int = 3
    threads: int = 1


def run(settings: Settings, report: harness.Report) -> None:
    report.note(
        f"BERT: {settings.layers} layers, hidden {settings.hidden}; {settings.batch} questions a step, "
        f"{settings.micro_batch} in a pass, {settings.threads} thread(s), dropout 0.1"
    )
    process = partial(harness.in_fresh_process, measure, threads=settings.threads, settings=vars(settings))
    sides = {OURS: partial(process, side=OURS)}
    if report.has_peer("transformers", "accelerate"):
        sides[TRAINER] = partial(process, side=TRAINER)
    report.compare(sides, settings.turns, ["questions a processor second"])


def measure(settings: dict[str, Any], side: str) -> harness.Measurement:
    """One side, in its own process."""
    told = Settings(**settings)
    questions = Questions(told)
    ends = _our_ends(told, questions) if side == OURS else _trainer_ends(told, questions)
    seconds = ends[-1] - ends[_WARMUP_STEPS - 1]
    return {"questions a processor second": told.batch * told.steps / seconds}


class Questions:
    """Questions of four sequences each: random tokens with lengths like RACE's."""

    def __init__(self, settings: Settings) -> None:
        random = np.random.RandomState(0)
        self.rows: list[list[list[int]]] = []
        for _ in range(settings.batch * (settings.steps + _WARMUP_STEPS)):
            passage = int(np.exp(random.normal(np.log(_PASSAGE_TOKENS), _SPREAD)))
            firsts = random.randint(8, 24, OPTIONS)
            cut = [min(passage, settings.sequence - 3 - first) for first in firsts]
            text = random.randint(1000, settings.vocabulary, passage)
            self.rows.append(
                [
                    [_CLS, *random.randint(1000, settings.vocabulary, first), _SEP, *text[:kept], _SEP]
                    for first, kept in zip(firsts, cut, strict=True)
                ]
            )
        self.answers = random.randint(0, OPTIONS, len(self.rows))
        self.sequence_length = settings.sequence
        self.lengths = np.array([max(map(len, row)) for row in self.rows])

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, examples: np.ndarray) -> dict[str, np.ndarray]:
        rows = [sequence for example in examples for sequence in self.rows[example]]
        tokens = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask, types = np.zeros_like(tokens), np.zeros_like(tokens)
        for place, row in enumerate(rows):
            tokens[place, : len(row)] = row
            mask[place, : len(row)] = 1
            types[place, row.index(_SEP) + 1 : len(row)] = 1
        answers = self.answers[examples].astype(np.int64)
        return {"tokens": tokens, "token_types": types, "attention_mask": mask, "answers": answers}


def _our_ends(settings: Settings, questions: Questions) -> list[float]:
    """Processor time at the end of each step."""
    from core.parallel.layers import initialize_parameters
    from core.training.observers import Observer
    from core.training.trainer import train
    from finetune.heads import MultipleChoice
    from finetune.tuner import Epochs

    ends: list[float] = []

    class Clock(Observer):
        def step_done(self, *_: Any) -> None:
            ends.append(time.process_time())

    mesh = initialize()
    shape = ModelConfig(
        "bert", settings.layers, settings.hidden, settings.hidden // 64, settings.sequence,
        settings.vocabulary, activation="gelu", norm_order="post", embedding_norm=True, layer_norm_eps=1e-12,
    )  # fmt: skip
    model = MultipleChoice(shape, mesh, OPTIONS, "race")
    initialize_parameters(model, seed=1)
    steps = settings.steps + _WARMUP_STEPS
    task = Epochs(model, questions, mesh, 1, 1, settings.batch)
    config = TrainingConfig(
        steps, settings.batch, task.pass_size(settings.micro_batch), learning_rate=2e-5, schedule="linear",
        weight_decay=0.1, checkpoint_interval=10 * steps,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        train(task, mesh, config, Path(folder), None, [Clock()])
    mesh.shutdown()
    return ends


def _trainer_ends(settings: Settings, questions: Questions) -> list[float]:
    """The same by the Trainer at its best eager settings, nothing logged or saved."""
    import torch
    import transformers

    ends: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.process_time())

    names = {"tokens": "input_ids", "token_types": "token_type_ids", "attention_mask": "attention_mask"}

    def collate(examples: list[int]) -> dict[str, torch.Tensor]:
        batch = questions.batch(np.array(examples))
        inputs = {
            theirs: torch.from_numpy(batch[ours]).view(len(examples), OPTIONS, -1)
            for ours, theirs in names.items()
        }
        return {**inputs, "labels": torch.from_numpy(batch["answers"])}

    config = transformers.BertConfig(
        vocab_size=settings.vocabulary, hidden_size=settings.hidden, num_hidden_layers=settings.layers,
        num_attention_heads=settings.hidden // 64, intermediate_size=4 * settings.hidden,
        max_position_embeddings=settings.sequence, attn_implementation="sdpa",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder, per_device_train_batch_size=settings.micro_batch, weight_decay=0.1, learning_rate=2e-5,
            gradient_accumulation_steps=settings.batch // settings.micro_batch, num_train_epochs=1,
            optim="adamw_torch_fused", use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no",
            remove_unused_columns=False, disable_tqdm=True, seed=1,
        )  # fmt: skip
        transformers.Trainer(
            transformers.BertForMultipleChoice(config), arguments, data_collator=collate,
            train_dataset=list(range(len(questions))), callbacks=[Clock()],
        ).train()  # fmt: skip
    return ends
