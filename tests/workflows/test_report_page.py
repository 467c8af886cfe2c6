"""The report's page is made of records: any task's table, cards and bars, the same in both templates."""

import dataclasses
import importlib.metadata
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from core.files import write_json
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.steps import StageKind, Step, Store, Workplace
from recipes.reader import load_recipe
from recipes.records import Bar, Column, FineTuning, Published, ZeroShot, best_of_seeds, value_at
from workflows import pictures
from workflows.report_page import (
    Page,
    Section,
    Table,
    card,
    compared,
    report_page,
    shown,
    training_section,
    write_pages,
    written,
)

CLOZE = ZeroShot(
    name="cloze",
    title="Cloze | test",
    benchmark="cloze",
    program="nowhere:nothing",
    causal=True,
    columns=(
        Column("accuracy", "accuracy.all", "percent", error="error.all"),
        Column("asked", "total"),
        Column("metric", "metric", "text"),
    ),
    published=Published(("accuracy, %", "F1"), (("GPT-9", (12.0, None)),), "table 99"),
    facts=lambda result: "",
    bar=Bar("accuracy.all", {"chance": "chance", "blank": "accuracy.blank"}),
    note="Share of <blanks> filled.",
)
TAGGING = FineTuning(
    name="tagging",
    title="Tagging",
    benchmark="tagging",
    program="nowhere:nothing",
    causal=False,
    columns=(Column("loss", "loss"), Column("untrained", "untrained_loss")),
    published=None,
    facts=lambda result: "",
    combine=lambda runs: dict(runs["1"]),
)
VALIDATION = "the official Cloze validation set, sequence length 64, stride 32, precision fp32"
RESULTS: dict[str, Any] = {
    "models": {
        "tiny": {
            "pretraining": {"parameters": 1234, "step": 40, "loss": 2.0},
            "cloze": {
                "accuracy": {"all": 0.75}, "chance": 0.5, "total": 4000, "metric": "exact",
                "error": {"all": 0.0123}, "standard_error_over": "40 passages",
                "data": {"description": "the official Cloze validation set", "official": False},
                "sequence_length": 64, "stride": 32, "precision": "fp32",
            },
        },
        "other": {
            "pretraining": {"parameters": 99, "step": 40, "loss": 2.0},
            "tagging": {"loss": 1.5, "untrained_loss": 200000.0},
        },
    },
    "corpus": [
        {"stage": "fetch", "documents": 1000, "counts": {"quarantined": 1}, "parts": {"a": {"origin": {"terms": "T"}}}},
        {
            "stage": "clean",
            "documents": 990,
            "counts": {"dropped": {"too_short": 2, "not_english": 7}},
            "parts": {"a": {"length_counted_by": "words"}},
        },
    ],
    "planted": [{"kind": "too_short", "planted": 2, "found": 2, "outcomes": {"clean": 2}}],
}  # fmt: skip
RECORD = {
    "seconds": 61.0,
    "resumed": 1,
    "segments": [
        {"layout": {"processes": 1}},
        {
            "layout": {"sequence_parallel": False, "tensor_parallel": 2},
            "libraries": {"numpy": importlib.metadata.version("numpy")},
            "machine": {"processor": "EPYC", "instruction_set": "AVX2", "threads": 2, "device": "cpu"},
        },
    ],
    "python": "3.11",
    "torch": "2",
    "luigi": "3",
    "git_revision": "abc",
}
PRETRAINING = Step(
    StageKind("pretrain", 1, (), ("numpy",)),
    "tiny",
    lambda directory, place: {},
    label="pretrain tiny",
    facts=lambda summary: f"step {summary['step']}",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Where one step is finished."""
    place = Workplace(Store(tmp_path_factory.mktemp("runs")), LocalExecutor(1))
    directory = place.directory(PRETRAINING)
    directory.mkdir(parents=True)
    write_json(directory / "manifest.json", {"summary": {"step": 40}})
    write_json(directory / "run.json", RECORD)
    return place


@pytest.fixture(scope="module")
def page(place: Workplace) -> Page:
    curves = {name: [{"step": step, "loss": 3.0 - step} for step in range(3)] for name in RESULTS["models"]}
    return report_page(load_recipe("sample"), RESULTS, [CLOZE, TAGGING], curves, [PRETRAINING], place)


def section(page: Page, title: str) -> Section:
    return next(section for section in page.sections if section.title == title)


def table(page: Page, title: str) -> Table:
    return section(page, title).tables[0]


def test_a_tasks_table_is_its_records_columns_for_the_models_that_were_measured(page: Page):
    assert table(page, "Cloze | test, zero-shot") == Table(
        ["model", "parameters", "accuracy", "asked", "metric", "measured on"],
        [["tiny", "1,234", "75.0 % ± 1.2 %", "4,000", "exact", VALIDATION]],
        "Share of <blanks> filled. ± is the standard error over 40 passages.",
        {"accuracy": "best", "measured on": "left"},
    )
    assert table(page, "Tagging, fine-tuned").rows == [["other", "99", "1.50", "2e+05", "–"]]


def test_a_headline_stands_beside_its_first_baseline_or_the_second_column(page: Page):
    assert list(page.cards) == [
        (
            "tiny, Cloze | test accuracy on the official Cloze validation set",
            "75.0 % ± 1.2 %",
            "chance: 50.0 %",
        ),
        ("other, Tagging loss", "1.50", "untrained: 2e+05"),
    ]


def test_accuracies_are_drawn_with_the_baselines_that_were_measured(page: Page):
    picture = section(page, "Accuracy against what needs no understanding").picture
    assert picture is not None
    assert picture.alternative == "Accuracy against baselines: tiny, Cloze | test 75.0% (chance 50.0%)."


def test_more_baselines_than_marks_are_all_drawn():
    baselines = {f"baseline {index}": index / 20 for index in range(12)}
    alone = pictures.accuracies([("a", 0.9, baselines)])
    first = pictures.accuracies([("a", 0.9, dict(list(baselines.items())[:11]))])
    assert len(alone.light) > len(first.light)


def test_the_papers_numbers_are_those_of_what_was_measured(page: Page):
    published = section(page, "The paper's numbers")
    assert [t.rows for t in published.tables] == [[["GPT-9", "12.0", "–"]]]
    assert published.tables[0].head == ("Cloze | test, table 99", "accuracy, %", "F1")
    assert "Not comparable" in published.paragraphs[0][1]
    assert published.tables[0].note == f"Ours: {VALIDATION}. This is NOT what the paper's numbers are about."


def test_only_a_number_on_the_official_test_set_stands_beside_the_papers_as_one():
    official = {"data": {"description": "the official WikiText-103 test set", "official": True}}
    other = {"data": {"description": "another file, 9 words", "official": False}}
    said = "Ours: the official WikiText-103 test set. This is what the paper's numbers are about."
    assert compared([official]) == said
    assert "NOT" in compared([official, other])
    assert compared([{}]) == ""
    headline = Column("perplexity", "ppl")
    wikitext = dataclasses.replace(CLOZE, title="WikiText-103", columns=(headline,), bar=None)
    assert card("m", wikitext, {"ppl": 20.0, **official})[0] == "m, WikiText-103 perplexity"
    assert card("m", wikitext, {"ppl": 20.0, **other})[0].endswith("perplexity on another file, 9 words")


def test_the_corpus_says_why_documents_were_dropped_most_frequent_first(page: Page):
    corpus = section(page, "The corpus")
    assert corpus.tables[0].rows == [
        ["fetched", "1,000", "bad record 1"],
        ["after cleaning", "990", "not english 7, too short 2"],
    ]
    assert corpus.tables[1].rows == [["too short", "2", "2", "clean 2"]]
    assert list(corpus.paragraphs) == [("", "Length of documents counted by words."), ("a", ": terms T.")]


def test_a_stage_shows_the_layout_of_its_last_attempt(page: Page, place: Workplace):
    artifact = f"pretrain/{place.directory(PRETRAINING).name}"
    layout = "sequence parallel False, tensor parallel 2"
    row = ["pretrain tiny", "1 min 01 s", layout, "1", "step 40", artifact]
    assert table(page, "How it was made").rows == [row]  # fmt: skip
    note = table(page, "How it was made").note
    assert "promised on one kind of processor" in note and "ran on: EPYC, AVX2, cpu." in note
    assert (
        page.software
        == f"luigi 3 · numpy {importlib.metadata.version('numpy')} · python 3.11 · torch 2 · checkout abc"
        " · computed on EPYC, AVX2, cpu"
    )


def test_both_pages_show_every_table(page: Page, tmp_path: Path):
    write_pages(tmp_path, page)
    html = (tmp_path / "index.html").read_text()
    markdown = (tmp_path / "report.md").read_text()
    for part in page.sections:
        assert f"<h2>{part.title}</h2>".replace("'", "&#39;") in html
        for table in part.tables:
            assert table.note in markdown
            assert table.note.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in html
            for cell in (cell for row in table.rows for cell in row):
                assert cell in markdown
                assert cell.replace("'", "&#39;") in html
    assert "| tiny | 1,234 | **75.0 % ± 1.2 %** | 4,000 | exact |" in markdown
    assert re.search(r"\| `pretrain/tiny-\w+` \|", markdown)
    assert r"| Cloze \| test, table 99 | accuracy, % | F1 |" in markdown
    assert '<td class="best">75.0 % ± 1.2 %</td>' in html
    assert all(
        uri.startswith("data:image/svg+xml;base64,")
        for uri in re.findall(r'(?:src|srcset|href)="([^"]*)', html)
    )


def test_the_page_of_documents_is_linked(page: Page, tmp_path: Path):
    write_pages(tmp_path, dataclasses.replace(page, links=[("data.html", "The <data>")]))
    assert '<a href="data.html">The &lt;data&gt;</a>' in (tmp_path / "index.html").read_text()


def test_what_a_recipe_does_not_have_is_left_out(place: Workplace):
    models = {"tiny": {"pretraining": {"parameters": 12, "step": 0, "loss": None}}}
    results = {**RESULTS, "models": models, "planted": []}
    page = report_page(load_recipe("sample"), results, [], {"tiny": []}, [PRETRAINING], place)
    assert [part.title for part in page.sections] == ["Training", "The corpus", "How it was made"]
    assert table(page, "Training").rows == [["tiny", "12", "0", "–", "–"]]


def test_a_training_is_told_by_its_last_twentieth_and_its_last_validation():
    records: list[dict[str, Any]] = [
        {"step": step, "loss": 5.0 if step <= 38 else float(step)} for step in range(1, 41)
    ]
    records[20:20] = [{"step": 20, "validation_loss": 7.0}]
    models = {"small": {"pretraining": {"parameters": 12, "step": 40, "loss": 40.0}}}

    def row(records: list[dict[str, Any]]) -> Sequence[str]:
        return training_section(models, {"small": records}).tables[0].rows[0]

    assert row(records) == ["small", "12", "40", "39.50", "7.00"]
    assert row([*records, {"step": 40, "validation_loss": 6.0}])[-1] == "6.00"
    assert row(records[:3])[-1] == "–"


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (None, "percent", "–"),
        (0.452, "percent", "45.2 %"),
        (12345, "number", "12,345"),
        (12.345, "number", "12.35"),
        (1.2e6, "number", "1.2e+06"),
        ("as it is", "number", "as it is"),
        (83.0, "text", "83.0"),
    ],
)
def test_values_are_written_for_people(value: Any, form: str, text: str):
    assert written(value, form) == text


def test_of_seeds_the_best_on_the_development_set_is_reported_beside_the_median():
    runs = {
        seed: {"accuracy": {"all": test}, "dev": {"accuracy": {"all": dev}}, "total": 8}
        for seed, test, dev in (("3", 0.9, 0.5), ("10", 0.6, 0.75), ("2", 0.7, 0.75))
    }
    expected = {
        "accuracy": {"all": 0.6},
        "dev": {"accuracy": {"all": 0.75}},
        "total": 8,
        "seed": 10,
        "dev_median": 0.75,
        "dev_spread": [0.5, 0.75],
        "dev_of_seeds": {"10": 0.75, "2": 0.75, "3": 0.5},
        "seeds": {"10": 0.6, "2": 0.7, "3": 0.9},
    }
    column = Column("accuracy", "accuracy.all")
    record = dataclasses.replace(TAGGING, combine=None, chosen_by="accuracy.all", columns=(column,))
    assert record.of_seeds(runs) == expected
    median = Column("median", "dev_median", "percent", spread="dev_spread")
    assert shown(median, expected) == "75.0 % (50.0 %–75.0 %)" and shown(median, runs["2"]) == "–"
    assert best_of_seeds(runs, "dev.accuracy.all", "accuracy.all", lower_is_better=True)["seed"] == 3
    assert TAGGING.of_seeds({"1": {"a": 2}}) == {"a": 2}, "a task's own way"
    assert value_at(runs["3"], "accuracy.middle") is None
    assert value_at(runs["3"], "total.all") is None
