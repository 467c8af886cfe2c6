"""Dialogue by a causal model that is fine-tuned: each turn answers those before it, and the loss is on that turn only.

A turn ends with the token that ends a document (Zhang et al. 2020, section 3.1), which tells turns apart and ends what
is generated. Not here: the data's format (`data_pipeline.benchmarks.dialogues`), losses and texts (`generation`),
training (`tuner`).
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from core.config import ModelConfig
from data_pipeline.benchmarks.dialogues import SPLITS, Dialogue, read_split
from data_pipeline.benchmarks.splits import Split
from data_pipeline.benchmarks.text_metrics import bleu, distinct
from data_pipeline.tokenization.tokenizers import Tokenizer
from finetune.program import Program
from recipes.records import Column, FineTuning, Table, add_fine_tuning, fits_the_model
from recipes.schema import FinetuningSettings

if TYPE_CHECKING:
    from core.parallel.mesh import Mesh
    from finetune.generation import AnswerExamples, Answering
    from finetune.heads import Scorer

TOKENS = 60  # of an answer, its end included
_SHORTEST_SEQUENCE = 16
_BLIND = "context left out"


class _Answer(NamedTuple):
    """A turn that answers: of which dialogue, and which turn of it."""

    dialogue: int
    turn: int


class Dialogues(Program):
    """The task for one tokenizer and sequence length. Half of the sequence, at most, is the answer's."""

    def __init__(
        self, data: Path, tokenizer: Tokenizer, sequence_length: int, settings: FinetuningSettings
    ) -> None:
        self.splits: dict[str, Split[Dialogue]] = {name: read_split(data, name) for name in SPLITS}
        self.tokenizer, self.sequence_length = tokenizer, sequence_length
        self.answer_tokens = min(TOKENS, sequence_length // 2)
        self._predictions: dict[str, Table] = {}

    def _answers(self, split: str) -> list[_Answer]:
        """All turns but the first of each dialogue."""
        dialogues = self.splits[split].rows
        return [
            _Answer(number, turn)
            for number, dialogue in enumerate(dialogues)
            for turn in range(1, len(dialogue.turns))
        ]

    def _references(self, split: str) -> list[str]:
        dialogues = self.splits[split].rows
        return [dialogues[answer.dialogue].turns[answer.turn] for answer in self._answers(split)]

    @functools.lru_cache(maxsize=4)  # noqa: B019 - one program a process
    def _encoded(self, split: str) -> tuple["AnswerExamples", dict[str, int]]:
        """The examples, and how many contexts lost their start and answers their end."""
        from finetune.generation import AnswerExamples, ended_answers

        room = self.sequence_length + 1 - self.answer_tokens
        contexts, groups, cut_contexts = [], [], 0
        for number, dialogue in enumerate(self.splits[split].rows):
            turns = self._turns(dialogue)
            joined, ends = np.concatenate(turns), np.cumsum([len(turn) for turn in turns])
            for end in ends[len(dialogue.persona) : -1]:
                contexts.append(joined[max(0, end - room) : end])
                groups.append(number)
                cut_contexts += int(end > room)
        answers, cut = ended_answers(self._references(split), self.tokenizer, self.answer_tokens)
        examples = AnswerExamples(
            contexts,
            answers,
            groups=np.array(groups),
            sequence_length=self.sequence_length,
            pad=self.tokenizer.end_of_document,
        )
        return examples, {"contexts_cut": cut_contexts, "answers_cut": cut}

    def _turns(self, dialogue: Dialogue) -> list[np.ndarray]:
        """What is known of the speaker, then the turns; each with its end."""
        ids = self.tokenizer.encode_batch([*dialogue.persona, *dialogue.turns])
        return [np.array([*turn, self.tokenizer.end_of_document], np.int32) for turn in ids]

    def examples(self, split: str) -> "AnswerExamples":
        return self._encoded(split)[0]

    def model(self, config: ModelConfig, mesh: "Mesh") -> "Answering":
        from finetune.generation import Answering

        return Answering(config, mesh, "dialogue")

    def on_dev(self, score: "Scorer") -> dict[str, Any]:
        return self._perplexity(score, "validation", self.examples("validation"))

    def result(self, score: "Scorer", controls: bool) -> dict[str, Any]:
        examples = self.examples("test")
        texts, worth = self._worth(score, examples, "answers")
        self._predictions = {"test": self._table("test", texts)}
        result = {
            **self._perplexity(score, "test", examples),
            **worth,
            "rule": f"BLEU {worth['bleu_signature'].replace('|', ', ')}",
            "dialogues": len(self.splits["test"].rows),
            "answers": len(examples),
            "standard_error_over": f"{len(self.splits['test'].rows)} dialogues",
            "way": f"the likeliest token each time, at most {self.answer_tokens} tokens",
            "cut": {split: self._encoded(split)[1] for split in SPLITS},
            "left_out": {name: split.report() for name, split in self.splits.items() if split.left_out},
        }
        if controls:
            nothing = np.array([self.tokenizer.end_of_document], np.int32)
            blind = examples.with_prompts([nothing] * len(examples))
            _, worth = self._worth(score, blind, _BLIND)
            result["without_context"] = worth | self._perplexity(score, "test", blind)
        return result

    def predictions(self, score: "Scorer") -> dict[str, Table]:
        return self._predictions

    def _perplexity(self, score: "Scorer", split: str, examples: "AnswerExamples") -> dict[str, Any]:
        from finetune.generation import answer_losses, perplexities

        return perplexities(examples, answer_losses(score, examples, split), self.tokenizer)

    def _worth(
        self, score: "Scorer", examples: "AnswerExamples", what: str
    ) -> tuple[list[str], dict[str, Any]]:
        """What is generated for the test set's prompts, and how good it is."""
        from core.generation.sampling import Sampling
        from finetune.generation import answers_of

        stop = self.tokenizer.end_of_document
        answers = answers_of(
            score, examples.prompts, self.answer_tokens, stop=stop, method=Sampling(), what=what
        )
        texts = [self.tokenizer.decode(answer.tokens).strip() for answer in answers]
        numbers = {f"distinct{n}": distinct(texts, n) for n in (1, 2)}
        return texts, {**bleu(texts, self._references("test")), **numbers}

    def _table(self, split: str, texts: Sequence[str]) -> Table:
        """A row an answer: the dialogue's id, the number of the turn from 0, the text and the reference."""
        answers, dialogues = self._answers(split), self.splits[split].rows
        return {
            "id": [dialogues[answer.dialogue].id for answer in answers],
            "turn": [answer.turn for answer in answers],
            "prediction": list(texts),
            "reference": self._references(split),
        }


def _errors(settings: Any, config: Any, where: str) -> list[str]:
    if (settings.sequence_length or config.sequence_length) < _SHORTEST_SEQUENCE:
        return [
            f"{where}.sequence_length: must be {_SHORTEST_SEQUENCE} or more for dialogues, is "
            f"{settings.sequence_length} with a model of {config.sequence_length}"
        ]
    return fits_the_model(settings, config, where)


add_fine_tuning(
    FineTuning(
        name="dailydialog",
        title="DailyDialog",
        benchmark="dailydialog",
        program="finetune.dialogues:Dialogues",
        causal=True,
        columns=(
            Column("perplexity", "perplexity"),
            Column("by word", "word_perplexity"),
            Column("BLEU", "bleu"),
            Column("distinct-1", "distinct1", "percent"),
            Column("distinct-2", "distinct2", "percent"),
            Column("perplexity without context", "without_context.perplexity"),
            Column("BLEU without context", "without_context.bleu"),
            Column("dev perplexity, median of seeds", "dev_median"),
        ),
        published=None,
        facts=lambda result: f"perplexity {result['perplexity']:.2f}, BLEU {result['bleu']:.1f}",
        note="Answers of the test set, by the epoch and seed with the lowest perplexity on the validation set.",
        libraries=("sacrebleu",),
        chosen_by="perplexity",
        lower_is_better=True,
        errors=_errors,
    )
)
