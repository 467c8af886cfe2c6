"""Zero-shot numbers against plain loops over `transformers`, written from the definitions and sharing nothing with
`evaluate`: trained weights, every layout, every batch size, one launch for several models and tasks, killed and gone on."""

import contextlib
import io
import json
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from distributed import run_distributed

import core.evaluation
import core.files
from core.errors import UserError
from core.interop.huggingface import import_model
from evaluate.__main__ import build_parser
from tests.evaluate.trained_gpt2 import LENGTH, PASSAGES, STRIDE, reference_model, write_all

LAYOUTS = [(1, 1), (1, 2), (2, 1), (3, 1)]  # (data, tensor)
BATCH_SIZES = (1, 7, 32)
DATA = {"wikitext103": "wiki.tokens", "lambada": "lambada.jsonl", "text": "plain.txt"}
TASKS: dict[str, list[str]] = {
    "wikitext103": ["--stride", str(STRIDE)],
    "lambada": [],
    "text": ["--stride", str(LENGTH)],
}


@pytest.fixture(scope="module")
def trained(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    return made_once("trained-gpt2", write_all)


def _run(*line: str) -> Any:
    """The program's printed object, or its message; None on other ranks than the main one."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            arguments = build_parser().parse_args(list(line))
            arguments.run(arguments)
    except UserError as error:
        return str(error)
    return json.loads(printed.getvalue() or "null")


def _evaluate(folder: Path, task: str, *options: str) -> Any:
    line = [task, "--hf", str(folder / "model"), "--data", str(folder / DATA[task])]
    return _run(*line, *TASKS[task], *options)


def _every_batch_size(folder: Path, output: Path, tensor: int) -> list[dict[str, Any]]:
    results = []
    for size in BATCH_SIZES:
        options = ["--batch-size", str(size), "--tensor-parallel", str(tensor)]
        tables = {task: output / f"{task}-{size}.parquet" for task in TASKS}
        results.append(
            {task: _evaluate(folder, task, *options, "--predictions", str(tables[task])) for task in TASKS}
        )
    return results


@pytest.fixture(scope="module")
def measured(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Any]:
    """By layout: results of each batch size, and the tables of predictions."""
    found = {}
    for data, tensor in LAYOUTS:
        output = tmp_path_factory.mktemp(f"layout-{data}-{tensor}")
        results = run_distributed(_every_batch_size, data * tensor, trained, output, tensor)[0]
        tables = {
            path.stem: pyarrow.parquet.read_table(path).to_pydict() for path in output.glob("*.parquet")
        }
        found[data, tensor] = (results, tables)
    return found


def test_the_same_digits_at_any_batch_size_and_number_of_data_ranks(measured: dict[tuple[int, int], Any]):
    first, tables = measured[1, 1]
    for layout in ((1, 1), (2, 1), (3, 1)):
        results, their_tables = measured[layout]
        assert results == [first[0]] * len(BATCH_SIZES), layout
        assert all(table == tables[f"{name.split('-')[0]}-1"] for name, table in their_tables.items()), layout
    split, their_tables = measured[1, 2]
    assert split == [split[0]] * len(BATCH_SIZES)
    for task, number in (
        ("wikitext103", "perplexity"),
        ("lambada", "last_word_perplexity"),
        ("text", "perplexity"),
    ):
        assert split[0][task][number] == pytest.approx(first[0][task][number], rel=1e-6)
        assert their_tables[f"{task}-7"]["right"] == tables[f"{task}-7"]["right"]


def _loss_by_windows(log_probabilities: Any, ids: list[int], stride: int) -> float:
    """The first window scores all its targets, each later one its last `stride`; the last is cut at the end."""
    loss, scored_to, start = 0.0, 0, 0
    while scored_to < len(ids) - 1:
        window = ids[start : start + LENGTH + 1]
        found = log_probabilities(window[:-1])
        for place in range(len(window) - 1):
            target = start + place + 1
            if target > scored_to:
                loss -= found[place, window[place + 1]]
        scored_to = start + len(window) - 1
        start += stride
    return loss


def _detokenised(text: str) -> str:
    """By the published rules, in their order."""
    text = text.replace("s '", "s'")
    for old, new in (
        (" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", "."), (" : ", ": "), (" ; ", "; "), (" . ", ". "), (" ! ", "! "),
        (" ? ", "? "), (" , ", ", "),
    ):  # fmt: skip
        text = text.replace(old, new)
    text = re.sub(r"\(\s*([^\)]*?)\s*\)", r"(\1)", text)
    text = re.sub(r"\[\s*([^\]]*?)\s*\]", r"[\1]", text)
    text = re.sub(r"{\s*([^}]*?)\s*}", r"{\1}", text)
    text = re.sub(r"\"\s*([^\"]*?)\s*\"", r'"\1"', text)
    text = re.sub(r"'\s*([^']*?)\s*'", r"'\1'", text)
    for old, new in (
        ("= = = =", "===="), ("= = =", "==="), ("= =", "=="), (" ° ", "°"), (" \n", "\n"), ("\n ", "\n"),
        (" N ", " 1 "), (" 's", "'s"),
    ):  # fmt: skip
        text = text.replace(old, new)
    return text


def test_perplexities_are_those_of_plain_loops(trained: Path, measured: dict[tuple[int, int], Any]):
    log_probabilities, encode = reference_model(trained)
    wiki, plain = ((trained / DATA[task]).read_text() for task in ("wikitext103", "text"))
    for layout in LAYOUTS:
        for task, text, ids, words, stride in (
            ("wikitext103", wiki, encode(_detokenised(wiki)), len(wiki.strip().split(" ")), STRIDE),
            ("text", plain, encode(plain), len(plain.split()), LENGTH),
        ):
            loss = _loss_by_windows(log_probabilities, ids, stride)
            result = measured[layout][0][0][task]
            assert result["perplexity"] == pytest.approx(math.exp(loss / (words - 1)), rel=1e-5)
            assert result["token_perplexity"] == pytest.approx(math.exp(loss / (len(ids) - 1)), rel=1e-5)
            assert result["bits_per_byte"] == pytest.approx(loss / math.log(2) / len(text.encode()), rel=1e-6)
            assert (result["original_tokens"], result["tokens"]) == (words, len(ids))


def test_right_passages_are_those_of_plain_loops(trained: Path, measured: dict[tuple[int, int], Any]):
    log_probabilities, encode = reference_model(trained)
    right, last_right, losses = [], [], []
    for line in (trained / DATA["lambada"]).read_text().splitlines():
        text = json.loads(line)["text"]
        last = text.split()[-1]
        target = encode(" " + last)
        context = encode(text[: text.rfind(last)].strip())
        context = (
            context[len(context) + len(target) - LENGTH - 1 :]
            if len(context) + len(target) > LENGTH + 1
            else context
        )
        found = log_probabilities([*context, *target][:-1])[len(context) - 1 :]
        hits = [int(row.argmax()) == token for row, token in zip(found, target, strict=True)]
        right.append(all(hits))
        last_right.append(hits[-1])
        losses.append(-sum(row[token] for row, token in zip(found, target, strict=True)))
    assert 0.1 * PASSAGES < sum(right) < 0.95 * PASSAGES, "the test needs passages of both kinds"
    assert sum(last_right) > sum(right)
    for layout in LAYOUTS:
        results, tables = measured[layout]
        for size, result in zip(BATCH_SIZES, results, strict=True):
            table = tables[f"lambada-{size}"]
            assert table["right"] == right and result["lambada"]["correct"] == sum(right)
            assert table["log_probability"] == pytest.approx([-loss for loss in losses], abs=1e-4)
        assert result["lambada"]["last_token_accuracy"] == sum(last_right) / PASSAGES
        mean = math.fsum(losses) / PASSAGES
        assert result["lambada"]["last_word_perplexity"] == pytest.approx(math.exp(mean), rel=1e-5)


def test_predictions_hold_the_digits_of_the_result(measured: dict[tuple[int, int], Any]):
    (result, *_), tables = measured[1, 1]
    for task in ("wikitext103", "text"):
        table, numbers = tables[f"{task}-1"], result[task]
        assert table["row"] == list(range(1, numbers["tokens"]))
        loss = -math.fsum(table["log_probability"])
        assert math.exp(loss / (numbers["original_tokens"] - 1)) == numbers["perplexity"]
        assert all(
            (target == prediction) or not right
            for target, prediction, right in zip(
                table["target"], table["prediction"], table["right"], strict=True
            )
        )
    table = tables["lambada-1"]
    assert list(table) == ["row", "target", "prediction", "log_probability", "right"]
    assert sum(table["right"]) == result["lambada"]["correct"]
    loss = -math.fsum(table["log_probability"]) / PASSAGES
    assert math.exp(loss) == result["lambada"]["last_word_perplexity"]
    for target, prediction, right in zip(table["target"], table["prediction"], table["right"], strict=True):
        assert (prediction == f" {target}") == right


def _launches(folder: Path, output: Path) -> list[Any]:
    """Single launches and one of all; of an imported copy too, of the plain-text spelling, by the looser rule, bf16."""
    import_model(folder / "model", output / "imported")
    single = [output / "single" / name for name in ("wiki.json", "lambada.json")]
    _evaluate(folder, "wikitext103", "--output", str(single[0]), "--controls")
    _evaluate(folder, "lambada", "--output", str(single[1]), "--controls")
    models = ["--hf", f"theirs={folder / 'model'}", "--checkpoint", str(output / "imported")]
    tasks = [f"{task}={folder / DATA[task]}" for task in ("wikitext103", "lambada")]
    line = ["all", *models, "--tasks", *tasks, "--stride", str(STRIDE), "--controls", "--predictions"]
    everything = _run(*line, "--output", str(output / "all"))
    again = _run(*line, "--output", str(output / "all"))
    refused = _run(*line, "--precision", "bf16", "--output", str(output / "all"))
    plain = _run("lambada", "--hf", str(folder / "model"), "--data", str(folder / "lambada.txt"))
    looser = _evaluate(folder, "lambada", "--last-token", "--predictions", str(output / "last.parquet"))
    narrow = _evaluate(folder, "wikitext103", "--precision", "bf16")
    return [everything, again, refused, plain, looser, narrow]


@pytest.fixture(scope="module")
def launched(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    output = tmp_path_factory.mktemp("launches")
    return output, run_distributed(_launches, 1, trained, output)[0]


def test_several_models_and_tasks_in_one_launch_give_what_single_launches_give(
    launched: tuple[Path, list[Any]],
):
    output, (everything, again, refused, *_) = launched
    assert (
        everything == again
        and [pair["model"] for pair in everything["results"]] == ["theirs"] * 2 + ["imported"] * 2
    )
    for single, task in (("wiki", "wikitext103"), ("lambada", "lambada")):
        alone = (output / "single" / f"{single}.json").read_bytes()
        assert (output / "all" / "theirs" / f"{task}.json").read_bytes() == alone
        imported = json.loads((output / "all" / "imported" / f"{task}.json").read_text())
        theirs = json.loads(alone)
        for result in (imported, theirs):
            del result["asked"]["model"]
        assert imported == theirs, "an imported copy computes the same"
    found = [path.relative_to(output / "all") for path in sorted((output / "all").rglob("*"))]
    names = [path.as_posix() for path in found if not path.name.startswith(".")]  # without the locks
    tables = [f"{task}.{kind}" for task in ("lambada", "wikitext103") for kind in ("json", "parquet")]
    assert names == [
        *("imported", *(f"imported/{t}" for t in tables)),
        "theirs",
        *(f"theirs/{t}" for t in tables),
    ]
    assert "settings.precision was fp32, is bf16" in refused


def test_other_spellings_rules_and_precisions_say_so(
    launched: tuple[Path, list[Any]], measured: dict[tuple[int, int], Any]
):
    output, (*_, plain, looser, narrow) = launched
    wide = measured[1, 1][0][0]
    assert plain["format"] == "plain text" and wide["lambada"]["format"] == "JSON lines"
    for key in ("accuracy", "correct", "total", "last_word_perplexity", "standard_error"):
        assert plain[key] == wide["lambada"][key]
    assert looser["rule"] == "last token" and looser["accuracy"] == wide["lambada"]["last_token_accuracy"]
    table = pyarrow.parquet.read_table(output / "last.parquet").to_pydict()
    assert sum(table["right"]) == looser["correct"] > wide["lambada"]["correct"]
    assert narrow["precision"] == "bf16" and narrow["asked"]["settings"]["precision"] == "bf16"
    assert narrow["perplexity"] != wide["wikitext103"]["perplexity"]
    assert narrow["perplexity"] == pytest.approx(wide["wikitext103"]["perplexity"], rel=0.02)


def _killed(folder: Path, output: Path, files: int) -> None:
    """Ends itself by SIGKILL when so many files of scores are written."""
    core.evaluation._KEPT_SECONDS = 0.0  # a stretch is one batch a rank
    replace = os.replace

    def replaced(source: Any, target: Any) -> None:
        replace(source, target)
        if len(list(output.parent.glob("*.partial/*.npy"))) == files:
            os.kill(os.getpid(), signal.SIGKILL)

    core.files.os.replace = replaced  # type: ignore[attr-defined]
    _evaluate(folder, "wikitext103", "--controls", "--output", str(output))


def _gone_on(folder: Path, output: Path) -> tuple[str, list[str], Any]:
    """Refused with another stride; then what is scored of the rest, once another program lets go of it, and the result."""
    _, data, *rest = ["wikitext103", "wiki.tokens", "--hf", str(folder / "model"), "--output", str(output)]
    refused = _run("wikitext103", "--data", str(folder / data), *rest, "--stride", "4", "--controls")
    scored: list[str] = []
    read = core.evaluation._kept
    held = threading.Event()

    def another() -> None:
        with core.files.exclusive(output.with_name(f".{output.name}")):
            held.set()
            time.sleep(0.5)
            released.set()

    released = threading.Event()
    threading.Thread(target=another).start()
    held.wait()

    def told(*given: Any) -> int:
        assert released.is_set(), "two write one output"
        scored.append(f"{read(*given)} of {len(given[2])}")
        return int(scored[-1].split()[0])

    core.evaluation._kept = told
    return refused, scored, _evaluate(folder, "wikitext103", "--controls", "--output", str(output))


@pytest.mark.parametrize("files", [3, 11])
def test_a_killed_evaluation_goes_on_to_the_same_digits(
    trained: Path, launched: tuple[Path, list[Any]], tmp_path: Path, files: int
):
    output = tmp_path / "result.json"
    with pytest.raises(AssertionError, match="exit code -9"):
        run_distributed(_killed, 1, trained, output, files)
    assert not output.exists()
    refused, scored, result = run_distributed(_gone_on, 1, trained, output)[0]
    assert "settings.stride was 8, is 4" in refused and "what was scored there" in refused
    batches = int(scored[0].split()[-1])
    kept = [int(text.split()[0]) for text in scored]
    assert batches > 3 and kept == ([files, 0] if files < batches else [batches, files - batches])
    assert output.read_bytes() == (launched[0] / "single" / "wiki.json").read_bytes()
    assert result == json.loads(output.read_text())
    assert not list(tmp_path.glob("*.partial"))
