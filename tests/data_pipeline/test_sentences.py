"""Where sentences end: hard cases, whatever the corpus says of them; and what of a corpus is learned from."""

import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from corpus_files import english, fetch_files, read_documents, real_data, write_documents

from data_pipeline.engine.documents import list_shards
from data_pipeline.tokenization import sentences
from data_pipeline.tokenization.sampling import sample_texts
from data_pipeline.tokenization.sentences import (
    SentenceSplitter,
    load_sentence_splitter,
    train_sentence_splitter,
)

# Each list: the sentences of one text.
HARD = [
    ["Mr. Rose met Mrs. Brown at the door.", "She was late."],
    ["Dr. Black and Prof. Green spoke to Gen. Stone.", "Then Capt. White came."],
    ["“Mr. Fox,” said Col. Wood, “you are late.”", "He sat down."],
    ["'Mr. Bell,' she said.", "'Come in.'"],
    ["He wrote to Rev. King and Hon. Justice Field.", "Nobody answered."],
    ["They sailed past St. Helena in June.", "It was hot."],
    ["She worked on Wall St. for a year.", "It paid well."],
    ["She worked on Wall St.", "The pay was good."],
    ["See No. 7 on the list.", "It is new."],
    ["Did he answer?", "No.", "He would not."],
    ["Look at Fig. 3 and pp. 12 to 14 of Vol. 2.", "All is there."],
    ["He had read as far as Chap. IV of the book.", "It was long."],
    ["He is a good chap.", "Everybody likes him.", "She ate a fig.", "Tom had two."],
    ["Come in, hon.", "Dinner is ready."],
    ["It was signed on Jan. 5 and again on Sept. 12, 1901.", "Both are kept."],
    ["The train left at 5 p.m. and came at 9 a.m. on Friday.", "It was cold."],
    ["The U.S. Senate met in Washington, D.C. on Monday.", "It voted."],
    ["He moved to the U.S. in 1990.", "He stayed."],
    ["He moved to the U.S.", "He stayed."],
    ["J. R. R. Tolkien wrote it.", "Everybody read it."],
    ["Apples, pears, etc. were sold there.", "Nothing was left."],
    ["Some animals, e.g. cats, sleep by day, i.e. when we work.", "Others do not."],
    ["Smith & Co. sold it to Jones Bros. for ten pounds.", "It was cheap."],
    ["Martin Luther King Jr. was there.", "He spoke."],
    ["John Smith, Ph.D. and Jane Roe, M.D. were there.", "Both spoke."],
    ["It cost $3.50 in all.", "He paid."],
    ["He asked, “Is that Mr. Hill?”", "Nobody knew."],
    ['"How do you do, Mr. Rose?"', '"Well, thank you."'],
    ["(Mr. Park left.)", "Then it rained."],
    ["Messrs. Cook and Baker met Mme. Page.", "They dined."],
    ["She climbed Mt. Stone with Lt. Hill.", "They camped."],
    ["The case of Brown vs. Board of Education was decided.", "It was 1954."],
    ["The journal—Mr. Black’s own—was found.", "Nobody had read it."],
    ["June 20th.--Mr. Blake is better.", "He slept."],
    ["Wait... Mr. Long is here.", "Let him in."],
    ["He saw the cat.", "The cat sat.", "Tom left.", "The sun shone."],
    ["MR. FOX AND DR. BELL ARE HERE.", "COME IN."],
]
_TITLES = "Mr Mrs Dr Prof Gen Capt Col Rev Hon St Lt Messrs Mme Mt Fig Vol Jr Co Bros etc vs"
_NOUNS = "rose brown black green stone white fox wood bell king field hill park cook baker page long blake"


@pytest.fixture(scope="module")
def unlearned(tmp_path_factory: pytest.TempPathFactory) -> SentenceSplitter:
    """Trained on a corpus that unlearns every title and knows the names after them as words in lower case."""
    nouns = " ".join(f"They saw, day by day, one {noun} by day." for noun in _NOUNS.split())
    titles = _TITLES.split()
    texts = [" ".join(f"{title} Young came day by day." for title in titles) + " " + nouns for _ in range(45)]
    texts += [" ".join(f"{title}. Young came day by day." for title in titles) for _ in range(2)]
    directory = tmp_path_factory.mktemp("unlearned")
    train_sentence_splitter(write_documents(directory / "in", texts), directory)
    return load_sentence_splitter(directory)


@pytest.mark.parametrize("expected", HARD, ids=lambda expected: expected[0][:30])
@pytest.mark.parametrize("corpus", ["unlearned", "nothing"])
def test_hard_sentences(expected: list[str], corpus: str, unlearned: SentenceSplitter) -> None:
    nothing = {"abbreviations": [], "collocations": [], "sentence_starters": [], "orthographic_context": {}}
    split = unlearned if corpus == "unlearned" else SentenceSplitter(nothing)
    assert split(" ".join(expected)) == expected
    assert split("\n".join(expected)) == expected


def test_no_title_ends_a_sentence_in_real_novels(tmp_path: Path) -> None:
    fetch_files([real_data("gutenberg_small.jsonl.gz")], tmp_path / "in", source="g")
    train_sentence_splitter(list_shards(tmp_path / "in"), tmp_path, limit_bytes=150_000)
    split = load_sentence_splitter(tmp_path)
    title = r"\b(Mr|Mrs|Dr|St|Capt|Col|Rev|Messrs|Hon)\."
    found: Counter[str] = Counter()
    for document in read_documents(tmp_path / "in")[:500]:
        texts = split(document.text)
        found.update(re.findall(rf"{title}(?=[^\S\n]*\n?[^\S\n]*[A-Za-z])", document.text))
        assert not [text for text in texts if re.search(rf"{title}$", text)]
    assert found["Mr"] > 1000 and found["Mrs"] > 200 and found["Dr"] > 5 and found["St"] > 40


def test_a_paragraph_of_any_length_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """nltk allows its expressions some seconds of processor time, those of whoever reads what they find included."""
    redos = getattr(sentences._punkt().module, "redos", None)
    if redos is None:
        pytest.skip("this nltk has no time limits")
    nothing = {"abbreviations": [], "collocations": [], "sentence_starters": [], "orthographic_context": {}}
    split = SentenceSplitter(nothing)
    assert redos.DEFAULT_TIMEOUT is None
    assert len(split("He came. " * 2000)) == 2000


def _marked(directory: Path, shards: int, documents: int, characters: int) -> list[Path]:
    """Shards in whose texts every word says where it is."""
    texts = [
        " ".join(f"s{shard}d{number}w{place}" for place in range(characters // 10))
        for shard in range(shards)
        for number in range(documents)
    ]
    return write_documents(directory, texts, shards=shards)


def _learned_from(shards: list[Path], limit: int) -> list[str]:
    return list(sample_texts(shards, limit, sentences._MOST_SHARDS))


@pytest.mark.parametrize("limit", [10, 100, 3_000, 20_000])
def test_the_sample_is_never_empty_and_keeps_its_limit(tmp_path: Path, limit: int) -> None:
    shards = _marked(tmp_path, shards=20, documents=5, characters=2_000)
    texts = _learned_from(shards, limit)
    assert limit * 0.9 <= sum(map(len, texts)) <= limit + 12  # whole words
    assert texts == _learned_from(shards, limit)


def test_the_sample_is_spread_over_shards_and_within_them(tmp_path: Path) -> None:
    shards = _marked(tmp_path, shards=8, documents=40, characters=3_000)
    words = " ".join(_learned_from(shards, 64_000)).split()
    places = [tuple(map(int, re.findall(r"[sdw](\d+)", word))) for word in words]
    assert Counter(shard for shard, _, _ in places).keys() == set(range(8))
    assert len({number for _, number, _ in places}) > 20
    first, last = sum(place < 150 for _, _, place in places), sum(place >= 150 for _, _, place in places)
    assert min(first, last) > 0.25 * len(places)


def test_a_small_corpus_is_learned_from_whole(tmp_path: Path) -> None:
    texts = [english(seed) for seed in range(8)]
    summary = train_sentence_splitter(write_documents(tmp_path / "in", texts, shards=3), tmp_path)
    assert (summary["documents"], summary["characters"]) == (8, sum(map(len, texts)))


def test_a_process_that_splits_sentences_imports_no_more_of_nltk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "nltk"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nltk.collocations", None)  # importing all of nltk fails
    punkt = sentences._import_punkt()
    assert punkt.PunktSentenceTokenizer().tokenize("He came. She left.") == ["He came.", "She left."]
    assert "nltk" not in sys.modules, "who imports nltk gets the whole of it"
