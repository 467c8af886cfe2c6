"""A corpus of random tokens with its byte-level tokenizer and a recipe: what a pretraining in a test starts from."""

import json
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from data_pipeline.indexed.dataset import IndexedWriter
from data_pipeline.tokenization.tokenizers import load_tokenizer

RECIPE = """
[models.tiny]
family = "FAMILY"
layers = 1
hidden = 16
heads = 2
sequence_length = 16
vocabulary_multiple = 64
training = { steps = STEPS, global_batch = 4, micro_batch = 1, learning_rate = 1e-3, validation_interval = 3, MORE }
"""


def write_corpus(folder: Path) -> None:
    """`tokenizer.json`, and `corpus.bin`, `corpus.idx` and `corpus.json` of 60 documents of 40 tokens."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"]
    backend = tokenizers.Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.save(str(folder / "tokenizer.json"))
    random = np.random.RandomState(1)
    with IndexedWriter(folder / "corpus", np.uint16) as writer:
        for _ in range(60):
            writer.add_document([random.randint(0, len(pieces), 40)])
        writer.finish()
    facts = {"tokenizer_fingerprint": load_tokenizer(folder / "tokenizer.json").fingerprint}
    (folder / "corpus.json").write_text(json.dumps(facts))


def recipe(steps: int, family: str = "gpt2", more: str = "checkpoint_interval = 500") -> str:
    """The text of a recipe with one model, `tiny`; `more` are settings of its training."""
    return RECIPE.replace("FAMILY", family).replace("STEPS", str(steps)).replace("MORE", more)
