"""Zero-shot accuracy on LAMBADA: predict the last word of a passage (paper section 5.2).

Strict rule: the target is the last word, separated at white space; its tokens are predicted by teacher forcing,
and the word counts as right only if the model's first choice is right at *every* one of them. No list of stop
words is filtered out.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import UserError
from data_pipeline.benchmarks.lambada import Row, read_rows
from data_pipeline.tokenization.tokenizers import Tokenizer
from evaluate.sequences import ScoredSequence
from recipes.records import Bar, Column, Published, ZeroShot, add_zero_shot
from recipes.schema import EvaluationSettings

if TYPE_CHECKING:
    from evaluate.scoring import Scorer


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
        self.rows = read_rows(path)
        self.tokenizer = tokenizer
        self.sequence_length = sequence_length
        self.sequences = self._encode(self.rows)

    def _encode(self, rows: Sequence[Row]) -> list[ScoredSequence]:
        try:
            return encode_rows(rows, self.tokenizer, self.sequence_length)
        except UserError as error:
            raise UserError(f"{self.path}, {error}") from error

    def evaluate(self, score: "Scorer") -> dict[str, Any]:
        from core.evaluation import ratio_standard_error  # torch, which workflows do without

        totals = score(self.sequences)
        correct = totals.correct
        return {
            "accuracy": correct / len(self.rows),
            "correct": correct,
            "total": len(self.rows),
            "standard_error": ratio_standard_error(totals.right, np.ones(len(self.rows))),
            "standard_error_over": f"{len(self.rows)} passages",
            "baseline_accuracy": most_frequent_target_accuracy(self.rows),
            "sequence_length": self.sequence_length,
        }

    def controls(self, score: "Scorer", untrained: "Scorer") -> dict[str, Any]:
        """Contexts of other rows, and a model with its initial weights."""
        shuffled = self._encode(with_shuffled_contexts(self.rows))
        return {
            "shuffled_context_accuracy": score(shuffled).correct / len(self.rows),
            "untrained_accuracy": untrained(self.sequences).correct / len(self.rows),
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
    )
)
