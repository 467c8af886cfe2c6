"""BERT's samples: pairs from consecutive sentences, whole-word n-gram masks, and their rates."""

from collections import Counter

import numpy as np
import pytest

from data_pipeline.indexed.dataset import IndexedDataset, IndexedWriter
from data_pipeline.tokenization.tokenizers import load_tokenizer
from pretrain import sentence_runs
from pretrain.bert import BertSamples
from pretrain.masking import (
    SentencePairs,
    choose_ngrams,
    masked_sample,
    predictions_limit,
    truncate,
    whole_words,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [f"w{i}" for i in range(60)] + ["##a", "##b", "##c"]


@pytest.fixture
def tokenizer(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return load_tokenizer(tmp_path / "vocab.txt")


@pytest.fixture
def dataset(tmp_path) -> IndexedDataset:
    """Document d's sentence s starts with token 5 + s and goes on with 40 + d: a token tells where it is from."""
    random = np.random.RandomState(1)
    with IndexedWriter(tmp_path / "corpus", np.uint16) as writer:
        for document in range(12):
            sentences = 1 if document == 3 else int(random.randint(2, 14))
            writer.add_document(
                [[5 + s] + [40 + document] * int(random.randint(2, 9)) for s in range(sentences)]
            )
        writer.finish()
    return IndexedDataset(tmp_path / "corpus")


def _runs(pairs: SentencePairs) -> np.ndarray:
    return np.array([pairs.run(index) for index in range(len(pairs))])


def _run_by_run(
    dataset: IndexedDataset, part: tuple[int, int], samples: int, longest: int, seed: int
) -> list:
    """(first, past the last, target) of every run in order, one number after the other."""
    random = np.random.RandomState(seed)

    def target() -> int:
        return int(random.randint(2, longest + 1)) if random.random_sample() < 0.1 else longest

    bounds, lengths, runs = dataset.document_index.tolist(), dataset.lengths.tolist(), []
    while len(runs) < samples:
        for first, end in zip(bounds[part[0] : part[1]], bounds[part[0] + 1 : part[1] + 1], strict=True):
            if end - first < 2:
                continue
            start, tokens, wanted = first, 0, target()
            for sentence in range(first, end):
                tokens += lengths[sentence]
                left = end - sentence - 1
                if sentence > start and (left == 0 or (tokens >= wanted and left != 1)):
                    runs.append((start, sentence + 1, wanted))
                    start, tokens, wanted = sentence + 1, 0, target()
    rows = np.array(runs)
    random.shuffle(rows)
    return rows.tolist()


@pytest.mark.parametrize("length", [5, 6, 8, 12, 32, 67, 68, 515])
@pytest.mark.parametrize("words", [7, 64, 1 << 18])
def test_runs_are_those_of_a_generator_called_run_by_run(dataset, length, words, tmp_path, monkeypatch):
    """In blocks of any size, of words and of documents; kept beside the corpus, and found there."""
    monkeypatch.setattr(sentence_runs, "_BLOCK_WORDS", words)
    monkeypatch.setattr(sentence_runs, "_BLOCK_DOCUMENTS", 5)
    for samples, seed in ((1, 3), (150, 4), (700, 5)):
        wanted = _run_by_run(dataset, (1, 12), samples, length - 3, seed)
        for _ in range(2):
            pairs = SentencePairs(dataset, (1, 12), samples, length, seed, cached=True)
            assert _runs(pairs).tolist() == wanted
    assert len(list(tmp_path.glob(".runs-*/facts.json"))) == 3


def test_every_epoch_uses_every_sentence_of_usable_documents_once(dataset):
    runs = _runs(SentencePairs(dataset, (0, 12), 1, 32, seed=1))
    sentences = sorted(s for first, end, _ in runs for s in range(first, end))
    lone = int(dataset.document_index[3])
    assert sentences == [s for s in range(len(dataset)) if s != lone]
    assert all(end - first >= 2 for first, end, _ in runs)


def test_pairs_are_consecutive_fit_and_are_swapped_half_of_the_time(dataset):
    pairs = SentencePairs(dataset, (0, 12), 400, 32, seed=1)
    swapped = 0
    for index in range(400):
        first, second, label = pairs.pair(index, np.random.default_rng([9, index]))
        assert 2 <= len(first) + len(second) <= 32 - 3
        assert len(first) and len(second)
        earlier, later = (second, first) if label else (first, second)
        assert {t for t in earlier if t >= 40} | {t for t in later if t >= 40} <= {
            max(later.max(), earlier.max())
        }
        starts = [[t for t in half if t < 40] for half in (earlier, later)]
        assert starts[0] == sorted(starts[0]) and starts[1] == sorted(starts[1])
        if starts[0] and starts[1]:
            assert starts[0][-1] < starts[1][0]
        swapped += label
    assert 150 < swapped < 250


def test_a_tenth_of_the_targets_is_short(dataset):
    pairs = SentencePairs(dataset, (0, 12), 3000, 32, seed=1)
    assert 0.06 < (_runs(pairs)[:, 2] < 29).mean() < 0.14


def test_runs_are_cut_at_every_place_between_sentences(dataset):
    pairs = SentencePairs(dataset, (0, 12), 1, 200, seed=1)
    index = int(np.argmax(_runs(pairs)[:, 1] - _runs(pairs)[:, 0]))
    first, end, _ = pairs.run(index)
    assert end - first > 5
    cuts: Counter = Counter()
    for seed in range(600):
        halves = pairs.pair(index, np.random.default_rng(seed))
        later = halves[0] if halves[2] else halves[1]
        cuts[int(later[0]) - 5] += 1  # the number of the later half's first sentence in its document
    start = int(dataset[int(first)][0]) - 5
    places = range(start + 1, start + int(end - first))
    assert set(cuts) == set(places)
    assert min(cuts.values()) > 0.5 * 600 / len(places), "all alike"


def test_the_longer_half_loses_tokens_at_both_ends():
    front, total = 0, 0
    for seed in range(200):
        halves = [np.arange(40), np.arange(100, 110)]
        truncate(halves, 20, np.random.default_rng(seed))
        assert [len(half) for half in halves] == [10, 10]
        assert (halves[1] == np.arange(100, 110)).all()
        assert (np.diff(halves[0]) == 1).all(), "what stays is consecutive"
        front, total = front + int(halves[0][0]), total + 30
    assert front / total == pytest.approx(0.5, abs=0.03)
    halves = [np.arange(9), np.arange(9)]
    truncate(halves, 2, np.random.default_rng(0))
    assert [len(half) for half in halves] == [1, 1]


def test_words_are_masked_whole_without_overlap_and_within_the_limit(tokenizer):
    random = np.random.default_rng(0)
    tokens = random.integers(5, len(WORDS), 200)
    words = whole_words(tokens, {0, 100, 199}, tokenizer.continuation)
    assert sorted(p for word in words for p in word) == [p for p in range(200) if p not in (0, 100, 199)]
    for word in words:
        assert all(tokens[p] >= 65 for p in word[1:]), "only continuations follow"
        if word[0] - 1 not in (-1, 0, 100, 199):
            assert tokens[word[0]] < 65, "a continuation stays with its word"
    for _ in range(20):
        chosen = choose_ngrams(words, 30, random)
        assert len(chosen) == len(set(chosen)) <= 30
        for word in words:
            assert len(set(word) & set(chosen)) in (0, len(word))


def test_ngram_lengths_are_proportional_to_one_over_n():
    words = [[i] for i in range(100_000)]
    chosen = np.array(choose_ngrams(words, 3000, np.random.default_rng(0)))
    runs = np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1)
    sizes = Counter(len(run) for run in runs)  # so sparse that runs rarely touch
    shares = np.array([sizes[n] for n in (1, 2, 3)]) / len(runs)
    np.testing.assert_allclose(shares, np.array([6, 3, 2]) / 11, atol=0.05)


def test_masks_are_15_percent_and_80_10_10(tokenizer):
    first = np.arange(5, 65).repeat(2)
    counts: Counter = Counter()
    replacements: Counter = Counter()
    total = 0
    for index in range(300):
        sample = masked_sample(first, first, tokenizer, np.random.default_rng(index))
        total += len(sample.tokens)
        assert len(sample.positions) <= predictions_limit(len(sample.tokens))
        original = np.concatenate([[tokenizer.cls], first, [tokenizer.sep], first, [tokenizer.sep]])
        np.testing.assert_array_equal(original[sample.positions], sample.targets)
        untouched = np.setdiff1d(np.arange(len(original)), sample.positions)
        np.testing.assert_array_equal(original[untouched], sample.tokens[untouched])
        for position, target in zip(sample.positions, sample.targets, strict=True):
            token = sample.tokens[position]
            kind = "mask" if token == tokenizer.mask else "kept" if token == target else "random"
            counts[kind] += 1
            replacements[int(token)] += kind == "random"
    masks = sum(counts.values())
    assert masks / total == pytest.approx(0.15, abs=0.005)
    assert counts["mask"] / masks == pytest.approx(0.8, abs=0.03)
    assert counts["kept"] / masks == pytest.approx(0.1, abs=0.02)
    assert counts["random"] / masks == pytest.approx(0.1, abs=0.02)
    assert {token for token, count in replacements.items() if count} >= set(range(5, len(WORDS)))
    assert max(replacements.values()) < 0.05 * counts["random"], "any token of the vocabulary, all alike"


def test_batches_depend_on_seed_and_index_only(dataset, tokenizer):
    def batch(seed: int, indices: list[int]) -> dict:
        pairs = SentencePairs(dataset, (0, 12), 100, 32, seed=1)
        return BertSamples(pairs, tokenizer, 100, seed).batch(np.array(indices))

    together, alone = batch(1, [3, 8]), batch(1, [8])
    for name, values in together.items():
        np.testing.assert_array_equal(values[1:], alone[name])
    assert (batch(2, [8])["masked_positions"] != alone["masked_positions"]).any()


def test_masks_are_fresh_in_each_epoch_and_the_same_in_another_process(dataset, tokenizer):
    def masks(wanted: int) -> dict[tuple[int, ...], list[tuple[int, ...]]]:
        """The masked places of each run of sentences, over all its samples."""
        pairs = SentencePairs(dataset, (0, 12), wanted, 32, seed=1)
        places: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        samples = BertSamples(pairs, tokenizer, wanted, 1)
        for index in range(wanted):
            batch = samples.batch(np.array([index]))
            masked = tuple(batch["masked_positions"][batch["masked_targets"] >= 0].tolist())
            places.setdefault(pairs.run(index)[:2], []).append(masked)
        return places

    places = masks(600)
    often = {run: drawn for run, drawn in places.items() if len(drawn) >= 10 and run[1] - run[0] >= 4}
    assert len(often) > 3, "runs that came in ten epochs or more"
    for drawn in often.values():
        assert len(set(drawn)) > 0.7 * len(drawn)
    assert masks(600) == places


def test_counts_are_of_masked_tokens_and_rows(dataset, tokenizer):
    samples = BertSamples(SentencePairs(dataset, (0, 12), 100, 32, seed=1), tokenizer, 100, 1)
    batch = samples.batch(np.arange(6))
    assert samples.counts(batch) == {
        "masked_token": float((batch["masked_targets"] != -100).sum()),
        "sentence_order": 6.0,
    }
    tokens, types = batch["tokens"].numpy(), batch["token_types"].numpy()
    for row, kinds in zip(tokens, types, strict=True):
        separators = np.flatnonzero(row == tokenizer.sep)
        assert row[0] == tokenizer.cls and len(separators) == 2
        assert not kinds[: separators[0] + 1].any() and kinds[separators[0] + 1 : separators[1] + 1].all()


def test_a_batch_without_padding_has_no_mask(dataset, tokenizer):
    samples = BertSamples(SentencePairs(dataset, (0, 12), 200, 32, seed=1), tokenizer, 200, 1)
    batches = [samples.batch(np.array([index])) for index in range(60)]
    padded = [bool((batch["tokens"] == tokenizer.pad).any()) for batch in batches]
    assert padded == ["attention_mask" in batch for batch in batches] and 5 < sum(padded) < 55
