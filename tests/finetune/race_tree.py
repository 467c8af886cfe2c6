"""A small RACE tree and a WordPiece vocabulary for it, for the tests of this folder."""

import json
from pathlib import Path

import numpy as np

WORDS = ("cat", "dog", "fox", "hen", "owl", "pig", "ram", "yak")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "is", "here", "?", ".", *WORDS)


def write_vocabulary(path: Path) -> None:
    path.write_text("\n".join(VOCABULARY) + "\n")


def write_tree(directory: Path, passages: dict[str, int], seed: int = 0) -> None:
    """Passages a level in each split, with two questions each; the answer is the animal the passage names."""
    random = np.random.RandomState(seed)
    for split, count in passages.items():
        for level in ("middle", "high"):
            folder = directory / split / level
            folder.mkdir(parents=True)
            for number in range(count):
                record = _passage(random, f"{level}{number}.txt")
                (folder / f"{number}.txt").write_text(json.dumps(record))


def _passage(random: np.random.RandomState, name: str) -> dict:
    animal = random.choice(WORDS)
    options, answers = [], []
    for _ in range(2):
        others = [word for word in random.permutation(WORDS) if word != animal][:3]
        answer = random.randint(4)
        options.append([str(word) for word in (*others[:answer], animal, *others[answer:])])
        answers.append("ABCD"[answer])
    article = " ".join([f"{animal} is here ."] * random.randint(1, 4))
    return {
        "article": article,
        "questions": ["who is here ?", "_ is here ."],
        "options": options,
        "answers": answers,
        "id": name,
    }
