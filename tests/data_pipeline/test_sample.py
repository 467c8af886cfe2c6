"""The sample source: its formats, its planted defects, and that its benchmarks cannot be solved without reading."""

import collections
import gzip
import hashlib
import json
import re
import tomllib
from pathlib import Path

import pytest

from data_pipeline.sample import vocabulary
from data_pipeline.sample.defects import jaccard
from data_pipeline.sample.files import write_sample

DOCUMENTS = 500
CORPUS_FILES = ("stories", "articles", "books")
KINDS = {
    "exact_duplicate",
    "near_duplicate",
    "too_short",
    "mojibake",
    "other_language",
    "contains_wikitext103",
    "contains_lambada",
    "contains_race",
}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, seed=3, documents=DOCUMENTS)
    return folder


@pytest.fixture(scope="module")
def corpus(sample: Path) -> dict[str, list[str]]:
    """File name -> texts, line by line."""
    texts = {}
    for name in CORPUS_FILES:
        with gzip.open(sample / "corpus" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            texts[f"{name}.jsonl.gz"] = [json.loads(line)["text"] for line in lines]
    return texts


@pytest.fixture(scope="module")
def planted(sample: Path) -> list[dict]:
    return json.loads((sample / "planted.json").read_text())


@pytest.fixture(scope="module")
def clean(corpus: dict[str, list[str]], planted: list[dict]) -> list[str]:
    defects = {(entry["file"], entry["line"]) for entry in planted}
    return [
        text
        for name, texts in corpus.items()
        for line, text in enumerate(texts, start=1)
        if (name, line) not in defects
    ]


def lambada(folder: Path) -> list[str]:
    lines = (folder / "benchmarks" / "lambada_test.jsonl").read_text().splitlines()
    return [json.loads(line)["text"] for line in lines]


def race(folder: Path, split: str) -> list[dict]:
    root = folder / "benchmarks" / "RACE" / split
    return [json.loads(path.read_text()) for path in sorted(root.glob("*/*.txt"))]


def test_same_seed_same_bytes_other_seed_other_bytes(sample: Path, tmp_path: Path) -> None:
    write_sample(tmp_path / "again", seed=3, documents=DOCUMENTS)
    write_sample(tmp_path / "other", seed=4, documents=DOCUMENTS)
    first, again, other = digests(sample), digests(tmp_path / "again"), digests(tmp_path / "other")
    assert first == again
    assert first.keys() == other.keys()
    assert not set(first.values()) & set(other.values())


def test_the_words_are_the_same_in_every_version(sample: Path) -> None:
    """The content of all files for seed 3; whoever changes the world on purpose changes this line, too."""
    whole = hashlib.sha256()
    for path in sorted(path for path in sample.rglob("*") if path.is_file()):
        content = path.read_bytes()
        whole.update(str(path.relative_to(sample)).encode())
        whole.update(gzip.decompress(content) if path.suffix == ".gz" else content)
    assert whole.hexdigest() == "055583471db29a11ac3174f578e4bfaa8266c51f5b995e5bebc2fdb8216aa52d"


def test_the_word_files_are_installed_with_the_code() -> None:
    package = Path(vocabulary.__file__).parent
    project = tomllib.loads((package.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["data_pipeline.sample"]
    assert {path.name for path in package.iterdir() if path.suffix == ".toml"} == {
        path.name for pattern in patterns for path in package.glob(pattern)
    }


def test_too_few_documents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 100"):
        write_sample(tmp_path, seed=1, documents=20)


def test_document_count_is_what_was_asked(corpus: dict[str, list[str]]) -> None:
    assert sum(len(texts) for texts in corpus.values()) == DOCUMENTS


@pytest.mark.parametrize("split", ["valid", "test"])
def test_wikitext_form(sample: Path, split: str) -> None:
    text = (sample / "benchmarks" / "wikitext103" / f"wiki.{split}.tokens").read_text()
    lines = text.split("\n")
    assert lines[0] == " " and lines[-1] == ""
    assert re.fullmatch(r" = [^=]+ = ", lines[1])
    assert all(line.startswith(" ") and line.endswith(" ") for line in lines[:-1])
    assert len(re.findall(r"\n = = [^=]+ = = \n", text)) > 20
    for mark in (" @-@ ", " @,@ ", " @.@ ", "<unk>"):
        assert text.count(mark) > 5, mark
    assert not re.search(r"\w[.,;:!?](\s|$)", text), "punctuation must stand apart"
    assert text.count("<unk>") < 0.02 * len(text.split())


def test_lambada_rows(sample: Path) -> None:
    passages = lambada(sample)
    assert len(passages) == len(set(passages)) == 500
    assert all(55 <= len(passage.split()) <= 90 for passage in passages)
    targets = [passage.split()[-1] for passage in passages]
    assert all(target.isalpha() and target.islower() for target in targets)
    assert all(target not in words(passage)[:-1] for passage, target in zip(passages, targets, strict=True))
    [(_, most)] = collections.Counter(targets).most_common(1)
    assert most / len(targets) <= 0.08


def test_lambada_last_sentence_does_not_tell_the_word(sample: Path) -> None:
    """Guessing the commonest word after the same three words is right for at most one row in eight."""
    endings = collections.defaultdict(collections.Counter)
    for passage in lambada(sample):
        endings[tuple(passage.split()[-4:-1])][passage.split()[-1]] += 1
    best = sum(max(counts.values()) for counts in endings.values() if sum(counts.values()) >= 10)
    rows = sum(sum(counts.values()) for counts in endings.values() if sum(counts.values()) >= 10)
    assert rows > 200 and best / rows < 0.2


def test_race_tree(sample: Path) -> None:
    counts = {}
    for split in ("train", "dev", "test"):
        rows = race(sample, split)
        counts[split] = sum(len(row["questions"]) for row in rows)
        for row in rows:
            assert set(row) == {"article", "questions", "options", "answers", "id"}
            assert len(row["questions"]) == len(row["options"]) == len(row["answers"])
            assert all(len(set(options)) == 4 for options in row["options"])
            assert 50 <= len(row["article"].split()) <= 95
        assert {path.parent.name for path in (sample / "benchmarks/RACE" / split).glob("*/*.txt")} == {
            "middle",
            "high",
        }
    assert counts["train"] >= 3000 and counts["dev"] >= 300 and counts["test"] >= 400
    questions = [question for row in race(sample, "test") for question in row["questions"]]
    assert 0.1 < sum("_" in question for question in questions) / len(questions) < 0.7
    answers = collections.Counter(answer for row in race(sample, "train") for answer in row["answers"])
    assert set(answers) == set("ABCD")
    assert max(answers.values()) / sum(answers.values()) < 0.3


def test_race_cannot_be_solved_from_the_options(sample: Path) -> None:
    """A bag of words over question and option alone stays near chance on the test split."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    def pairs(split: str) -> tuple[list[str], list[int]]:
        texts, labels = [], []
        for row in race(sample, split):
            for question, options, answer in zip(
                row["questions"], row["options"], row["answers"], strict=True
            ):
                texts += [f"{question} {option}" for option in options]
                labels += [int("ABCD"[place] == answer) for place in range(4)]
        return texts, labels

    train_texts, train_labels = pairs("train")
    texts, labels = pairs("test")
    counter = CountVectorizer()
    model = LogisticRegression(max_iter=200).fit(counter.fit_transform(train_texts), train_labels)
    scores = model.predict_proba(counter.transform(texts))[:, 1].reshape(-1, 4)
    right = scores.argmax(1) == [labels[row : row + 4].index(1) for row in range(0, len(labels), 4)]
    assert right.mean() <= 0.35


def test_every_defect_is_planted_and_recorded(
    corpus: dict[str, list[str]], planted: list[dict], sample: Path
) -> None:
    import ftfy
    import pycld2

    assert {entry["kind"] for entry in planted} == KINDS
    assert len({(entry["file"], entry["line"]) for entry in planted}) == len(planted)
    for entry in planted:
        text = corpus[entry["file"]][entry["line"] - 1]
        kind = entry["kind"]
        if kind.endswith("duplicate"):
            original = corpus[entry["file"]][entry["original_line"] - 1]
            assert entry["original_line"] < entry["line"]
            assert (text == original) == (kind == "exact_duplicate")
            assert jaccard(text, original) > 0.8
        elif kind == "too_short":
            assert len(text.split()) * 4 / 3 < 110
        elif kind == "mojibake":
            assert "Ã" in text or "â" in text
            repaired = hashlib.sha256(ftfy.fix_encoding(text).encode()).hexdigest()
            assert repaired == entry["original_sha256"]
        elif kind == "other_language":
            assert pycld2.detect(text)[2][0][0].title() == entry["language"]
            assert len(text.split()) * 4 / 3 > 128


def test_contaminated_documents_hold_their_benchmark_text(
    corpus: dict[str, list[str]], planted: list[dict], sample: Path
) -> None:
    passages = {
        "contains_lambada": lambada(sample),
        "contains_race": [row["article"] for row in race_in_order(sample)],
    }
    for entry in planted:
        if entry["kind"] in passages:
            text = corpus[entry["file"]][entry["line"] - 1]
            assert passages[entry["kind"]][entry["benchmark_row"]] in text


def race_in_order(folder: Path) -> list[dict]:
    return sorted(race(folder, "test"), key=lambda row: int(re.sub(r"\D", "", row["id"])))


def test_clean_documents_are_long_enough(clean: list[str]) -> None:
    assert all(170 <= len(text.split()) <= 620 for text in clean)


def test_clean_documents_share_no_run_of_13_words_with_benchmarks(clean: list[str], sample: Path) -> None:
    reserved = set()
    folder = sample / "benchmarks" / "wikitext103"
    wikitext = [
        article.replace("@-@", "").replace("@,@", "").replace("@.@", "")
        for split in ("valid", "test")
        for article in re.split(r"\n = [^=]+ = \n", (folder / f"wiki.{split}.tokens").read_text())
    ]
    articles = [row["article"] for split in ("train", "dev", "test") for row in race(sample, split)]
    for text in [*wikitext, *lambada(sample), *articles]:
        tokens = words(text)
        reserved |= {tuple(tokens[start : start + 13]) for start in range(len(tokens) - 12)}
    for text in clean:
        tokens = words(text)
        assert not any(tuple(tokens[start : start + 13]) in reserved for start in range(len(tokens) - 12))


def test_clean_documents_are_no_near_duplicates_of_each_other(clean: list[str]) -> None:
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(analyzer="char", ngram_range=(5, 5), lowercase=False, binary=True)
    shingles = counter.fit_transform(clean).astype(np.int32)
    sizes = np.asarray(shingles.sum(axis=1)).ravel()
    common = (shingles @ shingles.T).toarray()
    similarity = common / (sizes[:, None] + sizes[None, :] - common)
    np.fill_diagonal(similarity, 0)
    assert similarity.max() < 0.6
