"""Zero-shot perplexity on WikiText-103 (paper section 5.2, equation 4 of its appendix).

The benchmark's file is tokenized by words (` @-@ `, `<unk>`, blanks before punctuation), a language model reads
sub-word pieces of ordinary text. So the text is detokenised first, and the summed loss is divided by the number
of the *file's own* words: the perplexity is then comparable between tokenizers. Not here: forward passes and
sums over ranks (`evaluate.scoring`).
"""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import UserError
from core.files import read_text
from data_pipeline.benchmarks.wikitext103 import count_original_tokens
from data_pipeline.tokenization.tokenizers import Tokenizer
from evaluate.sequences import ScoredSequence
from recipes.records import Column, Published, ZeroShot, add_zero_shot
from recipes.schema import EvaluationSettings

if TYPE_CHECKING:
    from evaluate.scoring import Scorer

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


class WikiText103:
    """The benchmark's file, read and encoded for one model's tokenizer and sequence length.

    Raises:
        UserError: the file cannot be read or leaves nothing to predict.
    """

    def __init__(
        self, path: Path, tokenizer: Tokenizer, sequence_length: int, settings: EvaluationSettings
    ) -> None:
        text = read_text(path)
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

    def perplexities(self, score: "Scorer") -> tuple[float, float]:
        """Perplexity per original word, the benchmark's number, and per token of the model's vocabulary."""
        totals = score(self.windows)
        assert totals.targets == self.tokens - 1
        return (
            _exponential(totals.loss / (self.original_tokens - 1), self.path),
            _exponential(totals.loss / (self.tokens - 1), self.path),
        )

    def evaluate(self, score: "Scorer") -> dict[str, Any]:
        perplexity, token_perplexity = self.perplexities(score)
        return {
            "perplexity": perplexity,
            "token_perplexity": token_perplexity,
            "original_tokens": self.original_tokens,
            "tokens": self.tokens,
            "sequence_length": self.sequence_length,
            "stride": self.stride,
        }

    def controls(self, score: "Scorer", untrained: "Scorer") -> dict[str, Any]:
        """What the same file gives for a model with its initial weights."""
        return {"untrained_perplexity": self.perplexities(untrained)[0]}


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
            Column("perplexity", "perplexity"),
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
