"""Numbers of answers that are one of several labels: accuracy, F1, Matthews' correlation, confusion; and groups of
questions. No torch."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

_QUESTION_WORDS = {
    **{word: word for word in ("what", "which", "when", "where", "why", "how")},
    **dict.fromkeys(("who", "whom", "whose"), "who"),
}


def confusion(answers: np.ndarray, predicted: np.ndarray, labels: int) -> np.ndarray:
    """[labels, labels] how often an answer (row) was predicted as a label (column)."""
    counts = np.zeros((labels, labels), np.int64)
    np.add.at(counts, (answers, predicted), 1)
    return counts


def accuracy(counts: np.ndarray) -> float:
    """Share of right predictions in a confusion matrix."""
    return float(counts.trace() / counts.sum())


def f1(counts: np.ndarray) -> float:
    """F1 of the last label, the positive one; 0 where it was neither an answer nor predicted."""
    right = counts[-1, -1]
    asked = counts[-1].sum() + counts[:, -1].sum()
    return float(2 * right / asked) if asked else 0.0


def matthews(counts: np.ndarray) -> float:
    """Matthews' correlation coefficient (Gorodkin 2004 for more than two labels); 0 where one label is all there is."""
    total, right = int(counts.sum()), int(counts.trace())
    answered = [int(count) for count in counts.sum(axis=1)]
    predicted = [int(count) for count in counts.sum(axis=0)]
    shared = total * right - sum(a * p for a, p in zip(answered, predicted, strict=True))
    spread = (total**2 - sum(a * a for a in answered)) * (total**2 - sum(p * p for p in predicted))
    return shared / math.sqrt(spread) if spread else 0.0


METRICS = {"accuracy": accuracy, "f1": f1, "matthews": matthews}


def named_confusion(counts: np.ndarray, labels: Sequence[str]) -> dict[str, dict[str, int]]:
    """{answer: {prediction: how often}}."""
    return {
        answer: {label: int(count) for label, count in zip(labels, row, strict=True)}
        for answer, row in zip(labels, counts, strict=True)
    }


def shares(right: np.ndarray, groups: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Right answers by group, in the order of the groups' names: {group: {correct, total, accuracy}}."""
    found = {}
    names = np.asarray(groups)
    for name in sorted(set(names.tolist())):
        member = names == name
        correct, total = int(right[member].sum()), int(member.sum())
        found[str(name)] = {"correct": correct, "total": total, "accuracy": correct / total}
    return found


def question_word(question: str) -> str:
    """The first word in a question that asks, "who" for its forms, too; or "other"."""
    words = re.findall(r"[a-z]+", question.lower())
    return next((_QUESTION_WORDS[word] for word in words if word in _QUESTION_WORDS), "other")
