"""Tables whose first row cannot be used: a name twice, no names, columns between other marks. Nothing is lost in silence, and
reading (with a field and without, as `init` looks) says the file, the place and the remedy."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_files import fetch_files, read_documents

from core.errors import UserError
from data_pipeline.sources.columns import not_a_name
from data_pipeline.sources.fields import Fields
from data_pipeline.sources.formats import raw_records

ALL, TEXT_ONLY = Fields(), Fields("text", ())
TWICE = "columns 1 and 2 are called 'text', and only one of them could be read: give each a name of its own"
SENTENCE = "The old man walked along the river, and told his friends of ships that came home."


def semicolons(mark: str) -> str:
    return f"its columns are separated by {mark!r}, and are read where commas (.csv) or tabs (.tsv) are"


# name: content, what is read of a record, and the message
REFUSED = {
    "twice.csv": ("text,text,id\na,b,1\n", ALL, TWICE),
    "twice_text_only.csv": ("text,text,id\na,b,1\n", TEXT_ONLY, TWICE),
    "twice_looked_at.csv": ("text,text,id\na,b,1\n", None, TWICE),
    "twice.tsv": ("text\ttext\tid\na\tb\t1\n", ALL, TWICE),
    "twice.CSV.gz": ("text,text,id\na,b,1\n", ALL, TWICE),
    "thrice.csv": ("id,x,id,text,id\n1,,2,a,3\n", ALL, "columns 1, 3 and 5 are called 'id'"),
    "another.csv": ("id,id,text\n1,2,a\n", ALL, "own, or leave it out of the metadata that is kept"),
    "blank.csv": (" , ,id\na,b,1\n", Fields(" "), "columns 1 and 2 are called ' '"),
    "quoted.csv": ('"id";"text"\n"1";"a, b"\n', ALL, semicolons(";")),
    "quoted_looked_at.csv": ('"id";"text"\n"1";"a, b"\n', None, semicolons(";")),
    "commas.csv": ("id;text\n1;a, b\n2;c\n", ALL, semicolons(";")),
    "commas_looked_at.csv": ("id;text\n1;a, b\n2;c\n", None, semicolons(";")),
    "comma_in_a_name.csv": ('id;"a, text";"b, c"\n1;a;b\n', ALL, semicolons(";")),
    "excel.csv": ("\ufeff\"id\";\"your\"\"text\"\r\n\"1\";\"a, b\"\r\n", ALL, semicolons(";")),
    "no_names.csv": ("0;Short one;5\n1;a, b;5\n", ALL, semicolons(";")),
    "typed.csv": ("id; text; label\n1; a; b\n", ALL, semicolons(";")),
    "pipes.csv.gz": ("id|text\n1|a, b\n", ALL, semicolons("|")),
    "tabs.csv": ("id\ttext\n1\ta, b\n", ALL, semicolons("\t") + ": let its name end in .tsv"),
    "commas.tsv": ('id,text\n1,"a\tb"\n', None, semicolons(",") + ": let its name end in .csv"),
    "semicolons.tsv": ("id;text\n1;a\tb\n", None, semicolons(";")),
    "document.csv": (f'"{SENTENCE}",1\n"More.",2\n', ALL, "no column 'text': its first row does not look like the names of columns, it holds 'The old man walked along the river, and …': write a first line with the columns' names above it"),
    "numbers.csv": ("0,Short one,5\n1,Another,4\n", ALL, "it holds '0': write a first line"),
    "prose.csv": ("Hello; this is a page of prose and no table at all\nMore\n", ALL, "it holds 'Hello; this is a page of prose and no ta…'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_first_row_that_cannot_be_used_is_an_error_with_the_remedy(tmp_path: Path, name: str) -> None:
    content, fields, problem = REFUSED[name]
    path = tmp_path / name
    encoded = content.encode()
    path.write_bytes(gzip.compress(encoded) if path.suffix == ".gz" else encoded)
    with pytest.raises(UserError) as caught:
        list(raw_records(path, fields=fields))
    assert str(caught.value).startswith(f"{path}: ") and problem in str(caught.value)


# what is read as it is: content, what is read of a record, the first record
READ = {
    "indices.csv": (",,text\n0,7,a\n", ALL, {"": "7", "text": "a"}),
    "ends.csv": ("text,id,, \na,1,,\n", None, {"text": "a", "id": "1", "": "", " ": ""}),
    "unused.csv": ("id,id,text\n1,2,a\n", TEXT_ONLY, {"id": "2", "text": "a"}),
    "blanks.csv": ("text, text\na,b\n", ALL, {"text": "a", " text": "b"}),
    "cases.csv": ("text,Text\na,b\n", ALL, {"text": "a", "Text": "b"}),
    "one.csv": ('text\n"a; b"\n', ALL, {"text": "a; b"}),
    "named.csv": ("id;text\na\n", Fields("id;text"), {"id;text": "a"}),
    "quoted.csv": ('"a;b;c",text\n1,a\n', None, {"a;b;c": "1", "text": "a"}),
    "years.csv": ("text,2019,2020\na,1,2\n", ALL, {"text": "a", "2019": "1", "2020": "2"}),
    "counted.csv": (",0,1\n0,7,a\n", Fields("1"), {"": "0", "0": "7", "1": "a"}),
    "question.csv": (f'"{SENTENCE}"\na\n', Fields(SENTENCE), {SENTENCE: "a"}),
    "one.tsv": ("text, as typed\na\n", None, {"text, as typed": "a"}),
}


@pytest.mark.parametrize("name", READ)
def test_first_rows_that_only_look_odd_are_names(tmp_path: Path, name: str) -> None:
    content, fields, expected = READ[name]
    path = tmp_path / name
    path.write_text(content)
    assert next(raw_records(path, fields=fields)).content == expected


def test_a_fetch_refuses_a_name_twice_and_keeps_what_is_not_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,text,id\nfirst,second,1\n")
    for on_bad_file in ("stop", "keep"):
        with pytest.raises(UserError, match=rf"{path}: columns 1 and 2 are called 'text'"):
            fetch_files([path], tmp_path / on_bad_file, on_bad_file=on_bad_file)
    path.write_text("text,id,id\nfirst,1,2\n")
    fetch_files([path], tmp_path / "out", metadata=[])
    (document,) = read_documents(tmp_path / "out")
    assert (document.text, json.loads(document.metadata)) == ("first", {})


def test_parquet_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """Arrow writes such files, and to a dictionary gives the last of them."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), path)
    with pytest.raises(UserError, match=rf"{path}: columns 1 and 2 are called 'text'"):
        list(raw_records(path, fields=ALL))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["id", "text", "label_2", "Größe (cm)", "", "No. of obs.", "What do you think of it?"], ""),
        (["id", "-1.5"], "-1.5"),
        (["2019-05-01", "text"], "2019-05-01"),
        (["id", "https://example.org/a"], "https://example.org/a"),
        (["He went home again."], "He went home again."),
        (["彼は家に帰った。"], "彼は家に帰った。"),
        (["x" * 61], "x" * 61),
        (["a b c d e f g h"], ""),
        (["a b c d e f g h i"], "a b c d e f g h i"),
    ],
)
def test_what_no_column_is_called(names: list[str], expected: str) -> None:
    assert not_a_name(names) == expected
