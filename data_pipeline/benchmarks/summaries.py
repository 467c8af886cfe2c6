"""Data of summarization: articles and their summaries, a JSON object a line or a table's row a pair.

{train,validation,test}.jsonl, or the hub's tables (`test-00000-of-00001.parquet`), anywhere below the folder. What is asked
of a model, as it is or fine-tuned, and what its summaries are worth stands here, too, for both.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from data_pipeline.benchmarks.benchmark import (
    Benchmark,
    BenchmarkText,
    Origin,
    Rows,
    Sample,
    add_benchmark,
    text_of,
)
from data_pipeline.benchmarks.split_files import (
    ROW_SUFFIXES,
    files_of_split,
    write_json_lines,
)
from data_pipeline.benchmarks.splits import Split, read_rows
from data_pipeline.benchmarks.text_metrics import (
    ROUGE,
    Share,
    another_of,
    first_sentences,
    means,
    rouge_of_all,
    sentences,
    standard_errors,
)
from data_pipeline.sample.tellings import summary_rows
from data_pipeline.sample.text import Guard
from data_pipeline.sample.world import World
from data_pipeline.tokenization.tokenizers import Tokenizer

SPLITS = ("train", "validation", "test")
LONGEST_SUMMARY_CHARACTERS = 10_000
LEAD = 3  # sentences of the article that a baseline takes
HINT = "\nTL;DR:"  # after an article: what follows is its summary (Radford et al. 2019, section 3.6)
LIBRARIES = ("rouge-score", "nltk")  # Porter's stems are nltk's
_ENCODED_AT_ONCE = 256


@dataclass(frozen=True)
class SummaryTask:
    """What a task's files hold.

    Attributes:
        name, title: as a benchmark's; its folder is called by the name.
        article, summary: the columns of the two texts.
        tokens: that a summary has at most, its end included, for a fine-tuned model.
        dataset, configuration, revision, licence: where the hub has it, and under which terms.
        counts: pairs of each of `SPLITS` as published.
    """

    name: str
    title: str
    article: str
    summary: str
    tokens: int
    dataset: str
    configuration: str
    revision: str
    licence: str
    counts: tuple[int, int, int]


TASKS = {
    task.name: task
    for task in (
        SummaryTask(
            "cnn_dailymail",
            "CNN/DailyMail",
            "article",
            "highlights",
            tokens=128,
            dataset="abisee/cnn_dailymail",
            configuration="3.0.0",
            revision="main",
            licence="the articles are CNN's and the Daily Mail's; Apache 2.0 for the hub's copy",
            counts=(287_113, 13_368, 11_490),
        ),
        SummaryTask(
            "xsum",
            "XSum",
            "document",
            "summary",
            tokens=60,
            dataset="EdinburghNLP/xsum",
            configuration="",
            revision="refs/convert/parquet",  # its main branch has held a script
            licence="not stated; the articles are the BBC's",
            counts=(204_045, 11_332, 11_334),
        ),
    )
}


@dataclass(frozen=True)
class Row:
    """An article and its summary, neither of them empty."""

    id: str
    article: str
    summary: str


def read_split(directory: Path, task: SummaryTask, name: str) -> Split[Row]:
    """Read one split.

    A row with an empty text, a summary that is none by its length, or an id that was there before is left out.

    Args:
        directory: the folder with the splits.
        name: one of `SPLITS`.

    Raises:
        UserError: there is no such split or it holds no pair, a file is damaged, a row has not its two texts, or more
            than 100 rows and 1 of 100 would be left out; the message names file and line.
    """
    directory = Path(directory)
    files = files_of_split(directory, {name}, ROW_SUFFIXES)
    if not files:
        raise UserError(
            f"{directory}: holds no {name}.jsonl, nor the hub's tables of this split; give the folder of {task.title}"
        )

    def pair(row: Mapping[str, Any], identity: str) -> Row:
        return Row(identity, text_of(row, task.article), text_of(row, task.summary))

    return read_rows(files, directory, pair, _unusable)


def _unusable(pair: Row) -> str:
    """Why a pair is left out, or nothing."""
    if not pair.article.strip():
        return "an empty article"
    if not pair.summary.strip():
        return "an empty summary"
    if len(pair.summary) > LONGEST_SUMMARY_CHARACTERS:
        return f"a summary of more than {LONGEST_SUMMARY_CHARACTERS:,} characters"
    return ""


@dataclass(frozen=True)
class Prompts:
    """What is asked about articles, as token ids, and how many articles lost their end."""

    tokens: list[np.ndarray]
    cut: int


def prompts_for(articles: Sequence[str], tokenizer: Tokenizer, room: int, hint: str = HINT) -> Prompts:
    """Each article, as much as leaves place for the hint behind it in `room` tokens; without a hint, something of an
    article is always there.

    Raises:
        UserError: the hint alone fills the room.
    """
    tail = tokenizer.encode(hint) if hint else []
    if room <= len(tail):
        raise UserError(
            f"{room} tokens are no room for an article and {hint!r}: take a model that reads more"
        )
    prompts, cut = [], 0
    for start in range(0, len(articles), _ENCODED_AT_ONCE):
        block = [article.strip() for article in articles[start : start + _ENCODED_AT_ONCE]]
        for ids in tokenizer.encode_batch(block):
            cut += len(ids) > room - len(tail)
            prompts.append(np.array([*ids[: room - len(tail)], *tail], np.int32))
    return Prompts(prompts, cut)


@dataclass(frozen=True)
class Measured:
    """What summaries are worth.

    Attributes:
        scores: [summaries, 4], of each one.
        result: their means and standard errors, and what two baselines reach on the same articles: their own first
            sentences, and another article's summary.
    """

    scores: np.ndarray
    result: dict[str, Any]


def measured(rows: Sequence[Row], texts: Sequence[str], share: Share) -> Measured:
    """ROUGE of a text for each article; sentences of texts and references are told apart by `sentences`, or are lines."""
    references = references_of(rows)
    scores = rouge_of_all(["\n".join(sentences(text)) for text in texts], references, share)
    leads = rouge_of_all([first_sentences(row.article, LEAD) for row in rows], references, share)
    others = rouge_of_all([references[other] for other in another_of(len(rows))], references, share)
    result = {
        **means(scores),
        "standard_error": standard_errors(scores),
        "standard_error_over": f"{len(rows)} articles",
        "rouge": "F, plain means, Porter's stems, sentences by line or full stop",
        "articles": len(rows),
        "first_sentences": means(leads),
        "another_summary": means(others),
    }
    return Measured(scores, result)


def references_of(rows: Sequence[Row]) -> list[str]:
    """The summaries, a sentence a line."""
    return ["\n".join(sentences(row.summary)) for row in rows]


def predictions_of(rows: Sequence[Row], texts: Sequence[str], scores: np.ndarray) -> dict[str, Sequence[Any]]:
    """A row an article: its id, the text, the reference and the four scores."""
    columns: dict[str, Sequence[Any]] = {
        "id": [row.id for row in rows],
        "prediction": list(texts),
        "reference": [row.summary for row in rows],
    }
    return columns | {name: scores[:, place].tolist() for place, name in enumerate(ROUGE)}


def _row_texts(task: SummaryTask, row: Any) -> Iterator[BenchmarkText]:
    yield BenchmarkText(text_of(row, task.article))
    yield BenchmarkText(text_of(row, task.summary))


def write_rows(task: SummaryTask, rows: Rows, folder: Path) -> None:
    """Write the hub's rows as JSON lines."""

    def pair(row: Mapping[str, Any]) -> dict[str, str]:
        return {name: text_of(row, name) for name in ("id", task.article, task.summary)}

    write_json_lines(rows, folder, SPLITS, pair)


def _count(task: SummaryTask, folder: Path) -> dict[str, Any]:
    """Pairs of the splits that are there, those included that cannot be used."""
    there = [name for name in SPLITS if files_of_split(folder, {name}, ROW_SUFFIXES)]
    splits = {name: read_split(folder, task, name) for name in there}
    return {
        name: {"articles": len(split.rows) + sum(map(len, split.left_out.values()))}
        for name, split in splits.items()
    }


def _write_sample(task: SummaryTask, folder: Path, world: World, guard: Guard, seed: int) -> list[str]:
    """Write the three files; returns the articles of all but train."""
    made = summary_rows(world, seed, task.article, task.summary)
    write_rows(task, made.__getitem__, folder)
    texts = [row[task.article] for split in SPLITS[1:] for row in made[split]]
    for text in texts:
        guard.add(text)
    return texts


def _record(task: SummaryTask) -> Benchmark:
    return Benchmark(
        name=task.name,
        title=task.title,
        file=task.name,
        suffix=".jsonl",
        row_texts=lambda row: _row_texts(task, row),
        origin=Origin(
            task.dataset,
            configuration=task.configuration,
            revision=task.revision,
            licence=task.licence,
            terms="for research; cite the authors",
            write=partial(write_rows, task),
            count=partial(_count, task),
            counts={split: {"articles": n} for split, n in zip(SPLITS, task.counts, strict=True)},
        ),
        sample=Sample(task.name, partial(_write_sample, task), share=0.002, on_demand=True),
    )


for _task in TASKS.values():
    add_benchmark(_record(_task))
