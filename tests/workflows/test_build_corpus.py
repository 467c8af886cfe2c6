"""`BuildCorpus --corpus`: from text files to indexed datasets and the funnel, once."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_layout import write_hub_split

from core.errors import UserError
from data_pipeline.engine.integrity import artifact_folders
from data_pipeline.indexed.dataset import IndexedDataset
from workflows import BuildCorpus
from workflows.corpus_report import CorpusReport
from workflows.latest import set_link
from workflows.noted import noted
from workflows.stage import walk

_WORDS = [
    "the",
    "old",
    "ferryman",
    "walked",
    "along",
    "a",
    "quiet",
    "river",
    "and",
    "told",
    "his",
    "friends",
    "about",
    "many",
    "ships",
    "that",
    "had",
    "come",
    "home",
]


def _luigi(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "luigi", "--module", "workflows", "BuildCorpus", "--cpu-workers", "1"]
    return subprocess.run(
        [*command, "--runs", str(tmp_path / "runs"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    draw = random.Random(1)
    texts = [" ".join(draw.choice(_WORDS) for _ in range(300)) + "." for _ in range(30)]
    lines = [json.dumps({"text": text}) for text in [*texts, texts[4], "too short"]]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "my.toml").write_text(
        '[recipe]\nname = "mine"\n[[corpora]]\nname = "tales"\nsource = "local"\npaths = ["mine.jsonl"]\n'
        "[tokenizers.gpt2]\nvocabulary_size = 300\n[deduplicate]\nthreshold = 0.95\n"
    )
    return tmp_path / "my.toml"


def test_a_corpus_of_ones_own(tmp_path: Path, corpus: Path) -> None:
    first = _luigi(tmp_path, "--corpus", str(corpus))
    assert first.returncode == 0, first.stdout + first.stderr
    page = tmp_path / "runs" / "latest" / "mine-corpus" / "funnel.txt"
    assert str(page) in first.stdout
    funnel = json.loads(page.with_name("funnel.json").read_text())
    assert [(row["stage"], row["documents"]) for row in funnel["totals"]] == [
        ("fetch", 32),
        ("clean", 31),
        ("deduplicate", 30),
    ]
    assert funnel["stages"]["deduplicate mine"]["dropped"] == {"exact_duplicate": 1}
    table = page.read_text()
    assert "1 too_short" in table
    assert list(noted(tmp_path / "runs")) == [str(corpus)], "what `gc` takes for wanted"
    data = page.with_name("data.html").read_text()
    assert "Dropped by clean tales" in data and "too short</blockquote>" in data
    prefix = next(word for word in table.split() if word.endswith("corpus.bin")).removesuffix(".bin")
    assert IndexedDataset(tmp_path / "runs" / prefix).documents == 30

    again = _luigi(tmp_path, "--corpus", str(corpus))
    assert again.returncode == 0
    assert "nothing to run" in again.stdout


def test_an_absent_corpus_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    result = _luigi(tmp_path, "--corpus", "absent.toml")
    assert result.returncode == 2
    assert "absent.toml: no such recipe" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_the_funnel_says_what_stands_in_for_the_papers_corpus(tmp_path: Path, corpus: Path) -> None:
    rows = [json.loads(line) for line in (tmp_path / "mine.jsonl").read_text().splitlines()]
    write_hub_split(tmp_path / "news", "train", rows)
    text = corpus.read_text().replace('source = "local"\npaths = ["mine.jsonl"]', 'preset = "realnews"')
    text = text.replace('"realnews"', '"realnews"\ndataset = "news"\nconfiguration = ""\nexpected_rows = 32')
    corpus.write_text(text)
    result = _luigi(tmp_path, "--corpus", str(corpus))
    assert result.returncode == 0, result.stdout + result.stderr
    page = (tmp_path / "runs" / "latest" / "mine-corpus" / "funnel.txt").read_text()
    assert "tales: news; licence ODC-BY 1.0" in page
    assert "differs from the paper's: C4 restricted to RealNews' sites" in page


def _build(tmp_path: Path, output: str, *arguments: str) -> str:
    """`python -m data_pipeline build` with the settings of the recipe; what it says of its steps."""
    command = [sys.executable, "-m", "data_pipeline", "build", "--input", "mine.jsonl", "--name", "tales"]
    command += ["--train-tokenizer", "gpt2:300", "--threshold", "0.95", "--workers", "1", "--output", output]
    result = subprocess.run(
        [*command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stderr


def test_a_workflow_makes_nothing_again_that_the_command_built(tmp_path: Path, corpus: Path) -> None:
    assert "there already" not in _build(tmp_path, "out", "--runs", "runs")
    built = (tmp_path / "out" / "corpus.bin").read_bytes()
    result = _luigi(tmp_path, "--corpus", str(corpus))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 stage run, 5 already done" in result.stdout  # the funnel's page
    (tokens,) = (tmp_path / "runs").glob("tokenize/*/corpus.bin")
    assert tokens.read_bytes() == built


def test_the_command_makes_nothing_again_that_a_workflow_made(tmp_path: Path, corpus: Path) -> None:
    assert _luigi(tmp_path, "--corpus", str(corpus)).returncode == 0
    assert _build(tmp_path, "out", "--runs", "runs").count("there already") == 5
    assert IndexedDataset(tmp_path / "out" / "corpus").documents == 30
    assert _build(tmp_path, "other", "--runs", "runs", "--minimum-tokens", "64").count("there already") == 1


PLUGIN = """
from dataclasses import dataclass

from data_pipeline.filters import FILTERS
from data_pipeline.sources.source import SOURCES, Source


@dataclass(frozen=True)
class Numbered(Source):
    path: str = ""
    kind = "numbered"
    needed = "path"
    own_paths = ("path",)

    def files(self):
        from pathlib import Path

        return {"file": Path(self.path)}

    def records(self):
        for number, line in enumerate(open(self.path)):
            yield {"text": line.strip(), "number": number}


def even_length(document):
    return len(document.text) % 2 == 0


SOURCES.add(Numbered.kind, Numbered)
FILTERS.add("even_length", even_length)
"""


def test_a_recipe_takes_a_filter_and_a_source_of_a_plugin_and_knows_its_source(tmp_path: Path) -> None:
    draw = random.Random(2)
    texts = [" ".join(draw.choice(_WORDS) for _ in range(200)) for _ in range(20)]
    (tmp_path / "lines.txt").write_text("\n".join(texts) + "\n")
    plugin = tmp_path / f"numbered_{tmp_path.name}.py".replace("-", "_")
    plugin.write_text(PLUGIN)
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        f'plugins = ["{plugin.name}"]\n[recipe]\nname = "own"\n[[corpora]]\nname = "lines"\nsource = "numbered"\n'
        'path = "lines.txt"\n[clean]\nfilters = ["even_length"]\n[tokenizers.gpt2]\nvocabulary_size = 300\n'
    )
    first = _luigi(tmp_path, "--corpus", str(recipe))
    assert first.returncode == 0, first.stdout + first.stderr
    funnel = json.loads((tmp_path / "runs" / "latest" / "own-corpus" / "funnel.json").read_text())
    odd = sum(len(text) % 2 for text in texts)
    assert 0 < odd < 20
    assert funnel["stages"]["clean lines"]["dropped"] == {"even_length": odd}
    plugin.write_text(PLUGIN.replace("% 2 == 0", "% 2 == 1"))
    second = _luigi(tmp_path, "--corpus", str(recipe))
    assert "6 stages run, 0 already done" in second.stdout, second.stdout + second.stderr
    funnel = json.loads((tmp_path / "runs" / "latest" / "own-corpus" / "funnel.json").read_text())
    assert funnel["stages"]["clean lines"]["dropped"] == {"even_length": 20 - odd}


def test_what_is_set_is_set_in_the_corpus_recipe(corpus: Path) -> None:
    task = BuildCorpus(corpus=str(corpus), set="corpora.tales.limit=10")
    assert [one.limit for one in task.settings.corpora] == [10]
    assert [stage.settings.corpora[0].limit for stage in walk(task)] == [10] * 6


def test_a_folder_without_a_file_to_read_is_one_line(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nothing").mkdir()
    corpus.write_text(corpus.read_text().replace("mine.jsonl", "nothing"))
    with pytest.raises(SystemExit) as ended:
        CorpusReport(recipe=str(corpus), runs=str(tmp_path / "runs")).complete()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"CorpusReport: {tmp_path / 'nothing'}: no file of a known kind")


def test_a_copy_that_followed_links_is_as_good(tmp_path: Path) -> None:
    output, link = tmp_path / "corpus" / "mine-0123456789ab", tmp_path / "latest" / "mine-corpus"
    for folder in (output, link):
        (folder / "data").mkdir(parents=True)
        (folder / "manifest.json").write_text('{"of": "both"}')
    assert list(artifact_folders(tmp_path)) == [output]
    set_link(link, output, Path("my.toml"))
    assert link.is_symlink() and link.resolve() == output
    for name in ("notes.txt", "manifest.json"):  # one more file, one that was changed
        link.unlink() if link.is_symlink() else shutil.rmtree(link)
        shutil.copytree(output, link)
        (link / name).write_text("mine")
        with pytest.raises(UserError, match=r"mine-corpus: is no link.*move it away"):
            set_link(link, output, Path("my.toml"))
        assert (link / name).read_text() == "mine"
