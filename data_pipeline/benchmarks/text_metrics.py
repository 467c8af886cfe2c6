"""What generated texts are worth beside references: ROUGE, BLEU, distinct n-grams. No torch; the two packages that
published numbers are computed by are imported where they are used."""

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from core.errors import UserError
from data_pipeline.tokenization.abbreviations import abbreviation, ends_sentence

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
_END = re.compile(r"""(?<![.!?])[.!?]++["'”’)\]]*+(?=\s)""")
_WORD = re.compile(r"\s*(\S{1,40})")
_CLOSING = "\"'”’)]"
_LONGEST_WORD = 40  # of those that are looked up among abbreviations
_AT_ONCE = 64  # texts

Share = Callable[[list[list[int]], Callable[[Sequence[int]], np.ndarray], int], np.ndarray]
"""(batches of numbers of items, what scores a batch, columns) → the scores of all: how ranks share the work."""


def sentences(text: str) -> list[str]:
    """The sentences of a text, by lines and full stops, without blanks around them."""
    found: list[str] = []
    for line in text.split("\n"):
        start = 0
        for match in _END.finditer(line):
            if _goes_on(line, start, match.end()):
                continue
            found.append(line[start : match.end()].strip())
            start = match.end()
        found.append(line[start:].strip())
    return [sentence for sentence in found if sentence]


def _goes_on(line: str, start: int, end: int) -> bool:
    """Whether a mark is that of an abbreviation or an initial, behind which the sentence goes on."""
    word = line[max(start, end - _LONGEST_WORD) : end].split()[-1].rstrip(_CLOSING)
    if len(word) == 2 and word[0].isupper() and word[1] == "." and word != "I.":
        return True
    known, following = abbreviation(word), _WORD.match(line, end)
    return bool(known) and following is not None and ends_sentence(known, following[1]) is False


def first_sentences(text: str, count: int) -> str:
    """The first sentences of a text, a line each, as ROUGE-Lsum takes them."""
    return "\n".join(sentences(text)[:count])


@functools.cache
def _rouge_scorer() -> Any:
    try:
        from rouge_score import rouge_scorer
    except ImportError as error:
        raise UserError("ROUGE is computed by the package rouge-score: pip install rouge-score") from error
    return rouge_scorer.RougeScorer(list(ROUGE), use_stemmer=True)


def rouge(text: str, reference: str) -> list[float]:
    """The F measures of `ROUGE`, with Porter's stems, as published numbers are; sentences are lines."""
    found = _rouge_scorer().score(reference, text)
    return [float(found[name].fmeasure) for name in ROUGE]


def rouge_of_all(texts: Sequence[str], references: Sequence[str], share: Share) -> np.ndarray:
    """[texts, 4] F measures, see `rouge`."""
    batches = [
        list(range(start, min(start + _AT_ONCE, len(texts)))) for start in range(0, len(texts), _AT_ONCE)
    ]

    def score(numbers: Sequence[int]) -> np.ndarray:
        return np.array([rouge(texts[number], references[number]) for number in numbers])

    return share(batches, score, len(ROUGE))


def means(scores: np.ndarray) -> dict[str, float]:
    """Plain means of [texts, 4] scores, by name: `rouge-score`'s own aggregation draws its samples unseeded."""
    return dict(zip(ROUGE, scores.mean(axis=0).tolist(), strict=True))


def standard_errors(scores: np.ndarray) -> dict[str, float | None]:
    """Of the means, by name; None for a single text."""
    if len(scores) < 2:
        return dict.fromkeys(ROUGE)
    errors = scores.std(axis=0, ddof=1) / np.sqrt(len(scores))
    return dict(zip(ROUGE, errors.tolist(), strict=True))


def bleu(texts: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Corpus BLEU from 0 to 100 by `sacrebleu`, and the signature that says how it was computed."""
    try:
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise UserError("BLEU is computed by the package sacrebleu: pip install sacrebleu") from error
    metric = BLEU()
    score = metric.corpus_score(list(texts), [list(references)])
    return {"bleu": float(score.score), "bleu_signature": str(metric.get_signature())}


def distinct(texts: Iterable[str], n: int) -> float | None:
    """Different n-grams of words per n-gram, over all texts (Li et al. 2016); None where there is no n-gram."""
    seen: set[tuple[str, ...]] = set()
    count = 0
    for text in texts:
        words = text.split()
        grams = list(zip(*(words[start:] for start in range(n)), strict=False))
        seen.update(grams)
        count += len(grams)
    return len(seen) / count if count else None


def another_of(count: int) -> list[int]:
    """For each of `count` items another one: always the same permutation, none of two or more keeps its own."""
    cycle = np.random.RandomState(0).permutation(count)
    other = np.empty(count, int)
    other[cycle] = np.roll(cycle, 1)
    return other.tolist()
