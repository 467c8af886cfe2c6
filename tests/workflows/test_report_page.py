"""The report's page is made of records and of what artifacts say: any task's table, cards and bars, the paper's tables with
ours in them, where each number is from, and how the run went; the same in both templates."""

import dataclasses
import html.parser
import importlib.metadata
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from report_world import CLOZE, RESULTS, TAGGING, TRAINING, VALIDATION, finished, page_of

from data_pipeline.engine.steps import StageKind, Step, Workplace
from recipes.reader import load_recipe
from recipes.records import SHAPE_COLUMNS, Column, Published, Task, best_of_seeds, value_at
from recipes.schema import TextSettings
from workflows import pictures
from workflows.paper_scaling import measured, scaling_section, strong_scaling, weak_scaling
from workflows.paper_tables import bare, compared, head_of, settings_section, shapes_section, shown
from workflows.recipe_plan import plan_of
from workflows.report_facts import Fact, Segment, busy, command_of, facts_of, throughput
from workflows.report_made import installed, machines_of, summary_line
from workflows.report_page import ReportPage, Section, Table, card, report_page, write_pages, written
from workflows.report_training import curve_of, training_sections
from workflows.stage_drawings import bars, graph


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Where a training and a measurement are finished."""
    return finished(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def page(place: Workplace) -> ReportPage:
    return page_of(place, drawn=True)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures have words only: drawing takes its time."""
    monkeypatch.setattr(pictures, "_picture", lambda draw, size, words: pictures.Picture("", "", words))


def section(page: ReportPage, title: str) -> Section:
    return next(section for section in page.sections if section.title.startswith(title))


def table(page: ReportPage, title: str) -> Table:
    return section(page, title).tables[0]


def cells_of(page: ReportPage, title: str, row: str) -> dict[str, str]:
    """A row of a section's tables by heads: the first whose name it is."""
    for found in section(page, title).tables:
        for texts in found.rows:
            if texts[0] == row:
                return dict(zip(found.head, texts, strict=True))
    raise AssertionError(f"no row {row} in {title}")


def test_a_tasks_table_is_its_records_columns_for_the_models_that_were_measured(page: ReportPage):
    found = table(page, "Cloze | test, zero-shot")
    assert list(found.head) == ["model", "parameters", "accuracy, %", "asked", "metric", "from"]
    (row,) = found.rows
    assert row[:-1] == ["gpt2-small", "254,912", "75.0 ± 1.2", "4,000", "exact"]
    assert re.fullmatch(r"cloze/gpt2-small-[0-9a-f]{12}", row[-1]), "the artifact that says it"
    assert (
        found.note
        == f"Share of <blanks> filled. Measured on {VALIDATION}. ± is the standard error over 40 passages."
    )
    assert found.styles["accuracy, %"] == "best"
    assert table(page, "Tagging, fine-tuned").rows == [["other", "99", "1.50", "2e+05", "–"]]


def test_models_measured_on_different_data_say_each_its_own(place: Workplace):
    results = json.loads(json.dumps(RESULTS))
    results["models"]["other"]["cloze"] = {**results["models"]["gpt2-small"]["cloze"], "sequence_length": 32}
    found = table(page_of(place, results), "Cloze | test, zero-shot")
    assert [row[list(found.head).index("measured on")] for row in found.rows] == [
        VALIDATION,
        VALIDATION.replace("length 64", "length 32"),
    ]


def test_units_stand_once(page: ReportPage):
    """Where a head says %, no cell below it does."""
    for found in (found for section in page.sections for found in section.tables):
        for column, head in enumerate(found.head):
            if head.endswith("%"):
                assert not [row[column] for row in found.rows if "%" in row[column]], head


def test_a_headline_stands_beside_its_first_baseline_or_the_second_column(page: ReportPage):
    assert list(page.cards) == [
        (
            "gpt2-small, Cloze | test accuracy on the official Cloze validation set",
            "75.0 ± 1.2 %",
            "chance: 50.0 %",
        ),
        ("other, Tagging loss", "1.50", "untrained: 2e+05"),
    ]


def test_accuracies_are_drawn_with_the_baselines_that_were_measured(page: ReportPage):
    (picture,) = section(page, "Accuracy against what needs no understanding").pictures
    assert picture.alternative == "Accuracy against baselines: gpt2-small, Cloze | test 75.0% (chance 50.0%)."


def test_more_baselines_than_marks_are_all_drawn():
    baselines = {f"baseline {index}": index / 20 for index in range(12)}
    alone = pictures.accuracies([("a", 0.9, baselines)])
    first = pictures.accuracies([("a", 0.9, dict(list(baselines.items())[:11]))])
    assert len(alone.light) > len(first.light)


def test_names_are_drawn_as_they_are():
    """Dollar signs begin a formula for matplotlib, and what begins with an underline has no legend."""
    lines = {"a$b$c": [(1, 2.0), (2, 1.0)], "_hidden": [(1, 2.0), (2, 1.5)], "$": [(1, 1.0), (2, 1.0)]}
    assert "_hidden: from 2.00 to 1.50" in pictures.curves(lines, "step", "loss").alternative
    assert pictures.accuracies([(r"\frac $x", 0.5, {"$\\bad": 0.2})]).light


def test_our_numbers_stand_in_the_papers_table_and_are_marked_on_other_data(page: ReportPage):
    found = section(page, "Beside the paper's numbers").tables
    assert len(found) == 1, "one table a place in the paper"
    assert list(found[0].head) == ["model", "Cloze | test accuracy, %", "Cloze | test F1", "from"]
    assert [row[:3] for row in found[0].rows] == [
        ["gpt2-small", "75.0 ± 1.2 *", "–"],
        ["paper: GPT-9", "12.0", "–"],
    ]
    assert (
        found[0].note
        == f"Table 99. Cloze | test: {VALIDATION}; * this is NOT what the paper's numbers are about."
    )
    assert "Not comparable" in section(page, "Beside the paper's numbers").paragraphs[0][1]


def test_tasks_of_one_table_of_the_paper_stand_in_one_table(place: Workplace):
    published = Published(("share, %",), (("GPT-9", (3.0,)), ("GPT-8", (2.0,))), "table 99", ("accuracy",))
    second = dataclasses.replace(CLOZE, name="second", title="Second", published=published,
                                 columns=(Column("share", "accuracy", "percent"),), bar=None)  # fmt: skip
    results = json.loads(json.dumps(RESULTS))
    results["models"]["other"]["second"] = {
        "accuracy": 0.5,
        "data": {"description": "the test set", "official": True},
    }
    (found,) = section(page_of(place, results, [CLOZE, second]), "Beside the paper's numbers").tables
    assert [row[:4] for row in found.rows] == [
        ["gpt2-small", "75.0 ± 1.2 *", "–", "–"],
        ["other", "–", "–", "50.0"],
        ["paper: GPT-9", "12.0", "–", "3.0"],
        ["paper: GPT-8", "–", "–", "2.0"],
    ]


def test_only_a_number_on_the_official_test_set_stands_beside_the_papers_as_one():
    official = {"data": {"description": "the official WikiText-103 test set", "official": True}}
    other = {"data": {"description": "another file, 9 words", "official": False}}
    said = "W: the official WikiText-103 test set; this is what the paper's numbers are about."
    assert compared("W", [official]) == said
    assert "NOT" in compared("W", [official, other])
    assert compared("W", [{}]) == ""
    headline = Column("perplexity", "ppl")
    wikitext = dataclasses.replace(CLOZE, title="WikiText-103", columns=(headline,), bar=None)
    assert card("m", wikitext, {"ppl": 20.0, **official})[0] == "m, WikiText-103 perplexity"
    assert card("m", wikitext, {"ppl": 20.0, **other})[0].endswith("perplexity on another file, 9 words")


def test_every_path_of_the_papers_columns_is_a_column_of_the_task():
    """Else a number of ours would be a dash beside the paper's for ever."""
    from recipes.reader import add_our_records
    from recipes.records import FINE_TUNING, ZERO_SHOT

    add_our_records()
    tasks: list[Task] = [*map(ZERO_SHOT.__getitem__, ZERO_SHOT), *map(FINE_TUNING.__getitem__, FINE_TUNING)]
    told = [task for task in tasks if task.published]
    assert len(told) >= 6
    for task in told:
        assert task.published and len(task.published.paths) == len(task.published.columns), task.name
        assert set(task.published.paths) <= {column.path for column in task.columns}, task.name
        for path, head in zip(task.published.paths, task.published.columns, strict=True):
            column = next(column for column in task.columns if column.path == path)
            assert head_of(column).endswith("%") == head.endswith("%"), (task.name, head)


# FACTS of the paper's tables 2 and 4, computed anew: hidden size over heads, and 12 l h² + 13 l h + (V + s) h parameters.
@pytest.mark.parametrize(("family", "vocabulary", "length"), [("gpt2", 51200, 1024), ("bert", 30720, 512)])
def test_the_papers_shapes_agree_with_themselves(family: str, vocabulary: int, length: int):
    from recipes.reader import add_our_records
    from recipes.records import PRETRAININGS

    add_our_records()
    published = PRETRAININGS[family].shapes
    assert published and published.columns == SHAPE_COLUMNS and len(published.rows) == 3
    for name, (billions, layers, hidden, heads, width, _) in published.rows:
        assert layers and hidden and heads and billions
        assert hidden == heads * (width or 0), name
        counted = 12 * layers * hidden**2 + 13 * layers * hidden + (vocabulary + length) * hidden
        assert counted / 1e9 == pytest.approx(billions, rel=0.025), name


def test_shapes_stand_beside_the_papers(page: ReportPage):
    ours = cells_of(page, "Shapes of the models", "gpt2-small")
    assert [ours[name] for name in SHAPE_COLUMNS] == ["0.00025", "1", "64", "2", "32", "6"]
    papers = cells_of(page, "Shapes of the models", "paper: GPT-2 8.3B")
    assert [papers[name] for name in SHAPE_COLUMNS] == ["8.3", "72", "3072", "24", "128", "512"]
    assert table(page, "Shapes of the models").note == "Family gpt2; table 2 of the paper."
    drawn_from = section(page, "Learning curves: next-token prediction").paragraphs[0][1]
    assert drawn_from.startswith(f"From metrics.jsonl of {ours['from']}.")
    unknown = {"m": {"pretraining": {"parameters": 3_000_000_000},
                     "config": {"model": {"family": "mine", "layers": 3, "hidden": 30, "heads": 4}}}}  # fmt: skip
    (own,) = shapes_section(unknown, {}).tables
    assert own.rows == [["m", "3", "3", "30", "4", "7.5", "–", "–"]], "a family that the paper does not have"


def test_fine_tunings_stand_beside_the_papers_settings():
    """Table 6: batch, learning rate and epochs of RACE, for 336M, 1.3B and 3.9B; five seeds (section 5.3)."""
    recipe = load_recipe("sample")
    (found,) = settings_section(recipe, {("bert-small", "race"): "race/x"}).tables
    assert found.rows == [
        ["bert-small", "RACE", "16", "0.0005", "1", "1", "race/x"],
        ["paper: bert-336m", "RACE", "32", "2e-05", "3", "5", "–"],
        ["paper: bert-1.3b", "RACE", "16", "1e-05", "3", "5", "–"],
        ["paper: bert-3.9b", "RACE", "32", "2e-05", "3", "5", "–"],
    ]
    assert not settings_section(dataclasses.replace(recipe, models={}), {}).tables


def test_the_corpus_adds_up_where_documents_were_cut(page: ReportPage):
    found = table(page, "The corpus")
    head = ["stage", "in", "dropped", "new by cuts", "documents", "why", "from"]
    assert list(found.head) == head
    assert found.rows == [
        ["fetched", "1,001", "1", "–", "1,000", "bad record 1", "–"],
        ["after cleaning", "1,000", "9", "–", "991", "not english 7, too short 2", "–"],
        [
            "after decontamination",
            "991",
            "3",
            "10",
            "998",
            "benchmark text 3; 4 cut, which makes 10 more",
            "–",
        ],
    ]
    for row in found.rows:
        come, gone, more, left = (int(text.replace(",", "").replace("–", "0")) for text in row[1:5])
        assert come - gone + more == left
    assert section(page, "The corpus").tables[1].rows == [["too short", "2", "2", "clean 2"]]
    assert list(section(page, "The corpus").paragraphs) == [
        ("", "Length of documents counted by words."),
        ("a", ": terms T."),
    ]


def test_a_stage_says_how_it_was_made_and_by_which_command(page: ReportPage, place: Workplace):
    artifact = f"pretrain/{place.directory(TRAINING).name}"
    row = cells_of(page, "How it was made", "pretrain gpt2-small")
    assert row == {
        "stage": "pretrain gpt2-small",
        "time": "1 min 31 s",
        "layout": "2-way tensor × 3-way data, zero 2",
        "attempts": "2",
        "outcome": "step 40",
        "artifact": artifact,
        "data": "–",
        "makes it again": "luigi --module workflows Pretrain --recipe sample --model gpt2-small",
    }
    note = section(page, "How it was made").tables[1].note
    assert "promised on one kind of processor" in note
    assert page.software == (
        f"luigi 3 · numpy {importlib.metadata.version('numpy')} · python 3.11 · torch 2 · checkout abc"
        " · computed on EPYC, AVX2, cpu"
    )
    machines = section(page, "How it was made").tables[0]
    assert list(machines.rows[0]) == ["EPYC, AVX2, cpu", "2", "2: pretrain gpt2-small, cloze of gpt2-small"]


def test_the_summary_says_what_was_made_on_what_and_how_long_it_took(page: ReportPage):
    """40 steps of 8 and of 16 sequences of 128 tokens."""
    assert page.summary == (
        "2 stages, 2 models, 2 measurements, 122,880 tokens trained on, 1 min 41 s by the clock, 1 min 41 s of work, "
        "on EPYC, AVX2, cpu, 2 cores."
    )
    assert summary_line([], 1, 0, 0) == "0 stages, 1 model, 0 measurements, 0 tokens trained on."


def _fact(
    label: str, *spans: tuple[float, float | None], kind: str = "a", inputs: Mapping[str, Step] | None = None
) -> Fact:
    step = Step(StageKind(kind, 1, ()), label, lambda directory, place: {}, label=label, inputs=inputs or {})
    segments = [
        Segment(start, seconds, "finished" if seconds else "killed", {}, {}, {}) for start, seconds in spans
    ]
    return Fact(step, Path("x"), f"{kind}/{label}", "k", "", {}, segments, {}, {})


def test_work_at_the_same_time_counts_once_by_the_clock():
    facts = [
        _fact("one", (100, 50)),
        _fact("two", (120, 60)),
        _fact("later", (1000, 20)),
        _fact("killed", (300, None)),
    ]
    assert busy(facts) == [(100, 180), (1000, 1020)]
    drawn = {bar.label: bar.attempts for bar in bars(facts, {fact.artifact: "" for fact in facts})}
    assert drawn["one"] == [(0, 50, "finished")]
    assert drawn["two"] == [(20, 60, "finished")]
    assert drawn["later"] == [(80, 20, "finished")], "the pause before it is left out"
    assert drawn["killed"] == [(80, 0.4, "killed")], "seen, though nobody knows how long it ran"


def test_the_drawing_of_stages_leaves_out_what_is_implied_and_fits_its_width():
    first = _fact("first")
    second = _fact("second", kind="b", inputs={"x": first.step})
    third = _fact("third", kind="c", inputs={"x": first.step, "y": second.step})
    many = [
        _fact(f"m{number}", kind=f"a-task-with-a-long-name-{number}", inputs={"x": third.step})
        for number in range(9)
    ]
    drawn = graph([first, second, third, *many, _fact("again", kind="b", inputs={"x": first.step})])
    nodes = {node.text: node for node in drawn.nodes}
    assert nodes["a"].y < nodes["b × 2"].y < nodes["c"].y < nodes["a-task-with-a-long-name-0"].y
    assert nodes["b × 2"].stages == "second\nagain"
    assert len(drawn.arrows) == 2 + len(many), "none from the first to the third"
    assert all(node.x >= 0 and node.x + node.width <= drawn.width for node in drawn.nodes)
    assert all(node.y + node.height <= drawn.height for node in drawn.nodes)
    lines = {node.y for node in drawn.nodes if "task" in node.text}
    assert len(lines) > 1, "nine do not fit beside each other"


def test_commands_name_what_a_shell_would_take_apart(tmp_path: Path):
    recipe = load_recipe("sample")
    step = dataclasses.replace(TRAINING, selectors={"model": "it's; rm -rf"})
    moved = dataclasses.replace(
        recipe, path=tmp_path / "my recipe.toml", overrides="models.a.training.steps=1"
    )
    assert command_of(moved, step) == (
        f"luigi --module workflows Pretrain --recipe '{tmp_path}/my recipe.toml' --set models.a.training.steps=1 "
        "--model 'it'\"'\"'s; rm -rf'"
    )


def test_a_lost_or_damaged_record_of_a_run_is_no_end(tmp_path: Path):
    place = finished(tmp_path)
    record = place.directory(TRAINING) / "run.json"
    for content in ('{"segments": [{"seconds": 3}, {"started": "yesterday"}]}', "{", "[]", None):
        if content is None:
            record.unlink()
        else:
            record.write_text(content)
        row = cells_of(page_of(place), "How it was made", "pretrain gpt2-small")
        assert (row["time"], row["layout"]) == ("–", "–")


def test_speed_is_the_median_of_what_the_training_measured(page: ReportPage, place: Workplace):
    found = section(page, "Training").tables[1]
    row = dict(zip(found.head, found.rows[0], strict=True))
    assert (row["tokens/s"], row["TFLOP/s a device"], row["MFU, %"], row["memory, GiB"]) == (
        "200",
        "2",
        "30.0",
        "1.00",
    )
    assert throughput(place.directory(TRAINING))["tokens_per_second"] == 200.0, (
        "of 100, 200 and 900; a torn line is none"
    )
    assert throughput(place.directory(TRAINING) / "nowhere") == {}


@pytest.mark.usefixtures("undrawn")
def test_a_training_is_told_by_its_last_twentieth_and_its_last_validation():
    records: list[dict[str, Any]] = [
        {"step": step, "loss": 5.0 if step <= 38 else float(step)} for step in range(1, 41)
    ]
    records[20:20] = [{"step": 20, "validation_loss": 7.0}]
    recipe = load_recipe("sample")

    def row(records: list[dict[str, Any]], model: str = "gpt2-small") -> Sequence[str]:
        family = recipe.models[model].config.family
        pretraining = {"parameters": 12, "step": 40, "loss": 40.0}
        models = {model: {"config": {"model": {"family": family}}, "pretraining": pretraining}}
        return training_sections(models, {model: curve_of(recipe, model, records)}, {})[0].tables[0].rows[0]

    # 40 steps of 8 sequences of 128 tokens; exp(7) = 1096.63
    assert row(records) == ["gpt2-small", "12", "40", "40,960", "39.50", "7.00", "1096.63", "–"]
    assert row([*records, {"step": 40, "validation_loss": 6.0}])[5:7] == ["6.00", "403.43"]
    assert row(records[:3])[5:7] == ["–", "–"]
    assert row([*records, {"step": 40, "validation_loss": 6.0}], "bert-small")[5:7] == ["6.00", "–"], (
        "no perplexity"
    )


@pytest.mark.usefixtures("undrawn")
def test_validations_are_drawn_over_steps_and_over_tokens():
    """Figure 6: a token is counted for each place of a batch, so sizes with other batches can be compared."""
    recipe = load_recipe("sample")
    records = [{"step": step, "validation_loss": 2.0 - step / 1000} for step in (100, 200)]
    records += [{"step": step, "loss": 3.0} for step in range(1, 200)]
    models = {name: {"config": {"model": {"family": recipe.models[name].config.family, "norm_order": "pre"}},
                     "pretraining": {"parameters": 1, "step": 200}} for name in ("gpt2-small", "bert-small")}  # fmt: skip
    curves = {name: curve_of(recipe, name, records) for name in models}
    _, gpt2, bert = training_sections(models, curves, {})
    assert gpt2.title == "Learning curves: next-token prediction (the paper's figure 6)"
    words = [picture.alternative for picture in gpt2.pictures]
    assert (
        words[1] == "Validation perplexity over steps. gpt2-small: from 6.69 to 6.05."
    )  # exp(1.9), exp(1.8)
    assert words[2] == "Validation perplexity over tokens. gpt2-small: from 6.69 to 6.05."
    assert bert.title.endswith("(the paper's figure 7)")
    assert (
        bert.pictures[1].alternative
        == "Validation loss over steps. bert-small (norm order pre): from 1.90 to 1.80."
    )
    assert curves["gpt2-small"].tokens_a_step == 8 * 128 and curves["bert-small"].tokens_a_step == 16 * 128


@pytest.mark.usefixtures("undrawn")
def test_scaling_is_measured_where_a_familys_models_ran_on_different_numbers_of_devices(
    place: Workplace, tmp_path: Path
):
    recipe = load_recipe("sample")
    (fact,) = facts_of(recipe, [TRAINING], place, {})
    single = tmp_path / "single"
    (single / "logs").mkdir(parents=True)
    (single / "logs" / "throughput.jsonl").write_text('{"model_tflops": 2.5, "tokens_per_second": 50}\n')
    alone = dataclasses.replace(
        fact, directory=single, segments=[Segment(0, 1, "finished", {}, {}, {})], artifact="p/alone"
    )
    rows = measured(recipe, {"gpt2-small": fact, "gpt2-medium": alone})
    assert [(row.model, row.devices, row.layout) for row in rows] == [
        ("gpt2-medium", 1, "one device"),
        ("gpt2-small", 6, "2-way tensor × 3-way data"),
    ]
    assert weak_scaling(rows) == {"gpt2-medium": 1.0, "gpt2-small": 0.8}  # 2 of 2.5 TFLOP/s
    assert weak_scaling(rows[1:]) == {}
    ours = scaling_section(recipe, {"gpt2-small": fact, "gpt2-medium": alone})
    found = ours.tables[0]
    told = {row[0]: dict(zip(found.head, row, strict=True)) for row in found.rows}
    assert {name: row["weak scaling, %"] for name, row in told.items()} == {
        "gpt2-medium": "100.00",
        "gpt2-small": "80.00",
    }
    assert told["gpt2-small"]["speedup"] == "–", "no other model of its shape"
    same = [dataclasses.replace(row, shape=rows[0].shape) for row in rows]
    assert strong_scaling(same) == {"gpt2-medium": 1.0, "gpt2-small": 4.0}  # 200 of 50 tokens a second
    assert strong_scaling([dataclasses.replace(same[0], sequences=9), same[1]]) == {}, "another batch"
    assert "gpt2-small, 6 devices 80%" in ours.pictures[0].alternative
    nothing = scaling_section(recipe, {})
    assert "measured none" in nothing.paragraphs[0][1]
    # the paper's: 1.2B to 8.3B on 1 to 8 and 64 to 512 devices; heads; strong scaling
    assert [(row[5:]) for row in nothing.tables[0].rows][-1] == ["8", "77", "512", "74"]
    assert [row[2] for row in nothing.tables[1].rows] == ["82", "80", "77"]
    assert [row[1] for row in nothing.tables[2].rows] == ["1.00", "1.64", "2.34", "2.98"]


def test_what_the_models_write_is_shown_as_text(page: ReportPage):
    (entry,) = section(page, "What the models write").entries
    assert entry.title == "gpt2-small, text 1"
    shown_text = "".join(span.text for _, text in entry.texts for span in text)
    assert shown_text == "<script>alert(1)</script> <U+202E>x"
    said = section(page, "What the models write").paragraphs[0][1]
    assert said.startswith(
        "Begun where a document of the corpus begins, each token drawn among the 40 likeliest at temperature 0.8."
    )


def test_texts_are_as_many_as_the_recipe_asks_for():
    assert TextSettings().begun_by == ["", "", ""]
    asked = TextSettings(count=2, prompts=["a", "-b"], temperature=0.0)
    assert asked.begun_by == ["a", "a", "-b", "-b"]
    assert asked.described() == "Going on from the prompts, each token the likeliest."
    assert "drawn among all at temperature 1." in TextSettings(temperature=1.0, top_k=0).described()
    assert TextSettings(count=0).begun_by == []
    assert len(TextSettings(count=-1, tokens=0, temperature=-1.0, top_k=-1).errors("texts")) == 4
    assert plan_of("sample").writings() == [{"model": "gpt2-small"}, {"model": "gpt2-medium"}]
    assert plan_of("sample", "texts.count=0").writings() == []
    keys = [
        plan_of("sample", changes).texts("gpt2-small").parameters
        for changes in ("", "texts.tokens=5", "texts.top_k=3")
    ]
    assert len({str(key) for key in keys}) == 3


class _Page(html.parser.HTMLParser):
    """Tags, ids and links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found[name] or "" for name in ("href", "src", "srcset") if name in found]


def test_both_pages_show_every_table_and_every_link_leads_somewhere(page: ReportPage, tmp_path: Path):
    write_pages(tmp_path, dataclasses.replace(page, links=[("data.html", "The <data>")]))
    html_text = (tmp_path / "index.html").read_text()
    markdown = (tmp_path / "report.md").read_text()
    for part in page.sections:
        assert f">{part.title}</h2>".replace("'", "&#39;") in html_text
        assert f"## {part.title}".replace("|", r"\|") in markdown
        for found in part.tables:
            for cell in (cell for row in found.rows for cell in row):
                assert cell.replace("|", r"\|").replace("*", r"\*") in markdown or cell in markdown
    assert "| gpt2-small | 254,912 | **75.0 ± 1.2** | 4,000 | exact |" in markdown
    assert r"| model | Cloze \| test accuracy, % | Cloze \| test F1 | from |" in markdown
    assert '<td class="best" data-head="accuracy, %">75.0 ± 1.2</td>' in html_text
    assert '<a href="data.html">The &lt;data&gt;</a>' in html_text
    read = _Page()
    read.feed(html_text)
    assert len(set(read.ids)) == len(read.ids)
    assert read.tags.count("script") == 1 and "onerror" not in html_text
    inside = [link[1:] for link in read.links if link.startswith("#")]
    assert inside and set(inside) <= set(read.ids)
    outside = {link for link in read.links if not link.startswith(("#", "data:image/svg+xml;base64,"))}
    assert outside == {"data.html"}


def test_nothing_that_a_recipe_or_a_result_says_becomes_a_tag(place: Workplace, tmp_path: Path):
    evil = '"><img src=x onerror=alert(1)>|`*[x](y)\n<b>'
    results = json.loads(json.dumps(RESULTS))
    results["models"]["gpt2-small"]["cloze"]["metric"] = evil
    results["models"]["gpt2-small"]["cloze"]["data"]["description"] = evil
    results["planted"][0]["kind"] = evil
    hostile = dataclasses.replace(CLOZE, title=evil, note=evil)
    recipe = load_recipe("sample")
    recipe = dataclasses.replace(
        recipe, identity=dataclasses.replace(recipe.identity, description=evil), overrides=evil
    )
    write_pages(tmp_path, page_of(place, results, [hostile], recipe))
    read = _Page()
    read.feed((tmp_path / "index.html").read_text())
    assert "b" not in read.tags and not [link for link in read.links if link == "x"]
    assert all(
        not re.search(r"(?<!\\)<(b|img)\b", line) or "`" * 4 in line
        for line in _outside_fences(tmp_path / "report.md")
    )


def _outside_fences(path: Path) -> list[str]:
    fenced, lines = False, []
    for line in path.read_text().splitlines():
        fenced ^= line.startswith("````")
        lines += [] if fenced else [line]
    return lines


def test_the_recipe_and_the_packages_are_in_the_page(page: ReportPage):
    blocks = {block.title: block.text for block in section(page, "Recipe and software").blocks}
    assert blocks["The recipe: sample.toml"] == load_recipe("sample").path.read_text()
    packages = next(text for title, text in blocks.items() if title.startswith("Installed packages"))
    assert f"numpy=={importlib.metadata.version('numpy')}" in packages.splitlines()
    assert installed()["luigi"] == importlib.metadata.version("luigi")
    assert section(page, "Recipe and software").paragraphs == [
        ("All of it again: ", "luigi --module workflows FullReproduction --recipe sample")
    ]


@pytest.mark.usefixtures("undrawn")
def test_what_a_recipe_does_not_have_is_left_out(place: Workplace):
    config = {"model": {"family": "gpt2", "layers": 1, "hidden": 64, "heads": 2}}
    models = {"gpt2-small": {"config": config, "pretraining": {"parameters": 12, "step": 0, "loss": None}}}
    results = {**RESULTS, "models": models, "planted": []}
    page = report_page(
        load_recipe("sample"),
        results,
        [],
        {"gpt2-small": []},
        facts_of(load_recipe("sample"), [TRAINING], place, {}),
    )
    assert [part.title for part in page.sections if part.title != "Fine-tuning settings"] == [
        "Shapes of the models", "Training", "Scaling: figure 5, tables 1, 7 and 8", "The corpus", "How it was made",
        "Recipe and software",
    ]  # fmt: skip
    assert table(page, "Training").rows[0][:-1] == ["gpt2-small", "12", "0", "0", "–", "–", "–"]


def test_a_machine_is_told_once_with_the_most_threads_of_a_process():
    assert machines_of([]) == []
    segments = [
        Segment(0, 1, "finished", {}, {"processor": "P", "device": "cpu", "threads": count}, {})
        for count in ("1, 2", 4)
    ]
    step = _fact("x").step
    assert machines_of([Fact(step, Path("x"), "a/x", "k", "", {}, segments, {}, {})]) == ["P, cpu, 4 cores"]


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
    assert shown(median, expected) == "75.0 (50.0–75.0) %" and shown(median, runs["2"]) == "–"
    assert bare(median, expected) == "75.0 (50.0–75.0)"
    assert best_of_seeds(runs, "dev.accuracy.all", "accuracy.all", lower_is_better=True)["seed"] == 3
    assert TAGGING.of_seeds({"1": {"a": 2}}) == {"a": 2}, "a task's own way"
    assert value_at(runs["3"], "accuracy.middle") is None


def test_what_is_for_dark_screens_is_not_printed():
    """A printed page is black on white, whatever the reader's screen is: rules and pictures for the dark are for screens."""
    from data_pipeline.inspection.pages import TEMPLATES

    for path in TEMPLATES.iterdir():
        for place in re.finditer("prefers-color-scheme", path.read_text()):
            before = path.read_text()[: place.start()]
            assert before.endswith("screen and ("), path.name


@pytest.mark.parametrize(
    ("least", "most"), [(3.2, 3300.0), (3.2, 40.0), (10.0, 19.0), (5.0, 6.0), (12.0, 13.0)]
)
def test_a_logarithmic_axis_has_numbers_that_do_not_overlap(least: float, most: float):
    ticks = [
        tick for tick in pictures._log_ticks([least, most]).tick_values(least, most) if least <= tick <= most
    ]
    assert 3 <= len(ticks) <= 9
