"""The golden loss curves: 50 steps of a small GPT-2 and a small BERT, fp32, by the trainer, from an indexed corpus.

`curves/*.txt` has a line a step. After a change that is meant to move them: `python tests/core/record_curves.py`.

The corpus comes from numpy's `RandomState`, whose numbers are frozen. Dropout is off: its masks are not the same on
every processor, and in 50 steps rounding does not grow.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parents[1]), str(FOLDER.parent)]  # the checkout, and `distributed`

from distributed import run_distributed  # noqa: E402

from core.config import ModelConfig, TrainingConfig  # noqa: E402
from core.parallel.mesh import initialize  # noqa: E402
from core.training.trainer import train  # noqa: E402
from data_pipeline.indexed.dataset import IndexedWriter  # noqa: E402
from data_pipeline.tokenization.tokenizers import load_tokenizer  # noqa: E402
from pretrain.bert import BertTask  # noqa: E402
from pretrain.gpt2 import GPT2Task  # noqa: E402

CURVES = {family: FOLDER / "curves" / f"{family}.txt" for family in ("gpt2", "bert")}
WORDS, ENDINGS = 90, 10
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY += [f"w{i}" for i in range(WORDS)] + [f"##e{i}" for i in range(ENDINGS)]
TRAINING = TrainingConfig(
    steps=50, global_batch=8, micro_batch=4, learning_rate=4e-3, minimum_learning_rate=4e-4, warmup_steps=5,
    seed=3,
)  # fmt: skip


def model(family: str) -> ModelConfig:
    return ModelConfig(
        family, 2, 32, 4, 32, len(VOCABULARY), vocabulary_multiple=8, dropout=0.0, attention_dropout=0.0,
        initial_std=0.05,
    )  # fmt: skip


def write_corpus(folder: Path) -> Path:
    """40 documents of 8 sentences: rare and frequent words, each followed by its successor, some with an ending."""
    random = np.random.RandomState(7)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    with IndexedWriter(folder / "corpus", np.uint16) as writer:
        for _ in range(40):
            words = random.randint(WORDS, size=50) * random.randint(WORDS, size=50) // WORDS
            pairs = iter(np.stack([words, (words + 1) % WORDS], axis=1).ravel().tolist())
            writer.add_document([_sentence(pairs, random) for _ in range(8)])
        writer.finish()
    return folder / "corpus"


def _sentence(words: Iterator[int], random: np.random.RandomState) -> list[int]:
    tokens = []
    for _ in range(random.randint(4, 12)):
        tokens.append(5 + next(words))
        if random.random_sample() < 0.2:
            tokens.append(5 + WORDS + random.randint(ENDINGS))
    return tokens


def _train(family: str, folder: Path) -> None:
    corpus, mesh, config = write_corpus(folder), initialize(1), model(family)
    task_class = {"gpt2": GPT2Task, "bert": BertTask}[family]
    task = task_class(config, TRAINING, corpus, load_tokenizer(folder / "vocab.txt"), mesh)
    train(task, mesh, TRAINING, folder / "out")


def metrics(family: str, folder: Path) -> bytes:
    """`metrics.jsonl` of a training in a process of its own."""
    folder.mkdir(parents=True)
    run_distributed(_train, 1, family, folder)
    return (folder / "out" / "metrics.jsonl").read_bytes()


def losses(lines: bytes) -> list[float]:
    return [json.loads(line)["loss"] for line in lines.splitlines()]


if __name__ == "__main__":
    for name, path in CURVES.items():
        with tempfile.TemporaryDirectory() as temporary:
            curve = losses(metrics(name, Path(temporary) / "run"))
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{step} {loss:.8f}\n" for step, loss in enumerate(curve, start=1)))
        print(f"{path}: from {curve[0]:.4f} to {curve[-1]:.4f}")
