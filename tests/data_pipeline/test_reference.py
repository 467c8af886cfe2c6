"""Which documents are compared with the reference, and what a difference says."""

import pytest
from corpus_files import english, write_documents

from data_pipeline.tokenization.encoders import Encoded, ReferenceEncoder, as_encoded, check, in_sample
from data_pipeline.tokenization.tokenizers import Tokenizer, TokenizerError, load_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory = tmp_path_factory.mktemp("reference")
    train_tokenizer("gpt2", write_documents(directory / "documents", [english(1)]), directory, 300)
    return load_tokenizer(directory)


def test_sample_is_one_percent_and_at_least_eight() -> None:
    assert [number for number in range(9) if in_sample(number)] == list(range(8))
    assert 0.004 < sum(map(in_sample, range(2000))) / 2000 < 0.02


class _Constant:
    """An encoder that gives the same for every document."""

    def __init__(self, tokens: list[int]) -> None:
        self._given = as_encoded([[tokens]])

    def encode_documents(self, documents: list[str]) -> Encoded:
        return self._given


def test_only_the_start_of_a_long_text_is_compared(tokenizer: Tokenizer) -> None:
    reference = ReferenceEncoder(tokenizer, None)
    wrong, long_text = _Constant([5]), english(1, 20_000)
    check(reference, reference, long_text, as_encoded([[[5]]]))  # the ids of the start are made anew
    text = english(1, 400)[:1000]
    with pytest.raises(TokenizerError, match="the end is not"):
        check(wrong, reference, text, as_encoded([[tokenizer.encode(text)[:-1]]]))
    with pytest.raises(TokenizerError, match="differ at token 0: 5 is not"):
        check(wrong, reference, long_text, as_encoded([[[5]]]))


def test_sentences_that_end_elsewhere_are_found_out(tokenizer: Tokenizer) -> None:
    reference = ReferenceEncoder(tokenizer, lambda text: text.split("|"))
    first, second = tokenizer.encode("one"), tokenizer.encode("two")
    check(reference, reference, "one|two", as_encoded([[first, second]]))
    with pytest.raises(
        TokenizerError, match=f"the length of sequence 0: {len(first + second)} is not {len(first)}"
    ):
        check(reference, reference, "one|two", as_encoded([[first + second]]))


def test_documents_are_taken_out_of_a_batch(tokenizer: Tokenizer) -> None:
    """Those without tokens, and sequences without, hold nothing."""
    batch = as_encoded([[[1, 2], [3]], [], [[], [4]]], end=[9])
    assert batch.tokens.tolist() == [1, 2, 9, 3, 9, 4, 9] and batch.sequences.tolist() == [2, 0, 1]
    found = [tuple(part.tolist() for part in batch.document(index)) for index in range(3)]
    assert found == [([1, 2, 9, 3, 9], [3, 2], [2]), ([], [], [0]), ([4, 9], [2], [1])]
