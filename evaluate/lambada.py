"""Zero-shot accuracy on LAMBADA: predict the last word of a passage (paper section 5.2).

Strict rule: the target is the last word, separated at white space; its tokens are predicted by teacher forcing,
and the word counts as right only if the model's first choice is right at *every* one of them. No list of stop
words is filtered out. (Others report the share of passages whose last *token* is the first choice, given the tokens of
the word before it: a looser rule, and a higher number.)
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import UserError
from data_pipeline.benchmarks.lambada import Row, is_plain, rows_in
from data_pipeline.text_files import read_text
from data_pipeline.tokenization.tokenizers import Tokenizer
from evaluate.perplexity import exponential
from evaluate.sequences import ScoredSequence
from recipes.records import Bar, Column, Published, ZeroShot, add_zero_shot
from recipes.schema import EvaluationSettings

if TYPE_CHECKING:
    from evaluate.scoring import Scorer, Totals


def most_frequent_target_accuracy(rows: Sequence[Row]) -> float:
    """The share of the most frequent target: what a guess reaches that never looks at a context."""
    return Counter(row.target for row in rows).most_common(1)[0][1] / len(rows)


def encode_rows(rows: Sequence[Row], tokenizer: Tokenizer, sequence_length: int) -> list[ScoredSequence]:
    """Token sequences whose scored part is the target word.

    A target is encoded apart, with a blank before it. A context that is too long keeps its last tokens.

    Raises:
        UserError: a target leaves no room for any context in `sequence_length` inputs.
    """
    contexts = tokenizer.encode_batch([row.context for row in rows])
    targets = tokenizer.encode_batch([" " + row.target for row in rows])
    sequences = []
    for row, context, target in zip(rows, contexts, targets, strict=True):
        room = sequence_length + 1 - len(target)
        if room < 1:
            raise UserError(
                f"line {row.line}: the target has {len(target)} tokens, which leave no room for a context in the "
                f"model's {sequence_length} positions"
            )
        sequences.append(ScoredSequence(np.array(context[-room:] + target, np.int64), scored=len(target)))
    return sequences


def with_shuffled_contexts(rows: Sequence[Row]) -> list[Row]:
    """Every row with another row's context: always the same permutation, and none keeps its own."""
    if len(rows) < 2:
        raise UserError("--controls needs two rows or more, to give each the context of another")
    cycle = np.random.RandomState(0).permutation(len(rows))
    context_of = dict(zip(cycle.tolist(), np.roll(cycle, 1).tolist(), strict=True))
    return [Row(row.line, rows[context_of[index]].context, row.target) for index, row in enumerate(rows)]


class Lambada:
    """The benchmark's file, read and encoded for one model's tokenizer and sequence length.

    Raises:
        UserError: the file cannot be read or a row cannot be scored; the message names file and line.
    """

    def __init__(
        self, path: Path, tokenizer: Tokenizer, sequence_length: int, settings: EvaluationSettings
    ) -> None:
        self.path = path
        content = read_text(path)
        self.plain = is_plain(content, path)
        self.rows = rows_in(content, path)
        self.tokenizer = tokenizer
        self.sequence_length = sequence_length
        self.last_token = settings.last_token
        self.sequences = self._encode(self.rows)
        self.totals: Totals | None = None

    def _encode(self, rows: Sequence[Row]) -> list[ScoredSequence]:
        try:
            return encode_rows(rows, self.tokenizer, self.sequence_length)
        except UserError as error:
            raise UserError(f"{self.path}, {error}") from error

    def evaluate(self, score: "Scorer") -> dict[str, Any]:
        from core.evaluation import exact_sum, ratio_standard_error  # torch, which workflows do without

        self.totals = totals = score(self.sequences)
        right = self._right(totals)
        count, ones = len(self.rows), np.ones(len(self.rows))
        loss = exact_sum(totals.losses) / count
        spread = ratio_standard_error(totals.losses, ones)
        return {
            "accuracy": int(right.sum()) / count,
            "correct": int(right.sum()),
            "total": count,
            "rule": "last token" if self.last_token else "every token of the last word",
            "standard_error": ratio_standard_error(right.astype(float), ones),
            "standard_error_over": f"{count} passages",
            "last_token_accuracy": int(totals.last_right.sum()) / count,
            "last_word_perplexity": exponential(loss, self.path),
            "last_word_perplexity_standard_error": None
            if spread is None
            else exponential(loss, self.path) * spread,
            "baseline_accuracy": most_frequent_target_accuracy(self.rows),
            "format": "plain text" if self.plain else "JSON lines",
            "sequence_length": self.sequence_length,
        }

    def _right(self, totals: "Totals") -> np.ndarray:
        """Of each row, whether it counts as right."""
        return totals.last_right if self.last_token else totals.right

    def controls(self, score: "Scorer", untrained: "Scorer") -> dict[str, Any]:
        """Contexts of other rows, and a model with its initial weights."""
        shuffled = self._encode(with_shuffled_contexts(self.rows))
        return {
            "shuffled_context_accuracy": int(self._right(score(shuffled)).sum()) / len(self.rows),
            "untrained_accuracy": int(self._right(untrained(self.sequences)).sum()) / len(self.rows),
        }

    def predictions(self) -> dict[str, Any]:
        """A row for each passage, by the number of its line: its last word, the model's first choice for each of that
        word's tokens (given those before), and the word's log-probability; or the same of its last token only."""
        assert self.totals is not None, "evaluate comes first"
        ends, scored = self.totals.ends, self.totals.scored
        starts = ends - 1 if self.last_token else ends - scored
        choices = [self.totals.choices[start:end].tolist() for start, end in zip(starts, ends, strict=True)]
        if self.last_token:
            targets = [self.tokenizer.decode([int(sequence.tokens[-1])]) for sequence in self.sequences]
            losses = self.totals.target_losses[ends - 1]
        else:
            targets, losses = [row.target for row in self.rows], self.totals.losses
        return {
            "row": [row.line for row in self.rows],
            "target": targets,
            "prediction": [self.tokenizer.decode(ids) for ids in choices],
            "log_probability": -losses,
            "right": self._right(self.totals),
        }


LAMBADA = add_zero_shot(
    ZeroShot(
        name="lambada",
        title="LAMBADA",
        benchmark="lambada",
        program="evaluate.lambada:Lambada",
        causal=True,
        columns=(
            Column("accuracy", "accuracy", "percent", error="standard_error"),
            Column("correct", "correct"),
            Column("passages", "total"),
            Column("last-word perplexity", "last_word_perplexity"),
            Column("most frequent word", "baseline_accuracy", "percent"),
            Column("shuffled contexts", "shuffled_context_accuracy", "percent"),
            Column("untrained", "untrained_accuracy", "percent"),
        ),
        published=Published(
            columns=("accuracy, %",),
            rows=(
                ("GPT-2 355M", (45.18,)),
                ("GPT-2 2.5B", (61.73,)),
                ("GPT-2 8.3B", (66.51,)),
                ("previous best", (63.24,)),
            ),
            place="table 3",
            paths=("accuracy",),
        ),
        facts=lambda result: f"accuracy {result['accuracy']:.1%}",
        bar=Bar(
            "accuracy",
            {
                "most frequent word": "baseline_accuracy",
                "shuffled contexts": "shuffled_context_accuracy",
                "untrained model": "untrained_accuracy",
            },
        ),
        note="Share of passages whose last word is predicted, right at every one of its tokens.",
        settings=("precision", "last_token"),
    )
)
