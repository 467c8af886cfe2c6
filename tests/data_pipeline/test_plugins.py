"""A user's own filters and sources, from the command line: several processes, Ray, and keys that know their source."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from corpus_files import contents, english, read_documents, write_jsonl

PLUGIN = """
from dataclasses import dataclass

from data_pipeline.filters import FILTERS
from data_pipeline.sources.source import SOURCES, Source
from {helper} import {word}


def no_ferries(document):
    return {word} not in document.text


@dataclass(frozen=True)
class Poems(Source):
    count: int = 3
    kind = "poems"

    def records(self):
        for number in range(self.count):
            boat = "ferry" if number == 4 else "boat"
            yield {{"text": f"Poem {{number}}. " + f"The {{boat}} crossed the quiet river again. " * 30, "number": number}}


FILTERS.add("no_ferries", no_ferries)
SOURCES.add(Poems.kind, Poems)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    name = f"poems_{os.getpid()}_{abs(hash(tmp_path)) % 10**6}"
    (tmp_path / f"{name}_words.py").write_text('FERRY = "ferry"\n')
    path = tmp_path / f"{name}.py"
    path.write_text(PLUGIN.format(helper=f"{name}_words", word="FERRY"))
    return path


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "data_pipeline", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=200, check=False)


def stages(output: Path, stage: str) -> set[str]:
    return {path.name for path in (output / "stages" / stage).iterdir() if path.is_dir()}


FERRY = (
    "A ferry waited at the quay, and nobody came aboard. " * 20_000
)  # a megabyte: the file is a task alone


def inputs(folder: Path) -> Path:
    return write_jsonl(folder / "in.jsonl", [english(1), FERRY, english(2)])


@pytest.mark.parametrize("options", [("--workers", "1"), ("--workers", "2")], ids=" ".join)
def test_a_filter_of_the_users_drops_documents_under_its_name(
    tmp_path: Path, plugin: Path, options: tuple[str, str]
) -> None:
    files = [inputs(tmp_path / name) for name in ("a", "b")]
    result = command(
        *("clean", "--input", *files, "--plugin", plugin, "--filters", "no_ferries"),
        *("--output", tmp_path / "out", *options),
    )
    assert result.returncode == 0, result.stderr
    assert [document.text for document in read_documents(tmp_path / "out")] == [english(1), english(2)] * 2
    assert "2 no_ferries" in result.stdout
    assert len(list((tmp_path / "out").glob("documents-*.parquet"))) == 2
    dropped = (tmp_path / "out" / "dropped" / "documents-00000.jsonl").read_text()
    assert json.loads(dropped)["reason"] == "no_ferries"


def test_editing_the_plugin_or_what_it_imports_changes_the_key(tmp_path: Path, plugin: Path) -> None:
    line = ("clean", "--input", inputs(tmp_path), "--output", tmp_path / "out", "--workers", "1")
    filtered = (*line, "--plugin", plugin, "--filters", "no_ferries")
    assert command(*filtered).returncode == 0
    first = stages(tmp_path / "out", "clean")
    assert command(*filtered).returncode == 0
    assert stages(tmp_path / "out", "clean") == first
    words = plugin.with_name(f"{plugin.stem}_words.py")
    words.write_text('FERRY = "miller"\n')
    assert command(*filtered).returncode == 0
    second = stages(tmp_path / "out", "clean")
    assert len(second) == 2
    assert len(stages(tmp_path / "out", "fetch")) == 1
    assert command(*line, "--plugin", plugin).returncode == 0  # a plug-in that the stage does not use
    plugin.write_text(plugin.read_text() + "\n# changed\n")
    assert command(*line, "--plugin", plugin).returncode == 0
    assert len(stages(tmp_path / "out", "clean")) == 3


@pytest.mark.parametrize("options", [("--workers", "2"), ("--ray", "local")], ids=" ".join)
def test_a_source_of_the_users_is_built_like_any_other(
    tmp_path: Path, plugin: Path, options: tuple[str, str]
) -> None:
    """And a filter of theirs finds one of its documents."""
    line = ("build", "--source", "poems", "count=5", "--plugin", plugin, "--train-tokenizer", "gpt2:300")
    line += ("--filters", "no_ferries", "--threshold", "1", "--output", tmp_path / "out")
    result = command(*line, *options)
    assert result.returncode == 0, result.stderr
    assert "1 no_ferries" in result.stdout
    assert json.loads((tmp_path / "out" / "corpus.json").read_text())["documents"] == 4
    (fetched,) = (path for path in (tmp_path / "out" / "stages" / "fetch").iterdir() if path.is_dir())
    assert [json.loads(document.metadata) for document in read_documents(fetched)] == [
        {"number": number} for number in range(5)
    ]
    before = contents(tmp_path / "out")
    again = command(*line, "--workers", "1")
    assert again.stderr.count("there already") == 5
    assert contents(tmp_path / "out") == before


def test_what_users_get_wrong_about_plugins_is_one_line(tmp_path: Path, plugin: Path) -> None:
    line = ("clean", "--input", inputs(tmp_path), "--output", tmp_path / "out", "--plugin", plugin)
    unknown = command(*line, "--filters", "no_ferry")
    assert unknown.returncode == 2
    assert "--filters: no plug-in adds one called 'no_ferry' (there are: blocklist, c4, " in unknown.stderr
    assert ", no_ferries)" in unknown.stderr
    plugin.write_text("import nothing_of_the_kind\n")
    broken = command(*line)
    assert broken.returncode == 1
    assert "the plug-in cannot be imported (ModuleNotFoundError" in broken.stderr
    assert "Traceback" not in broken.stderr
    plugin.write_text("import sys\nsys.exit(3)\n")
    ended = command(*line)
    assert ended.returncode == 1
    assert "the plug-in cannot be imported (SystemExit: 3)" in ended.stderr
    absent = command(*line[:-1], tmp_path / "absent.py")
    assert "absent.py: no such plug-in file" in absent.stderr
