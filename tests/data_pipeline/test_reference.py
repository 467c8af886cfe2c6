"""Which documents are compared with the reference, and what a difference says."""

import pytest
from corpus_files import english, write_documents

from data_pipeline.tokenization.sample_check import check, in_sample
from data_pipeline.tokenization.tokenizers import Tokenizer, TokenizerError, load_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory = tmp_path_factory.mktemp("reference")
    train_tokenizer("gpt2", write_documents(directory / "documents", [english(1)]), directory, 300)
    return load_tokenizer(directory)


def test_sample_is_one_percent_and_at_least_eight() -> None:
    assert [number for number in range(9) if in_sample(number)] == list(range(8))
    assert 0.004 < sum(map(in_sample, range(2000))) / 2000 < 0.02


def test_only_the_start_of_a_long_text_is_compared(tokenizer: Tokenizer) -> None:
    check(tokenizer.encode_batch, tokenizer, [english(1, 20_000)], [[]])  # the ids of the start are made anew
    text = english(1, 400)[:1000]
    with pytest.raises(TokenizerError, match="the end is not"):
        check(tokenizer.encode_batch, tokenizer, [text], [tokenizer.encode(text)[:-1]])
    with pytest.raises(TokenizerError, match="differ at token 0: 5 is not"):
        check(lambda texts: [[5]] * len(texts), tokenizer, [english(1, 20_000)], [[]])


def test_only_the_first_sentences_of_a_long_document_are_compared(tokenizer: Tokenizer) -> None:
    texts = [f"{english(seed, 400)[:999]}." for seed in range(7)]
    assert {len(text) for text in texts} == {1000}
    ids = tokenizer.encode_batch(texts)
    check(tokenizer.encode_batch, tokenizer, texts, [*ids[:5], [], []])
    with pytest.raises(TokenizerError, match="token 0: the end is not"):
        check(tokenizer.encode_batch, tokenizer, texts, [*ids[:4], [], *ids[5:]])
