"""`show`: what it shows of a build with every kind of document, and of folders and requests that are wrong."""

import html.parser
import io
import json
import re
import shutil
import unicodedata
from pathlib import Path

import pytest
from corpus_files import english, write_documents, write_jsonl

from core.files import write_json
from data_pipeline.__main__ import main
from data_pipeline.engine.artifacts import write_manifest
from data_pipeline.engine.documents import Document, shard_name, write_shard
from data_pipeline.inspection.chain import Made, chain_of
from data_pipeline.inspection.fates import records_of, sample_clusters
from data_pipeline.inspection.pages import Page
from data_pipeline.inspection.sampling import (
    Expression,
    Index,
    Looked,
    groups_of,
    sample,
    sample_lines,
    search,
)
from data_pipeline.inspection.show import data_page
from data_pipeline.inspection.terminal import page_lines, print_page
from data_pipeline.inspection.view import ShowSettings
from data_pipeline.inspection.visible import cells

_ROW = "Nobody on the quay had expected that the old ferryman would ever give away his brass lantern"
_HOSTILE = {
    "escape": "\x1b[31mred\x1b]0;title\x07 \x9b2J",
    "direction": "\u202edlrow\u202c zero\u200bwidth",
    "html": "<script>alert('x')</script></blockquote></style><img src=http://evil.example/x.png> &amp;",
    "right to left": "שלום עולם مرحبا بالعالم " * 5,
    "emoji": "👩‍👩‍👧‍👦 👍🏽 🇩🇪 漢字かな " * 5,
    "marks": "Z" + "\u0301" * 300,
    "long": "x" * 400,
    "tabs": "a\tb\n" * 3,
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build whose documents are kept, too short, of another language, bad, cut, exact and near duplicates, hostile."""
    folder = tmp_path_factory.mktemp("show")
    rows = [{"text": english(seed), "url": f"https://www.site{seed % 2}.org/{seed}"} for seed in range(20)]
    rows += [{"text": english(3)}, {"text": f"{english(4)} and three more words"}, {"text": "too short"}]
    rows += [{"text": "Der alte Müller ging jeden Morgen durch das Dorf zum Fluss hinunter. " * 20}]
    rows += [{"text": f"{english(40)} {_ROW}. {english(41)}"}]
    rows += [{"text": f"{text} {english(50 + number)}"} for number, text in enumerate(_HOSTILE.values())]
    lines = "".join(json.dumps(row) + "\n" for row in rows) + '{"text": 5}\n'
    (folder / "in.jsonl").write_text(lines)
    write_jsonl(folder / "lambada.jsonl", [_ROW])
    command = ["build", "--input", str(folder / "in.jsonl"), "--benchmark", f"lambada={folder / 'lambada.jsonl'}",
               "--train-tokenizer", "gpt2:400", "--output", str(folder / "out"), "--workers", "1"]  # fmt: skip
    assert main(command) == 0
    return folder / "out"


def page(folder: Path, **settings: object) -> Page:
    return data_page(chain_of(folder), ShowSettings(**settings))  # type: ignore[arg-type]


def text(folder: Path, **settings: object) -> str:
    return "\n".join(page_lines(page(folder, **settings), 100, coloured=False))


def stage(built: Path, name: str) -> Path:
    (folder,) = (path for path in (built / "stages" / name).iterdir() if path.is_dir())
    return folder


def named(row: int) -> str:
    return f"corpus/in.jsonl/{row:09d}"


def test_every_fate_is_shown_with_its_reason_and_text(built: Path) -> None:
    shown = re.sub("(?<=\\S) {2,}", "  ", text(built, documents=50))
    for lines in (
        f"{named(23)}\nreason too short · source corpus",
        "  too short\n",
        f"{named(24)}\nreason not english · language de · language share 0.00",
        "  Der alte Müller ging jeden Morgen",
        "in.jsonl, line 34\nreason bad record · what field 'text' is not a string but of type int",
        f"{named(21)}\nreason exact duplicate · duplicate of {named(4)} · similarity 1.00",
        f"{named(22)}\nreason near duplicate · duplicate of {named(5)}",
        f"{named(25)}\nbecame cut into 2 piece(s) · benchmarks lambada",
        "\nfetched  34  1  –  33  bad record 1\n",
        "\nafter cleaning  33  2  –  31  not english 1, too short 1\n",
        "\nafter decontamination  31  –  1  32  1 cut, which makes 1 more\n",
        "\nafter deduplication  32  2  –  30  exact duplicate 1, near duplicate 1\n",
        "\nsite0.org  10  33.3 %\n",
        "\n(no address)  10  33.3 %\n",
    ):
        assert lines in shown, lines
    (mark,) = re.findall(r"\[\[(.*?)\]\]", shown, re.DOTALL)
    assert mark.split() == _ROW.split()
    assert shown.count("\nsource corpus · language en ") >= 30


def test_a_stage_alone_shows_what_it_did(built: Path) -> None:
    shown = text(stage(built, "clean"))
    assert "Dropped by clean corpus" in shown and "Dropped by fetch corpus" in shown
    assert "Duplicates" not in shown and "Benchmark hits" not in shown
    assert "vocabulary size\n30" in re.sub(" {2,}", " ", text(built, only=["tokens"]))
    assert "longest" in text(stage(built, "tokenizer"), only=["tokens"])


def test_duplicates_stand_side_by_side_with_what_differs(built: Path) -> None:
    shown = text(built, only=["duplicates"], documents=9)
    assert f"kept {named(5)}  " in shown and f"│ dropped {named(22)}" in shown
    assert "+and three more words+" in re.sub(r"\s+│?\s*", " ", shown)
    assert "the same text" in shown


def test_a_document_is_followed_through_the_stages(built: Path) -> None:
    shown = text(built, id=[named(25), named(24), f"{named(25)}#01"], characters=40)
    way = r"fetch corpus there, [\d,]+ characters · clean corpus there, .*?cut\s+into 2 piece\(s\), benchmarks lambada"
    assert re.search(way, shown, re.DOTALL)
    assert f"{named(25)}#00" in shown and shown.count(f"{named(25)}#01") == 3
    assert "clean corpus dropped: not english, language de" in shown
    kept = text(built, id=[named(4)])
    assert "kept, of 2 duplicates" in kept


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"id": ["korpus/in.jsonl/000000004"]}, f"did you mean {named(4)}"),
        ({"id": ["corpus/in.jsonl/00000004"]}, f"did you mean {named(4)}"),
        ({"reason": "to_short"}, "did you mean too_short?"),
        ({"source": "corpse"}, "did you mean corpus?"),
        ({"match": "(a"}, "--match '(a': missing ): (a"),
        ({"match": r"(a)\1"}, "no backreferences"),
        ({"match": "a(?=b)"}, "no looking around"),
    ],
)
def test_what_is_mistyped_is_one_clear_error(built: Path, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        page(built, **settings)


def test_an_expression_finds_kept_and_dropped_documents_and_marks_them(built: Path) -> None:
    shown = text(built, match="(?i)ALTE müller|three more", documents=9, characters=60)
    assert "None found in all 30 documents" in shown
    assert "clean corpus dropped: not english" in shown and "[[alte Müller]]" in shown
    assert "deduplicate corpus dropped: near duplicate" in shown and "[[three more]]" in shown
    assert "2 found, as they came" in shown


def test_what_many_documents_fit_is_asked_row_group_by_row_group(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    read_ids = Index.has
    monkeypatch.setattr(Index, "has", lambda index, ids: read.append(len(ids)) or read_ids(index, ids))
    shown = text(built, match="the", only=["dropped"], reason="near_duplicate")
    assert named(22) in shown and named(21) not in shown and "1 found, as they came" in shown
    assert read == [31]  # all but "too short" and the one in German, at once
    assert "Kept" not in text(built, match="the", reason="near_duplicate")


def test_an_entry_of_a_list_that_is_not_whole_is_named(tmp_path: Path) -> None:
    made = Made(tmp_path, {"stage": "deduplicate", "name": "x", "summary": {}})
    (tmp_path / "clusters.jsonl").write_text('{"kept": "a"}\n')
    for look in (lambda: sample_clusters(made, 1), lambda: records_of(made, {"a"})):
        with pytest.raises(ValueError, match=r"clusters.jsonl: damaged, .* no 'removed'"):
            look()


def test_nothing_hostile_reaches_the_terminal(built: Path) -> None:
    for width in (40, 100):
        for line in page_lines(page(built, documents=50, characters=0), width, coloured=False):
            assert cells(line) <= width, line
            bad = {
                c for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\u200c\u200d"
            }
            assert not bad, (line, bad)
    shown = text(stage(built, "fetch"), documents=50)
    assert "␛[31mred␛]0;title␇ <U+009B>2J" in shown and "<U+202E>dlrow<U+202C> zero<U+200B>width" in shown
    assert "<U+0301>×296" in shown
    coloured = "\n".join(page_lines(page(stage(built, "fetch"), documents=50), 100, coloured=True))
    assert set(re.findall(r"\x1b[^m]*m", coloured)) <= {
        f"\x1b[{c}m" for c in ("0", "1", "2", "1;33", "31", "32")
    }


class _Tags(html.parser.HTMLParser):
    """Tags, attributes and text of a page; ends must match their starts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.addresses: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_html_page_is_whole_by_itself_and_escapes_documents(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "show",
        str(stage(built, "deduplicate")),
        "--documents",
        "50",
        "--html",
        str(tmp_path / "data.html"),
    ]
    assert main(command) == 0
    assert str(tmp_path / "data.html") in capsys.readouterr().out
    content = (tmp_path / "data.html").read_text()
    tags = _Tags()
    tags.feed(content)
    assert tags.open == [] and tags.addresses == []
    assert not tags.seen & {"script", "link", "img", "iframe", "object"}
    assert "@import" not in content and "url(" not in content
    shown = "".join(tags.texts)
    assert "<script>alert('x')</script></blockquote></style><img src=http://evil.example/x.png> &" in shown
    assert {"mark", "ins", "article"} <= tags.seen
    assert not {c for c in content if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t\u200d"}


def test_a_pipe_gets_plain_text_and_may_close_early(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe(io.StringIO):
        def isatty(self) -> bool:
            return False

    pipe = Pipe()
    monkeypatch.setenv("COLUMNS", "37")
    print_page(page(built), pipe)
    assert "\x1b" not in pipe.getvalue() and max(map(cells, pipe.getvalue().splitlines())) > 90
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_page(page(built, documents=50), ascii_only)


def test_the_same_seed_shows_the_same_and_another_others(built: Path) -> None:
    assert text(built, documents=3) == text(built, documents=3)
    assert len({text(built, documents=3, only=["kept"], seed=seed) for seed in range(4)}) == 4
    only = text(built, only=["dropped"], reason="too_short")
    assert named(23) in only and named(24) not in only


def test_commands_one_after_the_other_are_one_chain(built: Path, tmp_path: Path) -> None:
    """Each reads what the one before delivered; of what the last dropped the text is in the first one's folder."""
    inputs = built.parent / "in.jsonl"
    assert main(["clean", "--input", str(inputs), "--output", str(tmp_path / "clean"), "--workers", "1"]) == 0
    assert (
        main(
            [
                "dedup",
                "--input",
                str(tmp_path / "clean"),
                "--output",
                str(tmp_path / "dedup"),
                "--workers",
                "1",
            ]
        )
        == 0
    )
    shown = text(tmp_path / "dedup", documents=9)
    assert "Dropped by clean corpus" in shown and "the same text" in shown
    shutil.rmtree(tmp_path / "clean")
    assert "(its text is not there any more)" in text(tmp_path / "dedup", only=["dropped"])


def test_a_benchmark_that_is_elsewhere_can_be_named(built: Path, tmp_path: Path) -> None:
    """An artifact alone does not say where the file is; it does say which it was."""
    chain, only = chain_of(stage(built, "decontaminate")), ShowSettings(only=["hits"])

    def shown(**files: Path) -> str:
        return "\n".join(page_lines(data_page(chain, only, files), 100, coloured=False))

    assert "to mark all: --benchmark" in shown() and "[[" in shown()  # the first words are in the list
    write_jsonl(tmp_path / "moved.jsonl", [_ROW])
    assert "to mark all" not in shown(lambada=tmp_path / "moved.jsonl")
    write_jsonl(tmp_path / "other.jsonl", [english(1)])
    for files, message in (
        ({"lambada": tmp_path / "other.jsonl"}, "is not there, or not what was looked for then"),
        ({"race": tmp_path / "moved.jsonl"}, "--benchmark race: was not looked for (but lambada)"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            shown(**files)


def test_a_folder_that_holds_nothing_of_ours_says_so(built: Path, tmp_path: Path) -> None:
    (tmp_path / "x-0123456789ab.partial").mkdir()
    (tmp_path / "file").touch()
    for folder, message in (
        (tmp_path / "absent", "no such folder"),
        (tmp_path / "x-0123456789ab", "is not finished"),
        (tmp_path / "file", "is a file"),
        (tmp_path, "holds nothing that the data pipeline made"),
        (built / "stages", "holds several artifacts; give one: "),
    ):
        with pytest.raises(ValueError, match=message):
            chain_of(folder)


def test_a_damaged_artifact_is_one_clear_error(built: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(built / "stages", tmp_path / "stages")
    (clean,) = (path for path in (copy / "clean").iterdir() if path.is_dir())
    shard = clean / shard_name(0)
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"documents-00000.parquet: damaged.*make it anew"):
        page(clean)
    shard.write_bytes(content[:-9])
    with pytest.raises(ValueError, match=r"documents-00000.parquet: \d+ bytes, the manifest says \d+"):
        page(clean)
    (clean / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest.json: cannot be read as JSON"):
        page(clean)


def test_a_folders_name_does_nothing_to_the_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "a\x1b[31m\u202eb"
    write_documents(folder, [english(1)])
    assert "What is in a␛[31m<U+202E>b, and what is not" in text(folder)


def test_no_documents_are_told(tmp_path: Path) -> None:
    write_documents(tmp_path, [""])
    write_shard(tmp_path / shard_name(0), [])
    assert "There are no documents in" in text(tmp_path)
    assert "None found in all 0 documents" in text(tmp_path, match="x")


def test_a_large_corpus_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300 shards some are opened for a sample, and one row group at a time is read."""
    for number in range(300):
        documents = [
            Document(f"s{number % 3}/{number:05d}/{row}", "word " * 20, f"s{number % 3}", "{}")
            for row in range(4)
        ]
        write_shard(tmp_path / shard_name(number), documents)
    shards = sorted(tmp_path.glob("*.parquet"))
    opened: list[Path] = []
    monkeypatch.setattr(
        "data_pipeline.inspection.sampling.groups_of", lambda path: opened.append(path) or groups_of(path)
    )
    looked = Looked()
    found = [document.id for document in sample(shards, 1, (), looked)]
    assert (len(opened), len(found), str(looked)) == (64, 64, "64 documents, 0.0 MB, of 16 of 300 shards")
    assert found == sorted(found, key=lambda name: int(name.split("/")[1])) and len(set(found)) == 64
    assert {document.source for document in sample(shards, 1, ("s2",), Looked())} == {"s2"}
    searched = Looked()
    assert len(list(search(shards, Expression("WORD"), 1, (), 0, searched))) == 0 and searched.whole
    monkeypatch.setattr("data_pipeline.inspection.sampling._read", lambda *_: pytest.fail("was read"))
    assert Index(shards).find({"s9/00301/0"}) == {} and Index(shards).has(["a"]) == set()


def test_a_sample_is_fair() -> None:
    """Over many seeds each of 12 shards is chosen about as often (16 row groups of 40)."""
    from data_pipeline.inspection.sampling import in_seeded_order

    shards = [Path(str(number)) for number in range(12)]
    firsts = [in_seeded_order(shards, seed)[0] for seed in range(1200)]
    assert all(60 < firsts.count(shard) < 140 for shard in shards)


def test_lines_of_a_long_list_are_those_that_begin_in_chosen_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps({"number": number, "pad": "x" * (number * 37 % 90)}) + "\n" for number in range(1000)]
    (tmp_path / "list").write_text("".join(lines))
    assert sample_lines(tmp_path / "list", 1) == ([json.loads(line) for line in lines], True)
    monkeypatch.setattr("data_pipeline.inspection.sampling._BLOCK_BYTES", 256)
    starts = [sum(map(len, lines[:number])) for number in range(1000)]
    found, whole = sample_lines(tmp_path / "list", 1)
    blocks = {starts[entry["number"]] // 256 for entry in found}
    expected = [number for number, start in enumerate(starts) if start // 256 in blocks]
    assert not whole and len(blocks) <= 32 and [entry["number"] for entry in found] == expected
    (tmp_path / "list").write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(ValueError, match="damaged, a line of it begins b'nonsense"):
        sample_lines(tmp_path / "list", 1)
    assert sample_lines(tmp_path / "absent", 1) == ([], True)


def test_inputs_that_are_gone_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "clean" / "x-0123456789ab"
    write_documents(folder, [english(1)])
    write_json(folder / "run.json", {})
    outputs = {path.name: {"bytes": path.stat().st_size, "sha256": ""} for path in folder.glob("*.parquet")}
    manifest = {"stage": "clean", "name": "x", "key": "0123456789ab", "inputs": {"documents": "f" * 64},
                "parameters": {}, "files": {}, "outputs": outputs, "summary": {"documents": 1, "dropped": {"a": 1}}}  # fmt: skip
    write_manifest(folder, manifest)
    assert "clean x: what it read (documents) is not there any more" in text(folder)
