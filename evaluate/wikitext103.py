"""Zero-shot perplexity on WikiText-103 (paper section 5.2, equation 4 of its appendix), and how sure it is.

The benchmark's file is tokenized by words (` @-@ `, `<unk>`, blanks before punctuation), a language model reads
sub-word pieces of ordinary text. So the text is detokenised first, and the summed loss is divided by the number
of the *file's own* words: the perplexity is then comparable between tokenizers. Not here: forward passes and
sums over ranks (`evaluate.scoring`).
"""

import itertools
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import UserError
from data_pipeline.benchmarks.wikitext103 import count_original_tokens, is_title, normalise
from data_pipeline.text_files import read_text
from data_pipeline.tokenization.tokenizers import Tokenizer
from evaluate.sequences import ScoredSequence
from recipes.records import Column, Published, ZeroShot, add_zero_shot
from recipes.schema import EvaluationSettings

if TYPE_CHECKING:
    from evaluate.scoring import Scorer

_STRETCHES = 20  # of a text without titles

# What detokenisation does, in this order. The first pattern's slashes are as the established evaluation has
# them: it never matches ordinary text, and is kept so that nobody "mends" it and changes every number.
_BEFORE_BRACKETS: tuple[tuple[str, str], ...] = (
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (" @.@ ", "."),
    (" : ", ": "),
    (" ; ", "; "),
    (" . ", ". "),
    (" ! ", "! "),
    (" ? ", "? "),
    (" , ", ", "),
)
_BRACKETS = (
    ("(", ")"),
    ("[", "]"),
    ("{", "}"),
    ('"', '"'),
    ("'", "'"),
)  # blanks at the ends of what they enclose go
_AFTER_BRACKETS: tuple[tuple[str, str], ...] = (
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" ° ", "°"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
)


def detokenize(text: str) -> str:
    """WikiText's word-tokenized text as ordinary text, by the rules published numbers are computed with."""
    text = text.replace("s '", "s'")
    text = re.sub(r"/' [0-9]/", r"/'[0-9]/", text)
    for spelled, plain in _BEFORE_BRACKETS:
        text = text.replace(spelled, plain)
    for opening, closing in _BRACKETS:
        text = _without_inner_blanks(text, opening, closing)
    for spelled, plain in _AFTER_BRACKETS:
        text = text.replace(spelled, plain)
    return text


def _without_inner_blanks(text: str, opening: str, closing: str) -> str:
    """`( text )` as `(text)`, from the first opening bracket to the next closing one, in linear time."""
    parts = text.split(closing)
    for index, part in enumerate(parts[:-1]):
        if opening == closing:
            parts[index] = part.strip() if index % 2 else part
            continue
        before, found, inner = part.partition(opening)
        parts[index] = before + found + inner.strip()
    return closing.join(parts)


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


def articles(text: str) -> list[str]:
    """A file cut where articles begin; where it has no two titles, into 20 stretches of whole words."""
    titles = [line.start() for line in re.finditer(r"^.*$", text, re.MULTILINE) if is_title(line[0])]
    cuts = titles[1:]
    if not cuts:
        cuts = [text.find(" ", len(text) * number // _STRETCHES) for number in range(1, _STRETCHES)]
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


class WikiText103:
    """The benchmark's file, read and encoded for one model's tokenizer and sequence length.

    Raises:
        UserError: the file cannot be read or leaves nothing to predict.
    """

    def __init__(
        self, path: Path, tokenizer: Tokenizer, sequence_length: int, settings: EvaluationSettings
    ) -> None:
        text, self.normalised = normalise(read_text(path))
        self.original_tokens = count_original_tokens(text)
        tokens = np.asarray(tokenizer.encode(detokenize(text)), dtype=np.int64)
        self.tokens = len(tokens)
        if self.tokens < 2 or self.original_tokens < 2:
            raise UserError(
                f"{path}: holds {self.tokens} tokens in {self.original_tokens} words; perplexity needs at least "
                "two of each, the first is given and the others are predicted"
            )
        self.path = path
        self.sequence_length = sequence_length
        self.stride = settings.stride
        self.windows = overlapping_windows(tokens, sequence_length, settings.stride)
        parts = articles(text)
        lengths = [len(ids) for ids in tokenizer.encode_batch([detokenize(part) for part in parts])]
        words = [part.count(" ") for part in parts]
        self.blocks, self.block_words = blocks_of_windows(self.windows, lengths, words)

    def perplexity(self, score: "Scorer") -> float:
        """Perplexity per original word, the benchmark's number."""
        return _exponential(score(self.windows).loss / (self.original_tokens - 1), self.path)

    def evaluate(self, score: "Scorer") -> dict[str, Any]:
        from core.evaluation import ratio_standard_error  # torch, which workflows do without

        totals = score(self.windows)
        assert totals.targets == self.tokens - 1
        perplexity = _exponential(totals.loss / (self.original_tokens - 1), self.path)
        losses = np.bincount(self.blocks, weights=totals.losses)
        error = ratio_standard_error(losses, self.block_words)
        return {
            "perplexity": perplexity,
            "standard_error": None
            if error is None
            else perplexity * error,  # of exp(x) is exp(x) times that of x
            "standard_error_over": f"{len(self.block_words)} stretches of text",
            "token_perplexity": _exponential(totals.loss / (self.tokens - 1), self.path),
            "original_tokens": self.original_tokens,
            "tokens": self.tokens,
            "sequence_length": self.sequence_length,
            "stride": self.stride,
            **({"normalised": f"{self.normalised} line ends"} if self.normalised else {}),
        }

    def controls(self, score: "Scorer", untrained: "Scorer") -> dict[str, Any]:
        """What the same file gives for a model with its initial weights."""
        return {"untrained_perplexity": self.perplexity(untrained)}


def _exponential(mean_loss: float, path: Path) -> float:
    try:
        return math.exp(mean_loss)
    except OverflowError as error:
        raise UserError(
            f"{path}: the mean loss is {mean_loss:.1f} nats, no perplexity can be stated; "
            "does the tokenizer belong to this model?"
        ) from error


def _errors(settings: Any, config: Any, where: str) -> list[str]:
    if settings.stride <= config.sequence_length:
        return []
    return [
        f"{where}.stride: must be from 1 to the model's sequence length, {config.sequence_length}, is {settings.stride}"
    ]


WIKITEXT103 = add_zero_shot(
    ZeroShot(
        name="wikitext103",
        title="WikiText-103",
        benchmark="wikitext103",
        program="evaluate.wikitext103:WikiText103",
        causal=True,
        columns=(
            Column("perplexity", "perplexity", error="standard_error"),
            Column("untrained", "untrained_perplexity"),
            Column("per token", "token_perplexity"),
            Column("words", "original_tokens"),
            Column("tokens", "tokens"),
        ),
        published=Published(
            columns=("perplexity",),
            rows=(
                ("GPT-2 355M", (19.31,)),
                ("GPT-2 2.5B", (12.76,)),
                ("GPT-2 8.3B", (10.81,)),
                ("previous best", (15.79,)),
            ),
            place="table 3",
        ),
        facts=lambda result: f"perplexity {result['perplexity']:.2f}",
        note="Perplexity per word of the benchmark's own tokenization.",
        settings=("batch_size", "stride"),
        errors=_errors,
    )
)
