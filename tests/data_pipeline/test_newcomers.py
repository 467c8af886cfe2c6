"""The newcomer's table in docs/your-files.md: each line typed as it stands gives what it says."""

import json
import re
import shlex
from pathlib import Path

import pytest
from corpus_files import english
from newcomers_inputs import FOLDERS

from data_pipeline.__main__ import main
from data_pipeline.engine.documents import list_shards, read_shard
from data_pipeline.indexed.dataset import IndexedDataset
from data_pipeline.tokenization.tokenizers import load_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "your-files.md"
ROWS = re.findall(
    r"^\| .* \| `python -m data_pipeline (build .*)` \| (\d+) documents \|$", PAGE.read_text(), re.M
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("newcomer")
    for name, write in FOLDERS.items():
        write(made / name)
    return made


def typed(command: str, folder: Path, output: Path) -> list[str]:
    """The texts of the dataset that a line makes."""
    more = ["--train-tokenizer", "gpt2:400", "--output", str(output), "--workers", "1"]
    assert main([*shlex.split(command), *more]) == 0
    dataset, tokenizer = IndexedDataset(output / "corpus"), load_tokenizer(output)
    return [tokenizer.backend.decode(dataset[number][:-1].tolist()) for number in range(dataset.documents)]


def test_the_table_has_what_newcomers_have() -> None:
    assert len(ROWS) == 9


@pytest.mark.parametrize(("command", "documents"), ROWS)
def test_each_line_of_the_table(
    command: str, documents: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    texts = typed(command, folder, tmp_path / "out")
    assert len(texts) == int(documents)
    source = shlex.split(command)[2] if "--input" in command else ""
    expected = {
        "books": english(0),
        "reviews/reviews.csv": f'{english(20)}\n"Good", she said.',
        "forum": f'"Hello" {english(40)}',
        "news": f"{english(60)}\n\n{english(260)}",
        "web": english(80),
        "mixed/**": english(120),
        "mixed": english(100),
        "": english(100),
    }[source]
    assert any(text.strip().startswith(expected) for text in texts), texts[0]


def test_several_corpora_are_deduplicated_together_in_their_order(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And have the keys that a recipe's corpora have."""
    monkeypatch.chdir(tmp_path)
    for name, seeds in {"a": (1, 2), "b": (2, 3)}.items():
        rows = [{"text" if name == "a" else "body": english(seed)} for seed in seeds]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpora = ["--corpus", "second", "paths=b.jsonl", "text_field=body", "--corpus", "first", "paths=a.jsonl"]
    settings = ["--train-tokenizer", "gpt2:400", "--workers", "1", "--runs", "runs"]
    assert main(["build", *corpora, *settings, "--output", "out"]) == 0
    table = capsys.readouterr().out
    assert "fetch second" in table and "clean first" in table and "1 exact_duplicate" in table
    (made,) = [path for path in (tmp_path / "runs/deduplicate").iterdir() if path.is_dir()]
    found = [document.id for shard in list_shards(made) for document in read_shard(shard)]
    assert found == ["second/b.jsonl/000000001", "second/b.jsonl/000000002", "first/a.jsonl/000000001"]

    from recipes.reader import load_recipe
    from workflows.recipe_plan import Plan

    (tmp_path / "own.toml").write_text(
        '[recipe]\nname = "own"\n[[corpora]]\nname = "second"\nsource = "local"\npaths = ["b.jsonl"]\n'
        'text_field = "body"\n[[corpora]]\nname = "first"\nsource = "local"\npaths = ["a.jsonl"]\n'
        "[tokenizers.gpt2]\nvocabulary_size = 400\n"
    )
    from data_pipeline.engine.steps import Store

    step = Plan(load_recipe(str(tmp_path / "own.toml"))).corpus.tokenize("gpt2")
    assert Store(tmp_path / "runs").is_complete(step)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["a"], "--corpus a: needs paths, dataset, preset, urls or source=KIND"),
        (["a", "b.jsonl"], "--corpus a: 'b.jsonl' is not KEY=VALUE"),
        (
            ["a", "paths=x", "txt=word"],
            "--corpus a.txt: must be one of 'file', 'line', 'paragraph', is 'word'",
        ),
        (["a", "paths=x", "limit=many"], "--corpus a.limit: must be of type int, is 'many'"),
        (["a", "paths=x", "field=y"], "--corpus a.field: unknown key, did you mean 'text_field'? (known: "),
        (["a", "preset=books"], "--corpus a: preset: must be one of wikipedia, "),
        (["a/b", "paths=x"], "--corpus a/b.name: must be letters"),
        (["a", "paths=x", "--corpus", "a", "paths=y"], "--corpus: two are called 'a'"),
    ],
)
def test_what_is_wrong_with_a_corpus(
    words: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["build", "--corpus", *words, "--train-tokenizer", "gpt2:400", "--output", str(tmp_path)]
    assert main(command) == 2
    assert problem in capsys.readouterr().err


def test_stages_outputs_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seeds in {"a": (1, 2), "b": (2, 3)}.items():
        lines = "".join(json.dumps({"text": english(seed)}) + "\n" for seed in seeds)
        (tmp_path / f"{name}.jsonl").write_text(lines)
        command = ["clean", "--input", f"{name}.jsonl", "--name", name]
        assert main([*command, "--workers", "1", "--output", f"clean-{name}"]) == 0
    assert main(["dedup", "--input", "clean-b", "clean-a", "--workers", "1", "--output", "both"]) == 0
    found = [document.id for shard in list_shards(tmp_path / "both") for document in read_shard(shard)]
    assert found == ["b/b.jsonl/000000001", "b/b.jsonl/000000002", "a/a.jsonl/000000001"]
