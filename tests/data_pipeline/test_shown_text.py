"""What `show` makes of texts: nothing hidden in them, lines of cells, words that differ, domains, places of expressions."""

import pytest

from data_pipeline.inspection.counts import domain
from data_pipeline.inspection.differences import side_by_side
from data_pipeline.inspection.sampling import Expression
from data_pipeline.inspection.visible import Span, around, visible, wrapped


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        ("plain", "plain"),
        ("a\n\tb", "a\n\tb"),
        ("␛[0m␀␡", "\x1b[0m\x00\x7f"),
        ("<U+0085><U+2028><U+FEFF><U+E000><U+FFFF>", "\x85\u2028\ufeff\ue000\uffff"),
        ("é👩‍👧漢", "é👩‍👧漢"),
        ("e\u0301\u0301\u0301\u0301<U+0301><U+0301>a\u0301", "e" + "\u0301" * 6 + "a\u0301"),
        ("<U+200B>×9", "\u200b" * 9),
        ("<U+D800>", "\ud800"),
    ],
)
def test_what_is_not_seen_is_written_out(shown: str, text: str) -> None:
    assert visible(text) == shown


def test_lines_are_wrapped_by_cells() -> None:
    for words, width, lines in (
        ("one two three", 7, ["one two", " three"]),
        ("漢字漢字", 4, ["漢字", "漢字"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("a\n\nb", 9, ["a", "", "b"]),
        ("", 9, [""]),
    ):
        found = ["".join(span.text for span in line) for line in wrapped([Span(words)], width)]
        assert [line.strip() for line in found] == [line.strip() for line in lines]
    styled = wrapped([Span("a "), Span("bc", "hit"), Span("d e")], 4)
    assert [[(span.text, span.style) for span in line] for line in styled] == [
        [("a", ""), (" ", "")],
        [("bc", "hit"), ("d", ""), (" ", "")],
        [("e", "")],
    ]


def test_differences_of_words() -> None:
    left, right, note = side_by_side("the old man sat down", "the young man sat down again", 0)
    assert [span for span in left if span.style] == [Span("old", "gone")]
    assert [span for span in right if span.style] == [Span("young", "new"), Span("again", "new")]
    assert note == ""
    many = " ".join(f"w{number}" for number in range(3000))
    left, right, note = side_by_side(f"{many} end", f"{many} fin", 0)
    assert note == "shown from word 2,989 on, the first difference"
    assert "".join(span.text for span in left) == "… " + " ".join(f"w{n}" for n in range(2988, 3000)) + " end"
    assert side_by_side("a b", "a  b", 0)[2] == "the same words, other blanks"
    assert side_by_side("a", "a", 0)[2] == "the same text"
    assert [span.style for span in side_by_side("漢字漢", "漢語漢", 0)[0]] == ["", "gone", ""]
    assert len(side_by_side("a b " * 5000, "b a " * 5000, 0)[0]) < 500  # bounded, whatever the texts


def test_text_around_what_is_marked() -> None:
    line = "word " * 100 + "here it is " + "word " * 100
    spans = around(line, [(500, 510), (504, 507)], "hit", 60)
    assert [span.text for span in spans if span.style == "hit"] == ["here it is"]
    assert spans[0].text == "… " and spans[-1].text.endswith(" …") and sum(len(s.text) for s in spans) < 70
    assert around(line, [], "hit", 12) == [Span("word word …")]
    assert "".join(span.text for span in around(line, [(500, 510)], "hit", 0)) == line


@pytest.mark.parametrize(
    ("metadata", "host"),
    [
        ('{"url": "https://www.Example.org:80/a"}', "example.org"),
        ('{"URL": "example.org/a"}', "example.org"),
        ('{"url": "http://[::1"}', ""),
        ('{"url": 5, "link": "ftp://b.example/"}', "b.example"),
        ('{"url": "no address"}', ""),
        ("[1]", ""),
        ("", ""),
    ],
)
def test_domains(metadata: str, host: str) -> None:
    assert domain(metadata) == host


def test_places_of_an_expression() -> None:
    line = "\ue000 aé漢 a\ue001"
    assert Expression("a|漢").places(line) == [(2, 3), (4, 5), (6, 7)]
    assert Expression("x*").places("aaa") == []
    assert Expression("(a)(b)?").places("ab a") == [(0, 2), (3, 4)]
    assert Expression("(a+)+$").places("a" * 50_000 + "b") == []
