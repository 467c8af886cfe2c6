"""`init`: what files hold is guessed, and the recipe that is written is sound as it is; files that cannot be used are named
with the remedy. (That such a recipe runs is shown by docs/your-own-text.md, which is executed.)"""

import csv
import gzip
import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import ConfigurationError, UserError
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.sources.found_files import find_files
from data_pipeline.sources.local import fetch_local
from recipes.reader import load_recipe
from workflows.init import write_recipe

REAL = os.environ.get("REAL_DATA", "")
ENGLISH = """the old ferryman walked along a quiet river and told his friends about many ships that had come home with salt
bread from towns behind the mountain where nobody had seen snow"""
GERMAN = """die alte Brücke führte über den Fluss und niemand wusste wer sie gebaut hatte als der Müller mit seinem Esel in
die Stadt kam um dort Mehl gegen Salz zu tauschen"""


def text(words: int, seed: int = 0, of: str = ENGLISH) -> str:
    draw = random.Random(f"{words} {seed}")
    return " ".join(" ".join(draw.choices(of.split(), k=12)).capitalize() + "." for _ in range(words // 12))


def lines(rows: list) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def table(path: Path, columns: list[str], rows: list[list]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerows([columns, *rows])


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds, usable and not."""
    folder = tmp_path_factory.mktemp("texts")
    for name in ("books", "mixed"):
        (folder / name).mkdir()
        for number in range(8):
            book = "\n\n".join(text(72, 100 * number + part) for part in range(10))
            (folder / name / f"book {number}.txt").write_text(book)
        (folder / name / "README").write_text("about")
    reviews = [[number, "A title", text(120, number), 5] for number in range(60)]
    table(folder / "reviews.csv", ["id", "title", "review", "stars"], reviews)
    table(folder / "mixed" / "reviews.csv", ["id", "title", "review", "stars"], reviews[:20])
    table(folder / "forum.tsv", ["user", "post"], [[f"u{number}", text(96, number)] for number in range(50)])
    nested = [
        {"url": "http://a", "article": {"title": text(12, n), "paragraphs": [{"text": text(60, n)}, {"text": text(60, -n)}]}}
        for n in range(50)
    ]  # fmt: skip
    (folder / "news.jsonl").write_bytes(lines(nested))
    (folder / "list.json").write_text(json.dumps([{"x": 1, "body": text(120, n)} for n in range(50)]))
    (folder / "packed.jsonl.gz").write_bytes(
        gzip.compress(lines([{"content": text(120, n)} for n in range(50)]))
    )
    columns = {
        "html": ["<p>"] * 60,
        "prose": [text(120, n) for n in range(60)],
        "picture": [b"\x00\xff"] * 60,
    }
    pq.write_table(pa.table(columns), folder / "web.parquet")
    (folder / "stories.txt").write_text("\n".join(text(120, n) for n in range(60)))
    (folder / "novel.txt").write_text(
        "\n".join(text(12, n) + ("\n" if n % 9 == 0 else "") for n in range(300))
    )
    (folder / "deutsch.txt").write_text("\n\n".join(text(96, n, GERMAN) for n in range(30)))
    (folder / "odd [1].txt").write_text(text(2400))
    (folder / "tweets.csv").write_text("id,tweet\n" + "".join(f"{n},{text(12, n)}\n" for n in range(300)))
    return folder


# files: the settings of the source, documents there are, language, shortest document kept (at least, at most)
KINDS = {
    "books": ("text", [], "paragraph", 80, "en", 80, 128),
    "reviews.csv": ("review", [], "file", 60, "en", 128, 128),
    "forum.tsv": ("post", [], "file", 50, "en", 120, 128),
    "news.jsonl": ("article.paragraphs[].text", [], "file", 50, "en", 128, 128),
    "list.json": ("body", [], "file", 50, "en", 128, 128),
    "packed.jsonl.gz": ("content", [], "file", 50, "en", 128, 128),
    "web.parquet": ("prose", [], "file", 60, "en", 128, 128),
    "stories.txt": ("text", [], "line", 60, "en", 128, 128),
    "novel.txt": ("text", [], "paragraph", 35, "en", 10, 128),
    "deutsch.txt": ("text", [], "paragraph", 30, "de", 100, 128),
    "odd [1].txt": ("text", [], "file", 1, "en", 128, 128),
    "tweets.csv": ("tweet", [], "file", 300, "en", 10, 17),
    "mixed": ("review", [], "paragraph", 100, "en", 80, 128),
    "reviews.csv forum.tsv list.json": ("review", ["*.tsv*=post", "*.json*=body"], "file", 160, "en", 100, 128),
}  # fmt: skip


@pytest.mark.parametrize("files", KINDS)
def test_a_recipe_for_each_kind_of_file(
    files: str, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(texts)
    named = [files] if (texts / files).exists() else files.split()
    told = write_recipe(named, tmp_path / "my.toml", tmp_path / "runs")
    recipe = load_recipe(str(tmp_path / "my.toml"))
    (source,) = recipe.corpora
    text_field, text_fields, txt, documents, language, least, most = KINDS[files]
    assert (source.text_field, source.text_fields, source.txt) == (text_field, text_fields, txt)
    assert least <= recipe.cleaning.minimum_tokens <= most
    assert (recipe.cleaning.language, recipe.cleaning.language_share) == (language, 0.5)
    counts = fetch_local(source, find_files(source.paths), tmp_path / "fetched", executor=LocalExecutor(1))
    assert (counts["documents"], counts["quarantined"]) == (documents, 0)
    assert f"{tmp_path / 'my.toml'}" in told
    written = (tmp_path / "my.toml").read_text()
    assert all(
        word in written for word in ("# what of a .txt file", "# Written by", "luigi --module workflows")
    )
    model = recipe.models["small"]
    assert model.training.warmup_steps < model.training.steps <= 1200
    if model.training.validation_interval:
        assert documents >= 100
    if "text" in recipe.benchmarks:
        held_out = Path(recipe.benchmarks["text"].path)
        assert held_out == tmp_path / "my-held-out.txt" and len(held_out.read_text()) >= 1000


REFUSED = {
    "nothing.txt": (None, "nothing.txt: no such file or folder"),
    "no/*.txt": (None, "no such file"),
    "empty.txt": (b"", "empty.txt: no text: nothing is in it"),
    "blank.txt": (b" \n\n\t\n", "blank.txt: no text: nothing is in it"),
    "header.csv": (b"id,text\n", "header.csv: no text: nothing is in it"),
    "tiny.txt": (b"Hello there.", "12 characters of text, too few to learn from"),
    "numbers.csv": (b"id,price,code\n" + b"1,2.5,AB1\n" * 50, "no field looks like text (there are: id, price, code); name the one to take with --text-field"),
    "numbers.jsonl": (lines([{"a": 1, "b": [2]}] * 9), "no field looks like text (there are: a, b)"),
    "scalars.jsonl": (b"1\n2\n", "line 1: not a JSON object but a int"),
    "broken.json": (b'{"a": 1', "broken.json: cannot be read as its name says (json)"),
    "cut.jsonl.gz": (gzip.compress(lines([{"text": text(120, n)} for n in range(90)]))[:400], "cannot be read as its name says (jsonl)"),
    "plain.jsonl.gz": (b"plain", "cannot be read as its name says (jsonl): Not a gzipped file"),
    "plain.parquet": (b"plain", "cannot be read as its name says (parquet)"),
    "page.pdf": (b"%PDF", "page.pdf: unknown kind of file"),
    "latin.txt": ("Über die Brücke. ".encode("latin-1") * 400, "invalid UTF-8 at byte 0; is it of another encoding? iconv"),
    "latin.csv": (b"id,text\n" + b"1,\xdcber die alte Br\xfccke und weiter nach Hause\n" * 200, "latin.csv, line 2: invalid UTF-8"),
    "wide.txt": ("Hello there. " * 300).encode("utf-16"), "zipped.txt": (gzip.compress(b"x" * 99), "is compressed: let its name end in .gz"),
    "semicolons.csv": (b"id;text\n" + b"1;the old ferryman walked along a quiet river\n" * 90, "separated by ';'"),
    "quoted.csv": (b'"id";"text"\n' + b'"1";"the old ferryman, who walked along a quiet river"\n' * 90, "separated by ';'"),
    "commas.csv": (b"id;text\n" + b"1;the old ferryman, who walked along a quiet river\n" * 90, "separated by ';'"),
    "twice.csv": (b"text,text,id\n" + b"the old ferryman walked along a quiet river,b,1\n" * 90, "columns 1 and 2 are called 'text'"),
    "document.csv": (b'"' + text(240).encode() + b'",1\n' + b"the old ferryman walked along a quiet river,1\n" * 90, "its first row does not look like the names of columns, it holds"),
    "numbered.csv": (b"0,Short one,5\n" + b"1,the old ferryman walked along a quiet river,5\n" * 90, "it holds '0': write a first line with the columns' names above it; if these are their names, say which is the text with --text-field"),
    "dots.csv": (b"id,Comment.\n" + b"1,the old ferryman walked along a quiet river\n" * 90, "is called 'Comment.', and a name with such dots or brackets is taken for a path"),
    "half.jsonl": (b'{"text": "' + text(240).encode() + b'"}\n{bad\n', None),
    "$HOME.txt": (text(2400).encode(), "would take what is behind $ for a variable"),
}  # fmt: skip
REFUSED["wide.txt"] = (REFUSED["wide.txt"], "is UTF-16 text: make it UTF-8")
REFUSED["half.jsonl"] = (
    REFUSED["half.jsonl"][0] * 300,
    "40 of 80 records that were looked at cannot be used",
)


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_cannot_be_used(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content, problem = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        write_recipe([name], Path("my.toml"), Path("runs"))
    assert problem in str(caught.value)
    assert not list(tmp_path.glob("*my*"))


def test_an_empty_file_among_others_is_named(texts: Path, tmp_path: Path):
    (tmp_path / "empty.txt").write_bytes(b"")
    told = write_recipe(
        [str(texts / "books"), str(tmp_path / "empty.txt")], tmp_path / "my.toml", tmp_path / "runs"
    )
    assert "without text: " in told and "empty.txt" in told


def test_a_named_field_is_taken(texts: Path, tmp_path: Path):
    write_recipe([str(texts / "tweets.csv")], tmp_path / "my.toml", tmp_path / "runs", "tweet")
    assert load_recipe(str(tmp_path / "my.toml")).corpora[0].text_field == "tweet"
    with pytest.raises(UserError, match=r"no column 'twit', only \['id', 'tweet'\]|no field 'twit'"):
        write_recipe([str(texts / "tweets.csv")], tmp_path / "other.toml", tmp_path / "runs", "twit")


def test_a_named_field_is_taken_from_a_first_row_that_looks_like_a_record(tmp_path: Path):
    """Whoever names it says that they are names; but one that a recipe cannot hold is refused before it is written."""
    rows = [[number, text(120, number), 2019] for number in range(60)]
    table(tmp_path / "counted.csv", ["", "0", "1"], rows)
    write_recipe([str(tmp_path / "counted.csv")], tmp_path / "my.toml", tmp_path / "runs", "0")
    assert load_recipe(str(tmp_path / "my.toml")).corpora[0].text_field == "0"
    table(tmp_path / "dots.csv", ["id", "Comment.", "year"], rows)
    with pytest.raises(UserError, match=r"dots\.csv: the field of the text is called 'Comment\.'"):
        write_recipe([str(tmp_path / "dots.csv")], tmp_path / "no.toml", tmp_path / "runs", "Comment.")
    assert not list(tmp_path.glob("no*"))


def test_nothing_is_written_over(texts: Path, tmp_path: Path):
    files, runs = [str(texts / "reviews.csv")], tmp_path / "runs"
    (tmp_path / "my.toml").write_text("mine")
    (tmp_path / "other-held-out.txt").write_text("mine")
    for output, problem in (("my.toml", "is there already"), ("other.toml", "other-held-out.txt: is there already"), ("no/my.toml", "there is no folder")):  # fmt: skip
        with pytest.raises(UserError, match=problem):
            write_recipe(files, tmp_path / output, runs)
    for output in ("my", "my.txt", "a b.toml", ".toml"):
        with pytest.raises(ConfigurationError, match="it names the recipe"):
            write_recipe(files, tmp_path / output, runs)
    assert (tmp_path / "my.toml").read_text() == (tmp_path / "other-held-out.txt").read_text() == "mine"
    assert not (tmp_path / "other.toml").exists()


def test_in_the_folder_of_the_texts_neither_artifacts_nor_what_is_held_out_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(
            "\n\n".join(text(96, 10 * number + part) for part in range(20))
        )
    (tmp_path / "sub [2]").mkdir()
    (tmp_path / "sub [2]" / "more.JSONL").write_bytes(lines([{"text": text(120, n)} for n in range(9)]))
    (tmp_path / "runs" / "fetch").mkdir(parents=True)
    (tmp_path / "runs" / "fetch" / "made.txt").write_text(text(240))
    write_recipe(["."], Path("my.toml"), Path("runs"))
    recipe = load_recipe(str(tmp_path / "my.toml"))
    assert Path(recipe.benchmarks["text"].path).name == ".my-held-out.txt"
    assert set(find_files(recipe.corpora[0].paths)) == {"0.txt", "1.txt", "2.txt", "sub [2]/more.JSONL"}


def test_what_is_held_out_is_a_part_of_one_document_or_some_of_many_and_nothing_that_others_have(
    tmp_path: Path,
):
    """Decontamination cuts it out of the corpus, which must not be left empty."""
    boilerplate = (
        "This page may be shared by everybody who names the town and the year in which it was written."
    )
    rows = [{"text": f"{boilerplate}\n{text(240, n)}"} for n in range(60)]
    (tmp_path / "pages.jsonl").write_bytes(lines(rows))
    (tmp_path / "line.txt").write_text(text(6000))
    (tmp_path / "same.jsonl").write_bytes(lines([{"text": text(240)}] * 60))
    for name in ("pages.jsonl", "line.txt", "same.jsonl"):
        write_recipe([str(tmp_path / name)], tmp_path / f"{name[:4]}.toml", tmp_path / "runs")
    held_out = (tmp_path / "page-held-out.txt").read_text()
    assert boilerplate not in held_out
    assert 2 <= sum(row["text"].split("\n")[1] in held_out for row in rows) < 20
    end = (tmp_path / "line-held-out.txt").read_text().strip()
    assert text(6000).endswith(f" {end}") and 1000 < len(end) < 0.06 * len(text(6000))
    assert not (tmp_path / "same-held-out.txt").exists()
    assert load_recipe(str(tmp_path / "same.toml")).models["small"].training.validation_interval == 0


def test_a_name_that_is_no_word_is_written_as_toml_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    name = 'we"ird\n [recipe] \\x.txt'
    (tmp_path / name).write_text(text(2400))
    write_recipe([name], Path("my.toml"), Path("runs"))
    assert set(find_files(load_recipe(str(tmp_path / "my.toml")).corpora[0].paths)) == {name}


def test_the_template_is_a_recipe(texts: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LOCAL_TEXTS", raising=False)
    with pytest.raises(ConfigurationError, match="the environment variable LOCAL_TEXTS is not set"):
        load_recipe("local")
    monkeypatch.setenv("LOCAL_TEXTS", str(texts / "books"))
    assert load_recipe("local").name == "local"


@pytest.mark.skipif(not REAL, reason="REAL_DATA names no folder of real files")
def test_the_real_novels(tmp_path: Path):
    told = write_recipe([f"{REAL}/gutenberg_small.jsonl.gz"], tmp_path / "novels.toml", tmp_path / "runs")
    recipe = load_recipe(str(tmp_path / "novels.toml"))
    assert (recipe.corpora[0].text_field, recipe.cleaning.language) == ("text", "en")
    assert recipe.models["small"].training.validation_interval > 0
    assert "text" in recipe.benchmarks and "1 jsonl: about 1," in told
