"""The official scores of answers, with expectations computed by hand, and thresholds by trying every one."""

import random

import numpy as np
import pytest

from finetune.answers import Threshold, best_threshold, normalized, score

# prediction, answers, then exact match and F1 by the rule of 1.1, and of 2.0 where that differs.
CASES = [
    ("the Cat", ["a cat."], (1, 1), None),
    ("Denver Broncos", ["the Denver Broncos", "Broncos"], (1, 1), None),
    ("Broncos of Denver", ["Denver Broncos"], (0, 0.8), None),  # precision 2/3, recall 1: 2 · 2/3 / (5/3)
    ("new york new", ["new york"], (0, 0.8), None),  # "new" counts once: 2/3 and 1
    ("a b c d", ["x b", "b c"], (0, 0.8), None),  # without its article b c d: 2/3 and 1
    ("cat", ["dog"], (0, 0), None),
    ("U.S.", ["us"], (1, 1), None),  # punctuation goes, no blank comes in its place
    ("twenty-one", ["twenty one"], (0, 0), None),
    ("an-other", ["another"], (1, 1), None),  # the article is looked for behind the punctuation
    ("the.the", ["thethe"], (1, 1), None),
    ("$5\u00a0million", ["5 Million"], (1, 1), None),  # every kind of blank is folded
    ("5\u2028\t million", ["5 million"], (1, 1), None),
    ("“cat”", ["cat"], (0, 0), None),  # only ASCII's punctuation goes
    ("l’eau", ["leau"], (0, 0), None),
    ("Cafe\u0301", ["Café"], (0, 0), None),  # no normal form of Unicode is made
    ("STRASSE", ["straße"], (0, 0), None),  # lower case, no case folding
    ("ÉCOLE", ["école"], (1, 1), None),
    ("a\u0301b", ["áb"], (0, 0), None),
    ("中国", ["中国。"], (0, 0), None),
    ("", ["cat"], (0, 0), None),
    ("the", ["an"], (1, 0), (1, 1)),  # neither has words; in 2.0 both are empty then
    ("...", ["cat"], (0, 0), None),
    ("cat", ["the", "cat"], (1, 1), None),
    ("", ["the", "cat"], (1, 0), (0, 0)),  # in 2.0 an answer without words does not count
    ("", [], (0, 0), (1, 1)),  # unanswerable, of 2.0 alone
    ("cat", [], (0, 0), (0, 0)),
    ("the", [], (0, 0), (1, 1)),  # by its words nothing is predicted
]


@pytest.mark.parametrize(("prediction", "answers", "first", "second"), CASES)
def test_scores_are_those_of_the_official_rule(
    prediction: str, answers: list[str], first: tuple[float, float], second: tuple[float, float] | None
) -> None:
    assert score(prediction, answers, "1.1") == pytest.approx(first, abs=1e-12)
    assert score(prediction, answers, "2.0") == pytest.approx(second or first, abs=1e-12)


def test_articles_are_words_and_go_after_the_punctuation() -> None:
    assert normalized("A theory, an answer; the the  \n Banana's") == "theory answer bananas"
    assert normalized("the_end") == "theend"
    assert normalized("An é") == "é"


def _tried(scores: np.ndarray, no_answer: np.ndarray, answerable: np.ndarray) -> tuple[float, float]:
    """Every threshold that makes a difference, by the definition: (best mean, the lowest threshold that gives it)."""
    best = (-1.0, 0.0)
    for threshold in [min(no_answer) - 1, *sorted(set(no_answer.tolist()))]:
        values = [
            (0.0 if has else 1.0) if none > threshold else value
            for value, none, has in zip(scores, no_answer, answerable, strict=True)
        ]
        mean = sum(values) / len(values)
        if mean > best[0] + 1e-9:
            best = (mean, threshold)
    return best


def test_thresholds_are_the_best_of_all() -> None:
    draw = random.Random(3)
    for _ in range(300):
        count = draw.randint(1, 12)
        answerable = np.array([draw.random() < 0.6 for _ in range(count)])
        # Few different values, so that many are equal; signs of both kinds.
        no_answer = np.array([draw.choice((-2.5, -1.0, 0.0, 0.5, 3.0)) for _ in range(count)])
        scores = np.array([draw.choice((0.0, 0.25, 0.5, 1.0)) if has else 0.0 for has in answerable])
        value, threshold = _tried(scores, no_answer, answerable)
        found = best_threshold(scores, no_answer, answerable)
        assert found.value == pytest.approx(value, abs=1e-12)
        if threshold >= min(no_answer):
            assert found.threshold == threshold
        else:
            assert found.threshold < min(no_answer)


def test_thresholds_by_hand() -> None:
    found = best_threshold(
        np.array([1.0, 0.5, 0.0, 0.0]), np.array([-3.0, 2.0, 1.0, 5.0]), np.array([True, True, False, False])
    )
    assert found == Threshold(0.75, -3.0)  # the first answered alone: 1 + 0 + 1 + 1
    nothing = best_threshold(np.array([0.0, 0.0]), np.array([0.2, 0.4]), np.array([True, False]))
    assert nothing == Threshold(0.5, 0.0), "as the official script: no score of 0 or less"
    all_of_them = best_threshold(np.array([1.0, 1.0]), np.array([0.2, 0.4]), np.array([True, True]))
    assert all_of_them == Threshold(1.0, 0.4)
