"""SQuAD 1.1 and 2.0: answering questions by spans of passages (the paper's section 5.3 and table 5).

Numbers are about the development set, as the paper's are: the test set is not published. Not here: the data's format
(`data_pipeline.benchmarks.squad`), sequences (`windows`), the model and its best spans (`spans`), the official scores
(`answers`), training (`tuner`).
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.config import ModelConfig
from core.errors import UserError
from data_pipeline.benchmarks.squad import SPLITS, Split, is_placed, read_split
from data_pipeline.tokenization.tokenizers import Tokenizer
from finetune.answers import Score, best_threshold, mean, score
from finetune.metrics import question_word
from finetune.pairs import SPECIAL_TOKENS, encode_texts
from finetune.program import Program
from finetune.windows import LONGEST_QUESTION_TOKENS, WindowExamples, encode_places
from recipes.records import Bar, Column, FineTuning, Published, Table, add_fine_tuning, fits_the_model
from recipes.schema import FinetuningSettings

if TYPE_CHECKING:
    from core.parallel.mesh import Mesh
    from finetune.heads import Scorer
    from finetune.spans import SpanModel, Spans

_SHORTEST_SEQUENCE = 32
_SHOWN = 5


def encode_split(
    split: Split, tokenizer: Tokenizer, sequence_length: int, *, training: bool
) -> WindowExamples:
    """All questions and passages, each text encoded once. Training takes questions whose (first) answer stands where it
    says and has tokens; prediction takes all.

    Of a question the first `LONGEST_QUESTION_TOKENS` tokens are kept, or what leaves half a short sequence to the passage.
    """
    passages = encode_places(split.passages, tokenizer)
    chosen, answers = [], []
    for question in split.questions:
        span = (-1, -1)
        if training and question.answers:
            answer, passage = question.answers[0], split.passages[question.passage]
            start = answer.start + len(answer.text) - len(answer.text.lstrip())
            end = answer.start + len(answer.text.rstrip())
            found = passages[question.passage].tokens_of(start, end) if start < end else None
            if found is None or not is_placed(answer, passage):
                continue
            span = found
        chosen.append(question)
        answers.append(span)
    longest = min(LONGEST_QUESTION_TOKENS, (sequence_length - SPECIAL_TOKENS) // 2)
    return WindowExamples(
        questions=encode_texts([question.question for question in chosen], tokenizer, longest),
        passages=passages,
        passage_of=np.array([question.passage for question in chosen], np.int64),
        answers=np.array(answers, np.int64).reshape(-1, 2),
        tokenizer=tokenizer,
        sequence_length=sequence_length,
        scored=not training,
    )


class Squad(Program):
    """SQuAD for one tokenizer and sequence length; reading checks both splits.

    Args:
        version: "1.1" or "2.0".
    """

    def __init__(
        self,
        version: str,
        data: Path,
        tokenizer: Tokenizer,
        sequence_length: int,
        settings: FinetuningSettings,
    ) -> None:
        self.version = version
        self.splits = {name: read_split(data, name, version) for name in SPLITS}
        self.tokenizer, self.sequence_length = tokenizer, sequence_length
        if not len(self.examples("train")):
            raise UserError(f"{data}: no question of train has an answer where it says")
        dev = self.splits["dev"].questions
        self.answerable = np.array([bool(question.answers) for question in dev])
        self._best: _Answered | None = None

    @functools.lru_cache(maxsize=2)  # noqa: B019 - one program a process
    def examples(self, split: str) -> WindowExamples:
        return encode_split(
            self.splits[split], self.tokenizer, self.sequence_length, training=split == "train"
        )

    def model(self, config: ModelConfig, mesh: "Mesh") -> "SpanModel":
        from finetune.spans import SpanModel

        return SpanModel(config, mesh, "span")

    def on_dev(self, score: "Scorer") -> dict[str, Any]:
        return self._answered(score, self.examples("dev"), "dev").numbers()

    def result(self, score: "Scorer", controls: bool) -> dict[str, Any]:
        dev = self.examples("dev")
        self._best = best = self._answered(score, dev, "dev")
        left_out = len(self.splits["train"].questions) - len(self.examples("train").questions)
        result: dict[str, Any] = {
            **best.numbers(),
            "total": len(best.texts),
            "standard_error": best.standard_errors(dev.passage_of),
            "standard_error_over": f"{len(np.unique(dev.passage_of))} passages",
            "by_question_word": best.by_group(self._words()),
            "left_out_of_training": left_out,
            "misplaced_answers": {
                name: {"answers": len(split.misplaced), "first": split.misplaced[:_SHOWN]}
                for name, split in self.splits.items()
                if split.misplaced
            },
        }
        if self.version != "1.1":
            kinds = np.where(self.answerable, "answerable", "unanswerable")
            result["by_kind"] = best.by_group(kinds)
            result["unanswered_always"] = float((~self.answerable).mean())
        if controls:
            blind = {
                "passage_left_out": dev.without_passages(),
                "question_left_out": dev.without_questions(),
            }
            for name, examples in blind.items():
                result[name] = self._answered(score, examples, name.replace("_", " ")).numbers()
        return result

    def predictions(self, score: "Scorer") -> dict[str, Table]:
        if self._best is None:
            return {}
        best, dev = self._best, self.splits["dev"].questions
        return {
            "dev": {
                "id": [question.id for question in dev],
                "question": [question.question for question in dev],
                "answers": [[answer.text for answer in question.answers] for question in dev],
                "prediction": best.given,
                "best_span": best.texts,
                "no_answer": best.no_answer.tolist(),
                "exact": best.exact.tolist(),
                "f1": best.f1.tolist(),
                "spans": best.spans_texts,
                "span_scores": best.spans_scores,
            }
        }

    def _answered(self, score: "Scorer", examples: WindowExamples, what: str) -> "_Answered":
        from finetune.spans import predicted_spans

        return _Answered(self.version, self.splits["dev"], examples, predicted_spans(score, examples, what))

    def _words(self) -> np.ndarray:
        return np.array([question_word(question.question) for question in self.splits["dev"].questions])


class _Answered:
    """The development set's questions, answered and scored by the official rule.

    Attributes:
        texts: of each question the best span.
        no_answer: [questions], by how much no answer is better.
        given: what is predicted: of 2.0 nothing where `no_answer` is above the threshold that is best for F1.
        exact, f1: [questions], of what is given.
        spans_texts, spans_scores: the best spans of each question.
    """

    def __init__(self, version: str, split: Split, examples: WindowExamples, spans: "Spans") -> None:
        passages = [split.passages[place] for place in examples.passage_of]
        places = [examples.passages[place] for place in examples.passage_of]
        self.spans_texts: list[list[str]] = []
        self.spans_scores: list[list[float]] = []
        for passage, tokens, scores, firsts, lasts in zip(passages, places, *spans[1:], strict=True):
            found = int((firsts >= 0).sum())
            self.spans_texts.append(
                [tokens.text(passage, *span) for span in zip(firsts[:found], lasts[:found], strict=True)]
            )
            self.spans_scores.append(scores[:found].tolist())
        self.texts = [texts[0] if texts else "" for texts in self.spans_texts]
        self.no_answer = spans.no_answer
        answers = [[answer.text for answer in question.answers] for question in split.questions]
        self.thresholds: dict[str, Any] = {}
        self.given = self.texts
        exact, f1 = _scores(self.texts, answers, version)
        if version != "1.1":
            answerable = np.array([bool(right) for right in answers])
            best_exact = best_threshold(exact, self.no_answer, answerable)
            best_f1 = best_threshold(f1, self.no_answer, answerable)
            self.thresholds = {
                "threshold": best_f1.threshold,
                "best_exact": best_exact.value,
                "best_exact_threshold": best_exact.threshold,
                "best_f1": best_f1.value,
                "best_f1_threshold": best_f1.threshold,
            }
            left = self.no_answer > best_f1.threshold
            self.given = ["" if none else text for none, text in zip(left, self.texts, strict=True)]
            exact, f1 = _scores(self.given, answers, version)
        self.exact, self.f1 = exact, f1

    def numbers(self) -> dict[str, Any]:
        """The official scores, as shares."""
        return {"f1": mean(self.f1), "exact": mean(self.exact), **self.thresholds}

    def by_group(self, groups: np.ndarray) -> dict[str, Any]:
        """The same of the questions of each group."""
        return {
            str(group): {
                "f1": mean(self.f1[groups == group]),
                "exact": mean(self.exact[groups == group]),
                "total": int((groups == group).sum()),
            }
            for group in np.unique(groups)
        }

    def standard_errors(self, passage_of: np.ndarray) -> dict[str, float | None]:
        """Of both means; questions about one passage are not independent."""
        from core.evaluation import ratio_standard_error  # torch, which workflows do without

        ones = np.ones(len(passage_of))
        return {
            name: ratio_standard_error(values, ones, passage_of)
            for name, values in (("f1", self.f1), ("exact", self.exact))
        }


def _scores(
    predictions: Sequence[str], answers: Sequence[Sequence[str]], version: str
) -> tuple[np.ndarray, np.ndarray]:
    """[questions] exact match and F1."""
    scores = [score(text, right, version) for text, right in zip(predictions, answers, strict=True)]
    exact, f1 = np.array(scores, np.float64).reshape(-1, len(Score._fields)).T
    return exact, f1


def squad(*arguments: Any) -> Squad:
    """The program of SQuAD 1.1."""
    return Squad("1.1", *arguments)


def squad_v2(*arguments: Any) -> Squad:
    """The program of SQuAD 2.0."""
    return Squad("2.0", *arguments)


def submission(version: str, predictions: Mapping[str, Table]) -> dict[str, str]:
    """The predictions as the official script takes them: {id: text}, and of 2.0 {id: no-answer score}."""
    dev = predictions["dev"]
    columns = {"predictions.json": "prediction"} | (
        {} if version == "1.1" else {"null_odds.json": "no_answer"}
    )
    found = {name: dict(zip(dev["id"], dev[column], strict=True)) for name, column in columns.items()}
    return {name: json.dumps(content, ensure_ascii=False, indent=1) + "\n" for name, content in found.items()}


def _errors(settings: Any, config: Any, where: str) -> list[str]:
    if (settings.sequence_length or config.sequence_length) < _SHORTEST_SEQUENCE:
        return [
            f"{where}.sequence_length: must be {_SHORTEST_SEQUENCE} or more for questions with passages, is "
            f"{settings.sequence_length} with a model of {config.sequence_length}"
        ]
    return fits_the_model(settings, config, where)


def _record(
    name: str, version: str, published: Mapping[str, tuple[float, float]], *baselines: Column
) -> FineTuning:
    """What the report and the tuner have to know of a version."""
    controls = (
        *baselines,
        Column("question left out, F1", "question_left_out.f1", "percent"),
        Column("passage left out, F1", "passage_left_out.f1", "percent"),
    )
    threshold = (
        " Questions are left unanswered by the threshold that is best for F1 there." if baselines else ""
    )
    return FineTuning(
        name=name,
        title=f"SQuAD {version}",
        benchmark=name,
        program=f"finetune.squad:{name}",
        causal=False,
        columns=(
            Column("F1", "f1", "percent", error="standard_error.f1"),
            Column("exact match", "exact", "percent", error="standard_error.exact"),
            *controls,
            Column("F1, median of seeds", "dev_median", "percent"),
        ),
        published=Published(
            columns=("F1, %", "exact match, %"),
            rows=tuple(published.items()),
            place="table 5",
            paths=("f1", "exact"),
        ),
        facts=lambda result: f"F1 {result['f1']:.1%}, exact match {result['exact']:.1%}",
        bar=Bar("f1", {column.title.removesuffix(", F1"): column.path for column in controls}),
        note=f"On the development set, of the epoch and seed that are best there by F1.{threshold}",
        chosen_by="f1",
        submission=functools.partial(submission, version),
        errors=_errors,
    )


SQUAD = add_fine_tuning(
    _record(
        "squad",
        "1.1",
        {"BERT 336M": (94.2, 88.0), "BERT 1.3B": (94.9, 89.1), "BERT 3.9B": (95.5, 90.0)},
    )
)
SQUAD_V2 = add_fine_tuning(
    _record(
        "squad_v2",
        "2.0",
        {"BERT 336M": (88.1, 84.8), "BERT 1.3B": (90.2, 87.1), "BERT 3.9B": (91.2, 88.5)},
        Column("never answered", "unanswered_always", "percent"),
    )
)
