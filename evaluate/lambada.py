"""Zero-shot accuracy on LAMBADA: predict the last word of a passage (paper section 5.3).

Strict rule: the target is the last word, separated at white space; its tokens are predicted by teacher forcing,
and the word counts as right only if the model's first choice is right at *every* one of them. No list of stop
words is filtered out.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from core.models.gpt2 import GPT2Model
from core.parallel.mesh import Mesh
from data_pipeline.tokenization.tokenizers import Tokenizer
from evaluate.scoring import ScoredSequence, score_sequences


@dataclass(frozen=True)
class Row:
    """One passage: all but its last word, and that word. `line` counts from 1 in the file."""

    line: int
    context: str
    target: str


def read_rows(path: Path) -> list[Row]:
    """Read `{"text": …}` lines.

    Raises:
        ValueError: the file cannot be read, a line is no JSON object with a `text` of two words or more, or there
            is no line at all; the message names file and line.
    """
    try:
        lines = Path(path).read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({error})") from error
    rows = [
        _parse_row(line, f"{path}, line {number}", number)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not rows:
        raise UserError(f'{path}: holds no rows; one JSON object {{"text": ...}} a line is expected')
    return rows


def _parse_row(line: str, where: str, number: int) -> Row:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: is not JSON ({error})") from error
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise UserError(f'{where}: must be an object with a string "text"')
    context, target = split_last_word(record["text"])
    if not context:
        raise UserError(f'{where}: "text" needs two words or more, the last is predicted from the others')
    return Row(number, context, target)


def split_last_word(text: str) -> tuple[str, str]:
    """(context, last word), both without blanks around them; the context is empty for fewer than two words."""
    words = text.split()
    if not words:
        return "", ""
    return text[: text.rfind(words[-1])].strip(), words[-1]


def most_frequent_target_accuracy(rows: Sequence[Row]) -> float:
    """The share of the most frequent target: what a guess reaches that never looks at a context."""
    return Counter(row.target for row in rows).most_common(1)[0][1] / len(rows)


def encode_rows(rows: Sequence[Row], tokenizer: Tokenizer, sequence_length: int) -> list[ScoredSequence]:
    """Token sequences whose scored part is the target word.

    A target is encoded apart, with a blank before it. A context that is too long keeps its last tokens.

    Raises:
        ValueError: a target leaves no room for any context in `sequence_length` inputs.
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
        ValueError: the file cannot be read or a row cannot be scored; the message names file and line.
    """

    def __init__(self, path: Path, tokenizer: Tokenizer, sequence_length: int) -> None:
        self.path = path
        self.rows = read_rows(path)
        self.tokenizer = tokenizer
        self.sequence_length = sequence_length
        self.sequences = self._encode(self.rows)

    def _encode(self, rows: Sequence[Row]) -> list[ScoredSequence]:
        try:
            return encode_rows(rows, self.tokenizer, self.sequence_length)
        except ValueError as error:
            raise UserError(f"{self.path}, {error}") from error

    def evaluate(self, model: GPT2Model, mesh: Mesh, batch_size: int, title: str = "") -> dict[str, Any]:
        """The benchmark's result: the content of the JSON object that the command prints."""
        totals = score_sequences(model, self.sequences, mesh, batch_size=batch_size, title=title)
        return {
            "task": "lambada",
            "accuracy": totals.correct / len(self.rows),
            "correct": totals.correct,
            "total": len(self.rows),
            "baseline_accuracy": most_frequent_target_accuracy(self.rows),
            "sequence_length": self.sequence_length,
        }

    def controls(
        self,
        model: GPT2Model,
        untrained: GPT2Model,
        mesh: Mesh,
        batch_size: int,
        title: str = "",
    ) -> dict[str, Any]:
        """What must be far below the accuracy: contexts of other rows, and a model with its initial weights."""
        shuffled = self._encode(with_shuffled_contexts(self.rows))
        deceived = score_sequences(model, shuffled, mesh, batch_size=batch_size, title=title)
        blank = score_sequences(untrained, self.sequences, mesh, batch_size=batch_size, title=title)
        return {
            "shuffled_context_accuracy": deceived.correct / len(self.rows),
            "untrained_accuracy": blank.correct / len(self.rows),
        }
