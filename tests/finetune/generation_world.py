"""Small dialogues, articles and a byte-level tokenizer for the tests of generation tasks; and what `transformers` says."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers

ANSWERS = {"c?": "meow", "d?": "woof", "h?": "cluck", "p?": "oink"}
ANIMALS = ("cat", "dog", "hen", "pig", "fox", "owl")
COUNTS = {"train": 24, "validation": 6, "test": 7}
END = 256  # the id of the token that ends a document


def write_tokenizer(path: Path) -> None:
    """Every byte is a token."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"]
    backend = tokenizers.Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.save(str(path))


def write_dialogues(folder: Path) -> None:
    random = np.random.RandomState(1)
    folder.mkdir()
    for split, count in COUNTS.items():
        lines = []
        for number in range(count):
            asked = [str(random.choice(list(ANSWERS))) for _ in range(1 + number % 3)]
            turns = [turn for question in asked for turn in (question, ANSWERS[question])]
            lines.append(json.dumps({"id": f"{split}{number}", "turns": turns}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


def write_articles(folder: Path) -> None:
    random = np.random.RandomState(2)
    folder.mkdir()
    for split, count in COUNTS.items():
        lines = []
        for number in range(count):
            animal, other = random.choice(ANIMALS, 2, replace=False)
            document = f"The {animal} ran. It met Mr. {other}. Both ate. {'They ran on. ' * (number % 4)}End."
            row = {"id": str(number), "document": document, "summary": f"A {animal} ran and met a {other}."}
            lines.append(json.dumps(row))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answers_by_hand(folder: Path, split: str, tokenizer: Path) -> list[tuple[list[int], list[int]]]:
    """(context, answer) ids of each turn after the first: each turn ends with the end of a document."""
    backend = tokenizers.Tokenizer.from_file(str(tokenizer))
    found = []
    for row in rows(folder / f"{split}.jsonl"):
        ids = [[*backend.encode(turn).ids, END] for turn in row["turns"]]
        for turn in range(1, len(ids)):
            found.append(([token for known in ids[:turn] for token in known], ids[turn]))
    return found


@torch.inference_mode()
def losses_by_transformers(model: Any, pairs: list[tuple[list[int], list[int]]]) -> list[float]:
    """Of each answer the summed loss, one at a time."""
    losses = []
    for context, answer in pairs:
        logits = model(torch.tensor([context + answer[:-1]])).logits[0, len(context) - 1 :].double()
        losses.append(-float(logits.log_softmax(-1)[range(len(answer)), answer].sum()))
    return losses


def mean(losses: list[float], pairs: list[tuple[list[int], list[int]]]) -> float:
    return math.fsum(losses) / sum(len(answer) for _, answer in pairs)
