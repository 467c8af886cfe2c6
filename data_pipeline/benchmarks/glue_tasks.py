"""GLUE's classification tasks: a record each of what its files hold, where they come from and what the sample has of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from data_pipeline.sample.pairs import mnli_rows, qqp_rows
from data_pipeline.sample.world import World

SampleRows = Callable[[World, int], dict[str, list[dict[str, Any]]]]


@dataclass(frozen=True)
class GlueTask:
    """What a task's files hold.

    Attributes:
        name, title: as a benchmark's.
        folder: that GLUE calls it by.
        texts: the columns of one sentence or two, in GLUE's files.
        labels: GLUE's names of the labels, in the order of the hub's numbers.
        submissions: what the official evaluation calls the predictions of each part.
        published: rows of the training set and of each part of the development set.
        hub_texts: in the hub's rows; None where they are called the same.
        label: the column of the label in GLUE's files; in the hub's it is "label".
        ids: the columns that number a row in GLUE's files; the first there is.
        test_texts: the columns of the texts in GLUE's test file; None where they are called the same.
        columns: of GLUE's training and development files where these do not say it themselves.
        parts: of the development and the test set, by the names that GLUE's files have behind "dev_"; ("",) for one.
        tolerant: some rows of the published files are broken: they are left out, and counted.
        metrics: the official ones, the first of which chooses: "accuracy", "f1", "matthews".
        head, test_head: of GLUE's files that have other columns than an id, the texts and the label.
        licence: of its data.
        sample: the rows of each split that the generated sample has, by a world and a seed; None: it has none.
    """

    name: str
    title: str
    folder: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    submissions: tuple[str, ...]
    published: tuple[int, ...]
    hub_texts: tuple[str, ...] | None = None
    label: str = "label"
    ids: tuple[str, ...] = ("index",)
    test_texts: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    parts: tuple[str, ...] = ("",)
    tolerant: bool = False
    metrics: tuple[str, ...] = ("accuracy",)
    head: tuple[str, ...] = ()
    test_head: tuple[str, ...] = ()
    licence: str = "not stated by its authors"
    sample: SampleRows | None = None

    def splits(self, kind: str) -> dict[str, str]:
        """The parts of "dev" or "test", and the names of their splits: {"matched": "dev_matched"}."""
        return {part: f"{kind}_{part}" if part else kind for part in self.parts}


_ENTAILMENT = ("entailment", "not_entailment")
_BINARY = ("0", "1")
_PAIR = ("sentence1", "sentence2")
# Others rely on the numbers of MNLI's columns (8, 9 and the last) and of QQP's (3, 4 and 5).
_MNLI_HEAD = (
    "index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse",
    "sentence2_parse", *_PAIR,
)  # fmt: skip
_QQP_TEXTS = ("question1", "question2")
TASKS = {
    task.name: task
    for task in (
        GlueTask(
            "mnli",
            "MNLI",
            "MNLI",
            texts=_PAIR,
            hub_texts=("premise", "hypothesis"),
            label="gold_label",
            labels=("entailment", "neutral", "contradiction"),
            parts=("matched", "mismatched"),
            submissions=("MNLI-m.tsv", "MNLI-mm.tsv"),
            head=(*_MNLI_HEAD, "label1", "gold_label"),
            test_head=_MNLI_HEAD,
            published=(392_702, 9815, 9832),
            licence="OANC's (free of restrictions); parts CC BY 3.0 and CC BY-SA 3.0",
            sample=mnli_rows,
        ),
        GlueTask(
            "qqp",
            "QQP",
            "QQP",
            texts=_QQP_TEXTS,
            label="is_duplicate",
            labels=_BINARY,
            ids=("id",),
            submissions=("QQP.tsv",),
            tolerant=True,
            metrics=("accuracy", "f1"),
            head=("id", "qid1", "qid2", *_QQP_TEXTS, "is_duplicate"),
            published=(363_846, 40_430),
            licence="Quora's terms: for non-commercial use only",
            sample=qqp_rows,
        ),
        GlueTask(
            "qnli",
            "QNLI",
            "QNLI",
            texts=("question", "sentence"),
            labels=_ENTAILMENT,
            submissions=("QNLI.tsv",),
            published=(104_743, 5463),
            licence="CC BY-SA 4.0",
        ),
        GlueTask(
            "rte",
            "RTE",
            "RTE",
            texts=_PAIR,
            labels=_ENTAILMENT,
            submissions=("RTE.tsv",),
            published=(2490, 277),
        ),
        GlueTask(
            "mrpc",
            "MRPC",
            "MRPC",
            texts=("#1 String", "#2 String"),
            hub_texts=_PAIR,
            label="Quality",
            labels=_BINARY,
            submissions=("MRPC.tsv",),
            metrics=("accuracy", "f1"),
            published=(3668, 408),
            licence="Microsoft Research's data licence: for research only",
        ),
        GlueTask(
            "wnli",
            "WNLI",
            "WNLI",
            texts=_PAIR,
            labels=_BINARY,
            submissions=("WNLI.tsv",),
            published=(635, 71),
        ),
        GlueTask(
            "sst2",
            "SST-2",
            "SST-2",
            texts=("sentence",),
            labels=_BINARY,
            submissions=("SST-2.tsv",),
            published=(67_349, 872),
        ),
        GlueTask(
            "cola",
            "CoLA",
            "CoLA",
            texts=("sentence",),
            labels=_BINARY,
            columns=("source", "label", "mark", "sentence"),
            submissions=("CoLA.tsv",),
            metrics=("matthews", "accuracy"),
            published=(8551, 1043),
        ),
    )
}
