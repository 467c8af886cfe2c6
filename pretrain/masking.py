"""BERT's samples: consecutive sentences cut into two halves, and masks over whole words and n-grams of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_pipeline.indexed.dataset import IndexedDataset, bin_path
from data_pipeline.indexed.samples import refuse_other_values
from data_pipeline.tokenization.tokenizers import Tokenizer
from pretrain.sentence_runs import sentence_runs

SPECIAL_TOKENS = 3  # [CLS] first [SEP] second [SEP]
MASKED_SHARE = 0.15
LONGEST_NGRAM = 3

Tokens = npt.NDArray[np.int64]


class SentencePairs:
    """`samples` runs of consecutive sentences, each long enough to fill a sequence, in random order.

    Args:
        dataset: one sequence a sentence, documents by the document index.
        part: first and last (exclusive) document to use.
        samples: how many are wanted; documents are repeated as often as that takes.
        cached: keep the list of runs in a hidden folder beside the corpus, and use what is there.

    Raises:
        UserError: no document of the part has two sentences.
    """

    def __init__(
        self,
        dataset: IndexedDataset,
        part: tuple[int, int],
        samples: int,
        sequence_length: int,
        seed: int,
        cached: bool = False,
    ) -> None:
        refuse_other_values(dataset)
        self._dataset = dataset
        self.sequence_length = sequence_length
        self._runs = sentence_runs(dataset, part, samples, sequence_length - SPECIAL_TOKENS, seed, cached)

    def __len__(self) -> int:
        """Runs that the repeated documents hold; at least as many as were asked for."""
        return len(self._runs["order"])

    def run(self, index: int) -> tuple[int, int, int]:
        """First sentence, past the last, and target tokens of a sample."""
        row = self._runs["order"][index]
        first, sentences, target = (int(self._runs[name][row]) for name in ("first", "sentences", "target"))
        return first, first + sentences, target

    def pair(self, index: int, random: np.random.Generator) -> tuple[Tokens, Tokens, int]:
        """The two halves of a sample and its label: 1 when they are swapped."""
        first, end, target = self.run(index)
        middle = int(random.integers(first + 1, end))
        halves = [self._tokens(first, middle), self._tokens(middle, end)]
        truncate(halves, target, random)
        swapped = int(random.random() < 0.5)
        return halves[swapped], halves[1 - swapped], swapped

    def place_of(self, index: int, token: int) -> str:
        """Where a token of a sample is stored, for messages."""
        first, end, _ = self.run(index)
        sentence = next(number for number in range(first, end) if token in self._dataset[number])
        document = int(np.searchsorted(self._dataset.document_index, sentence, side="right")) - 1
        return f"{bin_path(self._dataset.prefix)}: sequence {sentence}, in document {document}"

    def _tokens(self, first: int, end: int) -> Tokens:
        return np.concatenate([self._dataset[sentence] for sentence in range(first, end)]).astype(np.int64)


def truncate(halves: list[Tokens], longest: int, random: np.random.Generator) -> None:
    """Drop tokens until both fit: always of the longer half, at its front or its back with equal chance."""
    starts, ends = [0, 0], [len(half) for half in halves]
    while (ends[0] - starts[0]) + (ends[1] - starts[1]) > longest:
        longer = 0 if ends[0] - starts[0] > ends[1] - starts[1] else 1
        if random.random() < 0.5:
            starts[longer] += 1
        else:
            ends[longer] -= 1
    for side in (0, 1):
        halves[side] = halves[side][starts[side] : ends[side]]


@dataclass(frozen=True)
class MaskedSample:
    """One input: tokens and types [length], masked positions and their true tokens [masks]."""

    tokens: Tokens
    types: Tokens
    positions: Tokens
    targets: Tokens


def predictions_limit(length: int) -> int:
    """The most masks an input of `length` tokens gets."""
    return max(1, round(length * MASKED_SHARE))


def masked_sample(
    first: Tokens, second: Tokens, tokenizer: Tokenizer, random: np.random.Generator
) -> MaskedSample:
    """[CLS] first [SEP] second [SEP] with masks: of the chosen tokens 80 % become [MASK], 10 % stay, 10 % become
    random tokens."""
    separator = [tokenizer.sep]
    tokens = np.concatenate([[tokenizer.cls], first, separator, second, separator]).astype(np.int64)
    types = np.zeros(len(tokens), dtype=np.int64)
    types[len(first) + 2 :] = 1
    special = {0, len(first) + 1, len(tokens) - 1}
    words = whole_words(tokens, special, tokenizer.continuation)
    chosen = choose_ngrams(words, predictions_limit(len(tokens)), random)
    positions = np.array(chosen, dtype=np.int64)
    targets = tokens[positions]
    fate = random.random(len(positions))
    replaced = np.where(fate < 0.8, tokenizer.mask, targets)
    anything = random.integers(0, tokenizer.vocabulary_size, len(positions))
    tokens[positions] = np.where(fate >= 0.9, anything, replaced)
    return MaskedSample(tokens, types, positions, targets)


def whole_words(tokens: Tokens, special: set[int], continuation: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Positions by word: a piece that continues a word ("##…") belongs to the piece before it."""
    words: list[list[int]] = []
    continues = continuation[tokens]
    for position in range(len(tokens)):
        if position in special:
            continue
        if continues[position] and words and words[-1][-1] == position - 1:
            words[-1].append(position)
        else:
            words.append([position])
    return words


def choose_ngrams(words: Sequence[list[int]], limit: int, random: np.random.Generator) -> list[int]:
    """Sorted positions to mask, at most `limit`: n-grams of whole words that do not overlap, n up to 3 with
    p(n) proportional to 1/n; where an n-gram is too long for what is left, a shorter one."""
    weights = 1.0 / np.arange(1, LONGEST_NGRAM + 1)
    sizes = random.choice(np.arange(1, LONGEST_NGRAM + 1), size=len(words), p=weights / weights.sum())
    taken = np.zeros(len(words), dtype=bool)
    chosen: list[int] = []
    for start in random.permutation(len(words)):
        if len(chosen) >= limit:
            break
        for size in range(int(sizes[start]), 0, -1):
            if start + size > len(words) or taken[start : start + size].any():
                continue
            positions = [position for word in words[start : start + size] for position in word]
            if len(chosen) + len(positions) <= limit:
                chosen += positions
                taken[start : start + size] = True
                break
    return sorted(chosen)
