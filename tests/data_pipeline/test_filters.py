"""The shipped filters: each rule on texts whose counts are made by hand, and what they leave on, off, and in keys."""

import ipaddress
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from corpus_files import contents, english, read_documents, write_documents, write_jsonl

from core.errors import UserError
from data_pipeline.__main__ import main
from data_pipeline.cleaning import clean
from data_pipeline.engine.documents import Document
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.filters import FILTERS, Edited, Filter
from data_pipeline.filters.blocklist import Blocklist
from data_pipeline.filters.c4 import C4
from data_pipeline.filters.filter import filter_tables
from data_pipeline.filters.gopher import GopherQuality, GopherRepetition
from data_pipeline.filters.pii import PersonalData
from data_pipeline.settings import CleaningSettings


def answer(rule: Filter, text: str, metadata: str = "{}") -> Any:
    """What a filter says: a reason, or the text and the counts."""
    said = rule.keep(Document("d/0", text, "d", metadata))
    if isinstance(said, Edited):
        return said.document.text, {name: count for name, count in said.counts.items() if count}
    return said


def some_words(count: int, start: int = 0) -> list[str]:
    """Different words of five letters."""
    return [
        "".join(chr(97 + number // 26**place % 26) for place in range(5))
        for number in range(start, start + count)
    ]


STOP = ["the", "of"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (STOP + some_words(47), "words"),  # 49
        (STOP + some_words(48), True),  # 50
        ((STOP + some_words(48)) * 2000, True),  # 100,000
        ((STOP + some_words(48)) * 2000 + ["one"], "words"),
        (["a"] * 60 + ["the", "of"] * 5, "word_length"),  # (60 + 25) / 70
        (STOP + ["abcdefghijk"] * 60, "word_length"),  # (5 + 660) / 62 = 10.7
        (STOP + ["abcdefghij"] * 60, True),  # (5 + 600) / 62 = 9.8
        (STOP + some_words(88) + ["#"] * 10, True),  # 10 of 100
        (STOP + some_words(88) + ["##"] * 10, "hashes"),
        (STOP + some_words(78) + ["wait..."] * 10 + ["so…"], "ellipses"),  # 11 of 91
        (STOP + some_words(78) + ["2019:"] * 20, True),  # 80 of 100 have a letter
        (STOP + some_words(77) + ["2019:"] * 20, "alphabetic"),  # 79 of 99
        (["the"] * 30 + some_words(60), "stop_words"),  # one of the eight, often
        (["The,", '"Of', *some_words(60)], True),
        (["être", "où", *some_words(60)], "stop_words"),
    ],
)
def test_gopher_quality(words: list[str], expected: str | bool) -> None:
    assert answer(GopherQuality(), " ".join(words)) == expected


def test_gopher_lines_that_begin_with_bullets_and_end_with_ellipses() -> None:
    prose = " ".join(STOP + some_words(60))
    item, unfinished = "• " + prose, prose + " …"
    rule = GopherQuality(maximum_words=10**6)
    assert answer(rule, "\n\n".join([item] * 9 + [prose])) is True  # nine of ten; blank lines are none
    assert answer(rule, "\n".join([item] * 10)) == "bullets"
    assert answer(rule, "\n".join(["  - " + prose] * 10)) == "bullets"
    assert answer(rule, "\n".join(["-" + prose] * 10)) is True
    assert answer(rule, "\n".join([unfinished] * 3 + [prose] * 7)) is True
    assert answer(rule, "\n".join([unfinished] * 3 + [prose] * 6)) == "ellipsis_lines"


def test_gopher_repeated_lines_and_paragraphs() -> None:
    rule = GopherRepetition(top_ngrams=[], duplicate_ngrams=[])
    lines = some_words(10)
    assert answer(rule, "\n".join(lines[:8] + lines[:2])) is True  # 2 of 10 lines and of 50 characters
    assert answer(rule, "\n".join(lines[:7] + lines[:3])) == "line_characters"  # 3 of 10: not more than 0.3
    assert answer(rule, "\n".join(lines[:6] + lines[:4])) == "lines"
    long = "a line of forty characters, in any case."
    assert answer(rule, "\n".join([*lines, long, long])) == "line_characters"  # 40 of 130
    paragraphs = [f"{word}\n{number}" for number, word in enumerate(lines)]
    only = GopherRepetition(lines=1.0, line_characters=1.0, top_ngrams=[], duplicate_ngrams=[])
    assert answer(only, "\n \n\n".join(paragraphs[:8] + paragraphs[:2])) is True
    assert answer(only, "\n \n\n".join(paragraphs[:6] + paragraphs[:4])) == "paragraphs"
    assert answer(only, "\n\n".join([*lines, long, long])) == "paragraph_characters"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["aaaa", "bbbb", "x", "aaaa", "bbbb", "y", *some_words(13, 100)],
            True,
        ),  # the pair twice: 16 of 83, 0.193
        (["aaaa", "bbbb", "x", "aaaa", "bbbb", "y", *some_words(12, 100)], "top_2_gram"),  # of 78: 0.205
        (["aaaa", "bbbb", "cc"] * 2 + some_words(17, 100), "top_3_gram"),  # 20 of 105, 0.190; its pairs: 0.15
        (["aaaa", "bbbb", "cc"] * 2 + some_words(19, 100), True),  # of 115: 0.174
        (some_words(4) * 2 + some_words(40, 100), "top_4_gram"),  # 40 of 240: 0.167
        (some_words(5) * 2 + some_words(56, 100), "duplicate_5_grams"),  # 50 of 330: 0.152, and 4 words: 0.12
        (some_words(5) * 2 + some_words(57, 100), True),  # 50 of 335: 0.149
        (some_words(10) + some_words(80, 100) + some_words(10) + some_words(90, 200), "duplicate_10_grams"),
        (
            some_words(10) + some_words(90, 100) + some_words(10) + some_words(90, 200),
            True,
        ),  # 100 of 1000: 0.1
        (["one"], True),
        ([], True),
    ],
)
def test_gopher_repeated_runs_of_words(words: list[str], expected: str | bool) -> None:
    """The number of characters in runs by hand; blanks count in neither."""
    assert answer(GopherRepetition(), " ".join(words)) == expected


def runs_by_definition(words: list[str], size: int) -> tuple[int, int]:
    """Characters in the commonest run (of the longest such), if it is repeated, and in all repeated runs, each once."""
    runs = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    counts = Counter(runs)
    most = max(counts.values(), default=0)
    top = max((most * sum(map(len, run)) for run, count in counts.items() if count == most), default=0)
    covered = {start + offset for start, run in enumerate(runs) if counts[run] > 1 for offset in range(size)}
    return top if most > 1 else 0, sum(len(words[place]) for place in covered)


def test_runs_of_words_are_counted_as_their_definition_says() -> None:
    """Random texts of few words; each threshold just below, and at, what the definition gives."""
    draw = random.Random(5)
    tried = 0
    for _ in range(40):
        words = [draw.choice(("a", "bb", "ccc", "dddd")) for _ in range(draw.randint(0, 60))]
        total = sum(map(len, words))
        for size in range(2, 11):
            characters = runs_by_definition(words, size)[size >= 5]
            if not characters:
                continue
            tried += 1
            name, where = ("top_ngrams", size - 2) if size < 5 else ("duplicate_ngrams", size - 5)
            others: dict[str, Any] = {"top_ngrams": [9.0] * 3, "duplicate_ngrams": [9.0] * 6}
            for share, is_over in ((characters / total, False), ((characters - 0.5) / total, True)):
                others[name] = [share if index == where else 9.0 for index in range(6 if size >= 5 else 3)]
                rule = GopherRepetition(lines=1.0, paragraphs=1.0, line_characters=1.0, **others)
                assert isinstance(answer(rule, " ".join(words)), str) == is_over, (words, size)
    assert tried > 100


C4_PAGE = """Menu
The ferry crosses the river every morning at six.[1]
It carries letters[citation needed] and the mail for three villages!

Accept cookies
"Nobody waits for it in winter," said the old miller.
Please enable Javascript to see the map of this river.
We think that you agree to our Terms of Use now.
Come with us.
"Will it cross the river again in the spring?"
And so it went on and on...
This line does not end
"""
C4_KEPT = """The ferry crosses the river every morning at six.
It carries letters and the mail for three villages!

"Nobody waits for it in winter," said the old miller.
"Will it cross the river again in the spring?\""""


def test_c4_lines() -> None:
    """Line by line by hand; of the blank lines one stays between lines that stay."""
    assert answer(C4(), C4_PAGE) == (
        C4_KEPT,
        {
            "citations": 2,
            "lines_without_end": 4,  # Menu, Accept cookies, on..., This line
            "lines_with_javascript": 1,
            "lines_of_policy": 1,
            "lines_of_few_words": 1,
        },
    )
    long = "Here is one line with " + "x" * 1001 + " in it."
    assert answer(C4(), C4_PAGE + long)[1]["lines_with_long_word"] == 1
    assert answer(C4(maximum_word_length=1001), C4_PAGE + long)[0].endswith("in it.")
    french = "Le bac traverse la rivière «\xa0tous les jours\xa0»"
    assert answer(C4(terminal_marks="».!", minimum_sentences=0), french) == (french, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Some Lorem Ipsum text. " * 4, "lorem_ipsum"),
        ("if (a) { return b; } It ends here. It does. It does.", "curly_bracket"),
        ("One sentence of some words. A second one is here.", "few_sentences"),
        ("One sentence of some words. A second one is here. And a third.", None),
        ("Mr. Hill and J. R. Smith met Dr. Who at 3.15 p.m. in St. Ives today.", "few_sentences"),
        ("It was version 1.2.3.4 of that program. Nobody liked it.", "few_sentences"),
        ("Was it you?! “It was I.” (Nobody answered him there.) So it was.", None),
        ("no end here\nnone here", "few_sentences"),
    ],
)
def test_c4_pages(text: str, expected: str | None) -> None:
    assert answer(C4(), text) == (expected or (text, {}))


def test_c4_bad_words_are_whole_words_and_phrases(tmp_path: Path) -> None:
    listed = tmp_path / "bad.txt"
    listed.write_text("# ours\nfrak\n\nsmeg head\n")
    rule = C4(bad_words=str(listed))
    for text in ("Oh FRAK, she said.", "A smeg-head sat there.", "(frak)"):
        assert answer(rule, text + C4_PAGE) == "bad_word"
    for text in ("A fraktur and a head of smegs.", "head smeg"):
        assert "The ferry" in answer(rule, text + "\n" + C4_PAGE)[0]
    listed.write_text("frak\n???\n")
    with pytest.raises(UserError, match=r"bad\.txt: line 2: '\?\?\?': no letter"):
        answer(C4(bad_words=str(listed)), C4_PAGE)


BLOCKED = """# by hand
bad.org
.zip
https://www.Mixed.com/Forum/
half.net/a?page=2   # one page
bücher.de
203.0.113.7
"""
URLS = {
    "http://bad.org": "domain",
    "https://www.deep.BAD.org:8080/x": "domain",
    "bad.org./x": "domain",
    "http://user@bad.org/": "domain",
    "http://notbad.org/": "",
    "http://bad.org.uk/": "",
    "http://good.com/bad.org": "",
    "http://archive.zip/": "domain",
    "http://mixed.com/Forum": "url",
    "http://www.mixed.com/Forum/thread/7": "url",
    "http://mixed.com/Forum?x=1": "url",
    "http://mixed.com/Forums": "",
    "http://mixed.com/forum": "",
    "http://half.net/a?page=2&sort=up": "url",
    "http://half.net/a?page=23": "",
    "http://half.net/a": "",
    "http://www.bücher.de/buch": "domain",
    "http://xn--bcher-kva.de/": "domain",
    "http://203.0.113.7/index": "domain",
}


@pytest.fixture
def blocklist(tmp_path: Path) -> Blocklist:
    path = tmp_path / "blocked.txt"
    path.write_text(BLOCKED, encoding="utf-8")
    return Blocklist(lists=[str(path)])


@pytest.mark.parametrize("url", URLS)
def test_blocklist(url: str, blocklist: Blocklist) -> None:
    assert answer(blocklist, "text", json.dumps({"url": url})) == (URLS[url] or ("text", {}))


def test_documents_without_a_url_stay_and_are_counted(blocklist: Blocklist) -> None:
    for metadata in ("", "{}", '{"url": null}', '{"url": "mailto:x@bad.org"}', '{"url": "http://[bad.org"}'):
        assert answer(blocklist, "text", metadata) == ("text", {"no_url": 1})
    nested = Blocklist(lists=blocklist.lists, url_field="meta.url")
    assert answer(nested, "text", '{"meta": {"url": "http://bad.org"}}') == "domain"
    assert answer(nested, "text", '{"meta.url": "http://bad.org"}') == "domain"


def test_lines_of_a_blocklist_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("good.com\n0.0.0.0 bad.org\n||ads.com^\n*.bad.org\nword\nhttp://\n")
    (problem,) = Blocklist(lists=[str(path)]).errors("clean.blocklist")
    assert problem.startswith(
        f"clean.blocklist.lists: {path}: line 2: '0.0.0.0 bad.org': a blank is in it; line 3"
    )
    assert all(f"line {number}" in problem for number in (2, 3, 4, 5, 6)) and "line 1" not in problem
    assert "no_such: cannot be read" in Blocklist(lists=[str(tmp_path / "no_such")]).errors("x")[0]
    assert Blocklist().errors("") == [".lists: needed, a file of domains and URLs"]


EMAIL, IP, PHONE = "|||EMAIL_ADDRESS|||", "|||IP_ADDRESS|||", "|||PHONE_NUMBER|||"
MASKED = {
    "Write to john.doe+news@mail.example.co.uk.": f"Write to {EMAIL}.",
    "<mailto:JOHN@EXAMPLE.COM>, (o'neil@x-y.org)": f"<mailto:{EMAIL}>, ({EMAIL})",
    "josé@exämple.de 联系foo_bar@163.com我们": f"{EMAIL} 联系{EMAIL}我们",
    "______signed@x.org": f"______{EMAIL}",
    "a@b, @home, me @ example.com, x@y.z1, a@@b.com": None,
    "a@b.com@c.com": f"{EMAIL}@c.com",
    "ping 8.8.8.8, 1.1.1.1:53 and 172.32.0.1.": f"ping {IP}, {IP}:53 and {IP}.",
    "10.1.2.3 192.168.0.1 127.0.0.1 172.16.0.9 169.254.1.1 100.64.0.1 224.0.0.1 255.255.255.255 0.0.0.0": None,
    "198.51.100.7 203.0.113.9 192.0.2.1 198.19.0.1 240.0.0.1": None,
    "v8.8.8.8 8.8.8 8.8.8.8.8 256.8.8.8 08.8.8.8 1.8.8.8a": None,
    "2001:4860:4860::8888, [2a00:1450::68]:80 2606:4700:4700::1111/48": f"{IP}, [{IP}]:80 {IP}/48",
    "dns 2001:4860:4860:0:0:0:0:8844: up, ::ffff:8.8.4.4": f"dns {IP}: up, ::ffff:{IP}",
    "fe80::1 fc00::2 ::1 2001:db8::1 ff02::1 3fff::5 std::abs 12:30:45 2001::g 2019:10": None,
    "Call +1 (212) 555-0123 or +44 (0)20 7946-0958 or +49.30.1234567": f"Call {PHONE} or {PHONE} or {PHONE}",
    "(212) 555-0123, (212)555-0123, 1 (212) 555 0123, tel:(415)555.0100": f"{PHONE}, {PHONE}, {PHONE}, tel:{PHONE}",
    "212-555-0123; 212.555.0123; 1-212-555-0123.": f"{PHONE}; {PHONE}; {PHONE}.",
    "112-555-0123 212-155-0123 212-555-01234 x212-555-0123 2125550123": None,
    "978-0-306-40615-7 1914-1918 2+2345678 C++12345678 +123456 +1234567890123456 20 30 40": None,
    "in 200 300 4000 and 212-555-0123-9": None,
}


@pytest.mark.parametrize("text", MASKED)
def test_personal_data(text: str) -> None:
    expected = MASKED[text] or text
    counts = {"email": expected.count(EMAIL), "ip": expected.count(IP), "phone": expected.count(PHONE)}
    assert answer(PersonalData(), text) == (
        expected,
        {name: count for name, count in counts.items() if count},
    )


def test_what_is_masked_can_be_chosen() -> None:
    text = "a@b.com 8.8.8.8 212-555-0123"
    assert answer(PersonalData(email="<mail>", ip="", phone=""), text)[0] == "<mail> 8.8.8.8 212-555-0123"


def test_public_addresses_are_those_of_the_standard_library() -> None:
    """But multicast, which `is_global` takes for public in some versions of Python, and what is new in its table."""
    draw = random.Random(3)
    for _ in range(3000):
        address = ipaddress.IPv4Address(draw.getrandbits(32))
        if address not in ipaddress.ip_network("192.0.0.0/24"):
            is_public = address.is_global and not address.is_multicast
            assert answer(PersonalData(), str(address))[1] == ({"ip": 1} if is_public else {}), address


ALL = ["gopher_quality", "gopher_repetition", "c4", "pii"]


def run(texts: list[str], folder: Path, **settings: Any) -> dict[str, Any]:
    shards = write_documents(folder / "in", texts)
    chosen = CleaningSettings(**settings)
    return clean(shards, folder / "out", chosen, length_tokenizer=None, executor=LocalExecutor(1))


def test_counts_reasons_and_texts_in_the_stage(tmp_path: Path) -> None:
    page = english(1) + " Write to a@b.com."
    texts = [
        page + "\nMenu",
        english(2),
        english(3) + " { }",
        "the and of river " * 60,
        english(4) + "\n" + english(5)[:-1],
    ]
    summary = run(texts, tmp_path, filters=ALL)
    assert summary["dropped"] == {"c4.curly_bracket": 1, "gopher_repetition.top_2_gram": 1}
    assert summary["changed"] == {"c4.lines_without_end": 2, "pii.email": 1}
    assert summary["repaired"] == 0
    assert [document.text for document in read_documents(tmp_path / "out")] == [
        page.replace("a@b.com", EMAIL),
        english(2),
        english(4),
    ]
    dropped = (tmp_path / "out" / "dropped" / "documents-00000.jsonl").read_text()
    assert [json.loads(line)["reason"] for line in dropped.splitlines()] == [
        "c4.curly_bracket",
        "gopher_repetition.top_2_gram",
    ]


def test_a_document_that_a_filter_leaves_too_short_is_dropped_as_such(tmp_path: Path) -> None:
    lines = english(1, 60) + "\n" + english(2, 200)[:-1]
    assert run([lines], tmp_path, filters=["c4"])["dropped"] == {"too_short": 1}
    assert run([lines], tmp_path / "kept", filters=["c4"], minimum_tokens=80)["dropped"] == {}


def test_without_filters_nothing_is_other_than_before(tmp_path: Path) -> None:
    """The key that version 2 of the stage gave, and the same files as with filters that find nothing."""
    assert CleaningSettings().key() == {
        "language": "en",
        "language_share": 0.5,
        "minimum_tokens": 128,
        "repair": True,
        "join_lines": False,
    }
    assert CleaningSettings().files() == {} and CleaningSettings().questions() == []
    off = run([english(1), "short"], tmp_path / "off")
    assert off == run([english(1), "short"], tmp_path / "on", filters=["pii", "gopher_quality"])
    assert contents(tmp_path / "off" / "out") == contents(tmp_path / "on" / "out")


def test_keys_know_thresholds_and_the_content_of_lists(blocklist: Blocklist) -> None:
    plain = CleaningSettings(filters=["c4"])
    other = CleaningSettings(filters=["c4"], filter_settings={"c4": C4(minimum_sentences=4)})
    assert plain.key() == CleaningSettings(filters=["c4"], filter_settings={"c4": C4()}).key()
    assert plain.key() != other.key()
    listed = CleaningSettings(filters=["blocklist"], filter_settings={"blocklist": blocklist})
    assert listed.key()["filters"] == [["blocklist", "", {"url_field": "url"}]]  # wherever the file is
    assert listed.files() == {"filter blocklist lists 0": Path(blocklist.lists[0])}


def test_a_recipe_gives_settings_and_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "blocked.txt").write_text("bad.org\n")
    table = {
        "filters": ["blocklist", "c4"],
        "blocklist": {"lists": ["blocked.txt"]},
        "c4": {"minimum_words": 3},
    }
    errors: list[str] = []
    found = filter_tables(table, "clean", lambda path, where: str(tmp_path / path), errors)
    assert found == {"blocklist": Blocklist(lists=[str(tmp_path / "blocked.txt")])}
    assert table == {"filters": ["blocklist"]}  # what is wrong with c4 is said once
    (error,) = errors
    assert error.startswith(
        "clean.c4.minimum_words: unknown key, did you mean 'minimum_line_words'? (known: bad_words, "
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("--filters c4 --c4-minimum-sentences -2", "--c4-minimum-sentences: must be 0 or more, is -2"),
        ("--filters pii --c4-terminal-marks !", "--c4-terminal-marks: only with --filters c4"),
        ("--filters blocklist", "--blocklist-lists: needed, a file of domains and URLs"),
        (
            "--filters blocklist --blocklist-lists no_such",
            "--blocklist-lists: no_such: cannot be read (No such file",
        ),
    ],
)
def test_flags_that_are_wrong(
    line: str,
    problem: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["clean", "--input", "x.jsonl", "--output", "out", *line.split()]) == 2
    assert problem in capsys.readouterr().err


def test_flags_set_thresholds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("in.jsonl"), [english(1), english(2) + " Call +44 20 7946 0958."])
    line = "clean --input in.jsonl --output out --workers 1 --filters gopher_quality pii --pii-phone [tel]"
    assert main([*line.split(), "--gopher-quality-stop-words", "the", "of", "and"]) == 0
    assert read_documents(Path("out"))[1].text.endswith(" Call [tel].")
    (manifest,) = Path("out/stages/clean").glob("*/manifest.json")
    facts = json.loads(manifest.read_text())
    filters = {name: settings for name, _, settings in facts["parameters"]["filters"]}
    assert filters["gopher_quality"]["stop_words"] == ["the", "of", "and"]
    assert facts["summary"]["changed"] == {"pii.phone": 1}


def test_answers_of_a_function(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def answers(document: Document) -> Any:
        number = int(document.id[-1])
        return (
            True,
            False,
            "no_reason",
            document._replace(text=document.text + " Twice."),
            Edited(document, {"seen": 2}),
            None,
        )[number]

    monkeypatch.setitem(FILTERS._records, "mine", answers)
    summary = run([english(number) for number in range(6)], tmp_path, filters=["mine"])
    assert summary["dropped"] == {"mine": 2, "mine.no_reason": 1}
    assert summary["changed"] == {"mine.seen": 2}
    texts = [document.text for document in read_documents(tmp_path / "out")]
    assert texts == [english(0), english(3) + " Twice.", english(4)]
    for number, wrong in enumerate(
        (lambda d: 1 / 0, lambda d: d._replace(id="x"), lambda d: d._replace(text="\ud800"))
    ):
        monkeypatch.setitem(FILTERS._records, "mine", wrong)
        with pytest.raises(UserError, match="filter mine: failed on document 't/000000'"):
            run([english(1)], tmp_path / str(number), filters=["mine"])


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (GopherQuality(minimum_words=-1), "x.minimum_words: must be 0 or more, is -1"),
        (GopherQuality(maximum_words=10), "x.maximum_words: must be minimum_words (50) or more, is 10"),
        (
            GopherQuality(stop_words=["og"]),
            "x.minimum_stop_words: must be at most the number of stop_words (1), is 2",
        ),
        (GopherRepetition(lines=1.5), "x.lines: must be from 0 to 1, is 1.5"),
        (GopherRepetition(top_ngrams=[0.1] * 4), "x.top_ngrams: must be at most 3 numbers"),
        (C4(terminal_marks=""), "x.terminal_marks: no character is given"),
        (C4(bad_words="no_such"), "x.bad_words: no_such: no such file"),
        (C4(maximum_word_length=0), "x.maximum_word_length: must be 1 or more, is 0"),
    ],
)
def test_values_out_of_range(settings: Filter, problem: str) -> None:
    (found,) = settings.errors("x")
    assert found.startswith(problem)
