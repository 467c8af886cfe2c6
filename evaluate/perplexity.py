"""Zero-shot perplexity of a text: the paper's, per word of the text (section 5.2, equation 4 of its appendix), and others.

A language model reads sub-word pieces; the summed loss is divided by the number of the *text's own* words, so that the
perplexity is comparable between tokenizers. A task is a subclass and its record: what is a word, and how the text is
spelled for the model. Not here: forward passes and sums over ranks (`evaluate.scoring`).
"""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import UserError
from data_pipeline.benchmarks.wikitext103 import normalise
from data_pipeline.text_files import read_text
from data_pipeline.tokenization.tokenizers import Tokenizer
from evaluate.sequences import ScoredSequence
from recipes.records import Column
from recipes.schema import EvaluationSettings

if TYPE_CHECKING:
    from evaluate.scoring import Scorer, Totals

STRETCHES = 20  # of a text without documents

COLUMNS = (
    Column("perplexity", "perplexity", error="standard_error"),
    Column("untrained", "untrained_perplexity"),
    Column("per token", "token_perplexity"),
    Column("bits per byte", "bits_per_byte"),
    Column("words", "original_tokens"),
    Column("tokens", "tokens"),
)
SETTINGS = ("precision", "stride")  # that its numbers depend on


def overlapping_windows(tokens: np.ndarray, length: int, stride: int) -> list[ScoredSequence]:
    """Windows of `length` targets, one every `stride` tokens, that score each target exactly once.

    The first window scores all its targets, each later one its last `stride`, so that every target (but the
    first `length`) is predicted from at least `length - stride` tokens. The last window is cut at the end of the
    text, not moved back. A file of fewer targets than `length` is one window.

    Args:
        tokens: the text's n token ids; n - 1 of them are targets.
        length: the model's sequence length.
        stride: from 1 to `length`.
    """
    targets = len(tokens) - 1
    count = 1 + math.ceil(max(targets - length, 0) / stride)
    windows = []
    for index in range(count):
        start = index * stride
        end = min(start + length, targets)
        first_scored = 0 if index == 0 else start + length - stride
        windows.append(ScoredSequence(tokens[start : end + 1], scored=end - first_scored))
    return windows


def stretches(text: str, cuts: Sequence[int]) -> list[str]:
    """A text cut at these places; where there are none, into 20 stretches of whole words."""
    if not cuts:
        cuts = [text.find(" ", len(text) * number // STRETCHES) for number in range(1, STRETCHES)]
    edges = sorted({0, *(cut for cut in cuts if cut > 0), len(text)})
    return [text[start:end] for start, end in itertools.pairwise(edges)]


def blocks_of_windows(
    windows: list[ScoredSequence], lengths: list[int], words: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Windows in blocks of about an article, which may be taken to be independent of each other; neighbouring windows
    may not.

    An article is detokenised and encoded apart here, so where it begins is known to a few tokens; it begins with the
    window whose scored targets are nearest. The words of a block are those between its first target and its last.

    Args:
        windows: of the whole text.
        lengths, words: of each article, in tokens and in original words.

    Returns:
        the block of each window, and the words of each block.
    """
    scored = np.array([window.scored for window in windows])
    targets = np.concatenate([[0], np.cumsum(scored)])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    starts = starts * (targets[-1] / max(starts[-1], 1))
    article = np.searchsorted(starts[1:-1], (targets[:-1] + targets[1:]) / 2, side="right")
    used, blocks = np.unique(article, return_inverse=True)
    firsts = np.searchsorted(blocks, np.arange(len(used)))  # windows of one article are neighbours
    edges = np.append(targets[:-1][firsts], targets[-1])
    return blocks, np.diff(np.interp(edges, starts, np.concatenate([[0], np.cumsum(words)])))


class Perplexity:
    """A text, read and encoded for one model's tokenizer and sequence length. Subclasses say what its words and documents
    are, and how it is spelled for the model.

    Raises:
        UserError: the file cannot be read or leaves nothing to predict.
    """

    def __init__(
        self, path: Path, tokenizer: Tokenizer, sequence_length: int, settings: EvaluationSettings
    ) -> None:
        text, self.normalised = normalise(read_text(path))
        self.original_tokens = self.count_words(text)
        self.bytes = len(text.encode())
        self.token_ids = np.asarray(tokenizer.encode(self.spelled(text)), dtype=np.int64)
        self.tokens = len(self.token_ids)
        if self.tokens < 2 or self.original_tokens < 2:
            raise UserError(
                f"{path}: holds {self.tokens} tokens in {self.original_tokens} words; perplexity needs at least "
                "two of each, the first is given and the others are predicted"
            )
        self.path = path
        self.tokenizer = tokenizer
        self.sequence_length = sequence_length
        self.stride = settings.stride
        self.windows = overlapping_windows(self.token_ids, sequence_length, settings.stride)
        parts = self.documents(text)
        lengths = [len(ids) for ids in tokenizer.encode_batch([self.spelled(part) for part in parts])]
        words = [self.words_within(part) for part in parts]
        self.blocks, self.block_words = blocks_of_windows(self.windows, lengths, words)
        self.totals: Totals | None = None

    def count_words(self, text: str) -> int:
        """What perplexity is normalised by."""
        return len(text.split())

    def words_within(self, part: str) -> int:
        """Words in a part of the text."""
        return len(part.split())

    def spelled(self, text: str) -> str:
        """The text, or a part of it, as the model reads it."""
        return text

    def documents(self, text: str) -> list[str]:
        """The text in parts that may be taken to be independent of each other."""
        return stretches(text, [])

    def perplexity(self, score: "Scorer") -> float:
        """Perplexity per word."""
        return exponential(score(self.windows).loss / (self.original_tokens - 1), self.path)

    def evaluate(self, score: "Scorer") -> dict[str, Any]:
        from core.evaluation import ratio_standard_error  # torch, which workflows do without

        self.totals = totals = score(self.windows)
        assert totals.targets == self.tokens - 1
        perplexity = exponential(totals.loss / (self.original_tokens - 1), self.path)
        losses = np.bincount(self.blocks, weights=totals.losses)
        error = ratio_standard_error(losses, self.block_words)
        return {
            "perplexity": perplexity,
            "standard_error": None
            if error is None
            else perplexity * error,  # of exp(x) is exp(x) times that of x
            "standard_error_over": f"{len(self.block_words)} stretches of text",
            "token_perplexity": exponential(totals.loss / (self.tokens - 1), self.path),
            "bits_per_byte": totals.loss / math.log(2) / self.bytes,
            "original_tokens": self.original_tokens,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "sequence_length": self.sequence_length,
            "stride": self.stride,
            **({"normalised": f"{self.normalised} line ends"} if self.normalised else {}),
        }

    def controls(self, score: "Scorer", untrained: "Scorer") -> dict[str, Any]:
        """What the same file gives for a model with its initial weights."""
        return {"untrained_perplexity": self.perplexity(untrained)}

    def predictions(self) -> dict[str, Any]:
        """A row for each token but the first: its place in the text, from 0, and what the model thought of it."""
        assert self.totals is not None, "evaluate comes first"
        shown = {
            int(token): self.tokenizer.decode([int(token)])
            for token in np.unique(np.concatenate([self.token_ids, self.totals.choices]))
        }
        return {
            "row": np.arange(1, self.tokens),
            "target": [shown[token] for token in self.token_ids[1:].tolist()],
            "prediction": [shown[token] for token in self.totals.choices.tolist()],
            "log_probability": -self.totals.target_losses,
            "right": self.totals.targets_right,
        }


def exponential(mean_loss: float, path: Path) -> float:
    """Perplexity of a mean loss in nats.

    Raises:
        UserError: no number is so large.
    """
    try:
        return math.exp(mean_loss)
    except OverflowError as error:
        raise UserError(
            f"{path}: the mean loss is {mean_loss:.1f} nats, no perplexity can be stated; "
            "does the tokenizer belong to this model?"
        ) from error


def stride_errors(settings: Any, config: Any, where: str) -> list[str]:
    """A stride longer than the model reads."""
    if settings.stride <= config.sequence_length:
        return []
    return [
        f"{where}.stride: must be from 1 to the model's sequence length, {config.sequence_length}, is {settings.stride}"
    ]
