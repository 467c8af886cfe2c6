"""LAMBADA: splitting, encoding, baseline and controls. Forward passes are tested in test_scoring."""

import gzip
import json
import os
from pathlib import Path

import pytest

from core.errors import UserError
from data_pipeline.benchmarks.lambada import Row, read_rows, split_last_word
from data_pipeline.decontamination.texts import benchmark_texts
from data_pipeline.tokenization.tokenizers import load_tokenizer
from evaluate.lambada import encode_rows, most_frequent_target_accuracy, with_shuffled_contexts

REAL_DATA = os.environ.get("REAL_DATA")


class _Letters:
    """A stand-in for a tokenizer: one token a character."""

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [[ord(character) for character in text] for text in texts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two three", ("one two", "three")),
        ("  one\n\ntwo   three \n", ("one\n\ntwo", "three")),
        ("the cat saw the", ("the cat saw", "the")),  # the last occurrence, not the first
        ("well, he said don't", ("well, he said", "don't")),
        ("alone", ("", "alone")),
        (" ", ("", "")),
    ],
)
def test_last_word(text: str, expected: tuple[str, str]) -> None:
    assert split_last_word(text) == expected


def test_targets_are_encoded_apart_with_a_blank_and_long_contexts_keep_their_end() -> None:
    rows = [Row(1, "abcdefghij", "xyz"), Row(2, "ab", "x")]
    long, short = encode_rows(rows, _Letters(), sequence_length=8)  # type: ignore[arg-type]
    assert "".join(map(chr, long.tokens)) == "fghij xyz"  # 9 = sequence length + 1 tokens in all
    assert long.scored == 4
    assert "".join(map(chr, short.tokens)) == "ab x"
    assert short.scored == 2


def test_a_target_without_room_for_context_is_refused() -> None:
    with pytest.raises(ValueError, match="line 7: the target has 9 tokens, which leave no room"):
        encode_rows([Row(7, "ab", "x" * 8)], _Letters(), sequence_length=8)  # type: ignore[arg-type]


def test_baseline_is_the_share_of_the_most_frequent_target() -> None:
    rows = [Row(i, "context", word) for i, word in enumerate(["a", "b", "b", "c", "b"])]
    assert most_frequent_target_accuracy(rows) == 3 / 5


@pytest.mark.parametrize("count", [2, 3, 50])
def test_shuffled_contexts_are_a_fixed_derangement(count: int) -> None:
    rows = [Row(i, f"context {i}", f"word{i}") for i in range(count)]
    shuffled = with_shuffled_contexts(rows)
    assert [row.target for row in shuffled] == [row.target for row in rows]
    assert sorted(row.context for row in shuffled) == sorted(row.context for row in rows)
    assert all(a.context != b.context for a, b in zip(rows, shuffled, strict=True))
    assert shuffled == with_shuffled_contexts(rows)


def test_one_row_has_no_other_context() -> None:
    with pytest.raises(ValueError, match="two rows or more"):
        with_shuffled_contexts([Row(1, "a", "b")])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a b"}\nnot json\n', r"lambada\.jsonl, line 2: not JSON"),
        (b'{"text": "a b"}\n\n{"word": 1}\n', r"line 3: must be an object with a string \"text\""),
        (b"[1]\n", r"line 1: must be an object"),
        (b'{"text": "alone"}\n', r"line 1: \"text\" needs two words"),
        (b'{"text": "half a \\ud83d pair"}', r"lambada\.jsonl, line 1: half a surrogate pair at character 7"),
        (
            b'\n{"text": "half a pair \\udc00"}',
            r"lambada\.jsonl, line 2: half a surrogate pair at character 12",
        ),
        (b"[" * 5000, r"lambada\.jsonl, line 1: its fields are nested"),
        (b'{"text": "a b"}\n{"text": "\xff"}', r"lambada\.jsonl: is not UTF-8 text, in line 2"),
        (b"\n\n", r"lambada\.jsonl: holds no rows"),
        (b'{"text": "\xff"}', r"lambada\.jsonl: is not UTF-8"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "lambada.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_rows(path)


@pytest.mark.parametrize("name", ["lambada.jsonl", "LAMBADA.JSONL.GZ"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "end"])
def test_rows_are_the_same_in_every_spelling_of_a_file(
    tmp_path: Path, name: str, mark: str, end: str, last: str
) -> None:
    """What other readers take for line ends, as it is in a JSON text; marks, line ends, a last line without one."""
    texts = [f"say{separator}one two" for separator in "\u2028\u2029\x85\x0b\x0c\x1c"] + ["an emoji 😀"]
    lines = [json.dumps({"text": text}, ensure_ascii=number % 2 == 0) for number, text in enumerate(texts)]
    content = (mark + end.join(["", *lines]) + (end if last else "")).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("GZ") else content)
    rows = read_rows(tmp_path / name)
    assert [(row.line, row.target) for row in rows] == [*((line, "two") for line in range(2, 8)), (8, "😀")]
    assert [row.context for row in rows[:-1]] == [text.removesuffix(" two") for text in texts[:-1]]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "end"])
def test_the_authors_own_format_is_told_by_the_content(
    tmp_path: Path, mark: str, end: str, last: str
) -> None:
    """One passage a line; what other readers take for line ends is text."""
    texts = ['`` go , " she said', "say\u2028one two", "a { brace", "[ sic ] it is so"]
    path = tmp_path / "any.name"
    path.write_bytes((mark + end.join(["", *texts]) + (end if last else "")).encode())
    rows = read_rows(path)
    assert [(row.line, row.target) for row in rows] == [(2, "said"), (3, "two"), (4, "brace"), (5, "so")]
    assert rows[1].context == "say\u2028one"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"two words\nalone\n", r"passages\.txt, line 2: a passage needs two words or more"),
        (
            b'two words\n\n{"text": "a b"}\n',
            r"passages\.txt, line 3: is JSON, but the first line of the file is not",
        ),
        (b'{"text": "a b"}\ntwo words\n', r"passages\.txt, line 2: not JSON"),
        (b"two words\nhalf \xed\xa0\xbd pair\n", r"passages\.txt: is not UTF-8 text, in line 2"),
        (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \xb0\n", r"passages\.txt: is not UTF-8 text"),
        (b"\xef\xbb\xbf \n\r\n", r"passages\.txt: holds no rows"),
    ],
)
def test_bad_passages_are_named_in_either_format(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "passages.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_rows(path)


def test_decontamination_reads_both_formats_and_race_stays_races(tmp_path: Path) -> None:
    (tmp_path / "lambada_test_plain_text.txt").write_text("one passage\nand another\n")
    (tmp_path / "lambada.jsonl").write_text('{"text": "one passage"}\n{"text": "and another"}\n')
    for name in ("lambada_test_plain_text.txt", "lambada.jsonl"):
        assert [text.text for text in benchmark_texts(tmp_path / name, "lambada")] == [
            "one passage",
            "and another",
        ]
    (tmp_path / "1.txt").write_text(
        json.dumps({"article": "an article", "questions": [], "options": [], "answers": []})
    )
    assert [text.text for text in benchmark_texts(tmp_path / "1.txt")] == ["an article"]
    (tmp_path / "own.txt").write_bytes(b"\xef\xbb\xbffirst line\r\n\r\nsecond \xe2\x80\xa8 line")
    found = [text.text for text in benchmark_texts(tmp_path / "own.txt", "text")]
    assert found == ["first line", "second \u2028 line"]


@pytest.mark.skipif(REAL_DATA is None, reason="REAL_DATA is not set: needs 500 real LAMBADA rows")
def test_real_rows() -> None:
    folder = Path(REAL_DATA or "")
    rows = read_rows(folder / "lambada_500.jsonl")
    sequences = encode_rows(rows, load_tokenizer(folder / "gpt2-vocab.json"), sequence_length=1024)
    assert len(rows) == 500
    assert sum(sequence.scored > 1 for sequence in sequences) == 121  # as the data's notes say


@pytest.mark.parametrize("name", ["x.jsonl", "x.JSON", "x.ndjson"])
def test_a_damaged_file_of_json_is_not_plain_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text('z"text": "one two"}\n{"text": "three four"}\n')
    with pytest.raises(UserError, match=rf"{path}, line 1: "):
        read_rows(path)
