"""SQuAD's official scores of predicted answers: exact match, F1 and the best no-answer threshold. No torch.

Rajpurkar et al. 2016, section 6.1, and 2018: texts are compared without case, punctuation, articles and kinds of blanks;
a question's score is that of the answer it fits best.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)  # ASCII's alone, by the official rule
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalized(text: str) -> str:
    """Lower case, punctuation out, articles out, blanks folded, in this order."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def token_f1(prediction: str, answer: str) -> float:
    """The harmonic mean of precision and recall of the words, each as often as it is there; both normalized."""
    predicted, expected = prediction.split(), answer.split()
    shared = (Counter(predicted) & Counter(expected)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(expected)
    return 2 * precision * recall / (precision + recall)


class Score(NamedTuple):
    """Of one prediction, each from 0 to 1."""

    exact: float
    f1: float


def score(prediction: str, answers: Sequence[str], version: str) -> Score:
    """The official score of a prediction.

    Args:
        answers: all that are right; none where the question has no answer.
        version: "1.1", or "2.0", by whose rule answers without words do not count, a question without answers is right
            if and only if nothing is predicted, and F1 is 1 where neither has words.
    """
    predicted = normalized(prediction)
    expected = [normalized(answer) for answer in answers]
    if version != "1.1":
        expected = [answer for answer in expected if answer] or [""]
    exact = float(any(predicted == answer for answer in expected))
    if version != "1.1" and not all((predicted, *expected)):
        return Score(exact, exact)  # either is empty, and of `expected` then all are
    return Score(exact, max((token_f1(predicted, answer) for answer in expected), default=0.0))


class Threshold(NamedTuple):
    """What is reached when questions whose no-answer score is above the threshold are left unanswered.

    Attributes:
        value: the mean score.
        threshold: the lowest that reaches it; below every score where it is best to answer nothing.
    """

    value: float
    threshold: float


def best_threshold(scores: np.ndarray, no_answer: np.ndarray, answerable: np.ndarray) -> Threshold:
    """The threshold with the highest mean score, found by sorting on the no-answer score.

    Questions of equal no-answer score are answered together, or not at all: no threshold lies between them.

    Args:
        scores: [questions] float64, of each one's answer.
        no_answer: [questions] float64, finite; the higher the surer it has none.
        answerable: [questions] bool; an unanswered question scores 1 where it has no answer.
    """
    order = np.argsort(no_answer, kind="stable")
    ordered = no_answer[order]
    unanswered = float((~answerable).sum())
    values = np.concatenate([[unanswered], unanswered + np.cumsum((scores - ~answerable)[order])])
    lowest = 0.0 if ordered[0] > 0 else float(ordered[0]) - 1.0
    possible = np.concatenate([[True], ordered[:-1] < ordered[1:], [True]])
    best = int(np.argmax(np.where(possible, values, -np.inf)))
    threshold = lowest if best == 0 else float(ordered[best - 1])
    return Threshold(mean(np.where(no_answer > threshold, ~answerable, scores)), threshold)


def mean(values: np.ndarray) -> float:
    """Of a correctly rounded sum: the same digits in any order."""
    return math.fsum(values.tolist()) / len(values)
