"""`python -m data_pipeline`: a corpus of one's own, the sample's planted defects, and messages for users."""

import json
from pathlib import Path

import pytest
from corpus_files import contents, english, write_jsonl

from data_pipeline.__main__ import main
from data_pipeline.engine.documents import list_shards, read_shard
from data_pipeline.indexed.dataset import IndexedDataset


def build(*arguments: object) -> int:
    return main(["build", *map(str, arguments)])


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "in" / "a.jsonl.gz", [english(seed) for seed in range(20)])
    write_jsonl(tmp_path / "in" / "b.jsonl", [english(3), "short", english(50)])
    return tmp_path / "in"


def test_build_inspect_and_build_again(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (
        "--input",
        inputs / "*",
        "--train-tokenizer",
        "gpt2:400",
        "--output",
        tmp_path / "out",
        "--workers",
        1,
    )
    assert build(*arguments) == 0
    table = capsys.readouterr().out
    assert "1 too_short" in table
    assert "1 exact_duplicate" in table
    assert "in 21 documents" in table
    before = contents(tmp_path / "out")
    assert build(*arguments) == 0
    assert contents(tmp_path / "out") == before
    assert IndexedDataset(tmp_path / "out" / "corpus").documents == 21
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "out"), "--tokenizer", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "21 documents, 21 sequences" in shown
    assert english(0)[:40] in shown


def test_another_setting_makes_only_what_it_changes(inputs: Path, tmp_path: Path) -> None:
    common = ("--input", inputs / "*", "--output", tmp_path / "out", "--workers", 1)
    assert build(*common, "--train-tokenizer", "gpt2:400") == 0
    assert build(*common, "--train-tokenizer", "bert:400") == 0
    stages = tmp_path / "out" / "stages"
    made = {
        stage.name: len([path for path in stage.iterdir() if path.is_dir()])
        for stage in stages.iterdir()
        if stage.is_dir()
    }
    assert made == {"fetch": 1, "clean": 1, "deduplicate": 1, "tokenizer": 2, "sentences": 1, "tokenize": 2}
    assert json.loads((tmp_path / "out" / "corpus.json").read_text())["kind"] == "bert"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--input", "absent/*.jsonl", "--train-tokenizer", "gpt2:400"], "absent/*.jsonl: no such file"),
        (["--input", "{inputs}/*", "--tokenizer", "absent.json"], "absent.json: no such tokenizer"),
        (
            ["--input", "{inputs}/*", "--train-tokenizer", "gpt2:100"],
            "--train-tokenizer.vocabulary_size: must be 300 or more",
        ),
        (["--input", "{inputs}/*", "--train-tokenizer", "gpt2:400", "--benchmark", "x=absent"], "absent"),
        (
            ["--input", "{inputs}/*", "--train-tokenizer", "gpt2:400", "--text-field", "body"],
            "no field 'body'",
        ),
        (
            ["--input", "{inputs}/*", "--train-tokenizer", "gpt2:400", "--minimum-tokens", "9999"],
            "no documents are left",
        ),
    ],
)
def test_what_users_get_wrong_is_one_line(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    filled = [argument.format(inputs=inputs) for argument in arguments]
    assert build(*filled, "--output", tmp_path / "out", "--workers", 1) in (1, 2)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line


def test_all_that_is_wrong_with_the_flags_is_told_at_once(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ("--train-tokenizer", "gpt2:3", "--minimum-tokens", -5, "--ngram", 0, "--threshold", 7)
    assert build("--input", inputs / "*", "--name", "a/b", *line, "--output", tmp_path / "out") == 2
    told = capsys.readouterr().err
    for flag in ("--train-tokenizer.vocabulary_size", "--minimum-tokens", "--ngram", "--threshold", "--name"):
        assert f"{flag}: must be" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--train-tokenizer", "gpt3:7"], ["--benchmark", "path"], []])
def test_usage_errors(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        build("--input", "a", "--output", "b", *arguments)
    assert stopped.value.code == 2


def test_inspect_notices_another_tokenizer(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for size in (300, 500):
        command = ("--input", inputs / "*", "--train-tokenizer", f"gpt2:{size}", "--workers", 1)
        assert build(*command, "--output", tmp_path / str(size)) == 0
    prefix, tokenizer = tmp_path / "500" / "corpus", tmp_path / "300" / "tokenizer.json"
    assert main(["inspect", str(prefix), "--tokenizer", str(tokenizer)]) == 1
    assert "the tokenizer has only 300" in capsys.readouterr().err


def test_every_planted_defect_of_the_sample_is_found_and_no_clean_document_lost(tmp_path: Path) -> None:
    from data_pipeline.sample.files import write_sample

    write_sample(tmp_path / "sample", seed=3, documents=500)
    benchmarks = tmp_path / "sample" / "benchmarks"
    names = ("stories", "articles", "books")
    corpus = [tmp_path / "sample" / "corpus" / f"{name}.jsonl.gz" for name in names]
    options: list[object] = ["--input", *corpus, "--train-tokenizer", "gpt2:1000", "--workers", 1]
    for name, path in (("w", "wikitext103/wiki.test.tokens"), ("l", "lambada_test.jsonl"), ("r", "RACE")):
        options += ["--benchmark", f"{name}={benchmarks / path}"]
    assert build(*options, "--output", tmp_path / "out") == 0
    (directory,) = [path for path in (tmp_path / "out" / "stages" / "deduplicate").iterdir() if path.is_dir()]
    found = [document.id for shard in list_shards(directory) for document in read_shard(shard)]
    kinds: dict[str, str] = {}
    for entry in json.loads((tmp_path / "sample" / "planted.json").read_text()):
        kinds[f"corpus/{entry['file']}/{entry['line']:09d}"] = entry["kind"]
    whole = {name for name in found if "#" not in name}
    cut = {name.split("#")[0] for name in found if "#" in name}
    everything = {
        f"corpus/{name}.jsonl.gz/{line:09d}"
        for name, count in zip(names, (225, 175, 100), strict=True)
        for line in range(1, count + 1)
    }
    must_stay = {name for name in everything if kinds.get(name, "mojibake") == "mojibake"}
    assert whole == must_stay
    assert all(kinds[name].startswith("contains_") for name in cut)
