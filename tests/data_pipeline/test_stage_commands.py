"""The commands of single stages: each alone, each on the output of another, and the same bytes as the whole chain."""

import json
from pathlib import Path

import pytest
from corpus_files import contents, english, read_documents, write_jsonl
from hub_layout import stay_offline, write_hub_split
from unreliable_server import Remote, serve

from data_pipeline.__main__ import main
from data_pipeline.indexed.dataset import IndexedDataset

_ROW = "Nobody on the quay had expected that the old ferryman would ever give away his brass lantern"


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    texts = [english(seed) for seed in range(12)]
    write_jsonl(tmp_path / "in.jsonl", [*texts, english(3), "short", f"{english(40)} {_ROW} {english(41)}"])
    write_jsonl(tmp_path / "lambada.jsonl", [_ROW])
    return tmp_path / "in.jsonl"


def test_stages_by_hand_give_what_build_gives(inputs: Path, tmp_path: Path) -> None:
    benchmark = f"lambada={tmp_path / 'lambada.jsonl'}"
    run("build", "--input", inputs, "--benchmark", benchmark, "--train-tokenizer", "bert:400",
        "--output", tmp_path / "whole", "--workers", 1)  # fmt: skip
    run("clean", "--input", inputs, "--output", tmp_path / "clean")
    run(
        "decontaminate",
        "--input",
        tmp_path / "clean",
        "--benchmark",
        benchmark,
        "--output",
        tmp_path / "apart",
    )
    run("dedup", "--input", tmp_path / "apart", "--output", tmp_path / "dedup")
    run("train-tokenizer", "bert:400", "--input", tmp_path / "dedup", "--output", tmp_path / "tokenizer")
    run("tokenize", "--input", tmp_path / "dedup", "--tokenizer", tmp_path / "tokenizer" / "tokenizer.json",
        "--output", tmp_path / "tokens")  # fmt: skip
    for name in ("corpus.bin", "corpus.idx", "corpus.json", "tokenizer.json"):
        assert (tmp_path / "tokens" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_an_option_given_twice_names_more_inputs(inputs: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "more.jsonl", [english(seed) for seed in range(60, 63)])
    run("clean", "--input", inputs, "--input", tmp_path / "more.jsonl", "--output", tmp_path / "both")
    run("clean", "--input", inputs, tmp_path / "more.jsonl", "--output", tmp_path / "at_once")
    assert len(read_documents(tmp_path / "both")) == 14 + 3
    assert read_documents(tmp_path / "both") == read_documents(tmp_path / "at_once")


def test_outputs_hold_what_was_dropped_and_why(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("clean", "--input", inputs, "--output", tmp_path / "clean")
    assert "1 too_short" in capsys.readouterr().out
    run("dedup", "--input", tmp_path / "clean", "--output", tmp_path / "dedup")
    assert "1 exact_duplicate" in capsys.readouterr().out
    (cluster,) = (tmp_path / "dedup" / "clusters.jsonl").read_text().splitlines()
    assert json.loads(cluster)["removed"] == {"corpus/in.jsonl/000000013": "exact_duplicate"}
    funnel = json.loads((tmp_path / "dedup" / "funnel.json").read_text())
    assert (funnel["deduplicate"]["documents_in"], funnel["deduplicate"]["documents"]) == (14, 13)
    dropped = (tmp_path / "clean" / "dropped" / "documents-00000.jsonl").read_text()
    assert json.loads(dropped) == {"id": "corpus/in.jsonl/000000014", "reason": "too_short"}


def test_another_setting_replaces_the_output(inputs: Path, tmp_path: Path) -> None:
    output = tmp_path / "dedup"
    run("dedup", "--input", inputs, "--output", output)
    before = contents(output)
    assert len(read_documents(output)) == 14
    run("dedup", "--input", inputs, "--output", output, "--threshold", 0.05, "--shingle-size", 2)
    assert len(read_documents(output)) < 14
    run("dedup", "--input", inputs, "--output", output)
    assert {name: digest for name, digest in contents(output).items() if name in before} == before


def test_merge_joins_corpora_of_one_tokenizer(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, kind in (("one", "gpt2:400"), ("other", "gpt2:400"), ("bert", "bert:400")):
        run("tokenize", "--input", inputs, "--train-tokenizer", kind, "--output", tmp_path / name)
    run("merge", tmp_path / "one", tmp_path / "other" / "corpus", "--output", tmp_path / "both")
    assert IndexedDataset(tmp_path / "both" / "corpus").documents == 30
    one, both = (json.loads((tmp_path / name / "corpus.json").read_text()) for name in ("one", "both"))
    assert both == {**one, "documents": 30, "sequences": 30, "tokens": 2 * one["tokens"]}
    command = ["merge", str(tmp_path / "one"), str(tmp_path / "bert"), "--output", str(tmp_path / "mixed")]
    assert main(command) == 1
    assert "tokenized with the same tokenizer" in capsys.readouterr().err
    assert not (tmp_path / "mixed").exists()


def test_rows_of_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stay_offline(monkeypatch, tmp_path / "cache")
    rows = [{"body": english(seed), "title": "abcde"[seed]} for seed in range(5)]
    write_hub_split(tmp_path / "tales" / "data", "validation", rows)
    run("clean", "--dataset", f"{tmp_path / 'tales'}::validation", "--text-field", "body",
        "--output", tmp_path / "out", "--workers", 1)  # fmt: skip
    documents = read_documents(tmp_path / "out")
    assert [document.text for document in documents] == [english(seed) for seed in range(5)]
    assert json.loads(documents[2].metadata) == {"title": "c"}


def test_a_file_on_the_web_stays_what_it_was_at_first(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(Remote(inputs.read_bytes(), troubles=["500", "break"])) as remote:
        command = ["dedup", "--url", remote.url, "--output", str(tmp_path / "out"), "--workers", "1"]
        assert main(command) == 0
        assert len(read_documents(tmp_path / "out")) == 14
        remote.content = b'{"text": "something else"}\n'
        asked = len(remote.requests)
        assert main([*command, "--threshold", "0.9"]) == 0  # the fetched documents are there already
        assert len(remote.requests) == asked
        capsys.readouterr()
        assert main([*command, "--on-bad-file", "keep"]) == 1
        assert "the remote file changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command, message",
    [
        (["merge", "absent", "--output", "out"], "absent.idx: cannot be opened"),
        (["clean", "--input", "absent/*.jsonl", "--output", "out"], "absent/*.jsonl: no such file"),
        (
            [
                "decontaminate",
                "--input",
                "{inputs}",
                "--output",
                "out",
                "--benchmark",
                "x=a.jsonl",
                "--benchmark",
                "x=b.jsonl",
            ],
            "a name is given twice",
        ),
        (["dedup", "--input", "{inputs}", "--output", "out", "--threshold", "2"], "--threshold: must be"),
        (
            ["dedup", "--input", "{inputs}", "--output", "out", "--shingle-size", "101"],
            "--shingle-size: must be from 1 to 100",
        ),
        (["clean", "--input", "{inputs}", "--output", "out", "--ray", "127.0.0.1:9"], "cannot be reached"),
        (
            ["clean", "--input", "{inputs}", "--output", "out", "--revision", "v2"],
            "--revision: only with --dataset",
        ),
    ],
)
def test_errors_are_one_line(
    inputs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([part.format(inputs=inputs) for part in command]) in (1, 2)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
