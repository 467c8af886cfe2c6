"""WikiText-103: detokeniser, counts and windows. Forward passes are tested in test_scoring."""

import gzip
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.config import ModelConfig
from core.evaluation import ratio_standard_error
from data_pipeline.benchmarks import BENCHMARKS
from data_pipeline.benchmarks.identity import identified
from data_pipeline.benchmarks.wikitext103 import count_original_tokens
from data_pipeline.tokenization.tokenizers import load_tokenizer
from evaluate.perplexity import blocks_of_windows, overlapping_windows, stretches
from evaluate.scoring import Totals
from evaluate.text import Text
from evaluate.wikitext2 import WikiText2
from evaluate.wikitext103 import WIKITEXT103, WikiText103, detokenize, title_places
from recipes.schema import EvaluationSettings

REAL_DATA = os.environ.get("REAL_DATA")


@pytest.mark.parametrize(
    ("spelled", "plain"),
    [
        ("state @-@ of @-@ the @-@ art", "state-of-the-art"),
        ("1 @,@ 234 @.@ 5 miles", "1,234.5 miles"),
        (
            "first : second ; third . Fourth ! Fifth ? Sixth , end",
            "first: second; third. Fourth! Fifth? Sixth, end",
        ),
        ("a ( small ) one [ of ] { many }", "a (small) one [of] {many}"),
        ('he said " well done " and left', 'he said "well done" and left'),
        ("he said ' well done ' and left", "he said 'well done' and left"),
        ("the players ' own", "the players' own"),  # "s '" comes before the quotes are paired
        ("Anna 's book", "Anna's book"),
        (
            " \n = Title = \n \n = = Part = = \n = = = Detail = = = \n",
            "\n= Title =\n\n== Part ==\n=== Detail ===\n",
        ),
        ("20 ° north", "20°north"),
        ("it has N parts", "it has 1 parts"),
        ("<unk> stays", "<unk> stays"),
        ("no . end", "no. end"),
        ("/' 5/", "/'[0-9]/"),  # the odd rule, as it is
    ],
)
def test_detokenizer(spelled: str, plain: str) -> None:
    assert detokenize(spelled) == plain


def test_original_tokens_count_line_ends_as_words() -> None:
    """split(" ") and split() differ by thousands on the real file."""
    assert count_original_tokens(" \n = A = \n \n b c . \n ") == len(
        ["=", "A", "=", "\n", "\n", "b", "c", "."]
    )


def articles(text: str) -> list[str]:
    return stretches(text, title_places(text)[1:])


class _Letters:
    """A stand-in for a tokenizer: one token a character."""

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]


def _scored(path: Path, content: str) -> tuple[list[int], dict[str, Any]]:
    """What is scored of a file, and the result where each target costs 0.1."""
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    benchmark = WikiText103(path, _Letters(), 8, EvaluationSettings(stride=4))  # type: ignore[arg-type]
    scored = np.array([window.scored for window in benchmark.windows])
    targets = int(scored.sum())
    totals = Totals(scored, np.full(targets, 0.1), np.zeros(targets, int), np.zeros(targets, bool))
    result = benchmark.evaluate(lambda windows: totals)
    return [int(token) for window in benchmark.windows for token in window.tokens], result


@pytest.mark.parametrize(
    ("spelled", "said"),
    [
        (lambda text: text.replace("\n", "\r\n"), "CRLF line ends"),
        (lambda text: text.replace("\n", "\r\n", 2), "CRLF line ends"),
        (lambda text: text.replace("\n", "\r"), "CR line ends"),
        (lambda text: "\ufeff" + text, None),
        (lambda text: "\ufeff" + text.replace("\n", "\r\n"), "CRLF line ends"),
    ],
)
@pytest.mark.parametrize("name", ["wiki.tokens", "wiki.raw.gz"])
def test_other_line_ends_give_the_same_number_and_are_said(
    tmp_path: Path, name: str, spelled: Callable[[str], str], said: str | None
) -> None:
    text = " \n = Title = \n \n Some words , and @-@ more . \n \u2028 a \x85 b \n"
    published, expected = _scored(tmp_path / name, text)
    scored, result = _scored(tmp_path / name, spelled(text))
    assert "normalised" not in expected
    assert result.pop("normalised", None) == said
    assert (scored, result) == (published, expected)
    cut = text.rstrip("\n")
    assert _scored(tmp_path / name, cut.replace("\n", "\r\n") + "\r")[0] == _scored(tmp_path / name, cut)[0]
    kept, untouched = _scored(tmp_path / name, text.replace("Some", "\rSome"))  # no line end: text
    assert len(kept) > len(published) and "normalised" not in untouched


@pytest.mark.skipif(REAL_DATA is None, reason="REAL_DATA is not set: needs the real validation file")
def test_golden_counts_of_the_validation_set() -> None:
    folder = Path(REAL_DATA or "")
    tokenizer = load_tokenizer(folder / "gpt2-vocab.json")
    benchmark = WikiText103(folder / "wikitext103.valid.tokens", tokenizer, 1024, EvaluationSettings())
    assert benchmark.original_tokens == 217642
    assert benchmark.tokens == 236892
    assert len(benchmark.windows) == 1 + math.ceil((236891 - 1024) / 32)
    assert len(benchmark.block_words) == 60, "its articles"
    assert benchmark.block_words.sum() == pytest.approx(217642 - 1, abs=5)  # blanks at the ends
    exact = [part.count(" ") for part in articles((folder / "wikitext103.valid.tokens").read_text())]
    np.testing.assert_allclose(benchmark.block_words, exact, atol=60)  # windows begin every 32 tokens


@pytest.mark.parametrize("name", ["wiki.test.tokens", "any.txt"])
def test_the_task_chooses_the_detokeniser_not_the_path(tmp_path: Path, name: str) -> None:
    """And a text's words are what white space separates; a mark at its start is none of it, and counts no byte."""
    content = " \n = One = \n \n Some words , é and @-@ more . \n"
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.replace("\n", "\r\n").encode())
    settings = EvaluationSettings(stride=4)
    for program, spelled, words in (
        (WikiText103, detokenize(content), len(content.strip().split(" "))),
        (WikiText2, detokenize(content), len(content.strip().split(" "))),
        (Text, content, len(content.split())),
    ):
        task = program(tmp_path / name, _Letters(), 8, settings)  # type: ignore[arg-type]
        assert "".join(map(chr, task.token_ids)) == spelled
        assert task.original_tokens == words
        assert task.bytes == len(content.encode()) == len(content) + 1


def test_plain_texts_are_divided_into_stretches(tmp_path: Path) -> None:
    (tmp_path / "text").write_text(" ".join(f"word{number:03}" for number in range(400)))
    task = Text(tmp_path / "text", _Letters(), 8, EvaluationSettings(stride=8))  # type: ignore[arg-type]
    assert len(task.block_words) == 20 and task.block_words.sum() == pytest.approx(400, abs=1)


@pytest.mark.parametrize(("share", "is_103"), [(0.004, True), (0.026, False)])
def test_files_of_the_two_sizes_have_as_many_words_and_are_told_apart(
    tmp_path: Path, share: float, is_103: bool
) -> None:
    """WikiText-2's test set is WikiText-103's articles with more unknown words."""
    words = ["<unk>" if number % round(1 / share) == 0 else "word" for number in range(245_566)]
    path = tmp_path / "wiki.test.tokens"
    path.write_text(" " + " ".join(words) + " \n")
    for name, expected in (("wikitext103", is_103), ("wikitext2", not is_103)):
        found = identified(BENCHMARKS[name], path, "")
        assert found["official"] is expected
        assert found["counts"]["words"] == 245_566
        assert ("<unk>" in found["description"]) is not expected


def test_a_file_is_cut_at_its_titles_or_else_between_words() -> None:
    text = " \n = One = \n \n = = Part = = \n words \n \n = Two = \n more \n = Three ( 3 ) = \n end \n"
    assert "".join(articles(text)) == text
    assert [part.split("=")[1].strip() for part in articles(text)] == ["One", "Two", "Three ( 3 )"]
    untitled = " ".join(f"word{number:03}" for number in range(100))
    assert "".join(articles(untitled)) == untitled
    assert {len(part.split()) for part in articles(untitled)} <= {4, 5, 6} and len(articles(untitled)) == 20
    assert articles("one word") == ["one", " word"] and articles("word") == ["word"]


@pytest.mark.parametrize("length", [8, 64, 400])
def test_windows_are_grouped_by_article_and_words_by_windows(length: int) -> None:
    """Articles of 100, 200 and 300 tokens with 1, 2 and 3 tokens a word; windows may be longer than articles."""
    windows = overlapping_windows(np.arange(600), length, length // 2)
    blocks, words = blocks_of_windows(windows, [100, 200, 300], [100, 100, 100])
    assert (np.diff(blocks) >= 0).all() and set(blocks) == set(range(len(words)))
    assert words.sum() == pytest.approx(300) and (words > 0).all()
    assert len(words) == (2 if length == 400 else 3)
    if length == 8:
        np.testing.assert_allclose(words, [100, 100, 100], atol=4)


@pytest.mark.parametrize("count", [2, 5, 8, 9, 10, 11, 16, 17, 18, 40, 41])
@pytest.mark.parametrize("stride", [1, 3, 8])
def test_every_target_is_scored_once_with_enough_context(count: int, stride: int) -> None:
    length = 8  # the model reads 8 tokens: a text of 9 fills exactly one window
    tokens = np.arange(count)  # a token is its own position
    scored = []
    for index, window in enumerate(overlapping_windows(tokens, length, stride)):
        assert window.tokens[0] == index * stride, "windows are cut at the end, not moved back"
        assert 2 <= len(window.tokens) <= length + 1
        assert window.scored >= 1
        for target in window.tokens[len(window.tokens) - window.scored :]:
            scored.append(int(target))
            context = int(target) - int(window.tokens[0])
            assert context == target or context > length - stride
    assert scored == list(range(1, count))


def _benchmark(tmp_path: Path, content: bytes) -> WikiText103:
    path = tmp_path / "wiki.tokens"
    path.write_bytes(content)
    return WikiText103(path, _Letters(), 8, EvaluationSettings(stride=4))  # type: ignore[arg-type]


class _FewLetters:
    """A stand-in for a tokenizer: one token a character."""

    def encode(self, text: str) -> list[int]:
        return [ord(character) % 7 for character in text]


@pytest.mark.parametrize("content", [b"", b"x", b"word"])
def test_texts_too_short_to_score_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"wiki\.tokens: holds .* needs at least two"):
        _benchmark(tmp_path, content)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent: cannot be read"):
        WikiText103(tmp_path / "absent", _FewLetters(), 8, EvaluationSettings())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"wiki\.tokens: is not UTF-8"):
        _benchmark(tmp_path, b"good \xff bad")


@pytest.mark.parametrize(("stride", "wrong"), [(1, False), (8, False), (9, True)])
def test_a_stride_longer_than_the_model_reads_is_refused(stride: int, wrong: bool) -> None:
    model = ModelConfig("gpt2", 1, 8, 1, 8, 11)
    found = WIKITEXT103.errors(EvaluationSettings(stride=stride), model, "evaluation")
    line = "evaluation.stride: must be from 1 to the model's sequence length, 8, is 9"
    assert found == ([line] if wrong else [])


@pytest.mark.parametrize(("stride", "close"), [(32, 0.02), (512, 0.05), (1024, 0.1)])
def test_the_standard_error_is_that_of_leaving_out_whole_articles(stride: int, close: float) -> None:
    """Losses with an effect of each article, known to the token; windows know articles to a stride only."""
    random = np.random.RandomState(4)
    lengths = random.randint(3000, 6000, 40)
    words = (lengths / random.normal(1.1, 0.05, 40)).astype(int)
    article = np.repeat(np.arange(40), lengths)[1:]  # of each target
    losses = random.normal(3.5, 0.3, 40)[article] + random.normal(0, 2, len(article))
    sums = np.bincount(article, weights=losses)
    left_out = (sums.sum() - sums) / (words.sum() - words)
    jackknife = math.sqrt(39 / 40 * np.square(left_out - left_out.mean()).sum())
    windows = overlapping_windows(np.arange(len(article) + 1), 1024, stride)
    ends = np.cumsum([window.scored for window in windows])
    of_window = np.add.reduceat(losses, [0, *ends[:-1]])
    blocks, block_words = blocks_of_windows(windows, list(lengths), list(words))
    error = ratio_standard_error(np.bincount(blocks, weights=of_window), block_words)
    assert error == pytest.approx(jackknife, rel=close)
    alone = ratio_standard_error(of_window, np.full(len(windows), words.sum() / len(windows)))
    if stride == 32:
        assert alone is not None and alone < 0.7 * jackknife, "windows are not independent"
