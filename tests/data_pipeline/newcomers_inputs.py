"""The folders of the newcomer's table in docs/your-files.md: as such folders are found, with what is strange in them."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from corpus_files import english


def texts(first: int, count: int) -> list[str]:
    return [english(seed) for seed in range(first, first + count)]


def books(folder: Path) -> None:
    """Eight files of text below each other, and what lies beside them."""
    for number, text in enumerate(texts(0, 8)):
        path = folder / f"shelf {number % 2}" / f"Book {number}.{'TXT' if number == 3 else 'txt'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"{text}\n\n{english(200 + number)}\n", encoding="utf-8-sig" if number == 2 else "utf-8"
        )
    (folder / "README").write_text("my books")
    (folder / "shelf 0" / "cover.jpg").write_bytes(b"\xff\xd8\xff")


def reviews(folder: Path) -> None:
    """A table as spreadsheets save it: quotes, line breaks in fields, a byte order mark."""
    folder.mkdir()
    with (folder / "reviews.csv").open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "review", "stars"])
        writer.writerows(
            [number, f'{text}\n"Good", she said.', 5] for number, text in enumerate(texts(20, 7))
        )


def forum(folder: Path) -> None:
    """A table of tabs, in which quotes are text."""
    folder.mkdir()
    rows = [("author", "post"), *((f"a{n}", f'"Hello" {text}') for n, text in enumerate(texts(40, 6)))]
    (folder / "posts.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))


def news(folder: Path) -> None:
    """One list of records, whose texts are paragraphs in an object."""
    folder.mkdir()
    records = [
        {
            "url": f"https://example.org/{n}",
            "article": {"paragraphs": [{"text": text}, {"text": english(260 + n)}]},
        }
        for n, text in enumerate(texts(60, 5))
    ]
    with gzip.open(folder / "news.json.gz", "wt") as stream:
        json.dump(records, stream, indent=1)


def web(folder: Path) -> None:
    """Columns in columns, and pictures."""
    folder.mkdir()
    rows = [
        {"page": {"body": text, "title": f"T{n}"}, "picture": b"\x89PNG" * 100, "url": f"u{n}"}
        for n, text in enumerate(texts(80, 4))
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "part-0.parquet")


def mixed(folder: Path) -> None:
    """Some of each."""
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts(100, 3)))
    (folder / "b.ndjson").write_text(json.dumps({"body": english(110)}) + "\n")
    pq.write_table(pa.table({"content": texts(120, 2)}), folder / "c.PARQUET")
    (folder / "d.txt").write_text(english(130))
    (folder / "notes.md").write_text("# about")


FOLDERS: dict[str, Callable[[Path], None]] = {
    "books": books,
    "reviews": reviews,
    "forum": forum,
    "news": news,
    "web": web,
    "mixed": mixed,
}
