"""Zero-shot summaries, as GPT-2's paper asks for them (Radford et al. 2019, section 3.6): after an article "TL;DR:", 100
tokens drawn among the two likeliest, of which the first three sentences are the summary.

Not here: the data's format and what summaries are worth (`data_pipeline.benchmarks.summaries`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.benchmarks.summaries import (
    HINT,
    LIBRARIES,
    TASKS,
    SummaryTask,
    measured,
    predictions_of,
    prompts_for,
    read_split,
    references_of,
)
from data_pipeline.benchmarks.text_metrics import Share, first_sentences, means, rouge_of_all
from data_pipeline.tokenization.tokenizers import Tokenizer
from recipes.records import Column, Published, ZeroShot, add_zero_shot
from recipes.schema import EvaluationSettings

if TYPE_CHECKING:
    import numpy as np

    from evaluate.scoring import Scorer

TOKENS, TOP_K, SENTENCES = 100, 2, 3
_SHORTEST_SEQUENCE = TOKENS + 28  # a hint, and something of an article


class Summaries:
    """The test set, read and encoded for one model's tokenizer and sequence length."""

    task: SummaryTask

    def __init__(
        self, path: Path, tokenizer: Tokenizer, sequence_length: int, settings: EvaluationSettings
    ) -> None:
        split = read_split(path, self.task, "test")
        self.rows, self.left_out = split.rows, split.report()
        self.tokenizer, self.sequence_length = tokenizer, sequence_length
        self._texts: list[str] = []
        self._scores: np.ndarray | None = None

    def evaluate(self, score: "Scorer") -> dict[str, Any]:
        self._texts, cut = self._summaries(score, HINT)
        found = measured(self.rows, self._texts, _shared_by(score))
        self._scores = found.scores
        return {
            **found.result,
            "articles_cut": cut,
            "left_out": self.left_out,
            "way": f"article, {HINT.strip()!r}, {TOKENS} tokens, top-k {TOP_K}, the first {SENTENCES} sentences",
            "sequence_length": self.sequence_length,
        }

    def controls(self, score: "Scorer", untrained: "Scorer") -> dict[str, Any]:
        """The same summaries laid beside another article's, those without the hint, and an untrained model's."""
        from data_pipeline.benchmarks.text_metrics import another_of

        references = references_of(self.rows)
        others = [references[other] for other in another_of(len(references))]
        return {
            "beside_another_article": means(rouge_of_all(self._texts, others, _shared_by(score))),
            "without_hint": self._worth(score, ""),
            "untrained": self._worth(untrained, HINT),
        }

    def predictions(self) -> dict[str, Sequence[Any]]:
        """A row an article."""
        assert self._scores is not None, "evaluate comes first"
        return predictions_of(self.rows, self._texts, self._scores)

    def _worth(self, score: "Scorer", hint: str) -> dict[str, float]:
        texts, _ = self._summaries(score, hint)
        return means(rouge_of_all(texts, references_of(self.rows), _shared_by(score)))

    def _summaries(self, score: "Scorer", hint: str) -> tuple[list[str], int]:
        """A text for each article, and how many articles were cut."""
        from core.generation.batches import generate_all  # torch, which workflows do without
        from core.generation.sampling import Sampling

        room = self.sequence_length + 1 - TOKENS
        prompts = prompts_for([row.article for row in self.rows], self.tokenizer, room, hint)
        produced = generate_all(
            score.model,
            score.mesh,
            [prompt.tolist() for prompt in prompts.tokens],
            TOKENS,
            stop=self.tokenizer.end_of_document,
            method=Sampling(temperature=1.0, top_k=TOP_K),
            places=score.batch_size,
            title=score.title,
            keep=score.keep,
        )
        texts = [first_sentences(self.tokenizer.decode(text.tokens), SENTENCES) for text in produced]
        return texts, prompts.cut


class CnnDailyMail(Summaries):
    task = TASKS["cnn_dailymail"]


class Xsum(Summaries):
    task = TASKS["xsum"]


def _shared_by(score: "Scorer") -> Share:
    """How the data ranks share the scoring of texts."""
    from core.evaluation import scores_of_items

    def share(batches: list[list[int]], compute: Any, columns: int) -> "np.ndarray":
        return scores_of_items(batches, compute, columns, score.mesh, f"{score.title} (ROUGE)")

    return share


def _errors(settings: Any, config: Any, where: str) -> list[str]:
    if config.sequence_length >= _SHORTEST_SEQUENCE:
        return []
    return [
        f"{where}: summaries of {TOKENS} tokens need a model that reads {_SHORTEST_SEQUENCE} tokens or more, this one "
        f"reads {config.sequence_length}"
    ]


_PUBLISHED = {
    "cnn_dailymail": Published(
        columns=("ROUGE-1, %", "ROUGE-2, %", "ROUGE-L, %"),
        rows=(
            ("GPT-2 1.5B, TL;DR:", (29.34, 8.27, 26.58)),
            ("GPT-2 1.5B, no hint", (21.58, 4.03, 19.47)),
            ("three random sentences", (28.78, 8.63, 25.52)),
            ("first three sentences", (40.38, 17.66, 36.62)),
        ),
        place="table 4 of Radford et al. 2019",
        paths=("rouge1", "rouge2", "rougeL"),
    )
}


def _record(task: SummaryTask, program: type[Summaries]) -> ZeroShot:
    return ZeroShot(
        name=f"{task.name}_zero_shot",  # a fine-tuning is called as the benchmark
        title=f"{task.title}, zero-shot",
        benchmark=task.name,
        program=f"{__name__}:{program.__name__}",
        causal=True,
        columns=(
            Column("ROUGE-1", "rouge1", "percent", error="standard_error.rouge1"),
            Column("ROUGE-2", "rouge2", "percent", error="standard_error.rouge2"),
            Column("ROUGE-L", "rougeL", "percent", error="standard_error.rougeL"),
            Column("first sentences", "first_sentences.rouge1", "percent"),
            Column("another summary", "another_summary.rouge1", "percent"),
            Column("without TL;DR:", "without_hint.rouge1", "percent"),
            Column("untrained", "untrained.rouge1", "percent"),
        ),
        published=_PUBLISHED.get(task.name),
        facts=lambda result: f"ROUGE-1 {result['rouge1']:.1%}",
        note=f"F measures of the first {SENTENCES} sentences that follow an article and TL;DR:. Beside them ROUGE-1 "
        f"of the article's first {SENTENCES} sentences, of another article's summary, without the hint, of an untrained model.",
        libraries=LIBRARIES,
        settings=("precision",),
        errors=_errors,
    )


for _program in (CnnDailyMail, Xsum):
    add_zero_shot(_record(_program.task, _program))
