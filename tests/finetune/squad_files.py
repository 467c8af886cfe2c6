"""Small SQuAD folders in the authors' format, in the words of `race_tree`."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.finetune.race_tree import WORDS


def question(name: str, asked: str, answers: list[tuple[str, int]], version: str = "1.1") -> dict[str, Any]:
    row: dict[str, Any] = {"id": name, "question": asked}
    row["answers"] = [{"text": text, "answer_start": start} for text, start in answers]
    return row if version == "1.1" else row | {"is_impossible": not answers}


def write_squad(path: Path, passages: list[tuple[str, list[dict[str, Any]]]], version: str = "1.1") -> None:
    """One article of (context, questions)."""
    paragraphs = [{"context": context, "qas": questions} for context, questions in passages]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": version, "data": [{"title": "T", "paragraphs": paragraphs}]}))


def write_animals(folder: Path, passages: dict[str, int], version: str, seed: int = 0) -> None:
    """Passages a split; the answer is the animal a passage names, at any place, and in some of 2.0's none."""
    random = np.random.RandomState(seed)
    for split, count in passages.items():
        made = []
        for number in range(count):
            words = ["is", "here", "."] * random.randint(2, 14)
            animal = str(random.choice(WORDS))
            answers = []
            if version == "1.1" or number % 3:
                place = int(random.randint(len(words)))
                answers = [(animal, sum(len(word) + 1 for word in words[:place]))]
                words.insert(place, animal)
            made.append((" ".join(words), [question(f"{split}{number}", "who is here ?", answers, version)]))
        write_squad(folder / f"{split}-v{version}.json", made, version)
